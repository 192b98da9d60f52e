"""Who may do what: oslo.policy with the rules of ``api.policies`` and the operator's own files.

A decision costs oslo.policy some 200 µs, and a request asks for one to three. Most rules look at roles and whether the
project is theirs, so there are few different questions: answers are kept (1 µs) until the files change, which is looked
at once a second.
"""

import logging
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from oslo_config import cfg
from oslo_policy import _checks as checks
from oslo_policy import policy

from colonnade.api import policies
from colonnade.clock import Clock
from colonnade.errors import Forbidden
from colonnade.model import Caller
from colonnade.settings import Settings, WrongSetting
from colonnade.types import Json

log = logging.getLogger(__name__)

_LOOK_AGAIN_S = 1.0
_MOST_KNOWN = 4096
_PURE = (checks.TrueCheck, checks.FalseCheck, checks.AndCheck, checks.OrCheck, checks.NotCheck, checks.RuleCheck,
         checks.RoleCheck, checks.GenericCheck)  # fmt: skip
_OWN = ("project_id", "%(project_id)s")
_Stamp = tuple[tuple[str, int, int, int], ...]


def allows(target: str, caller: Caller, project_id: str | None) -> bool:
    """Whether the caller may do ``target`` (without its ``os_load-balancer_api:``) to an object of this project."""
    return caller.rules is not None and caller.rules.allow(target, caller, project_id)


def check(target: str, caller: Caller, project_id: str | None) -> None:
    """Raise Forbidden unless ``allows``."""
    if not allows(target, caller, project_id):
        raise Forbidden("Policy does not allow this request to be performed.")


def listed_project(resource: str, caller: Caller, asked: str | None) -> str | None:
    """The project a list is limited to; None: all of them."""
    if allows(f"{resource}:get_all-global", caller, asked):
        return asked
    project_id = asked or caller.project_id
    check(f"{resource}:get_all", caller, project_id)
    return project_id


class Policy:
    """The rules in force. Safe to use from many threads."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        """Raises WrongSetting when the files cannot be understood."""
        self._settings = settings
        self._clock = clock
        self._looked_at = clock.monotonic()
        files = self._files()
        self._stamp = _stamp(files)
        try:
            self._loaded = _load(settings, files)
        except _NotUnderstood as e:
            raise WrongSetting(f"[oslo_policy] policy_file: {e}") from e

    def allow(self, target: str, caller: Caller, project_id: str | None) -> bool:
        """Whether the caller may do this to an object of this project."""
        loaded = self._current()
        key = loaded.key(target, caller, project_id)
        found = loaded.known.get(key)
        if found is None:
            found = loaded.decide(target, caller, project_id)
            if key is not None:
                if len(loaded.known) >= _MOST_KNOWN:
                    loaded.known.clear()
                loaded.known[key] = found
        return found

    def effective(self) -> dict[str, str]:
        """Every rule in force, by name, in oslo.policy's language."""
        return {name: str(rule) for name, rule in self._current().enforcer.rules.items()}

    def _current(self) -> "_Loaded":
        now = self._clock.monotonic()
        if now - self._looked_at >= _LOOK_AGAIN_S:
            self._looked_at = now
            files = self._files()
            stamp = _stamp(files)
            if stamp != self._stamp:
                self._stamp = stamp
                self._load_again(files)
        return self._loaded

    def _load_again(self, files: list[Path]) -> None:
        try:
            self._loaded = _load(self._settings, files)
            log.info("policy changed", extra={"files": [str(f) for f in files]})
        except _NotUnderstood as e:
            log.error("policy files not understood: the rules stay as they were", extra={"error": str(e)})

    def _files(self) -> list[Path]:
        """Those that are there: the file, then what the directories hold."""
        ours = self._settings.oslo_policy
        found = [path for path in [_place(self._settings, ours.policy_file)] if path.is_file()]
        for directory in (_place(self._settings, name) for name in ours.policy_dirs):
            if directory.is_dir():
                found += sorted(p for p in directory.iterdir() if p.is_file() and not p.name.startswith("."))
        return found


class _NotUnderstood(Exception):
    """A file breaks the language of policies; the text names file and rule."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    """What the files said at one moment."""

    enforcer: policy.Enforcer
    system: frozenset[str]  # targets that take a token of the system
    follows_from: Literal["roles", "caller", "more"]  # all that rules look at; roles: and whether the project is theirs
    known: dict[Hashable, bool] = field(default_factory=dict)

    def key(self, target: str, caller: Caller, project_id: str | None) -> Hashable:
        """The same for all questions that have the same answer; None: there may be another one next time."""
        match self.follows_from:
            case "roles":
                own = project_id is not None and project_id == caller.project_id
                return (target, own, caller.roles, caller.system_scope, caller.domain_id is None, caller.trusted)
            case "caller":
                return (target, project_id, caller)
        return None

    def decide(self, target: str, caller: Caller, project_id: str | None) -> bool:
        """Ask oslo.policy."""
        name = policies.PREFIX + target
        if caller.domain_id or (caller.system_scope and target not in self.system):
            return False
        about = {} if project_id is None else {"project_id": project_id}
        who: Json = {"user_id": caller.user_id, "roles": sorted(caller.roles)}
        if caller.project_id is not None:  # a rule would compare None as a word
            who["project_id"] = caller.project_id
        if caller.system_scope:
            who["system_scope"] = caller.system_scope
        who["is_admin"] = caller.trusted or bool(self.enforcer.enforce(policies.IS_ADMIN, {}, who))
        return bool(self.enforcer.authorize(name, about, who))


def _place(settings: Settings, name: str) -> Path:
    """A path of the settings; a relative one is beside the configuration file, the last one that has it."""
    beside = [Path(f).absolute().parent / name for f in reversed(settings.files)] or [Path("/etc/colonnade") / name]
    return next((path for path in beside if path.exists()), beside[0])


def _stamp(files: list[Path]) -> _Stamp:
    found = []
    for path in files:
        try:
            seen = path.stat()
            found.append((str(path), seen.st_mtime_ns, seen.st_size, seen.st_ino))
        except OSError:
            found.append((str(path), 0, 0, 0))
    return tuple(found)


def _load(settings: Settings, files: list[Path]) -> _Loaded:
    named = _understood(files)
    conf = cfg.ConfigOpts()
    try:
        conf([], project="colonnade", default_config_files=list(settings.files), default_config_dirs=[])
    except cfg.Error as e:
        raise _NotUnderstood(str(e)) from e
    enforcer = policy.Enforcer(conf)
    ours = settings.oslo_policy
    for option, value in {
        "policy_file": str(_place(settings, ours.policy_file)),
        "policy_dirs": [str(_place(settings, directory)) for directory in ours.policy_dirs],
        "enforce_new_defaults": ours.enforce_new_defaults,
    }.items():
        conf.set_override(option, value, group="oslo_policy")
    enforcer.policy_file = conf.oslo_policy.policy_file
    enforcer.suppress_default_change_warnings = True  # whoever unsets enforce_new_defaults knows
    enforcer.register_defaults(policies.defaults())
    try:
        enforcer.load_rules(force_reload=True)
        enforcer.check_rules(raise_on_violation=True)
    except policy.InvalidDefinitionError as e:
        raise _NotUnderstood(f"{e} A rule names one that does not exist, or itself.") from e
    enforcer.use_conf = False  # or it would look at the files at each decision
    strange = sorted(n for n in named if n.startswith(policies.PREFIX) and n not in enforcer.registered_rules)
    if strange:
        log.warning("policy files name targets that nothing asks for", extra={"targets": strange})
    return _Loaded(enforcer, _for_system(enforcer), _follows_from(enforcer))


def _understood(files: list[Path]) -> frozenset[str]:
    """The names that the files give a rule. oslo.policy itself only logs what it does not understand, and forbids."""
    read = {path: _read(path) for path in files}
    remote = any("http" in text for found in read.values() for text in found.values())
    # Looking for kinds of checks in other packages takes 200 ms and 3 MB; only rules that ask a server need it.
    checks.extension_checks = None if remote else {}
    for path, found in read.items():
        for name, text in found.items():
            broken = any(type(c) is checks.FalseCheck for c in _within(policy.RuleDefault(name, text).check))
            if broken and "!" not in text:
                raise _NotUnderstood(f"{path}: {name}: {text!r} is not in the language of policies.")
    return frozenset(name for found in read.values() for name in found)


def _read(path: Path) -> dict[str, str]:
    if path.suffix == ".json":
        raise _NotUnderstood(f"{path}: JSON is not read any more; oslopolicy-convert-json-to-yaml makes YAML of it.")
    try:
        found = policy.parse_file_contents(path.read_text())
    except (OSError, ValueError) as e:
        raise _NotUnderstood(f"{path}: {e}") from e
    if not isinstance(found, dict):
        raise _NotUnderstood(f'{path}: must hold lines of the form "name": "rule".')
    for name, text in found.items():
        if not isinstance(name, str) or not isinstance(text, str):
            raise _NotUnderstood(f"{path}: {name}: name and rule must be texts in quotes, not {text!r}.")
    return found


def _within(rule: Any) -> Iterator[Any]:  # noqa: ANN401 - oslo.policy's trees
    """The check and all that it is made of; rules that it names are not followed."""
    yield rule
    inner = getattr(rule, "rules", None) or [r for r in [getattr(rule, "rule", None)] if r is not None]
    for part in inner:
        yield from _within(part)


def _follows_from(enforcer: policy.Enforcer) -> Literal["roles", "caller", "more"]:
    parts = [part for rule in enforcer.rules.values() for part in _within(rule)]
    if not all(type(part) in _PURE for part in parts):
        return "more"  # another service is asked
    compared = {(part.kind, part.match) for part in parts if type(part) is checks.GenericCheck}
    plain = all(kind in ("is_admin", "system_scope") or pair == _OWN for pair in compared for kind in pair[:1])
    return "roles" if plain else "caller"


def _for_system(enforcer: policy.Enforcer) -> frozenset[str]:
    """The targets, without prefix, whose rules speak of system_scope."""
    names = [t.name for t in policies.TARGETS]
    return frozenset(n for n in names if "system_scope" in _speaks_of(enforcer.rules, policies.PREFIX + n, set()))


def _speaks_of(rules: Any, name: str, seen: set[str]) -> set[str]:  # noqa: ANN401
    if name in seen:
        return set()
    seen.add(name)
    found = set()
    for part in _within(rules[name]):
        kind = getattr(part, "kind", None)
        found.add(str(kind))
        follow = part.match if kind == "rule" else policies.IS_ADMIN if kind == "is_admin" else None
        if follow:
            found |= _speaks_of(rules, follow, seen)
    return found

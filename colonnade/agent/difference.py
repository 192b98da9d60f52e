"""Which runtime commands take HAProxy from one configuration to another; pure. None when only a reload does."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

Line = tuple[str, ...]
_PLAIN = re.compile(r"[A-Za-z0-9_.:,/@()\[\]+-]+")  # words that the runtime socket reads as the file does
_RELOAD_ONLY = ("cookie ", "external-check", "default-server", "option external-check")


@dataclass(frozen=True, kw_only=True, slots=True)
class Server:
    """A server line."""

    words: Line  # without weight and "disabled"
    weight: str
    disabled: bool

    @property
    def checked(self) -> bool:
        """Whether health checks are made."""
        return "check" in self.words


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """A section: its lines, and of a backend its servers by name."""

    lines: tuple[str, ...]
    servers: dict[str, Server] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Weigh:
    """Give a server another weight."""

    server: str  # backend/server
    weight: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Disable:
    """Send a server nothing more; it finishes what it has."""

    server: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Enable:
    """Have a server take its share again."""

    server: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Drop:
    """Remove a server once it has finished what it has."""

    server: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Add:
    """A new server, with the words of its line after its name."""

    server: str
    words: Line
    checked: bool
    disabled: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Renew:
    """Another content for a certificate, an authority or a revocation list that is in use."""

    file: str
    kind: str  # cert, ca-file, crl-file: what HAProxy calls it
    text: str = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Refill:
    """Another content for a file of patterns, or a map."""

    file: str
    kind: str  # acl, map: what HAProxy calls it
    lines: tuple[str, ...]  # as HAProxy reads them


Change = Weigh | Disable | Enable | Drop | Add | Renew | Refill
# HAProxy takes a command whole, within its buffer of 16384 bytes.
_MOST = 15_000
_MOST_LINES = 300
_KINDS = {"pem": "cert", "ca": "ca-file", "crl": "crl-file", "acl": "acl", "map": "map"}


def difference(old: Mapping[str, str], new: Mapping[str, str]) -> list[Change] | None:
    """From files to files: what to change while it runs. None when a reload is needed."""
    if old.keys() != new.keys():
        return None
    names = sorted(name for name in new if old[name] != new[name] and name != "haproxy.cfg")
    if any(name.endswith((".ca", ".crl")) and _asks_clients(new["haproxy.cfg"], name) for name in names):
        return None
    files = [_file(name, new[name]) for name in names]
    lines = _difference(old["haproxy.cfg"], new["haproxy.cfg"])
    if lines is None or not _in_any_order(files, lines):
        return None
    return [*(f for f in files if f), *lines]


def _asks_clients(config: str, name: str) -> bool:
    """Whether clients' certificates are checked by the file. Who was let in once comes back with his TLS session, and a
    process that remembers it does not check him again, whatever its files say by then."""
    sections = _sections(config).items()
    return any(name in line.split() for head, s in sections if head.startswith("frontend ") for line in s.lines)


def _file(name: str, text: str) -> Renew | Refill | None:
    kind = _KINDS.get(name.rpartition(".")[2])
    if kind in ("acl", "map"):
        lines = tuple(_read(kind, text))
        return Refill(file=name, kind=kind, lines=lines) if len(lines) <= _MOST_LINES else None
    whole = "".join(f"{line}\n" for line in text.split("\n") if line.strip())  # an empty line would end it
    return Renew(file=name, kind=kind, text=whole) if kind and len(whole) <= _MOST else None


def _read(kind: str, text: str) -> Iterator[str]:
    """The lines as HAProxy reads them from a file."""
    for line in text.split("\n"):
        if not line.startswith("#") and line.strip(" \t"):
            yield line.strip(" \t") if kind == "map" else line.lstrip(" \t")


def _in_any_order(files: Sequence[Renew | Refill | None], lines: Sequence[Change]) -> bool:
    """Whether no harm is done between one change and the next."""
    if None in files:
        return False
    # Between a new authority and its list no client's certificate would pass.
    owners = [f.file.rpartition(".")[0] for f in files if isinstance(f, Renew) and f.kind != "cert"]
    # Of two rules, or a rule and a member, the later may be what makes the earlier right.
    refills = [f for f in files if isinstance(f, Refill)]
    return len(set(owners)) == len(owners) and (not refills or len(refills) + len(lines) == 1)


def _difference(old: str, new: str) -> list[Change] | None:
    """What to change of haproxy.cfg while it runs. None when a reload is needed."""
    before, after = _sections(old), _sections(new)
    if list(before) != list(after) or any(before[name].lines != after[name].lines for name in before):
        return None
    changes: list[Change] = []
    for name in after:
        have, want = before[name].servers, after[name].servers
        if have == want:
            continue
        if any(line.startswith(_RELOAD_ONLY) for line in after[name].lines):
            return None
        if not _simple(have, want):
            return None
        changes += _changes(name.split()[1], have, want)
    return changes


def checked(text: str) -> set[tuple[str, str]]:
    """Backend and server of every server with health checks."""
    return {
        (header.split()[1], name)
        for header, section in _sections(text).items()
        for name, server in section.servers.items()
        if server.checked
    }


def servers(text: str) -> set[tuple[str, str]]:
    """Backend and server of every server."""
    return {(header.split()[1], name) for header, section in _sections(text).items() for name in section.servers}


def _changes(backend: str, have: dict[str, Server], want: dict[str, Server]) -> Iterator[Change]:
    """New servers first, so that there is always one to serve."""
    for name in want.keys() - have.keys():
        s = want[name]
        yield Add(server=f"{backend}/{name}", words=(*s.words, "weight", s.weight), checked=s.checked,
                  disabled=s.disabled)  # fmt: skip
    for name in want.keys() & have.keys():
        if have[name].weight != want[name].weight:
            yield Weigh(server=f"{backend}/{name}", weight=want[name].weight)
        if have[name].disabled != want[name].disabled:
            yield Disable(server=f"{backend}/{name}") if want[name].disabled else Enable(server=f"{backend}/{name}")
    for name in have.keys() - want.keys():
        yield Drop(server=f"{backend}/{name}")


def _simple(have: dict[str, Server], want: dict[str, Server]) -> bool:
    changed = [(name, s) for servers in (have, want) for name, s in servers.items()
               if have.get(name) != want.get(name)]  # fmt: skip
    plain = all(_PLAIN.fullmatch(word) for name, s in changed for word in (name, *s.words, s.weight))
    return plain and all(have[name].words == want[name].words for name in want.keys() & have.keys())


def _sections(text: str) -> dict[str, Section]:
    """Sections by header. Lines of a section are its directives; indentation and comments do not matter."""
    headers = ("global", "defaults", "frontend", "backend", "listen", "peers", "userlist", "resolvers", "mailers")
    lines: dict[str, list[str]] = {}
    found: dict[str, dict[str, Server]] = {}
    current = ""
    for raw in text.split("\n"):  # and at nothing else that Unicode calls a line's end
        line = raw.strip(" \t\r")
        if not line or line.startswith("#"):
            continue
        words = line.split()
        if words[0] in headers:
            current = line
            lines.setdefault(current, [])
            found.setdefault(current, {})
        elif words[0] == "server" and current.startswith("backend ") and len(words) > 2:
            found[current][words[1]] = _server(words[2:])
        else:
            lines.setdefault(current, []).append(line)
    return {name: Section(lines=tuple(lines[name]), servers=found.get(name, {})) for name in lines}


def _server(words: list[str]) -> Server:
    rest = list(words)
    weight = "1"
    if "weight" in rest[:-1]:
        at = rest.index("weight")
        weight = rest[at + 1]
        del rest[at : at + 2]
    disabled = "disabled" in rest
    return Server(words=tuple(w for w in rest if w != "disabled"), weight=weight, disabled=disabled)

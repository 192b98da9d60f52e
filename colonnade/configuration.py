"""Reads configuration files into ``Settings``, with oslo.config, and says what is wrong in them."""

import dataclasses
import difflib
import re
from typing import Any

from oslo_config import cfg

from colonnade import loopback
from colonnade.settings import Settings, WrongSetting, sections

_SHARED = {"DEFAULT", "database", "oslo_middleware", "cors", "oslo_policy"}  # libraries have options there, too


def load(files: list[str]) -> Settings:
    """Settings from these files, later ones winning; defaults for the rest. Raises WrongSetting."""
    conf = cfg.ConfigOpts()
    types = {f.name: _section_type(f) for f in sections()}
    for name, section in types.items():
        conf.register_opts([_opt(f) for f in dataclasses.fields(section)], None if name == "default" else name)
    try:
        conf([], project="colonnade", default_config_files=files, default_config_dirs=[])
        read = {name: _read(conf if name == "default" else conf[name], t) for name, t in types.items()}
        found = Settings(**read, files=tuple(files))
    except OSError as e:
        raise WrongSetting(f"{e.filename} cannot be read: {e.strerror}.") from e
    except (cfg.Error, ValueError) as e:
        raise WrongSetting(re.sub(r"from LocationInfo\(.*detail='([^']*)'\)", r"in \1", str(e))) from e
    _check(found)
    return found


def _check(found: Settings) -> None:
    """What no option can tell of itself. Raises WrongSetting."""
    api = found.api_settings
    if api.auth_strategy == "noauth" and not loopback.means_loopback(api.bind_host):
        raise WrongSetting(
            f"[api_settings] auth_strategy = noauth goes with a loopback bind_host only, not with {api.bind_host}: "
            "anybody who reaches the port would be admin."
        )
    if api.auth_strategy == "noauth" and found.oslo_middleware.enable_proxy_headers_parsing:
        raise WrongSetting(
            "[oslo_middleware] enable_proxy_headers_parsing does not go with [api_settings] auth_strategy = noauth: "
            "what a client says of itself would make it admin."
        )
    if api.default_provider_driver not in found.providers:
        raise WrongSetting(
            f"[api_settings] default_provider_driver = {api.default_provider_driver} is none of "
            f"enabled_provider_drivers: {', '.join(found.providers)}."
        )


def ignored(files: list[str]) -> list[str]:
    """A sentence about each option in a section of ours that means nothing here; most are misspelt."""
    known = {"DEFAULT" if f.name == "default" else f.name: _names(f) for f in sections()}
    said = []
    for file in files:
        found: dict[str, dict[str, list[str]]] = {}
        cfg.ConfigParser(file, found).parse()
        for section in known.keys() & found.keys() - _SHARED:
            for option in sorted(found[section].keys() - known[section]):
                near = difflib.get_close_matches(option, known[section], n=1)
                meant = f" Is {near[0]} meant?" if near else ""
                said.append(f"{file}: there is no option {option} in [{section}]; it is ignored.{meant}")
    return sorted(said)


def _names(section: "dataclasses.Field[Any]") -> set[str]:
    return {f.name for f in dataclasses.fields(_section_type(section))}


def _section_type(f: "dataclasses.Field[Any]") -> type[Any]:
    return f.default_factory  # type: ignore[return-value]  # each section's factory is its class


def _opt(f: "dataclasses.Field[Any]") -> cfg.Opt:
    limits = {k: v for k, v in f.metadata.items() if k != "help"}
    default = dataclasses.MISSING if f.default is dataclasses.MISSING else f.default
    kinds = {bool: cfg.BoolOpt, int: cfg.IntOpt, float: cfg.FloatOpt, tuple: cfg.ListOpt, str: cfg.StrOpt}
    return kinds[type(default)](
        f.name, default=list(default) if isinstance(default, tuple) else default, help=f.metadata["help"], **limits
    )


def _read(group: Any, section: type[Any]) -> Any:  # noqa: ANN401 - oslo.config's groups are untyped
    values = {f.name: getattr(group, f.name) for f in dataclasses.fields(section)}
    return section(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})

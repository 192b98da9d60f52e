"""Bodies of the network service: each attribute with its rule. Nothing is taken and ignored."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from colonnade.local.faults import InvalidInput, PolicyNotAuthorized
from colonnade.model import Caller
from colonnade.types import Json

Parse = Callable[[str, Any], Any]  # (attribute's name, given value) -> value; raises InvalidInput

_TAGS_MOST = 50


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of a request body."""

    parse: Parse
    post: bool = True
    put: bool = True
    admin: bool = False  # only admins may give it


def read(given: Json, attributes: Mapping[str, Attribute], caller: Caller, *, creating: bool) -> Json:
    """The attributes of a body, each parsed. ``tenant_id`` is an old name of ``project_id``."""
    given = dict(given)
    if "tenant_id" in given:
        tenant = given.pop("tenant_id")
        if given.setdefault("project_id", tenant) != tenant:
            raise InvalidInput("project_id: 'project_id' and 'tenant_id' say different things.")
    found = {}
    for name, value in given.items():
        attribute = attributes.get(name)
        if attribute is None:
            raise InvalidInput(f"Unrecognized attribute(s) '{name}': what it is for does not exist here.")
        if not (attribute.post if creating else attribute.put):
            raise InvalidInput(f"{name}: cannot be {'given' if creating else 'changed'} here.")
        if attribute.admin and not caller.is_admin:
            raise PolicyNotAuthorized(f"Only an admin may set '{name}'.")
        found[name] = attribute.parse(name, value)
    if creating:
        found["project_id"] = _owner(found.get("project_id"), caller)
    return found


def _owner(given: str | None, caller: Caller) -> str:
    project_id = given or caller.project_id
    if project_id is None:
        raise InvalidInput("project_id: the token has no project, so it must be given.")
    if project_id != caller.project_id and not caller.is_admin:
        raise PolicyNotAuthorized("Only an admin may make things for another project.")
    return project_id


def text(longest: int) -> Parse:
    """Text of at most so many characters."""

    def parse(name: str, value: Any) -> str:  # noqa: ANN401 - as the sender wrote it
        if not isinstance(value, str) or len(value) > longest or "\0" in value:
            raise InvalidInput(f"{name}: must be a text of at most {longest} characters, none of them NUL.")
        return value

    return parse


def boolean(name: str, value: Any) -> bool:  # noqa: ANN401
    """True or false; Neutron also takes the words."""
    words = {"true": True, "1": True, "false": False, "0": False}
    found = value if isinstance(value, bool) else words.get(str(value).lower())
    if found is None:
        raise InvalidInput(f"{name}: '{value}' cannot be converted to boolean.")
    return found


def integer(least: int, most: int) -> Parse:
    """A whole number in a range; Neutron also takes it as text."""

    def parse(name: str, value: Any) -> int:  # noqa: ANN401
        try:
            number = int(value) if isinstance(value, int | str) and not isinstance(value, bool) else None
        except ValueError:
            number = None
        if number is None or not least <= number <= most:
            raise InvalidInput(f"{name}: '{str(value)[:64]}' must be a number from {least} to {most}.")
        return number

    return parse


def optional(parse: Parse) -> Parse:
    """The same, or null."""
    return lambda name, value: None if value is None else parse(name, value)


def only(allowed: tuple[Any, ...], why: str) -> Parse:
    """Values that say what is so anyway; all others are refused with the reason."""

    def parse(name: str, value: Any) -> Any:  # noqa: ANN401
        if not any(value == a and type(value) is type(a) for a in allowed):
            raise InvalidInput(f"{name}: '{str(value)[:64]}' cannot be had: {why}")
        return value

    return parse


def objects(*keys: str) -> Parse:
    """A list of objects that have no other keys than these, each with a text."""

    def parse(name: str, value: Any) -> list[Json]:  # noqa: ANN401
        if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
            raise InvalidInput(f"{name}: must be a list of objects with {', '.join(keys)}.")
        for item in value:
            for key, inner in item.items():
                if key not in keys or not isinstance(inner, str):
                    raise InvalidInput(f"{name}: '{str(key)[:64]}' must be a text, one of {', '.join(keys)}.")
        return value

    return parse


def tags(name: str, value: Any) -> list[str]:  # noqa: ANN401
    """A set of tags, as a list in the order given."""
    if not isinstance(value, list) or len(value) > _TAGS_MOST:
        raise InvalidInput(f"{name}: must be a list of at most {_TAGS_MOST} tags.")
    for one in value:
        tag(name, one)
    return list(dict.fromkeys(value))


def tag(name: str, value: Any) -> str:  # noqa: ANN401
    """One tag. A comma would end it in filters."""
    found: str = text(255)(name, value)
    if not found or "," in found:
        raise InvalidInput(f"{name}: a tag must not be empty and holds no comma.")
    return found


COMMON: dict[str, Attribute] = {
    "project_id": Attribute(text(64), put=False),
    "name": Attribute(text(255)),
    "description": Attribute(text(255)),
    "admin_state_up": Attribute(only((True,), "nothing can be switched off by it here; delete it instead.")),
}

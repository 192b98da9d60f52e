"""Request bodies, derived from the model: one pydantic class for creation and one for change of each resource.

A parsed body is a dict of the fields that were given, as model values; None where null was given. Unknown fields,
fields nobody may set and wrong values raise Invalid with all that is wrong.
"""

import dataclasses
import functools
import re
import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Annotated, Any, Literal

import orjson
from annotated_types import Interval, MaxLen
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    create_model,
)  # fmt: skip
from pydantic_core import ErrorDetails, PydanticCustomError

from colonnade.api import describe
from colonnade.errors import Invalid
from colonnade.model import (
    AdditionalVip,
    AvailabilityZone,
    AvailabilityZoneProfile,
    Flavor,
    FlavorProfile,
    HealthMonitor,
    L7Policy,
    L7Rule,
    Listener,
    LoadBalancer,
    Member,
    Pool,
    Quota,
    SessionPersistence,
)
from colonnade.types import (
    UUID,
    Algorithm,
    Cidr,
    IpAddress,
    Json,
    JsonText,
    Mark,
    Matches,
    OneOf,
    PoolProtocol,
    QuotaLimit,
    Unique,
    Uuid,
)

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_LINES = re.compile(r"[\r\n\t]")
_Presence = Literal["required", "optional", "not null"]  # optional: null means the default
_Fields = dict[str, tuple[Any, _Presence, Any]]
_SHOWN_VALUE = 255  # letters of a wrong value that its error repeats

_PROJECT = Annotated[str, MaxLen(36)]
_LEGACY = {"project_id": _PROJECT, "tenant_id": _PROJECT}  # of children: their load balancer's is taken

# Fields of creation that are no field of the resource itself.
_ALSO_AT_CREATION: dict[type[Any], dict[str, Any]] = {
    LoadBalancer: _LEGACY,
    Listener: {**_LEGACY, "l7policies": tuple[dict[str, Any], ...]},
    Pool: {**_LEGACY, "loadbalancer_id": Uuid, "listener_id": Uuid},
    Member: {**_LEGACY, "request_sriov": bool},
    HealthMonitor: _LEGACY,
    FlavorProfile: {},
    Flavor: {},
    AvailabilityZoneProfile: {},
    AvailabilityZone: {},
    Quota: {},
    L7Policy: _LEGACY,
    L7Rule: _LEGACY,
}


@dataclass(frozen=True, slots=True)
class Body:
    """One resource's bodies: ``{root: {...}}``. ``argument`` is the name upstream's errors use."""

    cls: type[Any]
    root: str
    argument: str
    create: type[BaseModel]
    update: type[BaseModel]

    def creation(self, document: Any) -> Json:  # noqa: ANN401 - any JSON
        """The fields given to create one."""
        return self.values(self.create, self._inner(document, f"No {self.root} object supplied."))

    def change(self, document: Any) -> Json:  # noqa: ANN401
        """The fields given to change one."""
        return self.values(self.update, self._inner(document, f"No {self.root} object supplied."))

    def values(self, shape: type[BaseModel], inner: Any) -> Json:  # noqa: ANN401
        """What is inside the root, parsed."""
        return parse(shape, inner, f"{self.argument}.{self.root}")

    def _inner(self, document: Any, missing: str) -> Any:  # noqa: ANN401
        if not isinstance(document, dict) or self.root not in document:
            raise Invalid(missing)
        extra = next((name for name in document if name != self.root), None)
        if extra is not None:
            raise Invalid(f"Unknown attribute for argument {self.argument}: {extra[:_SHOWN_VALUE]}")
        return document[self.root]


def parse(shape: type[BaseModel], inner: Any, where: str) -> Json:  # noqa: ANN401 - any JSON
    """The given fields of ``inner``. Raises Invalid with a sentence for each error."""
    if not isinstance(inner, dict):
        raise Invalid(f"Invalid input for field/attribute {where}. An object is needed.")
    try:
        return {n: _given(v) for n, v in _fields(shape.model_validate(inner))}
    except ValidationError as e:
        raise Invalid(" ".join(_sentence(detail, where) for detail in e.errors(include_url=False))) from e


def _given(value: Any) -> Any:  # noqa: ANN401 - any part of a body
    if isinstance(value, BaseModel):
        return {name: _given(v) for name, v in _fields(value)}
    if isinstance(value, tuple | list):
        return tuple(_given(v) for v in value)
    return value


def _fields(value: BaseModel) -> list[tuple[str, Any]]:
    return [(name, getattr(value, name)) for name in value.model_fields_set]


def _sentence(detail: ErrorDetails, where: str) -> str:
    path = [str(p) for p in detail["loc"]]
    name = ".".join(path)[:_SHOWN_VALUE] or where
    if detail["type"] == "extra_forbidden":
        return f"Unknown attribute for argument {'.'.join([where, *path[:-1]])}: {path[-1][:_SHOWN_VALUE]}"
    value = detail["input"]
    if detail["type"] == "missing" or value is None:
        return f"Invalid input for field/attribute {name}. Value: 'None'. Mandatory field missing."
    return f"Invalid input for field/attribute {name}. Value: '{str(value)[:_SHOWN_VALUE]}'. {_why(detail)}."


def _why(detail: ErrorDetails) -> str:
    limits = detail.get("ctx", {})
    match detail["type"]:
        case "greater_than_equal":
            return f"Value should be greater or equal to {limits['ge']}"
        case "less_than_equal":
            return f"Value should be lower or equal to {limits['le']}"
        case "too_long":
            return f"A list should have at most {limits['max_length']} items"
        case "string_too_long":
            return f"Value should have a maximum character requirement of {limits['max_length']}"
        case "enum":
            return f"Value should be one of: {str(limits['expected']).replace(chr(39), '').replace(' or ', ', ')}"
        case "int_type" | "int_parsing" | "int_from_float" | "int_parsing_size":
            return "Value should be an integer"
        case "bool_type" | "bool_parsing":
            return "Value should be a boolean"
        case "string_type":
            return "Value should be a string"
        case "tuple_type":
            return "Value should be a list"
        case "dict_type" | "model_type":
            return "Value should be an object"
        case _:
            return detail["msg"]


def _shape(name: str, fields: _Fields) -> type[BaseModel]:
    """A class with ``fields``: name -> (type, presence, default shown to readers)."""
    parts: dict[str, Any] = {}
    for field, (hint, presence, default) in fields.items():
        read = edge(hint, field)
        match presence:
            case "required":
                parts[field] = (read, ...)
            case "not null":
                parts[field] = (read, Field(None))
            case "optional":
                parts[field] = (read | None, Field(None, json_schema_extra=_default(default)))
    return create_model(name, __config__=ConfigDict(extra="forbid"), **parts)


def _has_default(f: "dataclasses.Field[Any]") -> bool:
    return f.default is not dataclasses.MISSING or f.default_factory is not dataclasses.MISSING


def _default(value: Any) -> Any:  # noqa: ANN401 - any default of the model
    if value is dataclasses.MISSING or callable(value):
        return None
    return {"default": list(value) if isinstance(value, tuple) else value}


def _creation(
    cls: type[Any],
    suffix: str = "Create",
    without: Iterable[str] = (),
    **instead: Any,  # noqa: ANN401 - types
) -> type[BaseModel]:
    """The shape of creation; ``instead`` gives other types to some fields, or adds them."""
    hints = typing.get_type_hints(cls, include_extras=True)
    fields: _Fields = {}
    for f in dataclasses.fields(cls):
        notes = getattr(hints[f.name], "__metadata__", ())
        if Mark.SHOWN not in notes and Mark.HIDDEN not in notes and f.name not in without:
            fields[f.name] = (hints[f.name], "optional" if _has_default(f) else "required", f.default)
    for name, hint in {**_ALSO_AT_CREATION[cls], **instead}.items():
        if name not in without:
            fields[name] = (hint, "optional", dataclasses.MISSING)
    return _shape(f"{cls.__name__}{suffix}", fields)


def _change(cls: type[Any]) -> type[BaseModel]:
    hints = typing.get_type_hints(cls, include_extras=True)
    fields: _Fields = {}
    for f in dataclasses.fields(cls):
        notes = getattr(hints[f.name], "__metadata__", ())
        if not {Mark.SHOWN, Mark.HIDDEN, Mark.FIXED}.intersection(notes):
            hint = _CHANGED_PERSISTENCE if f.name == "session_persistence" else hints[f.name]
            fields[f.name] = (hint, "optional" if _has_default(f) else "not null", dataclasses.MISSING)
    return _shape(f"{cls.__name__}Update", fields)


def edge(hint: Any, name: str = "") -> Any:  # noqa: ANN401 - type expressions are any objects
    """The model's type as pydantic reads it at the edge."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _annotated(hint, name)
    if origin in (typing.Union, types.UnionType):
        (inner,) = (a for a in args if a is not type(None))
        return edge(inner, name) | None
    if origin is tuple:
        return tuple[edge(args[0]), ...]  # type: ignore[misc]  # a type made at run time
    if hint == dict[str, Any]:
        return hint
    if origin is dict:
        return dict[edge(args[0]), edge(args[1])]  # type: ignore[misc]  # a type made at run time
    if hint is str:
        return Annotated[str, AfterValidator(_text if name == "description" else _line)]
    if hint is int:
        return edge(Annotated[int, Interval(ge=0, le=2147483647)])
    if hint is bool:
        return Annotated[bool, BeforeValidator(_truth), WithJsonSchema(describe.truth())]
    if hint is float:
        return Annotated[float, BeforeValidator(_http_version), WithJsonSchema(describe.version())]
    if dataclasses.is_dataclass(hint):
        return _NESTED[hint]
    return hint


def _annotated(hint: Any, name: str) -> Any:  # noqa: ANN401
    notes = hint.__metadata__
    base = hint.__origin__
    made: list[Any] = []
    if base not in (int, str):
        base = edge(base, name)
    for note in notes:
        match note:
            case Matches(pattern, why):
                made.append(AfterValidator(functools.partial(_match, pattern, why)))
            case IpAddress():
                made.append(AfterValidator(_ip))
            case Cidr():
                made.append(AfterValidator(_cidr))
            case JsonText():
                made.append(AfterValidator(_json_object))
            case OneOf(numbers):
                made += [BeforeValidator(_whole), AfterValidator(functools.partial(_one_of, numbers))]
            case Interval():
                made += [note, BeforeValidator(_whole)]
            case Unique():
                made.append(AfterValidator(_unique))
            case Mark():
                pass
            case _:
                made.append(note)
    described = [d for note in notes if (d := describe.marked(note, describe.longest_of(notes))) is not None]
    if base is str and not described:
        breaks = name == "description"
        made.append(AfterValidator(_text if breaks else _line))
        described = [describe.line(describe.longest_of(notes), breaks=breaks)]
    return Annotated[base, *made, *map(WithJsonSchema, described)] if made else base


def _match(pattern: re.Pattern[str], why: str, value: str) -> str:
    if pattern.fullmatch(value) is None:
        raise PydanticCustomError("pattern", why.replace("{", "{{"))
    return value.lower() if pattern is UUID else value


def _one_of(numbers: tuple[int, ...], value: int) -> int:
    if value not in numbers:
        raise PydanticCustomError("one_of", f"Value should be one of: {', '.join(map(str, numbers))}")
    return value


def _unique(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))


def _line(value: str) -> str:
    if _CONTROL.search(value):
        raise PydanticCustomError("control", "Value should not contain control characters")
    return value


def _text(value: str) -> str:
    """Text for people, who break lines."""
    _line(_LINES.sub("", value))
    return value


def _ip(value: str) -> str:
    try:
        address = ip_address(value)
        if "%" in value:
            raise ValueError(value)
    except ValueError as e:
        raise PydanticCustomError("ip", "Value should be IPv4 or IPv6 format") from e
    return str(address)


def _cidr(value: str) -> str:
    try:
        return str(ip_network(value, strict=False))
    except ValueError as e:
        raise PydanticCustomError("cidr", "Value should be IPv4 or IPv6 CIDR format") from e


def _json_object(value: str) -> str:
    try:
        fine = isinstance(orjson.loads(value), dict)
    except ValueError:
        fine = False
    if not fine or _CONTROL.search(_LINES.sub("", value)):
        raise PydanticCustomError("json", "Value should be the text of a JSON object")
    return value


def _whole(value: Any) -> Any:  # noqa: ANN401 - before validation it is anything
    if isinstance(value, bool) or (isinstance(value, str) and describe.WHOLE.fullmatch(value) is None):
        raise PydanticCustomError("int_type", "Value should be an integer")
    return value


def _truth(value: Any) -> Any:  # noqa: ANN401 - as above
    if isinstance(value, str):
        word = value.lower()
        if word in describe.TRUE or word in describe.FALSE:
            return word in describe.TRUE
    elif isinstance(value, bool | int | float) and value in (0, 1):
        return bool(value)
    raise PydanticCustomError("bool_type", "Value should be a boolean")


def _http_version(value: Any) -> Any:  # noqa: ANN401 - as above
    number = float(value) if isinstance(value, str) and value in map(str, describe.VERSIONS) else value
    if isinstance(number, bool) or number not in describe.VERSIONS:
        raise PydanticCustomError("http_version", "Value should be one of: 1.0, 1.1")
    return number


def _nested(cls: type[Any]) -> type[BaseModel]:
    hints = typing.get_type_hints(cls, include_extras=True)
    return _shape(
        cls.__name__,
        {f.name: (hints[f.name], "optional" if _has_default(f) else "required", f.default)
         for f in dataclasses.fields(cls)},
    )  # fmt: skip


def _persistence(name: str, *, type_required: bool) -> type[BaseModel]:
    hints = typing.get_type_hints(SessionPersistence, include_extras=True)
    presence: dict[bool, _Presence] = {True: "required", False: "optional"}
    return _shape(
        name, {n: (h, presence[type_required and n == "type"], dataclasses.MISSING) for n, h in hints.items()}
    )


_NESTED: dict[Any, Any] = {
    SessionPersistence: _persistence("SessionPersistence", type_required=True),
    AdditionalVip: _nested(AdditionalVip),
}
_CHANGED_PERSISTENCE: Any = _persistence("SessionPersistenceUpdate", type_required=False)


# A full tree: creation without parents, with children in place.
_NODE = ("loadbalancer_id", "listener_id", "pool_id")
_MEMBER_NODE: Any = _creation(Member, "Node", _NODE)
_MONITOR_NODE: Any = _creation(HealthMonitor, "Node", _NODE)
_POOL_NODE: Any = _creation(
    Pool, "Node", _NODE, healthmonitor=_MONITOR_NODE, members=tuple[_MEMBER_NODE, ...],
    protocol=PoolProtocol, lb_algorithm=Algorithm,  # absent in a reference by name
)  # fmt: skip
_L7_RULE_NODE: Any = _creation(L7Rule, "Node", _NODE)
_L7_POLICY_NODE: Any = _creation(
    L7Policy, "Node", _NODE, redirect_pool=_POOL_NODE, rules=tuple[_L7_RULE_NODE, ...]
)  # fmt: skip
_LISTENER_NODE: Any = _creation(
    Listener, "Node", _NODE, default_pool=_POOL_NODE, l7policies=tuple[_L7_POLICY_NODE, ...]
)  # fmt: skip
_TREE = _creation(LoadBalancer, listeners=tuple[_LISTENER_NODE, ...], pools=tuple[_POOL_NODE, ...])

LOAD_BALANCER = Body(LoadBalancer, "loadbalancer", "load_balancer", _TREE, _change(LoadBalancer))
LISTENER = Body(Listener, "listener", "listener_", _creation(Listener), _change(Listener))
POOL = Body(Pool, "pool", "pool_", _creation(Pool), _change(Pool))
MEMBER = Body(Member, "member", "member_", _creation(Member), _change(Member))
HEALTH_MONITOR = Body(
    HealthMonitor, "healthmonitor", "health_monitor_", _creation(HealthMonitor), _change(HealthMonitor)
)
FLAVOR_PROFILE = Body(
    FlavorProfile, "flavorprofile", "flavor_profile_", _creation(FlavorProfile), _change(FlavorProfile)
)
FLAVOR = Body(Flavor, "flavor", "flavor_", _creation(Flavor), _change(Flavor))
AVAILABILITY_ZONE_PROFILE = Body(
    AvailabilityZoneProfile, "availability_zone_profile", "availability_zone_profile_",
    _creation(AvailabilityZoneProfile), _change(AvailabilityZoneProfile),
)  # fmt: skip
AVAILABILITY_ZONE = Body(
    AvailabilityZone, "availability_zone", "availability_zone_", _creation(AvailabilityZone), _change(AvailabilityZone)
)

# Old and new spelling of two kinds; clients send either, and are answered with both.
QUOTA_SPELLINGS = {"load_balancer": "loadbalancer", "health_monitor": "healthmonitor"}
_QUOTA = _creation(Quota, "Update", (), **dict.fromkeys(QUOTA_SPELLINGS, QuotaLimit))
QUOTA = Body(Quota, "quota", "quotas", _QUOTA, _QUOTA)
L7_POLICY = Body(L7Policy, "l7policy", "l7policy_", _creation(L7Policy), _change(L7Policy))
L7_RULE = Body(L7Rule, "rule", "rule_", _creation(L7Rule), _change(L7Rule))

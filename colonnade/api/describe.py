"""How the OpenAPI document describes the values that ``api.shapes`` takes: what it excludes is refused, too.

Numbers and truth values are also taken as text, as Octavia does; replies never hold them so (``exact``).
"""

import re
from typing import Any

from annotated_types import Interval, MaxLen

from colonnade.types import UUID, Cidr, IpAddress, Json, JsonText, Matches, OneOf

_AS_TEXT = "The same as text."
WHOLE = re.compile(r"0|-?[1-9][0-9]{0,18}")  # a whole number as text
TRUE = ("true", "1", "yes", "on", "t", "y")
FALSE = ("false", "0", "no", "off", "f", "n")
VERSIONS = (1.0, 1.1)

_CONTROLS = r"\u0000-\u001f\u007f-\u009f\u2028\u2029"
_CONTROLS_BUT_BREAKS = r"\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u2028\u2029"


def whole(limits: Interval) -> Json:
    """A whole number between these limits."""
    number = {"type": "integer", "minimum": limits.ge, "maximum": limits.le}
    return {"anyOf": [number, _text_of(f"^(?:{WHOLE.pattern})$")]}


def truth() -> Json:
    """A truth value."""
    return {"anyOf": [{"type": "boolean"}, {"enum": [0, 1], "description": _AS_TEXT}, _any_case(TRUE + FALSE)]}


def version() -> Json:
    """A version of HTTP."""
    return {"anyOf": [{"type": "number", "enum": list(VERSIONS)}, _words(map(str, VERSIONS))]}


def line(longest: int | None, *, breaks: bool = False) -> Json:
    """Text without control characters; with ``breaks``, line ends and tabs are none."""
    controls = _CONTROLS_BUT_BREAKS if breaks else _CONTROLS
    return {"type": "string", "pattern": f"^[^{controls}]*$", **_longest(longest)}


def marked(note: Any, longest: int | None) -> Json | None:  # noqa: ANN401 - any mark of a type
    """What this mark of ``colonnade.types`` makes of a value; None: nothing."""
    match note:
        case Matches(pattern) if pattern is UUID:
            return {"type": "string", "format": "uuid"}
        case Matches(pattern):
            return {"type": "string", "pattern": f"^(?:{pattern.pattern})$", **_longest(longest)}
        case JsonText():
            return {"type": "string", "contentMediaType": "application/json", **_longest(longest)}
        case OneOf(numbers):
            return {"anyOf": [{"type": "integer", "enum": list(numbers)}, _words(map(str, numbers))]}
        case IpAddress():
            return {"anyOf": [{"type": "string", "format": f} for f in ("ipv4", "ipv6")]}
        case Interval():
            return whole(note)
        case Cidr():
            return {"type": "string", "examples": ["10.0.0.0/24", "2001:db8::/32"]}
    return None


def longest_of(notes: Any) -> int | None:  # noqa: ANN401 - marks are any objects
    """The most letters that these marks allow."""
    return next((n.max_length for n in notes if isinstance(n, MaxLen)), None)


def any_case(words: tuple[str, ...]) -> str:
    """A pattern of these words, in capitals, too."""
    spelled = ("".join(f"[{c}{c.upper()}]" if c.isalpha() else c for c in word) for word in words)
    return f"^(?:{'|'.join(spelled)})$"


def nothing(schema: Json) -> Json:
    """A field whose effect does not exist here: taken when it asks for nothing."""
    kinds = str(schema)
    asks_nothing: list[Json] = [{"type": "null"}]
    if "'array'" in kinds:
        asks_nothing.append({"type": "array", "maxItems": 0})
    if "'boolean'" in kinds:
        asks_nothing += [{"enum": [False, 0]}, _any_case(FALSE)]
    return {"description": "Has no effect here yet.", "anyOf": asks_nothing}


def exact(schema: Any) -> Any:  # noqa: ANN401 - any part of a schema
    """The schema of a reply: without what is only taken in requests."""
    if isinstance(schema, dict):
        found = {k: exact(v) for k, v in schema.items()}
        if "anyOf" in found:
            found["anyOf"] = [v for v in found["anyOf"] if v.get("description") != _AS_TEXT]
        return found
    return [exact(v) for v in schema] if isinstance(schema, list) else schema


def _longest(longest: int | None) -> Json:
    return {} if longest is None else {"maxLength": longest}


def _text_of(pattern: str) -> Json:
    return {"type": "string", "pattern": pattern, "description": _AS_TEXT}


def _words(words: Any) -> Json:  # noqa: ANN401 - any iterable of texts
    return {"type": "string", "enum": list(words), "description": _AS_TEXT}


def _any_case(words: tuple[str, ...]) -> Json:
    return _text_of(any_case(words))

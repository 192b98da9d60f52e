"""Values that are wrong for most fields and right for some, and where bodies have fields to put them."""

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lb_service import nobody_has

from colonnade.api import openapi
from colonnade.types import Json

SCHEMAS: Json = openapi.document()["components"]["schemas"]
_UUID = nobody_has("7")

NUMBERS: list[Any] = [
    0, 1, -1, -2, 2, 10, 11, 80, 256, 257, 302, 304, 65535, 65536, 2000000000, 2000000001, 2073600000, 2073600001,
    2147483647, 2147483648, 2**63, 2**70, 0.0, 1.0, 1.1, 1.5, 80.0, -1.5, 1e300,
]  # fmt: skip
AS_TEXT: list[Any] = [
    "0", "1", "-1", "80", "302", "99999999999999999999", " 80", "80 ", "080", "8_0", "+8", "-0", "80.0", "8e1", "٣",
    "1.0", "1.1", "1.10", " 1.1", "True", "no", "ON", "yes ", "perhaps",
]  # fmt: skip
TEXTS: list[Any] = [
    "", " ", "x", "a b", "x" * 36, "x" * 37, "x" * 64, "x" * 255, "x" * 256, "é" * 255, "漢" * 256, "a\nb", "a\tb",
    "\0", "\x7f", "\x85", "\u2028", "%", '"', "'", "\\", "${x}", "{{x}}", "a,b", "a;b", "-", "-a", "a.example",
    "a.example.", f"{'a' * 64}.example", "*.example", "200", "200,204", "200, 204", "200-204", "200-", "20", "2000",
    "200,\n204", "\uff12\uff10\uff10", "/", "/a?b=c#d", "//", "/a b", "/é", "a/", "/" + "x" * 254, "/" + "x" * 255, "http://a.example/b",
    "HTTPS://a", "http://", "ftp://a", "javascript:x", "http://a b", "http://" + "x" * 248, "http://" + "x" * 249,
    "10.0.0.1", "10.0.0.01", "10.0.0.256", "10.0.0", "169.254.169.254", "fd00::1", "FD00:0::1", "fe80::1%lo",
    "::ffff:10.0.0.1", "fd00::g", "10.0.0.0/8", "10.0.0.1/8", "10.0.0.0/33", "fd00::/8", "255.255.0.0", _UUID,
    _UUID.upper(), _UUID.replace("-", ""), f"{{{_UUID}}}", f"{_UUID}\n", "TLS_AES_128_GCM_SHA256", "HIGH:!aNULL",
    "a" * 2048, "a" * 2049, "{}", "[]", "{", '{"compute_flavor": "small"}', '{"a": 1}', "X-Forwarded-For",
]  # fmt: skip
WORDS: list[Any] = [
    "HTTP", "http", "TCP", "HTTPS", "TERMINATED_HTTPS", "PROXY", "PROXYV2", "PING", "TLS-HELLO", "GET", "get", "BREW",
    "ROUND_ROBIN", "SOURCE_IP", "SOURCE_IP_PORT", "LEAST_CONNECTIONS", "NONE", "MANDATORY", "REJECT", "REDIRECT_TO_URL",
    "REDIRECT_PREFIX", "PATH", "HEADER", "COOKIE", "SSL_DN_FIELD", "EQUAL_TO", "REGEX", "STARTS_WITH",
]  # fmt: skip
NESTED: list[Any] = [
    {}, [], [""], ["x"], ["x", "x"], ["x" * 255], ["x" * 256], ["a\nb"], [None], [[]], [{}], [1], ["x"] * 257,
    {"x": "y"}, {"a": {}}, ["h2"], ["h2", "http/1.1"], ["h3"], ["TLSv1.2"], ["TLSv1.4"], ["10.0.0.0/8"],
    ["10.0.0.0/8"] * 2, ["fd00::/8"], ["10.0.0.0/99"], [_UUID], {"X-Forwarded-For": "true"}, {"X-Forwarded-For": True},
    {"X-Forwarded-For": "yes"}, {"X-Other": "true"}, {"X-SSL-Client-CN": "true"}, {"type": "SOURCE_IP"}, {"type": "X"},
    {"type": None}, {"type": "HTTP_COOKIE"}, {"type": "HTTP_COOKIE", "cookie_name": "c"}, {"type": "APP_COOKIE"},
    {"type": "APP_COOKIE", "cookie_name": "c"}, {"type": "APP_COOKIE", "cookie_name": "a b"}, {"cookie_name": "c"},
    {"type": "SOURCE_IP", "persistence_timeout": 5}, {"type": "SOURCE_IP", "persistence_granularity": "255.0.0.0"},
    {"type": "SOURCE_IP", "more": 1},
]  # fmt: skip
ODD: list[Any] = [None, True, False, *NUMBERS, *AS_TEXT, *TEXTS, *WORDS, *NESTED]

# Where objects stand in a tree's creation, and what they are there.
NODES: dict[tuple[Any, ...], str] = {
    (): "LoadBalancerCreate", ("listeners", 0): "ListenerNode", ("listeners", 0, "l7policies", 0): "L7PolicyNode",
    ("listeners", 0, "l7policies", 0, "rules", 0): "L7RuleNode", ("pools", 0): "PoolNode",
    ("pools", 0, "members", 0): "MemberNode", ("pools", 0, "healthmonitor"): "HealthMonitorNode",
    ("pools", 0, "session_persistence"): "SessionPersistence",
}  # fmt: skip


@dataclass(frozen=True)
class Changed:
    """A good body with one field changed."""

    field: str
    value: Any
    body: Json

    def __str__(self) -> str:
        return f"{self.field} = {json.dumps(self.value)[:120]}"


def changed(body: Json, nodes: dict[tuple[Any, ...], str]) -> Iterator[Changed]:
    """The body with each odd value in each field of each of its nodes, without each field, and with an unknown one."""
    for where, name in nodes.items():
        properties = SCHEMAS[name]["properties"]
        for field in [*properties, "unheard"]:
            label = ".".join(str(part) for part in (*where, field))
            for value in ODD:
                other = copy.deepcopy(body)
                _inside(other, where)[field] = copy.deepcopy(value)
                yield Changed(label, value, other)
            other = copy.deepcopy(body)
            if _inside(other, where).pop(field, None) is not None:
                yield Changed(label, "left out", other)


def _inside(body: Any, where: tuple[Any, ...]) -> Any:
    for step in where:
        body = body[step]
    return body

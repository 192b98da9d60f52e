"""PROMETHEUS listeners: HAProxy itself answers /metrics, by the Lua program beside this module.

The program reads HAProxy's statistics page from a frontend on an abstract socket, which only processes in the amphora's
network namespace reach; and what the kernel balances from the agent's file that COLONNADE_DATAGRAMS names.
"""

from collections.abc import Iterator
from pathlib import Path

from colonnade import wire
from colonnade.core.words import Line, Section

SCRIPT = wire.METRICS
PROGRAM = Path(__file__).with_name(SCRIPT).read_text()
LOAD: Line = ("lua-load", SCRIPT)
SOURCE: Section = (
    ("frontend", wire.STATISTICS),
    ("mode", "http"),
    ("bind", f"abns@{wire.STATISTICS}"),
    ("timeout", "client", "5s"),
    ("stats", "enable"),
    ("stats", "uri", "/"),
)


def answering() -> Iterator[Line]:
    """What makes of a frontend one that answers GET /metrics, and nothing else."""
    yield ("acl", "get", "method", "-m", "str", "--", "GET")
    yield ("acl", "metrics", "path", "-m", "str", "--", "/metrics")
    yield ("http-request", "return", "status", "404", "unless", "metrics")
    yield ("http-request", "deny", "deny_status", "405", "unless", "get")
    yield ("http-request", "use-service", "lua.metrics")

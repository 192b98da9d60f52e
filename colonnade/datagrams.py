"""What a load balancer does with UDP and SCTP: the file ``datagrams.json`` of a bundle.

Written by the control plane, read by the agent. Imports nothing but the standard library.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from ipaddress import ip_address
from typing import Any, TypeVar
from uuid import UUID

FILE = "datagrams.json"
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """Where packets are sent to. With weight 0 it keeps its flows and gets no new ones."""

    id: str
    address: str
    port: int
    weight: int = 1
    backup: bool = False
    enabled: bool = True
    monitor_address: str
    monitor_port: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Monitor:
    """How members are checked. ``kind``: UDP-CONNECT, TCP, HTTP, SCTP; times in seconds. ``request``: the head of an
    HTTP request as it is sent; ``codes``: the first and last status of each range that is well."""

    kind: str
    delay: int
    timeout: int
    rise: int
    fall: int
    request: str = ""
    codes: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Persistence:
    """Clients keep their member until they were silent for ``timeout`` seconds. Clients whose addresses are equal in
    this many leading bits count as one."""

    timeout: int
    prefix4: int = 32
    prefix6: int = 128


@dataclass(frozen=True, kw_only=True, slots=True)
class Pool:
    """Members, and how one is chosen. ``algorithm``: as in the API."""

    id: str
    algorithm: str
    persistence: Persistence | None
    monitor: Monitor | None
    members: tuple[Member, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Listener:
    """A port on every VIP. ``protocol``: udp or sctp. ``limit``: most flows at once; None: as many as the kernel keeps.
    ``allowed``: networks whose clients are let in; None: all. ``idle``: seconds of silence after which a UDP flow is
    forgotten; 0: never."""

    id: str
    protocol: str
    port: int
    limit: int | None
    allowed: tuple[str, ...] | None
    idle: int
    pool: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Datagrams:
    """All of it."""

    vips: tuple[str, ...]
    listeners: tuple[Listener, ...]
    pools: tuple[Pool, ...]


def to_text(value: Datagrams) -> str:
    """The file."""
    return json.dumps(asdict(value), indent=1, sort_keys=True) + "\n"


def from_text(text: str) -> Datagrams:
    """What the file says. Types and shapes are checked, so is the form of ids. Raises ValueError with the reason."""
    try:
        data = _Fields(json.loads(text))
        return Datagrams(
            vips=tuple(_address(v) for v in data.texts("vips") or ()),
            listeners=tuple(_listener(_Fields(x)) for x in data.every("listeners")),
            pools=tuple(_pool(_Fields(x)) for x in data.every("pools")),
        )
    except (KeyError, TypeError, AttributeError) as e:
        raise ValueError(f"{FILE} is not as it should be: {e!r}") from e


class _Fields:
    """An object of the file; each method takes a field of one type out. Raises KeyError or ValueError."""

    def __init__(self, data: dict[str, Any]) -> None:
        self._data = dict(data)

    def _get(self, name: str, kind: type[_T]) -> _T:
        value = self._data[name]
        if type(value) is not kind:
            raise ValueError(f"{FILE}: {name} is not of type {kind.__name__}")
        return value

    def text(self, name: str) -> str:
        return self._get(name, str)

    def identity(self, name: str) -> str:
        return str(UUID(self.text(name)))

    def number(self, name: str, least: int, most: int) -> int:
        value = self._get(name, int)
        if not least <= value <= most:
            raise ValueError(f"{FILE}: {name} is not between {least} and {most}")
        return value

    def flag(self, name: str) -> bool:
        return self._get(name, bool)

    def every(self, name: str) -> list[Any]:
        return self._get(name, list)

    def texts(self, name: str) -> list[str] | None:
        values = None if self._data[name] is None else self.every(name)
        if values is not None and not all(isinstance(v, str) for v in values):
            raise ValueError(f"{FILE}: {name} is not a list of texts")
        return values

    def address(self, name: str) -> str:
        return _address(self.text(name))

    def maybe(self, name: str, read: Callable[[str], _T]) -> _T | None:
        return None if self._data[name] is None else read(name)

    def part(self, name: str, read: "Callable[[_Fields], _T]") -> _T | None:
        return None if self._data[name] is None else read(_Fields(self._data[name]))

    def one_of(self, name: str, *choices: str) -> str:
        value = self.text(name)
        if value not in choices:
            raise ValueError(f"{FILE}: {name} is none of {', '.join(choices)}")
        return value


def _address(text: str) -> str:
    """An address; none with a zone, which may be any text. Raises ValueError."""
    if "%" in text:
        raise ValueError(f"{text[:80]!r} is not an address that a load balancer can have or reach")
    return str(ip_address(text))


def _network(text: str) -> str:
    return f"{_address(text.partition('/')[0])}/{int(text.partition('/')[2])}"


def _listener(data: _Fields) -> Listener:
    allowed = data.texts("allowed")
    return Listener(
        id=data.identity("id"),
        protocol=data.one_of("protocol", "udp", "sctp"),
        port=data.number("port", 1, 65535),
        limit=data.maybe("limit", lambda n: data.number(n, 0, 0xFFFFFFFF)),
        allowed=None if allowed is None else tuple(_network(n) for n in allowed),
        idle=data.number("idle", 0, 0x7FFFFFFF),
        pool=data.maybe("pool", data.identity),
    )


def _pool(data: _Fields) -> Pool:
    return Pool(
        id=data.identity("id"),
        algorithm=data.one_of("algorithm", "ROUND_ROBIN", "LEAST_CONNECTIONS", "SOURCE_IP", "SOURCE_IP_PORT"),
        persistence=data.part("persistence", _persistence),
        monitor=data.part("monitor", _monitor),
        members=tuple(_member(_Fields(x)) for x in data.every("members")),
    )


def _persistence(data: _Fields) -> Persistence:
    return Persistence(
        timeout=data.number("timeout", 1, 0x7FFFFFFF), prefix4=data.number("prefix4", 0, 32),
        prefix6=data.number("prefix6", 0, 128),
    )  # fmt: skip


def _monitor(data: _Fields) -> Monitor:
    return Monitor(
        kind=data.one_of("kind", "UDP-CONNECT", "TCP", "HTTP", "SCTP"),
        delay=data.number("delay", 0, 0x7FFFFFFF), timeout=data.number("timeout", 0, 0x7FFFFFFF),
        rise=data.number("rise", 1, 1000), fall=data.number("fall", 1, 1000),
        request=data.text("request"), codes=tuple((int(a), int(b)) for a, b in data.every("codes")),
    )  # fmt: skip


def _member(data: _Fields) -> Member:
    return Member(
        id=data.identity("id"), address=data.address("address"), port=data.number("port", 1, 65535),
        weight=data.number("weight", 0, 65535), backup=data.flag("backup"), enabled=data.flag("enabled"),
        monitor_address=data.address("monitor_address"), monitor_port=data.number("monitor_port", 1, 65535),
    )  # fmt: skip

"""The kernel's own books about an amphora's flows: nftables counters and connection tracking, over netlink."""

import contextlib
import logging
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address

from colonnade.agent import namespaces, ruleset
from colonnade.agent.netlink import Netlink
from colonnade.agent.ruleset import End

log = logging.getLogger(__name__)

_NETFILTER = 12
_ACK, _DUMP = 0x4, 0x300
_GETOBJ = (10 << 8) | 19
_CT_NEW, _CT_GET, _CT_DELETE, _CT_STATS = (1 << 8) | 0, (1 << 8) | 1, (1 << 8) | 2, (1 << 8) | 5
_CREATE, _EXCL = 0x400, 0x200
_STATS_ENTRIES = 1
_INET = 1
_NESTED = 0x8000
_OBJ_TABLE, _OBJ_NAME, _OBJ_TYPE, _OBJ_DATA = 1, 2, 3, 4
_COUNTER_BYTES, _COUNTER_PACKETS = 1, 2
_TUPLE, _REPLY, _STATUS, _MARK, _MARK_MASK, _STATUS_MASK = 1, 2, 3, 8, 21, 26
_SOURCE_NAT, _TIMEOUT, _TARGET_NAT, _ZONE = 6, 7, 13, 18
_IP, _IP4_FROM, _IP4_TO, _IP6_FROM, _IP6_TO = 1, 1, 2, 3, 4
_NAT_IP4, _NAT_IP6, _NAT_PROTO, _NAT_PORT = 1, 4, 3, 1
_PROTO, _PROTO_NUM, _PROTO_FROM, _PROTO_TO = 2, 1, 2, 3
_TRANSLATED = 1 << 5  # IPS_DST_NAT
# Both ways were seen, it is assured and confirmed, and no packet makes it last longer: IPS_SEEN_REPLY and so on.
_COPIED = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 10
_UDP = bytes([socket.IPPROTO_UDP])
PROTOCOLS = {"udp": socket.IPPROTO_UDP, "sctp": socket.IPPROTO_SCTP}

Flow = tuple[int, int, int]  # IP protocol, port of the VIP, mark
Drop = tuple[int | None, tuple[int, int] | None]  # a mark, IP protocol and port, or all three; never nothing


class Pace:
    """Keeps the counting of flows, by all amphorae together, to one part in ``share`` of the time: for each count the
    kernel walks through its table of all flows of the machine, however few there are (9 ms for 262144 places)."""

    def __init__(self, share: int = 20) -> None:
        self._share = share
        self._lock = threading.Lock()
        self._next = 0.0

    def take(self) -> bool:
        """Whether it may be counted now; then ``gave`` follows."""
        with self._lock:
            now = time.monotonic()
            if now < self._next:
                return False
            self._next = now + 1.0  # whoever took its turn and failed keeps nobody waiting for longer
            return True

    def gave(self, seconds: float) -> None:
        """So long did it take."""
        with self._lock:
            self._next = time.monotonic() + self._share * seconds


@dataclass(frozen=True, slots=True)
class Entry:
    """A flow that we translated. ``port``: the VIP's; ``place`` and ``reply`` say from where to where its client's
    packets go and its member's; ``left``: seconds of silence until it ends by itself."""

    family: int
    proto: int
    port: int
    place: bytes
    reply: bytes
    left: int


class Tracking(Netlink):
    """A socket in the calling thread's namespace."""

    def __init__(self) -> None:
        super().__init__(_NETFILTER)

    def counters(self) -> dict[str, tuple[int, int]]:
        """Packets and bytes of each counter of our table; none when there is no table."""
        asked = _head(_INET) + _attr(_OBJ_TABLE, ruleset.TABLE.encode() + b"\0") + _attr(_OBJ_TYPE, _be(1))
        found = {}
        for body in self._each(_GETOBJ, _DUMP, asked):
            whole = dict(_attrs(body, 4, len(body)))
            data = dict(_attrs(whole[_OBJ_DATA], 0, len(whole[_OBJ_DATA])))
            name = whole[_OBJ_NAME].rstrip(b"\0").decode()
            found[name] = (_number(data[_COUNTER_PACKETS]), _number(data[_COUNTER_BYTES]))
        return found

    def flows(self) -> Counter[Flow]:
        """How many flows there are by protocol, the VIP's port and the member's number."""
        asked = _head(0) + _attr(_STATUS, _be(_TRANSLATED)) + _attr(_STATUS_MASK, _be(_TRANSLATED))
        return Counter(flow for flow in map(_flow, self._each(_CT_GET, _DUMP, asked)) if flow)

    def empty(self) -> bool:
        """Whether there is no flow at all."""
        body = next(iter(self._ask(_CT_STATS, _ACK, _head(0))), b"")
        return _number(dict(_attrs(body, 4, len(body))).get(_STATS_ENTRIES, b"\1")) == 0

    def found(self, drops: Collection[Drop]) -> list[Entry]:
        """The flows of these members and places. However many there are, the kernel's table is walked once."""
        if not drops:
            return []
        asked = _head(0) + _attr(_STATUS, _be(_TRANSLATED)) + _attr(_STATUS_MASK, _be(_TRANSLATED))
        match list(drops):
            case [(int(mark), _)]:
                asked += _attr(_MARK, _be(mark)) + _attr(_MARK_MASK, _be(0xFFFFFFFF))
        return [
            _entry(body, flow)
            for body in self._each(_CT_GET, _DUMP, asked)
            if (flow := _flow(body)) and not drops_of(flow).isdisjoint(drops)
        ]

    def drop(self, drops: Collection[Drop], found: Iterable[Entry]) -> None:
        """Forget the flows of these members and places, which were found before."""
        match list(drops):
            case [(int(mark), None)]:  # the kernel needs no list of them
                self._ask(_CT_DELETE, _ACK, _head(0) + _attr(_MARK, _be(mark)) + _attr(_MARK_MASK, _be(0xFFFFFFFF)))
            case _:
                self._delete((e.family, e.place) for e in found)

    def copy(self, entry: Entry, zone: int, seconds: int) -> tuple[End, End]:
        """Have this UDP flow once more in another zone, where no packet gets by itself. The copy counts for no member
        and ends after so long, whatever comes. Answers from where to where its member's packets go."""
        (client, vip), (member, ours) = _ends(entry.place), _ends(entry.reply)
        there = _attr(_ZONE, struct.pack(">H", zone))
        made = _head(entry.family) + _attr(_TUPLE | _NESTED, entry.place) + _reply(vip, client) + there
        made += _translation(_TARGET_NAT, member) + _translation(_SOURCE_NAT, ours)
        made += _attr(_STATUS, _be(_COPIED)) + _attr(_TIMEOUT, _be(seconds))
        try:
            self._ask(_CT_NEW, _ACK | _CREATE | _EXCL, made)
        except FileExistsError:
            # The client, or another one with these ports, was moved a moment ago: the last one counts.
            self._delete([(entry.family, place) for place in (entry.place, entry.reply)], there)
            self._ask(_CT_NEW, _ACK | _CREATE | _EXCL, made)
        return member, ours

    def drop_to(self, addresses: Collection[str]) -> None:
        """Forget the flows that their clients sent to these addresses; one walk."""
        packed = {ip_address(a).packed for a in addresses}
        places = ((body[0], dict(_attrs(body, 4, len(body)))[_TUPLE]) for body in self._each(_CT_GET, _DUMP, _head(0)))
        self._delete([(family, place) for family, place in places if _sent_to(place) in packed])

    def _delete(self, flows: Iterable[tuple[int, bytes]], there: bytes = b"") -> None:
        for family, place in flows:
            with contextlib.suppress(FileNotFoundError):  # it ended by itself
                self._ask(_CT_DELETE, _ACK, _head(family) + _attr(_TUPLE | _NESTED, place) + there)


def forget(addresses: Collection[str], namespace: str) -> None:
    """End the namespace's translated flows to addresses that lead elsewhere now."""
    with namespaces.inside(namespace):
        books = Tracking()
    try:
        books.drop_to(addresses)
    except OSError as e:
        log.warning("%s: flows cannot be forgotten: %s", namespace, e)
    finally:
        books.close()


def drops_of(flow: Flow) -> set[Drop]:
    """All that would forget this flow."""
    proto, port, mark = flow
    return {(mark, None), (None, (proto, port)), (mark, (proto, port))}


def _flow(body: bytes) -> Flow | None:
    """Of a flow that we translated."""
    place = mark = None
    for kind, value in _attrs(body, 4, len(body)):
        if kind == _TUPLE:
            for part, inner in _attrs(value, 0, len(value)):
                if part == _PROTO:
                    proto = dict(_attrs(inner, 0, len(inner)))
                    place = (proto[_PROTO_NUM][0], _number(proto.get(_PROTO_TO, b"\0\0")))
        elif kind == _MARK:
            mark = _number(value)
            break
    return (*place, mark) if place and mark else None


def _entry(body: bytes, flow: Flow) -> Entry:
    parts = dict(_attrs(body, 4, len(body)))
    return Entry(
        family=body[0], proto=flow[0], port=flow[1], place=parts[_TUPLE], reply=parts.get(_REPLY, b""),
        left=_number(parts.get(_TIMEOUT, b"")),
    )  # fmt: skip


def _ends(place: bytes) -> tuple[End, End]:
    """From where to where."""
    parts = dict(_attrs(place, 0, len(place)))
    source, target = (value for _, value in _attrs(parts[_IP], 0, len(parts[_IP])))
    proto = dict(_attrs(parts[_PROTO], 0, len(parts[_PROTO])))
    return (source, proto[_PROTO_FROM]), (target, proto[_PROTO_TO])


def _reply(source: End, target: End) -> bytes:
    """As of a flow that is not translated."""
    four = len(source[0]) == 4
    addresses = _attr(_IP4_FROM if four else _IP6_FROM, source[0]) + _attr(_IP4_TO if four else _IP6_TO, target[0])
    proto = _attr(_PROTO_NUM, _UDP) + _attr(_PROTO_FROM, source[1]) + _attr(_PROTO_TO, target[1])
    return _attr(_REPLY | _NESTED, _attr(_IP | _NESTED, addresses) + _attr(_PROTO | _NESTED, proto))


def _translation(kind: int, to: End) -> bytes:
    address = _attr(_NAT_IP4 if len(to[0]) == 4 else _NAT_IP6, to[0])
    return _attr(kind | _NESTED, address + _attr(_NAT_PROTO | _NESTED, _attr(_NAT_PORT, to[1])))


def _sent_to(place: bytes) -> bytes | None:
    addresses = dict(_attrs(place, 0, len(place))).get(_IP, b"")
    found = dict(_attrs(addresses, 0, len(addresses)))
    return found.get(_IP4_TO) or found.get(_IP6_TO)


def _attrs(data: bytes, at: int, end: int) -> Iterator[tuple[int, bytes]]:
    while end - at >= 4:
        size, kind = struct.unpack_from("HH", data, at)
        if size < 4:
            return
        yield kind & 0x3FFF, data[at + 4 : at + size]
        at += (size + 3) & ~3


def _attr(kind: int, value: bytes) -> bytes:
    size = 4 + len(value)
    return struct.pack("HH", size, kind) + value + b"\0" * (-size % 4)


def _head(family: int) -> bytes:
    return struct.pack(">BBH", family, 0, 0)


def _be(value: int) -> bytes:
    return struct.pack(">I", value)


def _number(data: bytes) -> int:
    return int.from_bytes(data, "big")

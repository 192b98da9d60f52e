"""Links, addresses and routes of one network namespace, over a routing netlink socket of our own.

A socket belongs to the namespace it was opened in, whichever thread uses it later. Adding what is there already and
removing what is gone already are success. Why not pyroute2: docs/decisions, "The agent speaks netlink itself".
"""

import contextlib
import errno
import os
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

Address = IPv4Address | IPv6Address
Interface = IPv4Interface | IPv6Interface
Subnet = IPv4Network | IPv6Network

_REQUEST, _ACK, _DUMP, _REPLACE, _EXCL, _CREATE = 0x1, 0x4, 0x300, 0x100, 0x200, 0x400
_ERROR, _DONE = 2, 3
_NEWLINK, _DELLINK, _GETLINK = 16, 17, 18
_NEWADDR, _DELADDR, _GETADDR = 20, 21, 22
_NEWROUTE, _DELROUTE, _GETROUTE = 24, 25, 26
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 1, 3, 4, 10, 18, 28
_IFLA_BR_FORWARD_DELAY, _IFLA_BR_MCAST_SNOOPING = 1, 23
_IFA_ADDRESS, _IFA_LOCAL, _IFA_CACHEINFO, _IFA_FLAGS = 1, 2, 6, 8
_IFA_F_NODAD = 0x02
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_TABLE = 1, 4, 5, 6, 15
_MAIN = 254
_UNREACHABLE = 7
_UP = 1
_FOREVER = 0xFFFFFFFF


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """A network interface."""

    name: str
    index: int
    up: bool
    mtu: int
    master: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """A route of the main table. ``link`` is an interface's index, 0 when it has none."""

    to: Subnet
    via: Address | None
    link: int
    unreachable: bool = False


class Netlink:
    """A socket in the calling thread's namespace. Safe to share between threads."""

    def __init__(self, protocol: int = socket.NETLINK_ROUTE) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._socket.bind((0, 0))
        self._socket.settimeout(30)
        self._sequence = 0
        self._lock = threading.Lock()

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def links(self) -> dict[str, Link]:
        """All interfaces by name."""
        found = (_link(m) for m in self._ask(_GETLINK, _DUMP, struct.pack("BxHiII", 0, 0, 0, 0, 0)))
        return {link.name: link for link in found}

    def add_bridge(self, name: str, *, mac: str, mtu: int) -> None:
        """A bridge that is up. Its own MAC, because a bridge without takes its ports' and changes with them."""
        data = _attr(_IFLA_BR_FORWARD_DELAY, struct.pack("I", 0)) + _attr(_IFLA_BR_MCAST_SNOOPING, b"\0")
        body = _ifinfo(up=True) + _attr(_IFLA_IFNAME, _name(name)) + _attr(_IFLA_ADDRESS, _mac(mac))
        body += _attr(_IFLA_MTU, struct.pack("I", mtu)) + _attr(_IFLA_LINKINFO, _info(b"bridge", data))
        with _fine_if(errno.EEXIST):
            self._ask(_NEWLINK, _ACK | _CREATE | _EXCL, body)

    def add_veth(
        self, name: str, *, mtu: int, master: int = 0, peer: str, peer_namespace: int, peer_mac: str | None = None
    ) -> None:
        """A pair of interfaces: ``name`` here, up, on the bridge ``master``; ``peer`` in the namespace, still down."""
        peer_mac_attr = _attr(_IFLA_ADDRESS, _mac(peer_mac)) if peer_mac else b""
        size = _attr(_IFLA_MTU, struct.pack("I", mtu))
        other = _ifinfo() + _attr(_IFLA_IFNAME, _name(peer)) + peer_mac_attr + size
        other += _attr(_IFLA_NET_NS_FD, struct.pack("I", peer_namespace))
        body = _ifinfo(up=True) + _attr(_IFLA_IFNAME, _name(name)) + size
        body += _attr(_IFLA_MASTER, struct.pack("I", master)) if master else b""
        body += _attr(_IFLA_LINKINFO, _info(b"veth", _attr(1, other)))
        with _fine_if(errno.EEXIST):
            self._ask(_NEWLINK, _ACK | _CREATE | _EXCL, body)

    def bring_up(self, name: str, *, mtu: int | None = None) -> None:
        """Set the interface up, and its MTU when one is given."""
        body = _ifinfo(up=True) + _attr(_IFLA_IFNAME, _name(name))
        if mtu is not None:
            body += _attr(_IFLA_MTU, struct.pack("I", mtu))
        self._ask(_NEWLINK, _ACK, body)

    def remove_link(self, name: str) -> None:
        """Remove the interface; the other end of a veth goes with it."""
        with _fine_if(errno.ENODEV):
            self._ask(_DELLINK, _ACK, _ifinfo() + _attr(_IFLA_IFNAME, _name(name)))

    def addresses(self, link: int) -> set[Interface]:
        """Addresses of the interface, link-local ones left out."""
        found = (_address(m) for m in self._ask(_GETADDR, _DUMP, struct.pack("BBBBi", 0, 0, 0, 0, 0)))
        return {a for index, a in found if index == link and not a.is_link_local}

    def add_address(self, link: int, address: Interface, *, secondary: bool = False) -> None:
        """Put an address on, usable at once. A ``secondary`` IPv6 address is never chosen as a source."""
        body = _ifaddr(link, address)
        if address.version == 6:
            # Duplicate detection would keep the address tentative, so unusable, for a second.
            body += _attr(_IFA_FLAGS, struct.pack("I", _IFA_F_NODAD))
            body += _attr(_IFA_CACHEINFO, struct.pack("IIII", 0 if secondary else _FOREVER, _FOREVER, 0, 0))
        with _fine_if(errno.EEXIST):
            self._ask(_NEWADDR, _ACK | _CREATE | _EXCL, body)

    def remove_address(self, link: int, address: Interface) -> None:
        """Take an address off."""
        with _fine_if(errno.EADDRNOTAVAIL, errno.ENODEV):
            self._ask(_DELADDR, _ACK, _ifaddr(link, address))

    def routes(self) -> list[Route]:
        """Routes of the main table, both IP versions."""
        asked = struct.pack("BBBBBBBBI", 0, 0, 0, 0, 0, 0, 0, 0, 0)
        found = (_route(m) for m in self._ask(_GETROUTE, _DUMP, asked))
        return [r for r in found if r]

    def add_route(
        self, to: Subnet, *, via: Address | None = None, link: int = 0, metric: int = 0, unreachable: bool = False
    ) -> None:
        """Add a route, or put it in the place of one with the same target and metric."""
        body = _rtmsg(to, kind=_UNREACHABLE if unreachable else 1) + _attr(_RTA_DST, to.network_address.packed)
        body += _attr(_RTA_GATEWAY, via.packed) if via else b""
        body += _attr(_RTA_OIF, struct.pack("I", link)) if link else b""
        body += _attr(_RTA_PRIORITY, struct.pack("I", metric)) if metric else b""
        self._ask(_NEWROUTE, _ACK | _CREATE | _REPLACE, body)

    def remove_route(self, to: Subnet, *, link: int = 0) -> None:
        """Remove the route to ``to``."""
        body = _rtmsg(to, kind=0) + _attr(_RTA_DST, to.network_address.packed)
        body += _attr(_RTA_OIF, struct.pack("I", link)) if link else b""
        with _fine_if(errno.ESRCH, errno.ENODEV):
            self._ask(_DELROUTE, _ACK, body)

    def _ask(self, kind: int, flags: int, body: bytes) -> list[bytes]:
        return list(self._each(kind, flags, body))

    def _each(self, kind: int, flags: int, body: bytes) -> Iterator[bytes]:
        """The answers one by one. Others wait until the last one was taken."""
        with self._lock:
            self._sequence += 1
            self._socket.send(struct.pack("IHHII", 16 + len(body), kind, _REQUEST | flags, self._sequence, 0) + body)
            yield from self._answers()

    def _answers(self) -> Iterator[bytes]:
        while True:
            data = self._socket.recv(1 << 18)
            while data:
                size, kind, _, sequence, _ = struct.unpack_from("IHHII", data)
                body, data = data[16:size], data[(size + 3) & ~3 :]
                if sequence != self._sequence:
                    continue  # the rest of an answer that an earlier caller gave up on
                if kind == _DONE:
                    return
                if kind == _ERROR:
                    code = -struct.unpack_from("i", body)[0]
                    if code:
                        raise OSError(code, os.strerror(code))
                    return
                yield body


def _fine_if(*codes: int) -> "contextlib.AbstractContextManager[None]":
    return _Fine(codes)


class _Fine(contextlib.AbstractContextManager[None]):
    def __init__(self, codes: tuple[int, ...]) -> None:
        self._codes = codes

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        return isinstance(error, OSError) and error.errno in self._codes


def _attr(kind: int, value: bytes) -> bytes:
    size = 4 + len(value)
    return struct.pack("HH", size, kind) + value + b"\0" * (-size % 4)


def _attrs(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while len(data) >= 4:
        size, kind = struct.unpack_from("HH", data)
        found[kind & 0x3FFF] = data[4:size]
        data = data[(size + 3) & ~3 :]
    return found


def _name(name: str) -> bytes:
    return name.encode() + b"\0"


def _mac(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def _info(kind: bytes, data: bytes) -> bytes:
    return _attr(1, kind) + _attr(2, data)


def _ifinfo(*, up: bool = False) -> bytes:
    return struct.pack("BxHiII", 0, 0, 0, _UP if up else 0, _UP if up else 0)


def _ifaddr(link: int, address: Interface) -> bytes:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    head = struct.pack("BBBBi", family, address.network.prefixlen, 0, 0, link)
    return head + _attr(_IFA_LOCAL, address.ip.packed) + _attr(_IFA_ADDRESS, address.ip.packed)


def _rtmsg(to: Subnet, *, kind: int) -> bytes:
    family = socket.AF_INET if to.version == 4 else socket.AF_INET6
    protocol = 4 if kind else 0  # "static"; 0 removes whatever the origin
    scope = 0 if kind else 255  # "nowhere" removes whatever the scope
    return struct.pack("BBBBBBBBI", family, to.prefixlen, 0, 0, _MAIN, protocol, scope, kind, 0)


def _link(body: bytes) -> Link:
    _, _, index, flags, _ = struct.unpack_from("BxHiII", body)
    found = _attrs(body[16:])
    return Link(
        name=found[_IFLA_IFNAME].rstrip(b"\0").decode(),
        index=index,
        up=bool(flags & _UP),
        mtu=struct.unpack("I", found[_IFLA_MTU])[0],
        master=struct.unpack("I", found[_IFLA_MASTER])[0] if _IFLA_MASTER in found else 0,
    )


def _address(body: bytes) -> tuple[int, Interface]:
    family, prefix, _, _, index = struct.unpack_from("BBBBi", body)
    found = _attrs(body[8:])
    packed = found.get(_IFA_LOCAL) or found[_IFA_ADDRESS]
    whole = IPv4Interface if family == socket.AF_INET else IPv6Interface
    return index, whole((packed, prefix))


def _route(body: bytes) -> Route | None:
    family, prefix, _, _, table, _, _, kind, flags = struct.unpack_from("BBBBBBBBI", body)
    found = _attrs(body[12:])
    table = struct.unpack("I", found[_RTA_TABLE])[0] if _RTA_TABLE in found else table
    if table != _MAIN or family not in (socket.AF_INET, socket.AF_INET6) or flags & 0x200:  # 0x200: a cached copy
        return None
    four = family == socket.AF_INET
    target = found.get(_RTA_DST, bytes(4 if four else 16))
    via = found.get(_RTA_GATEWAY)
    return Route(
        to=IPv4Network((target, prefix)) if four else IPv6Network((target, prefix)),
        via=None if via is None else IPv4Address(via) if four else IPv6Address(via),
        link=struct.unpack("I", found[_RTA_OIF])[0] if _RTA_OIF in found else 0,
        unreachable=kind == _UNREACHABLE,
    )

"""Sends heartbeats: signed datagrams, to every health manager, heard or not."""

import contextlib
import dataclasses
import ipaddress
import logging
import socket
from collections.abc import Iterable

from colonnade import wire

log = logging.getLogger(__name__)


class Beats:
    """Sends from the host, never waits."""

    def __init__(self) -> None:
        kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        self._sockets = {4: socket.socket(socket.AF_INET, kind)}
        with contextlib.suppress(OSError):  # a kernel without IPv6
            self._sockets[6] = socket.socket(socket.AF_INET6, kind)

    def send(self, beat: wire.Heartbeat, key: bytes, targets: Iterable[str]) -> None:
        """Send one beat."""
        datagram = pack(beat, key)
        for address, port in map(target, targets):
            with contextlib.suppress(OSError, KeyError):
                self._sockets[address.version].sendto(datagram, (str(address), port))


def pack(beat: wire.Heartbeat, key: bytes) -> bytes:
    """The datagram; one that would be too long leaves out first what checks said, then the members."""
    datagram = wire.pack(beat, key)
    if len(datagram) > wire.MAX_DATAGRAM:
        log.debug("amphora %s has too many members for a heartbeat with all details", beat.amphora_id)
        members = {
            pool: {name: dataclasses.replace(state, text="") for name, state in states.items()}
            for pool, states in beat.members.items()
        }
        datagram = wire.pack(dataclasses.replace(beat, members=members), key)
    if len(datagram) > wire.MAX_DATAGRAM:
        datagram = wire.pack(dataclasses.replace(beat, members={}), key)
    return datagram


def target(text: str) -> tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int]:
    """Address and port of "127.0.0.1:5555" or "[::1]:5555". Raises ValueError."""
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"{text!r} is not an address and a port")
    return ipaddress.ip_address(host.strip("[]")), int(port)

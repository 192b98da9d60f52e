"""One health check each, on sockets that never wait: connection attempts, an HTTP request, an SCTP greeting.

``begin`` is called in the amphora's namespace, ``ready`` when the socket can be read or written, ``late`` when the
time is up. Outcomes speak as HAProxy does (management.txt §9.1, check_status): their readers need not know who asked.
"""

import errno
import os
import re
import select
import socket
import struct
from dataclasses import dataclass
from ipaddress import ip_address

from colonnade.datagrams import Monitor

_MOST_ANSWER = 4096  # bytes in which an HTTP status line must have come
_MOST_AT_ONCE = 16  # packets read before others get their turn
_MOST_WRONG = 32  # packets of one SCTP check that may be no answer after all
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])[ \r]")
_SCTP = 132
_IP_RECVERR, _IPV6_RECVERR = 11, 25  # linux/in.h, linux/in6.h
_ASKED_IN_VAIN_S = 4.0
_INIT, _INIT_ACK, _ABORT = 1, 2, 6


@dataclass(frozen=True, slots=True)
class Outcome:
    """``well`` None: the check could not be made, which says nothing of the member."""

    well: bool | None
    code: str
    text: str = ""


class Probe:
    """A check of an address and port. After an outcome it may begin again. ``close`` ends it."""

    def __init__(self, address: str, port: int, monitor: Monitor) -> None:
        self.address, self.port, self.monitor = address, port, monitor
        self.family = socket.AF_INET6 if ip_address(address).version == 6 else socket.AF_INET
        self.socket: socket.socket | None = None
        self.wants = select.EPOLLIN

    def begin(self) -> Outcome | None:
        """Start it; an outcome when it has ended already."""
        try:
            return self._begin()
        except OSError as e:
            self.close()
            return _failed(e)

    def ready(self) -> Outcome | None:
        """Go on; an outcome when it has ended."""
        try:
            return self._ready()
        except BlockingIOError:
            return None
        except OSError as e:
            self.close()
            return _failed(e)

    @property
    def patience(self) -> float:
        """Seconds until ``late``."""
        return self.monitor.timeout

    def late(self) -> Outcome:
        """What it means that nothing more came."""
        return Outcome(False, "L4TOUT")

    def finish(self) -> None:
        """Between two checks."""
        self.close()

    def close(self) -> None:
        """Give the socket back."""
        if self.socket:
            self.socket.close()
            self.socket = None

    def _open(self, kind: int, protocol: int = 0) -> socket.socket:
        self.socket = socket.socket(self.family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol)
        return self.socket

    def _begin(self) -> Outcome | None:
        raise NotImplementedError

    def _ready(self) -> Outcome | None:
        raise NotImplementedError


class Udp(Probe):
    """Down when somebody says that nobody is there. The socket stays: what is said after the check's time is over is
    heard by the next one. That a host is off is known only when its neighbours have asked for it three times, a second
    apart; once it was, the next check waits for that."""

    _off = False

    def begin(self) -> Outcome | None:
        return self._note(super().begin())

    def ready(self) -> Outcome | None:
        return self._note(super().ready())

    @property
    def patience(self) -> float:
        return max(self.monitor.timeout, _ASKED_IN_VAIN_S) if self._off else self.monitor.timeout

    def _note(self, outcome: Outcome | None) -> Outcome | None:
        if outcome is not None:
            self._off = outcome.well is False and outcome.text == os.strerror(errno.EHOSTUNREACH)
        return outcome

    def _begin(self) -> Outcome | None:
        s = self.socket
        if s is None:
            s = self._open(socket.SOCK_DGRAM)
            four = self.family == socket.AF_INET
            # Without, the kernel keeps to itself what may pass, as that a host is off.
            s.setsockopt(*((socket.IPPROTO_IP, _IP_RECVERR) if four else (socket.IPPROTO_IPV6, _IPV6_RECVERR)), 1)
            s.connect((self.address, self.port))
        elif code := s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(code, os.strerror(code))
        for _ in range(_MOST_AT_ONCE):
            try:
                s.recv(1)
            except BlockingIOError:
                break
        s.send(b"")
        return None

    def _ready(self) -> Outcome | None:
        if self.socket:
            self.socket.recv(1)
        return Outcome(True, "L4OK", "it answered")

    def late(self) -> Outcome:
        self._off = False
        return Outcome(True, "L4OK", "nobody refused it")

    def finish(self) -> None:
        """The socket stays."""


class Tcp(Probe):
    """Up when a connection is made."""

    def _begin(self) -> Outcome | None:
        code = self._open(socket.SOCK_STREAM).connect_ex((self.address, self.port))
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, os.strerror(code))
        self.wants = select.EPOLLOUT
        return None

    def _ready(self) -> Outcome | None:
        code = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if self.socket else errno.EBADF
        if code:
            raise OSError(code, os.strerror(code))
        return self._connected()

    def _connected(self) -> Outcome | None:
        return Outcome(True, "L4OK")


class Http(Tcp):
    """Up when the answer's status is one of those expected."""

    def __init__(self, address: str, port: int, monitor: Monitor) -> None:
        super().__init__(address, port, monitor)
        self._answer: bytes | None = None

    def _begin(self) -> Outcome | None:
        self._answer = None
        return super()._begin()

    def _ready(self) -> Outcome | None:
        if self._answer is None:
            return super()._ready()
        data = self.socket.recv(_MOST_ANSWER) if self.socket else b""
        self._answer += data
        line = _STATUS.match(self._answer)
        if line:
            status = int(line[1])
            if any(first <= status <= last for first, last in self.monitor.codes):
                return Outcome(True, f"L7OK {status}")
            return Outcome(False, f"L7STS {status}")
        if not data or b"\n" in self._answer or len(self._answer) >= _MOST_ANSWER:
            return Outcome(False, "L7RSP")
        return None

    def _connected(self) -> Outcome | None:
        request = self.monitor.request.encode()
        if self.socket is None or self.socket.send(request) < len(request):
            return Outcome(False, "L7TOUT")  # a new connection takes more than any request we make
        self._answer = b""
        self.wants = select.EPOLLIN
        return None

    def late(self) -> Outcome:
        return Outcome(False, "L4TOUT" if self._answer is None else "L7TOUT")


class Sctp(Probe):
    """Up when INIT is answered with INIT ACK, down with ABORT. What was begun is aborted: no association comes of it.

    Over a raw socket, for many kernels have no SCTP of their own."""

    def _begin(self) -> Outcome | None:
        s = self._open(socket.SOCK_RAW, _SCTP)
        s.connect((self.address, 0))
        self._ours, self._tag, self._read = 49152 + os.urandom(2)[0] * 64 + os.urandom(1)[0] % 64, _tag(), 0
        chunk = struct.pack(">BBHIIHHI", _INIT, 0, 20, self._tag, 65536, 1, 1, _tag())
        s.send(packet(self._ours, self.port, 0, chunk))
        return None

    def _ready(self) -> Outcome | None:
        for _ in range(_MOST_AT_ONCE if self.socket else 0):
            data = self.socket.recv(2048)  # type: ignore[union-attr]  # nothing closes it meanwhile
            if self.family == socket.AF_INET:
                data = data[(data[0] & 15) * 4 :]
            # All of the member's packets come here, its clients' too; a checksum costs more than all the rest.
            if data[:8] != struct.pack(">HHI", self.port, self._ours, self._tag):
                continue
            self._read += 1
            if self._read > _MOST_WRONG:
                return Outcome(False, "L4CON", "its packets are in no good order")
            if (found := read_packet(data)) is None:
                continue
            kind, rest = found[3], found[4]
            if kind == _ABORT:
                return Outcome(False, "L4CON", "the association was refused")
            if kind == _INIT_ACK and len(rest) >= 4:
                abort = struct.pack(">BBH", _ABORT, 0, 4)
                self.socket.send(packet(self._ours, self.port, struct.unpack(">I", rest[:4])[0], abort))  # type: ignore[union-attr]
                return Outcome(True, "L4OK")
        return None


PROBES: dict[str, type[Probe]] = {"UDP-CONNECT": Udp, "TCP": Tcp, "HTTP": Http, "SCTP": Sctp}


def packet(source: int, to: int, tag: int, chunk: bytes) -> bytes:
    """An SCTP packet (RFC 9260) with its checksum."""
    head = struct.pack(">HHI", source, to, tag)
    chunk += b"\0" * (-len(chunk) % 4)
    return head + struct.pack("<I", crc32c(head + b"\0\0\0\0" + chunk)) + chunk


def read_packet(data: bytes) -> tuple[int, int, int, int, bytes] | None:
    """Source port, port, tag, the first chunk's kind and value; None when it is no SCTP packet in good order."""
    if len(data) < 16 or struct.unpack_from("<I", data, 8)[0] != crc32c(data[:8] + b"\0\0\0\0" + data[12:]):
        return None
    source, to, tag = struct.unpack_from(">HHI", data)
    kind, _, size = struct.unpack_from(">BBH", data, 12)
    return source, to, tag, kind, data[16 : 12 + size]


def crc32c(data: bytes) -> int:
    """RFC 9260, appendix A."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _crc_of(byte: int) -> int:
    for _ in range(8):
        byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
    return byte


_CRC = [_crc_of(n) for n in range(256)]


def _tag() -> int:
    return int.from_bytes(os.urandom(4)) or 1


def _failed(error: OSError) -> Outcome:
    if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EPERM, errno.EADDRNOTAVAIL):
        return Outcome(None, "SOCKERR", os.strerror(error.errno or 0))
    return Outcome(False, "L4CON", os.strerror(error.errno or 0))

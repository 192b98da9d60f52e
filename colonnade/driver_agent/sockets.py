"""Unix sockets that take one request for each connection: its length in bytes, a newline, and so much JSON. The answer
comes the same way. A peer that sends nonsense, too much, too slowly or nothing gets a fault, or is left."""

import contextlib
import json
import logging
import os
import socket
import stat
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from colonnade.clock import Clock
from colonnade.driver_agent.answer import Answer, fault
from colonnade.types import Json

log = logging.getLogger("colonnade.driver_agent")

_LONGEST = 16 * 1024 * 1024  # bytes of a request: some 100,000 statuses
_DIGITS = 10
_ACCEPT_S = 0.5  # how late a socket notices that it is to stop
_MODE = 0o660  # the service's own user and group


@dataclass(frozen=True, kw_only=True, slots=True)
class Door:
    """One socket: what it answers, and what its peers may take of us."""

    name: str
    path: Path
    answer: Answer
    timeout_s: float  # for the whole request, and for the whole answer
    most: int  # connections at a time; further ones wait
    warn_at: float  # share of these


class _Refused(Exception):
    """The request cannot be read."""


class Server:
    """Serves one door until ``stop`` is set."""

    def __init__(self, door: Door, stop: threading.Event, clock: Clock) -> None:
        self._door, self._stop, self._monotonic = door, stop, clock.monotonic
        self._places = threading.BoundedSemaphore(door.most)
        self._busy, self._counting = 0, threading.Lock()
        self._warned_at = float("-inf")
        self._socket = bind(door.path)

    def run(self) -> None:
        """Accept until told to stop; then remove the socket. Requests under way are finished by their own threads."""
        door = self._door
        with self._socket:
            self._socket.settimeout(_ACCEPT_S)
            while not self._stop.is_set():
                if not self._places.acquire(timeout=_ACCEPT_S):
                    continue
                connection = self._next()
                if connection is None:
                    self._places.release()
                    continue
                self._count(1)
                threading.Thread(target=self._serve, args=(connection,), name=door.name, daemon=True).start()
        with contextlib.suppress(OSError):
            door.path.unlink()

    def _next(self) -> socket.socket | None:
        try:
            return self._socket.accept()[0]
        except TimeoutError:
            return None
        except OSError as e:  # out of file descriptors, or a peer that left at once
            log.warning("A connection was not taken: %s", e, extra={"socket": self._door.name})
            self._stop.wait(_ACCEPT_S)
            return None

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                self._exchange(connection)
        except OSError as e:
            log.info("A peer left: %s", e, extra={"socket": self._door.name})
        except Exception:  # a thread of its own: nobody else would tell
            log.exception("A request failed.", extra={"socket": self._door.name})
        finally:
            self._count(-1)
            self._places.release()

    def _exchange(self, connection: socket.socket) -> None:
        try:
            answer = self._answer(_read(connection, self._monotonic() + self._door.timeout_s, self._monotonic))
        except _Refused as e:
            log.warning("A request was refused: %s", e, extra={"socket": self._door.name})
            answer = fault(str(e))
        payload = json.dumps(answer).encode()
        connection.settimeout(self._door.timeout_s)  # Python counts it for the whole of sendall
        connection.sendall(b"%d\n%b" % (len(payload), payload))

    def _answer(self, request: object) -> Json:
        try:
            return self._door.answer(request)
        except Exception:  # the database may be away: whoever reports may try again
            log.exception("A request could not be answered.", extra={"socket": self._door.name})
            return fault("The driver agent could not carry it out now; its log says why. Please try again.")

    def _count(self, change: int) -> None:
        with self._counting:
            self._busy += change
            many = self._busy >= self._door.most * self._door.warn_at
            if change > 0 and many and self._monotonic() - self._warned_at > 10:
                self._warned_at = self._monotonic()
                extra = {"socket": self._door.name, "busy": self._busy, "most": self._door.most}
                log.warning("Many requests at a time; further ones will wait.", extra=extra)


def bind(path: Path) -> socket.socket:
    """A listening socket that only the service's user and group may use; one that a dead process left is replaced.

    Raises OSError when something else is at its place, or its directory is not there. Call it before other threads
    run: the mask of new files is the whole process's.
    """
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise FileExistsError(f"{path} is in the way: it is no socket")
    made = path.with_name(f"{path.name}.new")  # peers look whether the socket is there: then it must be listening, too
    made.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o777 & ~_MODE)
    try:
        listener.bind(str(made))
    finally:
        os.umask(mask)
    listener.listen(128)
    made.replace(path)
    return listener


def _read(connection: socket.socket, deadline: float, monotonic: Callable[[], float]) -> object:
    """The request's JSON. Raises _Refused, or OSError when the peer is gone."""

    def receive(most: int) -> bytes:
        left = deadline - monotonic()
        if left <= 0:
            raise _Refused("The request took too long.")
        connection.settimeout(left)
        try:
            part = connection.recv(most)
        except TimeoutError:
            raise _Refused("The request took too long.") from None
        if not part:
            raise _Refused("The request ended early.")
        return part

    head, rest = b"", b""
    while b"\n" not in head:
        if len(head) > _DIGITS:
            raise _Refused("A request begins with its length in bytes, in decimal digits, and a newline.")
        head += receive(4096)
    head, _, rest = head.partition(b"\n")
    if not head.isdigit() or len(head) > _DIGITS:
        raise _Refused("A request begins with its length in bytes, in decimal digits, and a newline.")
    length = int(head)
    if length > _LONGEST:
        raise _Refused(f"A request has at most {_LONGEST} bytes, not {length}.")
    data = bytearray(rest)
    while len(data) < length:
        data += receive(min(1 << 16, length - len(data)))
    try:
        return json.loads(bytes(data[:length]))
    except (ValueError, RecursionError):
        raise _Refused("The request is not JSON.") from None

"""Doorbells: between threads of one process, and between the processes of one host (Unix datagrams).

A ring carries nothing but a subject and may get lost; the sweep finds what is due.
"""

import contextlib
import errno
import itertools
import os
import select
import socket
import threading
from pathlib import Path

_LONGEST = 256  # bytes of a subject
_MOST = 4096  # rings taken in by one wait

_numbers = itertools.count()


class MemoryDoorbell:
    """Within one process."""

    def __init__(self) -> None:
        self._rung: set[str] = set()
        self._change = threading.Condition()

    def ring(self, subject: str) -> None:
        """Say that the subject has work."""
        with self._change:
            self._rung.add(subject)
            self._change.notify_all()

    def wait(self, seconds: float) -> set[str]:
        """Subjects rung since the last call; waits at most ``seconds`` for the first."""
        with self._change:
            self._change.wait_for(lambda: self._rung, seconds)
            rung, self._rung = self._rung, set()
            return rung


class SocketDoorbell:
    """On one host: each listener binds a socket of its own in ``directory``; a ring goes to all of them."""

    def __init__(self, directory: Path, listen: bool) -> None:
        self._directory = directory
        self._path: Path | None = None
        directory.mkdir(parents=True, exist_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        if listen:
            self._path = directory / f"{os.getpid()}-{next(_numbers)}.sock"
            self._path.unlink(missing_ok=True)  # of a dead process that had our number
            self._socket.bind(str(self._path))

    def ring(self, subject: str) -> None:
        """Say that the subject has work, to every listener. Never raises, never waits."""
        try:
            listeners = [entry.path for entry in os.scandir(self._directory) if entry.name.endswith(".sock")]
        except OSError:
            return
        for path in listeners:
            self._send(subject, path)

    def wait(self, seconds: float) -> set[str]:
        """Subjects rung since the last call; waits at most ``seconds`` for the first."""
        rung: set[str] = set()
        ready = select.select([self._socket] if self._path else [], [], [], max(seconds, 0))[0]
        while ready and len(rung) < _MOST:
            try:
                rung.add(self._socket.recv(_LONGEST).decode(errors="replace"))
            except OSError:  # nothing more is waiting
                break
        return rung

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()
        if self._path:
            self._path.unlink(missing_ok=True)

    def _send(self, subject: str, path: str) -> None:
        try:
            self._socket.sendto(subject.encode()[:_LONGEST], path)
        except OSError as e:
            if e.errno == errno.ECONNREFUSED:  # its listener is dead: a full one says EAGAIN, and is awake anyway
                with contextlib.suppress(OSError):
                    Path(path).unlink()

"""Sees at once when a process ends, writes to its stderr, or logs: one thread, one epoll, no polling."""

import contextlib
import logging
import os
import select
import socket
import threading
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger(__name__)


class Watcher:
    """Calls back from its own thread: a callback does little and never waits."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._calls: dict[int, Callable[[], None]] = {}
        self._lock = threading.Lock()
        threading.Thread(target=self._run, name="watcher", daemon=True).start()

    def end_of(self, pid: int, then: Callable[[int | None], None]) -> None:
        """Call ``then`` once when the process has ended, with its exit status, minus the signal that ended it.

        The status of somebody else's child is None. Raises ProcessLookupError when there is no such process.
        """
        pidfd = os.pidfd_open(pid)

        def ended() -> None:
            if not _readable(pidfd):
                return  # meant for an older descriptor of this number
            status = None
            with contextlib.suppress(ChildProcessError):
                status = os.waitstatus_to_exitcode(os.waitpid(pid, os.WNOHANG)[1])
            self._forget(pidfd)
            os.close(pidfd)
            then(status)

        self._watch(pidfd, ended)

    def text_of(self, fd: int, then: Callable[[bytes], None]) -> None:
        """Pass on what arrives at the pipe until it ends; the watcher owns ``fd`` from now on."""
        os.set_blocking(fd, False)

        def readable() -> None:
            try:
                data = os.read(fd, 65536)
            except BlockingIOError:
                return
            if data:
                then(data)
            else:
                self._forget(fd)
                os.close(fd)

        self._watch(fd, readable)

    def datagrams(self, path: Path, then: Callable[[bytes], None]) -> Callable[[], None]:
        """Listen on a Unix datagram socket that anyone who reaches its directory may write to. Answers its end."""
        path.unlink(missing_ok=True)
        s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        s.bind(str(path))
        path.chmod(0o666)

        def readable() -> None:
            with contextlib.suppress(BlockingIOError):
                for _ in range(64):  # then the others get their turn
                    then(s.recv(8192))

        def close() -> None:
            self._forget(s.fileno())
            s.close()

        self._watch(s.fileno(), readable)
        return close

    def _watch(self, fd: int, call: Callable[[], None]) -> None:
        with self._lock:
            self._calls[fd] = call
            self._epoll.register(fd, select.EPOLLIN)

    def _forget(self, fd: int) -> None:
        with self._lock:
            if self._calls.pop(fd, None):
                self._epoll.unregister(fd)

    def _run(self) -> None:
        while True:
            for fd, _ in self._epoll.poll():
                with self._lock:
                    call = self._calls.get(fd)
                try:
                    if call:
                        call()
                except Exception:
                    log.exception("a watched descriptor's callback failed")


def _readable(fd: int) -> bool:
    poll = select.poll()  # select() refuses descriptors over 1023
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))

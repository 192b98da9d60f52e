"""A load of so many requests a second, from processes of its own. As a program, one of them; imported, what drives it.

Argument of the program: JSON of ``Share``. It begins at once, ends when its input does, prints JSON of ``Outcome``.
"""

import contextlib
import json
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

_TIMEOUT_S = 15.0
_TOLD = 20  # failures that are told in words


@dataclass
class Share:
    """A part of the load. Each thread asks at fixed moments, late or not, until it is a second behind."""

    name: str
    address: str
    port: int
    rate: float
    kept: bool  # on connections that stay open; else each request has its own
    threads: int
    ca: str = ""  # TLS by this authority (PEM)
    datagrams: bool = False  # UDP: a question and an answer are a datagram each
    host: str = "www.test"


@dataclass
class Outcome:
    """What became of it. ``failed``: (seconds since the start, why)."""

    name: str
    answered: int = 0
    seconds: float = 0.0
    longest_ms: float = 0.0
    failed: list[tuple[float, str]] = field(default_factory=list)
    failures: int = 0

    @property
    def rate(self) -> float:
        """Requests answered in a second."""
        return self.answered / self.seconds if self.seconds else 0.0

    def __str__(self) -> str:
        told = f"{self.name}: {self.answered} answered, {self.rate:.0f}/s, longest {self.longest_ms:.0f} ms"
        return f"{told}, {self.failures} FAILED {self.failed}" if self.failures else told


@contextmanager
def load(*shares: Share) -> Iterator[list[Outcome]]:
    """Runs them all; the outcomes are there afterwards."""
    outcomes: list[Outcome] = []
    words = [[sys.executable, str(Path(__file__)), json.dumps(asdict(s))] for s in shares]
    processes = [subprocess.Popen(w, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for w in words]
    try:
        yield outcomes
    finally:
        for process in processes:
            if process.stdin:
                process.stdin.close()
                process.stdin = None
        for process in processes:
            try:
                told = json.loads(process.communicate(timeout=120)[0])
                outcomes.append(Outcome(**{**told, "failed": [tuple(f) for f in told["failed"]]}))
            finally:
                process.kill()


class _Caller:
    """One thread's requests."""

    def __init__(self, share: Share, context: ssl.SSLContext | None) -> None:
        self._share, self._context = share, context
        self._socket: socket.socket | None = None
        self._asked = 0
        close = "" if share.kept else "Connection: close\r\n"
        self._request = f"GET / HTTP/1.1\r\nHost: {share.host}\r\n{close}\r\n".encode()

    def once(self) -> None:
        """Raises OSError when it is not answered, and answered well."""
        try:
            connection = self._socket or self._connect()
            self._socket = None
            if self._share.datagrams:
                self._ask(connection)
                return
            connection.sendall(self._request)
            if self._answer(connection) and self._share.kept:
                self._socket = connection
            else:
                connection.close()
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        if self._socket:
            self._socket.close()
            self._socket = None

    def _ask(self, connection: socket.socket) -> None:
        """Ask once more than ever before on this socket, so that a late answer is not taken for this one's."""
        self._asked += 1
        question = b"%d" % self._asked
        connection.send(question)
        answer = connection.recv(2048)
        if answer != question:
            raise ConnectionError(f"{answer!r} to {question!r}")
        if self._share.kept:
            self._socket = connection
        else:
            connection.close()

    def _connect(self) -> socket.socket:
        if self._share.datagrams:
            flow = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            flow.settimeout(_TIMEOUT_S)
            flow.connect((self._share.address, self._share.port))
            return flow
        raw = socket.create_connection((self._share.address, self._share.port), _TIMEOUT_S)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._context is None:
            return raw
        try:
            return self._context.wrap_socket(raw, server_hostname=self._share.host)
        except OSError:
            raw.close()
            raise

    @staticmethod
    def _answer(connection: socket.socket) -> bool:
        """Reads one answer; whether the connection may be used again."""
        data = b""
        while b"\r\n\r\n" not in data:
            part = connection.recv(4096)
            if not part:
                raise ConnectionError("closed before an answer" if not data else "closed within an answer")
            data += part
        head, _, body = data.partition(b"\r\n\r\n")
        lines = head.decode().lower().split("\r\n")
        if " 200 " not in lines[0] + " ":
            raise ConnectionError(lines[0])
        length = int(next(line for line in lines if line.startswith("content-length:")).partition(":")[2])
        while len(body) < length:
            part = connection.recv(4096)
            if not part:
                raise ConnectionError("closed within an answer")
            body += part
        return "connection: close" not in lines


def _run(share: Share) -> Outcome:
    outcome, lock, stop = Outcome(share.name), threading.Lock(), threading.Event()
    began = time.monotonic()
    context = None
    if share.ca:
        context = ssl.create_default_context(cadata=share.ca)

    def go(number: int) -> None:
        caller = _Caller(share, context)
        every = share.threads / share.rate
        due = began + every * number / share.threads
        while not stop.is_set():
            now = time.monotonic()
            due = max(due, now - 1.0)
            if due > now and stop.wait(due - now):
                break
            due += every
            asked = time.monotonic()
            problem = None
            try:
                caller.once()
            except OSError as e:
                problem = repr(e)
            took = time.monotonic() - asked
            with lock:
                outcome.longest_ms = max(outcome.longest_ms, 1000 * took)
                if problem is None:
                    outcome.answered += 1
                else:
                    outcome.failures += 1
                    outcome.failed = [*outcome.failed, (asked - began, problem)][:_TOLD]
        caller.close()

    threads = [threading.Thread(target=go, args=(n,)) for n in range(share.threads)]
    for thread in threads:
        thread.start()
    with contextlib.suppress(OSError):
        sys.stdin.read()
    outcome.seconds = time.monotonic() - began
    stop.set()
    for thread in threads:
        thread.join()
    return outcome


if __name__ == "__main__":
    print(json.dumps(asdict(_run(Share(**json.loads(sys.argv[1]))))))

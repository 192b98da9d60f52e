"""The HTTP server among clients that connect and never finish a request."""

import http.client
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MANY = 1300
_PROGRAM = """
import sys
from colonnade import serve
from colonnade.settings import Settings

def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]

serve.serve(app, Settings())
"""


@pytest.fixture(autouse=True)
def _many_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def port() -> Iterator[int]:
    """Where a server listens that may have 1,024 descriptors, as a program has by default."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1024)
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLONNADE_API_SOCKET": str(listener.fileno())}
        limited = ["prlimit", "--nofile=1024", "--", sys.executable, "-c", _PROGRAM]
        server = subprocess.Popen(limited, env=environment, pass_fds=[listener.fileno()])
        try:
            yield listener.getsockname()[1]
        finally:
            server.terminate()
            assert server.wait(60) == 0


def asked(connection: http.client.HTTPConnection) -> bytes:
    connection.request("GET", "/")
    return connection.getresponse().read()


def client(port: int, source: str = "127.0.0.1") -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", port, timeout=60, source_address=(source, 0))


@pytest.fixture
def half_open(port: int) -> Iterator[list[socket.socket]]:
    """More than there may be, each with half a request."""
    made = list[socket.socket]()
    yield made
    for s in made:
        s.close()


def connect(port: int, half_open: list[socket.socket], source: str) -> None:
    for _ in range(MANY):
        s = socket.create_connection(("127.0.0.1", port), 60, source_address=(source, 0))
        s.sendall(b"GET / HTTP/1.1\r\nX-Slow: ")
        half_open.append(s)


def test_half_open_connections_keep_nobody_from_an_answer(port: int, half_open: list[socket.socket]) -> None:
    assert asked(client(port)) == b"ok"
    connect(port, half_open, "127.0.0.1")
    for _ in range(3):
        assert asked(client(port)) == b"ok"


def test_they_take_no_connection_of_another_address(port: int, half_open: list[socket.socket]) -> None:
    kept = client(port, "127.0.0.3")
    assert asked(kept) == b"ok"
    connect(port, half_open, "127.0.0.2")
    own = kept.sock
    assert asked(kept) == b"ok"
    assert kept.sock is own
    newest = half_open[-1]
    newest.sendall(b"\r\n\r\n")
    assert newest.recv(100).startswith(b"HTTP/1.1 200")

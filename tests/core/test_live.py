"""The rendered file at work: a real HAProxy on loopback, and a member that remembers what it was asked."""

import http.client
import os
import queue
import socket
import subprocess
import threading
import time
import urllib.request
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from desired import tree

from colonnade.core import haproxy


@pytest.fixture
def web():
    """A member: its port, and the requests it got."""
    seen: queue.Queue = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            seen.put((self.path, self.headers))
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1], seen
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("path", ["/healthcheck", "/a?b=%20&c=%[src]", "/'\"\\$HOME${HOME}", "/#x;{}`|!"])
def test_a_health_check_asks_for_the_very_path_and_host(path, web, tmp_path):
    port, seen = web
    monitor = {"type": "HTTP", "url_path": path, "http_version": 1.1, "domain_name": "www.example.com"}
    with _serving(_tree(port, monitor=monitor), tmp_path):
        asked, headers = seen.get(timeout=60)
    assert (asked, headers["host"]) == (path, "www.example.com")


def test_a_check_of_http_1_1_without_domain_name_still_has_a_host(web, tmp_path):
    port, seen = web
    with _serving(_tree(port, monitor={"type": "HTTP", "http_version": 1.1}), tmp_path):
        assert seen.get(timeout=60)[1]["host"] == "127.0.0.1"


def test_inserted_headers_reach_the_member(web, tmp_path):
    port, seen = web
    names = ("X-Forwarded-For", "X-Forwarded-Port", "X-Forwarded-Proto")
    given = _tree(port, listener={"insert_headers": dict.fromkeys(names, "true")})
    with _serving(given, tmp_path) as front:
        urllib.request.urlopen(f"http://127.0.0.1:{front}/").read()
    headers = {k.lower(): v for k, v in seen.get(timeout=60)[1].items()}
    assert [headers[n.lower()] for n in names] == ["127.0.0.1", str(front), "http"]


def test_the_clients_address_is_told_whatever_the_client_says(web, tmp_path):
    port, seen = web
    names = ("X-Forwarded-IP", "X-Client-IP", "X-Real-IP")
    given = _tree(port, listener={"insert_headers": dict.fromkeys(names, "true")})
    with _serving(given, tmp_path) as front, socket.create_connection(("127.0.0.1", front)) as client:
        forged = "".join(f"{name}: 192.0.2.{n}\r\n" * 2 for n, name in enumerate(names))
        client.sendall(f"GET / HTTP/1.1\r\nHost: x\r\n{forged}\r\n".encode())
        client.recv(4096)
    headers = seen.get(timeout=60)[1]
    assert {n.lower(): headers.get_all(n) for n in names} == {n.lower(): ["127.0.0.1"] for n in names}


def test_source_ip_port_spreads_the_connections_of_one_client(web, tmp_path):
    port, _ = web
    members = [{"address": f"127.0.0.{n}", "protocol_port": port} for n in (1, 2, 3)]
    given = _tree(port, listener={"protocol": "TCP"}, pool={"lb_algorithm": "SOURCE_IP_PORT", "members": members})
    with _serving(given, tmp_path) as front, ExitStack() as clients:
        for _ in range(40):
            clients.enter_context(socket.create_connection(("127.0.0.1", front)))
        deadline = time.monotonic() + 60
        while sum(_totals(tmp_path)) < 40:
            assert time.monotonic() < deadline
        assert all(_totals(tmp_path))


def test_long_cookies_that_begin_alike_are_told_apart(tmp_path):
    with ExitStack() as stack:
        ports = [stack.enter_context(_giving_a_session(f"{'token' * 100}{n}")) for n in (1, 2)]
        members = [{"address": "127.0.0.1", "protocol_port": port} for port in ports]
        keeping = {"type": "APP_COOKIE", "cookie_name": "sid"}
        given = _tree(0, pool={"members": members, "session_persistence": keeping})
        front = stack.enter_context(_serving(given, tmp_path))

        def ask(cookie=""):
            connection = http.client.HTTPConnection("127.0.0.1", front, timeout=60)
            connection.request("GET", "/", headers={"Cookie": cookie})
            with connection.getresponse() as answer:
                return answer.headers["Set-Cookie"]

        cookies = {ask(), ask()}
        assert len(cookies) == 2
        assert [ask(c) for c in [*cookies] * 3] == [*cookies] * 3


@contextmanager
def _giving_a_session(value):
    """A member that gives each client this session: its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(204)
            self.send_header("Set-Cookie", f"sid={value}")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("cidrs", [["127.0.0.0/8"], ["::/0", "127.0.0.1/32"], ["0.0.0.0/0", "fd00::/8"]])
def test_a_client_of_an_allowed_network_is_served(cidrs, web, tmp_path):
    port, _ = web
    with _serving(_tree(port, listener={"allowed_cidrs": cidrs}), tmp_path) as front:
        assert urllib.request.urlopen(f"http://127.0.0.1:{front}/").read() == b"ok"


@pytest.mark.parametrize("cidrs", [["192.0.2.0/24"], ["::/0"], ["192.0.2.0/24", "::ffff:0:0/96"]])
def test_a_refused_client_gets_nothing(cidrs, web, tmp_path):
    port, _ = web
    with (
        _serving(_tree(port, listener={"allowed_cidrs": cidrs}), tmp_path) as front,
        pytest.raises(OSError, match=r"reset|closed|Broken pipe"),
    ):
        urllib.request.urlopen(f"http://127.0.0.1:{front}/")


def _tree(port, *, listener=None, pool=None, monitor=None):
    return {
        "listeners": [{"id": "web", "default_pool_id": "p1", **(listener or {})}],
        "pools": [{
            "id": "p1", "members": [{"address": "127.0.0.1", "protocol_port": port}], "monitor": monitor,
            **(pool or {}),
        }],
    }  # fmt: skip


@contextmanager
def _serving(given, place, bind=""):
    """The port on which HAProxy serves the tree; ``bind`` is put behind the port."""
    with ExitStack() as stack:
        reserved = stack.enter_context(socket.socket())
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # as HAProxy does: nobody else gets it meanwhile
        reserved.bind(("127.0.0.1", 0))
        stack.enter_context(_process(given, place, bind, reserved.getsockname()[1]))
        yield reserved.getsockname()[1]


@contextmanager
def _process(given, place, bind, port):
    given["listeners"][0]["protocol_port"] = port
    for name, content in haproxy.render(tree(given), ["127.0.0.1"], haproxy.Limits()).items():
        (place / name).write_text(content.replace(f":{port}\n", f":{port} {bind}\n"))
    (place / "state").write_text("1\n")
    paths = {"COLONNADE_SOCKET": "s.sock", "COLONNADE_STATE": "state", "COLONNADE_LOG": "log.sock"}
    env = {**os.environ, "COLONNADE_MAXCONN": "100", **{k: str(place / v) for k, v in paths.items()}}
    quiet = {"stderr": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    process = subprocess.Popen(["haproxy", "-db", "-f", "haproxy.cfg"], cwd=place, env=env, **quiet)
    try:
        deadline = time.monotonic() + 60
        while not _answers(place):
            assert process.poll() is None
            assert time.monotonic() < deadline
        yield
    finally:
        process.kill()
        process.wait()


def _totals(place) -> list[int]:
    """Connections that each member got."""
    return [int(line.split(",")[7]) for line in _ask(place, "show stat").splitlines() if ",p1-m" in line]


def _answers(place) -> bool:
    with socket.socket(socket.AF_UNIX) as s:
        return s.connect_ex(str(place / "s.sock")) == 0


def _ask(place, command: str) -> str:
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(str(place / "s.sock"))
        s.sendall(command.encode() + b"\n")
        return b"".join(iter(lambda: s.recv(65536), b"")).decode()

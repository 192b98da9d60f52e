"""Pools and limits at work: what clients and members see of persistence, PROXY headers, monitors, limits, time-outs."""

import http.client
import socket
import ssl
import threading
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pki
import pytest
from test_live import _ask, _serving

_MONITOR = {"delay": 1, "timeout": 1, "max_retries": 1, "max_retries_down": 1}


@contextmanager
def _web(name="", *, tls=None, slow_s=0.0):
    """The port of a member that answers with its name and a session of its own, and what it was asked."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            asked.append(f"{self.command} {self.path}")
            time.sleep(slow_s)
            self.send_response(200)
            self.send_header("Content-Length", str(len(name)))
            self.send_header("Set-Cookie", f"sid=of-{name}")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(name.encode())

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None  # checks hang up when they know enough
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server.server_address[1], asked
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def three():
    """Ports of three members."""
    with ExitStack() as stack:
        yield [stack.enter_context(_web(name))[0] for name in ("a", "b", "c")]


def _tree(ports, *, listener=None, monitor=None, member=None, **pool):
    members = [{"address": "127.0.0.1", "protocol_port": p, **(member or {})} for p in ports]
    return {
        "listeners": [{"id": "web", "default_pool_id": "p1", **(listener or {})}],
        "pools": [{"id": "p1", "members": members, "monitor": monitor and {**_MONITOR, **monitor}, **pool}],
    }


def _get(front, cookie=None, source="127.0.0.1"):
    """The member that answered, and the cookies that it or HAProxy set; each time on a new connection."""
    connection = http.client.HTTPConnection("127.0.0.1", front, timeout=10, source_address=(source, 0))
    try:
        connection.request("GET", "/", headers={"Cookie": cookie} if cookie else {})
        answer = connection.getresponse()
        cookies = [c.partition(";")[0] for c in answer.headers.get_all("Set-Cookie") or ()]
        return answer.read().decode(), cookies
    finally:
        connection.close()


def test_a_client_is_kept_by_a_cookie_of_ours(three, tmp_path):
    keep = {"type": "HTTP_COOKIE"}
    with _serving(_tree(three, session_persistence=keep), tmp_path) as front:
        member, cookies = _get(front)
        ours = next(c for c in cookies if not c.startswith("sid="))
        assert {_get(front, ours)[0] for _ in range(6)} == {member}
        assert {_get(front)[0] for _ in range(6)} == {"a", "b", "c"}


def test_a_client_is_kept_by_its_applications_cookie(three, tmp_path):
    keep = {"type": "APP_COOKIE", "cookie_name": "sid"}
    with _serving(_tree(three, session_persistence=keep), tmp_path) as front:
        seen = {_get(front)[0] for _ in range(3)}
        assert seen == {"a", "b", "c"}
        for name in seen:
            assert {_get(front, f"sid=of-{name}")[0] for _ in range(6)} == {name}


@pytest.mark.parametrize("how", [{"session_persistence": {"type": "SOURCE_IP"}}, {"lb_algorithm": "SOURCE_IP"}])
@pytest.mark.parametrize("protocol", ["HTTP", "TCP"])
def test_a_client_is_kept_by_its_address(how, protocol, three, tmp_path):
    with _serving(_tree(three, listener={"protocol": protocol}, protocol=protocol, **how), tmp_path) as front:
        seen = [{_get(front, source=f"127.0.0.{n}")[0] for _ in range(4)} for n in range(1, 13)]
        assert all(len(members) == 1 for members in seen)
        assert len(set().union(*seen)) > 1


def test_weights_are_shares(three, tmp_path):
    given = _tree(three)
    for member, weight in zip(given["pools"][0]["members"], (4, 2, 0), strict=True):
        member["weight"] = weight
    with _serving(given, tmp_path) as front:
        assert Counter(_get(front)[0] for _ in range(12)) == {"a": 8, "b": 4}


def test_least_connections_prefers_who_has_fewest(three, tmp_path):
    given = _tree(three, listener={"protocol": "TCP"}, protocol="TCP", lb_algorithm="LEAST_CONNECTIONS")
    with _serving(given, tmp_path) as front, ExitStack() as held:
        for n in range(1, 7):
            held.enter_context(socket.create_connection(("127.0.0.1", front)))
            _until(lambda n=n: sum(int(s["scur"]) for s in _servers(tmp_path)) == n)
        assert [s["scur"] for s in _servers(tmp_path)] == ["2", "2", "2"]


@pytest.mark.parametrize("listener", ["HTTP", "TCP", "HTTPS"])
@pytest.mark.parametrize("protocol", ["PROXY", "PROXYV2"])
def test_members_are_told_of_the_client_by_proxy(listener, protocol, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as member:
        given = _tree([member.getsockname()[1]], listener={"protocol": listener}, protocol=protocol)
        with (
            _serving(given, tmp_path) as front,
            socket.create_connection(("127.0.0.1", front), 10, source_address=("127.0.0.7", 0)) as client,
        ):
            client.sendall(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
            member.settimeout(10)
            connection, _ = member.accept()
            with connection:
                connection.settimeout(10)
                got = b""
                while b"GET /x " not in got:
                    got += connection.recv(4096)
            port = client.getsockname()[1]
    said = got.partition(b"GET /x ")[0]
    if protocol == "PROXY":
        assert said == f"PROXY TCP4 127.0.0.7 127.0.0.1 {port} {front}\r\n".encode()
    else:
        ends = socket.inet_aton("127.0.0.7") + socket.inet_aton("127.0.0.1") + port.to_bytes(2) + front.to_bytes(2)
        assert said.startswith(b"\r\n\r\n\0\r\nQUIT\n\x21\x11")
        assert said[16:28] == ends


@pytest.mark.parametrize(
    ("monitor", "secure", "up"),
    [
        ({"type": "HTTP"}, False, True),
        ({"type": "HTTP", "expected_codes": "200-204"}, False, True),
        ({"type": "HTTP", "expected_codes": "301,200"}, False, True),
        ({"type": "HTTP", "expected_codes": "204"}, False, False),
        ({"type": "HTTP", "expected_codes": "300-399"}, False, False),
        ({"type": "HTTP", "http_method": "HEAD", "url_path": "/a?b=c"}, False, True),
        ({"type": "HTTP", "http_method": "PATCH"}, False, False),
        ({"type": "HTTPS", "http_method": "HEAD", "url_path": "/tls"}, True, True),
        ({"type": "HTTPS", "expected_codes": "404"}, True, False),
        ({"type": "HTTPS"}, False, False),
        ({"type": "HTTP"}, True, False),
        ({"type": "TLS-HELLO"}, True, True),
        ({"type": "TLS-HELLO"}, False, False),
        ({"type": "TCP"}, False, True),
    ],
    ids=str,
)
def test_monitors(monitor, secure, up, tmp_path):
    with _web(tls=_certificate(tmp_path) if secure else None) as (port, asked):
        if monitor["type"].startswith("HTTP"):
            monitor = {"http_method": "GET", "url_path": "/", "expected_codes": "200", **monitor}
        with _serving(_tree([port], monitor=monitor), tmp_path):
            _until(lambda: _checked(tmp_path))
            assert [s["status"] for s in _servers(tmp_path)] == ["UP" if up else "DOWN"]
        if up and "url_path" in monitor:
            assert set(asked) == {f"{monitor['http_method']} {monitor['url_path']}"}


@pytest.mark.parametrize("where", ["monitor_port", "monitor_address"])
@pytest.mark.parametrize("up", [True, False])
def test_a_member_is_checked_where_it_says(where, up, tmp_path):
    """It serves nowhere when it is up, and where it is not asked when it is down."""
    with _web() as (alive, _), socket.create_server(("127.0.0.1", 0)) as gone:
        nobody = gone.getsockname()[1]
        gone.close()
        if where == "monitor_port":
            member = {"protocol_port": nobody if up else alive, "monitor_port": alive if up else nobody}
        else:
            serves, asked = ("127.0.0.9", "127.0.0.1") if up else ("127.0.0.1", "127.0.0.9")
            member = {"protocol_port": alive, "address": serves, "monitor_address": asked}
        with _serving(_tree([0], member=member, monitor={"type": "TCP"}), tmp_path):
            _until(lambda: _checked(tmp_path))
            assert [s["status"] for s in _servers(tmp_path)] == ["UP" if up else "DOWN"]


@pytest.mark.parametrize("protocol", ["HTTP", "TCP"])
def test_who_is_beyond_the_limit_waits_for_a_place(protocol, three, tmp_path):
    limited = {"protocol": protocol, "connection_limit": 2}
    with _serving(_tree(three, listener=limited, protocol=protocol), tmp_path) as front, ExitStack() as held:
        first, second, third = (
            held.enter_context(socket.create_connection(("127.0.0.1", front), 10)) for _ in range(3)
        )
        for client in (first, second):
            assert _answer(client)
        third.settimeout(0.5)
        with pytest.raises(TimeoutError):
            _answer(third)
        first.close()
        third.settimeout(10)
        assert third.recv(4096).startswith(b"HTTP/1.1 200")


def test_a_silent_client_is_hung_up_on(three, tmp_path):
    listener = {"protocol": "TCP", "timeout_client_data": 800, "timeout_member_data": 60000}
    with (
        _serving(_tree(three, listener=listener, protocol="TCP"), tmp_path) as front,
        socket.create_connection(("127.0.0.1", front), 10) as client,
    ):
        assert _answer(client)
        while client.recv(4096):
            pass


def test_a_silent_member_is_not_waited_for(tmp_path):
    with (
        _web(slow_s=2) as (port, _),
        _serving(_tree([port], listener={"timeout_member_data": 300}), tmp_path) as front,
        socket.create_connection(("127.0.0.1", front), 10) as client,
    ):
        assert _answer(client).startswith(b"HTTP/1.1 504")


def test_a_member_that_takes_no_connection_is_not_waited_for(tmp_path):
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, ExitStack() as held:
        port = full.getsockname()[1]
        for _ in range(4):  # whose handshakes fill the queue: the next one is not answered
            waiting = held.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        with (
            _serving(_tree([port], listener={"timeout_member_connect": 100}), tmp_path) as front,
            socket.create_connection(("127.0.0.1", front), 4) as client,  # the default would take four times 5 s
        ):
            assert _answer(client).startswith(b"HTTP/1.1 503")


def _answer(client):
    client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    return client.recv(4096)


def _certificate(place):
    issued = pki.authority().issue("member.example")
    (place / "member.pem").write_bytes(issued.bundle_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(place / "member.pem")
    return context


def _servers(place):
    """What HAProxy tells of each member."""
    names, *rows = _ask(place, "show stat").lstrip("# ").splitlines()
    found = [dict(zip(names.split(","), row.split(","), strict=False)) for row in rows]
    return [s for s in found if s.get("svname", "").startswith("p1-m")]


def _checked(place):
    """Whether each member was checked. A star says that the next check is under way; SOCKERR is a result, too: of a
    member that resets the connection."""
    return all(s["check_status"].removeprefix("* ") not in ("", "INI", "UNK") for s in _servers(place))


def _until(fine):
    deadline = time.monotonic() + 60
    while not fine():
        assert time.monotonic() < deadline
        time.sleep(0.02)

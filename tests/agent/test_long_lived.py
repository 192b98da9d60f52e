"""Connections that live long: websockets, HTTP/2, streams as gRPC has them."""

import base64
import hashlib
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from typing import Any

import h2.events
import pytest
from http2 import Client
from rig import Rig, eventually

from colonnade.core import certificates, haproxy
from colonnade.model import L7Policy, L7Rule, Listener, LoadBalancer, Material, Member, Pool, Tree
from colonnade.types import (
    Algorithm,
    AlpnProtocol,
    L7Action,
    L7CompareType,
    L7RuleType,
    ListenerProtocol,
    PoolProtocol,
)  # fmt: skip
from tests import pki

CA = pki.authority()
COMMON: dict[str, Any] = {"project_id": "p", "created_at": datetime(2026, 1, 1), "loadbalancer_id": "lb"}
SHORT_MS = 1000
SHORT = {"timeout_client_data": SHORT_MS, "timeout_member_data": SHORT_MS}  # of listeners that are silent
HARD_STOP_S = 5
H2 = (AlpnProtocol.H2, AlpnProtocol.HTTP_1_1)


class Site:
    """A listener, its pool p1 of member m1, and a policy for /nothing."""

    def __init__(self, rig: Rig, **listener: Any) -> None:
        self.rig, self.vip = rig, rig.address()
        self.listener = Listener(
            **{
                "id": "web", "protocol": ListenerProtocol.HTTP, "protocol_port": 80, "default_pool_id": "p1",
                **COMMON, **listener,
            }
        )  # fmt: skip
        self.pool = Pool(id="p1", protocol=PoolProtocol.HTTP, lb_algorithm=Algorithm.ROUND_ROBIN, **COMMON)
        self.members: tuple[Member, ...] = (self.member("m1", f"{rig.net}.0.10", 80),)
        policy = L7Policy(id="l1", listener_id="web", action=L7Action.REJECT, position=1, **COMMON)
        self.policies: tuple[L7Policy, ...] = (policy,)
        self.bundle = rig.bundle(rig.amphora(), self.vip, None)

    @staticmethod
    def member(name: str, address: str, port: int) -> Member:
        return Member(id=name, pool_id="p1", address=address, protocol_port=port, **COMMON)

    def push(self) -> int:
        """The newest process that serves."""
        balancer = LoadBalancer(id="lb", vip_address=self.vip, project_id="p", created_at=COMMON["created_at"])
        rule = {"type": L7RuleType.PATH, "compare_type": L7CompareType.EQUAL_TO, "value": "/nothing"}
        tree = Tree(
            load_balancer=balancer, listeners=(self.listener,), pools=(self.pool,), members=self.members,
            l7policies=self.policies, l7rules=(L7Rule(id="r1", l7policy_id="l1", **rule, **COMMON),),
        )  # fmt: skip
        issued = Material(ref="cert", project_id="p", payloads={"": CA.issue("x.test", "x.test").p12()})
        gathered = certificates.gather(tree, {"cert": issued}, ())
        files = haproxy.render(gathered.tree, [self.vip], haproxy.Limits(hard_stop_after_s=HARD_STOP_S))
        self.bundle = replace(self.bundle, files={**files, **gathered.files})
        self.rig.push(self.bundle)
        info = self.rig.ask(self.bundle.amphora_id, "show info")
        return int(dict(line.split(": ", 1) for line in info.split("\n") if ": " in line)["Pid"])

    def secure(self, alpn: str) -> ssl.SSLSocket:
        context = ssl.create_default_context(cadata=CA.pem.decode())
        context.set_alpn_protocols([alpn])
        return context.wrap_socket(socket.create_connection((self.vip, 443), 30), server_hostname="x.test")


def _tls(**fields: Any) -> dict[str, Any]:
    return {"protocol": ListenerProtocol.TERMINATED_HTTPS, "protocol_port": 443, "default_tls_container_ref": "cert",
            "alpn_protocols": H2, **fields}  # fmt: skip


def _websocket(connection: socket.socket) -> Callable[[], None]:
    """Shake hands. What is answered checks that a message is echoed."""
    key = base64.b64encode(os.urandom(16)).decode()
    connection.sendall(
        f"GET /chat HTTP/1.1\r\nHost: x.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += connection.recv(1)
    assert head.startswith(b"HTTP/1.1 101 ")
    text = f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()
    accept = base64.b64encode(hashlib.sha1(text, usedforsecurity=False).digest())
    assert b"sec-websocket-accept: " + accept.lower() in head.lower()

    def echoed() -> None:
        frame = b"\x82\x84\x00\x00\x00\x00" + os.urandom(4)  # four bytes, masked by nothing
        connection.sendall(frame)
        assert connection.recv(len(frame), socket.MSG_WAITALL if type(connection) is socket.socket else 0) == frame

    echoed()
    return echoed


def _wait(seconds: float) -> None:
    """Being silent is what is tested."""
    threading.Event().wait(seconds)


def test_a_silent_websocket_outlives_the_time_outs(rig: Rig) -> None:
    site = Site(rig, **SHORT)
    site.push()
    with socket.create_connection((site.vip, 80), 30) as connection:
        echoed = _websocket(connection)
        _wait(1.7 * SHORT_MS / 1000)
        echoed()
    with socket.create_connection((site.vip, 80), 30) as silent:  # whoever only connects does not
        answer = b"".join(iter(lambda: silent.recv(4096), b""))
        assert answer == b"" or answer.startswith(b"HTTP/1.1 408 ")


def test_a_websocket_over_tls_outlives_the_time_outs(rig: Rig) -> None:
    site = Site(rig, **_tls(**SHORT))
    site.push()
    with site.secure("http/1.1") as connection:
        echoed = _websocket(connection)
        _wait(1.7 * SHORT_MS / 1000)
        echoed()


def test_a_websocket_survives_changes_at_run_time(rig: Rig) -> None:
    site = Site(rig, **SHORT)
    pid = site.push()
    with socket.create_connection((site.vip, 80), 30) as connection:
        echoed = _websocket(connection)
        site.policies = (replace(site.policies[0], admin_state_up=False),)
        assert site.push() == pid
        echoed()
        for members in ((replace(site.members[0], weight=0),), (site.member("m2", f"{rig.net}.0.11", 80),)):
            site.members = members
            assert site.push() == pid
            echoed()
        _wait(1.7 * SHORT_MS / 1000)
        echoed()


def test_a_websocket_survives_a_reload_until_the_hard_stop(rig: Rig) -> None:
    site = Site(rig)
    pid = site.push()
    with socket.create_connection((site.vip, 80), 30) as connection:
        echoed = _websocket(connection)
        site.pool = replace(site.pool, lb_algorithm=Algorithm.LEAST_CONNECTIONS)
        began = time.monotonic()
        assert site.push() != pid
        while time.monotonic() < began + HARD_STOP_S - 3:
            echoed()
            _wait(0.2)
        connection.settimeout(45)  # a tunnel's own time-out is an hour
        assert connection.recv(1) == b""
        assert time.monotonic() > began + HARD_STOP_S


# --- HTTP/2 ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def streaming(host: Rig) -> str:
    """The address of a member that speaks nothing but HTTP/2 over TLS."""
    certificate = host.state / "http2.pem"
    certificate.write_bytes(CA.issue("x.test", "x.test").bundle_pem)
    address = f"{host.net}.0.14"
    host.member("h2", host.front, f"{address}/24", port=443, secure=(certificate,), program="http2.py")
    return address


@pytest.fixture
def site(rig: Rig, streaming: str) -> Site:
    return _streams(rig, streaming)


def _streams(rig: Rig, streaming: str, **listener: Any) -> Site:
    """HTTP/2 from the client to the member."""
    made = Site(rig, **_tls(**listener))
    made.members = (made.member("h2", streaming, 443),)
    made.pool = replace(made.pool, tls_enabled=True, alpn_protocols=(AlpnProtocol.H2,))
    made.push()
    return made


@pytest.fixture
def client(site: Site) -> Iterator[Client]:
    with closing(Client(site.secure("h2"))) as made:
        yield made


def _talk(client: Client, stream: int, data: bytes) -> None:
    """Say something, and hear it."""
    goal = client.body(stream) + data
    client.say(stream, data)
    client.until(lambda: client.body(stream) == goal)


def _end(client: Client, stream: int, parts: int) -> None:
    client.end(stream, [("x-told", "all")])
    client.until(lambda: client.ended(stream))
    assert client.headers(stream, h2.events.TrailersReceived) == {
        "grpc-status": "0", "x-parts": str(parts), "x-told": "all",
    }  # fmt: skip


def test_http_2_end_to_end_streams_both_ways_with_trailers(client: Client) -> None:
    """Each message is answered before the next one is sent: nothing is held back. Trailers pass in both directions."""
    first, second = client.open("/a.Service/Chat"), client.open("/a.Service/Chat")
    for n in range(5):
        _talk(client, first, b"one %d" % n)
        _talk(client, second, b"two %d" % n)
    assert client.headers(first)["content-type"] == "application/grpc"
    assert client.headers(first)["x-member"] == "h2"
    _end(client, second, 5)
    _end(client, first, 5)


def test_a_stream_that_talks_may_last_longer_than_the_time_outs(rig: Rig, streaming: str) -> None:
    with closing(Client(_streams(rig, streaming, **SHORT).secure("h2"))) as client:
        stream = client.open("/a.Service/Chat")
        for _ in range(9):
            _talk(client, stream, b"still here")
            _wait(SHORT_MS / 5000)
        _end(client, stream, 9)


def test_large_messages_pass(client: Client) -> None:
    stream = client.open("/a.Service/Chat")
    for _ in range(20):
        _talk(client, stream, os.urandom(16000))
    client.end(stream, [("x-told", "all")])
    client.until(lambda: client.ended(stream))
    assert len(client.body(stream)) == 320000


def test_a_stream_survives_changes_at_run_time_and_a_reload(site: Site, client: Client) -> None:
    stream = client.open("/a.Service/Chat")
    _talk(client, stream, b"one")
    pid = site.push()
    site.policies = (replace(site.policies[0], admin_state_up=False),)
    assert site.push() == pid
    _talk(client, stream, b"two")
    site.members = (replace(site.members[0], weight=7),)
    assert site.push() == pid
    _talk(client, stream, b"three")
    site.pool = replace(site.pool, lb_algorithm=Algorithm.LEAST_CONNECTIONS)
    assert site.push() != pid
    _talk(client, stream, b"four")
    _end(client, stream, 4)


def test_reloads_fail_no_request_of_a_kept_http_2_connection(site: Site) -> None:
    """A client that is told that the connection goes away makes the next request on another one."""
    failures: list[str] = []
    answered = moved = 0
    stop = threading.Event()

    def ask() -> None:
        nonlocal answered, moved
        client = Client(site.secure("h2"))
        while not stop.wait(0.003):
            try:
                if client.going_away:
                    client.close()
                    client = Client(site.secure("h2"))
                    moved += 1
                client.get()
                answered += 1
            except OSError as e:
                failures.append(repr(e))
                client.close()
                client = Client(site.secure("h2"))
        client.close()

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for n in range(10):
        site.pool = replace(site.pool, lb_algorithm=list(Algorithm)[n % 2])
        site.push()
        goal = answered + 20
        eventually(lambda goal=goal: answered >= goal)
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert moved >= 10

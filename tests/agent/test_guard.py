"""What reaches VIPs and how fast, seen on the wire; and requests that the agent does not take."""

import contextlib
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import datagrams
import pytest
from rig import Rig, config, eventually, get

from colonnade import wire
from colonnade.agent import bodies, guard, namespaces
from colonnade.agent.processes import end_processes
from colonnade.errors import Broken
from colonnade.wire import Admission, Limit, Traffic

TCP, UDP, ICMP, ICMP6 = 6, 17, 1, 58
OPEN = Traffic()
NOBODY = Traffic(admitted=())
WEB = Traffic(admitted=tuple(Admission(version=v, protocol=TCP, first=80, last=80) for v in (4, 6)))


class Lb:
    """An amphora with a VIP of each IP version."""

    def __init__(self, rig: Rig, traffic: Traffic = OPEN) -> None:
        self.rig = rig
        self.four = rig.address()
        self.six = f"{rig.net6}:{self.four.rpartition('.')[2]}:1"
        servers = {"s0": f"{rig.net}.0.10:80 check inter 200ms"}
        text = config(self.four, f"[{self.six}]", servers=servers)
        self.bundle = rig.bundle(rig.amphora(), self.four, text, vips=(f"{self.six}/128",))
        self.admit(traffic)

    def admit(self, traffic: Traffic) -> None:
        self.bundle = replace(self.bundle, traffic=traffic)
        self.rig.push(self.bundle)

    def answers(self, *versions: int) -> bool:
        """Whether it answers in these IP versions and in no other. Who should answer may take its time; who should
        not would do so at once, for it is the kernel that takes connections."""

        def right(version: int) -> bool:
            vip = {4: self.four, 6: self.six}[version]
            if version in versions:
                return bool(get(vip))
            with pytest.raises(TimeoutError):
                socket.create_connection((vip, 80), 0.4)
            return True

        with ThreadPoolExecutor(2) as both:  # most of it is waiting for who does not answer
            return all(both.map(right, (4, 6)))

    @property
    def tables(self) -> str:
        return self.run("nft", "list", "tables")

    def run(self, *words: str) -> str:
        name = self.rig.here.namespace(self.bundle.amphora_id)
        done = subprocess.run(["nsenter", f"--net={namespaces.path(name)}", *words], capture_output=True, text=True,
                              check=True)  # fmt: skip
        return done.stdout

    def pings(self, vip: str, seconds: int = 1) -> bool:
        words = ["ping", "-n", "-q", "-c", "1", "-W", str(seconds), vip]
        return subprocess.run(words, capture_output=True, check=False).returncode == 0


def test_only_what_is_admitted_reaches_the_vips(rig: Rig) -> None:
    lb = Lb(rig, WEB)
    assert lb.answers(4, 6)
    assert not lb.pings(lb.four)
    lb.admit(NOBODY)
    assert lb.answers()
    lb.admit(Traffic(admitted=(WEB.admitted or ())[1:]))
    assert lb.answers(6)
    lb.admit(Traffic(admitted=(Admission(version=4, protocol=ICMP, first=8),)))
    assert lb.answers()
    assert lb.pings(lb.four, 20)
    assert not lb.pings(lb.six)


def test_ports_protocols_and_sources_are_told_apart(rig: Rig) -> None:
    lb = Lb(rig)
    me, me6 = (str(a.ip) for a in rig.here.host_addresses)
    cases: list[tuple[Admission, tuple[int, ...]]] = [
        (Admission(version=4), (4,)),
        (Admission(version=6, protocol=TCP), (6,)),
        (Admission(version=4, protocol=TCP, first=79, last=81), (4,)),
        (Admission(version=4, protocol=TCP, first=81, last=90), ()),
        (Admission(version=4, protocol=UDP, first=80, last=80), ()),
        (Admission(version=4, source=f"{me}/32"), (4,)),
        (Admission(version=4, source="203.0.113.0/24"), ()),
        (Admission(version=6, source=f"{me6}/128", protocol=TCP, first=80, last=80), (6,)),
        (Admission(version=6, source="2001:db8::/32"), ()),
        (Admission(version=4, protocol=47), ()),
    ]
    for admitted, answering in cases:
        lb.admit(Traffic(admitted=(admitted,)))
        assert lb.answers(*answering), admitted


def test_health_checks_and_neighbours_do_not_need_a_rule(rig: Rig) -> None:
    lb = Lb(rig, NOBODY)
    for host in (f"{rig.here.prefix}fabric", None):
        with namespaces.inside(host):
            subprocess.run(["ip", "neigh", "flush", "all"], check=False, capture_output=True)
    rig.drain_beats()
    beat = rig.beat(lb.bundle.amphora_id, lambda b: b.members["pool:listener"]["s0"].check == "L4OK")
    assert beat.pools == {"pool:listener": "UP"}
    lb.admit(WEB)
    assert lb.answers(4, 6)


def test_a_flow_that_becomes_forbidden_ends(rig: Rig) -> None:
    lb = Lb(rig, WEB)
    with socket.create_connection((lb.four, 80), 20) as flow:
        request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
        flow.sendall(request)
        assert b"m1" in flow.recv(4096)
        lb.admit(NOBODY)
        flow.settimeout(0.5)
        flow.sendall(request)
        with pytest.raises(TimeoutError):
            flow.recv(4096)
        lb.admit(WEB)
        flow.settimeout(60)  # it tries again ever more seldom
        assert b"m1" in flow.recv(4096)


def test_the_guard_outlives_the_agent_and_the_namespace(rig: Rig) -> None:
    lb = Lb(rig, Traffic(admitted=(WEB.admitted or ())[:1]))
    rig.stop(signal.SIGKILL)
    assert lb.answers(4)
    rig.start()
    assert lb.answers(4)
    rig.stop(signal.SIGKILL)  # and now a reboot: nothing of the kernel's is left
    name = rig.here.namespace(lb.bundle.amphora_id)
    end_processes(lambda: rig.processes(lb.bundle.amphora_id))
    namespaces.remove(name)
    rig.start()
    eventually(lambda: lb.answers(4))


def test_nothing_is_left_when_it_is_cleared(rig: Rig) -> None:
    lb = Lb(rig)
    assert lb.tables == ""
    lb.admit(replace(WEB, egress=Limit(kilobits=1000, burst_kilobits=0)))
    assert "colonnade_guard" in lb.tables
    assert "htb" in lb.run("tc", "qdisc", "show")
    lb.admit(WEB)
    assert "htb" not in lb.run("tc", "qdisc", "show")
    lb.admit(Traffic())
    assert lb.tables == ""
    lb.admit(WEB)
    rig.stop(signal.SIGKILL)
    rig.start()
    lb.admit(Traffic())
    assert lb.tables == ""


def test_a_refused_bundle_leaves_the_guard_as_it_was(rig: Rig) -> None:
    lb = Lb(rig, WEB)
    bad = replace(lb.bundle, traffic=NOBODY, files={"haproxy.cfg": "nonsense\n"})
    with pytest.raises(Broken):
        rig.push(bad)
    assert lb.answers(4, 6)


class Peer:
    """A server beside the host's uplink: sends so many bytes to whoever connects, or takes what comes."""

    def __init__(self, address: str, size: int) -> None:
        self.size = size
        self.listening = socket.create_server((address, 0))
        self.port = self.listening.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listening.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            wish = connection.recv(1)
            if wish == b"d":
                connection.sendall(b"x" * self.size)
            elif wish == b"u":
                left = self.size
                while left > 0 and (data := connection.recv(min(left, 1 << 16))):
                    left -= len(data)
                connection.sendall(b"done")


@contextlib.contextmanager
def transfers(rig: Rig, size: int) -> Iterator[tuple[Lb, Callable[[bytes], float]]]:
    """A load balancer before a Peer, and a transfer through it: "d"own or "u"p, answering its seconds."""
    peer = Peer(str(rig.here.host_addresses[0].ip), size)
    lb = Lb(rig)
    server = f"{rig.here.host_addresses[0].ip}:{peer.port} check inter 100ms fall 1"
    text = config(lb.four, servers={"peer": server}, extra="    timeout check 300ms\n")
    text = text.replace("mode http", "mode tcp").replace("option idle-close-on-response", "option tcplog")
    lb.bundle = replace(lb.bundle, files={"haproxy.cfg": text})
    lb.admit(Traffic())

    def transfer(way: bytes) -> float:
        with socket.create_connection((lb.four, 80), 20) as s:
            s.settimeout(60)
            began = time.monotonic()
            s.sendall(way + (b"x" * size if way == b"u" else b""))
            got = 0
            while got < (size if way == b"d" else 4):
                data = s.recv(1 << 16)
                if not data:
                    raise ConnectionError("a check was late, and nobody serves for a moment")
                got += len(data)
            return time.monotonic() - began

    try:
        yield lb, transfer
    finally:
        peer.listening.close()


def quick(transfer: Callable[[bytes], float], way: bytes) -> None:
    """At full speed a transfer takes a tenth of this; on a busy machine not each time. A limited one never does."""
    eventually(lambda: transfer(way) < 0.9)


def slow(transfer: Callable[[bytes], float], way: bytes, most: float) -> bool:
    """Whether it takes no longer than it has to; it never takes less."""
    took = transfer(way)
    assert took > 1.0
    return took < most


def falls(lb: Lb) -> int:
    """How many times a check has found the server down."""
    head, *rows = [line.split(",") for line in lb.rig.ask(lb.bundle.amphora_id, "show stat").splitlines()]
    (row,) = [r for r in rows if r[1:2] == ["peer"]]
    return int(row[head.index("chkdown")])


def test_what_leaves_the_vip_is_as_slow_as_it_should_be(rig: Rig) -> None:
    with transfers(rig, 1_500_000) as (lb, transfer):
        quick(transfer, b"d")
        lb.admit(Traffic(egress=Limit(kilobits=8000, burst_kilobits=800)))  # a megabyte a second

        def unharmed() -> bool:
            """Checks do not queue behind answers."""
            before = falls(lb)
            return slow(transfer, b"d", 6) and falls(lb) == before

        eventually(unharmed)
        quick(transfer, b"u")  # the other way is as before
        lb.admit(Traffic(egress=Limit(kilobits=80_000, burst_kilobits=800)))
        quick(transfer, b"d")
        lb.admit(Traffic())
        quick(transfer, b"d")


def test_what_comes_in_is_as_slow_as_it_should_be(rig: Rig) -> None:
    with transfers(rig, 2_500_000) as (lb, transfer):  # a second's worth comes in at once
        quick(transfer, b"u")
        lb.admit(Traffic(ingress=Limit(kilobits=8000, burst_kilobits=0)))
        eventually(lambda: slow(transfer, b"u", 15))
        quick(transfer, b"d")
        lb.admit(replace(WEB, ingress=Limit(kilobits=8000, burst_kilobits=0)))
        eventually(lambda: slow(transfer, b"u", 15))
        lb.admit(Traffic())
        quick(transfer, b"u")


def test_datagrams_are_judged_by_the_vip_that_they_were_sent_to(rig: Rig, servers: datagrams.Servers) -> None:
    amphora, both = rig.amphora(), datagrams.vips(rig)
    to = datagrams.pool(datagrams.member(servers, "u1"))  # IPv4: what comes by IPv6 goes through the relay
    want = datagrams.Datagrams(vips=both, listeners=(datagrams.listener(to),), pools=(to,))
    made = datagrams.bundle(rig, amphora, want)

    def admit(*admitted: Admission, **limits: Limit) -> None:
        rig.push(replace(made, traffic=Traffic(admitted=admitted, **limits)))

    dns = [Admission(version=v, protocol=UDP, first=53, last=53) for v in (4, 6)]
    admit(*dns, egress=Limit(kilobits=8000, burst_kilobits=0))
    assert [datagrams.ask(v) for v in both] == ["u1", "u1"]
    flow = datagrams.Client(both[0])
    assert flow.ask()[0] == "u1"
    admit(dns[1])
    flow.socket.settimeout(1)
    for refused in (flow.ask, lambda: datagrams.ask(both[0], patience=1)):
        with pytest.raises(TimeoutError):
            refused()
    assert datagrams.ask(both[1]) == "u1"
    admit(Admission(version=4, protocol=UDP, first=54, last=54))
    with pytest.raises(TimeoutError):
        datagrams.ask(both[1], patience=1)
    admit(*dns, egress=Limit(kilobits=8000, burst_kilobits=0))
    large = datagrams.Client(both[0])
    large.socket.send(b"x" * 5000 + b" 1")  # in fragments, there and back
    assert len(large.socket.recv(65536)) > 5000
    assert _queued(rig, amphora) > 5000


def _queued(rig: Rig, amphora: str) -> int:
    """Bytes that left through the queue."""
    words = ["nsenter", f"--net={namespaces.path(rig.here.namespace(amphora))}"]
    links = subprocess.run([*words, "ip", "-o", "link"], capture_output=True, text=True, check=True).stdout.split()
    front = next(w.partition("@")[0] for w in links if w.startswith("p") and "@" in w)
    shown = subprocess.run(
        [*words, "tc", "-s", "class", "show", "dev", front], capture_output=True, text=True, check=True
    )
    return int(shown.stdout.split("Sent ")[1].split()[0])


@pytest.mark.parametrize("kilobits", [1, 64, 1_000_000, 100_000_000])
@pytest.mark.parametrize("burst", [0, 1, 100_000_000])
def test_the_kernel_takes_every_limit(rig: Rig, kilobits: int, burst: int) -> None:
    limit = Limit(kilobits=kilobits, burst_kilobits=burst)
    lb = Lb(rig, Traffic(ingress=limit, egress=limit))
    assert "colonnade_guard" in lb.tables
    (front,) = [w.partition("@")[0] for w in lb.run("ip", "-o", "link").split() if w.startswith("p") and "@" in w]
    shown = lb.run("tc", "class", "show", "dev", front)
    assert "class htb 1:10" in shown
    if kilobits > 1000:
        assert lb.answers(4, 6)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"admitted": [{"version": 5}]}, "version is 4 or 6"),
    ({"admitted": [{"version": True}]}, "version"),
    ({"admitted": [{"version": 4, "source": "fd00::/8"}]}, "IP version 4"),
    ({"admitted": [{"version": 4, "source": "10.0.0.0/8 accept"}]}, "10.0.0.0/8 accept"),
    ({"admitted": [{"version": 4, "source": "10.0.0.1/8"}]}, "10.0.0.1/8"),
    ({"admitted": [{"version": 6, "source": "fe80::%x/64"}]}, "fe80"),
    ({"admitted": [{"version": 4, "protocol": "tcp"}]}, "protocol"),
    ({"admitted": [{"version": 4, "protocol": 256}]}, "protocol"),
    ({"admitted": [{"version": 4, "protocol": 47, "first": 1, "last": 2}]}, "has no ports"),
    ({"admitted": [{"version": 4, "first": 1, "last": 2}]}, "ports go with a protocol"),
    ({"admitted": [{"version": 4, "protocol": 6, "first": 2, "last": 1}]}, "last"),
    ({"admitted": [{"version": 4, "protocol": 6, "first": 2}]}, "last"),
    ({"admitted": [{"version": 4, "protocol": 6, "last": 2}]}, "last goes with first"),
    ({"admitted": [{"version": 4, "protocol": 1, "first": 256}]}, "first"),
    ({"admitted": [{"version": 4, "colour": 1}]}, "not a bundle"),
    ({"admitted": 7}, "not a bundle"),
    ({"ingress": {"kilobits": 0, "burst_kilobits": 0}}, "kilobits"),
    ({"egress": {"kilobits": "1; drop", "burst_kilobits": 0}}, "kilobits"),
    ({"egress": {"kilobits": 1}}, "not a bundle"),
]  # fmt: skip


@pytest.mark.parametrize(("traffic", "why"), BAD, ids=str)
def test_traffic_that_the_agent_does_not_take(traffic: dict[str, Any], why: str) -> None:
    amphora = "00000000-0000-4000-8000-000000000001"
    bundle = wire.Bundle(amphora_id=amphora, loadbalancer_id=amphora, serving=True, interfaces=(), files={},
                         heartbeat_targets=())  # fmt: skip
    with pytest.raises(ValueError, match=why):
        bodies.bundle({**wire.to_json(bundle), "traffic": traffic}, amphora)
    assert bodies.bundle(wire.to_json(replace(bundle, traffic=WEB)), amphora).traffic == WEB


def test_the_tables_text() -> None:
    assert guard.table(["10.0.0.1"], Traffic()) == "table inet colonnade_guard\ndelete table inet colonnade_guard\n"
    slow = replace(NOBODY, ingress=Limit(kilobits=800, burst_kilobits=0))
    assert "limit rate over 100000 bytes/second burst 31072 bytes drop" in guard.table([], slow)
    text = guard.table(["10.0.0.1", "fd00::1"], replace(NOBODY, ingress=Limit(kilobits=80_000, burst_kilobits=8000)))
    assert "elements = { 10.0.0.1 }" in text
    assert "elements = { fd00::1 }" in text
    assert "limit rate over 10000000 bytes/second drop" in text
    assert "meta priority" not in text

"""Health checks of UDP members: every kind over the wire, and members that mean harm."""

import itertools
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from datagrams import Datagrams, Listener, Monitor, Pool, Servers, ask, bundle, listener, member, pool, vips
from rig import Rig, eventually

from colonnade import wire
from colonnade.agent import namespaces, probes
from colonnade.agent.checks import Checks, Group, Health, Target, heard
from colonnade.agent.probes import Outcome, Probe, Sctp, crc32c, packet, read_packet

UP, DOWN, NONE = Outcome(True, "L4OK"), Outcome(False, "L4CON"), Outcome(None, "SOCKERR")
REQUEST = "GET /health HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"
TCP = Monitor(kind="TCP", delay=1, timeout=1, rise=1, fall=1)
HTTP = replace(TCP, kind="HTTP", request=REQUEST, codes=((200, 200), (204, 206)))


@pytest.mark.parametrize(
    ("outcomes", "states"),
    [
        ("+", "U"), ("-", "D"), ("++-", "UUU"), ("+--", "UUU"), ("+---", "UUUD"), ("+--+--", "UUUUUU"),
        ("--", "DD"), ("-+", "DD"), ("-++", "DDU"), ("-+-+", "DDDD"), ("0", "U"), ("0-", "UD"), ("+-0--", "UUUUD"),
        ("+---++", "UUUDDU"),
    ],
)  # fmt: skip
def test_the_first_result_counts_at_once_and_then_enough_in_a_row(outcomes: str, states: str) -> None:
    health, monitor, seen = Health(), replace(TCP, rise=2, fall=3), ""
    for outcome in outcomes:
        health = heard(health, {"+": UP, "-": DOWN, "0": NONE}[outcome], monitor)
        seen += "U" if health.up else "D"
    assert seen == states


def test_a_group_of_few_is_checked_beside_one_of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []

    class Quick(Probe):
        def begin(self) -> Outcome:
            begun.append(self.address)
            return UP

    monkeypatch.setitem(probes.PROBES, "QUICK", Quick)
    monitor = Monitor(kind="QUICK", delay=60, timeout=1, rise=1, fall=1)

    def targets(address: str, n: int) -> dict[tuple[str, str], Target]:
        return {(address, str(port)): Target(address=address, port=port, monitor=monitor) for port in range(1, n + 1)}

    some, go_on, checks = threading.Event(), threading.Event(), Checks()

    def changed() -> None:  # in the checks' thread, after the first of many
        some.set()
        go_on.wait(60)

    many, few = Group(cast(Any, None), changed), Group(cast(Any, None), lambda: None)
    checks.watch(many, targets("10.0.0.1", 2000))
    assert some.wait(60)
    before = len(begun)
    assert before < 200
    checks.watch(few, targets("10.0.0.2", 3))
    go_on.set()
    eventually(lambda: len(begun) == 2003)
    assert sorted(n for n, address in enumerate(begun[before:]) if address == "10.0.0.2")[-1] < 10


def test_sctp_checksums_are_those_of_the_standard() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    made = packet(1, 2, 3, b"\x01\x00\x00\x05x")
    assert read_packet(made) == (1, 2, 3, 1, b"x")
    assert read_packet(made[:-1] + b"y") is None
    assert read_packet(b"") is None


class Flood:
    """A socket on which packets never end."""

    def __init__(self, *packets: bytes) -> None:
        self.packets = itertools.cycle(packets)

    def recv(self, size: int) -> bytes:
        return (bytes([0x45]) + bytes(19) + next(self.packets))[:size]

    def close(self) -> None: ...


def test_a_flood_of_sctp_packets_has_few_checksums_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """One costs 0.4 ms of the thread that checks everybody's members."""
    counted = []
    monkeypatch.setattr(probes, "crc32c", lambda data: counted.append(data) or 1)
    probe = Sctp("10.0.0.1", 5000, TCP)
    probe._ours, probe._tag, probe._read = 50000, 7, 0
    probe.socket = cast(Any, Flood(packet(5000, 50001, 7, b"x" * 1500), packet(6000, 50000, 7, b"x" * 1500)))
    counted.clear()
    assert [probe.ready() for _ in range(100)] == [None] * 100
    assert counted == []
    probe.socket = cast(Any, Flood(struct.pack(">HHII", 5000, 50000, 7, 0) + b"x" * 1500))
    found = next(f for f in (probe.ready() for _ in range(100)) if f)
    assert (found.well, found.code) == (False, "L4CON")
    assert len(counted) <= 40


class Watched:
    """An amphora with a pool under watch."""

    def __init__(self, rig: Rig, made: Pool) -> None:
        self.rig, self.amphora, self.vips, self.pool = rig, rig.amphora(), vips(rig)[:1], made
        self.front: Listener = listener(made)
        self.push()

    def push(self, **changes: object) -> None:
        self.pool = replace(self.pool, **changes)  # type: ignore[arg-type]
        want = Datagrams(vips=self.vips, listeners=(self.front,), pools=(self.pool,))
        self.rig.push(bundle(self.rig, self.amphora, want))

    def states(self, status: str, check: str) -> wire.MemberState:
        """The first member's state, once it is this one."""
        key, first = f"{self.pool.id}:{self.front.id}", self.pool.members[0].id

        def fits(beat: wire.Heartbeat) -> bool:
            state = beat.members.get(key, {}).get(first)
            return state is not None and (state.status, state.check) == (status, check)

        return self.rig.beat(self.amphora, fits).members[key][first]


@pytest.fixture
def elsewhere(rig: Rig) -> str:
    """Where the web server m1 is: whose health stands for u1's."""
    return f"{rig.net}.0.10"


def test_a_tcp_monitor(rig: Rig, servers: Servers, elsewhere: str) -> None:
    there = member(servers, "u1", monitor_address=elsewhere, monitor_port=80)
    watched = Watched(rig, pool(there, monitor=TCP))
    watched.states("UP", "L4OK")
    watched.push(members=(replace(there, monitor_port=81),))
    assert watched.states("DOWN", "L4CON").text == "Connection refused"
    watched.push(members=(replace(there, monitor_address=f"{rig.net}.0.99"),))
    watched.states("DOWN", "L4TOUT")


def test_a_tcp_monitor_over_ipv6(rig: Rig, servers: Servers) -> None:
    there = member(servers, "u1", monitor_address=f"{rig.net6}:a", monitor_port=80)
    watched = Watched(rig, pool(there, monitor=TCP))
    watched.states("UP", "L4OK")
    assert ask(watched.vips[0]) == "u1"


def test_an_http_monitor(rig: Rig, servers: Servers, elsewhere: str) -> None:
    watched = Watched(rig, pool(member(servers, "u1", monitor_address=elsewhere, monitor_port=80), monitor=HTTP))
    watched.states("UP", "L7OK 200")
    sick = rig.state / "sick-m1"
    sick.touch()
    try:
        watched.states("DOWN", "L7STS 500")
        watched.push(monitor=replace(HTTP, codes=((500, 501),)))
        watched.states("UP", "L7OK 500")
    finally:
        sick.unlink()


@pytest.mark.parametrize("version", [4, 6])
def test_a_udp_monitor_hears_that_a_port_is_closed(rig: Rig, servers: Servers, version: int) -> None:
    knock = Monitor(kind="UDP-CONNECT", delay=1, timeout=1, rise=1, fall=1)
    there = member(servers, "u1", version=version, monitor_port=9)
    watched = Watched(rig, pool(there, monitor=knock))
    assert watched.states("DOWN", "L4CON").text == "Connection refused"
    watched.push(members=(replace(there, monitor_port=53),))
    assert watched.states("UP", "L4OK").text == "it answered"


def test_a_host_that_is_off_is_down_for_udp_too(rig: Rig, servers: Servers) -> None:
    knock = Monitor(kind="UDP-CONNECT", delay=1, timeout=1, rise=1, fall=1)
    off = f"{rig.net}.0.99"
    watched = Watched(rig, pool(member(servers, "u1", monitor_address=off), monitor=knock))
    assert watched.states("DOWN", "L4CON").text == "No route to host"
    key = f"{watched.pool.id}:{watched.front.id}"
    until, seen = time.monotonic() + 6, []
    while time.monotonic() < until:
        seen.append(rig.beat(watched.amphora, lambda b: b.pools).pools[key])
    assert set(seen) == {"DOWN"}  # and stays it


@pytest.fixture
def hostile(rig: Rig, servers: Servers) -> Iterator[str]:
    address = servers.address("u4")
    script = Path(__file__).with_name("hostile_member.py")
    words = ["nsenter", f"--net={namespaces.path(servers.namespace('u4'))}", sys.executable, str(script), address]
    process = subprocess.Popen([*words, "8000"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    yield address
    process.kill()
    process.wait(5)


@pytest.mark.parametrize(
    ("port", "status", "check"),
    [
        (8000, "DOWN", "L7TOUT"), (8001, "DOWN", "L7TOUT"), (8002, "DOWN", "L7RSP"), (8003, "DOWN", "L7RSP"),
        (8004, "DOWN", "L7RSP"), (8005, "DOWN", "L7STS 302"),
    ],
    ids=["silent", "dripping", "flooding", "closing", "no-http", "redirecting"],
)  # fmt: skip
def test_members_that_mean_harm_are_down(
    rig: Rig, servers: Servers, hostile: str, port: int, status: str, check: str
) -> None:  # fmt: skip
    Watched(rig, pool(member(servers, "u1", monitor_address=hostile, monitor_port=port), monitor=HTTP)).states(
        status, check
    )


def test_many_bad_members_keep_neither_the_agent_nor_a_good_one_waiting(
    rig: Rig, servers: Servers, hostile: str, elsewhere: str
) -> None:
    bad = tuple(
        member(servers, "u1", version=4, id=f"00000000-0000-4000-8000-{n:012d}", port=1000 + n,
               monitor_address=hostile, monitor_port=8000 + n % 3)
        for n in range(300)
    )  # fmt: skip
    before = _threads(rig)
    Watched(rig, pool(*bad, monitor=HTTP))
    good = Watched(rig, pool(member(servers, "u1", monitor_address=elsewhere, monitor_port=80), monitor=HTTP))
    good.states("UP", "L7OK 200")
    sick = rig.state / "sick-m1"
    sick.touch()
    began = time.monotonic()
    try:
        good.states("DOWN", "L7STS 500")
    finally:
        sick.unlink()
    assert time.monotonic() - began < 30  # the bad ones have a second each, but all at the same time
    took = []
    for _ in range(20):
        began = time.monotonic()
        rig.client.names()
        took.append(time.monotonic() - began)
    assert sorted(took)[10] < 2
    assert _threads(rig) < before + 30  # none for each of them


def _threads(rig: Rig) -> int:
    """Of the agent."""
    assert rig.agent is not None
    return len(list(Path(f"/proc/{rig.agent.pid}/task").iterdir()))

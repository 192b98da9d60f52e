"""SCTP through a real amphora. Kernels may have no SCTP of their own: packets are made by hand, over raw sockets."""

import os
import socket
import struct
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from datagrams import Datagrams, Monitor, Persistence, Servers, ask, bundle, listener, member, pool, vips
from rig import Rig, eventually

from colonnade import wire
from colonnade.agent import namespaces
from colonnade.agent.probes import packet, read_packet

PORT = 2905


class Peers:
    """SCTP members u1 and u2, beside the UDP ones, on both IP versions; each can be told to refuse."""

    def __init__(self, servers: Servers) -> None:
        self.refusing: dict[str, Path] = {}
        script = Path(__file__).with_name("sctp_member.py")
        for name in ("u1", "u2"):
            self.refusing[name] = servers.rig.state / f"refuse-{name}"
            for version in (4, 6):
                inside = f"--net={namespaces.path(servers.namespace(name))}"
                words = [
                    "nsenter",
                    inside,
                    sys.executable,
                    str(script),
                    name,
                    servers.address(name, version),
                    str(PORT),
                ]
                process = subprocess.Popen(
                    [*words, str(self.refusing[name])], stdout=subprocess.PIPE, text=True,
                    env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
                )  # fmt: skip
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
                servers.rig.members.append(process)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def peers(servers: Servers) -> Peers:
    servers.clients(48)
    return Peers(servers)


class Association:
    """A client's association, from the namespace of the clients: only one address of the host's side may be its own."""

    def __init__(
        self, servers: Servers, vip: str, source: str, port: int, to: int = PORT, patience: float = 20.0
    ) -> None:  # fmt: skip
        self.six = ":" in vip
        with namespaces.inside(servers.namespace("clients")):
            self.socket = socket.socket(socket.AF_INET6 if self.six else socket.AF_INET, socket.SOCK_RAW, 132)
        self.socket.bind((source, 0))
        self.socket.connect((vip, 0))
        self.socket.settimeout(patience)
        self.port, self.to, self.tag, self.theirs = port, to, 0x0A0B0C00 + port % 256, 0

    def _ask(self, tag: int, chunk: bytes, kind: int) -> bytes:
        self.socket.send(packet(self.port, self.to, tag, chunk))
        while True:
            data = self.socket.recv(2048)
            found = read_packet(data if self.six else data[(data[0] & 15) * 4 :])
            if found is None or found[:3] != (self.to, self.port, self.tag):
                continue
            if found[3] == 6:
                raise ConnectionAbortedError
            if found[3] == kind:
                return found[4]

    def open(self) -> str:
        """Answers the member's name."""
        value = self._ask(0, struct.pack(">BBHIIHHI", 1, 0, 20, self.tag, 65536, 1, 1, 1), 2)
        self.theirs = struct.unpack(">I", value[:4])[0]
        name = value[16 + 4 :].decode().strip()
        self._ask(self.theirs, struct.pack(">BBHI", 10, 0, 8, self.tag), 11)
        return name

    def say(self) -> str:
        """Send data; the name of who answers."""
        chunk = struct.pack(">BBHIHHII", 0, 3, 20, 1, 0, 0, 0, self.tag)
        return self._ask(self.theirs, chunk, 0)[12:].decode()


def opened(servers: Servers, vip: str, source: str, ports: range, patience: float = 20.0) -> list[str]:
    return [Association(servers, vip, source, p, patience=patience).open() for p in ports]


@pytest.fixture
def addresses(servers: Servers) -> tuple[str, str]:
    people = servers.clients(48)
    return people[-2], people[0]


def test_associations_go_round_and_stay(
    rig: Rig, servers: Servers, peers: Peers, addresses: tuple[str, str]
) -> None:  # fmt: skip
    amphora, both = rig.amphora(), vips(rig)
    to = pool(member(servers, "u1", port=PORT), member(servers, "u2", port=PORT))
    six = pool(member(servers, "u1", version=6, port=PORT), member(servers, "u2", version=6, port=PORT, weight=0))
    mixed = replace(to, members=(*to.members, *six.members))
    udp = pool(member(servers, "u3"))
    front = listener(mixed, port=PORT, protocol="sctp")
    fronts = (front, listener(udp, port=PORT))
    rig.push(bundle(rig, amphora, Datagrams(vips=both, listeners=fronts, pools=(mixed, udp))))
    assert Counter(opened(servers, both[0], addresses[0], range(5000, 5004))) == {"u1": 2, "u2": 2}
    assert opened(servers, both[1], addresses[1], range(5000, 5003)) == ["u1"] * 3
    assert ask(both[0], PORT) == "u3"
    held = [Association(servers, both[0], addresses[0], p) for p in range(6000, 6004)]
    names = [a.open() for a in held]
    assert [a.say() for a in held] == names
    heavier = replace(mixed, members=tuple(replace(m, weight=m.weight * 3) for m in mixed.members))
    rig.push(bundle(rig, amphora, Datagrams(vips=both, listeners=fronts, pools=(heavier, udp))))
    assert [a.say() for a in held] == names
    beat = rig.beat(amphora, lambda b: b.listeners[front.id].active_connections == 11)
    assert beat.listeners[front.id].total_connections == 11
    assert beat.listeners[front.id].bytes_in > 0 < beat.listeners[front.id].bytes_out


@pytest.mark.parametrize("algorithm", ["SOURCE_IP", "SOURCE_IP_PORT", "LEAST_CONNECTIONS"])
def test_every_algorithm(
    rig: Rig, servers: Servers, peers: Peers, addresses: tuple[str, str], algorithm: str
) -> None:  # fmt: skip
    amphora, both = rig.amphora(), vips(rig)
    to = pool(member(servers, "u1", port=PORT), member(servers, "u2", port=PORT), algorithm=algorithm)
    front = listener(to, port=PORT, protocol="sctp")
    rig.push(bundle(rig, amphora, Datagrams(vips=both, listeners=(front,), pools=(to,))))
    names = set(opened(servers, both[0], addresses[0], range(7000, 7012)))
    assert len(names) == (1 if algorithm == "SOURCE_IP" else 2)


def test_persistence_limit_and_allowed_networks(
    rig: Rig, servers: Servers, peers: Peers, addresses: tuple[str, str]
) -> None:  # fmt: skip
    amphora, both = rig.amphora(), vips(rig)
    stuck = Persistence(timeout=60)
    to = pool(member(servers, "u1", port=PORT), member(servers, "u2", port=PORT), persistence=stuck)
    front = listener(to, port=PORT, protocol="sctp", limit=3)
    rig.push(bundle(rig, amphora, Datagrams(vips=both, listeners=(front,), pools=(to,))))
    assert len(set(opened(servers, both[0], addresses[0], range(7000, 7003)))) == 1
    with pytest.raises(TimeoutError):
        opened(servers, both[0], addresses[0], range(7003, 7004), 1.0)
    front = replace(front, limit=None, allowed=("192.0.2.0/24",))
    rig.push(bundle(rig, amphora, Datagrams(vips=both, listeners=(front,), pools=(to,))))
    with pytest.raises(TimeoutError):
        opened(servers, both[0], addresses[0], range(7004, 7005), 1.0)


def test_a_member_that_refuses_associations_is_down_until_it_takes_them(
    rig: Rig, servers: Servers, peers: Peers, addresses: tuple[str, str]
) -> None:  # fmt: skip
    amphora, both = rig.amphora(), vips(rig)
    monitor = Monitor(kind="SCTP", delay=1, timeout=1, rise=3, fall=1)
    u1 = member(servers, "u1", port=PORT, monitor_port=PORT)
    u2 = member(servers, "u2", version=6, port=PORT, monitor_port=PORT)
    silent = member(servers, "u3", port=PORT, monitor_port=PORT)
    to = pool(u1, u2, silent, monitor=monitor)
    front = listener(to, port=PORT, protocol="sctp")
    key = f"{to.id}:{front.id}"
    rig.push(bundle(rig, amphora, Datagrams(vips=both, listeners=(front,), pools=(to,))))

    def found(beat: wire.Heartbeat) -> bool:
        states = {n: beat.members[key][m.id] for n, m in (("u1", u1), ("u2", u2), ("silent", silent))}
        well = states["u1"].check == states["u2"].check == "L4OK"
        return well and {n: s.status for n, s in states.items()} == {"u1": "UP", "u2": "UP", "silent": "DOWN"}

    rig.beat(amphora, found)
    peers.refusing["u1"].touch()
    try:
        beat = rig.beat(amphora, lambda b: b.members[key][u1.id].check == "L4CON")
        assert beat.members[key][u1.id].status == "DOWN"
        assert beat.members[key][u1.id].text == "the association was refused"
        with pytest.raises(OSError):
            opened(servers, both[0], addresses[0], range(5100, 5101), 1.0)
    finally:
        peers.refusing["u1"].unlink()
    rig.beat(amphora, lambda b: b.members[key][u1.id].status in ("DOWN 1/3", "DOWN 2/3"))
    rig.beat(amphora, lambda b: b.members[key][u1.id].status == "UP")
    assert eventually(lambda: opened(servers, both[0], addresses[0], range(5101, 5102), 1.0)) == ["u1"]

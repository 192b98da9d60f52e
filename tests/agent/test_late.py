"""What a member was asked before it went is answered, and nothing else of it comes through."""

import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import pytest
from datagrams import Client, Datagrams, Listener, Member, Monitor, Pool, Servers, bundle, listener, member, pool, vips
from rig import Rig, eventually

from colonnade.agent import late, namespaces, rules, ruleset
from colonnade.agent.tracking import Entry

GONE_S = ruleset.LATE_S + 0.5
KNOCK = Monitor(kind="UDP-CONNECT", delay=1, timeout=1, rise=1, fall=1)


class Stage:
    """An amphora with VIPs of both IP versions, and a pool whose members change."""

    def __init__(self, rig: Rig, servers: Servers, *names: str, version: int = 4) -> None:
        self.rig, self.amphora = rig, rig.amphora()
        self.vips = dict(zip((4, 6), vips(rig), strict=True))
        self.members = [member(servers, n, version=version) for n in names]
        self.pool = pool(*self.members)
        self.front = listener(self.pool)
        self.more: tuple[Listener, ...] = ()
        self.push(*self.members)

    def push(self, *members: Member, **of_pool: Monitor) -> None:
        made: Pool = replace(self.pool, members=members, **of_pool)
        want = Datagrams(vips=tuple(self.vips.values()), listeners=(self.front, *self.more), pools=(made,))
        self.rig.push(bundle(self.rig, self.amphora, want))


CASES = [("removed", 4, 4), ("removed", 6, 6), ("removed", 6, 4), ("removed", 4, 6), ("disabled", 4, 4),
         ("disabled", 6, 4), ("down", 4, 4), ("down", 6, 6)]  # fmt: skip


@pytest.mark.parametrize(("change", "version", "to"), CASES)
def test_what_was_asked_is_answered_though_the_member_goes(
    rig: Rig, servers: Servers, change: str, version: int, to: int
) -> None:
    """Between IP versions the relay is on the way."""
    stage = Stage(rig, servers, "u1", "u2", version=version)
    u1, u2 = stage.members
    flows = [Client(stage.vips[to]) for _ in range(40)]
    held = [c.ask()[0] for c in flows]
    assert Counter(held) == {"u1": 20, "u2": 20}
    asked: list[tuple[Client, int]] = []
    for n, client in enumerate(flows):
        size = 4000 if version == to and n < 10 else 0  # in fragments, there and back
        asked += [(client, client.send(late=900 if change == "down" else 300, size=s)) for s in (0, size)]
    servers.asked(*(number for _, number in asked))
    match change:
        case "removed":
            stage.push(u2)
        case "disabled":
            stage.push(replace(u1, enabled=False), u2)
        case "down":
            stage.push(replace(u1, monitor_port=9), u2, monitor=KNOCK)
    assert [c.hear(number)[0] for c, number in asked] == [name for name in held for _ in range(2)]
    assert eventually(lambda: {c.ask()[0] for c in flows} == {"u2"})


def test_an_agent_that_is_killed_meanwhile_loses_no_answer(rig: Rig, servers: Servers) -> None:
    stage = Stage(rig, servers, "u1", "u2")
    flows = [Client(stage.vips[4]) for _ in range(4)]
    asked = [(c, c.send(late=2000)) for c in flows]
    servers.asked(*(number for _, number in asked))
    stage.push(stage.members[1])
    rig.stop(signal.SIGKILL)
    rig.start()
    assert Counter(c.hear(number)[0] for c, number in asked) == {"u1": 2, "u2": 2}
    assert {c.ask()[0] for c in flows} == {"u2"}


def test_the_last_member_answers_and_then_clients_are_told(rig: Rig, servers: Servers) -> None:
    stage = Stage(rig, servers, "u1", version=6)
    for vip in stage.vips.values():
        stage.push(*stage.members)
        client = Client(vip)
        assert client.ask()
        number = client.send(late=300)
        servers.asked(number)
        stage.push()
        assert client.hear(number)[0] == "u1"
        with pytest.raises(ConnectionRefusedError):
            client.ask()


def test_a_client_whose_members_go_one_after_the_other_is_answered_by_each(rig: Rig, servers: Servers) -> None:
    stage = Stage(rig, servers, "u1", "u2", "u3")
    u1, u2, u3 = stage.members
    client = Client(stage.vips[4])
    stage.push(u1)
    for left in (u2, u3, u1, u2):
        before = client.ask()[0]
        number = client.send(late=200)
        servers.asked(number)
        stage.push(left)
        assert client.hear(number)[0] == before
    assert client.ask()[0] == "u2"


@contextmanager
def sending(servers: Servers, name: str, port: int) -> Iterator[socket.socket]:
    """A socket of a member, not the member's own."""
    with namespaces.inside(servers.namespace(name)):
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with made:
        made.bind((servers.address(name), port))
        yield made


def test_a_member_that_went_answers_what_it_was_asked_and_reaches_nobody_else(rig: Rig, servers: Servers) -> None:
    stage = Stage(rig, servers, "u1", "u2")
    u1, u2 = stage.members
    stage.push(u1)
    vip = stage.vips[4]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(20)
        client.sendto(b"1", (vip, 53))
        _, address, port, _ = client.recv(100).decode().split(" ")
        stage.push(u2)
        for name in ("u1", "u3"):
            servers.stop(name)
        try:
            with (
                sending(servers, "u1", 53) as same, sending(servers, "u1", 54) as port_54,
                sending(servers, "u3", 53) as stranger,
            ):  # fmt: skip
                for wrong in (port_54, stranger):
                    wrong.sendto(b"wrong", (address, int(port)))
                same.sendto(b"wrong", (address, int(port) ^ 1))
                same.sendto(b"wrong", (vip, int(port)))
                same.sendto(b"late", (address, int(port)))
                assert client.recvfrom(100) == (b"late", (vip, 53))
                time.sleep(GONE_S)
                same.sendto(b"wrong", (address, int(port)))
                client.settimeout(1)
                with pytest.raises(TimeoutError):
                    client.recv(100)
        finally:
            for name in ("u1", "u3"):
                servers.start(name)


@pytest.mark.parametrize("version", [4, 6])
def test_a_new_flow_with_addresses_and_ports_of_one_that_was_forgotten_gets_its_answers(
    rig: Rig, servers: Servers, version: int
) -> None:
    stage = Stage(rig, servers, "u1", "u2", version=version)
    u1, u2 = stage.members
    stage.push(u1)
    *six, four, also_four = servers.clients(2)
    inside = servers.namespace("clients")
    one, other = (
        Client(stage.vips[version], namespace=inside, source=(a, 4000))
        for a in ((four, also_four) if version == 4 else six)
    )
    said = one.ask()
    stage.push(u2)
    stage.push(u1)
    assert other.ask() == said  # to the member both are the same
    assert one.ask()[0] == "u1"
    number = other.send(late=200)
    servers.asked(number)
    stage.push(u2)
    assert other.hear(number) == said


def test_over_the_relay_too(rig: Rig, servers: Servers) -> None:
    stage = Stage(rig, servers, "u1", version=6)
    (u1,) = stage.members
    stage.more = (listener(stage.pool, port=54),)
    stage.push(u1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(20)
        for port in (53, 54):  # from the same port, by the same door
            client.sendto(b"1", (stage.vips[4], port))
            assert client.recvfrom(100)[1] == (stage.vips[4], port)
            stage.push(replace(u1, enabled=False))
            stage.push(u1)


class Books:
    """Takes note of what is copied, until there is room for nothing more."""

    def __init__(self, room: int) -> None:
        self.copied: list[int] = []
        self.room = room

    def copy(self, entry: Entry, *_: object) -> tuple[ruleset.End, ruleset.End]:
        if len(self.copied) == self.room:
            raise OSError(12, "Cannot allocate memory")
        self.copied.append(entry.left)
        return (b"\x0a\0\0\1", b"\0\x35"), (b"\x0a\0\0\2", entry.left.to_bytes(2))


def test_flows_that_were_silent_for_long_have_no_answers_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "load", lambda *_: None)
    books, left = Books(9), {53: (600, 595, 594, 1), 54: (30, 25, 24)}  # each listener has an idle time of its own
    flows = [
        Entry(family=2, proto=socket.IPPROTO_UDP, port=port, place=b"", reply=b"", left=n)
        for port, those in left.items() for n in those
    ]  # fmt: skip
    late.expect(flows, cast("Any", books), "nowhere")
    assert sorted(books.copied) == [25, 30, 595, 600]


def test_of_too_many_those_that_were_heard_last_and_none_of_sctp(monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[str] = []
    monkeypatch.setattr(ruleset, "MOST_LATE", 3)
    monkeypatch.setattr(rules, "load", lambda text, namespace: texts.append(text))
    udp, sctp = (
        [Entry(family=2, proto=p, port=53, place=b"", reply=b"", left=n) for n in (46, 50, 48, 49, 47)]
        for p in (socket.IPPROTO_UDP, socket.IPPROTO_SCTP)
    )
    books = Books(9)
    late.expect([*sctp, *udp], cast("Any", books), "nowhere")
    assert sorted(books.copied) == [48, 49, 50]
    assert texts == [
        "add element inet datagrams late4 { 10.0.0.1 . 53 . 50 . 10.0.0.2, 10.0.0.1 . 53 . 49 . 10.0.0.2, "
        "10.0.0.1 . 53 . 48 . 10.0.0.2 }\n"
    ]
    late.expect(sctp, cast("Any", books), "nowhere")
    late.expect(udp, cast("Any", Books(2)), "nowhere")  # the members go all the same
    assert len(texts) == 1

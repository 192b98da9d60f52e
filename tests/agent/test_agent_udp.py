"""UDP through a real amphora: who gets a flow, and who may send one."""

import contextlib
import re
import socket
import subprocess
import time
from collections import Counter
from dataclasses import replace

import pytest
from datagrams import Client, Datagrams, Persistence, Servers, ask, bundle, listener, member, pool, vips
from rig import Rig, config, eventually, get, new_id

from colonnade import wire
from colonnade.agent import namespaces
from colonnade.agent.network import attach


def refused(vip: str, port: int = 53) -> bool:
    client = Client(vip, port)
    with contextlib.closing(client):
        try:
            client.ask()
        except ConnectionRefusedError:
            return True
        except TimeoutError:
            return False
    return False


def test_round_robin_by_weight_on_both_vips_with_no_haproxy(rig: Rig, servers: Servers) -> None:
    amphora, both = rig.amphora(), vips(rig)
    to = pool(member(servers, "u1", weight=3), member(servers, "u2"), member(servers, "u3", version=6))
    front = listener(to)
    made = bundle(rig, amphora, Datagrams(vips=both, listeners=(front,), pools=(to,)))
    rig.push(made)
    assert Counter(ask(both[0]) for _ in range(10)) == {"u1": 6, "u2": 2, "u3": 2}
    assert Counter(ask(both[1]) for _ in range(5)) == {"u1": 3, "u2": 1, "u3": 1}
    client = Client(both[0])
    assert len({client.ask()[0] for _ in range(5)}) == 1
    beat = rig.beat(amphora, lambda b: b.listeners and b.listeners[front.id].active_connections == 16)
    seen = beat.listeners[front.id]
    assert 20 * 29 <= seen.bytes_in < 20 * 60
    assert seen.bytes_out > seen.bytes_in
    assert seen.total_connections == 16
    assert (seen.status, beat.haproxy, beat.digest) == ("OPEN", "absent", wire.digest(made))
    assert beat.pools == {f"{to.id}:{front.id}": "UP"}
    assert {s.status for s in beat.members[f"{to.id}:{front.id}"].values()} == {"no check"}


def test_members_see_the_amphora_and_answers_come_from_the_vip(rig: Rig, servers: Servers) -> None:
    amphora, both = rig.amphora(), vips(rig)
    to = pool(member(servers, "u1"))
    own = rig.address()
    rig.push(bundle(rig, amphora, Datagrams(vips=both, listeners=(listener(to),), pools=(to,)), own=own))
    client = Client(both[0])  # connected: only the VIP's own answers come through
    assert client.ask()[1] == own


def test_members_of_the_other_ip_version_are_reached(rig: Rig, servers: Servers) -> None:
    amphora, both = rig.amphora(), vips(rig)
    six, four = pool(member(servers, "u1", version=6)), pool(member(servers, "u2"))
    fronts = (listener(six), listener(four, port=54))
    rig.push(bundle(rig, amphora, Datagrams(vips=both, listeners=fronts, pools=(six, four))))
    assert [ask(both[0]), ask(both[1]), ask(both[0], 54), ask(both[1], 54)] == ["u1", "u1", "u2", "u2"]
    many = (*both, rig.address())
    rig.push(bundle(rig, amphora, Datagrams(vips=(many[2], *both), listeners=fronts, pools=(six, four))))
    assert [ask(vip) for vip in many] == ["u1"] * 3
    clients = [Client(both[0]) for _ in range(20)]
    assert len({c.ask()[2] for c in clients}) == 20  # each flow has a port of its own towards the member
    large = Client(both[0])
    large.socket.send(b"x" * 4000 + b" 1")
    assert large.socket.recv(65536).endswith(b"x" * 4000 + b" 1")


def test_what_is_too_long_for_one_packet_passes(rig: Rig, servers: Servers) -> None:
    amphora, both = rig.amphora(), vips(rig)
    to = pool(member(servers, "u1"))
    rig.push(bundle(rig, amphora, Datagrams(vips=both, listeners=(listener(to),), pools=(to,))))
    client = Client(both[0])
    client.socket.send(b"x" * 5000 + b" 1")
    assert len(client.socket.recv(65536)) > 5000


def test_source_ip_keeps_a_client_and_a_member_that_goes_moves_its_own_alone(rig: Rig, servers: Servers) -> None:
    amphora, both = rig.amphora(), vips(rig)
    people = servers.clients(48)
    names = ("u1", "u2", "u3")
    to = pool(*(member(servers, n, version=6) for n in names), algorithm="SOURCE_IP")
    front = listener(to)

    def where() -> dict[str, str]:
        found = {}
        for person in people[:48]:
            said = {ask(both[1], namespace=servers.namespace("clients"), source=person) for _ in range(2)}
            assert len(said) == 1
            found[person] = said.pop()
        return found

    rig.push(bundle(rig, amphora, Datagrams(vips=both, listeners=(front,), pools=(to,))))
    before = where()
    assert all(count >= 3 for count in Counter(before.values()).values())
    assert len(set(before.values())) == 3
    fewer = replace(to, members=tuple(m for m in to.members if m.address != servers.address("u2", 6)))
    rig.push(bundle(rig, amphora, Datagrams(vips=both, listeners=(front,), pools=(fewer,))))
    after = where()
    assert {p for p in before if before[p] != after[p]} == {p for p in before if before[p] == "u2"}


def test_source_ip_port_spreads_one_client(rig: Rig, servers: Servers) -> None:
    amphora, both = rig.amphora(), vips(rig)
    to = pool(member(servers, "u1"), member(servers, "u2"), algorithm="SOURCE_IP_PORT")
    rig.push(bundle(rig, amphora, Datagrams(vips=both, listeners=(listener(to),), pools=(to,))))

    def from_port(vip: str, port: int) -> str:
        with contextlib.closing(Client(vip, source=("", port))) as client:
            return client.ask()[0]

    ports = {port: from_port(both[0], port) for port in range(19000, 19040)}
    assert all(count >= 4 for count in Counter(ports.values()).values())
    assert len(set(ports.values())) == 2
    to = replace(to, members=(*to.members, member(servers, "u3", weight=0)))  # flows stay, so look at another amphora
    other, others = rig.amphora(), vips(rig)
    rig.push(bundle(rig, other, Datagrams(vips=others, listeners=(listener(to),), pools=(to,))))
    assert {port: from_port(others[0], port) for port in ports} == ports


def test_least_connections_fills_up_who_has_the_fewest(rig: Rig, servers: Servers) -> None:
    amphora, both = rig.amphora(), vips(rig)
    one = pool(member(servers, "u1"), algorithm="LEAST_CONNECTIONS")
    front = listener(one)
    rig.push(bundle(rig, amphora, Datagrams(vips=both, listeners=(front,), pools=(one,))))

    def chosen() -> set[str]:
        """Who gets new flows of the IPv4 VIP, by number."""
        words = ["ip", "netns", "exec", rig.here.namespace(amphora), "nft", "list", "chain", "inet", "datagrams",
                 f"pick_{front.id.replace('-', '')}"]  # fmt: skip
        table = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        found = re.search(r"ipv4.*numgen inc mod \d+ map \{([^}]*)\}", table)
        assert found, table
        return set(re.findall(r": (0x\w+)", found[1]))

    held = [Client(both[0]) for _ in range(40)]
    assert {c.ask()[0] for c in held} == {"u1"}
    first = chosen()
    u1, u2 = *one.members, member(servers, "u2")
    two = replace(one, members=(u1, u2))
    rig.push(bundle(rig, amphora, Datagrams(vips=both, listeners=(front,), pools=(two,))))
    eventually(lambda: len(chosen()) == 1 and chosen() != first)  # the agent looks every second
    held += [Client(both[0]) for _ in range(12)]
    assert {c.ask()[0] for c in held[40:]} == {"u2"}
    two = replace(one, members=(replace(u1, weight=4), u2))  # of four times the weight it has too few
    rig.push(bundle(rig, amphora, Datagrams(vips=both, listeners=(front,), pools=(two,))))
    eventually(lambda: chosen() == first)
    held += [Client(both[0]) for _ in range(3)]
    assert {c.ask()[0] for c in held[52:]} == {"u1"}
    assert Counter(c.ask()[0] for c in held) == {"u1": 43, "u2": 12}


def test_persistence_by_network_until_the_client_was_silent_for_long(rig: Rig, servers: Servers) -> None:
    amphora, both = rig.amphora(), vips(rig)
    one, other = servers.clients(48)[-2:]  # of one /31
    inside = servers.namespace("clients")
    to = pool(member(servers, "u1"), member(servers, "u2"), persistence=Persistence(timeout=3, prefix4=31))
    front = listener(to)

    def ask_as(address: str) -> str:
        return ask(both[0], namespace=inside, source=address)

    def push(made: object) -> None:
        rig.push(bundle(rig, amphora, Datagrams(vips=both, listeners=(front,), pools=(made,))))  # type: ignore[arg-type]

    push(to)
    first = ask_as(one)
    assert {ask_as(a) for a in (one, other) * 4} == {first}
    talking = Client(both[0], namespace=inside, source=(one, 0))
    for _ in range(8):  # an old flow keeps the memory alive, longer than the time
        assert talking.ask()[0] == first
        time.sleep(0.5)
    assert ask_as(other) == first
    push(replace(to, members=(*to.members, member(servers, "u3"))))  # and so it is through changes
    assert {ask_as(other) for _ in range(3)} == {first}
    talking.close()
    time.sleep(3.6)
    push(to)
    said = [ask_as(one)]
    time.sleep(3.6)
    said.append(ask_as(one))
    assert set(said) == {"u1", "u2"}
    stays = next(m for m in to.members if servers.address(said[1]) != m.address)
    push(replace(to, members=(stays,)))
    moved = ask_as(one)
    assert moved != said[1]
    push(to)
    assert {ask_as(one) for _ in range(4)} == {moved}


def test_persistence_counts_each_host_alone_unless_told(rig: Rig, servers: Servers) -> None:
    amphora, both = rig.amphora(), vips(rig)
    one, other = servers.clients(48)[-2:]
    inside = servers.namespace("clients")
    to = pool(member(servers, "u1"), member(servers, "u2"), persistence=Persistence(timeout=360))
    rig.push(bundle(rig, amphora, Datagrams(vips=both, listeners=(listener(to),), pools=(to,))))
    first = ask(both[0], namespace=inside, source=one)
    second = ask(both[0], namespace=inside, source=other)
    assert first != second
    for address, name in ((one, first), (other, second)) * 2:
        assert ask(both[0], namespace=inside, source=address) == name
    six = servers.clients(48)[:4]
    assert [ask(both[1], namespace=inside, source=a) for a in six] == [
        ask(both[1], namespace=inside, source=a) for a in six
    ]


def test_a_limit_holds_and_frees_its_places(rig: Rig, servers: Servers) -> None:
    amphora, both = rig.amphora(), vips(rig)
    to = pool(member(servers, "u1"))
    front = listener(to, limit=3, idle=8)
    rig.push(bundle(rig, amphora, Datagrams(vips=both, listeners=(front,), pools=(to,))))
    held = [Client(both[0]) for _ in range(3)]
    assert {c.ask()[0] for c in held} == {"u1"}
    fourth = Client(both[0], patience=1)
    with pytest.raises(TimeoutError):
        fourth.ask()
    assert [c.ask()[0] for c in held] == ["u1"] * 3
    rig.beat(amphora, lambda b: b.listeners[front.id].status == "FULL")
    more = replace(to, members=(*to.members, member(servers, "u2")))
    rig.push(bundle(rig, amphora, Datagrams(vips=both, listeners=(front,), pools=(more,))))
    assert [c.ask()[0] for c in held] == ["u1"] * 3
    with pytest.raises(TimeoutError):
        fourth.ask()
    assert eventually(lambda: fourth.ask()[0]) in ("u1", "u2")  # the flows are forgotten
    rig.beat(amphora, lambda b: b.listeners[front.id].status == "OPEN")


def test_a_high_limit_holds_too_and_costs_little(rig: Rig, servers: Servers) -> None:
    amphora, both = rig.amphora(), vips(rig)
    to = pool(member(servers, "u1"))
    front = listener(to, limit=6000)
    rig.push(bundle(rig, amphora, Datagrams(vips=both, listeners=(front,), pools=(to,))))

    def knock(ports: range) -> None:
        for port in ports:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s, contextlib.suppress(OSError):
                s.bind(("", port))
                s.connect((both[0], 53))
                s.send(b"0")

    knock(range(20000, 24000))
    rig.beat(amphora, lambda b: b.listeners[front.id].active_connections > 3900)
    knock(range(24000, 30000))
    beat = rig.beat(amphora, lambda b: b.listeners[front.id].active_connections > 5500)
    assert beat.listeners[front.id].status == "FULL"
    rig.drain_beats()
    later = [rig.beat(amphora, lambda b: b.listeners) for _ in range(2)]
    assert all(b.listeners[front.id].active_connections <= 6000 for b in [beat, *later])
    namespace = rig.here.namespace(amphora)
    words = ["ip", "netns", "exec", namespace, "nft", "list", "table", "inet", "datagrams"]
    table = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert max(map(int, re.findall(r"ct count over (\d+)", table))) < 600  # so far the kernel walks for a new flow


def test_a_limit_of_nothing_lets_nobody_in(rig: Rig, servers: Servers) -> None:
    amphora, both = rig.amphora(), vips(rig)
    to = pool(member(servers, "u1"))
    rig.push(bundle(rig, amphora, Datagrams(vips=both, listeners=(listener(to, limit=0),), pools=(to,))))
    with pytest.raises(TimeoutError):
        ask(both[0], patience=1)


def test_only_allowed_networks_come_in_and_who_is_no_more_stops(rig: Rig, servers: Servers) -> None:
    amphora, both = rig.amphora(), vips(rig)
    servers.clients(48)
    inside = servers.namespace("clients")
    to = pool(member(servers, "u1"), member(servers, "u2", version=6))
    front = listener(to)
    rig.push(bundle(rig, amphora, Datagrams(vips=both, listeners=(front,), pools=(to,))))
    outside = Client(both[0])
    assert outside.ask()
    allowed = replace(front, allowed=(f"{rig.net}.0.0/24", f"{rig.net}.0.0/25"))
    rig.push(bundle(rig, amphora, Datagrams(vips=both, listeners=(allowed,), pools=(to,))))
    outside.socket.settimeout(1)
    with pytest.raises(TimeoutError):
        outside.ask()
    assert ask(both[0], namespace=inside)
    with pytest.raises(TimeoutError):
        ask(both[1], namespace=inside, patience=1)


def test_where_nobody_serves_the_client_is_told_and_served_as_soon_as_somebody_does(rig: Rig, servers: Servers) -> None:
    amphora, both = rig.amphora(), vips(rig)
    front = listener(None)
    rig.push(bundle(rig, amphora, Datagrams(vips=both, listeners=(front,), pools=())))
    waiting = [Client(v) for v in both]
    for client in waiting:
        for _ in range(2):
            with pytest.raises(ConnectionRefusedError):
                client.ask()
            time.sleep(0.1)
    assert refused(both[0], 5353)
    to = pool(member(servers, "u1"))
    rig.push(bundle(rig, amphora, Datagrams(vips=both, listeners=(replace(front, pool=to.id),), pools=(to,))))
    assert [c.ask()[0] for c in waiting] == ["u1", "u1"]  # the same flows
    rig.push(bundle(rig, amphora, Datagrams(vips=both, listeners=(), pools=())))
    for client in waiting:
        with pytest.raises(ConnectionRefusedError):
            client.ask()


def test_drained_disabled_and_backup_members(rig: Rig, servers: Servers) -> None:
    amphora, both = rig.amphora(), vips(rig)
    u1, u2, u3 = (member(servers, n) for n in ("u1", "u2", "u3"))
    to = pool(u1, replace(u3, backup=True))
    front = listener(to)

    def push(*members: object) -> None:
        made = replace(to, members=members)  # type: ignore[arg-type]
        rig.push(bundle(rig, amphora, Datagrams(vips=both, listeners=(front,), pools=(made,))))

    push(u1, replace(u3, backup=True))
    old = Client(both[0])
    assert old.ask()[0] == "u1"
    assert {ask(both[0]) for _ in range(4)} == {"u1"}
    push(replace(u1, weight=0), u2, replace(u3, backup=True))
    assert {ask(both[0]) for _ in range(4)} == {"u2"}
    assert old.ask()[0] == "u1"
    drained = rig.beat(amphora, lambda b: b.members[f"{to.id}:{front.id}"][u1.id].status == "DRAIN")
    assert drained.pools[f"{to.id}:{front.id}"] == "UP"
    push(replace(u1, weight=0), replace(u2, enabled=False), replace(u3, backup=True))
    assert {ask(both[0]) for _ in range(4)} == {"u3"}
    rig.beat(amphora, lambda b: b.members[f"{to.id}:{front.id}"][u2.id].status == "MAINT")
    push(replace(u1, enabled=False), u2, replace(u3, backup=True))
    assert old.ask()[0] == "u2"
    push(replace(u1, weight=0), replace(u2, enabled=False))
    assert refused(both[0])
    rig.beat(amphora, lambda b: b.pools[f"{to.id}:{front.id}"] == "DOWN")


def test_a_tcp_listener_has_the_same_port(rig: Rig, servers: Servers) -> None:
    amphora, both = rig.amphora(), vips(rig)
    to = pool(member(servers, "u1"))
    want = Datagrams(vips=both, listeners=(listener(to),), pools=(to,))
    web = config(both[0], servers={"m1": f"{rig.net}.0.10:80"}, port=53)
    rig.push(bundle(rig, amphora, want, web))
    assert (ask(both[0]), get(both[0], 53)) == ("u1", "m1")
    before = rig.processes(amphora)
    rig.push(bundle(rig, amphora, replace(want, pools=(replace(to, members=(member(servers, "u2"),)),)), web))
    assert (ask(both[0]), get(both[0], 53)) == ("u2", "m1")
    assert rig.processes(amphora) == before
    beat = rig.beat(amphora, lambda b: len(b.listeners) == 2)
    assert set(beat.pools) == {"pool:listener", f"{to.id}:{want.listeners[0].id}"}


def test_a_member_that_refuses_is_heard_by_the_client(rig: Rig, servers: Servers) -> None:
    amphora, both = rig.amphora(), vips(rig)
    to = pool(member(servers, "u1", port=9))
    rig.push(bundle(rig, amphora, Datagrams(vips=both, listeners=(listener(to),), pools=(to,))))
    assert refused(both[0])


def test_the_amphora_forwards_nothing_else(rig: Rig, servers: Servers) -> None:
    amphora, both = rig.amphora(), vips(rig)
    to = pool(member(servers, "u1", version=6))
    own = rig.address()
    rig.push(bundle(rig, amphora, Datagrams(vips=both, listeners=(listener(to),), pools=(to,)), own=own))
    assert ask(both[0]) == "u1"
    assert refused(both[0], 1024)  # where the relay is
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(0.5)
        s.connect((own, 53))  # no VIP
        s.send(b"1")
        with pytest.raises(OSError):
            s.recv(100)


def test_a_bundle_that_haproxy_refuses_leaves_udp_as_it_was(rig: Rig, servers: Servers) -> None:
    amphora, both = rig.amphora(), vips(rig)
    to = pool(member(servers, "u1", version=6))
    front = listener(to)
    rig.push(bundle(rig, amphora, Datagrams(vips=both, listeners=(front,), pools=(to,))))
    client = Client(both[0])
    assert client.ask()[0] == "u1"
    other = replace(to, members=(member(servers, "u2"),))
    with pytest.raises(Exception, match="nonsense"):
        rig.push(bundle(rig, amphora, Datagrams(vips=both, listeners=(front,), pools=(other,)), "nonsense\n"))
    assert ask(both[0]) == "u1"


@pytest.mark.parametrize(
    "change", [{"protocol": "tcp"}, {"port": 0}, {"allowed": ("x",)}, {"idle": -1}, {"id": "x; flush ruleset"}], ids=str
)
def test_a_file_that_is_wrong_is_refused_with_the_reason(rig: Rig, servers: Servers, change: dict[str, object]) -> None:
    amphora, both = rig.amphora(), vips(rig)
    front = replace(listener(None), **change)  # type: ignore[arg-type]
    with pytest.raises(Exception, match="does not take this load balancer's UDP"):
        rig.push(bundle(rig, amphora, Datagrams(vips=both, listeners=(front,), pools=())))
    assert eventually(lambda: (rig.client.observe(rig.url, amphora) or {"digest": ""})["digest"] is None)


def test_a_member_on_another_network_is_reached_through_its_own_interface(rig: Rig, servers: Servers) -> None:
    amphora, both = rig.amphora(), vips(rig)
    far = f"{rig.net}.1.30"
    namespace = servers.namespace("far")
    namespaces.create(namespace)
    attach(rig.here, rig.other, namespace, addresses=[f"{far}/24"], mtu=1450)
    servers.run("far", far)
    there = member(servers, "u1", address=far)
    to = pool(there)
    made = bundle(rig, amphora, Datagrams(vips=both[:1], listeners=(listener(to),), pools=(to,)))
    own = f"{rig.net}.1.31"
    second = wire.Interface(
        port_id=new_id(), network_id=rig.other, mac="fa:16:3e:00:00:31", mtu=1450, addresses=(f"{own}/24",)
    )
    rig.push(replace(made, interfaces=(*made.interfaces, second)))
    assert Client(both[0]).ask()[:2] == ["far", own]


def test_a_floating_ip_leads_to_udp_too(rig: Rig, servers: Servers) -> None:
    amphora, both = rig.amphora(), vips(rig)
    to = pool(member(servers, "u1"))
    rig.push(bundle(rig, amphora, Datagrams(vips=both, listeners=(listener(to),), pools=(to,))))
    floating = f"{rig.net}.255.77"
    rig.client.put_fabric(replace(rig.fabric, floating_ips={floating: both[0]}))
    try:
        assert ask(floating) == "u1"
    finally:
        rig.client.put_fabric(rig.fabric)

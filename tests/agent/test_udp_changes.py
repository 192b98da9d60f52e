"""UDP flows go on through every change that is not about their own member; what is about it, they learn at once."""

import json
import os
import signal
import subprocess
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from datagrams import (
    Client,
    Datagrams,
    Listener,
    Monitor,
    Persistence,
    Pool,
    Running,
    Servers,
    ask,
    bundle,
    listener,
    member,
    pool,
    vips,
)
from rig import Rig, config, eventually, get

from colonnade.agent import namespaces

KNOCK = Monitor(kind="UDP-CONNECT", delay=1, timeout=1, rise=1, fall=2)


class Stage:
    """An amphora whose load balancer is changed bit by bit."""

    def __init__(self, rig: Rig, servers: Servers, *names: str, version: int = 4, to: int = 4, **of_pool: Any) -> None:
        self.rig, self.servers = rig, servers
        four, six = vips(rig)
        self.amphora, self.vips = rig.amphora(), (four,) if to == 4 else (six, four)
        self.pool: Pool = pool(*(member(servers, n, version=version) for n in names), **of_pool)
        self.front: Listener = listener(self.pool)
        self.more: list[tuple[Listener, Pool]] = []
        self.push()

    def push(self, web: str | None = None, **of_pool: Any) -> None:
        self.pool = replace(self.pool, **of_pool)
        pools = {p.id: p for p in (self.pool, *(p for _, p in self.more))}
        fronts = (self.front, *(x for x, _ in self.more))
        want = Datagrams(vips=self.vips, listeners=fronts, pools=tuple(pools.values()))
        self.rig.push(bundle(self.rig, self.amphora, want, web))


def soon(client: Client) -> str:
    """Who answers a flow, asked every second: what is asked while nobody serves may be lost."""
    client.socket.settimeout(1)
    name = eventually(lambda: client.ask()[0])
    client.socket.settimeout(20)
    return name


@pytest.fixture
def stage(rig: Rig, servers: Servers) -> Stage:
    return Stage(rig, servers, "u1", "u2")


def test_no_change_beside_a_flow_loses_an_answer(stage: Stage, rig: Rig, servers: Servers) -> None:
    u1, u2 = stage.pool.members
    u3 = member(servers, "u3")
    with Running(stage.vips[0]).going() as flows:
        changes: list[dict[str, Any]] = [
            {"members": (u1, u2, u3)},
            {"members": (replace(u1, weight=7), u2, u3)},
            {"members": (replace(u1, weight=0), replace(u2, weight=0), u3)},
            {"members": (replace(u1, backup=True), u2, replace(u3, backup=True))},
            {"members": (u1, u2)},
            {"algorithm": "SOURCE_IP"},
            {"algorithm": "LEAST_CONNECTIONS"},
            {"algorithm": "SOURCE_IP_PORT"},
            {"persistence": Persistence(timeout=60)},
            {"persistence": Persistence(timeout=30, prefix4=24)},
            {"persistence": None},
            {"monitor": KNOCK},
            {"monitor": replace(KNOCK, delay=2)},
            {"monitor": None},
        ]
        for change in changes:
            stage.push(**change)
            flows.flow(10)
        for front in (
            {"limit": 1000}, {"limit": 2000}, {"limit": None}, {"idle": 99}, {"allowed": ("0.0.0.0/0",)},
            {"allowed": None},
        ):  # fmt: skip
            stage.front = replace(stage.front, **front)  # type: ignore[arg-type]
            stage.push()
            flows.flow(10)
        other = pool(member(servers, "u4"), algorithm="SOURCE_IP")
        stage.more = [(listener(stage.pool, port=54), stage.pool), (listener(other, port=55), other)]
        web = config(stage.vips[0], servers={"m1": f"{rig.net}.0.10:80"})
        for more, http in ((stage.more, None), (stage.more, web), (stage.more[:1], None), ([], None)):
            stage.more = list(more)
            stage.push(http)
            flows.flow(10)
    assert flows.lost == []
    assert all(len(flows.members(n)) == 1 for n in flows.answers)
    assert Counter(flows.members(n)[0] for n in flows.answers) == {"u1": 3, "u2": 3}


def test_a_member_that_goes_hands_its_flows_over_and_the_others_keep_theirs(stage: Stage) -> None:
    u1, u2 = stage.pool.members
    with Running(stage.vips[0]).going() as flows:
        stage.push(members=(u2,))
        flows.flow()
        stage.push(members=(u1, u2))
    assert flows.lost == []
    assert sorted(flows.members(n) for n in flows.answers) == [["u1", "u2"]] * 3 + [["u2"]] * 3


def test_a_shared_pool_serves_both_listeners_and_one_can_go(stage: Stage) -> None:
    second = listener(stage.pool, port=54)
    stage.more = [(second, stage.pool)]
    stage.push()
    first, other = Client(stage.vips[0]), Client(stage.vips[0], 54)
    assert first.ask()
    assert other.ask()
    stage.more = []
    stage.push()
    assert first.ask()
    with pytest.raises(ConnectionRefusedError):
        other.ask()
    stage.more = [(second, stage.pool)]
    stage.push()
    assert other.ask()


def test_another_default_pool_takes_all_flows(stage: Stage, servers: Servers) -> None:
    keeps = listener(stage.pool, port=54)
    stage.more = [(keeps, stage.pool)]
    stage.push()
    moves, stays = Client(stage.vips[0]), Client(stage.vips[0], 54)
    before = stays.ask()[0]
    assert moves.ask()[0] in ("u1", "u2")
    other = pool(member(servers, "u3"))
    stage.front = replace(stage.front, pool=other.id)
    stage.more.append((listener(other, port=55), other))
    stage.push()
    assert moves.ask()[0] == "u3"
    assert stays.ask()[0] == before


def test_a_member_that_dies_hands_its_flows_over(stage: Stage, rig: Rig, servers: Servers) -> None:
    stage.push(monitor=KNOCK)
    key = f"{stage.pool.id}:{stage.front.id}"
    u1, u2 = (m.id for m in stage.pool.members)
    rig.beat(
        stage.amphora, lambda b: {s.status for s in b.members[key].values()} == {"UP"} and b.members[key][u1].check
    )
    held = {Client(stage.vips[0]) for _ in range(4)}
    assert Counter(c.ask()[0] for c in held) == {"u1": 2, "u2": 2}
    servers.stop("u1")
    try:
        beat = rig.beat(stage.amphora, lambda b: b.members[key][u1].status == "DOWN")
        assert (beat.members[key][u1].check, beat.members[key][u1].text) == ("L4CON", "Connection refused")
        assert beat.members[key][u2].status == "UP"
        assert beat.pools[key] == "UP"
        eventually(lambda: {c.ask()[0] for c in held} == {"u2"})  # what is known is told before the rules are changed
        assert {ask(stage.vips[0]) for _ in range(4)} == {"u2"}
        # A new agent believes what the old one found; nobody asks a dead member meanwhile.
        rig.stop(signal.SIGKILL)
        rig.start()
        assert {ask(stage.vips[0]) for _ in range(4)} == {"u2"}
    finally:
        servers.start("u1")
    rig.beat(stage.amphora, lambda b: b.members[key][u1].status == "UP")
    eventually(lambda: {ask(stage.vips[0]) for _ in range(4)} == {"u1", "u2"})
    assert {c.ask()[0] for c in held} == {"u2"}


def test_when_all_are_down_clients_are_told(stage: Stage, rig: Rig) -> None:
    nowhere = tuple(replace(m, monitor_port=9) for m in stage.pool.members)
    client = Client(stage.vips[0])
    assert client.ask()
    stage.push(members=nowhere, monitor=KNOCK)
    rig.beat(stage.amphora, lambda b: set(b.pools.values()) == {"DOWN"})
    with pytest.raises(ConnectionRefusedError):
        client.ask()
    stage.push(members=tuple(replace(m, monitor_port=53) for m in nowhere))
    assert soon(client) in ("u1", "u2")


@pytest.mark.parametrize("version", [4, 6])
def test_an_agent_that_is_killed_and_started_again_disturbs_nothing(rig: Rig, servers: Servers, version: int) -> None:
    stage = Stage(rig, servers, "u1", "u2", version=version)  # over the relay, too
    with Running(stage.vips[0]).going() as flows:
        before = rig.beat(stage.amphora, lambda b: b.listeners and b.listeners[stage.front.id].bytes_in > 1000)
        processes = rig.processes(stage.amphora)
        rig.stop(signal.SIGKILL)
        flows.flow()
        rig.start()
        flows.flow()
        rig.drain_beats()
        after = rig.beat(stage.amphora, lambda b: b.listeners)
        stage.push(members=(*stage.pool.members, member(servers, "u3", version=version)))
        flows.flow()
    assert flows.lost == []
    assert all(len(flows.members(n)) == 1 for n in flows.answers)
    assert rig.processes(stage.amphora) == processes
    assert len(processes) == (1 if version == 6 else 0)
    assert after.epoch == before.epoch
    one, two = before.listeners[stage.front.id], after.listeners[stage.front.id]
    assert two.total_connections == one.total_connections == 6
    assert two.bytes_in > one.bytes_in
    assert two.bytes_out > one.bytes_out


def test_counters_never_run_backwards_when_a_listener_was_off(stage: Stage, rig: Rig) -> None:
    other = listener(stage.pool, port=54)
    stage.more = [(other, stage.pool)]
    stage.push()
    assert ask(stage.vips[0], 54)
    one = rig.beat(
        stage.amphora, lambda b: other.id in b.listeners and b.listeners[other.id].total_connections
    ).listeners[other.id]
    for more in ([], [(other, stage.pool)]):
        stage.more = more
        stage.push()
    assert ask(stage.vips[0], 54)
    found = rig.beat(stage.amphora, lambda b: other.id in b.listeners and b.listeners[other.id].total_connections == 2)
    assert found.listeners[other.id].bytes_in == 2 * one.bytes_in


def test_a_relay_that_dies_is_back_and_has_no_privilege(rig: Rig, servers: Servers) -> None:
    stage = Stage(rig, servers, "u1", version=6)
    client = Client(stage.vips[0])
    assert client.ask()[0] == "u1"
    (pid,) = rig.processes(stage.amphora)
    with open(f"/proc/{pid}/status") as f:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
    assert {status[k] for k in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (status["NoNewPrivs"], status["Groups"].strip()) == ("1", "")
    assert int(status["Uid"].split()[0]) // 10000 == 100 + rig.here.slot
    assert int(status["VmRSS"].split()[0]) < 20_000  # kB
    for _ in range(2):
        os.kill(rig.processes(stage.amphora)[0], signal.SIGKILL)
        assert soon(client) == "u1"
    stage.push(members=(member(servers, "u2"),))
    assert client.ask()[0] == "u2"
    eventually(lambda: rig.processes(stage.amphora) == [])


@pytest.mark.parametrize("web", [False, True])
def test_a_relay_that_an_agent_started_and_did_not_write_down_keeps_no_door(
    rig: Rig, servers: Servers, web: bool
) -> None:
    """Killed between the one and the other; beside a HAProxy, which is adopted, strays are not looked for."""
    stage = Stage(rig, servers, "u1", version=6)
    stage.push(config(stage.vips[0], servers={"m1": f"{rig.net}.0.10:80"}) if web else None)
    client = Client(stage.vips[0])
    assert client.ask()[0] == "u1"
    rig.stop(signal.SIGKILL)
    (record,) = rig.here.run.glob("*/relays.json")
    stray = json.loads(record.read_text())["pid"]
    record.unlink()
    rig.start()
    assert soon(client) == "u1"
    assert stray not in rig.processes(stage.amphora)
    assert len(rig.processes(stage.amphora)) == 1 + web


def test_a_reboot_brings_it_back_without_a_control_plane(rig: Rig, servers: Servers) -> None:
    stage = Stage(rig, servers, "u1", "u2", monitor=KNOCK)
    assert ask(stage.vips[0])
    rig.stop(signal.SIGKILL)
    namespaces.remove(rig.here.namespace(stage.amphora))
    for path in sorted(rig.here.run.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    rig.start()
    assert {eventually(lambda: ask(stage.vips[0], patience=1)) for _ in range(4)} == {"u1", "u2"}


def test_what_is_removed_leaves_nothing(rig: Rig, servers: Servers) -> None:
    stage = Stage(rig, servers, "u1", version=6, monitor=KNOCK)
    assert ask(stage.vips[0]) == "u1"
    (pid,) = rig.processes(stage.amphora)
    rig.client.remove(stage.amphora, None)
    eventually(lambda: not os.path.exists(f"/proc/{pid}"))
    assert not namespaces.exists(rig.here.namespace(stage.amphora))


def test_what_is_removed_before_it_was_whole_leaves_nothing_either(rig: Rig, servers: Servers) -> None:
    """The agent was killed between starting the relay and writing the first bundle down."""
    stage = Stage(rig, servers, "u1", version=6)
    assert ask(stage.vips[0]) == "u1"
    (pid,) = rig.processes(stage.amphora)
    rig.stop(signal.SIGKILL)
    (rig.here.amphorae / stage.amphora / "bundle.json").unlink()
    rig.start()
    rig.client.remove(stage.amphora, None)
    eventually(lambda: not os.path.exists(f"/proc/{pid}"))


def test_udp_and_http_live_and_go_apart(stage: Stage, rig: Rig) -> None:
    web = config(stage.vips[0], servers={"m1": f"{rig.net}.0.10:80"})
    stage.push(web)
    client = Client(stage.vips[0])
    assert (client.ask()[0] in ("u1", "u2"), get(stage.vips[0])) == (True, "m1")
    with Running(stage.vips[0]).going() as flows:
        for pid in rig.processes(stage.amphora):
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: get(stage.vips[0]))
        stage.push(None)
        eventually(lambda: rig.processes(stage.amphora) == [])
        stage.push(web)
    assert flows.lost == []
    assert get(stage.vips[0]) == "m1"
    assert client.ask()


def test_nothing_is_loaded_when_nothing_changed(stage: Stage, rig: Rig) -> None:
    def handles() -> str:
        words = ["ip", "netns", "exec", rig.here.namespace(stage.amphora), "nft", "-a", "list", "chain", "inet",
                 "datagrams", "hide"]  # fmt: skip
        pick = [*words[:-1], f"pick_{stage.front.id.replace('-', '')}"]
        return "".join(subprocess.run(w, capture_output=True, text=True, check=True).stdout for w in (words, pick))

    before = handles()
    stage.push()
    stage.more = [(listener(stage.pool, port=54), stage.pool)]
    stage.push()
    assert handles() == before


def test_remembered_clients_outlive_the_agent(rig: Rig, servers: Servers) -> None:
    stage = Stage(rig, servers, "u1", "u2", persistence=Persistence(timeout=60))
    one, other = servers.clients(48)[-2:]
    inside = servers.namespace("clients")
    assert [ask(stage.vips[0], namespace=inside, source=a) for a in (one, other)] == ["u1", "u2"]
    rig.stop(signal.SIGKILL)
    rig.start()
    stage.push(members=tuple(replace(m, weight=2) for m in stage.pool.members))
    assert [ask(stage.vips[0], namespace=inside, source=a) for a in (other, one, other)] == ["u2", "u1", "u2"]

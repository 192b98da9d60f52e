"""Heartbeats say what HAProxy sees, soon, and count without going backwards."""

import os
import signal
import time
from dataclasses import replace

from rig import Rig, config, eventually, get

from colonnade import wire

POOL = "pool:listener"
CHECK = "check inter 300ms fall 2 rise 1"
# Without a time-out of its own an answer that takes as long as the pause between two checks is none.
HTTP_CHECK = "    option httpchk\n    http-check send meth GET uri /health\n    timeout check 10s\n"


def checked(rig: Rig, name: str, number: int) -> tuple[str, wire.Bundle]:
    vip = rig.address()
    text = config(vip, servers={name: f"{rig.net}.0.{number}:80 weight 1 {CHECK}"}, extra=HTTP_CHECK)
    bundle = rig.bundle(rig.amphora(), vip, text)
    rig.push(bundle)
    return vip, bundle


def test_a_beat_carries_digest_listeners_pools_and_members(rig: Rig) -> None:
    _, bundle = checked(rig, "m1", 10)
    beat = rig.beat(bundle.amphora_id, lambda b: b.members[POOL]["m1"].check == "L7OK 200")
    assert (beat.digest, beat.haproxy) == (wire.digest(bundle), "running")
    assert beat.listeners["listener"].status == "OPEN"
    assert beat.pools == {POOL: "UP"}
    assert beat.members[POOL]["m1"].status.startswith("UP")


def test_a_sick_member_is_told_at_once_with_the_reason(rig: Rig) -> None:
    number = int(rig.address().rpartition(".")[2])
    sick = rig.member(f"m{number}", rig.front, f"{rig.net}.0.{number}/24")
    _, bundle = checked(rig, f"m{number}", number)
    bundle = replace(bundle, heartbeat_interval=600.0)
    rig.push(bundle)
    rig.beat(bundle.amphora_id, lambda b: b.members)
    rig.drain_beats()
    sick.touch()
    began = time.monotonic()
    beat = rig.beat(bundle.amphora_id, lambda b: b.pools.get(POOL) == "DOWN")
    assert time.monotonic() - began < 30  # two checks 0.3 s apart; not the ten minutes between two heartbeats
    state = beat.members[POOL][f"m{number}"]
    assert state.status.startswith("DOWN")
    assert state.check == "L7STS 500"
    assert "wrong status" in state.text
    sick.unlink()
    rig.beat(bundle.amphora_id, lambda b: b.pools.get(POOL) == "UP")


def test_an_amphora_with_nothing_to_serve_beats(rig: Rig) -> None:
    bundle = rig.bundle(rig.amphora(), rig.address(), None)
    rig.push(bundle)
    beat = rig.beat(bundle.amphora_id, lambda b: b.digest == wire.digest(bundle))
    assert (beat.haproxy, beat.listeners, beat.members) == ("absent", {}, {})


def test_counters_grow_through_reload_and_respawn(rig: Rig) -> None:
    vip, bundle = checked(rig, "m1", 10)
    amphora = bundle.amphora_id

    def after(requests: int) -> wire.Heartbeat:
        for _ in range(requests):
            eventually(lambda: get(vip))
        return rig.beat(amphora, lambda b: b.listeners and b.listeners["listener"].total_connections >= wanted)

    wanted = 5
    first = after(5)
    rig.push(replace(bundle, files={"haproxy.cfg": bundle.files["haproxy.cfg"] + "    timeout queue 9s\n"}))
    wanted = 10
    second = after(5)
    (pid,) = eventually(lambda: p if len(p := rig.processes(amphora)) == 1 else None)
    os.kill(pid, signal.SIGKILL)
    wanted = 15
    third = after(5)
    assert first.epoch == second.epoch == third.epoch
    assert first.sequence < second.sequence < third.sequence
    totals = [b.listeners["listener"].bytes_out for b in (first, second, third)]
    assert totals == sorted(totals)


def test_health_is_remembered_across_a_reload(rig: Rig) -> None:
    vip = rig.address()
    lines = {"m1": f"{rig.net}.0.10:80 {CHECK}", "m9": f"{rig.net}.0.9:80 {CHECK}"}
    text = config(vip, servers=lines)
    bundle = rig.bundle(rig.amphora(), vip, text)
    rig.push(bundle)
    rig.beat(bundle.amphora_id, lambda b: b.members[POOL]["m9"].status == "DOWN")
    rig.drain_beats()
    new = replace(bundle, files={"haproxy.cfg": config(vip, servers=lines, extra="    timeout queue 9s\n")})
    rig.push(new)
    beat = rig.beat(bundle.amphora_id, lambda b: b.digest == wire.digest(new))
    assert beat.members[POOL]["m9"].status == "DOWN"


def test_a_member_that_goes_unchecked_is_used_although_it_was_down(rig: Rig) -> None:
    vip = rig.address()
    bundle = rig.bundle(rig.amphora(), vip, config(vip, servers={"m1": f"{rig.net}.0.10:80 port 9 {CHECK}"}))
    rig.push(bundle)
    rig.beat(bundle.amphora_id, lambda b: b.pools.get(POOL) == "DOWN")
    rig.push(replace(bundle, files={"haproxy.cfg": config(vip, servers={"m1": f"{rig.net}.0.10:80"})}))
    assert get(vip) == "m1"

"""Several VIPs, seen on the wire."""

import signal

from rig import Rig, config, eventually, get

from colonnade import wire


def dual(rig: Rig, *members: str) -> tuple[str, str, wire.Bundle]:
    """An IPv4 and an IPv6 VIP before the same members."""
    four = rig.address()
    six = f"{rig.net6}:{four.rpartition('.')[2]}:1"
    lines = {f"s{n}": m for n, m in enumerate(members)}
    bundle = rig.bundle(rig.amphora(), four, config(four, f"[{six}]", servers=lines), vips=(f"{six}/128",))
    rig.push(bundle)
    return four, six, bundle


def test_both_ip_versions_are_answered_by_the_same_members(rig: Rig) -> None:
    m1_by_six, m2_by_four = f"[{rig.net6}:a]:80", f"{rig.net}.0.11:80"
    four, six, _ = dual(rig, m1_by_six, m2_by_four)
    assert {get(four) for _ in range(4)} == {"m1", "m2"}
    assert {get(six) for _ in range(4)} == {"m1", "m2"}


def test_another_amphora_takes_all_vips_over_at_once(rig: Rig) -> None:
    four, six, old = dual(rig, f"{rig.net}.0.10:80")
    assert [get(four), get(six)] == ["m1", "m1"]
    servers = {"s0": f"{rig.net}.0.11:80"}
    new = rig.bundle(rig.amphora(), four, config(four, f"[{six}]", servers=servers), vips=(f"{six}/128",))
    rig.push(new)
    assert [get(four), get(six)] == ["m2", "m2"]
    rig.client.remove(old.amphora_id, None)
    assert [get(four), get(six)] == ["m2", "m2"]


def test_all_vips_are_back_after_the_agent(rig: Rig) -> None:
    four, six, _ = dual(rig, f"{rig.net}.0.10:80")
    rig.stop(signal.SIGKILL)
    rig.start()
    assert eventually(lambda: [get(four), get(six)]) == ["m1", "m1"]

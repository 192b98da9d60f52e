"""What travels through a load balancer while members, programs and amphorae come and go."""

import os
import signal
import threading
from collections.abc import Callable

import pytest
from standalone import PROGRAMS, Api, Standalone, WebServer, bodies, fetch, traffic
from support import PATIENCE_S, eventually

from colonnade import supervisor

pytestmark = [pytest.mark.system, pytest.mark.root]

Web = Callable[[str], WebServer]
MONITOR = {
    "type": "HTTP", "delay": 1, "timeout": 1, "max_retries": 1, "max_retries_down": 1, "url_path": "/healthcheck",
}  # fmt: skip


def _members(api: Api, lb_id: str) -> dict[str, dict[str, object]]:
    (pool,) = api.get(f"lbaas/pools?loadbalancer_id={lb_id}")
    return {m["name"]: m for m in api.get(f"lbaas/pools/{pool['id']}/members")}


def _serving(api: Api, name: str, members: list[dict[str, object]], **more: object) -> tuple[str, str]:
    """A load balancer that answers: its id and VIP."""
    lb = api.until_active(api.create(name, members, **more)["id"])
    eventually(lambda: fetch(lb["vip_address"]))
    return lb["id"], lb["vip_address"]


def test_a_failing_member_gets_no_traffic_and_says_why(api: Api, web: Web) -> None:
    good, bad = web("good"), web("bad")
    members = [good.member(name="good"), bad.member(name="bad")]
    lb_id, vip = _serving(api, "sick", members, monitor=MONITOR)
    eventually(lambda: bodies(vip) == {"good", "bad"})
    bad.healthy = False
    eventually(lambda: _members(api, lb_id)["bad"]["operating_status"] == "ERROR")
    eventually(lambda: "503" in str(_members(api, lb_id)["bad"]["reason"]))
    assert "bad" not in bodies(vip, 20)
    eventually(lambda: bodies(vip) == {"good"})
    bad.healthy = True
    eventually(lambda: _members(api, lb_id)["bad"]["operating_status"] == "ONLINE")
    eventually(lambda: bodies(vip) == {"good", "bad"})
    eventually(lambda: not _members(api, lb_id)["bad"].get("reason"))


def test_a_drained_member_finishes_what_it_has(api: Api, web: Web) -> None:
    leaving, staying = web("leaving"), web("staying")
    lb_id, vip = _serving(api, "drain", [leaving.member(name="leaving")])
    (pool,) = api.get(f"lbaas/pools?loadbalancer_id={lb_id}")
    answers: list[str | None] = []
    slow = threading.Thread(target=lambda: answers.append(fetch(vip, "/slow", timeout=PATIENCE_S)))
    slow.start()
    assert leaving.asked_slowly.wait(PATIENCE_S)
    api.post(f"lbaas/pools/{pool['id']}/members", {"member": staying.member(name="staying")})
    member = _members(api, lb_id)["leaving"]["id"]
    api.put(f"lbaas/pools/{pool['id']}/members/{member}", {"member": {"weight": 0}})
    api.until_active(lb_id)
    eventually(lambda: bodies(vip) == {"staying"})
    assert answers == []
    leaving.hold.set()
    slow.join()
    assert answers == ["leaving"]


def test_a_backup_member_serves_only_when_the_others_are_down(api: Api, web: Web) -> None:
    first, spare = web("first"), web("spare")
    members = [first.member(name="first"), spare.member(name="spare", backup=True)]
    _, vip = _serving(api, "backup", members, monitor=MONITOR)
    eventually(lambda: bodies(vip) == {"first"})
    first.healthy = False
    eventually(lambda: bodies(vip) == {"spare"})
    first.healthy = True
    eventually(lambda: bodies(vip) == {"first"})


def test_weights_and_members_change_without_a_failed_request(api: Api, web: Web) -> None:
    servers = [web(f"w{i}") for i in range(3)]
    lb_id, vip = _serving(api, "smooth", [servers[0].member(name="w0")])
    (pool,) = api.get(f"lbaas/pools?loadbalancer_id={lb_id}")
    with traffic(vip) as failed:
        for weight in range(1, 6):
            members = [s.member(name=s.name, weight=weight) for s in servers[: 1 + weight % 3]]
            api.put(f"lbaas/pools/{pool['id']}/members", {"members": members})
            api.until_active(lb_id)
    assert failed == []


def test_the_agent_alone_brings_a_killed_haproxy_back(standalone: Standalone, api: Api) -> None:
    """How soon is bench/run's to measure: 0.2 s on a quiet machine. Here nobody else can have done it."""
    lb_id, vip = _serving(api, "respawn", [{"address": m, "protocol_port": 80} for m in standalone.members])
    old = standalone.haproxy_of(lb_id)
    others = [standalone.pid(p) for p in ("worker", "health-manager", "housekeeping")]
    for pid in others:
        os.kill(pid, signal.SIGSTOP)
    try:
        os.kill(old, signal.SIGKILL)
        eventually(lambda: supervisor.started(old) is None)
        eventually(lambda: fetch(vip))
    finally:
        for pid in others:
            os.kill(pid, signal.SIGCONT)
    assert standalone.haproxy_of(lb_id) != old


def test_traffic_goes_on_without_the_control_plane(standalone: Standalone, api: Api) -> None:
    _, vip = _serving(api, "alone", [{"address": m, "protocol_port": 80} for m in standalone.members])
    haproxies = standalone.haproxies()
    stopped = [standalone.pid(p) for p in ("keeper", "up", *PROGRAMS)]
    try:
        with traffic(vip) as failed:
            for pid in stopped:
                os.kill(pid, signal.SIGKILL)
            eventually(lambda: not any(map(_alive, stopped)))
            assert None not in bodies(vip, 50)
        assert failed == []
    finally:
        standalone.start()
    assert set(standalone.haproxies()) == set(haproxies)
    assert None not in bodies(vip, 10)


def test_failover_replaces_the_amphora(standalone: Standalone, api: Api) -> None:
    lb_id, vip = _serving(api, "failover", [{"address": m, "protocol_port": 80} for m in standalone.members])
    path = f"/load-balancer/v2/octavia/amphorae?loadbalancer_id={lb_id}"
    (old,) = api.get(path)
    with traffic(vip) as failed:
        api.put(f"lbaas/loadbalancers/{lb_id}/failover", {})
        api.until_active(lb_id)
        eventually(lambda: [a["id"] for a in api.get(path)] != [old["id"]] and len(api.get(path)) == 1)
    assert len(failed) <= 2  # what was in flight
    eventually(standalone.nothing_left_over)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True

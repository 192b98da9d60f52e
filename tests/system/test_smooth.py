"""Under a steady rate of requests, on new and kept connections: planned changes fail none, and counters only grow."""

import itertools
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from faults import MONITOR
from probe import Probe, probe
from standalone import Api, Standalone, WebServer, bodies
from support import eventually

pytestmark = [pytest.mark.system, pytest.mark.root]

Web = Callable[[str], WebServer]
_COUNTERS = ("bytes_in", "bytes_out", "total_connections", "request_errors")


@pytest.fixture
def lb(api: Api, standalone: Standalone) -> dict[str, str]:
    """One that serves, with the demo's two servers as members: its id, VIP, pool and listener."""
    made = api.create("smooth", [{"address": m, "protocol_port": 80} for m in standalone.members])
    vip = api.until_active(made["id"])["vip_address"]
    eventually(lambda: len(bodies(vip)) == 2 and None not in bodies(vip))
    return {"id": made["id"], "vip": vip, "pool": made["pools"][0]["id"], "listener": made["listeners"][0]["id"]}


@contextmanager
def _steadily(vip: str) -> Iterator[tuple[Probe, Probe]]:
    """Some 150 requests a second."""
    with probe(vip, rate=75) as new, probe(vip, rate=75, kept=True) as kept:
        eventually(lambda: len(new.answered) > 20 and len(kept.answered) > 20)
        yield new, kept
        more = len(new.answered) + 30, len(kept.answered) + 30
        eventually(lambda: len(new.answered) > more[0] and len(kept.answered) > more[1])


def test_planned_changes_fail_no_request(api: Api, standalone: Standalone, web: Web, lb: dict[str, str]) -> None:
    extra = web("extra")
    pool, members = f"lbaas/pools/{lb['pool']}", [{"address": m, "protocol_port": 80} for m in standalone.members]

    def settled() -> None:
        api.until_active(lb["id"])

    with _steadily(lb["vip"]) as (new, kept):
        for round in range(3):
            added = api.post(f"{pool}/members", {"member": extra.member(name="extra")})
            settled()
            for weight in (5, 0, 1):
                api.put(f"{pool}/members/{added['id']}", {"member": {"weight": weight}})
                settled()
            api.put(f"{pool}/members", {"members": [{**m, "weight": 2 + round} for m in members]})
            settled()
            other = {
                "protocol": "HTTP",
                "protocol_port": 8080,
                "loadbalancer_id": lb["id"],
                "default_pool_id": lb["pool"],
            }
            listener = api.post("lbaas/listeners", {"listener": other})
            settled()
            monitor = api.post("lbaas/healthmonitors", {"healthmonitor": {**MONITOR, "pool_id": lb["pool"]}})
            settled()
            api.put(f"lbaas/healthmonitors/{monitor['id']}", {"healthmonitor": {"delay": 2 + round}})
            settled()
            api.put(pool, {"pool": {"lb_algorithm": "LEAST_CONNECTIONS"}})
            settled()
            api.put(pool, {"pool": {"session_persistence": {"type": "SOURCE_IP"}, "lb_algorithm": "ROUND_ROBIN"}})
            settled()
            api.put(pool, {"pool": {"session_persistence": None}})
            api.put(f"lbaas/listeners/{lb['listener']}", {"listener": {"timeout_client_data": 40000 + round}})
            settled()
            api.delete(f"lbaas/listeners/{listener['id']}")
            api.delete(f"lbaas/healthmonitors/{monitor['id']}")
            settled()
    print(f"planned changes: {_told(new, kept)}")
    assert new.failed == []
    assert kept.failed == []


def test_a_failover_loses_at_most_what_is_in_flight(api: Api, lb: dict[str, str]) -> None:
    path = f"/load-balancer/v2/octavia/amphorae?loadbalancer_id={lb['id']}"
    with _steadily(lb["vip"]) as (new, kept):
        for _ in range(3):
            (old,) = api.get(path)
            api.put(f"lbaas/loadbalancers/{lb['id']}/failover", {})
            api.until_active(lb["id"])
            eventually(lambda old=old: [a["id"] != old["id"] for a in api.get(path)] == [True])
    print(f"3 failovers: {_told(new, kept)}")
    assert new.moments_lost <= 3
    assert len(kept.failed) <= 3 * 4  # as many connections are kept open


def test_statistics_never_run_backwards(api: Api, standalone: Standalone, lb: dict[str, str]) -> None:
    seen: dict[str, list[dict[str, int]]] = {f"loadbalancers/{lb['id']}": [], f"listeners/{lb['listener']}": []}
    stop, wrong = threading.Event(), []

    def watch() -> None:
        while not stop.wait(0.1):
            for path, stats in seen.items():
                try:
                    stats.append(api.get(f"lbaas/{path}/stats"))
                except (OSError, AssertionError) as e:
                    wrong.append(repr(e))

    def grown() -> None:
        now = api.get(f"lbaas/loadbalancers/{lb['id']}/stats")["total_connections"]
        eventually(lambda: api.get(f"lbaas/loadbalancers/{lb['id']}/stats")["total_connections"] > now + 20)

    watcher = threading.Thread(target=watch)
    with probe(lb["vip"], rate=50):
        grown()
        watcher.start()
        try:
            api.put(f"lbaas/pools/{lb['pool']}", {"pool": {"lb_algorithm": "LEAST_CONNECTIONS"}})  # a reload
            grown()
            os.kill(standalone.haproxy_of(lb["id"]), signal.SIGKILL)
            grown()
            standalone.kill("agent")
            grown()
            api.put(f"lbaas/loadbalancers/{lb['id']}/failover", {})
            api.until_active(lb["id"])
            grown()
            standalone.kill("health-manager")
            grown()
        finally:
            stop.set()
            watcher.join()
    assert wrong == []
    for stats in seen.values():
        assert len(stats) > 10
        for before, after in itertools.pairwise(stats):
            assert all(before[c] <= after[c] for c in _COUNTERS), (before, after)


def _told(new: Probe, kept: Probe) -> str:
    return ", ".join(
        f"{name}: {len(p.answered)} answered, longest gap {1000 * p.longest_gap:.0f} ms, failed {p.failed}"
        for name, p in (("new", new), ("kept", kept))
    )

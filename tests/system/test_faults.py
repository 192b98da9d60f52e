"""Random deaths while several users are at work; a locked database; a full disk. All settles, nothing is left over."""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faults import Fate, assert_all_serve, users
from standalone import Api, Standalone, WebServer, bodies, free_port, run, traffic
from support import eventually

pytestmark = [pytest.mark.system, pytest.mark.root]

Web = Callable[[str], WebServer]
_SECONDS = 20.0


@pytest.mark.parametrize("seed", [1])
def test_random_deaths_leave_nothing_undone(standalone: Standalone, api: Api, web: Web, seed: int) -> None:
    servers = [web(f"w{n}") for n in range(3)]
    fate, pause = Fate(standalone, seed), threading.Event()
    end = time.monotonic() + _SECONDS
    with users(standalone, servers, seed) as everyone:
        while time.monotonic() < end:
            pause.wait(fate.pause())
            fate.strike()
        eventually(lambda: all(user.turns > 3 for user in everyone))
    assert [wrong for user in everyone for wrong in user.wrong] == [], fate.history
    eventually(standalone.nothing_left_over, 120, every=0.5)
    assert_all_serve(standalone, servers)
    for fip in api.get("/network/v2.0/floatingips"):
        api.delete(f"/network/v2.0/floatingips/{fip['id']}")
    lbs = [lb["id"] for lb in api.get("lbaas/loadbalancers")]
    for lb_id in lbs:
        api.delete(f"lbaas/loadbalancers/{lb_id}?cascade=true")
    for lb_id in lbs:
        api.until_gone(lb_id)
    eventually(standalone.nothing_left_over)
    assert standalone.amphorae_on_disk() == {}
    assert standalone.haproxies() == {}


def test_a_locked_database_loses_nothing(standalone: Standalone, api: Api) -> None:
    lb = api.until_active(
        api.create("patient", [{"address": m, "protocol_port": 80} for m in standalone.members])["id"]
    )
    eventually(lambda: None not in bodies(lb["vip_address"]))
    accepted: list[str] = []

    def write() -> None:
        for n in range(3):
            body = {"loadbalancer": {"name": f"patient-{n}", "vip_subnet_id": api.subnet()}}
            reply = api.ask("POST", "lbaas/loadbalancers", body)
            assert reply.status in (201, 503), reply
            if reply.status == 201:
                accepted.append(reply.body["loadbalancer"]["id"])

    other = sqlite3.connect(standalone.state / "db" / "colonnade.sqlite", isolation_level=None, timeout=30)
    writer = threading.Thread(target=write)
    with traffic(lb["vip_address"]) as failed:
        other.execute("BEGIN EXCLUSIVE")
        writer.start()
        writer.join(8)
        assert api.loadbalancer(lb["id"])["provisioning_status"] == "ACTIVE"  # reading needs no lock
        other.execute("COMMIT")
        other.close()
        writer.join(60)
    assert failed == []
    for lb_id in accepted:
        api.until_active(lb_id)
    assert accepted
    eventually(standalone.nothing_left_over)


@pytest.fixture
def small() -> Iterator[Standalone]:
    """An installation on a file system of its own that is soon full."""
    disk = Path(f"/tmp/clndisk{free_port()}")
    disk.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=24m,mode=755", "tmpfs", str(disk))
    made = Standalone(disk / "small", free_port(), ("--demo",))
    try:
        made.start()
        yield made
    finally:
        (disk / "fill").unlink(missing_ok=True)
        made.stop("--purge")
        run("umount", str(disk))
        disk.rmdir()


def test_a_full_disk_is_said_and_survived(small: Standalone) -> None:
    admin, members = small.admin(), [{"address": m, "protocol_port": 80} for m in small.members]
    lb = admin.until_active(admin.create("full", members)["id"])
    eventually(lambda: None not in bodies(lb["vip_address"]))
    fill = small.state.parent / "fill"
    eventually(lambda: _ends_its_log(small))
    with traffic(lb["vip_address"]) as failed:
        with pytest.raises(OSError, match="No space"), fill.open("wb", buffering=0) as f:
            while True:
                f.write(b"x" * 4096)
        reply = admin.ask("POST", "lbaas/loadbalancers", {"loadbalancer": {"vip_subnet_id": admin.subnet()}})
        assert reply.status == 503
        assert "again" in reply.body["faultstring"]
        up, worker = small.pid("up"), small.pid("worker")
        small.kill("worker")
        eventually(lambda: _new(small, worker))
        assert admin.loadbalancer(lb["id"])["provisioning_status"] == "ACTIVE"
        assert small.pid("up") == up
        fill.unlink()
        other = admin.until_active(admin.create("fits", members)["id"])
        eventually(lambda: None not in bodies(other["vip_address"]))
    assert failed == []
    eventually(small.nothing_left_over)


def _ends_its_log(s: Standalone) -> bool:
    """Whether the database's write-ahead log is empty now: what is written next needs room of its own."""
    db = sqlite3.connect(s.state / "db" / "colonnade.sqlite", timeout=30)
    try:
        busy, _, _ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not busy
    finally:
        db.close()


def _new(s: Standalone, old: int) -> bool:
    """Whether another worker runs. Its pid file may be the old one: there was no room to write it."""
    lines = run("pgrep", "-f", f"colonnade worker .*{s.state}/", check=False).stdout.split()
    return bool(lines) and str(old) not in lines

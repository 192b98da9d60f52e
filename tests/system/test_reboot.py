"""What a reboot leaves is the disk. The agent alone makes the amphorae carry traffic again; ./try brings the rest."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from faults import MONITOR, assert_all_serve
from standalone import PROGRAMS, Standalone, WebServer, bodies, installation, run
from support import eventually

from colonnade import supervisor

pytestmark = [pytest.mark.system, pytest.mark.root]


@pytest.fixture
def own() -> "Callable[[], Standalone]":
    with installation() as made:
        yield made


def _power_off(s: Standalone) -> None:
    """Nothing of it is left but what is on disk."""
    for name in ("keeper", "up", *PROGRAMS):
        pid = supervisor.running(s.state / "run" / f"{name}.pid")
        if pid:
            os.kill(pid, signal.SIGKILL)
            eventually(lambda pid=pid: supervisor.started(pid) is None)
    for pid in s.haproxies():
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: s.haproxies() == {})
    run("ip", "link", "delete", f"cln{s.setting('slot')}up")
    for name in s.namespaces():
        run("ip", "netns", "delete", name)
    run("nft", "delete", "table", "inet", f"colonnade_{s.tag}")
    shutil.rmtree(Path("/run/colonnade", s.tag))
    assert s.traces() == []


def _agent_alone(s: Standalone) -> "subprocess.Popen[bytes]":
    """As the supervisor starts it."""
    words = [_python(s), "-P", "-m", "colonnade", "agent", "--state", str(s.state), "--tag", s.tag]
    words += ["--slot", s.setting("slot"), "--group", "colonnade", "--haproxy", "/usr/sbin/haproxy"]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(s.state / "lib")}
    return subprocess.Popen(words, env=environment, stderr=subprocess.DEVNULL)


def _python(s: Standalone) -> str:
    """The interpreter that ``bin/colonnade`` uses."""
    words = (s.state / "bin" / "colonnade").read_text().split()
    return next(w for w in words if w.endswith("/bin/python"))


def test_after_a_reboot_the_agent_alone_brings_traffic_back(own: Standalone) -> None:
    servers = [WebServer(own.host_address, f"w{n}") for n in range(2)]
    try:
        api = own.admin()
        plain = api.create("plain", [s.member() for s in servers])
        watched = api.create("watched", [s.member() for s in servers], monitor=MONITOR)
        vips = [api.until_active(lb["id"])["vip_address"] for lb in (plain, watched)]
        (public,) = api.get("/network/v2.0/networks?name=public")
        fip = {"floating_network_id": public["id"], "port_id": plain["vip_port_id"]}
        vips.append(api.post("/network/v2.0/floatingips", {"floatingip": fip})["floating_ip_address"])
        for vip in vips:
            eventually(lambda vip=vip: bodies(vip) == {"w0", "w1"})
        _power_off(own)
        began = time.monotonic()
        agent = _agent_alone(own)
        try:
            for vip in vips:
                eventually(lambda vip=vip: bodies(vip) == {"w0", "w1"}, 20)
            print(f"all serve {time.monotonic() - began:.2f} s after the agent's start")
        finally:
            agent.kill()
            agent.wait()
        own.start()
        assert_all_serve(own, servers)
        eventually(own.nothing_left_over, 20)
    finally:
        for server in servers:
            server.close()

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
from kernel import Echo, ask, queue
from standalone import PROGRAMS, Api, Standalone, WebServer, bodies, installation, run
from support import eventually

from colonnade import supervisor
from colonnade.types import Json

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
    eventually(lambda: not s.traces())


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


class Guarded:
    """A load balancer with all that the kernel does for it: UDP, a security group that lets only that in, a limit."""

    def __init__(self, api: Api, member: Json) -> None:
        group = api.post("/network/v2.0/security-groups", {"security_group": {"name": "dns"}})["id"]
        rule = {"security_group_id": group, "direction": "ingress", "protocol": "udp"}
        rule |= {"port_range_min": 53, "port_range_max": 53}
        api.post("/network/v2.0/security-group-rules", {"security_group_rule": rule})
        policy = api.post("/network/v2.0/qos/policies", {"policy": {"name": "slow"}})["id"]
        limit = {"bandwidth_limit_rule": {"max_kbps": 2000, "direction": "egress"}}
        api.post(f"/network/v2.0/qos/policies/{policy}/bandwidth_limit_rules", limit)
        pool = {"name": "dns", "protocol": "UDP", "lb_algorithm": "ROUND_ROBIN", "members": [member]}
        listeners = [{"protocol": "UDP", "protocol_port": port, "default_pool": {**pool, "name": f"dns{port}"}}
                     for port in (53, 54)]  # fmt: skip
        lb = {"name": "guarded", "vip_subnet_id": api.subnet(), "listeners": listeners, "vip_sg_ids": [group],
              "vip_qos_policy_id": policy}  # fmt: skip
        self.id = api.post("lbaas/loadbalancers", {"loadbalancer": lb})["id"]
        self.vip = api.until_active(self.id)["vip_address"]
        (amphora,) = api.get(f"/load-balancer/v2/octavia/amphorae?loadbalancer_id={self.id}")
        self._amphora = amphora["id"]

    def is_well(self, s: Standalone) -> bool:
        """True, or what is not as it was asked for is raised."""
        assert ask(self.vip) == "echo"
        with pytest.raises(TimeoutError):
            ask(self.vip, 54, timeout=1)  # served, and let in by nobody
        assert "rate 2Mbit" in queue(s, self._amphora)
        return True


def test_after_a_reboot_the_agent_alone_brings_traffic_back(own: Standalone) -> None:
    servers = [WebServer(own.host_address, f"w{n}") for n in range(2)]
    echo = Echo(own.host_address, "echo")
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
        guarded = Guarded(api, {"address": own.host_address, "protocol_port": echo.port})
        eventually(lambda: guarded.is_well(own))
        _power_off(own)
        began = time.monotonic()
        agent = _agent_alone(own)
        try:
            for vip in vips:
                eventually(lambda vip=vip: bodies(vip) == {"w0", "w1"})
            eventually(lambda: guarded.is_well(own))
            print(f"all serve {time.monotonic() - began:.2f} s after the agent's start")
        finally:
            agent.kill()
            agent.wait()
        own.start()
        eventually(lambda: guarded.is_well(own))
        api.delete(f"lbaas/loadbalancers/{guarded.id}?cascade=true")
        api.until_gone(guarded.id)
        assert_all_serve(own, servers)
        eventually(own.nothing_left_over)
    finally:
        for member in (*servers, echo):
            member.close()

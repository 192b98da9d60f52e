"""Users who create, change, fail over and delete at random, and a fate that kills programs meanwhile. All is seeded."""

import contextlib
import http.client
import os
import random
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from standalone import PROGRAMS, Api, Json, Reply, Standalone, WebServer, bodies
from support import eventually

from colonnade import supervisor

MONITOR = {"type": "HTTP", "delay": 1, "timeout": 1, "max_retries": 1, "url_path": "/healthcheck"}
_PORTS = (80, 81, 82)
_MOST = 4  # load balancers of one user


class User:
    """One user's thread. What a request that met a dying API came to is asked of the API afterwards."""

    def __init__(self, s: Standalone, servers: list[WebServer], seed: int) -> None:
        self._s, self._servers, self._dice = s, servers, random.Random(seed)
        self._name = f"user{seed}"
        self._stop = threading.Event()
        self._api = s.admin()
        self.turns = 0
        self.wrong: list[str] = []
        self._thread = threading.Thread(target=self._go, name=self._name)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _go(self) -> None:
        while not self._stop.is_set():
            try:
                with contextlib.suppress(OSError, http.client.HTTPException):  # the API died under it
                    self._turn()
            except Exception as e:
                self.wrong.append(repr(e))
            self.turns += 1
            self._stop.wait(self._dice.random() * 0.1)

    def _turn(self) -> None:
        mine = [lb for lb in self._api.get(f"lbaas/loadbalancers?description={self._name}")
                if lb["provisioning_status"] != "PENDING_DELETE"]  # fmt: skip
        deed = self._dice.choice(("create", "members", "members", "listener", "monitor", "failover", "delete", "fip"))
        if not mine or (deed == "create" and len(mine) < _MOST):
            return self._create()
        lb = self._dice.choice(mine)
        if deed in ("members", "listener", "monitor", "fip"):
            return getattr(self, f"_{deed}")(lb)
        if deed == "failover":
            return self._ask("PUT", f"lbaas/loadbalancers/{lb['id']}/failover", {})
        if deed == "delete":
            return self._ask("DELETE", f"lbaas/loadbalancers/{lb['id']}?cascade=true")
        return None

    def _create(self) -> None:
        pool: Json = {"name": "p", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": self._some()}
        if self._dice.random() < 0.5:
            pool["healthmonitor"] = MONITOR
        listeners = [{"protocol": "HTTP", "protocol_port": 80, "tags": [self._name], "default_pool": pool}]
        lb = {"vip_subnet_id": self._api.subnet(), "listeners": listeners, "tags": [self._name]}
        lb |= {"name": f"{self._name}-{self.turns}", "description": self._name}
        self._ask("POST", "lbaas/loadbalancers", {"loadbalancer": lb})

    def _members(self, lb: Json) -> None:
        for pool in lb["pools"][:1]:
            self._ask("PUT", f"lbaas/pools/{pool['id']}/members", {"members": self._some()})

    def _listener(self, lb: Json) -> None:
        port = self._dice.choice(_PORTS[1:])
        for listener in self._api.get(f"lbaas/listeners?loadbalancer_id={lb['id']}"):
            if listener["protocol_port"] == port:
                return self._ask("DELETE", f"lbaas/listeners/{listener['id']}")
        for pool in lb["pools"][:1]:
            made = {"protocol": "HTTP", "protocol_port": port, "loadbalancer_id": lb["id"], "tags": [self._name]}
            self._ask("POST", "lbaas/listeners", {"listener": made | {"default_pool_id": pool["id"]}})
        return None

    def _monitor(self, lb: Json) -> None:
        for pool in self._api.get(f"lbaas/pools?loadbalancer_id={lb['id']}"):
            if not pool.get("healthmonitor_id"):
                made = MONITOR | {"pool_id": pool["id"]}
                return self._ask("POST", "lbaas/healthmonitors", {"healthmonitor": made})
            path = f"lbaas/healthmonitors/{pool['healthmonitor_id']}"
            if self._dice.random() < 0.3:
                return self._ask("DELETE", path)
            return self._ask("PUT", path, {"healthmonitor": {"delay": self._dice.randint(1, 2)}})
        return None

    def _fip(self, lb: Json) -> None:
        for fip in self._api.get(f"/network/v2.0/floatingips?port_id={lb['vip_port_id']}"):
            return self._ask("DELETE", f"/network/v2.0/floatingips/{fip['id']}")
        (public,) = self._api.get("/network/v2.0/networks?name=public")
        made = {"floating_network_id": public["id"], "port_id": lb["vip_port_id"]}
        return self._ask("POST", "/network/v2.0/floatingips", {"floatingip": made})

    def _some(self) -> list[Json]:
        chosen = self._dice.sample(self._servers, self._dice.randint(1, len(self._servers)))
        return [s.member(weight=self._dice.randint(1, 3)) for s in chosen]

    def _ask(self, method: str, path: str, body: Json | None = None) -> None:
        """A request that may come too late: its load balancer, or the part it names, is being deleted."""
        reply: Reply = self._api.ask(method, path, body)
        assert reply.status < 300 or reply.status in (404, 409), (method, path, reply)


@contextmanager
def users(s: Standalone, servers: list[WebServer], seed: int, number: int = 3) -> Iterator[list[User]]:
    """Several of them, at work until the end of the block."""
    made = [User(s, servers, seed * 100 + n) for n in range(number)]
    for user in made:
        user.start()
    try:
        yield made
    finally:
        for user in made:
            user.stop()


class Fate:
    """Kills one program, an HAProxy, or everything but the keeper. ``history`` says what it did."""

    def __init__(self, s: Standalone, seed: int) -> None:
        self._s, self._dice = s, random.Random(seed)
        self.history: list[str] = []

    def pause(self) -> float:
        """Until the next blow; sometimes none at all."""
        return self._dice.choice((0.1, 1.0, 2.0, 4.0, 6.0)) * self._dice.random()

    def strike(self) -> None:
        choice = self._dice.choice((*PROGRAMS, "worker", "agent", "up", "haproxy", "all"))
        self.history.append(choice)
        if choice == "haproxy":
            alive = sorted(self._s.haproxies())
            self._kill(self._dice.choice(alive) if alive else 0)
        elif choice == "all":
            for program in (*PROGRAMS, "up"):
                self._kill(self._pid(program))
        else:
            self._kill(self._pid(choice))

    def _pid(self, program: str) -> int:
        return supervisor.running(self._s.state / "run" / f"{program}.pid")

    @staticmethod
    def _kill(pid: int) -> None:
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def assert_all_serve(s: Standalone, servers: list[WebServer]) -> None:
    """Every load balancer is well, and each of its listeners is answered by exactly the members that the API names."""
    admin, names = s.admin(), {server.port: server.name for server in servers}
    eventually(lambda: not _unwell(admin), every=0.2)
    for lb in admin.get("lbaas/loadbalancers"):
        for listener in admin.get(f"lbaas/listeners?loadbalancer_id={lb['id']}"):
            members = admin.get(f"lbaas/pools/{listener['default_pool_id']}/members")
            wanted = {names[m["protocol_port"]] for m in members}
            where = lb["vip_address"], listener["protocol_port"]
            eventually(lambda where=where, wanted=wanted: _same(bodies(where[0], 12, where[1]), wanted))
        for fip in admin.get(f"/network/v2.0/floatingips?port_id={lb['vip_port_id']}"):
            eventually(lambda fip=fip: None not in bodies(fip["floating_ip_address"], times=2))


def _unwell(admin: Api) -> list[Any]:
    """What is not well, or not said to be."""
    found = []
    for kind in ("loadbalancers", "listeners", "pools", "healthmonitors"):
        found += [(kind, o) for o in admin.get(f"lbaas/{kind}") if o["operating_status"] != "ONLINE"
                  or o["provisioning_status"] != "ACTIVE" or o.get("reason")]  # fmt: skip
    assert found == [], found
    return found


def _same(seen: set[str | None], wanted: set[str]) -> bool:
    assert seen == wanted, (seen, wanted)
    return True

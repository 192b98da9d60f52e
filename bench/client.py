"""What every row of the benchmark needs: HTTP against the API, CPU and memory of the process tree, quantiles."""

import http.client
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_TICKS = os.sysconf("SC_CLK_TCK")


class Api:
    """One kept connection to the API, with a token of the admin user unless told."""

    def __init__(self, port: int, state: Path, *, token: bool = True) -> None:
        self.port, self.state = port, state
        self._http = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._headers = {"Content-Type": "application/json"}
        if token:
            self._headers["X-Auth-Token"] = self._authenticate()

    def call(self, method: str, path: str, body: Any = None, expect: tuple[int, ...] = (200, 201, 202, 204)) -> Any:
        """The reply's body. Raises RuntimeError when the status is not an expected one."""
        self._http.request(method, path, None if body is None else json.dumps(body), self._headers)
        reply = self._http.getresponse()
        text = reply.read()
        if reply.status not in expect:
            raise RuntimeError(f"{method} {path}: {reply.status} {text[:400]!r}")
        return json.loads(text) if text and reply.status != 404 else None

    def close(self) -> None:
        """The next call connects anew: the server ends connections that were idle for a minute."""
        self._http.close()

    def lb(self, path: str) -> str:
        """A path below the load-balancing API."""
        return f"/load-balancer/v2/lbaas/{path}"

    def until_active(self, lb_id: str, seconds: float = 60) -> None:
        """Poll (every 4 ms) until the load balancer is ACTIVE. Raises RuntimeError on ERROR or when it takes longer."""
        end = time.monotonic() + seconds
        while True:
            lb = self.call("GET", self.lb(f"loadbalancers/{lb_id}"))["loadbalancer"]
            if lb["provisioning_status"] == "ACTIVE":
                return
            if lb["provisioning_status"] == "ERROR" or time.monotonic() > end:
                raise RuntimeError(f"{lb_id} is {lb['provisioning_status']}: {lb.get('reason')}")
            time.sleep(0.004)

    def until_gone(self, lb_ids: list[str], seconds: float = 120) -> None:
        """Poll until none of these load balancers is left."""
        end = time.monotonic() + seconds
        for lb_id in lb_ids:
            while self.call("GET", self.lb(f"loadbalancers/{lb_id}"), expect=(200, 404)) is not None:
                if time.monotonic() > end:
                    raise RuntimeError(f"{lb_id} is still there")
                time.sleep(0.02)

    def delete(self, lb_ids: list[str]) -> None:
        """Delete load balancers with all that is in them, and wait."""
        for lb_id in lb_ids:
            self.call("DELETE", self.lb(f"loadbalancers/{lb_id}?cascade=true"), expect=(204, 404))
        self.until_gone(lb_ids)

    def subnet(self, name: str = "private-subnet") -> str:
        """The id of a subnet by its name."""
        return str(self.call("GET", f"/network/v2.0/subnets?name={name}")["subnets"][0]["id"])

    def _authenticate(self) -> str:
        secrets = dict(
            line.split("=", 1) for line in (self.state / "secrets/passwords.env").read_text().split() if "=" in line
        )
        user = {"name": "admin", "domain": {"id": "default"}, "password": secrets["ADMIN_PASSWORD"].strip("\"'")}
        scope = {"project": {"name": "admin", "domain": {"id": "default"}}}
        identity = {"methods": ["password"], "password": {"user": user}}
        body = json.dumps({"auth": {"identity": identity, "scope": scope}})
        self._http.request("POST", "/identity/v3/auth/tokens", body, {"Content-Type": "application/json"})
        reply = self._http.getresponse()
        reply.read()
        if reply.status != 201:
            raise RuntimeError(f"no token: {reply.status}")
        return str(reply.getheader("X-Subject-Token"))


def tree(root: int) -> list[int]:
    """The process ``root`` and all its descendants."""
    children: dict[int, list[int]] = {}
    for pid in (int(p) for p in os.listdir("/proc") if p.isdigit()):
        fields = _stat(pid)
        if fields:
            children.setdefault(int(fields[1]), []).append(pid)
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += children.get(pid, [])
    return found


def cpu_ms(root: int) -> float:
    """CPU that the process tree has used so far, in ms; that of ended children counts with their parents."""
    stats = [s for s in map(_stat, tree(root)) if s]
    return sum(int(t) for s in stats for t in s[11:15]) * 1000 / _TICKS


def cpu_by_program(up: int, database: int | None) -> dict[str, float]:
    """CPU ms so far of an installation's processes, by program, and of its database server as "db"."""
    found: dict[str, float] = {} if database is None else {"db": cpu_ms(database)}
    for pid in tree(up):
        words = name_of(pid).split()
        program = words[words.index("colonnade") + 1] if "colonnade" in words else "other"
        stat = _stat(pid) or ["0"] * 15
        found[program] = found.get(program, 0.0) + sum(int(t) for t in stat[11:13]) * 1000 / _TICKS
    return found


@contextmanager
def cpu_of(root: int, operations: int, out: dict[str, float]) -> Iterator[None]:
    """Puts the tree's CPU ms for each operation in ``out["cpu"]``."""
    before = cpu_ms(root)
    yield
    out["cpu"] = (cpu_ms(root) - before) / operations


def pss_mb(pids: list[int]) -> float:
    """Proportional memory of these processes, in MB."""
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def name_of(pid: int) -> str:
    """The command line of a process."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def timed_ms(action: Callable[[], object]) -> float:
    """How long the action takes, in ms."""
    start = time.perf_counter()
    action()
    return (time.perf_counter() - start) * 1000


def summary(samples: list[float]) -> tuple[float, float]:
    """(median, largest)."""
    return statistics.median(samples), max(samples)


def _stat(pid: int) -> list[str] | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None

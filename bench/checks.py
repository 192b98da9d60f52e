"""How many health checks an agent makes of members of UDP and SCTP pools, and how late they are.

    python bench/checks.py [load balancers] [members of each] [seconds] [TCP | UDP-CONNECT | SCTP]

Members from which nothing comes, checked every second, each load balancer in a network namespace of its own (root);
beside them one with 4 members. Prints checks a second, the CPU they took, and the seconds from one check of a member to
the next.
"""

import os
import resource
import subprocess
import sys
import time
from dataclasses import replace

from colonnade.agent import namespaces
from colonnade.agent.checks import Checks, Group, Target
from colonnade.agent.probes import PROBES, Outcome, Probe
from colonnade.datagrams import Monitor

NOBODY = "192.0.2.1"  # of TEST-NET-1; it has a neighbour's entry, so packets go out
LINK = ("link add eth0 type veth peer name eth1", "link set eth0 up", "link set eth1 up",
        "addr add 192.0.2.2/24 dev eth0", f"neigh add {NOBODY} lladdr 02:00:00:00:00:01 dev eth0")  # fmt: skip


def main(balancers: int = 8, members: int = 2000, seconds: int = 8, kind: str = "TCP") -> None:
    """Print three lines."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    names = [f"colonnade-bench-{os.getpid()}-{n}" for n in range(balancers + 1)]
    try:
        for name in names:
            namespaces.create(name)
            for words in LINK:
                subprocess.run(["ip", "-n", name, *words.split()], check=True)
        _measure(names, members, seconds, kind)
    finally:
        for name in names:
            namespaces.remove(name)


def _measure(names: list[str], members: int, seconds: int, kind: str) -> None:
    checks, few, many = Checks(), list[list[float]](), list[list[float]]()
    monitor = Monitor(kind=kind, delay=1, timeout=1, rise=1, fall=1)
    began, cpu = time.monotonic(), time.process_time()
    for name in names:
        log, count = (few, 4) if name == names[0] else (many, members)
        PROBES[name] = _noted(PROBES[kind], log)
        own = replace(monitor, kind=name)
        targets = {("p", str(n)): Target(address=NOBODY, port=n, monitor=own) for n in range(1, count + 1)}
        checks.watch(Group(name, lambda: None), targets)
    time.sleep(seconds)
    ended, cpu = time.monotonic(), time.process_time() - cpu
    rate, share = sum(map(len, few + many)) / (ended - began), cpu / (ended - began)
    print(f"{len(names) - 1} x {members} {kind}: {rate:.0f} checks a second, {share:.0%} of a core")
    for what, times in (("of the one with 4 members", few), ("of the others", many)):
        gaps = sorted(b - a for own in times for a, b in zip(own, [*own[1:], ended], strict=True))
        p50, p99 = gaps[len(gaps) // 2], gaps[int(len(gaps) * 0.99)]
        print(f"  seconds between checks {what}: p50 {p50:.2f}, p99 {p99:.2f}, longest {gaps[-1]:.2f}")


def _noted(kind: type[Probe], log: list[list[float]]) -> type[Probe]:
    """The same probe, which writes down when each check begins: one list for each member."""

    class Noted(kind):  # type: ignore[valid-type, misc]  # a class made of another that is a value
        def __init__(self, address: str, port: int, monitor: Monitor) -> None:
            super().__init__(address, port, monitor)
            self.begun: list[float] = []
            log.append(self.begun)

        def begin(self) -> Outcome | None:
            self.begun.append(time.monotonic())
            return super().begin()

    return Noted


if __name__ == "__main__":
    main(*(a if a.isupper() else int(a) for a in sys.argv[1:]))  # type: ignore[arg-type]  # by their places

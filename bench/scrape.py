"""How long a scrape of a PROMETHEUS listener takes, and how much it delays requests of the same load balancer.

    python bench/scrape.py [members] [scrapes]

HAProxy runs with the product's own configuration and Lua program in a network namespace of its own (root), with one
thread as an amphora has; a second one is the member that answers. A client sends a request every 2 ms on kept
connections, whatever became of those before; each counts from when it was due. Prints delays before and during scrapes.
"""

import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from datetime import datetime
from pathlib import Path
from typing import Any

from colonnade.core import haproxy
from colonnade.model import Listener, LoadBalancer, Member, Pool, Tree
from colonnade.types import Algorithm, ListenerProtocol, PoolProtocol

EVERY_S = 0.002
VIP = "127.0.0.1"
COMMON: dict[str, Any] = {"project_id": "p", "created_at": datetime(2026, 1, 1), "loadbalancer_id": "lb"}
MEMBER = "frontend x\n mode http\n timeout client 60s\n bind 127.0.0.1:8000\n http-request return status 200\n"


def main(members: int = 2000, scrapes: int = 10) -> None:
    """Print the table."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with tempfile.TemporaryDirectory() as place:
        _write(Path(place), members)
        environment = {**os.environ, "COLONNADE_MAXCONN": "1000", "COLONNADE_DATAGRAMS": f"{place}/none"}
        environment |= {f"COLONNADE_{n}": f"{place}/{n.lower()}" for n in ("SOCKET", "STATE", "LOG")}
        running = [
            subprocess.Popen(["haproxy", "-db", "-q", "-f", name], cwd=place, env=environment)
            for name in ("member.cfg", "haproxy.cfg")
        ]
        try:
            _measure(scrapes)
        finally:
            for process in running:
                process.kill()
                process.wait()


def _write(place: Path, members: int) -> None:
    pools = [Pool(id=str(uuid.uuid4()), protocol=PoolProtocol.HTTP, lb_algorithm=Algorithm.ROUND_ROBIN, **COMMON)
             for _ in range(2)]  # fmt: skip
    asked = Member(id=str(uuid.uuid4()), pool_id=pools[0].id, address="127.0.0.1", protocol_port=8000, **COMMON)
    many = [
        Member(id=str(uuid.uuid4()), pool_id=pools[1].id, address="127.0.0.2", protocol_port=n + 1, **COMMON)
        for n in range(members)
    ]
    listeners = [
        Listener(id=str(uuid.uuid4()), protocol=ListenerProtocol.HTTP, protocol_port=80 + n,
                 default_pool_id=pool.id, **COMMON)
        for n, pool in enumerate(pools)
    ]  # fmt: skip
    numbers = Listener(id="numbers", protocol=ListenerProtocol.PROMETHEUS, protocol_port=9100, **COMMON)
    balancer = LoadBalancer(id="lb", vip_address=VIP, project_id="p", created_at=COMMON["created_at"])
    tree = Tree(load_balancer=balancer, listeners=(*listeners, numbers), pools=tuple(pools), members=(asked, *many))
    (place / "member.cfg").write_text(f"global\n nbthread 1\n{MEMBER}")
    for name, text in haproxy.render(tree, [VIP], haproxy.Limits()).items():
        (place / name).write_text(text)


def _measure(scrapes: int) -> None:
    _until_it_answers()
    # A process of its own: the scraper must not keep it from sending in time.
    asking = subprocess.Popen([sys.executable, __file__, "--ask"], stdout=subprocess.PIPE, text=True)
    time.sleep(2)
    took = [_scrape() for _ in range(scrapes)]
    asking.terminate()
    delays = [tuple(map(float, line.split())) for line in asking.communicate()[0].splitlines()]
    durations = sorted(ended - began for began, ended, _ in took)
    print(f"a scrape: {durations[len(durations) // 2] * 1000:.0f} ms, {took[0][2] / 1e6:.2f} MB")
    during = [d for due, d in delays if any(began <= due <= ended for began, ended, _ in took)]
    for name, those in (("before", [d for due, d in delays if due < took[0][0]]), ("during scrapes", during)):
        those.sort()
        p50, p99 = those[len(those) // 2] * 1000, those[int(len(those) * 0.99)] * 1000
        print(f"{name:<15}{len(those)} requests: p50 {p50:.1f}, p99 {p99:.1f}, longest {those[-1] * 1000:.1f} ms")


def _scrape() -> tuple[float, float, int]:
    """Begin, end, size."""
    time.sleep(0.5)
    began = time.monotonic()
    words = ["curl", "-sf", "-o", "/dev/null", "-w", "%{size_download}", f"http://{VIP}:9100/metrics"]
    size = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    return began, time.monotonic(), int(size)


def _ask() -> None:
    """Send a request every 2 ms, whatever became of those before; at the end print when each was due, and its delay."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    free, waiting, lines = list[socket.socket](), dict[int, tuple[socket.socket, float]](), list[str]()
    epoll, due = select.epoll(), time.monotonic()
    try:
        while True:
            for fd, _ in epoll.poll(max(0.0, due - time.monotonic())):
                s, sent = waiting.pop(fd)
                if not s.recv(4096).startswith(b"HTTP/1.1 200"):
                    raise SystemExit("a request failed")
                lines.append(f"{sent} {time.monotonic() - sent}")
                epoll.unregister(fd)
                free.append(s)
            while due <= time.monotonic():
                s = free.pop() if free else socket.create_connection((VIP, 80))
                s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                waiting[s.fileno()] = (s, due)
                epoll.register(s, select.EPOLLIN)
                due += EVERY_S
    finally:
        print("\n".join(lines))


def _until_it_answers() -> None:
    for _ in range(200):
        try:
            _scrape()
        except subprocess.CalledProcessError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit("HAProxy does not answer.")


if __name__ == "__main__":
    if "--ask" in sys.argv:
        _ask()
    elif "--inside" not in sys.argv:
        os.execvp("unshare", ["unshare", "-n", sys.executable, __file__, *sys.argv[1:], "--inside"])
    else:
        main(*(int(a) for a in sys.argv[1:] if a != "--inside"))

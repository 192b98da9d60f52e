"""The figures of a stand-alone installation, measured over real HTTP with its real data plane.

    sudo bench/run [--state DIR --port N] [--only WORD ...] [--json FILE]

Without --state it starts an installation of its own (`./try --demo`) and stops it again. Prints a table: what, the
figure, what we reach for, and OpenStack Octavia 19.0.0 with no data plane at all on a machine of the same kind.
Latencies are medians; "until" rows poll every 4 ms. Figures are of this machine and moment: compare ratios.
"""

import argparse
import json
import os
import shlex
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from client import Api, cpu_of, name_of, pss_mb, summary, timed_ms, tree

from colonnade.agent import namespaces, network
from colonnade.agent.place import Installation
from colonnade.configuration import load

ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Row:
    """One line of the table. ``better`` is "less" or "more"."""

    what: str
    unit: str
    reach: float
    octavia: str = ""
    better: str = "less"
    figure: float | None = None
    note: str = ""

    @property
    def reached(self) -> bool:
        """Whether the figure is as good as we want."""
        if self.figure is None:
            return False
        return self.figure <= self.reach if self.better == "less" else self.figure >= self.reach


@dataclass
class Bench:
    """An installation that is being measured."""

    api: Api
    up: int  # pid of the supervisor
    subnet: str
    members: list[str]

    def lb_body(self, **more: object) -> dict[str, object]:
        """A load balancer to POST."""
        return {"loadbalancer": {"name": f"bench-{uuid.uuid4().hex[:8]}", "vip_subnet_id": self.subnet, **more}}

    def create(self, **more: object) -> dict[str, str]:
        """POST a load balancer; answers it."""
        lb: dict[str, str] = self.api.call("POST", self.api.lb("loadbalancers"), self.lb_body(**more))["loadbalancer"]
        return lb

    def full(self, members: int, port: int = 80, monitor: bool = True) -> dict[str, object]:
        """The parts of a load balancer with a listener, a pool and members that are spread over the demo servers."""
        made = [
            {"address": self.members[i % len(self.members)], "protocol_port": 80 if i < len(self.members) else 2000 + i}
            for i in range(members)
        ]
        check = {"type": "HTTP", "delay": 5, "timeout": 3, "max_retries": 2, "url_path": "/healthcheck"}
        pool = {"name": "pool", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": made}
        if monitor:
            pool["healthmonitor"] = check
        return {"listeners": [{"name": "web", "protocol": "HTTP", "protocol_port": port, "default_pool": pool}]}


def create_one(b: Bench, row: Row) -> None:
    """POST load balancer until ACTIVE, one at a time."""
    samples, ids = [], []
    cpu: dict[str, float] = {}
    with cpu_of(b.up, 20, cpu):
        for _ in range(20):

            def one() -> None:
                lb = b.create()
                ids.append(lb["id"])
                b.api.until_active(lb["id"])

            samples.append(timed_ms(one))
    b.api.delete(ids)
    row.figure, worst = summary(samples)
    row.note = f"max {worst:.0f}, {cpu['cpu']:.0f} ms CPU each, polls included"


def create_tree(b: Bench, row: Row) -> None:
    """Full tree (listener, pool, 10 members, monitor) until ACTIVE."""
    samples, ids = [], []
    cpu: dict[str, float] = {}
    with cpu_of(b.up, 12, cpu):
        for _ in range(12):

            def one() -> None:
                lb = b.create(**b.full(10))
                ids.append(lb["id"])
                b.api.until_active(lb["id"])

            samples.append(timed_ms(one))
    b.api.delete(ids)
    row.figure, worst = summary(samples)
    row.note = f"max {worst:.0f}, {cpu['cpu']:.0f} ms CPU each"


def burst(b: Bench, row: Row) -> None:
    """40 load balancers posted by 8 clients, until all are ACTIVE."""
    clients = [Api(b.api.port, b.api.state) for _ in range(8)]

    def make(client: Api) -> list[str]:
        made = [client.call("POST", b.api.lb("loadbalancers"), b.lb_body()) for _ in range(5)]
        return [m["loadbalancer"]["id"] for m in made]

    start = time.perf_counter()
    with ThreadPoolExecutor(8) as pool:
        ids = [lb_id for made in pool.map(make, clients) for lb_id in made]
    posted = time.perf_counter() - start
    for lb_id in ids:
        b.api.until_active(lb_id)
    took = time.perf_counter() - start
    row.figure = len(ids) / took
    row.note = f"{len(ids)} by 8 clients; all posted after {posted:.1f} s, all ACTIVE after {took:.1f} s"
    b.api.delete(ids)


def first_answer(b: Bench, row: Row) -> None:
    """POST member until the first answer through it."""
    lb = b.create(**b.full(0, monitor=False))
    b.api.until_active(lb["id"])
    pool = b.api.call("GET", b.api.lb(f"pools?loadbalancer_id={lb['id']}"))["pools"][0]["id"]
    path = b.api.lb(f"pools/{pool}/members")
    samples = []
    for _ in range(12):
        until_answered(lb["vip_address"], 503)
        b.api.until_active(lb["id"])
        made: list[str] = []

        def one() -> None:
            body = {"member": {"address": b.members[0], "protocol_port": 80}}
            made.append(b.api.call("POST", path, body)["member"]["id"])  # noqa: B023 - called at once
            until_answered(lb["vip_address"], pause_s=0.002)

        samples.append(timed_ms(one))
        b.api.call("DELETE", f"{path}/{made[0]}")
    b.api.delete([lb["id"]])
    row.figure, worst = summary(samples)
    row.note = f"max {worst:.0f}"


def weights(b: Bench, row: Row) -> None:
    """PUT 100 members, all weights changed, until ACTIVE."""
    lb = b.create(**b.full(0, monitor=False))
    pool = b.api.call("GET", b.api.lb(f"pools?loadbalancer_id={lb['id']}"))["pools"][0]["id"]
    samples = []
    cpu: dict[str, float] = {}
    for turn in range(9):
        members = [
            {"address": b.members[i % 2], "protocol_port": 3000 + i, "weight": turn + 1 + i % 7} for i in range(100)
        ]

        def one() -> None:
            b.api.call("PUT", b.api.lb(f"pools/{pool}/members"), {"members": members})  # noqa: B023 - called at once
            b.api.until_active(lb["id"])

        if turn == 0:
            one()
            continue
        with cpu_of(b.up, 1, cpu):
            samples.append(timed_ms(one))
    b.api.delete([lb["id"]])
    row.figure, worst = summary(samples)
    row.note = f"max {worst:.0f}, last one {cpu['cpu']:.0f} ms CPU"


def get_one(b: Bench, row: Row) -> None:
    """CPU of GET one, the whole process tree."""
    lb = b.create(**b.full(2))
    b.api.until_active(lb["id"])
    path = b.api.lb(f"loadbalancers/{lb['id']}")
    for _ in range(50):
        b.api.call("GET", path)
    idle: dict[str, float] = {}
    with cpu_of(b.up, 1, idle):
        time.sleep(2)
    cpu: dict[str, float] = {}
    samples = []
    start = time.perf_counter()
    with cpu_of(b.up, 1, cpu):
        samples = [timed_ms(lambda: b.api.call("GET", path)) for _ in range(2000)]
    took = time.perf_counter() - start
    b.api.delete([lb["id"]])
    row.figure = (cpu["cpu"] - idle["cpu"] / 2 * took) / 2000
    row.note = f"latency {statistics.median(samples):.2f} ms; idle CPU {idle['cpu'] / 20:.1f} % of a core taken off"


def list_thousand(b: Bench, row: Row) -> None:
    """CPU of listing 1000 load balancers, one page. Most are rows without an amphora, put in and taken out again."""
    there = len(b.api.call("GET", b.api.lb("loadbalancers"))["loadbalancers"])
    if there == 0:
        raise RuntimeError("needs a load balancer to copy")
    db = sqlite3.connect(b.api.state / "db/colonnade.sqlite", timeout=30)
    columns = [c[1] for c in db.execute("PRAGMA table_info(load_balancer)") if c[1] not in ("id", "vip_port_id")]
    named = ", ".join(columns)
    model = db.execute("SELECT id FROM load_balancer LIMIT 1").fetchone()[0]
    fakes = [(str(uuid.uuid4()), str(uuid.uuid4()), model) for _ in range(1000 - there)]
    into = f"INSERT INTO load_balancer (id, vip_port_id, {named})"
    statement = f"{into} SELECT ?, ?, {named} FROM load_balancer WHERE id = ?"  # noqa: S608
    with db:
        db.executemany(statement, fakes)
    try:
        path = b.api.lb("loadbalancers")
        count = len(b.api.call("GET", path)["loadbalancers"])
        cpu: dict[str, float] = {}
        with cpu_of(b.up, 10, cpu):
            samples = [timed_ms(lambda: b.api.call("GET", path)) for _ in range(10)]
    finally:
        with db:
            db.executemany("DELETE FROM load_balancer WHERE id = ?", [f[:1] for f in fakes])
        db.close()
    row.figure = cpu["cpu"]
    row.note = f"{count} items, latency {statistics.median(samples):.0f} ms; idle work of the system counts too"


def many(b: Bench, row: Row, rows: dict[str, Row]) -> None:
    """200 load balancers with listener, pool, 2 members, monitor: all ACTIVE and serving. Then memory, and the list."""
    count = 200
    clients = [Api(b.api.port, b.api.state) for _ in range(4)]
    start = time.perf_counter()

    def make(client: Api) -> list[dict[str, str]]:
        return [
            client.call("POST", b.api.lb("loadbalancers"), b.lb_body(**b.full(2)))["loadbalancer"]
            for _ in range(count // len(clients))
        ]

    with ThreadPoolExecutor(len(clients)) as pool:
        lbs = [lb for made in pool.map(make, clients) for lb in made]
    for lb in lbs:
        b.api.until_active(lb["id"], 300)
        until_answered(lb["vip_address"], seconds=120)
    row.figure = time.perf_counter() - start
    time.sleep(10)
    pids = tree(b.up)
    amphorae = [p for p in pids if name_of(p).split(" ")[0].endswith("/haproxy") and "haproxy.cfg" in name_of(p)]
    rest = [p for p in pids if " colonnade " in name_of(p) and short(p) != "demo"]
    cpu: dict[str, float] = {}
    with cpu_of(b.up, 10, cpu):
        time.sleep(10)
    row.note = f"idle afterwards: {cpu['cpu'] / 10:.1f} % of a core, HAProxy included"
    rows["memory"].figure = pss_mb(rest)
    rows["memory"].note = ", ".join(f"{short(p)} {pss_mb([p]):.0f}" for p in rest)
    rows["amphora"].figure = pss_mb(amphorae) / max(1, len(amphorae))
    rows["amphora"].note = f"HAProxy, mean of {len(amphorae)}"
    list_thousand(b, rows["list"])
    b.api.delete([lb["id"] for lb in lbs])


def throughput(b: Bench, row: Row) -> None:
    """Requests a second through an amphora against a bare HAProxy with the same directives, wrk, interleaved."""
    lb = b.create(**b.full(2))
    b.api.until_active(lb["id"])
    until_answered(lb["vip_address"])
    with bare_haproxy(b) as address:
        ratios, own = [], []
        for turn in range(9):
            targets = [lb["vip_address"], address] if turn % 2 else [address, lb["vip_address"]]
            rates = {t: wrk(t) for t in targets}
            ratios.append(rates[lb["vip_address"]] / rates[address])
            own.append(rates[lb["vip_address"]])
    b.api.delete([lb["id"]])
    row.figure = statistics.median(ratios)
    row.note = (
        f"min {min(ratios):.2f}, max {max(ratios):.2f}, {statistics.median(own) / 1000:.1f} k requests/s, 9 x 2 s"
    )


BARE = """\
global
    nbthread 1
    maxconn 8000
defaults
    mode http
    timeout client 50s
    timeout connect 5s
    timeout server 50s
    timeout check 3s
frontend web
    bind {address}:80
    default_backend pool
backend pool
    balance roundrobin
    option httpchk GET /healthcheck
{servers}
"""


@contextmanager
def bare_haproxy(b: Bench) -> Iterator[str]:
    """A plain HAProxy in a namespace of its own on the same network: its address."""
    settings = load([str(b.api.state / "etc/colonnade.conf")])
    here = Installation(state=b.api.state, tag=settings.agent.tag, slot=settings.agent.slot)
    subnet = b.api.call("GET", "/network/v2.0/subnets?name=private-subnet")["subnets"][0]
    wanted = {"name": "bench", "network_id": subnet["network_id"], "fixed_ips": [{"subnet_id": subnet["id"]}]}
    port = b.api.call("POST", "/network/v2.0/ports", {"port": wanted})["port"]
    address = port["fixed_ips"][0]["ip_address"]
    space = f"{here.prefix}bench"
    namespaces.create(space)
    process = None
    with tempfile.TemporaryDirectory() as folder:
        try:
            own = f"{address}/{subnet['cidr'].split('/')[1]}"
            network.attach(here, subnet["network_id"], space, addresses=[own], gateways=[subnet["gateway_ip"]])
            servers = "\n".join(f"    server s{n} {m}:80 check inter 5s" for n, m in enumerate(b.members))
            config = Path(folder, "haproxy.cfg")
            config.write_text(BARE.format(address=address, servers=servers))
            command = ["ip", "netns", "exec", space, "haproxy", "-db", "-f", str(config)]
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            until_answered(address)
            yield address
        finally:
            if process:
                process.kill()
                process.wait()
            subprocess.run(["ip", "-n", space, "link", "delete", "eth0"], capture_output=True, check=False)
            namespaces.remove(space)
            b.api.call("DELETE", f"/network/v2.0/ports/{port['id']}")


def wrk(address: str) -> float:
    """Requests a second of 16 kept connections in 2 s."""
    out = subprocess.run(
        ["wrk", "-t1", "-c16", "-d2s", f"http://{address}/"], capture_output=True, text=True, check=True
    ).stdout
    return next(float(line.split()[1]) for line in out.splitlines() if line.startswith("Requests/sec"))


def get(address: str, port: int = 80) -> int:
    """HTTP status of GET /, 0 when there is no answer in 1 s."""
    try:
        with socket.create_connection((address, port), 1) as s:
            s.settimeout(1)
            s.sendall(f"GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
            head = s.recv(64).split()
        return int(head[1]) if len(head) > 1 else 0
    except OSError:
        return 0


def until_answered(address: str, status: int = 200, *, seconds: float = 60, pause_s: float = 0.005) -> None:
    """Poll until GET / is answered with ``status``. Raises RuntimeError when it takes longer."""
    end = time.monotonic() + seconds
    while get(address) != status:
        if time.monotonic() > end:
            raise RuntimeError(f"{address} does not answer {status}")
        time.sleep(pause_s)


def short(pid: int) -> str:
    """Which program of ours it is: the word after ``-m colonnade``."""
    return name_of(pid).partition(" colonnade ")[2].split(" ")[0] or "?"


ROWS = {
    "create": Row("POST load balancer until ACTIVE, one at a time, p50", "ms", 100, "741"),
    "tree": Row("full tree (listener, pool, 10 members, monitor) until ACTIVE, p50", "ms", 150, "1254"),
    "burst": Row("load balancers brought to ACTIVE in a burst", "/s", 15, "2.5", better="more"),
    "member": Row("POST member until the first answer through it, p50", "ms", 100),
    "weights": Row("PUT 100 members, all weights changed, until ACTIVE, p50", "ms", 200, "1705"),
    "get": Row("GET one, CPU per request, whole process tree", "ms", 1, "9.9"),
    "throughput": Row("requests a second through an amphora / bare HAProxy", "", 0.95, better="more"),
    "many": Row("200 load balancers with listener, pool, 2 members, monitor: ACTIVE and serving", "s", 60),
    "memory": Row("control plane with 200 load balancers, sum of PSS", "MB", 300),
    "amphora": Row("one idle amphora, PSS", "MB", 12),
    "list": Row("list 1000 load balancers, CPU", "ms", 50, "316"),
}
MEASURES: dict[str, Callable[[Bench, Row], None]] = {
    "create": create_one, "tree": create_tree, "burst": burst, "member": first_answer, "weights": weights,
    "get": get_one, "throughput": throughput,
}  # fmt: skip


def main() -> int:
    """Measure what was asked for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", type=Path, help="of a running installation with --demo")
    parser.add_argument("--port", type=int, default=9876)
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help=f"of {', '.join(ROWS)}")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    args = parser.parse_args()
    own = args.state is None
    if own:
        args.state, args.port = Path(f"/var/lib/colonnade/bench-{os.getpid()}"), 19876
        subprocess.run([ROOT / "try", "--demo", "--state", args.state, "--port", str(args.port)], check=True)
    try:
        return measure(args)
    finally:
        if own:
            subprocess.run([ROOT / "try", "--stop", "--purge", "--state", args.state], check=True)


def measure(args: argparse.Namespace) -> int:
    """Every wanted row, then the table."""
    api = Api(args.port, args.state)
    told = dict(shlex.split(line)[0].split("=", 1) for line in (args.state / "demo.env").read_text().splitlines())
    up = int((args.state / "run/up.pid").read_text().split()[0])
    b = Bench(api=api, up=up, subnet=api.subnet(), members=told["MEMBERS"].split())
    wanted = [name for name in ROWS if not args.only or name in args.only]
    for name in wanted:
        if name in MEASURES:
            attempt(name, lambda name=name: MEASURES[name](b, ROWS[name]))  # type: ignore[misc]
    if {"many", "memory", "amphora", "list"} & set(wanted):
        wanted = [n for n in wanted if n in MEASURES] + ["many", "memory", "amphora", "list"]
        attempt("many", lambda: many(b, ROWS["many"], ROWS))
    print_table([ROWS[name] for name in wanted])
    if args.json:
        args.json.write_text(json.dumps({name: asdict(ROWS[name]) for name in wanted}, indent=2))
    return 0


def attempt(name: str, action: Callable[[], None]) -> None:
    """Measure one row; a failure is told in its note and does not stop the others."""
    print(f"measuring {name} ...", file=sys.stderr, flush=True)
    try:
        action()
    except Exception as e:  # the other rows are still wanted
        ROWS[name].note = f"failed: {e!r}"
    print(f"  {ROWS[name].figure} {ROWS[name].unit} {ROWS[name].note}", file=sys.stderr, flush=True)


def print_table(rows: list[Row]) -> None:
    """The figures beside what we reach for and Octavia's."""
    widths = max(len(r.what) for r in rows)
    print(f"{'what':{widths}}  {'figure':>10}  {'reach':>8}  {'Octavia':>8}  ")
    for r in rows:
        figure = (
            "-" if r.figure is None else f"{r.figure:.2f} {r.unit}" if r.figure < 10 else f"{r.figure:.0f} {r.unit}"
        )
        print(
            f"{r.what:{widths}}  {figure:>10}  {r.reach:>8g}  {r.octavia:>8}  {'ok' if r.reached else 'NOT REACHED'}"
            f"{'  (' + r.note + ')' if r.note else ''}"
        )


if __name__ == "__main__":
    sys.exit(main())

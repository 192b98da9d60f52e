"""The control plane alone, over real HTTP with drivers that do nothing, beside OpenStack Octavia 19.0.0.

    sudo bench/control-plane [--database sqlite|mariadb ...] [--only WORD ...] [--repeats N] [--port N]

Starts an installation with two API processes of one thread, as Octavia's were, and one worker for each database
(MariaDB: a private server with Octavia's settings) and prints a table. Latencies are medians over the repeats; p99 is
the worst of any repeat. CPU is milliseconds an operation of the whole process tree, database included. "Until" rows
poll as Octavia's benchmark did, after 20 ms and then in growing steps to 200 ms, and begin finer, after 10 ms. A row is
below its target when it takes more than an eighth of Octavia's CPU or more than a fifth of its time. Compare ratios;
figures are of this machine.
"""

import argparse
import contextlib
import itertools
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from client import Api, cpu_by_program, pss_mb, tree
from databases import server

ROOT = Path(__file__).resolve().parent.parent
SUBNET = "12345678-0000-4000-8000-000000000000"
SETTINGS = """\
[drivers]
compute = noop
network = noop
amphora = noop
[api_settings]
processes = 2
threads = 1
auth_strategy = noauth
[database]
connection = {url}
"""
CPU_TARGET, LATENCY_TARGET = 8, 5
FIRST_POLL_S, LONGEST_POLL_S = 0.01, 0.2


@dataclass(frozen=True)
class Octavia:
    """A row of its table: p50 in ms, CPU ms an operation of api, worker and database."""

    p50: float
    cpu: float


@dataclass
class Figures:
    """What a row measured: of each repeat its latencies in ms and its CPU ms an operation by program."""

    latencies: list[list[float]] = field(default_factory=list)
    cpu: list[dict[str, float]] = field(default_factory=list)

    @property
    def p50(self) -> float:
        return statistics.median(statistics.median(r) for r in self.latencies)

    @property
    def p99(self) -> float:
        return max(sorted(r)[min(len(r) - 1, int(len(r) * 0.99))] for r in self.latencies)

    def of(self, program: str) -> float:
        """Median CPU of one program."""
        return statistics.median(c.get(program, 0.0) for c in self.cpu)

    @property
    def total(self) -> float:
        """Without the programs that Octavia's figures leave out."""
        return self.of("api") + self.of("worker") + self.of("db")


Operation = Callable[[Api, int], float]  # with a client, the how manieth: the latency in ms


@dataclass
class Bench:
    """A running installation. ``clients[0]`` is also the one that prepares and clears away."""

    clients: list[Api]
    up: int
    database: int | None
    repeats: int

    @property
    def api(self) -> Api:
        return self.clients[0]

    def measure(self, one: Operation, concurrency: int, operations: int, repeats: int | None = None) -> Figures:
        """Each repeat: so many operations by so many clients."""
        found, numbers = Figures(), itertools.count()
        for _ in range(repeats or self.repeats):
            for client in self.clients:
                client.close()
            before = cpu_by_program(self.up, self.database)
            share = operations // concurrency

            def work(client: Api, share: int = share) -> list[float]:
                return [one(client, next(numbers)) for _ in range(share)]

            with ThreadPoolExecutor(concurrency) as pool:
                latencies = [x for part in pool.map(work, self.clients[:concurrency]) for x in part]
            after = cpu_by_program(self.up, self.database)
            found.latencies.append(latencies)
            found.cpu.append({k: (after[k] - before.get(k, 0)) / len(latencies) for k in after})
        return found


def body(**more: Any) -> Any:
    """A load balancer to POST."""
    return {"loadbalancer": {"name": f"bench-{uuid.uuid4().hex[:8]}", "vip_subnet_id": SUBNET, **more}}


def full(members: int) -> Any:
    """A listener, a pool, members and a monitor."""
    pool = {
        "name": "pool", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": many(members),
        "healthmonitor": {"type": "HTTP", "delay": 5, "timeout": 3, "max_retries": 2, "url_path": "/health"},
    }  # fmt: skip
    return {"listeners": [{"name": "web", "protocol": "HTTP", "protocol_port": 80, "default_pool": pool}]}


def many(count: int, *, weight: int = 1, first: int = 0) -> list[Any]:
    """Members, told apart by their addresses."""
    return [
        {"address": f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", "protocol_port": 80, "weight": weight}
        for n in range(first + 1, first + count + 1)
    ]


def create(client: Api, **more: Any) -> str:
    """POST; the id."""
    return str(client.call("POST", client.lb("loadbalancers"), body(**more))["loadbalancer"]["id"])


def until(done: Callable[[], bool]) -> None:
    """Poll as said above."""
    pause, end = FIRST_POLL_S, time.monotonic() + 120
    time.sleep(pause)
    while not done():
        if time.monotonic() > end:
            raise RuntimeError("it takes too long")
        pause = min(pause * 1.5, LONGEST_POLL_S)
        time.sleep(pause)


def active(client: Api, lb_id: str) -> bool:
    """Whether it is ACTIVE."""
    status = client.call("GET", client.lb(f"loadbalancers/{lb_id}"))["loadbalancer"]["provisioning_status"]
    if status == "ERROR":
        raise RuntimeError(f"{lb_id} is in ERROR")
    return bool(status == "ACTIVE")


def gone(client: Api, lb_id: str) -> bool:
    """Whether it is gone."""
    return client.call("GET", client.lb(f"loadbalancers/{lb_id}"), expect=(200, 404)) is None


def timed(action: Callable[[], Any]) -> float:
    """Milliseconds."""
    start = time.perf_counter()
    action()
    return (time.perf_counter() - start) * 1000


@contextlib.contextmanager
def cleared(b: Bench) -> Iterator[list[str]]:
    """Load balancers that are ACTIVE, and gone, before the next row."""
    ids: list[str] = []
    try:
        yield ids
    finally:
        b.api.close()
        for lb_id in ids:
            until(lambda lb_id=lb_id: active(b.api, lb_id))  # type: ignore[misc]
        for lb_id in ids:
            b.api.call("DELETE", b.api.lb(f"loadbalancers/{lb_id}?cascade=true"))
        for lb_id in ids:
            until(lambda lb_id=lb_id: gone(b.api, lb_id))  # type: ignore[misc]


# --- rows ------------------------------------------------------------------------------------------------------------


def post_only(b: Bench, concurrency: int) -> Figures:
    """POST; the worker is busy with them meanwhile, as far as it comes."""
    found = Figures()
    for _ in range(b.repeats):
        with cleared(b) as ids:

            def one(client: Api, _n: int, ids: list[str] = ids) -> float:
                return timed(lambda: ids.append(create(client)))

            part = b.measure(one, concurrency, 10 if concurrency == 1 else 24, 1)
        found.latencies += part.latencies
        found.cpu += part.cpu
    return found


def burst(b: Bench, concurrency: int) -> Figures:
    """The same, until the last is ACTIVE: latency is that of the whole burst for each load balancer."""
    found, count = Figures(), 10 if concurrency == 1 else 24
    for _ in range(b.repeats):
        with cleared(b) as ids:

            def one(client: Api, _n: int, ids: list[str] = ids) -> float:
                return timed(lambda: ids.append(create(client)))

            before, start = cpu_by_program(b.up, b.database), time.perf_counter()
            b.measure(one, concurrency, count, 1)
            for lb_id in list(ids):
                until(lambda lb_id=lb_id: active(b.api, lb_id))  # type: ignore[misc]
            took, after = time.perf_counter() - start, cpu_by_program(b.up, b.database)
        found.latencies.append([took * 1000 / count])
        found.cpu.append({k: (after[k] - before.get(k, 0)) / count for k in after})
    return found


def until_active(b: Bench, concurrency: int, members: int | None = None) -> Figures:
    """POST until ACTIVE."""
    with cleared(b) as ids:

        def one(client: Api, _n: int) -> float:
            def go() -> None:
                ids.append(lb_id := create(client, **(full(members) if members else {})))
                until(lambda: active(client, lb_id))

            return timed(go)

        return b.measure(one, concurrency, 10 if concurrency == 1 else 24)


def get(b: Bench, concurrency: int, path: str) -> Figures:
    """GET of something of one load balancer with a full tree."""
    with cleared(b) as ids:
        ids.append(create(b.api, **full(10)))
        until(lambda: active(b.api, ids[0]))
        where = b.api.lb(path.format(ids[0]))
        return b.measure(lambda client, _n: timed(lambda: client.call("GET", where)), concurrency, 200)


def listing(b: Bench, concurrency: int, count: int, limit: int | None) -> Figures:
    """All load balancers, page by page."""
    _fill(b, count)

    def one(client: Api, _n: int) -> float:
        return timed(lambda: _pages(client, count, limit))

    return b.measure(one, concurrency, 48, 1)  # CPU comes in steps of 10 ms


def _pages(client: Api, count: int, limit: int | None) -> None:
    path, seen = client.lb("loadbalancers") + (f"?limit={limit}" if limit else ""), 0
    while path:
        page = client.call("GET", path)
        seen += len(page["loadbalancers"])
        links = [x["href"] for x in page["loadbalancers_links"] if x["rel"] == "next"]
        path = "/" + links[0].split("/", 3)[3] if links else ""
    if seen != count:
        raise RuntimeError(f"{seen} load balancers, not {count}")


def _fill(b: Bench, count: int) -> None:
    """So many load balancers. They stay: lists come last."""
    there = len(b.api.call("GET", b.api.lb("loadbalancers?fields=id&limit=infinite"))["loadbalancers"])
    ids = [create(b.api) for _ in range(count - there)]
    for lb_id in ids:
        until(lambda lb_id=lb_id: active(b.api, lb_id))  # type: ignore[misc]


def members(b: Bench, concurrency: int, *, swap: bool) -> Figures:
    """PUT 100 members until ACTIVE: other weights, or half of them others. Each client has its own load balancer."""
    pools: dict[int, tuple[str, str]] = {}
    with cleared(b) as ids:
        for client in b.clients[:concurrency]:
            lb_id = create(b.api, **full(100))
            ids.append(lb_id)
            until(lambda lb_id=lb_id: active(b.api, lb_id))  # type: ignore[misc]
            pool = b.api.call("GET", b.api.lb(f"pools?loadbalancer_id={lb_id}"))["pools"][0]["id"]
            pools[id(client)] = lb_id, b.api.lb(f"pools/{pool}/members")

        def one(client: Api, n: int) -> float:
            lb_id, path = pools[id(client)]
            if swap:
                wanted = [*many(50), *many(50, first=100 * (n + 1))]
            else:
                wanted = [{**m, "weight": 2 + (n + i) % 200} for i, m in enumerate(many(100))]

            def go() -> None:
                client.call("PUT", path, {"members": wanted})
                until(lambda: active(client, lb_id))

            return timed(go)

        return b.measure(one, concurrency, 4 if concurrency == 1 else 8)


def delete(b: Bench, concurrency: int) -> Figures:
    """DELETE with all that is in it until it is gone. Full trees."""
    count = 10 if concurrency == 1 else 24
    ids = [create(b.api, **full(10)) for _ in range(count * b.repeats)]
    for lb_id in ids:
        until(lambda lb_id=lb_id: active(b.api, lb_id))  # type: ignore[misc]

    def one(client: Api, n: int) -> float:
        def go() -> None:
            client.call("DELETE", client.lb(f"loadbalancers/{ids[n]}?cascade=true"))
            until(lambda: gone(client, ids[n]))

        return timed(go)

    return b.measure(one, concurrency, count)


@dataclass(frozen=True)
class Row:
    """A row of the table, and of Octavia's."""

    what: str
    concurrency: int
    octavia: Octavia
    run: Callable[[Bench, int], Figures]


def rows() -> list[Row]:
    """As Octavia's table has them. Its burst is given in load balancers a second."""

    def both(what: str, one: Octavia, eight: Octavia, run: Callable[[Bench, int], Figures]) -> list[Row]:
        return [Row(what, 1, one, run), Row(what, 8, eight, run)]

    def lists(count: int, limit: int | None) -> Callable[[Bench, int], Figures]:
        return lambda b, c: listing(b, c, count, limit)

    return [
        *both("create LB, POST only", Octavia(101, 126), Octavia(531, 96), post_only),
        *both("burst drained to ACTIVE, each", Octavia(1000 / 2.3, 510), Octavia(1000 / 2.5, 451), burst),
        *both("create LB until ACTIVE", Octavia(741, 510), Octavia(3055, 451), until_active),
        *both("full tree until ACTIVE", Octavia(1254, 1136), Octavia(8291, 1249), lambda b, c: until_active(b, c, 10)),
        *both("GET one LB", Octavia(10, 9.9), Octavia(89, 9.6), lambda b, c: get(b, c, "loadbalancers/{}")),
        *both("GET status tree", Octavia(20, 17), Octavia(118, 18), lambda b, c: get(b, c, "loadbalancers/{}/status")),
        *both("PUT 100 members, weights, until ACTIVE", Octavia(1705, 1748), Octavia(12019, 2202),
              lambda b, c: members(b, c, swap=False)),
        *both("PUT 100 members, 50 replaced, until ACTIVE", Octavia(3340, 3373), Octavia(27270, 4524),
              lambda b, c: members(b, c, swap=True)),
        *both("delete cascade until gone", Octavia(324, 263), Octavia(1451, 263), delete),
        Row("list 208 LBs, one page", 1, Octavia(64, 73), lists(208, None)),
        Row("list 208 LBs, limit=100, 3 pages", 1, Octavia(97, 97), lists(208, 100)),
        *both("list 1001 LBs, as the server pages", Octavia(338, 317), Octavia(2541, 349), lists(1001, None)),
        Row("list 1001 LBs, limit=100, 11 pages", 1, Octavia(518, 474), lists(1001, 100)),
    ]  # fmt: skip


def line(row: Row, f: Figures) -> str:
    """One row of the printed table."""
    slower, dearer = row.octavia.p50 / f.p50, row.octavia.cpu / max(f.total, 0.01)
    below = [w for w, ratio, target in (("latency", slower, LATENCY_TARGET), ("CPU", dearer, CPU_TARGET))
             if ratio < target]  # fmt: skip
    others = sum(f.of(p) for p in {p for c in f.cpu for p in c} - {"api", "worker", "db"})
    return (
        f"| {row.what} | {row.concurrency} | {f.p50:.1f} / {f.p99:.0f} | {row.octavia.p50:.0f} | {slower:.1f} "
        f"| {f.of('api'):.2f}, {f.of('worker'):.2f}, {f.of('db'):.2f} (+{others:.2f}) | {row.octavia.cpu:g} "
        f"| {dearer:.1f} | {'BELOW: ' + ', '.join(below) if below else ''} |"
    )


HEAD = """
| {database} | clients | ms p50 / p99 | Octavia | lower | CPU ms api, worker, db (others) | Octavia | fewer | |
|---|---|---|---|---|---|---|---|---|"""


@contextlib.contextmanager
def installation(url: str, database: int | None, port: int, repeats: int) -> Iterator[Bench]:
    """./try on a new state directory, stopped and removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="colonnade-bench-") as place:
        Path(place).chmod(0o755)
        settings, state = Path(place, "bench.conf"), Path(place, "state")
        settings.write_text(SETTINGS.format(url=url))
        words = [str(ROOT / "try"), "--state", str(state)]
        subprocess.run([*words, "--port", str(port), "--config", str(settings)], check=True, stdout=subprocess.DEVNULL)
        try:
            up = int((state / "run" / "keeper.pid").read_text().split()[0])
            clients = [Api(port, state, token=False) for _ in range(8)]
            yield Bench(clients, up, database, repeats)
        finally:
            subprocess.run([*words, "--stop", "--purge"], check=True, stdout=subprocess.DEVNULL)


def run(kind: str, args: argparse.Namespace) -> bool:
    """Print the table of one database; whether every row reached its targets."""
    with contextlib.ExitStack() as stack:
        url, database = "", None
        if kind != "sqlite":
            options = ["--innodb-buffer-pool-size=512M"] if kind == "mariadb" else []
            its = stack.enter_context(server(kind, *options))
            url, database = its.create("colonnade"), its.process.pid if its.process else None
        b = stack.enter_context(installation(url, database, args.port, args.repeats))
        print(HEAD.format(database=kind), flush=True)
        reached = True
        for row in rows():
            if args.only and not any(w in row.what for w in args.only):
                continue
            said = line(row, row.run(b, row.concurrency))
            reached = reached and "BELOW" not in said
            print(said, flush=True)
        print(f"\nMemory of the control plane: {pss_mb(tree(b.up)):.0f} MB PSS, database apart.", flush=True)
    return reached


def main(argv: Sequence[str] | None = None) -> int:
    """Answers 1 when a row is below its target."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--database",
        nargs="+",
        choices=("sqlite", "mariadb", "postgresql"),
        default=["sqlite", "mariadb"],
        help="a table for each; private servers (default: sqlite mariadb)",
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="rows with one of these words")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each row (default: 3)")
    parser.add_argument("--port", type=int, default=9900, help="of the API under test (default: 9900)")
    args = parser.parse_args(argv)
    threading.stack_size(512 * 1024)
    reached = [run(kind, args) for kind in args.database]
    return int(not all(reached))


if __name__ == "__main__":
    sys.exit(main())

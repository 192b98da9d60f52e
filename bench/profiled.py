"""Where the CPU of one operation goes: the API and a worker in this process, with drivers that do nothing.

    PYTHONPATH=.:tests:bench python bench/profiled.py NAME [--url URL] [--lines N] [--count N] [--statements]

NAME is post, turn (of the worker, after a post), create (both), tree, get, status, list, page, members or delete.

Prints CPU and time of one operation, statements sent to the database, and cProfile's table. The server and HTTP are
left out; a profiled program is some two times slower, so the first line is measured without.
"""

import argparse
import contextlib
import cProfile
import dataclasses
import io
import itertools
import pstats
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import falcon.testing
from control_plane import body, full, many
from sqlalchemy import event

from colonnade import model
from colonnade.api.app import make_lb_app
from colonnade.clock import SystemClock
from colonnade.drivers.doorbell import MemoryDoorbell
from colonnade.drivers.noop import NoopHost, NoopNetwork
from colonnade.settings import Settings
from colonnade.store import schema
from colonnade.store.store import Store
from colonnade.worker.loop import Worker


class Admin:
    """An identity that knows one administrator."""

    def authenticate(self, token: str) -> model.Caller:
        return self.default_caller()

    def default_caller(self) -> model.Caller:
        return model.Caller(user_id="u", project_id="p", roles=frozenset({"admin"}))


class Whole:
    """The control plane in one process."""

    def __init__(self, url: str) -> None:
        schema.upgrade(url)
        self.store, settings, clock, host, bell = Store(url), Settings(), SystemClock(), NoopHost(), MemoryDoorbell()
        api = dataclasses.replace(settings.api_settings, auth_strategy="noauth")
        settings = dataclasses.replace(settings, api_settings=api)
        network = NoopNetwork()
        app = make_lb_app(
            settings=settings, store=self.store, network=network, doorbell=bell, clock=clock, supplies=host,
            identity=Admin(),
        )  # fmt: skip
        self.client = falcon.testing.TestClient(app, headers={"X-Auth-Token": "t"})
        self.worker = Worker(
            settings=settings, store=self.store, network=network, compute=host, link=host, doorbell=bell, clock=clock,
            fabric=None,
        )  # fmt: skip

    def ask(self, method: str, path: str, given: Any = None) -> Any:
        reply = self.client.simulate_request(method, f"/v2/lbaas/{path}", json=given)
        if reply.status_code >= 300:
            raise RuntimeError(reply.text)
        return reply.json if reply.content else None

    def create(self, *, work: bool = True, **more: Any) -> str:
        lb_id = str(self.ask("POST", "loadbalancers", body(**more))["loadbalancer"]["id"])
        if work:
            self.worker.turn(lb_id)
        return lb_id


def operation(w: Whole, name: str) -> Callable[[], Any]:
    """What is to be measured, after what it needs was made."""
    match name:
        case "post":
            return lambda: w.create(work=False)
        case "turn":
            left = iter([w.create(work=False) for _ in range(1000)])
            return lambda: w.worker.turn(next(left))
        case "create":
            return w.create
        case "tree":
            return lambda: w.create(**full(10))
        case "get":
            lb = w.create(**full(10))
            return lambda: w.ask("GET", f"loadbalancers/{lb}")
        case "status":
            lb = w.create(**full(10))
            return lambda: w.ask("GET", f"loadbalancers/{lb}/status")
        case "list":
            for _ in range(1000):
                w.create(work=False)
            return lambda: w.ask("GET", "loadbalancers")
        case "page":
            ids = [w.create(work=False) for _ in range(300)]
            return lambda: w.ask("GET", f"loadbalancers?limit=100&marker={ids[50]}")
        case "members":
            lb, numbers = w.create(**full(100)), itertools.count()
            pool = w.ask("GET", f"pools?loadbalancer_id={lb}")["pools"][0]["id"]

            def change() -> None:
                n = next(numbers)
                wanted = [{**m, "weight": 2 + (n + i) % 200} for i, m in enumerate(many(100))]
                w.ask("PUT", f"pools/{pool}/members", {"members": wanted})
                w.worker.turn(lb)

            return change
        case "delete":
            lbs = iter([w.create(**full(10)) for _ in range(250)])

            def remove() -> None:
                lb = next(lbs)
                w.ask("DELETE", f"loadbalancers/{lb}?cascade=true")
                w.worker.turn(lb)

            return remove
    raise SystemExit(f"unknown: {name}")


def by_package(profile: cProfile.Profile, count: int) -> str:
    """Milliseconds of one operation by package; built-in functions count where they are called from."""
    spent: Counter[str] = Counter()
    for (file, _, name), (_, _, own, _, callers) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        if "socket" in name or "sqlite3" in name:
            spent["the database, and waiting for it"] += own
        elif file == "~":
            for (caller, _, _), (_, _, part, _) in callers.items():
                spent[package(caller)] += part
        else:
            spent[package(file)] += own
    total = sum(spent.values())
    return "\n".join(f"{ms * 1000 / count:7.2f} ms {ms / total:4.0%}  {name}" for name, ms in spent.most_common(12))


def package(file: str) -> str:
    """The package of a file."""
    parts = Path(file).parts
    if "site-packages" in parts:
        return parts[parts.index("site-packages") + 1]
    return "colonnade" if "colonnade" in parts else Path(file).stem if file != "~" else "built-in"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--url")
    parser.add_argument("--lines", type=int, default=30)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--sort", default="tottime")
    parser.add_argument("--statements", action="store_true")
    args = parser.parse_args()
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(tempfile.TemporaryDirectory())
        w = Whole(args.url or f"sqlite:///{place}/x.sqlite")
        one, count = operation(w, args.name), args.count
        for _ in range(5):
            one()
        sent: list[str] = []
        for engine in {w.store.engine, w.store.reader, w.store.glancer}:
            event.listen(engine, "before_cursor_execute", lambda *a: sent.append(a[2]))
            event.listen(engine, "commit", lambda *_: sent.append("COMMIT"))
            event.listen(engine, "rollback", lambda *_: sent.append("ROLLBACK"))
        one()
        statements = sent.copy()
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(count):
            one()
        cpu, wall = (time.process_time() - cpu) * 1000 / count, (time.perf_counter() - wall) * 1000 / count
        print(f"{args.name}: {cpu:.2f} ms CPU here, {wall:.2f} ms in all, {len(statements)} statements")
        if args.statements:
            print("\n".join(" ".join(s.split())[:150] for s in statements))
        if args.lines:
            profile = cProfile.Profile()
            profile.enable()
            for _ in range(count):
                one()
            profile.disable()
            print(by_package(profile, count))
            out = io.StringIO()
            pstats.Stats(profile, stream=out).sort_stats(args.sort).print_stats(args.lines)
            print(out.getvalue())


if __name__ == "__main__":
    main()

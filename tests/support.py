"""What tests of several kinds share."""

import random
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, exc

from colonnade.store.store import Store

T = TypeVar("T")


# How long a test waits for what must happen. No promise of the product is as long: the machine may be busy.
PATIENCE_S = 60.0


def eventually(condition: Callable[[], T], seconds: float = PATIENCE_S, every: float = 0.02) -> T:
    """Ask until the answer is true, and give it back. At the deadline a false answer fails, or that it raised: what it
    asserts, or that nobody answered it."""
    until = time.monotonic() + seconds
    while True:
        problem: Exception | None = None
        try:
            answer = condition()
        except (AssertionError, OSError) as e:
            problem = e
        else:
            if answer:
                return answer
        if time.monotonic() > until:
            raise AssertionError(f"not within {seconds} s; last answer: {problem or answer!r}") from problem
        time.sleep(every)


def _ports() -> Iterator[int]:
    first, last = (int(n) for n in Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    candidates = [n for n in range(10_000, 65_536) if not first <= n <= last] or list(range(10_000, 65_536))
    random.Random().shuffle(candidates)  # several test sessions of one machine seldom meet
    yield from candidates


_PORTS = _ports()


def free_port() -> int:
    """A TCP port that nobody listens on. It stays free until it is used: the kernel gives it to nobody who connects,
    and this session has not had it before."""
    for port in _PORTS:
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")


def deadlock_once(store: Store) -> list[str]:
    """The next transaction of the store is ended at its commit, in favour of another. Answers what there were."""
    write, seen = store.write, []

    @contextmanager
    def deadlocked() -> Iterator[Connection]:
        seen.append("ended" if not seen else "done")
        with write() as conn:
            yield conn
            if len(seen) == 1:
                raise exc.OperationalError("COMMIT", {}, Exception(1213, "Deadlock found"))

    store.write = deadlocked  # type: ignore[method-assign]
    return seen

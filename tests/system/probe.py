"""Requests at a fixed rate, whatever becomes of the others: a stall shows as lateness, not as fewer requests."""

import http.client
import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

_TIMEOUT_S = 10.0


@dataclass
class Probe:
    """What became of the requests so far. ``failed``: (asked, given up, why), both in seconds since the start."""

    began: float = field(default_factory=time.monotonic)
    answered: list[float] = field(default_factory=list)
    failed: list[tuple[float, float, str]] = field(default_factory=list)

    @property
    def longest_gap(self) -> float:
        """The longest time without any answer, in seconds."""
        moments = sorted([self.began, *self.answered])
        return max((b - a for a, b in itertools.pairwise(moments)), default=0.0)

    @property
    def moments_lost(self) -> int:
        """At how many moments, at the least, something happened that cost all that was in flight just then, if each
        failed request fell to one of them."""
        count, last = 0, float("-inf")
        for asked, ended, _ in sorted(self.failed, key=lambda f: f[1]):
            if asked > last:
                count, last = count + 1, ended
        return count


@contextmanager
def probe(address: str, *, rate: float, kept: bool = False, port: int = 80, path: str = "/") -> Iterator[Probe]:
    """Ask for ``path`` ``rate`` times a second, each on a new connection; ``kept``: on a few that stay open."""
    seen, numbers, stop, lock = Probe(), itertools.count(), threading.Event(), threading.Lock()

    def go() -> None:
        connection = http.client.HTTPConnection(address, port, timeout=_TIMEOUT_S)
        headers = {} if kept else {"Connection": "close"}
        while not stop.is_set():
            with lock:
                due = seen.began + next(numbers) / rate
            if stop.wait(max(0.0, due - time.monotonic())):
                break
            asked = time.monotonic() - seen.began
            try:
                connection.request("GET", path, headers=headers)
                reply = connection.getresponse()
                reply.read()
                if reply.status == 200:
                    seen.answered.append(time.monotonic())
                else:
                    seen.failed.append((asked, time.monotonic() - seen.began, f"status {reply.status}"))
            except (OSError, http.client.HTTPException) as e:
                seen.failed.append((asked, time.monotonic() - seen.began, repr(e)))
                connection.close()
        connection.close()

    threads = [threading.Thread(target=go) for _ in range(4 if kept else int(rate * 0.3) + 4)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join()

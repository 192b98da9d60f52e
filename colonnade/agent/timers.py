"""Calls functions later, by a few threads. The agent's only clock."""

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)


class Timers:
    """Functions called may take their time; others are called meanwhile as long as a thread is free."""

    def __init__(self, threads: int = 4) -> None:
        self._waiting: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._changed = threading.Condition()
        for number in range(threads):
            threading.Thread(target=self._run, name=f"timer-{number}", daemon=True).start()

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        """Call it once, that much later."""
        with self._changed:
            entry = (time.monotonic() + seconds, next(self._order), call)
            heapq.heappush(self._waiting, entry)
            if self._waiting[0] is entry:
                self._changed.notify()

    def _run(self) -> None:
        while True:
            call = self._next()
            try:
                call()
            except Exception:
                log.exception("a timed call failed")

    def _next(self) -> Callable[[], None]:
        with self._changed:
            while True:
                if not self._waiting:
                    self._changed.wait()
                    continue
                pause = self._waiting[0][0] - time.monotonic()
                if pause <= 0:
                    call = heapq.heappop(self._waiting)[2]
                    if self._waiting:
                        self._changed.notify()  # another thread watches the next one
                    return call
                self._changed.wait(pause)

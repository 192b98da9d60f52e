"""Subjects waiting for a thread: each at most once, never two threads on one, those of the future at their time."""

import heapq
import threading

from colonnade.clock import Clock

_MOST = 10_000  # more than this is left to the sweep, which finds it again


class Inbox:
    """A bounded queue of subjects between the dispatcher and the threads that work."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._change = threading.Condition()
        self._at: dict[str, float] = {}  # when each waiting subject is to be taken
        self._heap: list[tuple[float, str]] = []  # of the same; entries that _at does not confirm are void
        self._busy: set[str] = set()
        self._again: dict[str, float] = {}  # offered while busy

    def offer(self, subject: str, at: float = 0.0) -> None:
        """Have the subject taken at ``at`` (seconds since the epoch; past: now) or sooner."""
        with self._change:
            if subject in self._busy:
                self._again[subject] = min(at, self._again.get(subject, at))
            elif at < self._at.get(subject, float("inf")) and len(self._at) < _MOST:
                self._at[subject] = at
                heapq.heappush(self._heap, (at, subject))
                self._change.notify()

    def take(self, timeout_s: float) -> str | None:
        """The next subject, which is busy from now until ``done``; None when none came in time."""
        end = self._clock.monotonic() + timeout_s
        with self._change:
            while (left := end - self._clock.monotonic()) > 0:
                wait = self._next_in()
                if wait <= 0:
                    _, subject = heapq.heappop(self._heap)
                    del self._at[subject]
                    self._busy.add(subject)
                    return subject
                self._change.wait(min(wait, left))
        return None

    def done(self, subject: str) -> None:
        """The thread has finished with it; if it was offered meanwhile it waits again."""
        with self._change:
            self._busy.discard(subject)
            at = self._again.pop(subject, None)
        if at is not None:
            self.offer(subject, at)

    def _next_in(self) -> float:
        while self._heap and self._at.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] - self._clock.now() if self._heap else float("inf")

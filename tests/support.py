"""What tests of several kinds share."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from sqlalchemy import Connection, exc

from colonnade.store.store import Store

T = TypeVar("T")


def eventually(condition: Callable[[], T], seconds: float = 10.0, every: float = 0.02) -> T:
    """Ask until the answer is true, and give it back. An AssertionError or a false answer at the deadline fails."""
    until = time.monotonic() + seconds
    while True:
        problem: AssertionError | None = None
        try:
            answer = condition()
        except AssertionError as e:
            problem = e
        else:
            if answer:
                return answer
        if time.monotonic() > until:
            raise AssertionError(f"not within {seconds} s; last answer: {problem or answer!r}") from problem
        time.sleep(every)


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

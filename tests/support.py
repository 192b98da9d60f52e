"""What tests of several kinds share."""

import time
from collections.abc import Callable
from typing import TypeVar

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

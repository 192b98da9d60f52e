"""Counters that never run backwards."""

from hypothesis import given
from hypothesis import strategies as st

from colonnade.agent.tally import Tally


@given(st.lists(st.one_of(st.integers(0, 50), st.just(None)), max_size=20))
def test_within_an_epoch_they_only_grow_and_lose_nothing(steps: list[int | None]) -> None:
    """A number: so much more traffic. None: the kernel's counter begins again, as when its listener was off."""
    tally = Tally(epoch="e")
    kernel = total = shown = 0
    for step in steps:
        kernel, total = (0, total) if step is None else (kernel + step, total + step)
        now = tally.take("e", {"x": (kernel, 1)})["x"][0]
        assert now >= shown
        shown = now
        assert now <= total
    if None not in steps:
        assert shown == total


def test_a_new_epoch_begins_at_zero() -> None:
    tally = Tally(epoch="a")
    assert tally.take("a", {"x": (5,)}) == {"x": (5,)}
    assert tally.take("b", {"x": (7,)}) == {"x": (0,)}
    assert tally.take("b", {"x": (9,), "y": (3,)}) == {"x": (2,), "y": (3,)}


def test_an_agent_that_knows_the_epoch_goes_on() -> None:
    old = Tally(epoch="a")
    old.take("a", {"x": (5,)})
    old.take("a", {"x": (1,)})
    new = Tally(epoch="a", base=dict(old.base), last=dict(old.last))
    assert new.take("a", {"x": (4,)}) == {"x": (9,)}

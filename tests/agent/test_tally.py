"""Counters that never run backwards."""

from hypothesis import given
from hypothesis import strategies as st

from colonnade.agent.tally import Tally


@given(st.lists(st.one_of(st.integers(0, 50), st.just(None)), max_size=20))
def test_within_an_epoch_they_only_grow_and_lose_nothing(steps: list[int | None]) -> None:
    """A number: so much more traffic. None: its listener was off, and the kernel's counter begins again."""
    tally = Tally(epoch="e")
    kernel = total = 0
    for step in steps:
        if step is None:
            kernel = 0
            assert tally.take("e", {}) == {}
            continue
        kernel, total = kernel + step, total + step
        assert tally.take("e", {"x": (kernel,)}) == {"x": (total,)}


def test_a_counter_that_begins_anew_unseen_does_not_run_backwards() -> None:
    tally = Tally(epoch="e")
    assert [tally.take("e", {"x": (n,)})["x"] for n in (5, 2, 3)] == [(5,), (7,), (8,)]


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

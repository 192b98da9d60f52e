"""Shares as tables: exact, even, and steady when members come and go."""

import itertools
import tracemalloc
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from colonnade.agent.shares import BUCKETS, by_hash, by_load, in_turn

NAMES = st.text("abcdef", min_size=1, max_size=4)
WEIGHTS = st.dictionaries(NAMES, st.integers(0, 256), max_size=8)


@given(WEIGHTS)
def test_in_turn_gives_each_exactly_its_weight(weights: dict[str, int]) -> None:
    slots = in_turn(weights)
    counts = Counter(slots)
    heavy = {n: w for n, w in weights.items() if w}
    assert set(counts) == set(heavy)
    assert all(counts[a] * heavy[b] == counts[b] * heavy[a] for a in heavy for b in heavy)


@given(WEIGHTS)
def test_in_turn_never_lets_a_member_wait_for_long(weights: dict[str, int]) -> None:
    slots = in_turn(weights)
    total = sum(weights.values())
    for name, weight in weights.items():
        places = [n for n, s in enumerate(slots * 2) if s == name]
        gaps = [b - a for a, b in itertools.pairwise(places)]
        assert all(gap <= 2 * total / weight + 1 for gap in gaps)


def test_very_many_members_still_fit_and_keep_their_proportions() -> None:
    slots = in_turn({str(n): 256 if n < 10 else 255 for n in range(200)})
    assert len(set(slots)) == 200
    assert len(slots) <= 2048 + 200


@given(WEIGHTS, NAMES)
def test_a_member_that_goes_moves_only_its_own_buckets(weights: dict[str, int], gone: str) -> None:
    before = by_hash(weights)
    after = by_hash({n: w for n, w in weights.items() if n != gone})
    assert all(a == b for a, b in zip(before, after, strict=False) if a != gone)


@given(WEIGHTS, NAMES, st.integers(1, 256))
def test_a_member_that_comes_takes_buckets_and_moves_none_between_others(
    weights: dict[str, int], new: str, weight: int
) -> None:
    before, after = by_hash({n: w for n, w in weights.items() if n != new}), by_hash({**weights, new: weight})
    assert all(b in (a, new) for a, b in zip(before, after, strict=False))


@given(st.dictionaries(NAMES, st.integers(1, 8), min_size=2, max_size=6))
def test_hashed_shares_are_near_the_weights(weights: dict[str, int]) -> None:
    counts = Counter(by_hash(weights))
    total = sum(weights.values())
    assert sum(counts.values()) == BUCKETS
    for name, weight in weights.items():
        due = BUCKETS * weight / total
        assert abs(counts[name] - due) <= 6 * due**0.5 + 1


FLOWS = st.dictionaries(NAMES, st.integers(0, 1000), max_size=8)


@given(st.dictionaries(NAMES, st.integers(1, 256), min_size=1, max_size=8), FLOWS, st.integers(0, 1000))
def test_the_next_flows_level_the_load(weights: dict[str, int], flows: dict[str, int], expected: int) -> None:
    slots = by_load(weights, flows, expected)
    assert slots
    assert all(n > 0 for n in slots.values())
    loads = {n: flows.get(n, 0) / w for n, w in weights.items()}
    total = sum(slots.values())
    after = {n: loads[n] + slots.get(n, 0) * max(expected, len(weights)) / total / weights[n] for n in weights}
    # Nobody who gets new flows ends above the one who gets none, but for what rounding makes.
    idle = [loads[n] for n in weights if n not in slots]
    if idle:
        slack = max(1.5 / w + 2.0 * len(weights) / w for w in weights.values())
        assert min(idle) >= min(after.values()) - slack


def test_the_least_loaded_gets_everything_until_it_is_level() -> None:
    assert set(by_load({"a": 1, "b": 1}, {"a": 100}, 10)) == {"b"}
    assert by_load({"a": 1, "b": 1}, {"a": 10, "b": 10}, 10) == {"a": 5, "b": 5}
    assert by_load({"a": 3, "b": 1}, {}, 8) == {"a": 6, "b": 2}
    assert by_load({"a": 1, "b": 0}, {"a": 9}, 3) == {"a": 3}


def test_thousands_of_members_are_remembered_in_little_memory() -> None:
    tracemalloc.start()
    try:
        by_hash({f"of-many-{n}": 1 for n in range(500)})
        assert tracemalloc.get_traced_memory()[0] < 500 * 10_000
    finally:
        tracemalloc.stop()

"""Which member a new flow goes to, as tables that the kernel looks up; pure.

A table is a list of members' names, one for each slot: round robin goes through it in order, hashes point into it.
"""

import math
import random
from array import array
from collections.abc import Mapping, Sequence
from functools import lru_cache

BUCKETS = 1024  # of hashes: fixed, so that a member's going moves its own clients alone
_MOST_SLOTS = 2048


def in_turn(weights: Mapping[str, int]) -> list[str]:
    """Each member as often as its weight says, spread as evenly as can be (smooth weighted round robin)."""
    scaled = _scaled({name: w for name, w in sorted(weights.items()) if w > 0})
    total = sum(scaled.values())
    if total == len(scaled):
        return list(scaled)
    due = dict.fromkeys(scaled, 0)
    slots = []
    for _ in range(total):
        for name, weight in scaled.items():
            due[name] += weight
        first = max(due, key=due.__getitem__)
        due[first] -= total
        slots.append(first)
    return slots


def by_hash(weights: Mapping[str, int]) -> list[str]:
    """A member for each bucket (weighted rendezvous hashing): shares are near the weights, and a change of one member
    moves only what it gains or loses."""
    return list(_by_hash(tuple(sorted((name, w) for name, w in weights.items() if w > 0))))


def by_load(weights: Mapping[str, int], flows: Mapping[str, int], expected: int) -> dict[str, int]:
    """Slots for each member, so that the next ``expected`` new flows level the load: members that have more than their
    share of all flows get none of the new ones, the others what they lack."""
    able = {name: w for name, w in weights.items() if w > 0}
    expected = max(expected, len(able), 1)
    level = _level(able, flows, expected)
    lack = {name: max(0.0, level * w - flows.get(name, 0)) for name, w in able.items()}
    return {name: round(v) or 1 for name, v in lack.items() if v >= 0.5} or dict.fromkeys(able, 1)


def _level(weights: Mapping[str, int], flows: Mapping[str, int], expected: int) -> float:
    """Flows for each unit of weight once ``expected`` more have come, poured where there are the fewest."""
    water, weight, level = float(expected), 0, 0.0
    for name in sorted(weights, key=lambda n: flows.get(n, 0) / weights[n]):
        load = flows.get(name, 0) / weights[name]
        if weight and load > level:
            break
        water += flows.get(name, 0)
        weight += weights[name]
        level = water / weight
    return level


@lru_cache(maxsize=256)
def _by_hash(weights: tuple[tuple[str, int], ...]) -> tuple[str, ...]:
    winners = [""] * BUCKETS if weights else []
    lowest = [math.inf] * BUCKETS
    for name, weight in weights:
        for bucket, lot in enumerate(_lots(name)):
            if lot / weight < lowest[bucket]:
                lowest[bucket] = lot / weight
                winners[bucket] = name
    return tuple(winners)


@lru_cache(maxsize=4096)
def _lots(name: str) -> Sequence[float]:
    """What the member draws for each bucket; the smallest lot, divided by the weight, wins. An array: 8 kB, a quarter
    of what a tuple takes, for a host may have thousands of members."""
    draw = random.Random(name).random  # noqa: S311 - no secret: the same on every host and after every restart
    return array("d", (-math.log(1.0 - draw()) for _ in range(BUCKETS)))


def _scaled(weights: Mapping[str, int]) -> dict[str, int]:
    if not weights:
        return {}
    divisor = math.gcd(*weights.values())
    total = sum(weights.values()) // divisor
    if total <= _MOST_SLOTS:
        return {name: w // divisor for name, w in weights.items()}
    return {name: max(1, w * _MOST_SLOTS // (total * divisor)) for name, w in weights.items()}

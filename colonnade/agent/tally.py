"""Counters that never run backwards within an epoch, whatever the kernel's do; pure.

The kernel's counters live as long as their listener is served: longer than the agent, shorter than the listener.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

Raw = Mapping[str, tuple[int, ...]]


@dataclass(slots=True)
class Tally:
    """``base`` is added to what the kernel says; ``last`` is what it said last, without the base."""

    epoch: str = ""
    base: dict[str, tuple[int, ...]] = field(default_factory=dict)
    last: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def take(self, epoch: str, raw: Raw) -> dict[str, tuple[int, ...]]:
        """The totals since the epoch began. In another one all begin again at zero."""
        if epoch != self.epoch:
            self.epoch = epoch
            self.base = {name: tuple(-n for n in numbers) for name, numbers in raw.items()}
            self.last = {}
        for name, numbers in raw.items():
            last = self.last.get(name)
            if last and any(now < before for now, before in zip(numbers, last, strict=True)):
                self.base[name] = _sum(self.base.get(name), last)
            self.last[name] = tuple(numbers)
        return {name: _sum(self.base.get(name), numbers) for name, numbers in raw.items()}


def _sum(one: tuple[int, ...] | None, other: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(a + b for a, b in zip(one, other, strict=True)) if one else tuple(other)

"""What to do next about one load balancer, decided from what is wanted and what is there. Pure.

The steps come in the order that keeps traffic flowing: what serves is kept fresh, the new one is brought up, and only
when every wanted seat serves does the old one go.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from colonnade.core.steps import Await, Boot, Plug, Push, ReleaseVip, Remove, Seat, Step, TakeVip, Unplug

Subnets = frozenset[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Desired:
    """What a load balancer should have."""

    seats: tuple[Seat, ...]
    networks: Mapping[str, Subnets]  # each network that amphorae are plugged into, and the subnets needed there
    bundles: Mapping[str, str] = field(default_factory=dict)  # amphora -> digest; only of those fully plugged


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """An amphora as it was found: a row, and what its agent said."""

    id: str
    seat: Seat
    there: bool = False  # its agent knows it; False also when nobody could be asked yet
    silent: str | None = None  # why its agent does not answer
    leaving: bool = False  # its removal was begun
    networks: Mapping[str, Subnets] = field(default_factory=dict)
    bundle: str | None = None  # the digest of what it runs
    failing: str | None = None  # why it does not serve although it has its bundle


@dataclass(frozen=True, kw_only=True, slots=True)
class Observed:
    """What a load balancer has. ``amphorae`` are in the order of their making."""

    vip: bool  # its port exists
    vip_owned: bool = True  # the port is ours to make and to remove
    amphorae: tuple[Place, ...] = ()


def plan(want: Desired | None, have: Observed) -> list[Step]:
    """What to do next. Empty when the world is as wanted. Safe to run again at any moment.

    ``want`` None: nothing at all may be left. Steps about different things do not depend on one another, so that
    when one fails the others can still be done; what depends on them comes in the next plan.
    """
    return list(_absent(have) if want is None else _present(want, have))


def _absent(have: Observed) -> Iterator[Step]:
    yield from (Remove(a.id) for a in have.amphorae)
    if not have.amphorae and have.vip and have.vip_owned:  # never free an address that something still answers on
        yield ReleaseVip()


def _present(want: Desired, have: Observed) -> Iterator[Step]:
    if not have.vip:
        yield TakeVip()
        return
    chosen = _seated(want, have)
    rest = [a for a in have.amphorae if a not in chosen.values()]
    if not any(a.bundle for a in chosen.values()):  # the old still hold the VIP: a push after that would take it back
        for amphora in rest:
            yield from _keep(want, amphora)
    for seat in want.seats:
        yield from _bring_up(want, chosen[seat]) if seat in chosen else (Boot(seat),)
    if all(seat in chosen and _serves(want, chosen[seat]) for seat in want.seats):
        yield from (Remove(a.id) for a in rest)


def _seated(want: Desired, have: Observed) -> dict[Seat, Place]:
    """One amphora for each seat: one that has been serving rather than another, else the oldest."""
    chosen: dict[Seat, Place] = {}
    for seat in want.seats:
        fitting = [a for a in have.amphorae if a.seat == seat and not a.leaving]
        if fitting:
            chosen[seat] = max(fitting, key=lambda a: (_serves(want, a), a.bundle is not None))
    return chosen


def _keep(want: Desired, amphora: Place) -> Iterator[Step]:
    """Changes go on for an amphora that is to be replaced, until its replacement serves. It gets no help beyond."""
    if amphora.there and not amphora.leaving and not amphora.failing:
        yield from (s for s in _bring_up(want, amphora) if not isinstance(s, Await))


def _bring_up(want: Desired, amphora: Place) -> Iterator[Step]:
    if amphora.silent:
        yield Await(amphora.id, amphora.silent)
        return
    if not amphora.there:
        yield Boot(amphora.seat, amphora.id)
        return
    unplugged = [n for n, subnets in sorted(want.networks.items()) if subnets != amphora.networks.get(n)]
    if unplugged:
        yield from (Plug(amphora.id, n) for n in unplugged)
        return
    wanted = want.bundles[amphora.id]
    if amphora.bundle != wanted:
        yield Push(amphora.id, wanted)
        return
    if amphora.failing:
        yield Await(amphora.id, amphora.failing)
    yield from (Unplug(amphora.id, n) for n in sorted(amphora.networks.keys() - want.networks.keys()))


def _serves(want: Desired, amphora: Place) -> bool:
    return (
        amphora.there
        and not amphora.silent
        and not amphora.failing
        and amphora.bundle is not None
        and amphora.bundle == want.bundles.get(amphora.id)
    )

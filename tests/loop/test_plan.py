"""The plan, as tables: what is wanted, what is there, which steps follow."""

import pytest

from colonnade.core.plan import Desired, Observed, Place, plan
from colonnade.core.steps import Await, Boot, Plug, Push, ReleaseVip, Remove, Seat, Step, TakeVip, Unplug
from colonnade.types import Role

FIRST, SECOND = Seat(role=Role.STANDALONE, incarnation=1), Seat(role=Role.STANDALONE, incarnation=2)
NETS = {"front": frozenset({"s1"}), "back": frozenset({"s2"})}


def want(*seats: Seat, networks: dict[str, frozenset[str]] = NETS, **bundles: str) -> Desired:
    return Desired(seats=seats or (FIRST,), networks=networks, bundles=bundles)


def place(id: str, seat: Seat = FIRST, **facts: object) -> Place:
    return Place(**{"id": id, "seat": seat, "there": True, "networks": NETS, **facts})  # type: ignore[arg-type]


def have(*places: Place, **facts: bool) -> Observed:
    return Observed(**{"vip": True, **facts}, amphorae=places)


NEW = want(a="new")
TABLE: list[tuple[str, Desired | None, Observed, list[Step]]] = [
    ("nothing wanted, nothing there", None, have(vip=False), []),
    ("the VIP goes last", None, have(place("a")), [Remove("a")]),
    ("then the VIP goes", None, have(), [ReleaseVip()]),
    ("a user's VIP stays", None, have(vip_owned=False), []),
    ("the VIP first", want(), have(vip=False), [TakeVip()]),
    ("then the amphora", want(), have(), [Boot(FIRST)]),
    ("a row without a place", want(), have(place("a", there=False)), [Boot(FIRST, "a")]),
    ("all ports before the bundle", want(), have(place("a", networks={})), [Plug("a", "back"), Plug("a", "front")]),
    ("a port that lacks a subnet", want(), have(place("a", networks=NETS | {"front": frozenset({"s0"})})),
     [Plug("a", "front")]),
    ("the bundle", NEW, have(place("a")), [Push("a", "new")]),
    ("another bundle", NEW, have(place("a", bundle="old")), [Push("a", "new")]),
    ("all as wanted", NEW, have(place("a", bundle="new")), []),
    ("a port too many goes after the push", want(networks={"front": frozenset({"s1"})}, a="new"),
     have(place("a", bundle="old")), [Push("a", "new")]),
    ("and only then", want(networks={"front": frozenset({"s1"})}, a="new"), have(place("a", bundle="new")),
     [Unplug("a", "back")]),
    ("silence", NEW, have(place("a", silent="No answer.")), [Await("a", "No answer.")]),
    ("HAProxy does not run", NEW, have(place("a", bundle="new", failing="No.")), [Await("a", "No.")]),
    ("a failing one is given what may heal it", NEW, have(place("a", bundle="old", failing="No.")), [Push("a", "new")]),
    ("failover: the new one is booted", want(SECOND, a="x"), have(place("a", bundle="x")), [Boot(SECOND)]),
    ("failover: the old one is kept fresh meanwhile", want(SECOND, a="y"), have(place("a", bundle="x")),
     [Push("a", "y"), Boot(SECOND)]),
    ("failover: a dead old one holds nothing up", want(SECOND), have(place("a", silent="No answer.")), [Boot(SECOND)]),
    ("failover: a failing old one holds nothing up", want(SECOND, a="x"), have(place("a", bundle="x", failing="No.")),
     [Boot(SECOND)]),
    ("failover: the old one stays until the new one serves", want(SECOND, a="x", b="y"),
     have(place("a", bundle="x"), place("b", SECOND)), [Push("b", "y")]),
    ("failover: also when the new one does not run", want(SECOND, a="x", b="y"),
     have(place("a", bundle="x"), place("b", SECOND, bundle="y", failing="No.")), [Await("b", "No.")]),
    ("failover: the VIP is not taken back by a push to the old one", want(SECOND, a="z", b="z"),
     have(place("a", bundle="x"), place("b", SECOND, bundle="y")), [Push("b", "z")]),
    ("failover: then the old one goes", want(SECOND, a="x", b="y"),
     have(place("a", bundle="x"), place("b", SECOND, bundle="y")), [Remove("a")]),
    ("what is leaving gets no help and goes", want(SECOND, a="z", b="y"),
     have(place("a", bundle="x", leaving=True), place("b", SECOND, bundle="y")), [Remove("a")]),
    ("doubled: the one that serves stays", want(a="x", b="y"),
     have(place("a"), place("b", bundle="y")), [Remove("a")]),
    ("a wanted seat whose amphora is leaving gets another", want(a="x"), have(place("a", bundle="x", leaving=True)),
     [Boot(FIRST)]),
]  # fmt: skip


@pytest.mark.parametrize(("wanted", "found", "steps"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_plan(wanted: Desired | None, found: Observed, steps: list[Step]) -> None:
    assert plan(wanted, found) == steps


def test_two_roles_are_an_addition() -> None:
    master, backup = Seat(role=Role.MASTER, incarnation=1), Seat(role=Role.BACKUP, incarnation=1)
    both = want(master, backup, a="x", b="y")
    assert plan(both, have()) == [Boot(master), Boot(backup)]
    assert plan(both, have(place("a", master, bundle="x"), place("b", backup))) == [Push("b", "y")]
    assert plan(both, have(place("a", master, bundle="x"), place("b", backup, bundle="y"))) == []

"""The balancer alone, in a namespace without a fabric."""

import threading
import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from colonnade import datagrams
from colonnade.agent import balancer, namespaces, rules, ruleset
from colonnade.agent.checks import Checks
from colonnade.agent.network import AmphoraNetwork
from colonnade.agent.refused import Refused
from colonnade.agent.runtime import Statistics
from colonnade.agent.timers import Timers
from colonnade.agent.tracking import Pace
from colonnade.datagrams import Datagrams, Listener, Member, Pool

pytestmark = pytest.mark.root
UDP = Listener(id=str(uuid.UUID(int=1)), protocol="udp", port=53, limit=None, allowed=None, idle=50, pool=None)
SCTP = Listener(id=str(uuid.UUID(int=2)), protocol="sctp", port=53, limit=None, allowed=None, idle=50, pool=None)


class NoRelay:
    pid = 0

    def adopt(self) -> None: ...
    def have(self, *_: object) -> None: ...
    def close(self) -> None: ...
    def ports(self) -> dict[str, int]:
        return {}


@pytest.fixture
def alone(namespace: str, tmp_path: Path) -> balancer.Balancer:
    network = AmphoraNetwork(cast("Any", None), namespace)
    return balancer.Balancer(
        network=network, run=tmp_path, checks=Checks(), timers=Timers(1), relays=cast("Any", NoRelay()), pace=Pace(),
        news=lambda: None,
    )  # fmt: skip


def text(*listeners: Listener) -> str:
    return datagrams.to_text(Datagrams(vips=("10.0.0.1",), listeners=listeners, pools=()))


def forwarding(namespace: str) -> str:
    with namespaces.inside(namespace):
        return Path("/proc/sys/net/ipv4/ip_forward").read_text().strip()


def test_a_kernel_that_does_not_know_sctp_goes_on_with_what_it_had(
    alone: balancer.Balancer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone.apply(text(UDP), "e")
    before = rules.names(ruleset.TABLE, namespace)
    monkeypatch.setattr(balancer, "_KNOWS_SCTP", Path("/proc/no-such-thing"))
    with pytest.raises(Refused, match="cannot balance SCTP") as refused:
        alone.apply(text(UDP, SCTP), "e")
    assert (refused.value.status, bool(refused.value.help)) == (422, True)
    assert rules.names(ruleset.TABLE, namespace) == before
    monkeypatch.undo()
    alone.apply(text(UDP, SCTP), "e")
    assert len(rules.names(ruleset.TABLE, namespace) or ()) > len(before or ())


def test_it_forwards_only_while_there_is_something_to_balance(alone: balancer.Balancer, namespace: str) -> None:
    alone.apply(None, "e")
    assert rules.names(ruleset.TABLE, namespace) is None
    alone.apply(text(UDP), "e")
    assert forwarding(namespace) == "1"
    alone.apply(None, "e")
    assert (forwarding(namespace), rules.names(ruleset.TABLE, namespace)) == ("0", None)


def test_a_new_agent_whose_rules_are_refused_leaves_those_of_the_earlier_one(
    alone: balancer.Balancer, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone.apply(text(UDP), "e")
    before = rules.names(ruleset.TABLE, namespace)
    later = balancer.Balancer(
        network=AmphoraNetwork(cast("Any", None), namespace), run=tmp_path, checks=Checks(), timers=Timers(1),
        relays=cast("Any", NoRelay()), pace=Pace(), news=lambda: None,
    )  # fmt: skip
    with monkeypatch.context() as m:
        m.setattr(ruleset, "_line", lambda *words: " ".join(w for w in words if w))
        with pytest.raises(Refused, match="nft refused"):
            later.apply(text(UDP), "e")
    assert rules.names(ruleset.TABLE, namespace) == before
    assert forwarding(namespace) == "1"
    later.apply(text(UDP), "e")
    assert set(later.look("e").listeners) == {UDP.id}


def test_rules_that_the_kernel_refuses_change_nothing(
    alone: balancer.Balancer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone.apply(text(UDP), "e")
    before = rules.names(ruleset.TABLE, namespace)
    with monkeypatch.context() as m:
        m.setattr(ruleset, "_line", lambda *words: " ".join(w for w in words if w))  # without the table's name
        with pytest.raises(Refused, match="nft refused"):
            alone.apply(text(UDP, SCTP), "e")
    assert rules.names(ruleset.TABLE, namespace) == before
    assert set(alone.look("e").listeners) == {UDP.id}


class Clock:
    """Time that goes when it is told to."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Later:
    """Timers that only note when they would call."""

    def __init__(self) -> None:
        self.pauses: list[float] = []

    def after(self, seconds: float, call: object) -> None:
        self.pauses.append(seconds)


def test_members_whose_health_changes_all_the_time_leave_the_threads_to_others(
    alone: balancer.Balancer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A member's owner says how often that is; with many listeners, each change of the rules takes seconds."""
    alone.apply(text(UDP), "e")
    timers, clock = Later(), Clock()
    monkeypatch.setattr(alone, "_timers", timers)
    monkeypatch.setattr(balancer, "time", clock)
    alone._checked()
    monkeypatch.setattr(alone, "_load", lambda: clock.sleep(0.25))
    alone.refresh()
    alone._checked()
    alone._checked()  # the first one is still to come
    assert timers.pauses == [0.0, 1.0]


def test_no_timer_waits_for_a_change_that_takes_long(alone: balancer.Balancer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The timers' four threads send all amphorae's heartbeats."""
    alone.apply(text(UDP), "e")
    before = alone.look("e")
    assert list(before.listeners) == [UDP.id]
    timers = Later()
    monkeypatch.setattr(alone, "_timers", timers)
    held, end = threading.Event(), threading.Event()

    def change() -> None:
        with alone._lock:
            held.set()
            end.wait(60)

    thread = threading.Thread(target=change)
    thread.start()
    assert held.wait(60)
    began = time.monotonic()
    try:
        assert alone.look("e") == before
        assert alone.look("another") == Statistics()
        alone.refresh()
        alone._level()
        assert time.monotonic() - began < 20
        assert len(timers.pauses) == 2  # both are done later
    finally:
        end.set()
        thread.join()


def test_a_count_that_is_old_sends_nobody_all_new_flows(
    alone: balancer.Balancer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counts take turns on the whole machine, and one load balancer with very many flows makes that turn long."""
    one, other = (
        Member(id=str(uuid.UUID(int=n)), address=f"10.0.0.{n}", port=1, monitor_address="10.0.0.1", monitor_port=1)
        for n in (11, 12)
    )
    pool = Pool(id=str(uuid.UUID(int=9)), algorithm="LEAST_CONNECTIONS", persistence=None, monitor=None,
                members=(one, other))  # fmt: skip
    want = Datagrams(vips=("10.0.0.254",), listeners=(replace(UDP, pool=pool.id),), pools=(pool,))
    clock = Clock()
    monkeypatch.setattr(alone, "_timers", Later())
    alone.apply(datagrams.to_text(want), "e")
    monkeypatch.setattr(balancer, "time", clock)
    monkeypatch.setattr(alone, "_count", lambda: None)
    number = ruleset.numbers(want)
    alone._flows.numbers[number[one.id]] = 100
    alone._counted_at = clock.now
    alone._level()
    assert list(alone._state.slots[pool.id]) == [other.id]
    clock.sleep(3.1)
    alone._level()
    assert alone._state.slots == {}

"""Leases of workers that died: given back at once on their own machine, and only theirs."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from colonnade.store import owner, work
from tests.loop.world import World
from tests.support import eventually


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    made = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield made
    made.kill()
    made.communicate()


def hold(world: World, lb: str, who: str) -> None:
    with world.store.write() as conn:
        assert work.claim(conn, lb, who, world.clock.now(), 30)


@pytest.mark.parametrize(
    ("who", "is_dead"),
    [
        ("host:here:7:100:abc", False),
        ("host:here:7:99:abc", True),  # the number went to another process
        ("host:here:8:100:abc", True),
        ("a:b:here:8:100:abc", True),  # a node's name may hold colons
        ("host:here:9:100:abc", False),  # hidden from us: it may live
        ("host:there:8:100:abc", False),
        ("host:8:abc", False),
        ("host:here:x:100:abc", False),
        ("", False),
    ],
)
def test_only_a_process_that_is_known_to_be_gone_is_dead(who: str, is_dead: bool) -> None:
    starts = {7: "100", 9: None}
    assert owner.dead(who, "here", lambda pid: starts.get(pid, "")) is is_dead


def test_a_living_process_is_not_dead_and_a_killed_one_is(process: "subprocess.Popen[bytes]") -> None:
    who = owner.name("node", process.pid)
    assert not owner.dead(who, owner.machine(), owner.started)
    process.kill()
    eventually(lambda: owner.dead(who, owner.machine(), owner.started))  # also while nobody has reaped it
    process.wait()
    assert owner.dead(who, owner.machine(), owner.started)


def test_an_owner_fits_its_column() -> None:
    assert len(owner.name("n" * 200, os.getpid())) <= 64
    assert owner.name("node") != owner.name("node")


def test_a_dead_workers_lease_is_given_back_at_the_next_sweep(world: World, process: "subprocess.Popen[bytes]") -> None:
    lb, worker = world.create(), world.worker()
    hold(world, lb, owner.name("node", process.pid))
    assert worker.sweep() == []
    process.kill()
    process.wait()
    assert worker.sweep() == [lb]
    assert worker.turn(lb)
    world.assert_matches()


def test_what_a_dead_worker_still_writes_is_void(world: World, process: "subprocess.Popen[bytes]") -> None:
    lb, worker = world.create(), world.worker()
    with world.store.write() as conn:
        lease = work.claim(conn, lb, owner.name("node", process.pid), world.clock.now(), 30)
    assert lease
    process.kill()
    process.wait()
    worker.sweep()
    worker.turn(lb)
    with pytest.raises(work.Lost), world.store.write() as conn:
        work.settle(conn, lease, lease.generation)


def test_a_lease_of_another_machine_runs_out_in_its_own_time(world: World) -> None:
    lb, worker = world.create(), world.worker()
    hold(world, lb, "elsewhere:00000000:1:1:abc")
    assert worker.sweep() == []
    world.clock.at += 31
    assert worker.sweep() == [lb]


def test_a_turn_that_the_database_cut_short_gives_its_lease_back(world: World) -> None:
    lb, worker = world.create(), world.worker()
    writes = iter(range(1000))

    def away(effect: str, moment: str) -> None:
        if (effect, moment) == ("write", "before") and next(writes) >= 1:
            raise ConnectionError("The database is away.")

    world.store.trouble = away
    with pytest.raises(ConnectionError):
        worker.turn(lb)
    world.store.trouble = lambda effect, moment: None
    assert world.ledger(lb).owner == worker.owner
    assert worker.sweep() == [lb]
    world.settle(worker)
    world.assert_matches()


def test_a_sweep_leaves_the_leases_of_turns_under_way_alone(world: World) -> None:
    lb, worker = world.create(), world.worker()
    seen: list[str | None] = []

    def sweep(effect: str, moment: str) -> None:
        if (effect, moment) == ("push", "before"):
            worker.sweep()
            seen.append(world.ledger(lb).owner)

    world.cloud.trouble = sweep
    worker.turn(lb)
    assert seen == [worker.owner]
    world.assert_matches()

"""The ledger: leases, generations, back-off. Every change is compare-and-set."""

import threading

import pytest
from sqlalchemy import Connection, select

from colonnade.store import work
from colonnade.store.store import Store
from colonnade.store.tables import work as ledger


def row(store: Store, subject: str = "a"):  # type: ignore[no-untyped-def]  # SQLAlchemy's row
    with store.read() as conn:
        return conn.execute(select(ledger).where(ledger.c.subject == subject)).one()


def claim(store: Store, now: float, owner: str = "w1") -> work.Lease | None:
    with store.write() as conn:
        return work.claim(conn, "a", owner, now, 30)


def touch(store: Store, now: float = 0, *, delete: bool = False) -> int:
    def write(conn: Connection) -> int:
        work.touch(conn, "a", now, delete=delete)
        return work.generation(conn, "a")

    return store.written(write)


def test_a_new_subject_begins_as_if_it_was_touched(store: Store) -> None:
    with store.write() as conn:
        work.begin(conn, "a", 3)
        work.touch(conn, "b", 3)
    assert row(store)[1:] == row(store, "b")[1:]


def test_each_write_raises_the_generation_and_makes_it_due(store: Store) -> None:
    assert [touch(store, 1), touch(store, 2)] == [1, 2]
    assert row(store).due_at == 2


def test_the_wish_to_delete_stays(store: Store) -> None:
    touch(store, delete=True)
    touch(store)
    assert row(store).delete_wanted


def test_a_subject_is_claimed_once(store: Store) -> None:
    touch(store)
    assert claim(store, 1) is not None
    assert claim(store, 1, "w2") is None


def test_what_is_not_due_yet_is_not_claimed(store: Store) -> None:
    touch(store, 10)
    assert claim(store, 9) is None


def test_a_lease_that_ran_out_goes_to_another_with_a_higher_epoch(store: Store) -> None:
    touch(store)
    first, second = claim(store, 1), claim(store, 32, "w2")
    assert first and second and second.epoch == first.epoch + 1


def test_a_renewed_lease_is_kept(store: Store) -> None:
    touch(store)
    lease = claim(store, 1)
    assert lease
    with store.write() as conn:
        work.renew(conn, lease, 25, 30)
    assert claim(store, 40, "w2") is None


def test_a_write_with_an_old_epoch_changes_nothing(store: Store) -> None:
    touch(store)
    old = claim(store, 1)
    assert old and claim(store, 32, "w2")
    before = row(store)
    for write in (
        lambda conn: work.renew(conn, old, 33, 30),
        lambda conn: work.settle(conn, old, 1),
        lambda conn: work.postpone(conn, old, 33, 1),
        lambda conn: work.fail(conn, old, 1, 33, 1),
        lambda conn: work.forget(conn, old),
    ):
        with pytest.raises(work.Lost), store.write() as conn:
            write(conn)
        assert row(store) == before


def test_settling_ends_the_work(store: Store) -> None:
    touch(store)
    lease = claim(store, 1)
    assert lease
    with store.write() as conn:
        assert work.settle(conn, lease, 1)
    assert (row(store).due_at, row(store).owner, row(store).settled_generation) == (None, None, 1)


def test_settling_a_generation_that_was_overtaken_changes_nothing(store: Store) -> None:
    touch(store)
    lease = claim(store, 1)
    assert lease
    touch(store, 2)
    before = row(store)
    with store.write() as conn:
        assert not work.settle(conn, lease, 1)
    assert row(store) == before


def test_a_failure_is_counted_and_put_off(store: Store) -> None:
    touch(store)
    lease = claim(store, 1)
    assert lease
    with store.write() as conn:
        assert work.fail(conn, lease, 1, 5, 0.5) == 5.5
    assert (row(store).attempts, row(store).failing_since, row(store).owner) == (1, 5, None)


def test_a_failure_overtaken_by_a_write_is_tried_at_once(store: Store) -> None:
    touch(store)
    lease = claim(store, 1)
    assert lease
    touch(store, 2)
    with store.write() as conn:
        assert work.fail(conn, lease, 1, 5, 60) == 5
    assert (row(store).attempts, row(store).due_at) == (0, 5)


def test_a_nudge_wakes_only_what_has_nothing_to_do(store: Store) -> None:
    touch(store, 7)
    with store.write() as conn:
        assert not work.nudge(conn, "a", 9)
        assert not work.nudge(conn, "nobody", 9)
    assert row(store).due_at == 7
    lease = claim(store, 8)
    assert lease
    with store.write() as conn:
        work.settle(conn, lease, 1)
        assert work.nudge(conn, "a", 9)
    assert row(store).due_at == 9


def test_the_longest_waiting_is_found_first(store: Store) -> None:
    with store.write() as conn:
        for n, subject in enumerate("cab"):
            work.touch(conn, subject, n)
        assert work.due(conn, 1.5, 10) == ["c", "a"]
        assert work.due(conn, 5, 2) == ["c", "a"]
        assert work.oldest(conn, 5) == 5


def test_pauses_double_up_to_the_longest_and_are_spread() -> None:
    assert [work.pause(n, 60, 0) for n in (0, 1, 2, 3, 50)] == [0.2, 0.4, 0.8, 1.6, 60]
    assert work.pause(0, 60, 1) == pytest.approx(0.15)
    assert work.pause(0, 60, 0, broken=True) == 1


def test_first_writes_at_the_same_time_all_count(store: Store) -> None:
    barrier = threading.Barrier(8)

    def write() -> None:
        barrier.wait()
        touch(store)

    threads = [threading.Thread(target=write) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert row(store).generation == 8


def test_of_many_claims_at_the_same_time_one_wins(store: Store) -> None:
    touch(store)
    barrier, won = threading.Barrier(8), []

    def take(owner: str) -> None:
        barrier.wait()
        won.extend([owner] if claim(store, 1, owner) else [])

    threads = [threading.Thread(target=take, args=(f"w{n}",)) for n in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert len(won) == 1

"""Transactions on whatever database: views, turns, deadlocks, a database that goes away."""

import os
import threading
import time
from pathlib import Path

import pytest
from databases import DATABASES
from sqlalchemy import exc, insert, select, update

from colonnade.store import work
from colonnade.store.store import Store
from colonnade.store.tables import work as ledger

only_servers = pytest.mark.skipif("config.getoption('--database') == 'sqlite'", reason="is about a server")


def due_at(store: Store, subject: str) -> float | None:
    with store.read() as conn:
        return conn.execute(select(ledger.c.due_at).where(ledger.c.subject == subject)).scalar()


def test_a_reader_sees_one_moment(store: Store) -> None:
    with store.write() as conn:
        work.begin(conn, "a", 1)
    with store.read() as view:
        assert work.generation(view, "a") == 1
        with store.write() as conn:
            work.touch(conn, "a", 2)
            work.begin(conn, "b", 2)
        assert work.generation(view, "a") == 1
        assert work.generation(view, "b") == 0
    with store.read() as view:
        assert (work.generation(view, "a"), work.generation(view, "b")) == (2, 1)


def test_what_is_written_while_reading_is_gone(store: Store) -> None:
    with store.read() as conn:
        work.begin(conn, "a", 1)
    assert due_at(store, "a") is None


def test_times_keep_their_fractions(store: Store) -> None:
    with store.write() as conn:
        work.begin(conn, "a", 1_800_000_000.123456)
    assert due_at(store, "a") == 1_800_000_000.123456


@pytest.mark.parametrize("other", ["A", "a ", "á"])
def test_texts_are_compared_letter_by_letter(store: Store, other: str) -> None:
    with store.write() as conn:
        for subject in ("a", other):
            conn.execute(insert(ledger).values(subject=subject, generation=1))
        assert work.generation(conn, "a") == work.generation(conn, other) == 1
        work.touch(conn, other, 1)
        assert work.generation(conn, "a") == 1


@only_servers
def test_a_deadlocked_transaction_is_done_again(store: Store) -> None:
    with store.write() as conn:
        for subject in "ab":
            work.begin(conn, subject, 0)
    both = threading.Barrier(2)
    tries = []

    def cross(first: str, second: str) -> None:
        def do(conn: object) -> None:
            tries.append(first)
            for subject in (first, second):
                conn.execute(update(ledger).where(ledger.c.subject == subject).values(attempts=ledger.c.attempts + 1))  # type: ignore[attr-defined]
                if subject == first and len(tries) <= 2:
                    both.wait(60)

        store.written(do)

    threads = [threading.Thread(target=cross, args=order) for order in ("ab", "ba")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(tries) >= 3
    with store.read() as conn:
        assert list(conn.execute(select(ledger.c.attempts)).scalars()) == [2, 2]


@only_servers
@pytest.mark.parametrize("idle_s", [0.0, 1.1])
def test_a_server_that_was_away_is_used_again(idle_s: float) -> None:
    with DATABASES.fresh() as url:
        store = Store(url)
        with store.write() as conn:
            work.begin(conn, "a", 1)
        assert due_at(store, "a") == 1
        DATABASES.server.stop()
        with pytest.raises(exc.OperationalError), store.write() as conn:
            work.touch(conn, "a", 2)
        DATABASES.server.start()
        time.sleep(idle_s)
        with store.write() as conn:
            work.touch(conn, "a", 3)
        assert due_at(store, "a") == 3
        store.close()


@only_servers
def test_a_connection_that_the_server_ended_meanwhile_is_noticed(store: Store) -> None:
    with store.write() as conn:
        work.begin(conn, "a", 1)
    assert due_at(store, "a") == 1
    DATABASES.server.stop()
    DATABASES.server.start()
    time.sleep(1.1)  # longer than a connection is trusted
    assert due_at(store, "a") == 1
    with store.write() as conn:
        work.touch(conn, "a", 2)
    assert due_at(store, "a") == 2


@pytest.mark.skipif("config.getoption('--database') != 'sqlite'", reason="is about SQLite's file")
def test_writers_of_one_file_take_turns(store: Store) -> None:
    path = Path(str(store.engine.url.database))
    others = [Store(f"sqlite:///{path}") for _ in range(2)]
    with store.write() as conn:
        work.begin(conn, "a", 0)
    began = time.monotonic()

    def many(other: Store) -> None:
        for _ in range(50):
            with other.write() as conn:
                work.touch(conn, "a", 0)

    threads = [threading.Thread(target=many, args=(others[n % 2],)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with store.read() as conn:
        assert work.generation(conn, "a") == 401
    assert time.monotonic() - began < 20
    for other in others:
        other.close()


def test_a_closed_store_holds_no_file(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'x.sqlite'}")
    for _ in range(2):  # one that is closed may be used again
        with store.write() as conn:
            conn.exec_driver_sql("CREATE TABLE IF NOT EXISTS t (a INTEGER)")
        store.close()
        held = {os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if _is_there(fd)}
        assert not [path for path in held if str(tmp_path) in path]


def _is_there(fd: str) -> bool:
    return os.path.islink(f"/proc/self/fd/{fd}")

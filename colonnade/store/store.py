"""One database, as transactions: ``read`` and ``write``. SQLite (WAL), MariaDB/MySQL and PostgreSQL."""

import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import orjson
from sqlalchemy import URL, Connection, Engine, ExceptionContext, create_engine, event, exc, make_url
from sqlalchemy.pool import QueuePool

from colonnade.clock import SystemClock

T = TypeVar("T")

_BUSY_TIMEOUT_S = 30
_CONNECT_S = 5
_ANSWER_S = 60  # the longest statement; only a server that is gone takes longer
_LOCK_S = 10  # how long a statement waits for another transaction's rows
_FRESH_S = 1.0  # a connection that was used so short a time ago is not asked whether it still lives
_POOL = 16
_TRIES = 5
_DEADLOCK = {1213, "40P01"}  # MariaDB's and PostgreSQL's words for "ended in favour of another"


class Store:
    """Transactions on one database. Safe to use from many threads; not across a fork."""

    def __init__(self, url: str) -> None:
        parsed = make_url(url)
        self._turn: AbstractContextManager[object] = nullcontext()
        if parsed.get_backend_name() == "sqlite":
            self.engine = self.reader = self.glancer = _sqlite(parsed)
            if parsed.database:
                self._turn = _Turn(parsed.database)
        else:
            # Writers lock what they look at; only readers need one view of several statements. Each kind of
            # connection says so once, when it is made: to say it in every transaction costs two round trips.
            lost = _Lost()
            self.engine = _server(parsed, "READ COMMITTED", lost)
            self.reader = _server(parsed, "REPEATABLE READ", lost)
            self.glancer = _server(parsed, "AUTOCOMMIT", lost)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent view; whatever is written in it is rolled back."""
        with self.reader.connect() as conn:
            conn.begin()
            yield conn

    @contextmanager
    def glance(self) -> Iterator[Connection]:
        """For reading one thing: on a server each statement sees what is there at its own moment, and none has to say
        that the view ends, which is a round trip less than ``read``."""
        with self.glancer.connect() as conn:
            yield conn

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that is committed at the end and rolled back on any exception.

        On SQLite it takes the write lock at its start, so a read inside it cannot go stale before the write.
        """
        with self._turn, self.engine.connect().execution_options(colonnade_write=True) as conn, conn.begin():
            yield conn

    def written(self, do: Callable[[Connection], T]) -> T:
        """What ``do`` answers in a transaction as ``write`` makes them; begun anew, a few times, when the database
        ended it in favour of another one."""
        for left in reversed(range(_TRIES)):
            try:
                with self.write() as conn:
                    return do(conn)
            except exc.OperationalError as e:
                if not left or not deadlocked(e):
                    raise
        raise AssertionError("unreachable: the last try returns or raises")

    def close(self) -> None:
        """Give all connections back."""
        self.engine.dispose()
        self.reader.dispose()
        self.glancer.dispose()
        if isinstance(self._turn, _Turn):
            self._turn.close()


class _Turn:
    """Writers of one SQLite file, of all processes, one after the other. SQLite's own lock would do, but who finds it
    taken sleeps up to 100 ms before the next look, while others take it; this one wakes who waits."""

    def __init__(self, database: str) -> None:
        self._ours = threading.Lock()
        self._path = f"{database}-turn"
        self._file: int | None = None

    def __enter__(self) -> None:
        self._ours.acquire()
        with suppress(OSError):  # a full disk, a directory that is gone: SQLite will say so
            if self._file is None:
                self._file = os.open(self._path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
            fcntl.flock(self._file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            fcntl.flock(self._file, fcntl.LOCK_UN)
        self._ours.release()

    def close(self) -> None:
        """Give the file back; the next turn opens it again."""
        with self._ours:
            if self._file is not None:
                os.close(self._file)
                self._file = None


def deadlocked(e: exc.OperationalError) -> bool:
    """Whether the database rolled this transaction back so that another could go on."""
    return not _DEADLOCK.isdisjoint((getattr(e.orig, "sqlstate", None), *(e.orig.args[:1] if e.orig else ())))


def _sqlite(url: URL) -> Engine:
    engine = create_engine(
        url, poolclass=QueuePool, pool_size=_POOL, json_deserializer=orjson.loads,
        connect_args={"timeout": _BUSY_TIMEOUT_S, "check_same_thread": False},
    )  # fmt: skip

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:  # noqa: ANN401 - the driver's own objects
        connection.isolation_level = None  # we say BEGIN ourselves: pysqlite's own would come too late
        # FULL: an answered write survives a power cut, not only a killed process.
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "temp_store=MEMORY"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(conn: Connection) -> None:
        immediate = conn.get_execution_options().get("colonnade_write")
        conn.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine


@dataclass
class _Lost:
    """When a connection to the server broke last: all that are older are suspicious."""

    at: float = float("-inf")


def _server(url: URL, isolation_level: Any, lost: _Lost) -> Engine:  # noqa: ANN401 - a Literal that is not exported
    engine = create_engine(
        url, pool_size=_POOL, isolation_level=isolation_level, json_deserializer=orjson.loads,
        pool_reset_on_return=None,  # read() and write() have ended every transaction, and glance() began none
        skip_autocommit_rollback=True,
        connect_args=_arguments(url),
    )  # fmt: skip
    clock = SystemClock()

    @event.listens_for(engine, "checkin")
    def _used(_connection: Any, record: Any) -> None:  # noqa: ANN401 - as above
        record.info["used_at"] = clock.monotonic()

    @event.listens_for(engine, "checkout")
    def _alive(connection: Any, record: Any, _proxy: Any) -> None:  # noqa: ANN401 - as above
        now = clock.monotonic()
        used_at = record.info.get("used_at", now)
        if used_at > max(lost.at, now - _FRESH_S):
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as e:
            raise exc.InvalidatePoolError from e  # the pool makes new connections in place of all it has

    @event.listens_for(engine, "handle_error")
    def _note(context: ExceptionContext) -> None:
        if context.is_disconnect:
            lost.at = clock.monotonic()

    return engine


def _arguments(url: URL) -> dict[str, Any]:
    if url.get_driver_name() == "pymysql":
        from pymysql.constants import FIELD_TYPE
        from pymysql.converters import conversions

        # PyMySQL's own reading of a time takes ten times as long, and lists are full of them.
        return {
            "conv": {**conversions, FIELD_TYPE.DATETIME: datetime.fromisoformat},
            "connect_timeout": _CONNECT_S, "read_timeout": _ANSWER_S, "write_timeout": _ANSWER_S,
            "init_command": f"SET SESSION innodb_lock_wait_timeout = {_LOCK_S}",
        }  # fmt: skip
    if url.get_driver_name() == "psycopg":
        return {
            "connect_timeout": _CONNECT_S, "tcp_user_timeout": _ANSWER_S * 1000,
            "options": f"-c lock_timeout={_LOCK_S}s",
        }  # fmt: skip
    return {}

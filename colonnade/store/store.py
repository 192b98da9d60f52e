"""One database, as transactions: ``read`` and ``write``. SQLite (WAL), MariaDB/MySQL and PostgreSQL."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.pool import QueuePool

_BUSY_TIMEOUT_S = 30


class Store:
    """Transactions on one database. Safe to use from many threads; not across a fork."""

    def __init__(self, url: str) -> None:
        self.engine = _engine(url)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent view; whatever is written in it is rolled back."""
        with self.engine.connect() as conn, conn.begin():
            yield conn

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that is committed at the end and rolled back on any exception.

        On SQLite it takes the write lock at its start, so a read inside it cannot go stale before the write.
        """
        with self.engine.connect().execution_options(colonnade_write=True) as conn, conn.begin():
            yield conn

    def close(self) -> None:
        """Give all connections back."""
        self.engine.dispose()


def _engine(url: str) -> Engine:
    if not url.startswith("sqlite"):
        return create_engine(
            url, pool_pre_ping=True, pool_size=16, isolation_level="READ COMMITTED", json_deserializer=orjson.loads
        )
    engine = create_engine(
        url, poolclass=QueuePool, pool_size=16, json_deserializer=orjson.loads,
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

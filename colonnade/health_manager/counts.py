"""Counters of listeners that never run backwards: the sum of finished epochs (base) and of the running one (last)."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, and_, bindparam, insert, select, update

from colonnade import wire
from colonnade.store.tables import amphora, listener
from colonnade.store.tables import listener_statistics as table

Key = tuple[str, str]  # listener id, amphora id
_NAMES = ("bytes_in", "bytes_out", "total_connections", "request_errors")
_AT_ONCE = 400


@dataclass(frozen=True, slots=True)
class Count:
    """What one amphora last said of one listener."""

    lb_id: str
    epoch: str
    counters: wire.Counters


class Ledger:
    """What was said and is not written yet."""

    def __init__(self) -> None:
        self._pending: dict[Key, Count] = {}
        self._written: dict[Key, Count] = {}

    def note(self, beats: Iterable[tuple[str, wire.Heartbeat]]) -> None:
        """Take the counters out of heartbeats, each with its load balancer's id."""
        for lb_id, beat in beats:
            for listener_id, counters in beat.listeners.items():
                key, count = (listener_id, beat.amphora_id), Count(lb_id, beat.epoch, counters)
                if self._written.get(key) != count:
                    self._pending[key] = count

    def pending(self) -> dict[Key, Count]:
        """What differs from what is written."""
        return dict(self._pending)

    def written(self, counted: Mapping[Key, Count]) -> None:
        """These are in the database."""
        self._written.update(counted)
        self._pending = {k: c for k, c in self._pending.items() if counted.get(k) != c}

    def forget(self, amphora_id: str) -> None:
        """The amphora is gone; what it counted stays in the database."""
        for book in (self._pending, self._written):
            for key in [k for k in book if k[1] == amphora_id]:
                del book[key]


def write(conn: Connection, counted: Mapping[Key, Count]) -> None:
    """Add what was counted to the rows; listeners that are gone are left out, and amphorae that are: theirs has been
    added up already."""
    if not counted:
        return
    ids = sorted({listener_id for listener_id, _ in counted})
    exist: set[str] = set()
    stored: dict[Key, Row[Any]] = {}
    for some in _chunks(ids):
        exist.update(conn.execute(select(listener.c.id).where(listener.c.id.in_(some))).scalars())
        for row in conn.execute(select(table).where(table.c.listener_id.in_(some))):
            stored[row.listener_id, row.amphora_id] = row
    for some in _chunks(sorted({amphora_id for _, amphora_id in counted})):
        exist.update(conn.execute(select(amphora.c.id).where(amphora.c.id.in_(some))).scalars())
    kept = {key: count for key, count in sorted(counted.items()) if exist.issuperset(key)}
    new = [_new(key, count) for key, count in kept.items() if key not in stored]
    changed = [_folded(stored[key], count) for key, count in kept.items() if key in stored]
    if new:
        conn.execute(insert(table), new)
    if changed:
        conn.execute(_UPDATE, changed)


def _new(key: Key, count: Count) -> dict[str, Any]:
    said = {f"last_{n}": getattr(count.counters, n) for n in _NAMES} | {f"base_{n}": 0 for n in _NAMES}
    return {
        "listener_id": key[0], "amphora_id": key[1], "loadbalancer_id": count.lb_id, "epoch": count.epoch,
        "active_connections": count.counters.active_connections, **said,
    }  # fmt: skip


def _folded(row: Row[Any], count: Count) -> dict[str, Any]:
    """Values of ``_UPDATE``. A new epoch begins at zero; within one a smaller number is an older word."""
    values = {
        "key_listener": row.listener_id, "key_amphora": row.amphora_id, "new_epoch": count.epoch,
        "new_active": count.counters.active_connections,
    }  # fmt: skip
    for n in _NAMES:
        base, last, said = getattr(row, f"base_{n}"), getattr(row, f"last_{n}"), getattr(count.counters, n)
        same = row.epoch == count.epoch
        values |= {f"new_base_{n}": base if same else base + last, f"new_last_{n}": max(last, said) if same else said}
    return values


_UPDATE = (
    update(table)
    .where(and_(table.c.listener_id == bindparam("key_listener"), table.c.amphora_id == bindparam("key_amphora")))
    .values(
        epoch=bindparam("new_epoch"),
        active_connections=bindparam("new_active"),
        **{f"{kind}_{n}": bindparam(f"new_{kind}_{n}") for kind in ("base", "last") for n in _NAMES},
    )
)


def _chunks(ids: list[str]) -> Iterator[list[str]]:
    return (ids[i : i + _AT_ONCE] for i in range(0, len(ids), _AT_ONCE))

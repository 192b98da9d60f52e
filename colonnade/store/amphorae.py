"""Rows of amphorae: written before the deed, corrected after it."""

import dataclasses
import secrets
import uuid

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from colonnade.clock import utc
from colonnade.model import Amphora
from colonnade.store import rows
from colonnade.store.tables import COUNTERS, GONE, amphora, listener_statistics
from colonnade.types import Role

_CHANGE = update(amphora).where(amphora.c.id == bindparam("its_id"))


def add(
    conn: Connection, lb_id: str, role: Role, incarnation: int, now: float, *, compute_flavor: str | None = None,
    zone: str | None = None,
) -> Amphora:  # fmt: skip
    """The intent to have one more amphora, with the names and keys that the deed will use."""
    new = Amphora(
        id=str(uuid.uuid4()), loadbalancer_id=lb_id, role=role, incarnation=incarnation,
        heartbeat_key=secrets.token_hex(32), created_at=utc(now), compute_flavor=compute_flavor, cached_zone=zone,
    )  # fmt: skip
    conn.execute(insert(amphora), rows.to_row(new))
    return new


def change(conn: Connection, was: Amphora, now: Amphora, at: float) -> None:
    """Write what differs, and only that: others write other columns of the row."""
    names = (f.name for f in dataclasses.fields(now))
    news = {n: getattr(now, n) for n in names if getattr(was, n) != getattr(now, n)}
    if news:
        conn.execute(_CHANGE, {"its_id": now.id, **news, "updated_at": utc(at)})


def drop(conn: Connection, amphora_id: str) -> None:
    """Remove the row. What it counted is added to what amphorae that are gone counted of the same listener (one row,
    of no amphora), so that totals never run backwards."""
    c = listener_statistics.c
    for row in conn.execute(select(listener_statistics).where(c.amphora_id == amphora_id)).all():
        counted = {n: getattr(row, f"base_{n}") + getattr(row, f"last_{n}") for n in COUNTERS}
        gone = (c.listener_id == row.listener_id, c.amphora_id == GONE)
        more = {f"base_{n}": c[f"base_{n}"] + number for n, number in counted.items()}
        if conn.execute(update(listener_statistics).where(*gone).values(more)).rowcount == 0:
            keys = {"listener_id": row.listener_id, "amphora_id": GONE, "loadbalancer_id": row.loadbalancer_id}
            first = {f"base_{n}": number for n, number in counted.items()}
            conn.execute(insert(listener_statistics).values({**keys, "epoch": "", **first}))
    conn.execute(delete(listener_statistics).where(c.amphora_id == amphora_id))
    conn.execute(delete(amphora).where(amphora.c.id == amphora_id))

"""What happened to a load balancer, in sentences, for its owner."""

from typing import Literal

from sqlalchemy import Connection, bindparam, delete, func, insert, select

from colonnade.store.tables import event

Kind = Literal["asked", "did", "waits", "failed", "status"]

_AT_ONCE = 1000  # rows in one transaction
_NEWEST = (
    select(event.c.kind, event.c.sentence)
    .where(event.c.loadbalancer_id == bindparam("of"))
    .order_by(event.c.id.desc())
    .limit(1)
)


def add(
    conn: Connection, lb_id: str, project_id: str, now: float, kind: Kind, what: tuple[str, str], sentence: str,
    help: str = "",
) -> None:  # fmt: skip
    """Write one event. ``what`` is the object it is about: (type, id), for example ("member", id)."""
    row = {
        "loadbalancer_id": lb_id, "project_id": project_id, "at": now, "kind": kind, "object_type": what[0],
        "object_id": what[1], "sentence": sentence, "help": help,
    }  # fmt: skip
    conn.execute(insert(event), row)


def add_new(
    conn: Connection, lb_id: str, project_id: str, now: float, kind: Kind, what: tuple[str, str], sentence: str,
    help: str = "",
) -> bool:  # fmt: skip
    """Write one event unless the load balancer's newest says the same; whether it was written."""
    last = conn.execute(_NEWEST, {"of": lb_id}).first()
    if last is not None and (last.kind, last.sentence) == (kind, sentence):
        return False
    add(conn, lb_id, project_id, now, kind, what, sentence, help)
    return True


def forget(conn: Connection, lb_id: str) -> None:
    """The load balancer has never been."""
    conn.execute(delete(event).where(event.c.loadbalancer_id == lb_id))


def purge_old(conn: Connection, before: float) -> int:
    """Remove some of the events older than ``before``, the oldest first; how many. 0: none are left."""
    old = list(
        conn.execute(select(event.c.id).where(event.c.at < before).order_by(event.c.at).limit(_AT_ONCE)).scalars()
    )
    return conn.execute(delete(event).where(event.c.id.in_(old))).rowcount if old else 0


def crowded(conn: Connection, kept: int) -> list[str]:
    """Load balancers that have more than ``kept`` events."""
    number = func.count(event.c.id)
    query = select(event.c.loadbalancer_id).group_by(event.c.loadbalancer_id).having(number > kept)
    return list(conn.execute(query).scalars())


def keep_newest(conn: Connection, lb_id: str, kept: int) -> int:
    """Remove all but the load balancer's ``kept`` newest events; how many."""
    of_it = event.c.loadbalancer_id == lb_id
    newest_to_go = select(event.c.id).where(of_it).order_by(event.c.id.desc()).offset(kept).limit(1)
    last = conn.execute(newest_to_go).scalar()
    return 0 if last is None else conn.execute(delete(event).where(of_it, event.c.id <= last)).rowcount

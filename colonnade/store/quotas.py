"""How many objects a project may have, asked in the transaction of the write that makes more of them.

Objects are counted by looking at their rows: there is no counter that could drift from them. Writes of one project that
meet a limit take turns on the project's row, so that two processes cannot both take the last place.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, RowMapping, bindparam, exc, insert, literal, select, update

from colonnade import model
from colonnade.errors import Busy, Forbidden
from colonnade.store.store import deadlocked
from colonnade.store.tables import OF, quota
from colonnade.types import Json


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of objects that is limited: its class, its column, its name for people."""

    cls: type[Any]
    word: str
    title: str


KINDS = (  # in the order in which they are asked
    Kind(model.LoadBalancer, "loadbalancer", "Load Balancer"),
    Kind(model.Pool, "pool", "Pool"),
    Kind(model.Listener, "listener", "Listener"),
    Kind(model.HealthMonitor, "healthmonitor", "Health Monitor"),
    Kind(model.Member, "member", "Member"),
    Kind(model.L7Policy, "l7policy", "L7Policy"),
    Kind(model.L7Rule, "l7rule", "L7Rule"),
)

_SHOW = select(quota).where(quota.c.project_id == bindparam("id"))
_LOCK = _SHOW.with_for_update()


def claim(conn: Connection, project_id: str, growth: Mapping[type[Any], int], defaults: Mapping[str, int]) -> None:
    """Raise Forbidden if the project would have too many; ``growth`` says how many more of each class it gets.

    Objects count until their rows are gone, thus also on their way out. Call it before the new rows are written, and
    after the load balancer's work row is locked (work.touch): everybody locks in this order. Raises Busy when the
    project's turn does not come.
    """
    more = [(kind, growth[kind.cls]) for kind in KINDS if growth.get(kind.cls, 0) > 0]
    if not more:
        return
    own = _row(conn, project_id)
    if all(limit_of(own, kind.word, defaults) < 0 for kind, _ in more):
        return
    own = _row(conn, project_id, lock=True)
    for kind, number in more:
        limit = limit_of(own, kind.word, defaults)
        if limit >= 0 and _too_many(conn, kind, project_id, limit - number):
            raise Forbidden(f"Quota has been met for resources: {kind.title}")


def limit_of(own: Mapping[str, Any], word: str, defaults: Mapping[str, int]) -> int:
    """The limit that holds: the project's own, else the default; -1: none."""
    value = own[word]
    return defaults[word] if value is None else int(value)


def stored(conn: Connection, project_id: str) -> Json | None:
    """The project's row."""
    found = conn.execute(_SHOW, {"id": project_id}).mappings().first()
    return None if found is None else _plain(found)


def change(conn: Connection, project_id: str, values: Mapping[str, int | None]) -> Json:
    """Set some limits; None: back to the default. The project gets a row if it has none. Returns the row."""
    _row(conn, project_id, lock=True)
    if values:
        conn.execute(update(quota).where(quota.c.project_id == project_id).values(dict(values)))
    return _plain(conn.execute(_SHOW, {"id": project_id}).mappings().one())


def _row(conn: Connection, project_id: str, *, lock: bool = False) -> Json:
    """The project's row, made at its first write; with ``lock`` nobody else gets it so until the transaction ends."""
    try:
        found = conn.execute(_LOCK if lock else _SHOW, {"id": project_id}).mappings().first()
        if found is None:
            try:
                with conn.begin_nested():
                    conn.execute(insert(quota).values(project_id=project_id))
            except exc.IntegrityError:  # another transaction was first
                pass
            found = conn.execute(_LOCK if lock else _SHOW, {"id": project_id}).mappings().one()
    except exc.OperationalError as e:  # the lock was held for too long
        if e.connection_invalidated or deadlocked(e):
            raise
        raise Busy("Project busy.  Unable to lock the project.  Please try again.") from e
    return _plain(found)


def _plain(row: RowMapping) -> Json:
    return {str(k): v for k, v in row.items()}  # SQLAlchemy's names are a subclass of str, which orjson refuses


def _too_many(conn: Connection, kind: Kind, project_id: str, room: int) -> bool:
    """Whether the project has more than ``room`` of them. Looks at no more index entries than the limit has places."""
    if room < 0:
        return True
    c = OF[kind.cls].c
    beyond = select(literal(1)).where(c.project_id == project_id).limit(1).offset(room)
    return conn.execute(beyond).first() is not None

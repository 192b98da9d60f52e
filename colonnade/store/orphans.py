"""Rows that belong to nothing, and load balancers that nothing looks after: what a sweep looks for.

Each question is one query; each removal says its condition again, so that it is right whatever happened in between.
"""

from collections.abc import Iterable

from sqlalchemy import ColumnElement, Connection, and_, delete, or_, select

from colonnade.model import Amphora
from colonnade.store import rows
from colonnade.store.tables import FOREIGN, OF, amphora, listener, listener_statistics, load_balancer, tag, work
from colonnade.types import AmphoraStatus, ProvisioningStatus

FABRIC = "fabric"


def amphora_ids(conn: Connection) -> set[str]:
    """Ids of all amphorae that have a row."""
    return set(conn.execute(select(amphora.c.id)).scalars())


def load_balancer_ids(conn: Connection) -> set[str]:
    """Ids of all load balancers."""
    return set(conn.execute(select(load_balancer.c.id)).scalars())


def lost_amphorae(conn: Connection) -> dict[str, Amphora]:
    """Amphorae whose load balancer is gone, and spare ones that were deleted."""
    c = amphora.c
    spare = and_(c.loadbalancer_id.is_(None), c.status == AmphoraStatus.PENDING_DELETE)
    query = select(amphora).where(
        or_(and_(c.loadbalancer_id.is_not(None), _no_balancer(c.loadbalancer_id)), spare)
    )  # fmt: skip
    return {row["id"]: rows.from_row(Amphora, row) for row in conn.execute(query).mappings()}


def tagged(conn: Connection) -> list[str]:
    """Ids that have tags and name no object."""
    return list(conn.execute(select(tag.c.object_id).where(*_no_object()).distinct()).scalars())


def counted(conn: Connection) -> list[str]:
    """Ids of listeners that have statistics and do not exist."""
    query = select(listener_statistics.c.listener_id).where(_no_listener()).distinct()
    return list(conn.execute(query).scalars())


def pointless(conn: Connection) -> list[str]:
    """Subjects of the ledger that name no load balancer."""
    return list(conn.execute(select(work.c.subject).where(*_pointless())).scalars())


def idle(conn: Connection) -> list[str]:
    """Load balancers that are not well, with nothing due. Of third parties' ones the loop knows nothing."""
    c = load_balancer.c
    unwell = c.provisioning_status != ProvisioningStatus.ACTIVE
    query = select(work.c.subject).join(load_balancer, c.id == work.c.subject)
    return list(conn.execute(query.where(work.c.due_at.is_(None), unwell, ~FOREIGN)).scalars())


def unledgered(conn: Connection) -> list[str]:
    """Load balancers that the ledger does not know."""
    known = select(work.c.subject).where(work.c.subject == load_balancer.c.id).exists()
    return list(conn.execute(select(load_balancer.c.id).where(~known)).scalars())


def drop_tags(conn: Connection, ids: Iterable[str]) -> int:
    """Remove the tags of these ids, if they still name no object."""
    return conn.execute(delete(tag).where(tag.c.object_id.in_(list(ids)), *_no_object())).rowcount


def drop_statistics(conn: Connection, ids: Iterable[str]) -> int:
    """Remove the statistics of these listeners, if they still do not exist."""
    of_them = listener_statistics.c.listener_id.in_(list(ids))
    return conn.execute(delete(listener_statistics).where(of_them, _no_listener())).rowcount


def drop_work(conn: Connection, subjects: Iterable[str]) -> int:
    """Remove these subjects, if they still name no load balancer."""
    return conn.execute(delete(work).where(work.c.subject.in_(list(subjects)), *_pointless())).rowcount


def _no_balancer(id: ColumnElement[str]) -> ColumnElement[bool]:
    return ~select(load_balancer.c.id).where(load_balancer.c.id == id).exists()


def _no_listener() -> ColumnElement[bool]:
    return ~select(listener.c.id).where(listener.c.id == listener_statistics.c.listener_id).exists()


def _no_object() -> list[ColumnElement[bool]]:
    return [~select(t.c.id).where(t.c.id == tag.c.object_id).exists() for t in OF.values() if "tags" in t.c]


def _pointless() -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return work.c.subject != FABRIC, _no_balancer(work.c.subject)

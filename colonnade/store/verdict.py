"""What a turn of the loop writes on a load balancer's rows when it ends: done, failed, or gone for good."""

from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import Connection, Table, and_, bindparam, delete, update

from colonnade.clock import utc
from colonnade.model import PARTS, HealthMonitor, L7Policy, L7Rule, Resource, Tree
from colonnade.store import work
from colonnade.store.tables import (
    OF,
    certificate,
    listener,
    listener_statistics,
    load_balancer,
    member,
    tag,
)
from colonnade.types import OperatingStatus, ProvisioningStatus

_Status = ProvisioningStatus
_UNDER_WAY = (_Status.PENDING_CREATE, _Status.PENDING_UPDATE)
_UNWATCHED: tuple[type[Resource], ...] = (HealthMonitor, L7Policy, L7Rule)  # their status is their admin state
_AT_ONCE = 500  # ids in one statement


def done(
    conn: Connection, lease: work.Lease, tree: Tree, now: float, problems: Mapping[str, str] | None = None
) -> bool:  # fmt: skip
    """The world is as ``tree`` wants: its objects are ACTIVE, those that were to go are gone. ``problems`` are of
    objects that cannot be served, or not as wanted: those are in ERROR, each with its reason.

    False, and nothing is changed, when a write came after ``tree`` was read. Raises work.Lost.
    """
    if not work.settle(conn, lease, tree.generation):
        return False
    balancer = tree.load_balancer
    if balancer.provisioning_status != _Status.ACTIVE or lease.failing_since is not None:
        fresh = {"provisioning_status": _Status.ACTIVE, "updated_at": utc(now)}
        told = balancer.provisioning_status == _Status.ERROR or lease.failing_since is not None
        _set(conn, load_balancer, [balancer.id], {**fresh, **({"reason": None} if told else {})})
    doomed = _doomed(tree)
    for cls in PARTS:
        kept = [c for c in tree.every(cls) if c.id not in doomed]
        _activate(conn, cls, [c for c in kept if c.id not in (problems or {})], now)
        _accuse(conn, cls, [c for c in kept if c.id in (problems or {})], problems or {}, now)
    _let_go(conn, tree, doomed)
    for cls in _UNWATCHED:
        for child in tree.every(cls):
            shown = OperatingStatus.ONLINE if child.admin_state_up else OperatingStatus.OFFLINE
            if child.id not in doomed and child.operating_status != shown:
                _set(conn, OF[cls], [child.id], {"operating_status": shown})
    return True


def failed(conn: Connection, tree: Tree, sentence: str, now: float, *, given_up: bool) -> None:
    """The load balancer shows why it is not done. With ``given_up`` it and what is PENDING in it turn ERROR.

    What is to be deleted keeps that wish. Not compare-and-set: for after a write to the ledger in the same transaction.
    """
    values = {"provisioning_status": _Status.ERROR, "updated_at": utc(now)} if given_up else {}
    _set(conn, load_balancer, [tree.load_balancer.id], {"reason": sentence, **values})
    for cls in PARTS if given_up else ():
        table = OF[cls]
        pending = and_(
            table.c.loadbalancer_id == tree.load_balancer.id, table.c.provisioning_status.in_(_UNDER_WAY)
        )  # fmt: skip
        conn.execute(update(table).where(pending).values({"reason": sentence, **values}))


def gone(conn: Connection, lease: work.Lease, tree: Tree) -> None:
    """Nothing of the load balancer is left in the world: remove its rows. Its events stay until they are old.

    Raises work.Lost.
    """
    work.forget(conn, lease)
    erase(conn, tree)


def erase(conn: Connection, tree: Tree) -> None:
    """Remove all rows of the load balancer but those of its amphorae and its events."""
    lb_id = tree.load_balancer.id
    _delete_tags(conn, [v.id for v in tree.objects])
    there = [OF[cls] for cls in PARTS if tree.every(cls)]  # none can come any more
    for table in (*there, listener_statistics, certificate):
        conn.execute(delete(table).where(table.c.loadbalancer_id == lb_id))
    conn.execute(delete(load_balancer).where(load_balancer.c.id == lb_id))


def remove(conn: Connection, tree: Tree, id: str) -> None:
    """Remove the rows of one object below the load balancer, and of what lives only in it."""
    _let_go(conn, tree, _with_all_below(tree, {id}))


def drop(conn: Connection, values: Sequence[Resource]) -> None:
    """Remove the rows of these objects, and no others."""
    for cls in PARTS:
        for some in _batches([v.id for v in values if type(v) is cls]):
            conn.execute(delete(OF[cls]).where(OF[cls].c.id.in_(some)))
    _delete_tags(conn, [v.id for v in values])


def _doomed(tree: Tree) -> frozenset[str]:
    """Ids of what this settling removes: what was deleted, and what lives only in what was."""
    return _with_all_below(tree, {v.id for cls in PARTS for v in tree.every(cls) if v.going})


def _with_all_below(tree: Tree, ids: set[str]) -> frozenset[str]:
    members = (m.id for m in tree.members if m.pool_id in ids)
    monitors = (m.id for m in tree.health_monitors if m.pool_id in ids)
    policies = {p.id for p in tree.l7policies if p.listener_id in ids or p.id in ids}
    rules = (r.id for r in tree.l7rules if r.l7policy_id in policies)
    return frozenset((*ids, *members, *monitors, *policies, *rules))


def _activate(conn: Connection, cls: type[Resource], kept: Sequence[Resource], now: float) -> None:
    under_way = [c.id for c in kept if c.provisioning_status in _UNDER_WAY]
    healed = [c.id for c in kept if c.provisioning_status == _Status.ERROR]
    fresh = {"provisioning_status": _Status.ACTIVE, "updated_at": utc(now)}
    _set(conn, OF[cls], under_way, fresh)
    _set(conn, OF[cls], healed, {**fresh, "reason": None})


def _accuse(
    conn: Connection, cls: type[Resource], unwell: Sequence[Resource], problems: Mapping[str, str], now: float
) -> None:  # fmt: skip
    for one in unwell:
        if (one.provisioning_status, one.reason) != (_Status.ERROR, problems[one.id]):
            told = {"provisioning_status": _Status.ERROR, "reason": problems[one.id], "updated_at": utc(now)}
            _set(conn, OF[cls], [one.id], told)


def _let_go(conn: Connection, tree: Tree, doomed: frozenset[str]) -> None:
    if not doomed:
        return
    for cls in PARTS:
        ids = [c.id for c in tree.every(cls) if c.id in doomed]
        for some in _batches(ids):
            conn.execute(delete(OF[cls]).where(OF[cls].c.id.in_(some)))
    _delete_tags(conn, doomed)
    for some in _batches([x.id for x in tree.listeners if x.id in doomed]):
        conn.execute(delete(listener_statistics).where(listener_statistics.c.listener_id.in_(some)))
    _set(conn, listener, [x.id for x in tree.listeners if x.default_pool_id in doomed], {"default_pool_id": None})
    unwatched = {m.pool_id for m in tree.health_monitors if m.id in doomed}
    bare = [m.id for m in tree.members if m.pool_id in unwatched and m.id not in doomed]
    _set(conn, member, bare, {"operating_status": OperatingStatus.NO_MONITOR, "reason": None})


def _set(conn: Connection, table: Table, ids: Sequence[str], values: dict[str, object]) -> None:
    if ids:
        statement = update(table).where(table.c.id.in_(bindparam("ids", expanding=True)))
        for some in _batches(ids):
            conn.execute(statement, {"ids": some, **values})


def _delete_tags(conn: Connection, ids: Iterable[str]) -> None:
    for some in _batches(sorted(ids)):
        conn.execute(delete(tag).where(tag.c.object_id.in_(some)))


def _batches(ids: Sequence[str]) -> Iterable[Sequence[str]]:
    return (ids[i : i + _AT_ONCE] for i in range(0, len(ids), _AT_ONCE))

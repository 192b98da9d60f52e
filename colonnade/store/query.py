"""What the API reads: pages of rows, single rows, the links between them, statistics and events. A few queries
for any number of objects; statements are built once where their text does not depend on the request."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    BindParameter,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    DateTime,
    Float,
    Integer,
    Row,
    String,
    Table,
    and_,
    asc,
    bindparam,
    case,
    cast,
    desc,
    exists,
    false,
    func,
    literal,
    not_,
    null,
    or_,
    select,
    type_coerce,
    union_all,
)  # fmt: skip

from colonnade.store import tables
from colonnade.types import AmphoraStatus

_IDS_AT_ONCE = 5000  # SQLite takes 32766 parameters in one statement, PostgreSQL 65535
_COUNTERS = ("bytes_in", "bytes_out", "total_connections", "request_errors")
_TRUE = frozenset({"true", "1", "yes", "on", "t", "y"})
_FALSE = frozenset({"false", "0", "no", "off", "f", "n"})


class UnknownMarker(Exception):
    """The marker names no object of this list."""


class UnusableFilter(Exception):
    """The column cannot be compared with this text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """Which part of a list is wanted. ``limit`` None: all of it."""

    sort: tuple[tuple[str, bool], ...]  # column, descending
    limit: int | None
    marker: str | None = None
    backward: bool = False  # the page that ends just before the marker
    key: str = "id"  # the column that a marker names


def page(
    conn: Connection, table: Table, columns: Sequence[ColumnElement[Any]], where: Sequence[ColumnElement[bool]],
    wanted: Page,
) -> Sequence[Row[Any]]:  # fmt: skip
    """One page of the rows that ``where`` chooses, in the wanted order. Raises UnknownMarker."""
    keys = [k for name, down in wanted.sort for k in _keys(table.c[name], down)]
    query = select(*columns).where(*where)
    backward = wanted.backward and wanted.marker is not None
    if wanted.marker is not None:
        sorted_by = (table.c[name] for name, _ in wanted.sort)
        marker = conn.execute(select(*sorted_by).where(table.c[wanted.key] == wanted.marker, *where)).first()
        if marker is None:
            raise UnknownMarker(wanted.marker)
        query = query.where(_after(keys, marker._asdict(), backward))
    query = query.order_by(*(desc(key.by) if key.down != backward else asc(key.by) for key in keys))
    rows = conn.execute(query if wanted.limit is None else query.limit(wanted.limit)).all()
    return rows[::-1] if backward else rows


@dataclass(frozen=True, slots=True)
class _Key:
    by: ColumnElement[Any]
    column: Column[Any]
    down: bool
    is_null_flag: bool


def _keys(column: Column[Any], down: bool) -> Iterator[_Key]:
    # Databases disagree on where NULL sorts; a flag before the column makes it first, everywhere.
    if column.nullable:
        yield _Key(case((column.is_(None), 0), else_=1), column, down, True)
    yield _Key(column, column, down, False)


def _after(keys: Sequence[_Key], marker: Mapping[str, Any], backward: bool) -> ColumnElement[bool]:
    """Rows strictly behind the marker: greater in the first key in which they differ."""
    ways: list[ColumnElement[bool]] = []
    equal: list[ColumnElement[bool]] = []
    for key in keys:
        value = marker[key.column.name]
        at: Any = (0 if value is None else 1) if key.is_null_flag else value
        if at is not None:
            ways.append(and_(*equal, key.by < at if key.down != backward else key.by > at))
        equal.append(key.by.is_(None) if at is None else key.by == at)
    return or_(false(), *ways)


def equals(table: Table, name: str, text: str) -> ColumnElement[bool]:
    """The condition "column is this text", read as the column's type. Raises UnusableFilter."""
    column = table.c[name]
    kind = column.type
    if isinstance(kind, JSON):
        raise UnusableFilter(name)
    if isinstance(kind, Boolean):
        if text.lower() not in _TRUE | _FALSE:
            raise UnusableFilter(name)
        return column.is_(text.lower() in _TRUE)
    try:
        if isinstance(kind, Integer | BigInteger):
            number = int(text)
            return column == number if abs(number) < 2**31 else false()
        if isinstance(kind, Float):
            fraction = float(text)
            return column == fraction if math.isfinite(fraction) else false()  # MySQL has neither inf nor nan
        if isinstance(kind, DateTime):
            moment = datetime.fromisoformat(text)
            return column == (moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment)
    except (ValueError, OverflowError) as e:
        raise UnusableFilter(name) from e
    return column == text


def sortable(table: Table, name: str) -> bool:
    """Whether rows can be sorted by the column."""
    return name in table.c and not isinstance(table.c[name].type, JSON)


def tagged(table: Table, tags: Sequence[str], *, every: bool) -> ColumnElement[bool]:
    """Has all these tags, or has any of them."""
    tag = tables.tag.c
    if not every:
        return exists().where(tag.object_id == table.c.id, tag.value.in_(tags))
    return and_(*(exists().where(tag.object_id == table.c.id, tag.value == value) for value in tags))


def untagged(table: Table, tags: Sequence[str], *, every: bool) -> ColumnElement[bool]:
    """Not ``tagged``."""
    return not_(tagged(table, tags, every=every))


def pool_of_listener(listener_id: str) -> ColumnElement[bool]:
    """Pools that this listener uses, by default or by an enabled policy with a rule."""
    c, p = tables.listener.c, tables.l7policy.c
    by_default = select(c.default_pool_id).where(c.id == listener_id)
    by_policy = select(p.redirect_pool_id).where(p.listener_id == listener_id, _SENDS)
    return or_(tables.pool.c.id.in_(by_default), tables.pool.c.id.in_(by_policy))


def pool_of_monitor(monitor_id: str) -> ColumnElement[bool]:
    """The pool that this health monitor checks."""
    c = tables.health_monitor.c
    return tables.pool.c.id.in_(select(c.pool_id).where(c.id == monitor_id))


def amphora_of_project(project_id: str) -> ColumnElement[bool]:
    """Amphorae of the project's load balancers."""
    c = tables.load_balancer.c
    return tables.amphora.c.loadbalancer_id.in_(select(c.id).where(c.project_id == project_id))


_ids: BindParameter[Any] = bindparam("ids", expanding=True)
_l, _p, _m, _h = tables.listener.c, tables.pool.c, tables.member.c, tables.health_monitor.c
_policy, _rule = tables.l7policy.c, tables.l7rule.c
_SENDS = and_(
    _policy.admin_state_up.is_(True), exists().where(_rule.l7policy_id == _policy.id)
)  # such a policy uses its pool


def _age(columns: Any) -> ColumnElement[Any]:  # noqa: ANN401 - a table's columns
    return type_coerce(columns.created_at, Integer).label("age")  # only sorted by: not parsed as a time


_LOAD_BALANCER_LINKS = union_all(
    select(literal("listeners").label("what"), _l.loadbalancer_id.label("of"), _l.id, _age(_l)).where(
        _l.loadbalancer_id.in_(_ids)
    ),
    select(literal("pools"), _p.loadbalancer_id, _p.id, _age(_p)).where(_p.loadbalancer_id.in_(_ids)),
)

_POOL_LINKS = union_all(
    select(literal("listeners").label("what"), _l.default_pool_id.label("of"), _l.id, _age(_l)).where(
        _l.default_pool_id.in_(_ids)
    ),
    select(literal("listeners"), _policy.redirect_pool_id, _l.id, _age(_l))
    .join_from(tables.l7policy, tables.listener, _l.id == _policy.listener_id)
    .where(
        _policy.redirect_pool_id.in_(_ids),
        _SENDS,
        or_(_l.default_pool_id.is_(None), _l.default_pool_id != _policy.redirect_pool_id),
    )
    .distinct(),
    select(literal("members"), _m.pool_id, _m.id, _age(_m)).where(_m.pool_id.in_(_ids)),
    # A monitor on its way out comes first, so that its successor is the one that stays.
    select(literal("healthmonitor"), _h.pool_id, _h.id, _age(_h)).where(_h.pool_id.in_(_ids)),
)

_LISTENER_LINKS = (
    select(literal("l7policies").label("what"), _policy.listener_id.label("of"), _policy.id, _policy.position)
    .where(_policy.listener_id.in_(_ids))
    .order_by(_policy.position, _age(_policy), _policy.id)
)
_L7POLICY_LINKS = (
    select(literal("rules").label("what"), _rule.l7policy_id.label("of"), _rule.id, _age(_rule))
    .where(_rule.l7policy_id.in_(_ids))
    .order_by("age", _rule.id)
)

Links = dict[tuple[str, str], list[dict[str, str]]]  # (what, of whom) -> [{"id": ...}, ...]


def load_balancer_links(conn: Connection, ids: Iterable[str]) -> Links:
    """The listeners and pools of these load balancers."""
    return _links(conn, _LOAD_BALANCER_LINKS, ids, sort=True)


def pool_links(conn: Connection, ids: Iterable[str]) -> Links:
    """The listeners, members and health monitor of these pools."""
    return _links(conn, _POOL_LINKS, ids, sort=True)


def listener_links(conn: Connection, ids: Iterable[str]) -> Links:
    """The L7 policies of these listeners, by position."""
    return _links(conn, _LISTENER_LINKS, ids)


def l7policy_links(conn: Connection, ids: Iterable[str]) -> Links:
    """The rules of these policies."""
    return _links(conn, _L7POLICY_LINKS, ids)


def _status_rows(what: str, table: Table, where: ColumnElement[bool], **more: ColumnElement[Any]) -> Any:  # noqa: ANN401
    c = table.c
    nothing: dict[str, Any] = {
        "parent": _NO_TEXT,
        "aim": _NO_TEXT,
        "type": _NO_TEXT,
        "address": _NO_TEXT,
        "protocol_port": _NO_NUMBER,
    }
    said = (c.id, c.name, c.operating_status, c.provisioning_status, c.reason)
    return select(
        literal(what).label("what"), *said, *(v.label(k) for k, v in {**nothing, **more}.items()), _age(c)
    ).where(where)  # fmt: skip


_NO_TEXT, _NO_NUMBER = cast(null(), String(255)), cast(null(), Integer)
_LB: BindParameter[Any] = bindparam("id")
_b = tables.load_balancer.c
_STATUSES = union_all(
    _status_rows("loadbalancer", tables.load_balancer, _b.id == _LB, parent=_b.project_id),
    _status_rows("listener", tables.listener, _l.loadbalancer_id == _LB, aim=_l.default_pool_id),
    _status_rows("pool", tables.pool, _p.loadbalancer_id == _LB),
    _status_rows("monitor", tables.health_monitor, _h.loadbalancer_id == _LB, parent=_h.pool_id, type=_h.type),
    _status_rows("member", tables.member, _m.loadbalancer_id == _LB, parent=_m.pool_id, address=_m.address,
                 protocol_port=_m.protocol_port),
    _status_rows("policy", tables.l7policy, and_(_policy.loadbalancer_id == _LB, _SENDS), parent=_policy.listener_id,
                 aim=_policy.redirect_pool_id),
)  # fmt: skip


def statuses(conn: Connection, lb_id: str) -> dict[str, list[Row[Any]]]:
    """What the status tree shows, by kind, oldest first; "parent" of the load balancer is its project, "aim" of
    listeners and policies the pool they send to. Of policies, those that send. Empty: there is no such load balancer.
    """
    found: dict[str, list[Row[Any]]] = {}
    for row in sorted(conn.execute(_STATUSES, {"id": lb_id}), key=lambda r: (r.age, r.id)):  # as in _links
        found.setdefault(row.what, []).append(row)
    return found if "loadbalancer" in found else {}


def _links(
    conn: Connection, statement: Any, ids: Iterable[str], *, sort: bool = False  # noqa: ANN401 - a CompoundSelect
) -> Links:  # fmt: skip
    """With ``sort`` by age and id, here: MariaDB would make a temporary table of a union to sort it."""
    found: Links = {}
    wanted = list(ids)
    for start in range(0, len(wanted), _IDS_AT_ONCE):
        rows: Iterable[Any] = conn.execute(statement, {"ids": wanted[start : start + _IDS_AT_ONCE]})
        for what, of, its_id, _ in sorted(rows, key=lambda r: (r[3], r[2])) if sort else rows:
            found.setdefault((what, of), []).append({"id": its_id})
    return found


_BY_ID = {t: select(t.c.loadbalancer_id, t.c.project_id).where(t.c.id == bindparam("id"))
          for t in (tables.listener, tables.pool, tables.member, tables.health_monitor, tables.l7policy)}  # fmt: skip
_BY_ID[tables.load_balancer] = select(tables.load_balancer.c.id, tables.load_balancer.c.project_id).where(
    tables.load_balancer.c.id == bindparam("id")
)


def owner(conn: Connection, table: Table, object_id: str) -> tuple[str, str] | None:
    """Whose an object is: (load balancer id, project id). Neither ever changes."""
    row = conn.execute(_BY_ID[table], {"id": object_id}).first()
    return None if row is None else (row[0], row[1])


def port_user(conn: Connection, port_id: str) -> str | None:
    """The load balancer whose VIP is on this port."""
    c = tables.load_balancer.c
    return conn.execute(select(c.id).where(c.vip_port_id == port_id)).scalars().first()


_s = tables.listener_statistics.c
_SERVING = or_(
    exists().where(tables.amphora.c.id == _s.amphora_id, tables.amphora.c.status == AmphoraStatus.ALLOCATED),
    _s.amphora_id == _s.listener_id,  # what a third party's provider says of its own listener
)
_SUMS = (
    *(func.coalesce(func.sum(_s[f"base_{name}"] + _s[f"last_{name}"]), 0).label(name) for name in _COUNTERS),
    func.coalesce(func.sum(case((_SERVING, _s.active_connections), else_=0)), 0).label("active_connections"),
)
_BY_LISTENER = select(*_SUMS).where(_s.listener_id == bindparam("id"))
_BY_LOAD_BALANCER = select(*_SUMS).where(_s.loadbalancer_id == bindparam("id"))
_BY_AMPHORA = (
    select(_s.listener_id, _s.loadbalancer_id, *_SUMS)
    .where(_s.amphora_id == bindparam("id"))
    .group_by(_s.listener_id, _s.loadbalancer_id)
    .order_by(_s.listener_id)
)


def listener_statistics(conn: Connection, listener_id: str) -> dict[str, int]:
    """Sums over all amphorae that ever served it; active connections only of those that serve now."""
    return {k: int(v) for k, v in conn.execute(_BY_LISTENER, {"id": listener_id}).mappings().one().items()}


def load_balancer_statistics(conn: Connection, lb_id: str) -> dict[str, int]:
    """Sums over its listeners."""
    return {k: int(v) for k, v in conn.execute(_BY_LOAD_BALANCER, {"id": lb_id}).mappings().one().items()}


def amphora_statistics(conn: Connection, amphora_id: str) -> list[dict[str, Any]]:
    """One row for each listener that the amphora served."""
    names = ("listener_id", "loadbalancer_id", *_COUNTERS, "active_connections")
    rows = conn.execute(_BY_AMPHORA, {"id": amphora_id})
    return [{k: v if k.endswith("_id") else int(v) for k, v in zip(names, row, strict=True)} for row in rows]


def load_balancer_events(conn: Connection, lb_id: str, limit: int | None, before: int | None) -> Sequence[Any]:
    """Newest first, those with an id below ``before``."""
    c = tables.event.c
    query = select(c.id, c.at, c.kind, c.object_type, c.object_id, c.sentence, c.help).where(c.loadbalancer_id == lb_id)
    if before is not None:
        query = query.where(c.id < before)
    return conn.execute(query.order_by(c.id.desc()).limit(limit)).all()

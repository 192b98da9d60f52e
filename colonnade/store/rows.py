"""Between rows and the model's values, and reading one load balancer's whole tree."""

import dataclasses
import functools
import typing
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, TypeVar

from sqlalchemy import BindParameter, Connection, RowMapping, bindparam, select

from colonnade import model
from colonnade.store import tables

R = TypeVar("R")


def to_row(value: Any) -> dict[str, Any]:  # noqa: ANN401 - any dataclass of the model
    """A model value as column values."""
    return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}


def _plain(value: Any) -> Any:  # noqa: ANN401
    if dataclasses.is_dataclass(value):
        return dataclasses.asdict(typing.cast(Any, value))
    return [_plain(v) for v in value] if isinstance(value, tuple) else value


def from_row(cls: type[R], row: Mapping[str, Any] | RowMapping) -> R:
    """The model value of a row."""
    values = {name: convert(row[name]) for name, convert in _converters(typing.cast(Any, cls))}
    return cls(**values)


@functools.cache
def _converters(cls: type[Any]) -> list[tuple[str, Callable[[Any], Any]]]:
    hints = typing.get_type_hints(cls, include_extras=True)
    return [(f.name, _converter(hints[f.name])) for f in dataclasses.fields(cls)]


def _converter(hint: Any) -> Callable[[Any], Any]:  # noqa: ANN401
    kind = tables._bare(hint)[0]
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return lambda v: None if v is None else kind(v)
    if dataclasses.is_dataclass(kind):
        return lambda v: None if v is None else from_row(typing.cast(Any, kind), v)
    if typing.get_origin(kind) is tuple:
        inner = _converter(typing.get_args(kind)[0])
        return lambda v: None if v is None else tuple(inner(i) for i in v)
    return lambda v: v


def tree(conn: Connection, lb_id: str) -> model.Tree | None:
    """The load balancer with all that belongs to it, oldest first; None when there is none."""
    return trees(conn, [lb_id]).get(lb_id)


# What a class's objects hang on: without any of those there is nothing to ask for.
_BELOW: dict[type[Any], type[Any]] = {
    model.Member: model.Pool, model.HealthMonitor: model.Pool, model.L7Policy: model.Listener,
    model.L7Rule: model.L7Policy,
}  # fmt: skip
_PARTS: dict[type[Any], str] = {**model.PARTS, model.Amphora: "amphorae"}
_IDS: BindParameter[Any] = bindparam("ids", expanding=True)
_OF_BALANCERS = {
    cls: select(t).where(t.c.loadbalancer_id.in_(_IDS)).order_by(t.c.created_at, t.c.id)
    for cls, t in ((c, tables.OF[c]) for c in _PARTS)
}
_BALANCERS = (
    select(tables.load_balancer, tables.work.c.generation, tables.work.c.delete_wanted)
    .outerjoin(tables.work, tables.work.c.subject == tables.load_balancer.c.id)
    .where(tables.load_balancer.c.id.in_(_IDS))
)


def trees(conn: Connection, lb_ids: list[str]) -> dict[str, model.Tree]:
    """Several trees by load balancer id, in a query for each kind of objects that there may be; those that do not
    exist are left out. ``conn`` is one view, or holds the load balancers' rows of the ledger."""
    ids = {"ids": lb_ids}
    balancers = conn.execute(_BALANCERS, ids).mappings().all()
    parts: dict[type[Any], dict[str, list[Any]]] = {}
    for cls, statement in _OF_BALANCERS.items():
        by_lb = parts[cls] = {}
        if not balancers or (cls in _BELOW and not parts[_BELOW[cls]]):
            continue
        for row in conn.execute(statement, ids).mappings():
            by_lb.setdefault(row["loadbalancer_id"], []).append(from_row(cls, row))
    return {
        row["id"]: model.Tree(
            load_balancer=from_row(model.LoadBalancer, row),
            **{name: tuple(parts[cls].get(row["id"], ())) for cls, name in _PARTS.items()},
            generation=row["generation"] or 0,
            delete_wanted=bool(row["delete_wanted"]),
        )
        for row in balancers
    }

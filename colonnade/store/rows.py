"""Between rows and the model's values, and reading one load balancer's whole tree."""

import dataclasses
import functools
import typing
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, TypeVar

from sqlalchemy import Connection, RowMapping, select

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


def trees(conn: Connection, lb_ids: list[str]) -> dict[str, model.Tree]:
    """Several trees in eight queries, by load balancer id; those that do not exist are left out. L7 rules are asked
    for, by one more, only where there are policies."""
    found: dict[str, model.Tree] = {}
    work = tables.work.c
    states = {
        r.subject: r
        for r in conn.execute(select(work.subject, work.generation, work.delete_wanted).where(work.subject.in_(lb_ids)))
    }
    parts: dict[type[Any], dict[str, list[Any]]] = {}
    for cls in (
        model.Listener, model.Pool, model.Member, model.HealthMonitor, model.Amphora, model.L7Policy, model.L7Rule
    ):  # fmt: skip
        if cls is model.L7Rule and not parts[model.L7Policy]:
            parts[cls] = {}
            continue
        table = tables.OF[cls]
        by_lb: dict[str, list[Any]] = {}
        query = select(table).where(table.c.loadbalancer_id.in_(lb_ids)).order_by(table.c.created_at, table.c.id)
        for row in conn.execute(query).mappings():
            by_lb.setdefault(row["loadbalancer_id"], []).append(from_row(cls, row))
        parts[cls] = by_lb
    table = tables.load_balancer
    for row in conn.execute(select(table).where(table.c.id.in_(lb_ids))).mappings():
        lb_id = row["id"]
        state = states.get(lb_id)
        found[lb_id] = model.Tree(
            load_balancer=from_row(model.LoadBalancer, row),
            listeners=tuple(parts[model.Listener].get(lb_id, ())),
            pools=tuple(parts[model.Pool].get(lb_id, ())),
            members=tuple(parts[model.Member].get(lb_id, ())),
            health_monitors=tuple(parts[model.HealthMonitor].get(lb_id, ())),
            l7policies=tuple(parts[model.L7Policy].get(lb_id, ())),
            l7rules=tuple(parts[model.L7Rule].get(lb_id, ())),
            amphorae=tuple(parts[model.Amphora].get(lb_id, ())),
            generation=state.generation if state else 0,
            delete_wanted=bool(state and state.delete_wanted),
        )
    return found

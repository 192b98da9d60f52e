"""Replies: the documents of resources, made from rows (GET) or from a tree just written (POST, PUT)."""

import dataclasses
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row

from colonnade.api import trees
from colonnade.model import (
    Amphora,
    AvailabilityZone,
    AvailabilityZoneProfile,
    Flavor,
    FlavorProfile,
    HealthMonitor,
    L7Policy,
    L7Rule,
    Listener,
    LoadBalancer,
    Member,
    Pool,
    Quota,
    Resource,
    Tree,
)
from colonnade.store import query, rows, tables
from colonnade.store.query import Links
from colonnade.types import Json, Mark

# Hidden or plain columns that a reply shows as links to parents, or not at all.
_PARENTS: dict[type[Any], tuple[str, ...]] = {
    Listener: ("loadbalancer_id",), Pool: ("loadbalancer_id",), HealthMonitor: ("pool_id",),
}  # fmt: skip

Linker = Callable[[Connection, Iterable[str]], Links]
_LINKERS: dict[type[Any], Linker] = {
    LoadBalancer: query.load_balancer_links, Listener: query.listener_links, Pool: query.pool_links,
    L7Policy: query.l7policy_links,
}  # fmt: skip


def _shown(cls: type[Any]) -> tuple[str, ...]:
    hints = typing.get_type_hints(cls, include_extras=True)
    marks = {f.name: getattr(hints[f.name], "__metadata__", ()) for f in dataclasses.fields(cls)}
    return tuple(n for n, m in marks.items() if Mark.HIDDEN not in m and n not in _PARENTS.get(cls, ()))


_OFFERS = (FlavorProfile, Flavor, AvailabilityZoneProfile, AvailabilityZone)
FIELDS: dict[type[Any], tuple[str, ...]] = {
    c: _shown(c)
    for c in (LoadBalancer, Listener, Pool, Member, HealthMonitor, L7Policy, L7Rule, Amphora, Quota, *_OFFERS)
}
_COLUMN_NAMES = {c: (*names, *_PARENTS.get(c, ())) for c, names in FIELDS.items()}
COLUMNS: dict[type[Any], tuple[ColumnElement[Any], ...]] = {
    c: tuple(tables.OF[c].c[name] for name in names) for c, names in _COLUMN_NAMES.items()
}


def documents(conn: Connection, cls: type[Any], found: Sequence[Row[Any]]) -> list[Json]:
    """The documents of rows that were selected by ``COLUMNS``."""
    keys = _COLUMN_NAMES[cls]
    made = [dict(zip(keys, row, strict=True)) for row in found]
    if "project_id" in keys:
        for document in made:
            document["tenant_id"] = document["project_id"]  # its old name
    linker = _LINKERS.get(cls)
    links = linker(conn, [d["id"] for d in made]) if linker and made else {}
    finish = _FINISH.get(cls)
    if finish:
        for document in made:
            finish(document, links)
    return made


def of_tree(tree: Tree, value: Resource) -> Json:
    """The document of an object of this tree."""
    cls = type(value)
    row = rows.to_row(value)
    document = {k: row[k] for k in _COLUMN_NAMES[cls]}
    if "project_id" in document:
        document["tenant_id"] = document["project_id"]
    finish = _FINISH.get(cls)
    if finish:
        finish(document, _links(tree))
    return document


def nested(tree: Tree) -> Json:
    """The answer to the creation of a load balancer: all of it, each object in its place."""
    whole = of_tree(tree, tree.load_balancer)
    whole["listeners"] = [_nested_listener(tree, v) for v in tree.listeners]
    whole["pools"] = [_nested_pool(tree, v) for v in tree.pools]
    for inner in (*whole["listeners"], *whole["pools"]):
        del inner["loadbalancers"]
    return whole


def _nested_listener(tree: Tree, listener: Listener) -> Json:
    document = of_tree(tree, listener)
    document["l7policies"] = [
        {**of_tree(tree, p), "rules": [of_tree(tree, v) for v in tree.l7rules if v.l7policy_id == p.id]}
        for p in _in_order(tree) if p.listener_id == listener.id
    ]  # fmt: skip
    return document


def _in_order(tree: Tree) -> list[L7Policy]:
    return sorted(tree.l7policies, key=lambda p: (p.position, p.created_at, p.id))


def _nested_pool(tree: Tree, pool: Pool) -> Json:
    document = of_tree(tree, pool)
    document.pop("healthmonitor_id", None)
    document["healthmonitor"] = next((of_tree(tree, v) for v in tree.health_monitors if v.pool_id == pool.id), None)
    document["members"] = [of_tree(tree, v) for v in tree.members if v.pool_id == pool.id]
    return document


def _links(tree: Tree) -> Links:
    links: Links = {}
    aims = trees.aims(tree)
    pairs = [
        *((("listeners", v.loadbalancer_id), v.id) for v in tree.listeners),
        *((("pools", v.loadbalancer_id), v.id) for v in tree.pools),
        *((("listeners", p.id), v.id) for p in tree.pools for v in tree.listeners if (v.id, p.id) in aims),
        *((("members", v.pool_id), v.id) for v in tree.members),
        *((("healthmonitor", v.pool_id), v.id) for v in tree.health_monitors),
        *((("l7policies", p.listener_id), p.id) for p in _in_order(tree)),
        *((("rules", v.l7policy_id), v.id) for v in tree.l7rules),
    ]
    for key, its_id in pairs:
        links.setdefault(key, []).append({"id": its_id})
    return links


def _finish_load_balancer(document: Json, links: Links) -> None:
    document["provider"] = document["provider"] or "octavia"
    document["listeners"] = links.get(("listeners", document["id"]), [])
    document["pools"] = links.get(("pools", document["id"]), [])


def _finish_listener(document: Json, links: Links) -> None:
    document["loadbalancers"] = [{"id": document.pop("loadbalancer_id")}]
    document["l7policies"] = links.get(("l7policies", document["id"]), [])
    document["allowed_cidrs"] = document["allowed_cidrs"] or None


def _finish_pool(document: Json, links: Links) -> None:
    its_id = document["id"]
    document["loadbalancers"] = [{"id": document.pop("loadbalancer_id")}]
    document["listeners"] = links.get(("listeners", its_id), [])
    document["members"] = links.get(("members", its_id), [])
    monitors = links.get(("healthmonitor", its_id))
    if monitors:
        document["healthmonitor_id"] = monitors[-1]["id"]


def _finish_monitor(document: Json, _links: Links) -> None:
    document["pools"] = [{"id": document.pop("pool_id")}]


def _finish_l7policy(document: Json, links: Links) -> None:
    document["rules"] = links.get(("rules", document["id"]), [])


_FINISH: dict[type[Any], Callable[[Json, Links], None]] = {
    LoadBalancer: _finish_load_balancer, Listener: _finish_listener, Pool: _finish_pool,
    HealthMonitor: _finish_monitor, L7Policy: _finish_l7policy,
}  # fmt: skip


def choose(documents: list[Json], fields: Sequence[str]) -> list[Json]:
    """Only the named keys; all of them when none is named."""
    if not fields:
        return documents
    wanted = set(fields)
    return [{k: v for k, v in d.items() if k in wanted} for d in documents]


def status_tree(found: Mapping[str, Sequence[Row[Any]]]) -> Json:
    """The statuses of everything that listeners lead to, from ``query.statuses``."""
    (lb,) = found["loadbalancer"]
    aims = {(v.id, v.aim) for v in found.get("listener", ())} | {(v.parent, v.aim) for v in found.get("policy", ())}
    pools = [(v.id, _pool_status(found, v)) for v in found.get("pool", ())]
    listeners = [
        {**_status(v), "pools": [p for its_id, p in pools if (v.id, its_id) in aims]} for v in found.get("listener", ())
    ]
    return {"statuses": {"loadbalancer": {**_status(lb), "listeners": listeners}}}


def _pool_status(found: Mapping[str, Sequence[Row[Any]]], pool: Row[Any]) -> Json:
    monitors = [v for v in found.get("monitor", ()) if v.parent == pool.id]
    return {
        **_status(pool),
        "health_monitor": {**_status(monitors[-1]), "type": monitors[-1].type} if monitors else None,
        "members": [
            {**_status(v), "address": v.address, "protocol_port": v.protocol_port}
            for v in found.get("member", ())
            if v.parent == pool.id
        ],
    }


def _status(row: Row[Any]) -> Json:
    names = ("id", "name", "operating_status", "provisioning_status", "reason")
    return {name: getattr(row, name) for name in names}

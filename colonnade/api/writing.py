"""One write: one transaction that raises the load balancer's generation, changes rows, and says what was asked for."""

import dataclasses
import logging
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import Connection, Table, bindparam, delete, insert, update

from colonnade.api import room
from colonnade.api.trees import PART, Change, going
from colonnade.clock import Clock, utc
from colonnade.drivers import Doorbell, Network, SecretStore, Supplies
from colonnade.errors import Conflict, NotFound
from colonnade.model import LoadBalancer, Resource, Tree
from colonnade.settings import Settings
from colonnade.store import amphorae, events, quotas, rows, tables, work
from colonnade.store.store import Store
from colonnade.types import Json

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Api:
    """What every resource needs to do its work."""

    settings: Settings
    store: Store
    network: Network
    doorbell: Doorbell
    clock: Clock
    supplies: Supplies
    secrets: SecretStore | None = None  # None: there is no key manager


def new_id() -> str:
    """An id nobody has had."""
    return str(uuid.uuid4())


def change(api: Api, lb_id: str, decide: Callable[[Tree], Change], *, delete: bool = False) -> Tree:
    """Change a load balancer's tree by what ``decide`` makes of it; it sees the tree that nobody else can change
    now. Raises NotFound and Conflict, and whatever ``decide`` raises; then nothing has happened."""
    now = api.clock.now()

    def write(conn: Connection) -> Change:
        work.touch(conn, lb_id, now, delete=delete)
        before = rows.tree(conn, lb_id)
        if before is None:
            raise NotFound(f"Load Balancer {lb_id} not found.")
        if before.delete_wanted and not delete:
            raise Conflict(f"Load Balancer {lb_id} is immutable and cannot be updated.")
        asked = decide(before)
        room.check(before, asked.tree)
        _save(api, conn, before, asked, now)
        return asked

    return _announced(api, api.store.written(write))


def create(api: Api, lb_id: str, decide: Callable[[Connection], Change]) -> Tree:
    """A new load balancer, with all that comes with it."""
    now = api.clock.now()

    def write(conn: Connection) -> Change:
        work.begin(conn, lb_id, now)
        asked = decide(conn)
        room.check(None, asked.tree)
        _save(api, conn, None, asked, now)
        return asked

    return _announced(api, api.store.written(write))


def _announced(api: Api, asked: Change) -> Tree:
    lb_id = asked.tree.load_balancer.id
    api.doorbell.ring(lb_id)
    log.info("asked", extra={"lb": lb_id, "sentence": asked.sentence})
    return asked.tree


def _save(api: Api, conn: Connection, before: Tree | None, asked: Change, now: float) -> None:
    old = {} if before is None else {v.id: v for v in _parts(before)}
    fresh: dict[type[Resource], list[Resource]] = {}
    growth: Counter[type[Any]] = Counter()
    for value in _parts(asked.tree):
        known = old.get(value.id)
        if known is None:
            fresh.setdefault(type(value), []).append(value)
            growth[type(value)] += 1
        elif value is not known and going(value) and not going(known):
            growth[type(value)] -= 1  # a batch is asked for its net growth
    if api.settings.api_settings.auth_strategy != "noauth":
        quotas.claim(conn, asked.tree.load_balancer.project_id, growth, api.settings.quotas.by_kind)
    for cls, values in fresh.items():
        conn.execute(insert(tables.OF[cls]), [rows.to_row(v) for v in values])
        _add_tags(conn, values)
    _update(conn, [(old[v.id], v) for v in _parts(asked.tree) if v.id in old and v is not old[v.id]])
    if before is not None:
        for was, now_is in zip(before.amphorae, asked.tree.amphorae, strict=True):
            if now_is is not was:
                amphorae.change(conn, was, now_is, now)
    lb = asked.tree.load_balancer
    events.add(conn, lb.id, lb.project_id, now, "asked", asked.about, asked.sentence)


def _parts(tree: Tree) -> list[Resource]:
    return [tree.load_balancer, *(value for part in PART.values() for value in getattr(tree, part))]


def _update(conn: Connection, pairs: Iterable[tuple[Resource, Resource]]) -> None:
    """Write the columns that differ; objects that differ in the same columns go in one statement."""
    alike: dict[tuple[Table, tuple[str, ...]], list[Json]] = {}
    for old, new in pairs:
        names = tuple(f.name for f in dataclasses.fields(new) if getattr(old, f.name) != getattr(new, f.name))
        if names:
            values = rows.to_row(new)
            row = {"its_id": new.id, **{n: values[n] for n in names}}
            alike.setdefault((tables.OF[type(new)], names), []).append(row)
        if "tags" in names:
            conn.execute(delete(tables.tag).where(tables.tag.c.object_id == new.id))
            _add_tags(conn, [new])
    for (table, _), values_of in alike.items():
        conn.execute(update(table).where(table.c.id == bindparam("its_id")), values_of)


def _add_tags(conn: Connection, values: Iterable[Resource]) -> None:
    tags: list[dict[str, Any]] = [{"object_id": v.id, "value": t} for v in values for t in v.tags]
    if tags:
        conn.execute(insert(tables.tag), tags)


def new_fields(api: Api, lb: LoadBalancer | None, given: Json) -> Json:
    """What every new object has, and the given fields; null means the default."""
    fixed: Json = {"id": new_id(), "created_at": utc(api.clock.now())}
    if lb is not None:
        fixed |= {"project_id": lb.project_id, "loadbalancer_id": lb.id}
    found = {**fixed, **{k: v for k, v in given.items() if v is not None}}
    if "tags" in found:
        found["tags"] = tuple(dict.fromkeys(found["tags"]))
    return found

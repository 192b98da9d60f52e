"""One write: one transaction that raises the load balancer's generation, changes rows, and says what was asked for."""

import dataclasses
import logging
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import Connection, Table, bindparam, delete, insert, update

from colonnade.api import handing, room
from colonnade.api.trees import Change
from colonnade.clock import Clock, utc
from colonnade.drivers import Doorbell, Network, SecretStore, Supplies
from colonnade.drivers.provider import Providers, Unanswered
from colonnade.errors import Conflict, NotFound
from colonnade.model import LoadBalancer, Resource, Tree
from colonnade.settings import Settings
from colonnade.store import amphorae, events, handover, quotas, rows, tables, verdict, work
from colonnade.store.handover import Handover
from colonnade.store.store import Store
from colonnade.types import Json, ProvisioningStatus

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
    providers: Providers
    me: str  # this process, as store.owner names it: who hands changes over
    secrets: SecretStore | None = None  # None: there is no key manager


def new_id() -> str:
    """An id nobody has had."""
    return str(uuid.uuid4())


def change(api: Api, lb_id: str, decide: Callable[[Tree], Change], *, delete: bool = False) -> Tree:
    """Change a load balancer's tree by what ``decide`` makes of it; it sees the tree that nobody else can change
    now. Raises NotFound and Conflict, and whatever ``decide`` raises; then nothing has happened."""
    now = api.clock.now()

    def write(conn: Connection) -> tuple[Tree, Change, Handover | None]:
        work.touch(conn, lb_id, now, delete=delete)
        before = rows.tree(conn, lb_id)
        if before is None:
            raise NotFound(f"Load Balancer {lb_id} not found.")
        if before.load_balancer.foreign:
            asked, lease = _change_foreign(api, conn, before, decide, now)
        elif before.delete_wanted and not delete:
            raise Conflict(f"Load Balancer {lb_id} is immutable and cannot be updated.")
        else:
            asked, lease = decide(before), None
            room.check(before, asked.tree)
            _save(api, conn, before, asked, now)
        return before, asked, lease

    before, asked, lease = api.store.written(write)
    return _handed(api, before, asked, lease) if before.load_balancer.foreign else _announced(api, asked)


def _change_foreign(
    api: Api, conn: Connection, before: Tree, decide: Callable[[Tree], Change], now: float
) -> tuple[Change, Handover | None]:
    """The same for a third party's provider; with the right to hand the change over, unless it asks for nothing."""
    lb = before.load_balancer
    api.providers.check(str(lb.provider))
    under_way = handover.under_way(conn, lb.id, now)
    asked = decide(before)
    handing.admit(before, whole=asked.about[0] == "loadbalancer", under_way=under_way)
    handing.check(before, asked)
    if asked.tree is before:
        handover.skip(conn, lb.id)
        return asked, None
    _save(api, conn, before, asked, now)
    return asked, handover.begin(conn, lb.id, api.me, now, _lease_s(api))


def _handed(api: Api, before: Tree | None, asked: Change, lease: Handover | None) -> Tree:
    """Hand the change to the provider. What it refuses has not happened."""
    if lease is None:
        return asked.tree
    try:
        handing.hand(api, before, asked)
    except Unanswered as e:
        now = api.clock.now()
        with api.store.write() as conn:
            handover.lose(conn, lease)
            handover.give_up(conn, lease.subject, e.sentence, now)
        raise
    except BaseException as e:
        _undo(api, before, asked, lease, getattr(e, "sentence", "The provider failed."))
        raise
    now = api.clock.now()
    with api.store.write() as conn:
        ours = handover.end(conn, lease, now + api.settings.driver_agent.report_limit_s)
    log.info("handed over", extra={"lb": lease.subject, "sentence": asked.sentence, "in_time": ours})
    return asked.tree


def _lease_s(api: Api) -> float:
    """Longer than any call is waited for: it ends by itself only when nobody is left to end it."""
    return 2 * api.settings.driver_agent.call_limit_s + 30


def _undo(api: Api, before: Tree | None, asked: Change, lease: Handover, why: str) -> None:
    """Make the rows what they were, unless the lease has run out or the provider has deleted the load balancer."""
    lb = asked.tree.load_balancer
    with api.store.write() as conn:
        if not handover.end(conn, lease, None):
            return
        if before is None:
            verdict.erase(conn, asked.tree)
            handover.forget(conn, lb.id)
            events.forget(conn, lb.id)
            return
        old = {v.id: v for v in before.objects}
        verdict.drop(conn, [v for v in asked.tree.objects if v.id not in old])
        _update(conn, [(v, old[v.id]) for v in asked.tree.objects if v.id in old and v is not old[v.id]])
        help = "Nothing was changed. Ask for what the provider supports, or try again."
        events.add(conn, lb.id, lb.project_id, api.clock.now(), "failed", asked.about, why, help)


def forsake(api: Api, lb_id: str, decide: Callable[[Tree], Change]) -> None:
    """Forget a load balancer whose provider is not enabled any more, as ``decide`` would delete it. What the provider
    made of it is the provider's."""
    with api.store.read() as conn:
        before = rows.tree(conn, lb_id)
    if before is None:
        raise NotFound(f"Load Balancer {lb_id} not found.")
    lb = before.load_balancer  # also one that the provider was asked to delete, and never did
    status = ProvisioningStatus.ERROR
    asked = decide(dataclasses.replace(before, load_balancer=dataclasses.replace(lb, provisioning_status=status)))
    if lb.vip_owned and lb.vip_port_id:
        api.network.release(lb.vip_port_id)
    with api.store.write() as conn:
        verdict.erase(conn, before)
        handover.forget(conn, lb_id)
        sentence = f"Forgotten: its provider {lb.provider} is not enabled any more."
        events.add(conn, lb_id, lb.project_id, api.clock.now(), "did", asked.about, sentence)


def create(api: Api, lb_id: str, decide: Callable[[Connection], Change]) -> Tree:
    """A new load balancer, with all that comes with it."""
    now = api.clock.now()

    def write(conn: Connection) -> tuple[Change, Handover | None]:
        work.begin(conn, lb_id, now)
        asked = decide(conn)
        lease, foreign = None, asked.tree.load_balancer.foreign
        if not foreign:
            room.check(None, asked.tree)
        _save(api, conn, None, asked, now)
        if foreign:
            lease = handover.begin(conn, lb_id, api.me, now, _lease_s(api))
        return asked, lease

    asked, lease = api.store.written(write)
    return _handed(api, None, asked, lease) if asked.tree.load_balancer.foreign else _announced(api, asked)


def _announced(api: Api, asked: Change) -> Tree:
    lb_id = asked.tree.load_balancer.id
    api.doorbell.ring(lb_id)
    log.info("asked", extra={"lb": lb_id, "sentence": asked.sentence})
    return asked.tree


def _save(api: Api, conn: Connection, before: Tree | None, asked: Change, now: float) -> None:
    old = {} if before is None else {v.id: v for v in before.objects}
    fresh: dict[type[Resource], list[Resource]] = {}
    growth: Counter[type[Any]] = Counter()
    for value in asked.tree.objects:
        known = old.get(value.id)
        if known is None:
            fresh.setdefault(type(value), []).append(value)
            growth[type(value)] += 1
        elif value is not known and value.going and not known.going:
            growth[type(value)] -= 1  # a batch is asked for its net growth
    if api.settings.api_settings.auth_strategy != "noauth":
        quotas.claim(conn, asked.tree.load_balancer.project_id, growth, api.settings.quotas.by_kind)
    for cls, values in fresh.items():
        conn.execute(insert(tables.OF[cls]), [rows.to_row(v) for v in values])
        _add_tags(conn, values)
    _update(conn, [(old[v.id], v) for v in asked.tree.objects if v.id in old and v is not old[v.id]])
    if before is not None:
        for was, now_is in zip(before.amphorae, asked.tree.amphorae, strict=True):
            if now_is is not was:
                amphorae.change(conn, was, now_is, now)
    lb = asked.tree.load_balancer
    events.add(conn, lb.id, lb.project_id, now, "asked", asked.about, asked.sentence)


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
    return {**fixed, **{k: v for k, v in given.items() if v is not None}}

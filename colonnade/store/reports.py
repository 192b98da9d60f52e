"""What third parties' providers report of their load balancers: statuses, and counters of listeners.

A provider reports what it likes: no state machine is enforced, it alone knows when a load balancer leaves PENDING. But
it reports of its own objects only: those of the built-in provider are the loop's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import IntegrityError

from colonnade.clock import utc
from colonnade.model import (
    HealthMonitor,
    L7Policy,
    L7Rule,
    Listener,
    LoadBalancer,
    Member,
    Pool,
    Resource,
    Tree,
    foreign,
)
from colonnade.store import events, handover, rows, verdict
from colonnade.store.tables import COUNTERS, FOREIGN, OF, event, listener, listener_statistics, load_balancer, work
from colonnade.types import UUID, Json, OperatingStatus, ProvisioningStatus

KINDS: dict[str, type[Resource]] = {  # in the order in which a report is applied: children first
    "members": Member, "healthmonitors": HealthMonitor, "pools": Pool, "l7rules": L7Rule, "l7policies": L7Policy,
    "listeners": Listener, "loadbalancers": LoadBalancer,
}  # fmt: skip
DELETED = "DELETED"  # a provider's word only: what is deleted has no row here
NUMBERS = ("active_connections", *COUNTERS)
_VOCABULARY: dict[str, frozenset[str]] = {
    "provisioning_status": frozenset({*ProvisioningStatus, DELETED}), "operating_status": frozenset(OperatingStatus),
}  # fmt: skip
_MOST, _MOST_AT_A_TIME = 2**63 - 1, 2**31 - 1  # what the columns hold


@dataclass(frozen=True, slots=True)
class Owned:
    """Whose an object is, and its status."""

    lb_id: str
    provisioning_status: str
    provider: str | None
    project_id: str

    @property
    def reportable(self) -> bool:
        """Whether it is a provider's to report."""
        return foreign(self.provider)


class Refused(Exception):
    """A report, or one item of it, that cannot be applied; ``told`` is for whoever sent it."""

    def __init__(self, sentence: str, **told: object) -> None:
        super().__init__(sentence)
        self.told = told


class Report:
    """One status report, applied item by item within one transaction."""

    def __init__(self, conn: Connection, now: float) -> None:
        self._conn, self._now = conn, now
        self._trees: dict[str, Tree] = {}

    def apply(self, kind: str, item: object) -> None:
        """Apply one item of the collection ``kind``. Raises Refused, and has changed nothing then.

        Objects that do not exist are passed over, but for load balancers that are said to be deleted.
        """
        id = _id(kind, item)
        assert isinstance(item, Mapping)  # noqa: S101 - _id has looked
        values = _statuses(kind, id, item)
        found = owner(self._conn, kind, id)
        if found is None:
            self._absent(kind, id, values, item)
            return
        if not found.reportable:
            raise _refused(kind, id, item, "it is not a provider's to report: the load balancer is our own")
        # As a write does: one at a time for each load balancer, and the ledger's row before all others.
        self._conn.execute(select(work.c.subject).where(work.c.subject == found.lb_id).with_for_update())
        if values.get("provisioning_status") == DELETED:
            self._delete(kind, id, found)
        elif values:
            self._update(kind, id, found, values)

    def _absent(self, kind: str, id: str, values: Mapping[str, object], item: Mapping[str, Any]) -> None:
        if kind == "loadbalancers" and values.get("provisioning_status") == DELETED:
            known = select(event.c.id).where(event.c.loadbalancer_id == id).limit(1)  # it has been ours: said twice
            if self._conn.execute(known).first() is None:
                raise _refused(kind, id, item, "there is no such load balancer")

    def _delete(self, kind: str, id: str, found: Owned) -> None:
        tree = self._trees.get(found.lb_id) or rows.tree(self._conn, found.lb_id)
        if tree is None:
            return
        self._trees[found.lb_id] = tree
        if kind == "loadbalancers":
            verdict.erase(self._conn, tree)
            handover.forget(self._conn, id)
        else:
            verdict.remove(self._conn, tree, id)
        self._tell(kind, id, found, "did", f"Provider {found.provider} has deleted it.")

    def _update(self, kind: str, id: str, found: Owned, values: dict[str, object]) -> None:
        table, status = OF[KINDS[kind]], values.get("provisioning_status")
        if status == ProvisioningStatus.ERROR:
            values["reason"] = f"Provider {found.provider} reports that it failed."
        elif status is not None:
            values["reason"] = None
        if status not in (None, found.provisioning_status):
            values["updated_at"] = utc(self._now)
            if status == ProvisioningStatus.ERROR:
                self._tell(kind, id, found, "failed", f"Provider {found.provider} reports that it failed.")
            elif kind == "loadbalancers":
                self._tell(kind, id, found, "status", f"Provider {found.provider} reports that it is {status}.")
        self._conn.execute(update(table).where(table.c.id == id).values(values))

    def _tell(self, kind: str, id: str, found: Owned, what: events.Kind, sentence: str) -> None:
        noun = {"l7policies": "l7policy"}.get(kind, kind.removesuffix("s"))
        events.add(self._conn, found.lb_id, found.project_id, self._now, what, (noun, id), sentence)


def owner(conn: Connection, kind: str, id: str) -> Owned | None:
    """Whose the object is; None when there is none."""
    table = OF[KINDS[kind]]
    columns = (table.c.provisioning_status, load_balancer.c.provider, load_balancer.c.project_id)
    query = select(load_balancer.c.id.label("lb_id"), *columns).where(table.c.id == id)
    if table is not load_balancer:
        query = query.where(load_balancer.c.id == table.c.loadbalancer_id)
    row = conn.execute(query).first()
    return None if row is None else Owned(*row)


def vip_port(conn: Connection, kind: str, item: object) -> str | None:
    """The port to be released before this item is applied: a load balancer's that is said to be deleted, if the port is
    ours to remove."""
    if kind != "loadbalancers" or not isinstance(item, Mapping) or item.get("provisioning_status") != DELETED:
        return None
    c = load_balancer.c
    mine = (c.id == str(item.get("id")).lower(), c.vip_owned.is_(True), FOREIGN)
    return conn.execute(select(c.vip_port_id).where(*mine)).scalar()


def count(conn: Connection, item: object) -> None:
    """Write one listener's counters, absolute values. Raises Refused. A listener that does not exist is passed over."""
    if not isinstance(item, Mapping) or not isinstance(item.get("id"), str):
        raise Refused("An item of the statistics has no id.", stats_object="listeners")
    id = item["id"]
    missing = [name for name in NUMBERS if not _countable(item.get(name), name)]
    if missing:
        raise Refused(
            f"The statistics of listener {id} need a number, 0 or greater and not beyond all measure: "
            f"{', '.join(missing)}.",
            stats_object="listeners", stats_object_id=id, stats_record=dict(item),
        )  # fmt: skip
    query = select(listener.c.loadbalancer_id, load_balancer.c.provider).where(
        listener.c.id == id, load_balancer.c.id == listener.c.loadbalancer_id
    )
    found = conn.execute(query).first()
    if found is None:
        return
    if not foreign(found.provider):
        raise Refused(
            f"Listener {id} is not a provider's to report.", stats_object="listeners", stats_object_id=id
        )  # fmt: skip
    values = {"active_connections": item["active_connections"], **{f"last_{n}": item[n] for n in COUNTERS}}
    table = listener_statistics
    change = update(table).where(table.c.listener_id == id, table.c.amphora_id == id).values(values)
    if conn.execute(change).rowcount == 0:
        keys = {"listener_id": id, "amphora_id": id, "loadbalancer_id": found.loadbalancer_id, "epoch": "provider"}
        try:
            with conn.begin_nested():
                conn.execute(insert(table).values({**keys, **values}))
        except IntegrityError:  # another report was first
            conn.execute(change)


def _countable(value: object, name: str) -> bool:
    most = _MOST_AT_A_TIME if name == "active_connections" else _MOST
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most


def _id(kind: str, item: object) -> str:
    id = item.get("id") if isinstance(item, Mapping) else None
    if not isinstance(id, str):
        raise Refused(f"An item of {kind} has no id.", status_object=kind, status_record=item)
    return id.lower() if UUID.fullmatch(id) else id


def _statuses(kind: str, id: str, item: Mapping[str, Any]) -> dict[str, object]:
    values: dict[str, object] = {}
    for name, words in _VOCABULARY.items():
        if (word := item.get(name)) is not None:
            if not isinstance(word, str) or word not in words:
                raise _refused(kind, id, item, f"{str(word)[:64]!r} is no {name}")
            values[name] = word
    return values


def _refused(kind: str, id: str, item: object, why: str) -> Refused:
    sentence = f"The report of {kind} {id[:64]} was not applied: {why}."
    return Refused(sentence, status_object=kind, status_object_id=id, status_record=item)


def described(conn: Connection, kind: str, id: str) -> tuple[Tree, Resource, Json | None, Json | None] | None:
    """A provider's object, in its tree, with the metadata of its flavor and availability zone; None when there is
    none, or it is not a provider's."""
    found = owner(conn, kind, id)
    tree = rows.tree(conn, found.lb_id) if found is not None and found.reportable else None
    if tree is None:
        return None
    value = next((v for v in tree.objects if v.id == id and isinstance(v, KINDS[kind])), None)
    return None if value is None else (tree, value, *handover.metadata(conn, tree.load_balancer))

"""A load balancer's tree before and after a write, as values: what the write puts in, and whom it marks PENDING."""

import dataclasses
import typing
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Literal, TypeVar

from colonnade.errors import Conflict, NotFound
from colonnade.model import (
    PARTS,
    HealthMonitor,
    L7Policy,
    L7Rule,
    Listener,
    LoadBalancer,
    Member,
    Pool,
    Resource,
    Tree,
)  # fmt: skip
from colonnade.types import Json, ProvisioningStatus

R = TypeVar("R", bound=Resource)
How = Literal["", "cascade", "failover", "batch"]  # what a provider is asked for beside create, change and delete
Child = Listener | Pool | Member | HealthMonitor | L7Policy | L7Rule

TITLE: dict[type[Any], str] = {
    LoadBalancer: "Load Balancer", Listener: "Listener", Pool: "Pool", Member: "Member",
    HealthMonitor: "Health Monitor", L7Policy: "L7Policy", L7Rule: "L7Rule",
}  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """What a write asks for: the tree as it shall be, and the sentence its owner reads."""

    tree: Tree
    about: tuple[str, str]  # kind and id of the object, for the event
    sentence: str
    how: How = ""


def find(tree: Tree, cls: type[R], object_id: str | None) -> R:
    """The object, one on its way out too. Raises NotFound."""
    if cls is LoadBalancer and tree.load_balancer.id == object_id:
        return typing.cast(R, tree.load_balancer)
    for candidate in tree.every(cls) if cls in PARTS else ():
        if candidate.id == object_id:
            return candidate
    raise NotFound(f"{TITLE[cls]} {object_id} not found.")


def find_mutable(tree: Tree, cls: type[R], object_id: str | None) -> R:
    """The object, to write to it or below it. Raises NotFound, or Conflict when it is being deleted."""
    found = find(tree, cls, object_id)
    if found.going:
        raise Conflict(f"{TITLE[cls]} {object_id} is immutable and cannot be updated.")
    return found


def staying(values: Iterable[R]) -> list[R]:
    """Those that are not on their way out."""
    return [v for v in values if not v.going]


def put(tree: Tree, *values: Child) -> Tree:
    """The tree with these objects in it, in place of those with their ids, or at the end."""
    for value in values:
        old = tree.every(type(value))
        new = tuple(value if v.id == value.id else v for v in old)
        if not any(v.id == value.id for v in old):
            new += (value,)
        tree = dataclasses.replace(tree, **{PARTS[type(value)]: new})  # type: ignore[arg-type]  # PARTS names fields of Tree
    return tree


def changed(value: R, fields: Json, now: datetime) -> R:
    """The object with these fields, waiting for the loop."""
    return dataclasses.replace(pending(value), **fields, updated_at=now)


def pending(value: R) -> R:
    """The object, waiting for the loop. One that is being created or deleted goes on being so."""
    status = value.provisioning_status
    if status in (ProvisioningStatus.PENDING_CREATE, ProvisioningStatus.PENDING_DELETE):
        return value
    return dataclasses.replace(value, provisioning_status=ProvisioningStatus.PENDING_UPDATE)


def leaving(value: R, now: datetime) -> R:
    """The object, on its way out."""
    return dataclasses.replace(value, provisioning_status=ProvisioningStatus.PENDING_DELETE, updated_at=now)


def users(tree: Tree, pool_id: str) -> list[Listener]:
    """Listeners that use the pool."""
    aimed = aims(tree)
    return [v for v in tree.listeners if (v.id, pool_id) in aimed]


def aims(tree: Tree) -> set[tuple[str, str]]:
    """Which listener uses which pool, by ids: as its default, or by an L7 policy that is enabled and has a rule."""
    ruled = {r.l7policy_id for r in tree.l7rules}
    found = {(v.id, v.default_pool_id) for v in tree.listeners if v.default_pool_id}
    return found | {
        (p.listener_id, p.redirect_pool_id)
        for p in tree.l7policies
        if p.redirect_pool_id and p.admin_state_up and p.id in ruled
    }


def mark(tree: Tree, *, pool_id: str | None = None, pool_itself: bool = False, listener_id: str | None = None) -> Tree:
    """The tree with everything above a write PENDING: the load balancer, and with ``pool_id`` the listeners that
    use the pool, and the pool itself when the write was below it; with ``listener_id`` that listener."""
    tree = dataclasses.replace(tree, load_balancer=pending(tree.load_balancer))
    if listener_id is not None:
        tree = put(tree, pending(find(tree, Listener, listener_id)))
    if pool_id is not None:
        tree = put(tree, *(pending(v) for v in users(tree, pool_id)))
    if pool_itself:
        tree = put(tree, pending(find(tree, Pool, pool_id)))
    return tree


def existing(found: tuple[str, str] | None, cls: type[Any], object_id: str) -> tuple[str, str]:
    """What ``query.owner`` found. Raises NotFound."""
    if found is None:
        raise NotFound(f"{TITLE[cls]} {object_id} not found.")
    return found

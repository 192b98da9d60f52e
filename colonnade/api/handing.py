"""A write handed to a third party's provider: which method of its driver, with what.

The driver is called between two transactions (docs/decisions/019): it may take its time, and it may ask and report
through the driver agent while it is being called.
"""

import logging
from typing import TYPE_CHECKING, Any

from colonnade.api import trees
from colonnade.api.trees import Change
from colonnade.errors import Broken, Conflict, Later
from colonnade.model import (
    HealthMonitor,
    L7Policy,
    L7Rule,
    Listener,
    LoadBalancer,
    Material,
    Member,
    Pool,
    Resource,
    Tree,
)
from colonnade.store import handover
from colonnade.types import PENDING

if TYPE_CHECKING:
    from colonnade.api.writing import Api

log = logging.getLogger(__name__)

_KINDS: dict[str, tuple[type[Resource], str]] = {  # what a change is about -> its class, and its methods' first word
    "loadbalancer": (LoadBalancer, "loadbalancer"), "listener": (Listener, "listener"), "pool": (Pool, "pool"),
    "member": (Member, "member"), "healthmonitor": (HealthMonitor, "health_monitor"),
    "l7policy": (L7Policy, "l7policy"), "l7rule": (L7Rule, "l7rule"),
}  # fmt: skip


def admit(before: Tree, *, whole: bool, under_way: bool) -> None:
    """409 while the provider is at work on the load balancer: it alone says when it has done. ``whole``: the write is
    of the load balancer itself, which upstream refuses in other words."""
    lb = before.load_balancer
    if whole and lb.provisioning_status in PENDING:
        raise Conflict(f"Invalid state {lb.provisioning_status} of loadbalancer resource {lb.id}")
    if under_way or lb.provisioning_status in PENDING:
        raise Conflict(f"Load Balancer {lb.id} is immutable and cannot be updated.")


def check(before: Tree, asked: Change) -> None:
    """409 unless all that the write changes is at rest."""
    old = {v.id: v for v in before.objects}
    for value in asked.tree.objects:
        was = old.get(value.id, value)
        if was != value and was.provisioning_status in PENDING:
            raise Conflict(f"{trees.TITLE[type(was)]} {was.id} is immutable and cannot be updated.")


def hand(api: "Api", before: Tree | None, asked: Change) -> None:
    """Call the driver. Returns when it has accepted; raises what the API answers. No transaction may be open."""
    lb = asked.tree.load_balancer
    method, arguments = _call(api, before, asked)
    provider = str(lb.provider)
    log.info("handing over", extra={"lb": lb.id, "provider": provider, "method": method})
    api.providers.call(provider, method, *arguments)
    _note_secrets(api, asked.tree)


def _call(api: "Api", before: Tree | None, asked: Change) -> tuple[str, tuple[Any, ...]]:
    from colonnade.drivers.provider_models import Translator  # octavia-lib is not for everybody to pay for

    lb, after = asked.tree.load_balancer, asked.tree
    with api.store.read() as conn:
        flavor, zone = handover.metadata(conn, lb)

    def fetch(ref: str) -> Material:
        if api.secrets is None:
            raise Broken(f"There is no key manager to ask for {ref}.")
        return api.secrets.fetch(ref, lb.project_id)

    new = Translator(tree=after, fetch=fetch, flavor=flavor, zone=zone)
    if before is None:
        return "loadbalancer_create", (new.of(lb),)
    old = Translator(tree=before, fetch=fetch, flavor=flavor, zone=zone, strict=False)
    kind, id = asked.about
    if asked.how == "failover":
        return "loadbalancer_failover", (lb.id,)
    if asked.how == "batch":
        members = [new.of(m) for m in trees.staying(after.members) if m.pool_id == id]
        return "member_batch_update", (id, members)
    cls, word = _KINDS[kind]
    value, was = trees.find(after, cls, id), next((v for v in before.objects if v.id == id), None)
    if was is None:
        return f"{word}_create", (new.of(value),)
    if value.going and cls is LoadBalancer:
        return "loadbalancer_delete", (old.of(was), asked.how == "cascade")
    if value.going:
        return f"{word}_delete", (old.of(was),)
    return f"{word}_update", (old.of(was), new.change(was, value))


def _note_secrets(api: "Api", tree: Tree) -> None:
    """Whoever looks into the key manager sees that the load balancer uses its secrets."""
    from colonnade.drivers.provider_models import references

    refs = references(tree)
    if api.secrets is None or not refs:
        return
    try:
        api.secrets.used(tree.load_balancer.id, refs)
    except (Broken, Later) as e:
        log.warning("could not note the use of secrets", extra={"lb": tree.load_balancer.id, "error": str(e)})

"""A load balancer created with all that belongs to it, in one request."""

from dataclasses import dataclass

from colonnade.api import room, rules, shapes, trees
from colonnade.api.listeners import Listeners
from colonnade.api.members import Members
from colonnade.api.monitors import HealthMonitors
from colonnade.api.pools import Pools
from colonnade.errors import Invalid
from colonnade.model import HealthMonitor, Listener, LoadBalancer, Member, Pool, Tree
from colonnade.types import Json

_OF_A_REFERENCE = frozenset({"name", "admin_state_up", "tls_enabled"})


@dataclass(frozen=True, slots=True)
class Makers:
    """What makes and checks the objects, as for each alone."""

    listeners: Listeners
    pools: Pools
    members: Members
    monitors: HealthMonitors


@dataclass(frozen=True, slots=True)
class Below:
    """What the request wants below the load balancer. Pools are here by name; listeners name theirs."""

    listeners: tuple[tuple[Json, str | None], ...]  # (fields, name of the default pool)
    pools: dict[str, Json]

    @property
    def subnet_ids(self) -> set[str]:
        """Subnets that members name."""
        members = (m for pool in self.pools.values() for m in pool.get("members") or ())
        return {m["subnet_id"] for m in members if m.get("subnet_id")}


def read(given: Json) -> Below:
    """Take the children out of a load balancer's given fields. Raises Invalid and Unsupported."""
    pools: dict[str, Json] = {}
    references: list[str] = []
    for pool in given.pop("pools", None) or ():
        _define(pools, pool)
    listeners = []
    for listener in given.pop("listeners", None) or ():
        shapes.refuse(Listener, listener)
        pool = listener.pop("default_pool", None)
        if pool is not None:
            if listener.get("default_pool_id"):
                raise Invalid("Validation failure: A listener takes default_pool or default_pool_id, not both.")
            _named(pool)
            references.append(pool["name"])
            if not _OF_A_REFERENCE.issuperset(pool):
                _define(pools, pool)
        listeners.append((listener, None if pool is None else pool["name"]))
    room.check_count(sum(len(pool.get("members") or ()) for pool in pools.values()) + room.LISTENER * len(listeners))
    missing = next((name for name in references if name not in pools), None)
    if missing is not None:
        raise Invalid(f"Validation failure: The pool {missing} is named by a listener but not defined.")
    return Below(tuple(listeners), pools)


def _named(pool: Json) -> None:
    if not pool.get("name"):
        raise Invalid("Validation failure: Pools in a load balancer's creation must have a name.")


def _define(pools: dict[str, Json], pool: Json) -> None:
    _named(pool)
    if pool["name"] in pools:
        raise Invalid(f"Validation failure: The pool name {pool['name']} is used twice; names must be unique here.")
    for field in ("protocol", "lb_algorithm"):
        if pool.get(field) is None:
            raise Invalid(f"Invalid input for field/attribute {field}. Value: 'None'. Mandatory field missing.")
    shapes.refuse(Pool, pool)
    for member in pool.get("members") or ():
        shapes.refuse(Member, member)
    if pool.get("healthmonitor"):
        shapes.refuse(HealthMonitor, pool["healthmonitor"])
    pools[pool["name"]] = pool


def grow(makers: Makers, lb: LoadBalancer, below: Below) -> Tree:
    """The whole tree, each object checked as if it were created alone."""
    tree = Tree(load_balancer=lb, generation=1)
    ids: dict[str, Pool] = {}
    for name, given in below.pools.items():
        own = {k: v for k, v in given.items() if k not in ("members", "healthmonitor")}
        pool = ids[name] = makers.pools.made(lb, own)
        rules.pool_has_effect(pool)
        tree = trees.put(tree, pool)
        if given.get("healthmonitor"):
            tree = trees.put(tree, makers.monitors.made(lb, pool, given["healthmonitor"]))
        for wanted in given.get("members") or ():
            member = makers.members.made(tree, lb, pool, wanted)
            rules.member_is_unique(tree, member)
            tree = trees.put(tree, member)
    for given, pool_name in below.listeners:
        fields = given if pool_name is None else {**given, "default_pool_id": ids[pool_name].id}
        tree = trees.put(tree, makers.listeners.made(tree, lb, fields))
    return tree


def summary(tree: Tree) -> str:
    """What comes with the load balancer, in words."""
    counts = [("listener", tree.listeners), ("pool", tree.pools), ("member", tree.members)]
    words = [f"{len(v)} {noun}{'s' if len(v) > 1 else ''}" for noun, v in counts if v]
    return f" with {', '.join(words)}" if words else ""

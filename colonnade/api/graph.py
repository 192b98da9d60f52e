"""A load balancer created with all that belongs to it, in one request."""

from dataclasses import dataclass

from colonnade.api import l7policies, l7rules, room, rules, trees
from colonnade.api.l7policies import L7Policies
from colonnade.api.l7rules import L7Rules
from colonnade.api.listeners import Listeners
from colonnade.api.members import Members
from colonnade.api.monitors import HealthMonitors
from colonnade.api.pools import Pools
from colonnade.errors import Invalid
from colonnade.model import Listener, LoadBalancer, Pool, Tree
from colonnade.types import Json

_LAST = 2147483648  # behind every position that can be given
_OF_A_REFERENCE = frozenset({"name", "admin_state_up", "tls_enabled"})


@dataclass(frozen=True, slots=True)
class Makers:
    """What makes and checks the objects, as for each alone."""

    listeners: Listeners
    pools: Pools
    members: Members
    monitors: HealthMonitors
    policies: L7Policies
    l7rules: L7Rules


@dataclass(frozen=True, slots=True)
class WantedPolicy:
    """An L7 policy of the request."""

    fields: Json
    pool: str | None  # name of the pool it redirects to
    rules: tuple[Json, ...]


@dataclass(frozen=True, slots=True)
class WantedListener:
    """A listener of the request."""

    fields: Json
    pool: str | None  # name of the default pool
    policies: tuple[WantedPolicy, ...]  # in their order


@dataclass(frozen=True, slots=True)
class Below:
    """What the request wants below the load balancer. Pools are here by name; listeners and policies name theirs."""

    listeners: tuple[WantedListener, ...]
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
        policies = []
        pool = _used(pools, references, listener, "default_pool")
        for policy in sorted(listener.pop("l7policies", None) or (), key=lambda p: p.get("position") or _LAST):
            aim = _used(pools, references, policy, "redirect_pool")
            rules_of_it = policy.pop("rules", None) or ()
            policies.append(WantedPolicy(policy, aim, tuple(rules_of_it)))
        listeners.append(WantedListener(listener, pool, tuple(policies)))
    members = sum(len(pool.get("members") or ()) for pool in pools.values())
    rules = sum(len(policy.rules) for listener in listeners for policy in listener.policies)
    room.check_count(members + rules + room.LISTENER * len(listeners))
    missing = next((name for name in references if name not in pools), None)
    if missing is not None:
        raise Invalid(f"Validation failure: The pool {missing} is named by a listener or L7 policy but not defined.")
    return Below(tuple(listeners), pools)


def _used(pools: dict[str, Json], references: list[str], user: Json, field: str) -> str | None:
    """The name of the pool in the user's ``field``, which is taken out; a pool defined there is noted."""
    pool = user.pop(field, None)
    if pool is None:
        return None
    if user.get(f"{field}_id"):
        raise Invalid(f"Validation failure: Give {field} or {field}_id, not both.")
    _named(pool)
    references.append(pool["name"])
    if not _OF_A_REFERENCE.issuperset(pool):
        _define(pools, pool)
    return str(pool["name"])


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
    pools[pool["name"]] = pool


def grow(makers: Makers, lb: LoadBalancer, below: Below) -> Tree:
    """The whole tree, each object checked as if it were created alone."""
    tree = Tree(load_balancer=lb, generation=1)
    ids: dict[str, Pool] = {}
    for name, given in below.pools.items():
        own = {k: v for k, v in given.items() if k not in ("members", "healthmonitor")}
        pool = ids[name] = makers.pools.made(lb, own)
        tree = trees.put(tree, pool)
        if given.get("healthmonitor"):
            tree = trees.put(tree, makers.monitors.made(lb, pool, given["healthmonitor"]))
        for fields in given.get("members") or ():
            member = makers.members.made(tree, lb, pool, fields)
            rules.member_is_unique(tree, member)
            tree = trees.put(tree, member)
    for wanted in below.listeners:
        fields = wanted.fields if wanted.pool is None else {**wanted.fields, "default_pool_id": ids[wanted.pool].id}
        listener = makers.listeners.made(tree, lb, fields)
        tree = trees.put(tree, listener)
        for policy in wanted.policies:
            tree = _grow_policy(makers, tree, listener, policy, ids)
    return tree


def _grow_policy(makers: Makers, tree: Tree, listener: Listener, wanted: WantedPolicy, pools: dict[str, Pool]) -> Tree:
    fields = {**wanted.fields, "position": None}  # they come in their order
    if wanted.pool is not None:
        fields["redirect_pool_id"] = pools[wanted.pool].id
    policy = makers.policies.made(tree, listener, fields)
    tree = l7policies.place(tree, policy)
    for given in wanted.rules:
        rule = makers.l7rules.made(tree.load_balancer, policy, given)
        l7rules.one_more_fits(tree, policy)
        tree = trees.put(tree, rule)
    return tree


def summary(tree: Tree) -> str:
    """What comes with the load balancer, in words."""
    counts = [
        ("listener", "listeners", tree.listeners), ("pool", "pools", tree.pools),
        ("member", "members", tree.members), ("L7 policy", "L7 policies", tree.l7policies),
    ]  # fmt: skip
    words = [f"{len(v)} {many if len(v) > 1 else one}" for one, many, v in counts if v]
    return f" with {', '.join(words)}" if words else ""

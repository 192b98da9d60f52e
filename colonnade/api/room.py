"""How much one load balancer may hold: what its amphora tells of itself every few seconds must fit one datagram, and no
project's load balancer may keep the host from all others."""

from collections import Counter

from colonnade.api.trees import aims, staying
from colonnade.errors import Conflict
from colonnade.model import Tree

MOST = 2200  # measured: some 28 bytes of a heartbeat for each server, 145 for each listener, of 65507
LISTENER = 6
# An L7 rule takes one place: 2,200 cost HAProxy 0.3 s of CPU at each reload, 5,000 3.5 s, more by the square.


def check(before: Tree | None, after: Tree) -> None:
    """409 when the load balancer would grow beyond what it may hold; one that is larger already may shrink."""
    taken = size(after)
    if taken > MOST and (before is None or taken > size(before)):
        refuse(taken)


def check_count(places: int) -> None:
    """The same for what takes so many places, before any work is put into it."""
    if places > MOST:
        refuse(places)


def refuse(taken: int) -> None:
    """Raise Conflict with the rule."""
    raise Conflict(
        f"A load balancer has {MOST} places here, and this one would take {taken}: each listener takes {LISTENER}, "
        "each member one for each listener that its pool serves, each L7 rule one. Share them out among several load "
        "balancers."
    )


def size(tree: Tree) -> int:
    """The places that it takes."""
    listeners = {v.id for v in staying(tree.listeners)}
    uses = Counter(pool_id for listener_id, pool_id in aims(tree) if listener_id in listeners)
    members = sum(max(1, uses[m.pool_id]) for m in staying(tree.members))
    return LISTENER * len(listeners) + members + len(staying(tree.l7rules))

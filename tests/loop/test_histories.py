"""Any history of wishes, any failure at any moment, workers killed and interleaved: it settles, and nothing is left.

A history is a list of wishes. A fate says what happens at each moment, counted through the whole history: before and
after each effect, before and after each transaction. So a failing example shrinks to the moments that matter.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from databases import DATABASES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from colonnade.errors import Broken, Later
from colonnade.model import Listener, Member
from colonnade.store import tables
from colonnade.worker.loop import Worker
from tests.loop.world import World, a_world

LEASE_S = 30
QUIET, LATER, BROKEN, KILLED, WRITE, OTHER_WORKER, LEASE_LOST, DATABASE = range(8)
DEEDS = ("ensure", "ensure_plugged", "push", "release", "remove")

wishes = st.lists(
    st.tuples(
        st.sampled_from(["create", "rename", "listener", "drop listener", "member", "drop member", "failover", "delete",
                         "reboot", "turn", "turn", "turn"]),
        st.integers(0, 2),
    ),
    max_size=14,
)  # fmt: skip
fates = st.lists(
    st.sampled_from(
        [QUIET] * 6 + [LATER, LATER, BROKEN, KILLED, WRITE, OTHER_WORKER, LEASE_LOST, LEASE_LOST, DATABASE]
    ),
    max_size=120,
)


class Killed(BaseException):
    """kill -9: nothing of the program runs any more."""


class Violation(BaseException):
    """Something that must always hold did not. Not an Exception: the loop would take it for trouble, and go on."""


@dataclass
class History:
    """A world, two workers, and what fate has for them."""

    world: World
    fate: Iterator[int]
    workers: list[Worker] = field(default_factory=list)
    acting: list[tuple[Worker, str]] = field(default_factory=list)  # innermost last: a worker waits while another runs
    lbs: list[str] = field(default_factory=list)
    served: set[str] = field(default_factory=set)
    moments: int = 0

    def __post_init__(self) -> None:
        self.workers = [self.world.worker(), self.world.worker()]
        self.world.cloud.trouble = self.moment
        self.world.store.trouble = self.moment

    def moment(self, effect: str, when: str) -> None:
        """Something is about to be done or has just been done: check what must always hold, then let fate act."""
        if not self.acting:
            return
        self.moments += 1
        if when == "before" and effect in DEEDS:
            self.check_that_the_actor_holds_the_lease()
        self.check_that_what_served_serves()
        fate = next(self.fate, QUIET)
        nested = len(self.acting) > 1
        if fate == LATER and effect != "write":
            raise Later(f"Later {when} {effect}.")
        if fate == BROKEN and effect != "write":
            raise Broken(f"Broken {when} {effect}.", "Wait for another fate.")
        if fate == DATABASE and effect == "write":
            raise ConnectionError(f"The database is away {when} a transaction.")
        if fate == KILLED:
            raise Killed
        if fate == WRITE and self.lbs:
            self.wish("rename", self.moments)
        if fate == OTHER_WORKER and not nested:
            self.turns(self.other())
        if fate == LEASE_LOST and not nested:
            self.world.clock.at += LEASE_S + 1
            self.turns(self.other())

    def check_that_the_actor_holds_the_lease(self) -> None:
        worker, subject = self.acting[-1]
        if self.world.ledger(subject).owner != worker.owner:
            raise Violation(f"{worker.owner} acts on {subject} without its lease")

    def check_that_what_served_serves(self) -> None:
        cloud = self.world.cloud
        for id, vip, delete_wanted in self.world.vips():
            held = cloud.held.get(vip)
            serves = held in cloud.places and cloud.places[held].bundle is not None
            if not serves and not delete_wanted and id in self.served:
                raise Violation(f"{id} served and does not any more")
            if serves:
                self.served.add(id)

    def other(self) -> int:
        return 1 - next(n for n, w in enumerate(self.workers) if w is self.acting[-1][0])

    def turns(self, n: int) -> None:
        """What a worker does after a sweep. Killed, it is replaced by a new one that knows nothing."""
        worker = self.workers[n]
        try:
            for subject in worker.sweep():
                self.acting.append((worker, subject))
                try:
                    with suppress(ConnectionError):  # the thread logs it and goes on to the next
                        worker.turn(subject)
                finally:
                    self.acting.pop()
        except Killed:
            self.workers[n] = self.world.worker()

    def wish(self, what: str, n: int) -> None:
        world = self.world
        if what == "create":
            acting, self.acting = self.acting, []
            self.lbs.append(world.create())
            self.acting = acting
            return None
        if what == "turn":
            world.clock.at += 1 + 40 * (n == 2)
            return self.turns(n % 2)
        trees = [t for t in (world.tree(id) for id in self.lbs) if t and not t.delete_wanted]
        if not trees:
            return None
        tree = trees[n % len(trees)]
        id = tree.load_balancer.id
        if what == "rename":
            world.change(id, name=f"name {self.moments}")
        elif what == "listener":
            world.add_listener(id, 8000 + len(tree.listeners))
        elif what == "drop listener" and tree.listeners:
            world.drop(id, Listener, tree.listeners[-1].id)
        elif what == "member":
            pool = tree.pools[0].id if tree.pools else world.add_pool(id)
            world.add_member(id, pool, world.far_subnets[n % 2].id)
        elif what == "drop member" and tree.members:
            world.drop(id, Member, tree.members[0].id)
        elif what == "failover":
            world.failover(id)
        elif what == "delete":
            world.delete(id)
        elif what == "reboot" and tree.amphorae:
            self.served.discard(id)
            amphora = tree.amphorae[-1].id
            world.cloud.places.pop(amphora, None)
            world.cloud.held = {a: who for a, who in world.cloud.held.items() if who != amphora}
        return None

    def end(self) -> None:
        """The trouble is over: what is left to do is done, by whoever is alive."""
        world = self.world
        self.fate = iter(())
        world.cloud.trouble = lambda effect, when: None
        world.store.trouble = lambda effect, when: None
        keeper = world.keeper()
        for _ in range(3):
            world.settle(*self.workers)
            world.heartbeats()
            keeper.sweep()
            world.clock.at += 61
        world.settle(*self.workers)


def _examples(most: int) -> settings:
    """The chances are the loop's: on a server, where each takes ten times as long, a quarter of them will do."""
    number = most if DATABASES.kind == "sqlite" else most // 4
    return settings(max_examples=number, deadline=None, suppress_health_check=list(HealthCheck))


@given(wishes, fates)
@_examples(60)
def test_it_settles_whatever_happens(history: list[tuple[str, int]], fate: list[int]) -> None:
    with a_world() as world:
        story = History(world, iter(fate))
        story.wish("create", 0)
        for what, n in [*history, ("turn", 0)]:
            story.wish(what, n)
            story.check_that_what_served_serves()
        story.end()
        world.assert_matches()
        asked = {t.load_balancer.id for t in world.trees()}
        assert asked <= set(story.lbs)
        assert {r[0] for r in _rows(world, tables.listener, "loadbalancer_id")} <= asked


@given(st.integers(0, 80), st.sampled_from([KILLED, LATER, BROKEN, LEASE_LOST, WRITE, DATABASE]))
@_examples(50)
def test_one_misfortune_at_any_moment_of_a_whole_life(moment: int, misfortune: int) -> None:
    with a_world() as world:
        story = History(world, iter([QUIET] * moment + [misfortune]))
        for what in ("create", "turn", "member", "turn", "failover", "turn", "drop member", "turn"):
            story.wish(what, 0)
        world.clock.at += LEASE_S + 1
        world.settle(*story.workers)
        (tree,) = world.trees()
        assert tree.load_balancer.provisioning_status == "ACTIVE"
        story.wish("delete", 0)
        story.wish("turn", 0)
        story.end()
        assert world.trees() == []
        world.assert_matches()
        assert (world.cloud.places, world.cloud.ports) == ({}, {})


def _rows(world: World, table: Any, column: str) -> list[Any]:
    with world.store.read() as conn:
        return list(conn.execute(table.select().with_only_columns(table.c[column])))

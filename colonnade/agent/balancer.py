"""The UDP and SCTP of one amphora: rules in the kernel, checks of the members, and the relay where one is needed.

What the bundle says and what the checks find make one table (``ruleset``), loaded in one transaction and only when it
differs. Flows of members that are gone, down or disabled are forgotten after it, so that their clients' next packets
find another member, and answers that are under way still come (``late``); all other flows never notice.
"""

import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from colonnade.agent import late, namespaces, rules, ruleset, shares
from colonnade.agent.checks import Checks, Group, Health, Key, Target
from colonnade.agent.network import AmphoraNetwork
from colonnade.agent.place import keep, kept
from colonnade.agent.refused import Refused
from colonnade.agent.relays import Relays
from colonnade.agent.ruleset import Ruleset, State
from colonnade.agent.runtime import Statistics
from colonnade.agent.tally import Tally
from colonnade.agent.timers import Timers
from colonnade.agent.tracking import PROTOCOLS, Drop, Pace, Tracking
from colonnade.datagrams import Datagrams, Listener, Member, Pool, from_text
from colonnade.wire import Counters, MemberState

log = logging.getLogger(__name__)
_NOTHING = Datagrams(vips=(), listeners=(), pools=())
_LEVEL_EVERY = 1.0  # seconds between two looks at who has how many flows
_STALE = 3.0  # seconds after which a count says nothing of who lacks flows: then the weights alone do
_KNOWS_SCTP = Path("/proc/sys/net/netfilter/nf_conntrack_sctp_timeout_established")
_A_MOMENT = 0.1  # seconds
_REFRESH_SHARE = (
    4  # rules are changed for members' health in one part of five of the time: others need the threads, too
)
_LONGEST = 200  # letters of what a check said

Pair = tuple[Listener, int]  # a listener, and the number of a member that it may have flows to


@dataclass(slots=True)
class _Counted:
    """Flows by listener and by member's number."""

    listeners: Counter[str]
    numbers: Counter[int]


class Balancer:
    """``apply`` comes first; under the amphora's lock. Everything else is safe to call from any thread."""

    def __init__(
        self, *, network: AmphoraNetwork, run: Path, checks: Checks, timers: Timers, relays: Relays, pace: Pace,
        news: Callable[[], None],
    ) -> None:  # fmt: skip
        self._network = network
        self._record = run / "balancer.json"
        self._checks = checks
        self._timers = timers
        self._relays = relays
        self._pace = pace
        self._news = news
        self._group = Group(network.namespace, self._checked)
        self._lock = threading.RLock()  # of all that follows
        self._want = _NOTHING
        self._text: str | None = None
        self._loaded: Ruleset | None = None  # None: not known
        self._state = State()
        self._tracking: Tracking | None = None
        self._tally = Tally()
        self._flows = _Counted(Counter(), Counter())
        self._came: dict[str, int] = {}  # new flows by listener when they were last levelled
        self._refresh_at = self._counted_at = 0.0
        self._seen = ("", Statistics())
        self._begun = self._soon = self._levelling = self._gone = False

    def parse(self, text: str | None) -> Datagrams:
        """What the file says. Raises Refused."""
        try:
            want = _NOTHING if text is None else from_text(text)
        except ValueError as e:
            raise Refused(422, f"The agent does not take this load balancer's UDP and SCTP: {e}.",
                          "Change the listeners, pools or members that it names.") from e  # fmt: skip
        return want

    def apply(self, text: str | None, epoch: str) -> None:
        """Balance as the file says; None: nothing. Raises Refused; then all is as before."""
        if text == self._text and (self._loaded is not None or not self._record.exists()):
            return
        want = self.parse(text)
        with self._lock:
            before = (self._want, self._text, self._state)
            first = not self._begun
            if first:
                self._begin(epoch)
            self._want, self._text = want, text
            self._state = self._known(want)
            with contextlib.suppress(OSError):
                self._totals(self._tally.epoch)  # counters of listeners that go are lost with them
            try:
                self._carry(want)
                self._load()
                if any(x.protocol == "sctp" for x in want.listeners):
                    self._check_sctp()
            except Refused:
                self._want, self._text, self._state = before
                self._carry(before[0])
                if self._loaded is not None:  # else what an earlier agent left goes on
                    self._load()
                raise
            self._watch()
            if first:
                self._sweep()
            else:
                self._forget(_pairs(before[0], before[2]))
            self._level_later(at_once=True)

    def look(self, epoch: str) -> Statistics:
        """Counters and states, keyed as HAProxy's are; the last ones while a change takes its time."""
        with self._in_a_moment() as ours:
            if ours:
                self._seen = (epoch, self._look(epoch))
        return self._seen[1] if self._seen[0] == epoch else Statistics()

    def _look(self, epoch: str) -> Statistics:
        want, down = self._want, self._state.down
        if not want.listeners or self._tracking is None:
            return Statistics()
        try:
            self._count()
            counters = self._totals(epoch)
        except OSError as e:
            log.warning("the counters of %s cannot be read: %s", self._network.namespace, e)
            counters = {}
        active = self._flows.listeners
        health = self._checks.health(self._group)
        pools = {p.id: p for p in want.pools}
        uses = [(x, pools[x.pool]) for x in want.listeners if x.pool in pools]
        return Statistics(
            listeners={x.id: _counters(x, active[x.id], counters.get(x.id, (0, 0, 0))) for x in want.listeners},
            pools={f"{p.id}:{x.id}": "UP" if ruleset.able(p, down) else "DOWN" for x, p in uses},
            members={f"{p.id}:{x.id}": {m.id: _state(p, m, health.get((p.id, m.id))) for m in p.members}
                     for x, p in uses},
        )  # fmt: skip

    def close(self) -> None:
        """Check and carry nothing more; the rules go with the namespace."""
        with self._lock:
            self._gone = True
            self._checks.watch(self._group, {})
            self._relays.close()
            if self._tracking:
                self._tracking.close()
                self._tracking = None

    @property
    def relay(self) -> int:
        """The relay's process, 0 when there is none."""
        return self._relays.pid

    def _begin(self, epoch: str) -> None:
        """Find out what an earlier agent left."""
        record = kept(self._record) or {}
        if not record:
            self._keep()  # from here on there may be a table
        self._begun = True
        with namespaces.inside(self._network.namespace):
            self._tracking = self._tracking or Tracking()
        known = rules.names(ruleset.TABLE, self._network.namespace)
        self._relays.adopt()
        if known is None:
            self._loaded = Ruleset()
            self._tally = Tally(epoch=epoch)
            return
        self._state = State(down=frozenset((p, m) for p, m in record.get("down", ())))
        self._tally = Tally(
            epoch=record.get("epoch", ""), base={k: tuple(v) for k, v in record.get("base", {}).items()},
            last={k: tuple(v) for k, v in record.get("last", {}).items()},
        )  # fmt: skip

    def _carry(self, want: Datagrams) -> None:
        self._relays.have(ruleset.crossing(want), max((x.idle for x in want.listeners), default=0))

    def _known(self, want: Datagrams) -> State:
        """What is still true of the members that are wanted."""
        watched = {key for key, _ in _targets(want)}
        slots = {p: s for p, s in self._state.slots.items() if p in {pool.id for pool in want.pools}}
        return State(down=frozenset(self._state.down & watched), slots=slots, relays=self._state.relays)

    def _load(self) -> None:
        """Bring the kernel's table up to date. Raises Refused."""
        new = ruleset.render(self._want, State(
            down=self._state.down, slots=self._state.slots, relays=self._relays.ports(),
        ))  # fmt: skip
        stale = rules.names(ruleset.TABLE, self._network.namespace) or () if self._loaded is None else ()
        text = ruleset.transaction(self._loaded, new, stale)
        if text:
            if not new.chains:
                self._network.forward(False)
            try:
                rules.load(text, self._network.namespace)
            except Refused as e:
                raise Refused(422, e.sentence, "This host's kernel may lack what UDP and SCTP listeners need.") from e
            if new.chains:
                self._network.forward(True)
            self._loaded = new
        self._keep()

    def _keep(self) -> None:
        with contextlib.suppress(FileNotFoundError):  # the amphora is being removed
            data: dict[str, Any] = {"down": sorted(self._state.down), "epoch": self._tally.epoch,
                                    "base": self._tally.base, "last": self._tally.last}  # fmt: skip
            keep(self._record, data, durable=False)

    def _watch(self) -> None:
        self._checks.watch(self._group, dict(_targets(self._want)), self._state.down)

    def _checked(self) -> None:
        """In the checks' thread: some member's health is another."""
        if not self._soon:
            self._soon = True
            self._timers.after(max(0.0, self._refresh_at - time.monotonic()), self.refresh)

    def refresh(self) -> None:
        """Take in what the checks and the relay say."""
        with self._in_a_moment() as ours:
            if not ours:
                self._timers.after(_A_MOMENT, self.refresh)
                return
            self._soon = False
            if self._gone or self._loaded is None:
                return
            began = time.monotonic()
            self._take_in()
            now = time.monotonic()
            self._refresh_at = now + _REFRESH_SHARE * (now - began)
        self._news()

    def _take_in(self) -> None:
        before = _pairs(self._want, self._state)
        health = self._checks.health(self._group)
        down = frozenset(key for key, h in health.items() if not h.up)
        self._state = State(down=down, slots=self._state.slots, relays=self._relays.ports())
        try:
            self._load()
        except Refused as e:
            log.error("%s: the rules cannot be changed: %s", self._network.namespace, e)
            self._timers.after(1.0, self._checked)
        self._forget(before)

    @contextlib.contextmanager
    def _in_a_moment(self) -> Iterator[bool]:
        """Whether the lock could be had at once. A thread of the timers, which are all amphorae's, waits no longer for
        a change of this one: four of them are all there are."""
        ours = self._lock.acquire(timeout=_A_MOMENT)
        try:
            yield ours
        finally:
            if ours:
                self._lock.release()

    def _forget(self, before: set[Pair]) -> None:
        """Drop the flows that listeners and members had before, of those that are not there now."""
        gone = before - _pairs(self._want, self._state)
        left = _pairs(self._want, self._state)
        numbers, ports = {n for _, n in left}, {(x.id, x.protocol, x.port) for x, _ in left}
        staying = {(x.id, n) for x, n in left}
        drops: set[Drop] = set()
        for listener, number in gone:
            place = (PROTOCOLS[listener.protocol], listener.port)
            if number not in numbers:
                drops.add((number, None))
            elif (listener.id, listener.protocol, listener.port) not in ports:
                drops.add((None, place))
            elif (listener.id, number) not in staying:
                drops.add((number, place))
        self._drop(drops)

    def _sweep(self) -> None:
        """An earlier agent may have ended between the rules and the flows."""
        wanted = {(PROTOCOLS[x.protocol], x.port, n) for x, n in _pairs(self._want, self._state)}
        found = self._tracking.flows() if self._tracking else Counter()
        self._drop({(mark, (proto, port)) for proto, port, mark in found if (proto, port, mark) not in wanted})

    def _drop(self, drops: Collection[Drop]) -> None:
        if self._tracking and drops:
            try:
                flows = self._tracking.found(drops)
                if self._loaded and self._loaded.chains:
                    late.expect(flows, self._tracking, self._network.namespace)
                self._tracking.drop(drops, flows)
            except OSError as e:
                log.warning("%s: flows cannot be forgotten: %s", self._network.namespace, e)

    def _count(self) -> None:
        """Count the flows, when it is our turn; the last count holds until then."""
        if self._tracking is None:
            return
        if self._tracking.empty():
            self._flows, self._counted_at = _Counted(Counter(), Counter()), time.monotonic()
            return
        if not self._pace.take():
            return
        began = time.thread_time()
        try:
            found = self._tracking.flows()
        finally:
            self._pace.gave(time.thread_time() - began)
        places = {(PROTOCOLS[x.protocol], x.port): x.id for x in self._want.listeners}
        listeners: Counter[str] = Counter()
        numbers: Counter[int] = Counter()
        for (proto, port, mark), count in found.items():
            if listener := places.get((proto, port)):
                listeners[listener] += count
            numbers[mark] += count
        self._flows, self._counted_at = _Counted(listeners, numbers), time.monotonic()

    def _totals(self, epoch: str) -> dict[str, tuple[int, ...]]:
        """Bytes in and out, and flows, of each listener since the epoch began."""
        raw: dict[str, dict[str, int]] = {}
        for name, (packets, size) in self._tracking.counters().items() if self._tracking else ():
            if of := ruleset.counted(name):
                raw.setdefault(of[1], {})[of[0]] = packets if of[0] == "new" else size
        return self._tally.take(epoch, {k: (v["in"], v["out"], v["new"]) for k, v in raw.items() if len(v) == 3})

    def _level_later(self, *, at_once: bool = False) -> None:
        if not self._levelling and any(p.algorithm == "LEAST_CONNECTIONS" for p in self._want.pools):
            self._levelling = True
            self._timers.after(0.0 if at_once else _LEVEL_EVERY, self._level)

    def _level(self) -> None:
        """Have the next flows go to those members that have the fewest for their weight."""
        with self._in_a_moment() as ours:
            if not ours:
                self._timers.after(_LEVEL_EVERY, self._level)
                return
            self._levelling = False
            if self._gone or self._tracking is None:
                return
            try:
                self._count()
                came = {name[4:]: n for name, (n, _) in self._tracking.counters().items() if name.startswith("new_")}
                # Slots make up for what a count found. They are right once; again and again they would overdo it.
                known = time.monotonic() - self._counted_at < _STALE
                slots = {p.id: s for p in self._want.pools if (s := self._slots(p, came))} if known else {}
                self._came = came
                if slots != self._state.slots:
                    self._state = State(down=self._state.down, slots=slots, relays=self._state.relays)
                    self._load()
            except (OSError, Refused) as e:
                log.warning("%s: flows cannot be levelled: %s", self._network.namespace, e)
            self._level_later()

    def _slots(self, pool: Pool, came: dict[str, int]) -> dict[str, int] | None:
        if pool.algorithm != "LEAST_CONNECTIONS":
            return None
        mine = [x.id for x in self._want.listeners if x.pool == pool.id]
        expected = sum(max(0, came.get(n, 0) - self._came.get(n, 0)) for n in mine)
        number = ruleset.numbers(self._want)
        weights = {m.id: m.weight for m in ruleset.able(pool, self._state.down)}
        flows = {m: self._flows.numbers[number[m]] for m in weights}
        return shares.by_load(weights, flows, expected) if len(weights) > 1 else None

    def _check_sctp(self) -> None:
        """Raises Refused when the kernel took the rules and cannot follow them. Only with them it has loaded all that
        it has."""
        with namespaces.inside(self._network.namespace):
            if _KNOWS_SCTP.exists():
                return
        raise Refused(
            422, "This host's kernel cannot balance SCTP: its connection tracking does not know it "
            "(CONFIG_NF_CT_PROTO_SCTP).", "Delete the SCTP listeners, or use a host whose kernel has it.",
        )  # fmt: skip


def _pairs(want: Datagrams, state: State) -> set[Pair]:
    """Who may have flows to whom: members that are enabled and not down, drained ones too."""
    number = ruleset.numbers(want)
    pools = {p.id: p for p in want.pools}
    return {
        (x, number[m.id])
        for x in want.listeners if x.pool in pools
        for m in pools[x.pool].members if m.enabled and (x.pool, m.id) not in state.down
    }  # fmt: skip


def _targets(want: Datagrams) -> Iterable[tuple[Key, Target]]:
    for pool in want.pools:
        for m in pool.members:
            if pool.monitor and m.enabled:
                yield (pool.id, m.id), Target(address=m.monitor_address, port=m.monitor_port, monitor=pool.monitor)


def _counters(listener: Listener, active: int, totals: tuple[int, ...]) -> Counters:
    full = listener.limit is not None and active >= ruleset.full_from(listener.limit)
    into, out, new = totals
    return Counters(
        status="FULL" if full else "OPEN", bytes_in=into, bytes_out=out, active_connections=active,
        total_connections=new,
    )  # fmt: skip


def _state(pool: Pool, member: Member, health: Health | None) -> MemberState:
    if not member.enabled:
        return MemberState(status="MAINT")
    if health is None or pool.monitor is None:
        return MemberState(status="DRAIN" if member.weight == 0 else "no check")
    needed = pool.monitor.fall if health.up else pool.monitor.rise
    status = ("DRAIN" if member.weight == 0 else "UP") if health.up else "DOWN"
    if health.streak and status != "DRAIN":
        left = needed - health.streak if health.up else health.streak
        status = f"{status} {left}/{needed}"
    return MemberState(status=status, check=health.outcome.code, text=health.outcome.text[:_LONGEST])

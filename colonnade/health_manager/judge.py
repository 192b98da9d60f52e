"""Turns heartbeats into operating statuses, statistics and news for the worker, written in batches.

A load balancer is judged only when its amphorae said something new, fell silent or came back, or when it was changed.
One transaction writes what differs, and nothing else.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from sqlalchemy import Connection, Table, bindparam, select, update

from colonnade import wire
from colonnade.clock import utc
from colonnade.core import haproxy, status
from colonnade.drivers import Doorbell
from colonnade.health_manager import counts
from colonnade.model import Member, Resource, Tree
from colonnade.store import events, rows, tables, work
from colonnade.store.store import Store
from colonnade.types import AmphoraStatus, ProvisioningStatus

T = TypeVar("T")

_SWEEP_S = 1.0  # between looks at all amphorae: for silence, and for what was settled meanwhile
_COUNT_S = 2.0  # between writes of counters alone
_STAMP_S = 10.0  # between writes of heartbeat_at
_AT_ONCE = 400  # values in one IN (...)
_WORDS = {
    "loadbalancer": ("Load balancer", tables.load_balancer), "listener": ("Listener", tables.listener),
    "pool": ("Pool", tables.pool), "member": ("Member", tables.member),
    "healthmonitor": ("Health monitor", tables.health_monitor),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Seen:
    """An amphora's row, and of its load balancer's what a verdict depends on."""

    id: str
    loadbalancer_id: str | None
    status: str
    digest: str | None
    heartbeat_at: datetime | None
    provisioning_status: str | None
    generation: int | None
    due_at: float | None


@dataclass(frozen=True, slots=True)
class _Change:
    """A status or a reason that is to be written, and what it replaces."""

    key: status.Key
    was: Resource
    now: status.Verdict
    lb_id: str


@dataclass(frozen=True, slots=True)
class _Plan:
    """What one turn wants written."""

    changes: list[_Change]
    wake: list[str]  # load balancers whose worker has work
    counted: dict[counts.Key, counts.Count]
    stamps: dict[str, float]


class Judge:
    """Remembers the last word of each amphora; one thread uses it."""

    def __init__(self, store: Store, doorbell: Doorbell, timeout_s: float, now: float) -> None:
        self._store = store
        self._doorbell = doorbell
        self._timeout_s = timeout_s
        self._since = now  # nobody is called silent for what was before
        self._beats: dict[str, wire.Heartbeat] = {}
        self._content: dict[str, int] = {}  # of the last heartbeat: all that a status follows from
        self._heard: dict[str, float] = {}
        self._fresh: set[str] = set()
        self._silent: dict[str, float] = {}
        self._judged: dict[str, Any] = {}  # load balancer -> what its statuses were derived from
        self._odd: dict[str, tuple[str | None, int]] = {}  # amphora -> its row's digest, sequence, when they differed
        self._counts = counts.Ledger()
        self._stamped_at = self._counted_at = self._swept_at = 0.0

    def keys(self, amphora_ids: list[str]) -> dict[str, bytes]:
        """Heartbeat keys of those amphorae that exist."""
        c = tables.amphora.c
        with self._store.read() as conn:
            found = [
                row for some in _chunks(amphora_ids)
                for row in conn.execute(select(c.id, c.heartbeat_key).where(c.id.in_(some)))
            ]  # fmt: skip
        return {row.id: bytes.fromhex(row.heartbeat_key) for row in found if row.heartbeat_key}

    def hear(self, beats: Mapping[str, wire.Heartbeat], now: float) -> None:
        """Remember these until the next turn that succeeds, and as the last word after it."""
        self._beats.update(beats)
        self._heard.update(dict.fromkeys(beats, now))
        self._content.update((id, _content(beat)) for id, beat in beats.items())
        self._fresh.update(beats)

    def pardon(self, now: float) -> None:
        """Count silence anew: we were the ones who could not hear."""
        self._since = now

    def turn(self, now: float) -> list[str]:
        """Derive and write what follows from all that was heard; returns heard amphorae that do not exist any more.

        When the database fails it raises, and the next turn does this one's work too.
        """
        sweep = now - self._swept_at >= _SWEEP_S
        if not self._fresh and not sweep:
            return []
        with self._store.read() as conn:
            seen = _amphorae(conn, self._fresh, everything=sweep)
            silent = self._who_is_silent(seen.values(), now) if sweep else self._still_silent()
            bases = self._bases(seen.values(), silent)
            stale = [lb for lb, base in bases.items() if self._judged.get(lb) != base]
            trees = _trees(conn, stale)
        plan = self._plan(seen, trees, silent, now)
        self._write(plan, now)
        gone = [id for id in self._fresh if id not in seen]
        self._remember(plan, {lb: bases[lb] for lb in stale}, silent, gone, now)
        if sweep:
            self._swept_at = now
            self._drop({lb for lb in (row.loadbalancer_id for row in seen.values()) if lb}, now)
        for lb_id in plan.wake:
            self._doorbell.ring(lb_id)
        return gone

    def _who_is_silent(self, seen: Iterable[_Seen], now: float) -> dict[str, float]:
        silent = {}
        for row in seen:
            written = row.heartbeat_at.replace(tzinfo=UTC).timestamp() if row.heartbeat_at else 0.0
            word = max(self._heard.get(row.id, 0.0), written)
            last = word if row.id in self._silent else max(word, self._since)
            if row.status == AmphoraStatus.ALLOCATED and now - last > self._timeout_s:
                # What was said at first stays: a reason that changed each second would be written each second.
                silent[row.id] = self._silent.get(row.id, now - last)
        return silent

    def _still_silent(self) -> dict[str, float]:
        return {id: s for id, s in self._silent.items() if id not in self._fresh}

    def _bases(self, seen: Iterable[_Seen], silent: Mapping[str, float]) -> dict[str, Any]:
        """All that each load balancer's statuses follow from: equal means that they need not be derived again.

        A load balancer of which only some amphorae were looked at keeps what is known of the others.
        """
        by_lb: dict[str, dict[str, Any]] = {}
        heads: dict[str, Any] = {}
        for row in seen:
            if row.loadbalancer_id and row.provisioning_status:
                said = (row.status, row.digest, self._content.get(row.id), row.id in silent)
                by_lb.setdefault(row.loadbalancer_id, {})[row.id] = said
                heads[row.loadbalancer_id] = (row.generation, row.provisioning_status)
        return {lb: (heads[lb], {**self._judged.get(lb, (None, {}))[1], **said}) for lb, said in by_lb.items()}

    def _plan(
        self, seen: Mapping[str, _Seen], trees: Mapping[str, Tree], silent: Mapping[str, float], now: float
    ) -> _Plan:
        heard = {id: beat for id, beat in self._beats.items() if id not in silent}
        changes = [c for tree in trees.values() for c in _changes(tree, status.judge(tree, heard, silent))]
        fell = [seen[id].loadbalancer_id for id in silent if id not in self._silent]
        fresh = [seen[id] for id in self._fresh if id in seen]
        self._counts.note((row.loadbalancer_id, self._beats[row.id]) for row in fresh if row.loadbalancer_id)
        working = [row.loadbalancer_id for row in fresh if self._has_work(row)]
        due = changes or now - self._counted_at >= _COUNT_S
        stamp = now - self._stamped_at >= _STAMP_S
        return _Plan(
            changes=changes,
            wake=sorted({lb for lb in (*fell, *working) if lb}),
            counted=self._counts.pending() if due else {},
            stamps={id: at for id, at in self._heard.items() if at > self._stamped_at} if stamp else {},
        )

    def _has_work(self, row: _Seen) -> bool:
        """Whether the amphora runs another bundle than the loop left it with, though nothing is due.

        It must say so twice: what was sent just before the loop settled is not yet a sign.
        """
        beat = self._beats[row.id]
        odd = row.status == AmphoraStatus.ALLOCATED and row.due_at is None and row.digest not in (None, beat.digest)
        if not odd:
            self._odd.pop(row.id, None)
            return False
        before = self._odd.setdefault(row.id, (row.digest, beat.sequence))
        if before[0] != row.digest:
            self._odd[row.id] = (row.digest, beat.sequence)
            return False
        return before[1] != beat.sequence

    def _write(self, plan: _Plan, now: float) -> None:
        if not (plan.changes or plan.wake or plan.counted or plan.stamps):
            return
        with self._store.write() as conn:
            for lb_id in plan.wake:  # first: the ledger's row is what every writer locks first
                work.nudge(conn, lb_id, now)
            for change in plan.changes:
                _write_change(conn, change, now)
            counts.write(conn, plan.counted)
            if plan.stamps:
                conn.execute(_STAMP, [{"amphora": id, "at": utc(at)} for id, at in sorted(plan.stamps.items())])

    def _remember(
        self, plan: _Plan, judged: Mapping[str, Any], silent: dict[str, float], gone: list[str], now: float
    ) -> None:
        self._judged.update(judged)
        self._silent = silent
        self._counts.written(plan.counted)
        if plan.counted:
            self._counted_at = now
        if plan.stamps:
            self._stamped_at = now
        self._fresh.clear()
        for id in gone:
            self._forget(id)

    def _drop(self, known: set[str], now: float) -> None:
        """Let go of what has not been heard of for long."""
        for id in [id for id, at in self._heard.items() if now - at > 2 * self._timeout_s and id not in self._silent]:
            self._forget(id)
        for lb in self._judged.keys() - known:
            del self._judged[lb]

    def _forget(self, id: str) -> None:
        for book in (self._beats, self._content, self._heard, self._odd):
            book.pop(id, None)
        self._counts.forget(id)


_STAMP = (
    update(tables.amphora).where(tables.amphora.c.id == bindparam("amphora")).values(heartbeat_at=bindparam("at"))
)  # fmt: skip


def _amphorae(conn: Connection, ids: Iterable[str], *, everything: bool) -> dict[str, _Seen]:
    """These amphorae (and all that serve), by id."""
    a, b, w = tables.amphora, tables.load_balancer, tables.work
    query = select(
        a.c.id, a.c.loadbalancer_id, a.c.status, a.c.digest, a.c.heartbeat_at, b.c.provisioning_status,
        w.c.generation, w.c.due_at,
    ).select_from(
        a.outerjoin(b, b.c.id == a.c.loadbalancer_id).outerjoin(w, w.c.subject == a.c.loadbalancer_id)
    )  # fmt: skip
    found: dict[str, _Seen] = {}
    if everything:
        found.update((row.id, _Seen(*row)) for row in conn.execute(query.where(a.c.status == AmphoraStatus.ALLOCATED)))
    for some in _chunks(sorted(set(ids) - found.keys())):
        found.update((row.id, _Seen(*row)) for row in conn.execute(query.where(a.c.id.in_(some))))
    return found


def _trees(conn: Connection, lb_ids: list[str]) -> dict[str, Tree]:
    return {lb: tree for some in _chunks(lb_ids) for lb, tree in rows.trees(conn, some).items()}


def _changes(tree: Tree, verdicts: Mapping[status.Key, status.Verdict]) -> Iterator[_Change]:
    for kind, things in _things(tree):
        for thing in things:
            verdict = verdicts.get((kind, thing.id))
            if verdict is None:
                continue
            new_reason = _may_say_why(kind, thing) and thing.reason != verdict.reason
            if thing.operating_status is not verdict.status or new_reason:
                yield _Change((kind, thing.id), thing, verdict, tree.load_balancer.id)


def _things(tree: Tree) -> Iterator[tuple[str, Sequence[Resource]]]:
    yield "loadbalancer", [tree.load_balancer]
    yield "listener", tree.listeners
    yield "pool", tree.pools
    yield "member", tree.members
    yield "healthmonitor", tree.health_monitors


def _may_say_why(kind: str, thing: Resource) -> bool:
    """The reason is the loop's while it works on the load balancer, and on all that is in provisioning ERROR."""
    if kind == "loadbalancer":
        return thing.provisioning_status is ProvisioningStatus.ACTIVE
    return thing.provisioning_status is not ProvisioningStatus.ERROR


def _write_change(conn: Connection, change: _Change, now: float) -> None:
    """Compare-and-set: what was changed or removed since it was read is judged anew in the next turn."""
    kind, _ = change.key
    name, table = _WORDS[kind]
    values: dict[str, Any] = {"operating_status": change.now.status}
    if _may_say_why(kind, change.was):
        values["reason"] = change.now.reason
    if not _set(conn, table, change.was, values) or change.was.operating_status is change.now.status:
        return
    why = f": {change.now.reason}" if change.now.reason else "."
    sentence = f"{name} {_called(change.was)} is {change.now.status}{why}"
    events.add(conn, change.lb_id, change.was.project_id, now, "status", change.key, sentence)


def _called(thing: Resource) -> str:
    if not thing.name and isinstance(thing, Member):
        return haproxy.endpoint(thing.address, thing.protocol_port)
    return thing.name or thing.id


def _set(conn: Connection, table: Table, was: Resource, values: dict[str, Any]) -> bool:
    same = (
        table.c.id == was.id, table.c.operating_status == was.operating_status,
        table.c.provisioning_status == was.provisioning_status,
    )  # fmt: skip
    return conn.execute(update(table).where(*same).values(values)).rowcount > 0


def _content(beat: wire.Heartbeat) -> int:
    """Equal for heartbeats from which the same statuses and reasons follow."""
    return hash((
        beat.digest,
        beat.haproxy,
        tuple((id, c.status) for id, c in beat.listeners.items()),
        tuple(beat.pools.items()),
        tuple((b, m, _state(s)) for b, states in beat.members.items() for m, s in states.items()),
    ))  # fmt: skip


def _state(state: wire.MemberState) -> tuple[str, ...]:
    if state.status.startswith("UP"):
        return ("UP",)
    return (state.status.split(" ")[0], state.check.lstrip("* "), state.text)  # "* ": a check is under way


def _chunks(values: list[T]) -> Iterator[list[T]]:
    return (values[i : i + _AT_ONCE] for i in range(0, len(values), _AT_ONCE))

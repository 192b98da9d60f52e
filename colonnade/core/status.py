"""Operating statuses, derived from what is wanted and what the amphorae last said. Nothing is remembered.

A pool's members are checked once for each listener that uses the pool, and by each amphora: the worst word counts,
for some client meets it. What no word covers is left out of the verdict: it stays as it was.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from colonnade.core import haproxy, reasons
from colonnade.model import Amphora, HealthMonitor, Listener, Member, Pool, Tree
from colonnade.types import AmphoraStatus, OperatingStatus, ProvisioningStatus
from colonnade.wire import Heartbeat, MemberState

Key = tuple[str, str]  # kind of object as in events, id
_S = OperatingStatus
_GONE = (AmphoraStatus.PENDING_DELETE, AmphoraStatus.DELETED)
_WORST = {s: n for n, s in enumerate((_S.ERROR, _S.DEGRADED, _S.OFFLINE, _S.DRAINING, _S.NO_MONITOR, _S.ONLINE))}


@dataclass(frozen=True, slots=True)
class Verdict:
    """An operating status; whatever is not well has a reason."""

    status: OperatingStatus
    reason: str | None = None


_ONLINE = Verdict(_S.ONLINE)
_DOWN = Verdict(_S.OFFLINE, reasons.DOWN)


@dataclass(frozen=True, slots=True)
class _Said:
    """What the amphorae that count said. ``whole``: about the very configuration that is settled, all of it."""

    beats: tuple[Heartbeat, ...]
    whole: bool


def judge(tree: Tree, beats: Mapping[str, Heartbeat], silent: Mapping[str, float]) -> dict[Key, Verdict]:
    """The status of each object that something is known about.

    ``beats``: the last heartbeat of each amphora that is not silent; ``silent``: seconds since the last word of those
    that are.
    """
    said = _said(tree, beats)
    verdicts: dict[Key, Verdict] = {}
    for kind, things in (
        ("healthmonitor", tree.health_monitors), ("l7policy", tree.l7policies), ("l7rule", tree.l7rules),
    ):  # fmt: skip
        for thing in (x for x in things if not x.going):
            verdicts[kind, thing.id] = _ONLINE if thing.admin_state_up else _DOWN
    if said.beats:
        verdicts.update(_judged(tree, said))
    whole = _load_balancer(tree, said, silent, verdicts)
    if whole:
        verdicts["loadbalancer", tree.load_balancer.id] = whole
    return verdicts


def _said(tree: Tree, beats: Mapping[str, Heartbeat]) -> _Said:
    """Only amphorae that serve count; while there is none yet, those that come up do."""
    heard = [a for a in tree.amphorae if a.id in beats and a.status not in _GONE]
    count = [a for a in heard if a.status is AmphoraStatus.ALLOCATED] or heard
    settled = tree.load_balancer.provisioning_status is ProvisioningStatus.ACTIVE
    return _Said(tuple(beats[a.id] for a in count), settled and all(_current(a, beats[a.id]) for a in count))


def _current(amphora: Amphora, beat: Heartbeat) -> bool:
    return beat.digest is not None and beat.digest == amphora.digest


def _judged(tree: Tree, said: _Said) -> Iterator[tuple[Key, Verdict]]:
    rendered: dict[str, list[Listener]] = {}
    for listener, pool in haproxy.used(tree):
        rendered.setdefault(pool.id, []).append(listener)
    up = {listener.id for listener, _ in haproxy.served(tree)}
    for listener in (x for x in tree.listeners if not x.going):
        verdict = _listener(tree, listener, said) if listener.id in up else _idle(tree, listener)
        if verdict:
            yield ("listener", listener.id), verdict
    for pool in (x for x in tree.pools if not x.going):
        yield from _pool_and_members(tree, pool, rendered.get(pool.id, []), said)


def _idle(tree: Tree, thing: Listener | Pool | Member) -> Verdict:
    """Of what is not rendered."""
    if not thing.admin_state_up:
        return _DOWN
    if not tree.load_balancer.admin_state_up:
        return Verdict(_S.OFFLINE, "The load balancer is administratively down (admin_state_up is false).")
    if isinstance(thing, Member):
        return Verdict(_S.OFFLINE, "Its pool gets no requests: the pool is down, or no listener that is up uses it.")
    return Verdict(
        _S.OFFLINE,
        "No listener that is up uses it: make it some listener's default pool, or send requests to it by an L7 policy.",
    )


def _listener(tree: Tree, listener: Listener, said: _Said) -> Verdict | None:
    verdicts = []
    for beat in said.beats:
        counters = beat.listeners.get(listener.id)
        if beat.haproxy == "failing" and listener.protocol not in haproxy.DATAGRAMS:
            verdicts.append(Verdict(_S.ERROR, f"HAProxy does not run on amphora {beat.amphora_id}; it is being tried."))
        elif counters is None and said.whole:
            verdicts.append(Verdict(_S.ERROR, f"Amphora {beat.amphora_id} does not serve it. A failover renews it."))
        elif counters is not None and counters.status == "FULL":
            verdicts.append(Verdict(_S.DEGRADED, reasons.listener_full(counters.active_connections)))
        elif counters is not None:
            verdicts.append(_ONLINE)
    return _worst(verdicts)


def _pool_and_members(
    tree: Tree, pool: Pool, listeners: Sequence[Listener], said: _Said
) -> Iterator[tuple[Key, Verdict]]:
    monitor = haproxy.monitor_of(tree, pool)
    members = [m for m in tree.members if m.pool_id == pool.id and not m.going]
    backends = [f"{pool.id}:{x.id}" for x in listeners]
    verdicts: dict[str, Verdict] = {}
    for member in members:
        states = [b.members[name][member.id] for b in said.beats for name in backends if member.id in
                  b.members.get(name, {})]  # fmt: skip
        verdict = _member(member, monitor, states) if listeners else _unused(tree, member, monitor)
        if verdict:
            verdicts[member.id] = verdict
            yield ("member", member.id), verdict
    if not listeners:
        yield ("pool", pool.id), _idle(tree, pool)
        return
    words = [b.pools[name] for b in said.beats for name in backends if name in b.pools]
    pool_verdict = _pool(pool, words, members, verdicts)
    if not words and said.whole:
        pool_verdict = Verdict(_S.OFFLINE, "No amphora serves it.")
    if pool_verdict:
        yield ("pool", pool.id), pool_verdict


def _unused(tree: Tree, member: Member, monitor: HealthMonitor | None) -> Verdict:
    if member.admin_state_up and monitor is None:
        return Verdict(_S.NO_MONITOR)
    return _idle(tree, member)


def _member(member: Member, monitor: HealthMonitor | None, states: Sequence[MemberState]) -> Verdict | None:
    """Admin state first, then a failing check, then drain; a word about another wish (an old bundle) says nothing."""
    if not member.admin_state_up:
        return _DOWN
    verdicts = []
    for state in states:
        kind = state.status.split(" ")[0].upper()
        if kind == "DOWN" and monitor:
            verdicts.append(Verdict(_S.ERROR, reasons.check(member, monitor, state)))
        elif kind in ("DRAIN", "UP", "NO", "NOLB") and member.weight == 0:
            verdicts.append(Verdict(_S.DRAINING, reasons.DRAINED))
        elif kind == "DRAIN":
            verdicts.append(Verdict(_S.DRAINING, "The amphora lets it finish what it has."))
        elif kind == "UP" and monitor:
            verdicts.append(_ONLINE)
    if verdicts:
        return _worst(verdicts)
    if monitor is None:
        return Verdict(_S.DRAINING, reasons.DRAINED) if member.weight == 0 else Verdict(_S.NO_MONITOR)
    return None


def _pool(
    pool: Pool, words: Sequence[str], members: Sequence[Member], verdicts: Mapping[str, Verdict]
) -> Verdict | None:
    failing = [verdicts[m.id].reason or "" for m in members if m.id in verdicts and verdicts[m.id].status is _S.ERROR]
    if "DOWN" in (w.split(" ")[0].upper() for w in words) and members:
        drained = sum(1 for m in members if m.admin_state_up and m.weight == 0)
        off = sum(1 for m in members if not m.admin_state_up)
        return Verdict(_S.ERROR, reasons.pool_down(failing, drained, off))
    if failing and words:
        return Verdict(_S.DEGRADED, reasons.pool_degraded(failing, len(members)))
    return _ONLINE if words else None


def _load_balancer(
    tree: Tree, said: _Said, silent: Mapping[str, float], verdicts: Mapping[Key, Verdict]
) -> Verdict | None:
    if not tree.load_balancer.admin_state_up:
        return _DOWN
    serving = [a.id for a in tree.amphorae if a.status is AmphoraStatus.ALLOCATED]
    mute = [a for a in serving if a in silent]
    if mute:
        lost = len(mute) == len(serving)
        return Verdict(_S.ERROR if lost else _S.DEGRADED, reasons.silent(mute[0], silent[mute[0]]))
    if not said.beats:
        return None
    used = {("listener", listener.id) for listener, _ in haproxy.served(tree)}
    used |= {("pool", pool.id) for _, pool in haproxy.used(tree)}
    words = {"listener": "Listener", "pool": "Pool"}
    bad = [
        Verdict(v.status, f"{words[key[0]]} {called(tree, key)}: {v.reason}")
        for key, v in verdicts.items() if key in used and v.status in (_S.ERROR, _S.DEGRADED)
    ]  # fmt: skip
    return _worst(bad) or _ONLINE


def called(tree: Tree, key: Key) -> str:
    """The name of a listener or a pool, or else its id."""
    things: Iterable[Listener | Pool] = tree.listeners if key[0] == "listener" else tree.pools
    return next((t.name or t.id for t in things if t.id == key[1]), key[1])


def _worst(verdicts: Sequence[Verdict]) -> Verdict | None:
    return min(verdicts, key=lambda v: _WORST[v.status], default=None)

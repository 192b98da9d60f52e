"""Health checks of UDP and SCTP members: one thread and one epoll for all amphorae. Nothing waits for a member."""

import contextlib
import heapq
import itertools
import logging
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from colonnade.agent import namespaces
from colonnade.agent.probes import PROBES, Outcome, Probe
from colonnade.datagrams import Monitor

log = logging.getLogger(__name__)
_MOST_TAKEN_UP = 64  # checks begun or given up before others' answers are looked at

_NOT_YET = Outcome(None, "INI")

Key = tuple[str, str]  # pool id, member id


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """Whom to check, and how."""

    address: str
    port: int
    monitor: Monitor


@dataclass(frozen=True, kw_only=True, slots=True)
class Health:
    """What checks have found. As HAProxy does: the first result counts at once, later ones when there are enough in a
    row. ``streak``: results so far that speak against the present state."""

    up: bool = True
    known: bool = False
    streak: int = 0
    outcome: Outcome = _NOT_YET


def heard(health: Health, outcome: Outcome, monitor: Monitor) -> Health:
    """The health after one more check; pure."""
    if outcome.well is None:
        return replace(health, outcome=outcome)
    if not health.known:
        return Health(up=outcome.well, known=True, outcome=outcome)
    if outcome.well is health.up:
        return replace(health, streak=0, outcome=outcome)
    streak = health.streak + 1
    if streak >= (monitor.fall if health.up else monitor.rise):
        return Health(up=outcome.well, known=True, outcome=outcome)
    return replace(health, streak=streak, outcome=outcome)


@dataclass(slots=True)
class _Checked:
    """One member under check."""

    group: "Group"
    key: Key
    target: Target
    probe: Probe
    health: Health
    serial: int = 0  # of the check that is under way, or of the one that is due; others in the heap are old
    under_way: bool = False
    fd: int = -1
    begun: float = 0.0
    gone: bool = False


@dataclass(slots=True)
class Group:
    """The members of one amphora. ``changed`` is called from the checks' thread; it may not wait."""

    namespace: str
    changed: Callable[[], None]
    members: dict[Key, _Checked] = field(default_factory=dict)
    ripe: deque[tuple[int, _Checked]] = field(default_factory=deque)  # what is due, with its serial; oldest first


class Checks:
    """Safe to call from any thread. Of what is due each group gets one check taken up in its turn: when there are more
    than can be made, those of a group with few members are in time, and those of the others wait."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._epoll = select.epoll()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._bell, select.EPOLLIN)
        self._due: list[tuple[float, int, _Checked]] = []
        self._ripe: deque[Group] = deque()  # groups with something due; the next one first
        self._serials = itertools.count(1)
        self._waiting: dict[int, _Checked] = {}  # by descriptor
        self._started = False

    def watch(self, group: Group, targets: Mapping[Key, Target], down: frozenset[Key] = frozenset()) -> None:
        """Check exactly these members of the group from now on. Who is checked as before keeps its health; of the new
        ones those in ``down`` begin so, the others count as well until their first result."""
        with self._lock:
            for key in [k for k, c in group.members.items() if targets.get(k) != c.target]:
                self._forget(group.members.pop(key))
            for key, target in targets.items():
                if key not in group.members:
                    probe = PROBES[target.monitor.kind](target.address, target.port, target.monitor)
                    health = Health(up=key not in down, known=key in down)
                    checked = _Checked(group=group, key=key, target=target, probe=probe, health=health)
                    group.members[key] = checked
                    self._plan(checked, 0.0)
            if targets and not self._started:
                self._started = True
                threading.Thread(target=self._run, name="checks", daemon=True).start()
        os.eventfd_write(self._bell, 1)

    def health(self, group: Group) -> dict[Key, Health]:
        """What is known of the group's members."""
        with self._lock:
            return {key: checked.health for key, checked in group.members.items()}

    def _plan(self, checked: _Checked, pause: float) -> None:
        checked.serial = next(self._serials)
        heapq.heappush(self._due, (time.monotonic() + pause, checked.serial, checked))

    def _forget(self, checked: _Checked) -> None:
        checked.gone = True
        self._end(checked)
        checked.probe.close()

    def _end(self, checked: _Checked) -> None:
        if checked.fd >= 0:
            self._waiting.pop(checked.fd, None)
            with contextlib.suppress(OSError, ValueError):
                self._epoll.unregister(checked.fd)
            checked.fd = -1

    def _run(self) -> None:
        while True:
            try:
                events = self._epoll.poll(self._pause())
                changed = self._turn(events)
                for group in changed:
                    group.changed()
            except Exception:
                log.exception("a turn of the health checks failed")
                time.sleep(0.1)

    def _pause(self) -> float:
        with self._lock:
            if self._ripe:
                return 0.0
            return min(60.0, max(0.0, self._due[0][0] - time.monotonic())) if self._due else 60.0

    def _turn(self, events: list[tuple[int, int]]) -> list[Group]:
        changed: dict[int, Group] = {}
        with self._lock:
            for fd, _ in events:
                if fd == self._bell:
                    with contextlib.suppress(BlockingIOError):
                        os.eventfd_read(self._bell)
                elif checked := self._waiting.get(fd):
                    self._after(checked, checked.probe.ready(), changed)
            starting: dict[str, list[_Checked]] = {}
            for checked in self._taken_up():
                if checked.under_way:
                    self._after(checked, checked.probe.late(), changed)
                else:
                    starting.setdefault(checked.group.namespace, []).append(checked)
            for namespace, those in starting.items():
                self._begin(namespace, those, changed)
        return list(changed.values())

    def _taken_up(self) -> list[_Checked]:
        """The next ones that are due, the groups in turn."""
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            _, serial, checked = heapq.heappop(self._due)
            if not checked.group.ripe:
                self._ripe.append(checked.group)
            checked.group.ripe.append((serial, checked))
        found: list[_Checked] = []
        while self._ripe and len(found) < _MOST_TAKEN_UP:
            group = self._ripe.popleft()
            serial, checked = group.ripe.popleft()
            if group.ripe:
                self._ripe.append(group)
            if not checked.gone and serial == checked.serial:
                found.append(checked)
        return found

    def _begin(self, namespace: str, those: list[_Checked], changed: dict[int, Group]) -> None:
        try:
            with namespaces.inside(namespace):
                first = [(checked, checked.probe.begin()) for checked in those]
        except OSError as e:
            first = [(checked, Outcome(None, "SOCKERR", str(e))) for checked in those]
        for checked, outcome in first:
            checked.under_way = True
            checked.begun = time.monotonic()
            self._plan(checked, checked.probe.patience)
            self._after(checked, outcome, changed)

    def _after(self, checked: _Checked, outcome: Outcome | None, changed: dict[int, Group]) -> None:
        """Go on with a check, or end it and plan the next."""
        probe = checked.probe
        if outcome is None and probe.socket is not None:
            self._end(checked)
            checked.fd = probe.socket.fileno()
            self._waiting[checked.fd] = checked
            self._epoll.register(checked.fd, probe.wants)
            return
        self._end(checked)
        probe.finish()
        checked.under_way = False
        left = checked.begun + checked.target.monitor.delay - time.monotonic()
        self._plan(checked, max(left, 0.05))
        before = checked.health
        checked.health = heard(before, outcome or Outcome(None, "SOCKERR"), checked.target.monitor)
        # Told even when only the sentence changed: it is for the member's owner.
        if (before.up, before.known, before.outcome.code) != (
            checked.health.up, checked.health.known, checked.health.outcome.code,
        ):  # fmt: skip
            changed[id(checked.group)] = checked.group

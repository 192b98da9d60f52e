"""Housekeeping: events that are old, and what nobody owns any more. Any number of housekeepers do no harm.

The loop leaves nothing behind when it is let finish. What a program killed at the wrong moment left is found here: a
thing without an owner goes when it has had none for ``orphan_age_s``.
"""

import logging
import re
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable

from sqlalchemy import Connection

from colonnade.clock import Clock
from colonnade.drivers import Compute, Doorbell, Network, SecretStore
from colonnade.errors import Broken, Later
from colonnade.housekeeping.watch import Watch
from colonnade.model import Amphora
from colonnade.settings import Settings
from colonnade.store import amphorae, events, handover, orphans, owner, work
from colonnade.store.store import Store

log = logging.getLogger("colonnade.housekeeping")

_AT_ONCE = 500  # rows in one transaction
_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_INTERRUPTED = "A change was interrupted while it was handed to the provider: what became of it is not known."
_SILENT = "The provider has accepted a change, and has not reported what became of it in time."
_ASK_AGAIN = "Ask for the change again, or delete the load balancer. A report of the provider settles it, too."
_OF_AMPHORA = re.compile(f"octavia-lb-vrrp-({_UUID})-.*")
_OF_BALANCER = re.compile(f"octavia-lb-({_UUID})")


class HouseKeeper:
    """One housekeeping program. ``removed`` counts by kind what it has taken away since its start."""

    def __init__(
        self, *, settings: Settings, store: Store, network: Network, compute: Compute, doorbell: Doorbell, clock: Clock,
        secrets: SecretStore | None = None,
    ) -> None:  # fmt: skip
        self._settings = settings.house_keeping
        self._store, self._network, self._compute = store, network, compute
        self._doorbell, self._clock = doorbell, clock
        self._since: dict[tuple[str, str], float] = {}  # (kind, id) -> when it was first seen without an owner
        self._watch = secrets and Watch(
            store=store, secrets=secrets, doorbell=doorbell, clock=clock,
            warning_days=[int(d) for d in self._settings.certificate_warning_days],
        )  # fmt: skip
        self._checked_at = float("-inf")
        self.removed: Counter[str] = Counter()

    def run(self, stop: threading.Event) -> None:
        """Sweep every ``cleanup_interval_s`` until ``stop`` is set."""
        log.info("The housekeeper is up.")
        while not stop.is_set():
            self.sweep()
            stop.wait(self._settings.cleanup_interval_s)

    def sweep(self) -> None:
        """Every duty once. One that fails holds up no other."""
        duties: tuple[Callable[[], None], ...] = (
            self._purge_events, self._places, self._amphorae, self._ports, self._rows, self._neglected,
            self._certificates, self._handovers,
        )  # fmt: skip
        for duty in duties:
            try:
                duty()
            except (Later, Broken) as e:
                log.warning("A sweep is put off: %s", e, extra={"duty": duty.__name__})
            except Exception:  # the database may be away; the next sweep goes on
                log.exception("A sweep failed; it is tried again.", extra={"duty": duty.__name__})

    def _purge_events(self) -> None:
        before = self._clock.now() - self._settings.event_expiry_age_s
        more = 1
        while more:
            with self._store.write() as conn:
                more = events.purge_old(conn, before)
            self._count("events", more)
        with self._store.read() as conn:
            crowded = events.crowded(conn, self._settings.events_kept)
        for lb_id in crowded:
            with self._store.write() as conn:
                self._count("events", events.keep_newest(conn, lb_id, self._settings.events_kept))

    def _places(self) -> None:
        """Places before rows: an amphora's row is written before its place is made, so what is without one stays so."""
        there = self._compute.names()
        with self._store.read() as conn:
            known = orphans.amphora_ids(conn)
        for id in self._ripe("place", set(there) - known):
            self._compute.remove(id, None)
            self._say("place", id)

    def _amphorae(self) -> None:
        with self._store.read() as conn:
            lost = orphans.lost_amphorae(conn)
        for id in self._ripe("amphora", lost):
            self._remove_amphora(lost[id])
            self._say("amphora", id)

    def _remove_amphora(self, amphora: Amphora) -> None:
        self._compute.remove(amphora.id, amphora.agent_url)
        for port in self._network.plugged(amphora.id):
            self._network.release(port.id)
        with self._store.write() as conn:
            amphorae.drop(conn, amphora.id)

    def _ports(self) -> None:
        ours = {p.id: p.name for p in self._network.ours()}
        with self._store.read() as conn:
            boots, balancers = orphans.amphora_ids(conn), orphans.load_balancer_ids(conn)
        lost = [
            id
            for id, name in ours.items()
            if _without(_OF_AMPHORA, name, boots) or _without(_OF_BALANCER, name, balancers)
        ]
        for id in self._ripe("port", lost):
            self._network.release(id)
            self._say("port", id)

    def _rows(self) -> None:
        with self._store.read() as conn:
            tags, statistics, pointless = orphans.tagged(conn), orphans.counted(conn), orphans.pointless(conn)
        self._drop("tags", tags, orphans.drop_tags)
        self._drop("statistics", statistics, orphans.drop_statistics)
        self._drop("work", pointless, orphans.drop_work)

    def _drop(self, kind: str, ids: Collection[str], drop: Callable[[Connection, Iterable[str]], int]) -> None:
        ripe = self._ripe(kind, ids)
        for i in range(0, len(ripe), _AT_ONCE):
            with self._store.write() as conn:
                drop(conn, ripe[i : i + _AT_ONCE])
            for id in ripe[i : i + _AT_ONCE]:
                self._say(kind, id)

    def _neglected(self) -> None:
        """No write leaves a load balancer unwell with nothing due; should one be so, the loop is told."""
        with self._store.read() as conn:
            idle, unledgered = orphans.idle(conn), orphans.unledgered(conn)
        for lb_id in self._ripe("neglected", [*idle, *unledgered]):
            with self._store.write() as conn:
                if lb_id in unledgered:
                    work.touch(conn, lb_id, self._clock.now())
                else:
                    work.nudge(conn, lb_id, self._clock.now())
            self._doorbell.ring(lb_id)
            log.warning("Nothing was due for a load balancer that is not well; it is now.", extra={"lb": lb_id})

    def _handovers(self) -> None:
        """Changes that were handed to a third party's provider, and of which nobody will hear any more."""
        now = self._clock.now()
        machine = owner.machine()
        with self._store.read() as conn:
            dead = [hold for hold in work.held(conn, now) if owner.dead(hold.owner, machine, owner.started)]
        if dead:
            with self._store.write() as conn:
                for hold in dead:
                    work.release(conn, hold)
        with self._store.read() as conn:
            lost = {
                **dict.fromkeys(handover.silent(conn, now), _SILENT),
                **dict.fromkeys(handover.interrupted(conn, now), _INTERRUPTED),
            }
        for lb_id, sentence in lost.items():
            with self._store.write() as conn:
                project_id = handover.give_up(conn, lb_id, sentence, now)
                if project_id is not None:
                    events.add(conn, lb_id, project_id, now, "failed", ("loadbalancer", lb_id), sentence, _ASK_AGAIN)
                    log.warning("A provider's load balancer is in ERROR: %s", sentence, extra={"lb": lb_id})

    def _certificates(self) -> None:
        now = self._clock.monotonic()
        if self._watch and now - self._checked_at >= self._settings.secret_check_interval_s:
            self._checked_at = now
            self._watch.changes()
            self._watch.endings()
            self._watch.leftovers()

    def _ripe(self, kind: str, ownerless: Collection[str]) -> list[str]:
        """Those of them that have had no owner for long enough; remembers since when the others have none."""
        now = self._clock.monotonic()
        found = {(kind, id): self._since.get((kind, id), now) for id in ownerless}
        self._since = {key: at for key, at in self._since.items() if key[0] != kind} | found
        return sorted(id for (_, id), since in found.items() if now - since >= self._settings.orphan_age_s)

    def _say(self, kind: str, id: str) -> None:
        self._count(kind, 1)
        log.warning("Removed what nobody owned.", extra={"kind": kind, "object": id})

    def _count(self, kind: str, number: int) -> None:
        self.removed[kind] += number


def _without(pattern: re.Pattern[str], name: str, owners: set[str]) -> bool:
    match = pattern.fullmatch(name)
    return match is not None and match[1] not in owners

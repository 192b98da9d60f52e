"""The controller worker: finds what is due, takes it by lease, and gives each load balancer a turn.

Any number of workers may run against one database. The leases of one that dies are given back by the others of its
machine, or by its successor, and run out where there is none.
"""

import logging
import random
import socket
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

from sqlalchemy import Connection

from colonnade import wire
from colonnade.clock import Clock
from colonnade.core import bundle
from colonnade.drivers import AmphoraLink, Compute, Doorbell, Network, SecretStore
from colonnade.errors import Broken, Later
from colonnade.model import Amphora, NetworkPort, Tree
from colonnade.settings import Settings
from colonnade.store import owner, work
from colonnade.store.store import Store
from colonnade.worker.apply import Hands
from colonnade.worker.inbox import Inbox
from colonnade.worker.observe import Render
from colonnade.worker.turn import Patience, Turn

log = logging.getLogger("colonnade.worker")

FABRIC = "fabric"
_BATCH = 500  # subjects that one sweep hands out
_REPORT_S = 60.0
_SMALLEST_WAIT_S = 0.5  # how late a thread may notice that the program is to stop


class FabricPusher(Protocol):
    """The networks of a stand-alone host."""

    def desired(self, conn: Connection) -> wire.Fabric:
        """What they should be, from the database."""
        ...

    def push(self, fabric: wire.Fabric) -> str:
        """Make them so. Raises Later or Broken."""
        ...


class Worker:
    """One worker program. ``render`` makes bundles; ``rng`` spreads retries."""

    def __init__(
        self, *, settings: Settings, store: Store, network: Network, compute: Compute, link: AmphoraLink,
        doorbell: Doorbell, clock: Clock, fabric: FabricPusher | None, render: Render | None = None,
        rng: random.Random | None = None, secrets: SecretStore | None = None,
    ) -> None:  # fmt: skip
        self._settings = settings.controller_worker
        self._store, self._network, self._compute, self._link = store, network, compute, link
        self._doorbell, self._clock, self._fabric, self._secrets = doorbell, clock, fabric, secrets
        self._render = render or _renderer(settings)
        host = settings.default.host or socket.gethostname()
        self.owner, self._machine = owner.name(host), owner.machine()
        self._patience = Patience(
            pending_limit_s=self._settings.pending_limit_s, retry_longest_s=self._settings.retry_longest_s,
            chance=(rng or random.Random()).random,  # noqa: S311 - no secret
        )  # fmt: skip
        self._inbox = Inbox(clock)
        self._stop = threading.Event()
        self._numbers: Counter[str] = Counter()
        self._turning: Counter[str] = Counter()  # subjects of the turns under way
        self._counting = threading.Lock()

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set; turns under way end after their current step."""
        self._stop = stop
        threads = [
            threading.Thread(target=self._serve, name=f"worker-{n}", daemon=True) for n in range(self._settings.threads)
        ]
        for thread in threads:
            thread.start()
        log.info("The worker is up.", extra={"owner": self.owner, "threads": len(threads)})
        self._dispatch()
        for thread in threads:
            thread.join(self._settings.lease_s)

    def turn(self, subject: str) -> bool:
        """One turn, if the subject is due and free; whether it was. Raises what the database raises."""
        self._count_turning(subject, 1)
        try:
            return self._turn(subject)
        finally:
            self._count_turning(subject, -1)

    def _turn(self, subject: str) -> bool:
        with self._store.write() as conn:
            lease = work.claim(conn, subject, self.owner, self._clock.now(), self._settings.lease_s)
        if lease is None:
            return False
        began = self._clock.monotonic()
        try:
            due_at = self._fabric_turn(lease) if subject == FABRIC else self._balancer_turn(lease)
            if due_at is not None:
                self._inbox.offer(subject, due_at)
        except work.Lost:
            self._lost(lease)
        self._count("turns")
        log.debug("turn", extra={"lb": subject, "epoch": lease.epoch, "seconds": self._clock.monotonic() - began})
        return True

    def sweep(self) -> list[str]:
        """What is due and free, with or without a ring. First, leases that nobody works under are given back."""
        with self._store.read() as conn:
            held = work.held(conn, self._clock.now())
        void = [hold for hold in held if self._void(hold)]
        if void:
            with self._store.write() as conn:
                freed = [hold.subject for hold in void if work.release(conn, hold)]
            log.warning("Leases without a worker were given back.", extra={"leases": len(freed)})
        with self._store.read() as conn:
            return work.due(conn, self._clock.now(), _BATCH)

    def _void(self, hold: work.Hold) -> bool:
        """A dead worker's; or ours, when the turn broke off because the database was away. A turn is noted before it
        claims and until it has ended, so what we hold without one is not used any more."""
        if hold.owner == self.owner:
            with self._counting:
                return not self._turning[hold.subject]
        return owner.dead(hold.owner, self._machine, owner.started)

    @property
    def numbers(self) -> dict[str, int]:
        """Turns, lost leases, and steps by kind and result, since the start."""
        with self._counting:
            return dict(self._numbers)

    def _dispatch(self) -> None:
        clock, interval = self._clock, self._settings.sweep_interval_s
        swept = reported = clock.monotonic() - interval
        while not self._stop.is_set():
            try:
                for subject in self._doorbell.wait(min(interval, _SMALLEST_WAIT_S)):
                    self._inbox.offer(subject)
                if clock.monotonic() >= swept + interval:
                    swept = clock.monotonic()
                    for subject in self.sweep():
                        self._inbox.offer(subject)
                if clock.monotonic() >= reported + _REPORT_S:
                    reported = clock.monotonic()
                    self._report()
            except Exception:  # the database may be away: the next sweep finds what this one missed
                log.exception("The sweep failed; it is tried again.")
                clock.sleep(min(interval, _SMALLEST_WAIT_S))

    def _serve(self) -> None:
        while not self._stop.is_set():
            subject = self._inbox.take(_SMALLEST_WAIT_S)
            if subject is None:
                continue
            try:
                self.turn(subject)
            except Exception:  # the sweep gives the lease back and finds the subject again
                log.exception("A turn failed outside its own care; it is tried again.", extra={"lb": subject})
            finally:
                self._inbox.done(subject)

    def _balancer_turn(self, lease: work.Lease) -> float | None:
        hands = Hands(
            store=self._store, network=self._network, compute=self._compute, link=self._link, clock=self._clock,
            lease=lease, lease_s=self._settings.lease_s, fabric_first=self._fabric_first(), secrets=self._secrets,
        )  # fmt: skip
        turn = Turn(
            hands=hands, render=self._render, patience=self._patience,
            count=lambda kind, result: self._count(f"{kind}.{result}"), stopping=self._stop.is_set,
            number=self.numbers.get("turns", 0) + 1,
        )  # fmt: skip
        turn.run()
        return turn.due_at

    def _fabric_first(self) -> Callable[[], bool]:
        """For one turn: brings the fabric up to date, once; a network may have been made a moment ago."""
        tries = [1] if self._fabric else []

        def refresh() -> bool:
            if not tries:
                return False
            tries.clear()
            with self._store.write() as conn:
                work.nudge(conn, FABRIC, self._clock.now())
            return self.turn(FABRIC)

        return refresh

    def _fabric_turn(self, lease: work.Lease) -> float | None:
        keys = {"lb": FABRIC, "epoch": lease.epoch}
        with self._store.read() as conn:
            generation = work.generation(conn, FABRIC)
            wanted = self._fabric.desired(conn) if self._fabric else None
        try:
            if self._fabric and wanted is not None:
                digest = self._fabric.push(wanted)
                log.info("Pushed the fabric.", extra={**keys, "bundle": digest[:12]})
        except (Later, Broken) as e:
            pause = work.pause(lease.attempts, self._settings.retry_longest_s, self._patience.chance())
            log.warning("The fabric is not as wanted: %s", e, extra=keys)
            with self._store.write() as conn:
                return work.fail(conn, lease, generation, self._clock.now(), pause)
        with self._store.write() as conn:
            if work.settle(conn, lease, generation):
                return None
            now = self._clock.now()
            work.postpone(conn, lease, now, 0)
            return now

    def _lost(self, lease: work.Lease) -> None:
        """Our last effect may have come after the new owner's look: have the world looked at once more."""
        self._count("lost")
        keys = {"lb": lease.subject, "epoch": lease.epoch}
        log.warning("Another worker has taken over; what this turn still wanted is void.", extra=keys)
        with self._store.write() as conn:
            work.disturb(conn, lease.subject, self._clock.now())
        self._doorbell.ring(lease.subject)

    def _count(self, what: str) -> None:
        with self._counting:
            self._numbers[what] += 1

    def _count_turning(self, subject: str, change: int) -> None:
        with self._counting:
            self._turning[subject] += change
            if not self._turning[subject]:
                del self._turning[subject]

    def _report(self) -> None:
        with self._store.read() as conn:
            waiting = work.oldest(conn, self._clock.now())
        log.info("Numbers.", extra={**self.numbers, "oldest_dirty_s": round(waiting, 3)})


def _renderer(settings: Settings) -> Render:
    options = bundle.RenderOptions(
        heartbeat_targets=settings.heartbeat_targets,
        heartbeat_interval=settings.health_manager.heartbeat_interval_s,
        default_connection_limit=settings.haproxy_amphora.default_connection_limit,
        hard_stop_after_s=settings.haproxy_amphora.hard_stop_after_s,
    )

    def render(tree: Tree, amphora: Amphora, ports: Sequence[NetworkPort], vip: NetworkPort) -> wire.Bundle:
        # SINGLE: whoever is pushed serves. The plan sees to it that an old one is not pushed after a new one.
        return bundle.render(tree, amphora, ports, vip, options=options, serving=True)

    return render

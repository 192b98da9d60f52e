"""Takes signed heartbeats and hands the last good one of each amphora to the judge.

A datagram counts once: its signature is its amphora's own, its time is near, its sequence grows within an epoch, and
another epoch comes only with a newer time. Memory is bounded by the number of amphorae; a heartbeat that comes before
the last one was looked at replaces it (its counters are sums since the epoch began, so nothing is lost).
"""

import logging
import math
import socket
import threading
from collections.abc import Mapping

from sqlalchemy.exc import SQLAlchemyError

from colonnade import wire
from colonnade.clock import Clock
from colonnade.drivers import Doorbell
from colonnade.health_manager.judge import Judge
from colonnade.settings import Settings
from colonnade.store.store import Store

log = logging.getLogger(__name__)

_STRANGERS = 1000  # datagrams kept until their amphora's key is looked up
_ASK_AGAIN_S = 10.0
_BUFFER_BYTES = 4 * 1024 * 1024  # of the kernel: what arrives while a batch is written


class Inbox:
    """The last good heartbeat of each amphora. Safe to use from many threads; never touches the database."""

    def __init__(self, skew_s: float) -> None:
        self._skew_s = skew_s
        self._lock = threading.Lock()
        self._keys: dict[str, bytes] = {}
        self._last: dict[str, wire.Heartbeat] = {}
        self._fresh: dict[str, wire.Heartbeat] = {}
        self._waiting: dict[str, bytes] = {}
        self._asked: dict[str, float] = {}
        self._off: set[str] = set()  # whose clock was complained about

    def hear(self, datagram: bytes, now: float) -> None:
        """Take a datagram from anybody."""
        claimed = wire.sender(datagram)
        if claimed is None:
            return
        key = self._keys.get(claimed)
        beat = wire.unpack(datagram, key) if key else None
        with self._lock:
            if beat is not None:
                self._take_in(beat, now)
            elif now - self._asked.get(claimed, 0.0) >= _ASK_AGAIN_S and len(self._waiting) < _STRANGERS:
                self._waiting[claimed] = datagram

    def strangers(self) -> list[str]:
        """Amphorae that sent something which no known key fits."""
        with self._lock:
            return list(self._waiting)

    def learn(self, keys: Mapping[str, bytes], asked: list[str], now: float) -> None:
        """The keys found for the strangers ``asked`` about; their datagrams are looked at again."""
        with self._lock:
            self._asked = {k: at for k, at in self._asked.items() if now - at < _ASK_AGAIN_S} | dict.fromkeys(
                asked, now
            )
            self._keys.update(keys)
            again = [d for d in (self._waiting.pop(id, None) for id in asked) if d is not None]
        for datagram in again:
            self.hear(datagram, now)

    def forget(self, amphora_ids: list[str]) -> None:
        """These amphorae are no more."""
        with self._lock:
            for id in amphora_ids:
                for book in (self._keys, self._last, self._fresh):
                    book.pop(id, None)
                self._off.discard(id)

    def take(self) -> dict[str, wire.Heartbeat]:
        """What came since the last call, the newest of each amphora."""
        with self._lock:
            fresh, self._fresh = self._fresh, {}
        return fresh

    def _take_in(self, beat: wire.Heartbeat, now: float) -> None:
        if abs(beat.time - now) > self._skew_s:
            if beat.amphora_id not in self._off:
                self._off.add(beat.amphora_id)
                log.warning(
                    "A heartbeat's time is off by %.0f s: it is refused. Set the clocks, or it is a recorded one.",
                    beat.time - now, extra={"amphora": beat.amphora_id},
                )  # fmt: skip
            return
        last = self._last.get(beat.amphora_id)
        if last is None or _newer(beat, last):
            self._last[beat.amphora_id] = self._fresh[beat.amphora_id] = beat
            self._off.discard(beat.amphora_id)


def _newer(beat: wire.Heartbeat, last: wire.Heartbeat) -> bool:
    return beat.sequence > last.sequence if beat.epoch == last.epoch else beat.time > last.time


class HealthManager:
    """Receives on a socket that is bound at once (port 0 takes any); judges in ``run``."""

    def __init__(self, *, settings: Settings, store: Store, doorbell: Doorbell, clock: Clock) -> None:
        options = settings.health_manager
        self._pause_s = options.flush_interval_s
        self._store = store
        self._clock = clock
        self._inbox = Inbox(options.heartbeat_timeout_s)
        # Amphorae that are nowhere never say a word.
        patience_s = math.inf if settings.drivers.amphora == "noop" else options.heartbeat_timeout_s
        self._judge = Judge(store, doorbell, patience_s, clock.now())
        self._outage = False
        family = socket.AF_INET6 if ":" in options.bind_ip else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        self._socket.settimeout(0.5)
        self._socket.bind((options.bind_ip, options.bind_port))

    @property
    def address(self) -> str:
        """Where it receives, ip:port."""
        host, port = self._socket.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def run(self, stop: threading.Event) -> None:
        """Until ``stop`` is set."""
        log.info("The health manager is up.", extra={"heartbeats": self.address})
        ears = threading.Thread(target=self._listen, args=(stop,), name="heartbeats")
        ears.start()
        try:
            while not stop.wait(self._pause_s):
                self.turn()
        finally:
            ears.join()
            self._socket.close()

    def turn(self) -> None:
        """Judge what came. When the database is away everything waits in memory for the next turn."""
        now = self._clock.now()
        try:
            if asked := self._inbox.strangers():
                self._inbox.learn(self._judge.keys(asked), asked, now)
            self._judge.hear(self._inbox.take(), now)
            self._inbox.forget(self._judge.turn(now))
        except SQLAlchemyError as e:
            if not self._outage:
                log.error("The database is away; heartbeats are kept until it is back: %s", e)
            self._outage = True
            self._judge.pardon(now)
        except Exception:
            log.exception("A turn of the health manager failed; the next one tries again.")
        else:
            if self._outage:
                log.info("The database is back.")
            self._outage = False

    def _listen(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                datagram = self._socket.recv(wire.MAX_DATAGRAM)
            except TimeoutError:
                continue
            except OSError:
                log.exception("Receiving failed.")
                stop.wait(self._pause_s)
                continue
            try:
                self._inbox.hear(datagram, self._clock.now())
            except Exception:
                log.exception("A heartbeat could not be taken.")

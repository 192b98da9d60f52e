"""Certificates in use: one that changed behind its reference is deployed, one that is about to end is told of."""

import logging
from collections.abc import Sequence
from datetime import datetime

from colonnade.clock import Clock, utc
from colonnade.core import certificates
from colonnade.drivers import Doorbell, SecretStore
from colonnade.errors import Broken, Later
from colonnade.store import certificates as watched
from colonnade.store import events, orphans, work
from colonnade.store.certificates import Watched
from colonnade.store.store import Store

log = logging.getLogger("colonnade.housekeeping")

_NOUNS = {"certificate": "certificate", "authority": "certificate authority", "revocations": "revocation list"}


class Watch:
    """Looks at what the loop has noted of certificates. Any number of them do no harm."""

    def __init__(
        self, *, store: Store, secrets: SecretStore, doorbell: Doorbell, clock: Clock, warning_days: Sequence[int]
    ) -> None:  # fmt: skip
        self._store, self._secrets, self._doorbell, self._clock = store, secrets, doorbell, clock
        self._days = sorted({*warning_days, 0})

    def changes(self) -> None:
        """Have load balancers looked at whose secrets are not what they were."""
        with self._store.read() as conn:
            known = watched.every(conn)
        stale = {w.loadbalancer_id for project_id, _, w in known if self._digest(w, project_id) != w.digest}
        for lb_id in sorted(stale):
            with self._store.write() as conn:
                work.disturb(conn, lb_id, self._clock.now())
            self._doorbell.ring(lb_id)
            log.info("A secret changed.", extra={"lb": lb_id})

    def endings(self) -> None:
        """One event at each of the days before an end, and one at the end."""
        today = utc(self._clock.now())
        with self._store.read() as conn:
            known = watched.every(conn)
        for project_id, name, w in known:
            due = self._due(w, today)
            if due is None or w.until is None:
                continue
            with self._store.write() as conn:
                sentence, help = _warning(w, name, w.until, today)
                what = (w.object_type, w.object_id)
                events.add(conn, w.loadbalancer_id, project_id, self._clock.now(), "status", what, sentence, help)
                watched.warned(conn, w, due)
            log.warning("A certificate ends.", extra={"lb": w.loadbalancer_id, "object": w.object_id, "at": w.until})

    def leftovers(self) -> None:
        """Load balancers that are gone use nothing."""
        with self._store.read() as conn:
            gone = self._secrets.users() - orphans.load_balancer_ids(conn)
        for lb_id in sorted(gone):
            self._secrets.used(lb_id, ())

    def _digest(self, w: Watched, project_id: str) -> str | None:
        try:
            return certificates.digest(self._secrets.fetch(w.ref, project_id))
        except Broken:
            return None
        except Later:  # not known now: no reason to disturb what works
            return w.digest

    def _due(self, w: Watched, today: datetime) -> int | None:
        """The warning that is to be given now, if one is."""
        if w.until is None:
            return None
        left = (w.until - today).total_seconds() / 86400
        reached = [d for d in self._days if left <= d]
        if not reached or (w.warned_days is not None and w.warned_days <= reached[0]):
            return None
        return reached[0]


def _warning(w: Watched, name: str, until: datetime, today: datetime) -> tuple[str, str]:
    noun, at = _NOUNS[w.role], f"{until:%Y-%m-%d %H:%M} UTC"
    help = f"Store a new one and give its reference to {w.object_type} {name}, or replace the payload of {w.ref}."
    if until <= today:
        return f"The {noun} of {w.object_type} {name} ended on {at}: clients refuse it.", help
    days = (until - today).days
    left = f"{days} day{'s' if days != 1 else ''}" if days else "less than a day"
    return f"The {noun} of {w.object_type} {name} ends in {left}, on {at}.", help

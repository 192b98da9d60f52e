"""What is known of the certificates in use: for noticing that one changed behind its reference, or is about to end."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, bindparam, delete, func, insert, select, update

from colonnade.core.certificates import Known
from colonnade.store.tables import certificate, listener, load_balancer, pool


@dataclass(frozen=True, kw_only=True, slots=True)
class Watched:
    """One use of a reference by a listener or a pool."""

    loadbalancer_id: str
    object_id: str
    ref: str
    role: str
    object_type: str
    digest: str | None
    until: datetime | None
    problem: str | None
    warned_days: int | None  # the last warning that was given, in days before the end

    @property
    def known(self) -> tuple[str | None, datetime | None, str | None]:
        """What the loop has found out about it."""
        return self.digest, self.until, self.problem


_OF_BALANCER = select(certificate).where(certificate.c.loadbalancer_id == bindparam("id"))


def of(conn: Connection, lb_id: str) -> list[Watched]:
    """What is known of one load balancer's certificates."""
    return [Watched(**row) for row in conn.execute(_OF_BALANCER, {"id": lb_id}).mappings()]


def every(conn: Connection) -> list[tuple[str, str, Watched]]:
    """All there are, each with the project of its load balancer and what its object is called."""
    query = (
        select(
            load_balancer.c.project_id,
            func.coalesce(func.nullif(listener.c.name, ""), func.nullif(pool.c.name, ""), certificate.c.object_id),
            certificate,
        )
        .join(load_balancer, load_balancer.c.id == certificate.c.loadbalancer_id)
        .outerjoin(listener, listener.c.id == certificate.c.object_id)
        .outerjoin(pool, pool.c.id == certificate.c.object_id)
    )
    names = [c.name for c in certificate.c]
    return [(of, name, Watched(**dict(zip(names, rest, strict=True)))) for of, name, *rest in conn.execute(query)]


def note(conn: Connection, lb_id: str, before: Sequence[Watched], now: Sequence[Known]) -> list[Known]:
    """Write down what a turn has found; answers those that have a new problem. Warnings begin anew with each
    certificate."""
    old = {(w.object_id, w.ref, w.role): w for w in before}
    new = {(k.use.owner, k.use.ref, k.use.role): k for k in now}
    troubled = []
    for key in old.keys() - new.keys():
        conn.execute(delete(certificate).where(*_one(lb_id, *key)))
    for key, k in new.items():
        values = {"digest": k.digest, "until": k.until, "problem": k.problem}
        was = old.get(key)
        if was is None:
            own = {"loadbalancer_id": lb_id, "object_id": key[0], "ref": key[1], "role": key[2]}
            conn.execute(insert(certificate).values(**own, object_type=k.use.kind, **values))
        elif was.known != (k.digest, k.until, k.problem):
            told = {} if was.until == k.until else {"warned_days": None}
            conn.execute(update(certificate).where(*_one(lb_id, *key)).values(**values, **told))
        if k.problem and (was is None or was.problem != k.problem):
            troubled.append(k)
    return troubled


def warned(conn: Connection, watched: Watched, days: int) -> None:
    """The warning of so many days was given."""
    one = _one(watched.loadbalancer_id, watched.object_id, watched.ref, watched.role)
    conn.execute(update(certificate).where(*one).values(warned_days=days))


def _one(lb_id: str, object_id: str, ref: str, role: str) -> tuple[ColumnElement[bool], ...]:
    c = certificate.c
    return c.loadbalancer_id == lb_id, c.object_id == object_id, c.ref == ref, c.role == role

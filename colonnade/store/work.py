"""The ledger of what the loop has to do: generations, leases with an epoch, back-off. Every change is compare-and-set.

Plain SQL that means the same on SQLite, MariaDB and PostgreSQL: an UPDATE with its condition, and its row count.
Times are seconds since the epoch.
"""

from dataclasses import dataclass

from sqlalchemy import BindParameter, Connection, bindparam, delete, exists, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from colonnade.store.tables import FOREIGN, load_balancer, work

_FIRST_PAUSE_S = 0.2
_BROKEN_PAUSE_S = 1.0  # what waits for a person is looked at less eagerly
_FOREIGN = exists().where(load_balancer.c.id == work.c.subject, FOREIGN)


class Lost(Exception):
    """The lease went to another worker: whatever this turn still wanted to write is void."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lease:
    """The right to work on a subject, for as long as nobody raises the epoch."""

    subject: str
    owner: str
    epoch: int
    generation: int  # at the time of the claim
    delete_wanted: bool
    attempts: int  # failed tries since the last write or success
    failing_since: float | None  # the first failure since the last success
    expires_at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Hold:
    """That an owner has a lease on a subject, as others see it."""

    subject: str
    owner: str
    epoch: int


# Statements that every turn and write needs, built once. Their parameters are not called like columns.
_OF: BindParameter[str] = bindparam("of")
_NOW: BindParameter[float] = bindparam("now")
_EPOCH: BindParameter[int] = bindparam("its_epoch")
_ROW = select(work).where(work.c.subject == _OF)
_FREE = or_(work.c.owner.is_(None), work.c.expires_at < _NOW)
_RAISE = update(work).where(work.c.subject == _OF).values(generation=work.c.generation + 1, due_at=_NOW, attempts=0)
_CLAIM = (
    update(work)
    .where(work.c.subject == _OF, work.c.due_at <= _NOW, _FREE)
    .values(owner=bindparam("by"), epoch=work.c.epoch + 1, expires_at=bindparam("until"))
)
_RENEW = update(work).where(work.c.subject == _OF, work.c.epoch == _EPOCH).values(expires_at=bindparam("until"))
_SETTLE = (
    update(work)
    .where(work.c.subject == _OF, work.c.epoch == _EPOCH, work.c.generation == bindparam("done"))
    .values(settled_generation=bindparam("done"), due_at=None, attempts=0, failing_since=None, owner=None,
            expires_at=None)
)  # fmt: skip


def begin(conn: Connection, subject: str, now: float) -> None:
    """``touch`` for a subject that nobody can know yet: one statement."""
    conn.execute(insert(work), {"subject": subject, "generation": 1, "due_at": now})


def touch(conn: Connection, subject: str, now: float, *, delete: bool = False) -> None:
    """Raise the subject's generation and make it due, inside the transaction of the write that asks for it.

    ``subject`` is a load balancer's id or "fabric". With ``delete`` the subject is to go: this stays so. Call it first
    in the transaction: on MariaDB and PostgreSQL it takes the row's lock, so all that follows in the transaction is
    alone with this load balancer. ``failing_since`` stays: a load balancer that is written to more often than it may
    fail would else never be called ERROR.
    """
    raised = _RAISE.values(delete_wanted=True) if delete else _RAISE
    which = {"of": subject, "now": now}
    if conn.execute(raised, which).rowcount == 0:
        try:
            with conn.begin_nested():
                conn.execute(insert(work).values(subject=subject, generation=1, due_at=now, delete_wanted=delete))
        except IntegrityError:  # another transaction was first
            conn.execute(raised, which)


def nudge(conn: Connection, subject: str, now: float) -> bool:
    """Ask for another look at a subject that has nothing to do; whether it had nothing to do. Not at what a third
    party's provider serves: the loop has no eye for it."""
    quiet = (work.c.subject == subject, work.c.due_at.is_(None), ~_FOREIGN)
    return conn.execute(update(work).where(*quiet).values(due_at=now)).rowcount > 0


def disturb(conn: Connection, subject: str, now: float) -> None:
    """Have the world looked at once more after now, also by a turn that is under way. No subject is made. Nothing
    happens to what a third party's provider serves."""
    again = {"generation": work.c.generation + 1, "due_at": now}
    conn.execute(update(work).where(work.c.subject == subject, ~_FOREIGN).values(again))


def generation(conn: Connection, subject: str) -> int:
    """How often the subject has been written to."""
    return conn.execute(select(work.c.generation).where(work.c.subject == subject)).scalar() or 0


def due(conn: Connection, now: float, limit: int) -> list[str]:
    """Subjects that have something to do and no worker, the longest waiting first."""
    query = select(work.c.subject).where(work.c.due_at <= _NOW, _FREE).order_by(work.c.due_at).limit(limit)
    return list(conn.execute(query, {"now": now}).scalars())


def oldest(conn: Connection, now: float) -> float:
    """How long the longest waiting subject has been due, in seconds."""
    first = conn.execute(select(work.c.due_at).where(work.c.due_at <= now).order_by(work.c.due_at).limit(1)).scalar()
    return 0.0 if first is None else now - first


def claim(conn: Connection, subject: str, owner: str, now: float, lease_s: float) -> Lease | None:
    """Take the subject if it is due and free (or its lease has run out); the epoch rises."""
    taken = {"of": subject, "now": now, "by": owner, "until": now + lease_s}
    if conn.execute(_CLAIM, taken).rowcount == 0:
        return None
    row = conn.execute(_ROW, {"of": subject}).one()
    return Lease(
        subject=subject, owner=owner, epoch=row.epoch, generation=row.generation, delete_wanted=row.delete_wanted,
        attempts=row.attempts, failing_since=row.failing_since, expires_at=row.expires_at,
    )  # fmt: skip


def held(conn: Connection, now: float) -> list[Hold]:
    """Leases that have not run out."""
    query = select(work.c.subject, work.c.owner, work.c.epoch).where(
        work.c.owner.is_not(None), work.c.expires_at >= now
    )
    return [Hold(subject=r.subject, owner=r.owner, epoch=r.epoch) for r in conn.execute(query)]


def release(conn: Connection, hold: Hold) -> bool:
    """End a lease whose holder will not go on; whether it still had it. The next claim raises the epoch, so a holder
    that goes on after all changes nothing."""
    same = (work.c.subject == hold.subject, work.c.owner == hold.owner, work.c.epoch == hold.epoch)
    free = {"owner": None, "expires_at": None}
    return conn.execute(update(work).where(*same).values(free)).rowcount > 0


def renew(conn: Connection, lease: Lease, now: float, lease_s: float) -> None:
    """Stay in possession for another ``lease_s``; raises Lost. On MariaDB and PostgreSQL it locks the row, so that
    called first it protects all that follows in the transaction."""
    ours = {"of": lease.subject, "its_epoch": lease.epoch, "until": now + lease_s}
    if conn.execute(_RENEW, ours).rowcount == 0:
        raise Lost(lease.subject)


def settle(conn: Connection, lease: Lease, generation: int) -> bool:
    """Generation ``generation`` is done: nothing is due, the lease ends. False, and nothing is changed, when a write
    came meanwhile; raises Lost."""
    same = {"of": lease.subject, "its_epoch": lease.epoch, "done": generation}
    if conn.execute(_SETTLE, same).rowcount == 1:
        return True
    _ours(conn, lease, {"epoch": lease.epoch})
    return False


def postpone(conn: Connection, lease: Lease, now: float, pause_s: float) -> None:
    """Give the lease back; due again after ``pause_s``. No failure: nothing is counted. Raises Lost."""
    _ours(conn, lease, {"due_at": now + pause_s, "owner": None, "expires_at": None})


def fail(conn: Connection, lease: Lease, generation: int, now: float, pause_s: float) -> float:
    """Count a failed try at ``generation`` and give the lease back; returns when it is due again. Raises Lost.

    A write that came meanwhile may have removed the cause: then it is due at once, and nothing is counted.
    """
    since = now if lease.failing_since is None else lease.failing_since
    failed = {
        "due_at": now + pause_s, "attempts": lease.attempts + 1, "failing_since": since, "owner": None,
        "expires_at": None,
    }  # fmt: skip
    same = (work.c.subject == lease.subject, work.c.epoch == lease.epoch, work.c.generation == generation)
    if conn.execute(update(work).where(*same).values(failed)).rowcount == 1:
        return now + pause_s
    _ours(conn, lease, {"due_at": now, "failing_since": since, "owner": None, "expires_at": None})
    return now


def forget(conn: Connection, lease: Lease) -> None:
    """Remove the subject from the ledger, its work being done for ever. Raises Lost."""
    if conn.execute(delete(work).where(work.c.subject == lease.subject, work.c.epoch == lease.epoch)).rowcount == 0:
        raise Lost(lease.subject)


def pause(attempts: int, longest_s: float, chance: float, *, broken: bool = False) -> float:
    """Seconds until the try after ``attempts`` failed ones: doubling, at most ``longest_s``, shortened by up to a
    quarter (``chance`` from 0 to 1) so that those which failed together do not come back together."""
    first = _BROKEN_PAUSE_S if broken else _FIRST_PAUSE_S
    return float(min(first * 2.0 ** min(attempts, 20), longest_s) * (1 - chance / 4))


def _ours(conn: Connection, lease: Lease, values: dict[str, object]) -> None:
    ours = (work.c.subject == lease.subject, work.c.epoch == lease.epoch)
    if conn.execute(update(work).where(*ours).values(values)).rowcount == 0:
        raise Lost(lease.subject)

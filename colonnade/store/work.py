"""The ledger of what the loop has to do: generations, leases with an epoch, back-off. Every change is compare-and-set."""

from sqlalchemy import Connection, insert, select, update

from colonnade.store.tables import work


def touch(conn: Connection, subject: str, now: float, *, delete: bool = False) -> int:
    """Raise the subject's generation and make it due, inside the transaction of the write that asks for it.

    ``subject`` is a load balancer's id or "fabric". With ``delete`` the subject is to go: this stays so. Returns the
    new generation. Call it first in the transaction: on MariaDB and PostgreSQL it takes the row's lock, so all that
    follows in the transaction is alone with this load balancer.
    """
    values = {
        "generation": work.c.generation + 1,
        "due_at": now,
        "attempts": 0,
        "failing_since": None,
        **({"delete_wanted": True} if delete else {}),
    }
    if conn.execute(update(work).where(work.c.subject == subject).values(values)).rowcount == 0:
        conn.execute(insert(work).values(subject=subject, generation=1, due_at=now, delete_wanted=delete))
    return int(conn.execute(select(work.c.generation).where(work.c.subject == subject)).scalar_one())

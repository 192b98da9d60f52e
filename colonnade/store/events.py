"""What happened to a load balancer, in sentences, for its owner."""

from typing import Literal

from sqlalchemy import Connection, insert

from colonnade.store.tables import event

Kind = Literal["asked", "did", "waits", "failed", "status"]


def add(
    conn: Connection, lb_id: str, project_id: str, now: float, kind: Kind, what: tuple[str, str], sentence: str,
    help: str = "",
) -> None:  # fmt: skip
    """Write one event. ``what`` is the object it is about: (type, id), for example ("member", id)."""
    conn.execute(
        insert(event).values(
            loadbalancer_id=lb_id, project_id=project_id, at=now, kind=kind, object_type=what[0], object_id=what[1],
            sentence=sentence, help=help,
        )
    )  # fmt: skip

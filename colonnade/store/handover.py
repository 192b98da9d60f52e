"""What the ledger says of load balancers that a third party's provider serves.

They stand in the same table as the loop's, which gives each write its turn, but nothing is ever due for them. While a
change is being handed to the provider, whoever hands it over holds a lease: ``settled_generation`` is behind
``generation``, and no other write gets through. Once the provider has accepted, the two are equal, nobody holds a
lease, and ``expires_at`` is how long its report is waited for. A generation that is behind without a lease was
interrupted: nobody knows what the provider has made of it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import orjson
from sqlalchemy import ColumnElement, Connection, and_, delete, or_, select, update

from colonnade.clock import utc
from colonnade.model import USER_RESOURCES, LoadBalancer
from colonnade.store.tables import (
    FOREIGN,
    OF,
    availability_zone,
    availability_zone_profile,
    flavor,
    flavor_profile,
    load_balancer,
    work,
)  # fmt: skip
from colonnade.types import PENDING, Json, ProvisioningStatus


@dataclass(frozen=True, kw_only=True, slots=True)
class Handover:
    """The right to hand one change to the provider, until it is ended or has run out."""

    subject: str
    epoch: int
    generation: int


def under_way(conn: Connection, lb_id: str, now: float) -> bool:
    """Whether a change of the load balancer is being handed over."""
    held = (work.c.subject == lb_id, work.c.owner.is_not(None), work.c.expires_at >= now)
    return conn.execute(select(work.c.subject).where(*held)).first() is not None


def begin(conn: Connection, lb_id: str, owner: str, now: float, limit_s: float) -> Handover:
    """Take the lease, in the transaction of the write, after work.touch. The loop has nothing to do with it."""
    taken = {
        "due_at": None, "delete_wanted": False, "owner": owner, "epoch": work.c.epoch + 1, "expires_at": now + limit_s
    }  # fmt: skip
    conn.execute(update(work).where(work.c.subject == lb_id).values(taken))
    row = conn.execute(select(work.c.epoch, work.c.generation).where(work.c.subject == lb_id)).one()
    return Handover(subject=lb_id, epoch=row.epoch, generation=row.generation)


def skip(conn: Connection, lb_id: str) -> None:
    """The write that touched the ledger asks the provider for nothing."""
    done = {"due_at": None, "delete_wanted": False, "settled_generation": work.c.generation}
    conn.execute(update(work).where(work.c.subject == lb_id).values(done))


def end(conn: Connection, handover: Handover, report_by: float | None) -> bool:
    """The provider has accepted, and has until ``report_by`` to report; None: it has refused. False, and nothing is
    changed, when the lease had run out or the load balancer is gone: then this call's outcome is not ours to write."""
    ended = {"settled_generation": handover.generation, "owner": None, "expires_at": report_by}
    same = (work.c.subject == handover.subject, work.c.epoch == handover.epoch, _unsettled())
    return conn.execute(update(work).where(*same).values(ended)).rowcount == 1


def lose(conn: Connection, handover: Handover) -> None:
    """Nobody waits for the provider any more, and it has neither accepted nor refused."""
    same = (work.c.subject == handover.subject, work.c.epoch == handover.epoch)
    conn.execute(update(work).where(*same).values(owner=None, expires_at=None))


def forget(conn: Connection, lb_id: str) -> None:
    """The load balancer is gone."""
    conn.execute(delete(work).where(work.c.subject == lb_id))


def interrupted(conn: Connection, now: float) -> list[str]:
    """Load balancers whose change was being handed over when whoever did it died, or took too long."""
    query = select(work.c.subject).join(load_balancer, load_balancer.c.id == work.c.subject).where(FOREIGN)
    return list(conn.execute(query.where(*_interrupted(now))).scalars())


def silent(conn: Connection, now: float) -> list[str]:
    """Load balancers whose provider has accepted a change and has not reported in time."""
    query = select(work.c.subject).join(load_balancer, load_balancer.c.id == work.c.subject).where(FOREIGN)
    waiting = load_balancer.c.provisioning_status.in_(PENDING)
    return list(conn.execute(query.where(waiting, *_silent(now))).scalars())


def give_up(conn: Connection, lb_id: str, sentence: str, now: float) -> str | None:
    """What of the load balancer is PENDING turns ERROR, if one of the two above still is so; its project's id if
    anything did."""
    ended = {"settled_generation": work.c.generation, "owner": None, "expires_at": None}
    still = (work.c.subject == lb_id, or_(_all(_interrupted(now)), _all(_silent(now))))
    if conn.execute(update(work).where(*still).values(ended)).rowcount == 0:
        return None
    values = {"provisioning_status": ProvisioningStatus.ERROR, "reason": sentence, "updated_at": utc(now)}
    turned = 0
    for cls in USER_RESOURCES:
        table = OF[cls]
        mine = (table.c.id if cls is LoadBalancer else table.c.loadbalancer_id) == lb_id
        turned += conn.execute(
            update(table).where(mine, table.c.provisioning_status.in_(PENDING)).values(values)
        ).rowcount
    owner = select(load_balancer.c.project_id).where(load_balancer.c.id == lb_id)
    return conn.execute(owner).scalar() if turned else None


def metadata(conn: Connection, lb: LoadBalancer) -> tuple[Json | None, Json | None]:
    """What the load balancer's flavor and availability zone say to its provider; None: it has none."""
    f, z = flavor.c, availability_zone.c
    of_flavor = select(flavor_profile.c.flavor_data).where(
        f.id == lb.flavor_id, flavor_profile.c.id == f.flavor_profile_id
    )
    of_zone = select(availability_zone_profile.c.availability_zone_data).where(
        z.name == lb.availability_zone, availability_zone_profile.c.id == z.availability_zone_profile_id
    )
    found = [
        conn.execute(query).scalar() if named else None
        for query, named in ((of_flavor, lb.flavor_id), (of_zone, lb.availability_zone))
    ]
    flavor_data, zone_data = (None if text is None else orjson.loads(text) for text in found)
    return flavor_data, zone_data


def _unsettled() -> ColumnElement[bool]:
    return work.c.generation > work.c.settled_generation


def _interrupted(now: float) -> Iterable[ColumnElement[bool]]:
    return _unsettled(), or_(work.c.owner.is_(None), work.c.expires_at < now)


def _silent(now: float) -> Iterable[ColumnElement[bool]]:
    return work.c.generation == work.c.settled_generation, work.c.owner.is_(None), work.c.expires_at < now


def _all(conditions: Iterable[ColumnElement[bool]]) -> ColumnElement[bool]:
    return and_(*conditions)

"""The tests' provider behind the API, and what is left when it refuses."""

from pathlib import Path
from typing import Any

from lb_service import Service
from sqlalchemy import select

from colonnade.store import tables

PACKAGES = Path(__file__).parents[1] / "provider_package"
ENABLED = tuple(f"{name}: of the tests" for name in ("amphora", "octavia", "mute", "bare", "unloadable", "absent"))


def reported(service: Service) -> None:
    """The provider says that all is done."""
    service.settle()


def a_tree(service: Service) -> Any:
    """A load balancer of the provider mute, with all there can be, at rest."""
    lb = service.load_balancer(provider="mute", name="lb")
    reported(service)
    listener = service.listener(lb)
    reported(service)
    pool = service.pool(lb, listener_id=listener["id"], session_persistence={"type": "SOURCE_IP"})
    reported(service)
    member = service.member(pool)
    reported(service)
    monitor = service.monitor(pool)
    reported(service)
    policy = service.policy(listener)
    reported(service)
    rule = service.rule(policy)
    reported(service)
    return lb, listener, pool, member, monitor, policy, rule


def everything(service: Service) -> dict[str, list[Any]]:
    """All rows of all objects, and of the ledger but for its counters."""
    with service.store.read() as conn:
        found = {t.name: [dict(r) for r in conn.execute(select(t)).mappings()] for t in tables.OF.values()}
        found["tag"] = [dict(r) for r in conn.execute(select(tables.tag)).mappings()]
        w = tables.work.c
        found["work"] = [tuple(r) for r in conn.execute(select(w.subject, w.due_at, w.owner, w.delete_wanted))]
    return found


def ledger(service: Service, lb_id: str) -> Any:
    with service.store.read() as conn:
        return conn.execute(select(tables.work).where(tables.work.c.subject == lb_id)).one()

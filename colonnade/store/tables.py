"""Every table of the load-balancing service. Those of resources follow from ``model``, field by field."""

import dataclasses
import types
import typing
from datetime import datetime
from enum import StrEnum
from typing import Any

from annotated_types import MaxLen
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)  # fmt: skip

from colonnade import model
from colonnade.types import UUID, Matches

metadata = MetaData(
    naming_convention={"ix": "ix_%(table_name)s_%(column_0_name)s", "uq": "uq_%(table_name)s_%(column_0_name)s"}
)


_PARENTS = ("loadbalancer_id", "pool_id", "project_id", "listener_id", "l7policy_id", "redirect_pool_id")  # indexed


def _bare(hint: Any) -> tuple[Any, list[Any], bool]:  # noqa: ANN401 - a type expression may be any object
    """A type without Annotated and None: (type, annotations, nullable)."""
    notes: list[Any] = []
    nullable = False
    while True:
        if typing.get_origin(hint) is typing.Annotated:
            notes += hint.__metadata__
            hint = hint.__origin__
        elif typing.get_origin(hint) in (typing.Union, types.UnionType):
            nullable = True
            (hint,) = (a for a in typing.get_args(hint) if a is not type(None))
        else:
            return hint, notes, nullable


def _column(name: str, hint: Any) -> Column[Any]:  # noqa: ANN401
    kind, notes, nullable = _bare(hint)
    length = next((n.max_length for n in notes if isinstance(n, MaxLen)), 64)
    if any(isinstance(n, Matches) and n.pattern is UUID for n in notes):
        length = 36
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        sql: Any = String(32)
    elif kind is bool:
        sql = Boolean
    elif kind is int:
        sql = BigInteger if name.startswith("bytes") else Integer
    elif kind is float:
        sql = Double  # MariaDB's FLOAT has 24 bits: two minutes, for a time of today
    elif kind is datetime:
        sql = DateTime
    elif kind is str:
        sql = Text if name == "reason" else String(length)
    else:  # tuples, dicts and dataclasses
        sql = JSON(none_as_null=True)
    keyed = name == "id"
    parent = name in _PARENTS
    return Column(name, sql, primary_key=keyed, nullable=nullable and not keyed, index=parent and not keyed)


def _table(name: str, cls: type[Any], *more: Column[Any] | UniqueConstraint) -> Table:
    hints = typing.get_type_hints(cls, include_extras=True)
    columns = [_column(f.name, hints[f.name]) for f in dataclasses.fields(cls)]
    return Table(name, metadata, *columns, *more)


load_balancer = _table("load_balancer", model.LoadBalancer, UniqueConstraint("vip_port_id"))
listener = _table("listener", model.Listener)
pool = _table("pool", model.Pool)
member = _table("member", model.Member)
health_monitor = _table("health_monitor", model.HealthMonitor)
l7policy = _table("l7policy", model.L7Policy)
l7rule = _table("l7rule", model.L7Rule)
amphora = _table("amphora", model.Amphora)
flavor_profile = _table("flavor_profile", model.FlavorProfile)
flavor = _table("flavor", model.Flavor, UniqueConstraint("name"))
availability_zone_profile = _table("availability_zone_profile", model.AvailabilityZoneProfile)
availability_zone = _table("availability_zone", model.AvailabilityZone, UniqueConstraint("name"))

# A project's limits; null: the default. Its row is also what writes of one project take turns on (store.quotas).
quota = Table(
    "quota",
    metadata,
    Column("project_id", String(64), primary_key=True),
    *(Column(f.name, Integer) for f in dataclasses.fields(model.Quota) if f.name != "project_id"),
)

OF = {
    model.LoadBalancer: load_balancer,
    model.Listener: listener,
    model.Pool: pool,
    model.Member: member,
    model.HealthMonitor: health_monitor,
    model.L7Policy: l7policy,
    model.L7Rule: l7rule,
    model.Amphora: amphora,
    model.Quota: quota,
    model.FlavorProfile: flavor_profile,
    model.Flavor: flavor,
    model.AvailabilityZoneProfile: availability_zone_profile,
    model.AvailabilityZone: availability_zone,
}

# Of load balancers: served by a third party's provider, so never the loop's. True or false, never null.
FOREIGN = load_balancer.c.provider.is_not(None) & load_balancer.c.provider.not_in(model.OWN_PROVIDERS)

# Tags stand in their object's row for reading and here for filtering; both are written in one transaction.
tag = Table(
    "tag",
    metadata,
    Column("object_id", String(36), primary_key=True),
    Column("value", String(255), primary_key=True, index=True),
)

# What the loop has to do: one row for each load balancer, and one for the stand-alone fabric. Times are seconds since
# the epoch. ``due_at`` null: nothing to do. ``generation`` is raised by each write, in that write's transaction.
work = Table(
    "work",
    metadata,
    Column("subject", String(36), primary_key=True),  # a load balancer's id, or "fabric"
    Column("generation", Integer, nullable=False),
    Column("settled_generation", Integer, nullable=False, default=0),
    Column("delete_wanted", Boolean, nullable=False, default=False),
    Column("due_at", Double, index=True),
    Column("attempts", Integer, nullable=False, default=0),
    Column("failing_since", Double),
    Column("owner", String(64)),
    Column("epoch", Integer, nullable=False, default=0),
    Column("expires_at", Double),
)

event = Table(
    "event",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("loadbalancer_id", String(36), nullable=False, index=True),
    Column("project_id", String(64), nullable=False),
    Column("at", Double, nullable=False, index=True),  # seconds since the epoch
    Column("kind", String(16), nullable=False),  # asked | did | waits | failed | status
    # loadbalancer, listener, pool, member, healthmonitor, l7policy, l7rule, amphora
    Column("object_type", String(32), nullable=False),
    Column("object_id", String(36), nullable=False),
    Column("sentence", Text, nullable=False),
    Column("help", Text, nullable=False, default=""),
)

# What certificates, authorities and revocation lists of listeners and pools were found to be. ``until`` null: not
# known, or without an end; ``digest`` null: it could not be read.
certificate = Table(
    "certificate",
    metadata,
    Column("object_id", String(36), primary_key=True),  # a listener's or a pool's
    Column("role", String(16), primary_key=True),
    Column("ref", String(255), primary_key=True),
    Column("loadbalancer_id", String(36), nullable=False, index=True),
    Column("object_type", String(16), nullable=False),
    Column("digest", String(64)),
    Column("until", DateTime),
    Column("problem", Text),
    Column("warned_days", Integer),
)

COUNTERS = ("bytes_in", "bytes_out", "total_connections", "request_errors")

GONE = ""  # the amphora whose row holds what amphorae that are gone have counted

# Counters of one listener on one amphora: their sum is base (finished epochs) plus last (the running one). What a
# third party's provider says of its listener stands under the listener's own id in place of an amphora's.
listener_statistics = Table(
    "listener_statistics",
    metadata,
    Column("listener_id", String(36), primary_key=True),
    Column("amphora_id", String(36), primary_key=True, index=True),
    Column("loadbalancer_id", String(36), nullable=False, index=True),
    Column("epoch", String(36), nullable=False),
    Column("active_connections", Integer, nullable=False, default=0),
    *(Column(f"base_{c}", BigInteger, nullable=False, default=0) for c in COUNTERS),
    *(Column(f"last_{c}", BigInteger, nullable=False, default=0) for c in COUNTERS),
)

"""The tables of the small cloud around a stand-alone installation: identity, and networks with their addresses."""

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    DateTime,
    Double,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
)  # fmt: skip
from sqlalchemy.dialects.mysql import MEDIUMBLOB

from colonnade.store.tables import metadata

local_project = Table(
    "local_project",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("description", String(255), nullable=False, default=""),
    Column("enabled", Boolean, nullable=False, default=True),
    Column("tokens_from", Integer),  # seconds since the epoch: tokens issued before are worth nothing
)

local_user = Table(
    "local_user",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(255), nullable=False, unique=True),
    Column("password", Text, nullable=False),  # scrypt, with its parameters; empty: cannot log in
    Column("default_project_id", String(64)),
    Column("enabled", Boolean, nullable=False, default=True),
    Column("email", String(255)),
    Column("description", String(255)),
    Column("tokens_from", Integer),  # as of projects
)

# Roles beside the three that every installation has.
local_role = Table(
    "local_role",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(32), nullable=False, unique=True),
    Column("description", String(255)),
)

local_role_assignment = Table(
    "local_role_assignment",
    metadata,
    Column("user_id", String(64), primary_key=True),
    Column("project_id", String(64), primary_key=True),
    Column("role", String(32), primary_key=True),
)

local_revoked_token = Table(
    "local_revoked_token",
    metadata,
    Column("audit_id", String(32), primary_key=True),
    Column("expires_at", Double, nullable=False, index=True),  # seconds since the epoch; the row may go then
)

# Small facts by name. "identity": raised by each change to the tables above, so that processes know when to read
# them again. "networks": 1 once the first networks were made.
local_state = Table(
    "local_state",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("value", Integer, nullable=False),
)


def _common() -> tuple[Column[object], ...]:
    """What every network object has. Returns fresh columns: a column belongs to one table."""
    return (
        Column("id", String(36), primary_key=True),
        Column("project_id", String(64), nullable=False, index=True),
        Column("description", String(255), nullable=False, default=""),
        Column("tags", JSON, nullable=False, default=list),
        Column("created_at", DateTime, nullable=False),
        Column("updated_at", DateTime, nullable=False),
        Column("revision_number", Integer, nullable=False, default=1),
    )


local_network = Table(
    "local_network",
    metadata,
    *_common(),
    Column("name", String(255), nullable=False, index=True),
    Column("shared", Boolean, nullable=False),
    Column("external", Boolean, nullable=False),  # floating IPs come from here
    Column("mtu", Integer, nullable=False),
)

local_subnet = Table(
    "local_subnet",
    metadata,
    *_common(),
    Column("name", String(255), nullable=False, index=True),
    Column("network_id", String(36), nullable=False, index=True),
    Column("ip_version", Integer, nullable=False),
    Column("cidr", String(64), nullable=False),
    Column("gateway_ip", String(64)),
    Column("allocation_pools", JSON, nullable=False),  # [{"start": address, "end": address}, ...], ascending
    Column("last_given", String(64)),  # allocation goes on after this address, so that none is used again soon
)

local_port = Table(
    "local_port",
    metadata,
    *_common(),
    Column("name", String(255), nullable=False, index=True),
    Column("network_id", String(36), nullable=False),
    Column("mac_address", String(17), nullable=False),
    Column("device_id", String(255), nullable=False, index=True),
    Column("device_owner", String(255), nullable=False),
    Column("qos_policy_id", String(36)),  # what a load balancer follows that is brought to the port
    UniqueConstraint("network_id", "mac_address"),
)

# Every address that is taken: by a port, or by a floating IP. The primary key is what makes giving one out safe.
local_address = Table(
    "local_address",
    metadata,
    Column("subnet_id", String(36), primary_key=True),
    Column("address", String(64), primary_key=True),
    Column("owner_id", String(36), nullable=False, index=True),
    Column("position", Integer, nullable=False, default=0),  # place among its port's addresses
)

local_floating_ip = Table(
    "local_floating_ip",
    metadata,
    *_common(),
    Column("floating_network_id", String(36), nullable=False, index=True),
    Column("floating_ip_address", String(64), nullable=False),
    Column("port_id", String(36)),
    Column("fixed_ip_address", String(64)),
    UniqueConstraint("port_id", "fixed_ip_address"),
)


local_security_group = Table(
    "local_security_group", metadata, *_common(), Column("name", String(255), nullable=False, index=True)
)

# All rules let in. Ports of ICMP are type and code.
local_security_rule = Table(
    "local_security_rule",
    metadata,
    *_common(),
    Column("security_group_id", String(36), nullable=False, index=True),
    Column("ethertype", String(4), nullable=False),
    Column("protocol", String(16)),
    Column("port_range_min", Integer),
    Column("port_range_max", Integer),
    Column("remote_ip_prefix", String(64)),
)

local_qos_policy = Table(
    "local_qos_policy",
    metadata,
    *_common(),
    Column("name", String(255), nullable=False, index=True),
    Column("shared", Boolean, nullable=False),
)

local_qos_rule = Table(
    "local_qos_rule",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("policy_id", String(36), nullable=False),
    Column("direction", String(8), nullable=False),
    Column("max_kbps", Integer, nullable=False),
    Column("max_burst_kbps", Integer, nullable=False),
    UniqueConstraint("policy_id", "direction"),
)


def _entrusted() -> tuple[Column[object], ...]:
    """What secrets and containers have. ``read_users`` and ``project_access`` are their ACL, when one was set."""
    return (
        Column("id", String(36), primary_key=True),
        Column("project_id", String(64), nullable=False, index=True),
        Column("creator_id", String(64), nullable=False),
        Column("name", String(255)),
        Column("created_at", DateTime, nullable=False),
        Column("updated_at", DateTime, nullable=False),
        Column("read_users", JSON, nullable=False, default=list),
        Column("project_access", Boolean, nullable=False, default=True),
        Column("acl_created_at", DateTime),
        Column("acl_updated_at", DateTime),
    )


local_secret = Table(
    "local_secret",
    metadata,
    *_entrusted(),
    Column("secret_type", String(32), nullable=False),
    Column("algorithm", String(255)),
    Column("bit_length", Integer),
    Column("mode", String(255)),
    Column("expiration", DateTime),
    Column("content_type", String(64)),  # null: there is no payload yet
    Column("payload", LargeBinary(262144).with_variant(MEDIUMBLOB(), "mysql", "mariadb")),  # encrypted
)

local_container = Table(
    "local_container",
    metadata,
    *_entrusted(),
    Column("type", String(32), nullable=False),
    Column("secret_refs", JSON, nullable=False),  # [{"name": ..., "secret_id": ...}, ...]
)

# Who uses a secret or a container. A container's consumers have a name and a URL, a secret's three words.
local_consumer = Table(
    "local_consumer",
    metadata,
    Column("id", String(36), primary_key=True),  # follows from the rest: registering twice is once
    Column("owner_id", String(36), nullable=False, index=True),
    Column("service", String(255), nullable=False),
    Column("resource_type", String(255), nullable=False),
    Column("resource_id", String(512), nullable=False),
    Column("created_at", DateTime, nullable=False),
)

"""Ports and floating IPs: addresses in use, and which floating address leads to which of them."""

import secrets
from collections.abc import Iterable
from ipaddress import ip_address, ip_network
from typing import Any, ClassVar

from sqlalchemy import ColumnElement, Connection, delete, insert, or_, select, true, update

from colonnade.local import addresses
from colonnade.local.attributes import COMMON, Attribute, objects, only, optional, text
from colonnade.local.faults import (
    ExternalIpAddressExhausted,
    FloatingIPNotFound,
    FloatingIPPortAlreadyAssociated,
    InvalidInput,
    IpAddressGenerationFailure,
    PolicyNotAuthorized,
    PortNotFound,
    ServicePortInUse,
)  # fmt: skip
from colonnade.local.kinds import Kind, change, find, may_change, new_row, shared_fields
from colonnade.local.listing import Collection, normal, same, tests_of_tags
from colonnade.local.networks import Networks
from colonnade.local.qos import QosPolicies
from colonnade.model import Caller
from colonnade.store import work
from colonnade.store.local_tables import local_address, local_floating_ip, local_port
from colonnade.store.tables import FOREIGN, amphora, load_balancer
from colonnade.types import Json

VIP_OWNER = "Octavia"
AMPHORA_OWNER = "compute:nova"
_COMMON_KEYS = frozenset(
    {"id", "project_id", "tenant_id", "description", "tags", "created_at", "updated_at", "revision_number", "status"}
)
_NO_FILTERS = "traffic of ports is not filtered here."


def new_mac() -> str:
    """A locally administered unicast address, 40 bits of it random: in a network of thousands two hardly ever meet,
    and the table's unique constraint sees to it when they do."""
    return ":".join(f"{byte:02x}" for byte in b"\xfa" + secrets.token_bytes(5))


def remove_port(conn: Connection, port_id: str, now: float) -> None:
    """Free a port's addresses and let go of its floating IPs; one that is gone already is success."""
    table = local_floating_ip
    freed = update(table).where(table.c.port_id == port_id).values(port_id=None, fixed_ip_address=None)
    if conn.execute(select(table.c.id).where(table.c.port_id == port_id).limit(1)).first():
        work.touch(conn, "fabric", now)
        conn.execute(freed)
    addresses.give_back(conn, port_id)
    conn.execute(delete(local_port).where(local_port.c.id == port_id))


class Ports(Kind):
    """Neutron's ports. One that a user made holds its addresses; something is plugged in only by load balancers."""

    singular = "port"
    title = "Port"
    table = local_port
    not_found = PortNotFound
    attributes: ClassVar = {
        **COMMON,
        "network_id": Attribute(text(36), put=False),
        "fixed_ips": Attribute(objects("subnet_id", "ip_address"), put=False),
        "device_id": Attribute(text(255)),
        "device_owner": Attribute(text(255)),
        "security_groups": Attribute(only(([], None), _NO_FILTERS)),
        "allowed_address_pairs": Attribute(only(([], None), _NO_FILTERS)),
        "extra_dhcp_opts": Attribute(only(([], None), "there is no DHCP service here.")),
        "qos_policy_id": Attribute(optional(text(36))),
        "binding:vnic_type": Attribute(only(("normal",), "ports are virtual Ethernet here.")),
    }
    collection = Collection(
        plural="ports",
        keys=_COMMON_KEYS
        | {"name", "network_id", "mac_address", "admin_state_up", "device_id", "device_owner", "fixed_ips",
           "security_groups", "allowed_address_pairs", "extra_dhcp_opts", "binding:vnic_type", "qos_policy_id"},
        tests={
            **tests_of_tags(),
            "fixed_ips": lambda item, values: all(_holds(item, v) for v in values),
            "ip_address": lambda item, values: any(_holds(item, f"ip_address={v}") for v in values),
            "subnet_id": lambda item, values: any(_holds(item, f"subnet_id={v}") for v in values),
            "security_groups": lambda _item, _values: False,
        },
        narrowed=("id", "name", "network_id", "device_id", "device_owner", "project_id"),
        conditions={
            "fixed_ips": lambda values: _with_address(v.partition("=")[::2] for v in values),
            "ip_address": lambda values: _with_address(("ip_address", v) for v in values),
        },
    )  # fmt: skip

    def items(self, conn: Connection, caller: Caller, where: list[ColumnElement[bool]]) -> list[Json]:
        mine = [] if caller.is_admin else [local_port.c.project_id == caller.project_id]
        query = (
            select(local_port, local_address.c.address, local_address.c.subnet_id)
            .outerjoin(local_address, local_address.c.owner_id == local_port.c.id)
            .where(*mine, *where)
            .order_by(local_port.c.created_at, local_port.c.id, local_address.c.position)
        )
        found: dict[str, Json] = {}
        for row in conn.execute(query):
            item = found.get(row.id) or found.setdefault(row.id, _port(row))
            if row.address is not None:
                item["fixed_ips"].append({"subnet_id": row.subnet_id, "ip_address": row.address})
        return list(found.values())

    def create(self, conn: Connection, caller: Caller, given: Json, now: float) -> str:
        network = find(conn, Networks(), caller, given.get("network_id"))
        if network["router:external"]:
            raise InvalidInput("network_id: the addresses of an external network are for floating IPs only.")
        _check_device(given, caller)
        row = new_row(given, now) | {
            "network_id": network["id"],
            "mac_address": new_mac(),
            "device_id": given.get("device_id", ""),
            "device_owner": given.get("device_owner", ""),
            "qos_policy_id": _policy(conn, caller, given),
        }
        conn.execute(insert(local_port).values(row))
        for position, (subnet, address) in enumerate(_wanted(conn, network, given.get("fixed_ips"))):
            if address is None:
                addresses.take_next(conn, subnet, row["id"], position)
            else:
                addresses.take(conn, subnet, address, row["id"], position)
        return str(row["id"])

    def update(self, conn: Connection, caller: Caller, item: Json, given: Json, now: float) -> None:
        _check_device(given, caller)
        _policy(conn, caller, given)
        names = ("name", "description", "device_id", "device_owner", "qos_policy_id")
        if given.keys() & {*names} - {"description"} and (user := _user(conn, item, caller)):
            raise ServicePortInUse(f"Port {item['id']} cannot be changed directly via the port API: {user}.")
        change(conn, local_port, item["id"], now, **{k: given[k] for k in names if k in given})

    def delete(self, conn: Connection, caller: Caller, item: Json, now: float) -> None:
        if user := _user(conn, item, caller):
            raise ServicePortInUse(f"Port {item['id']} cannot be deleted directly via the port API: {user}.")
        remove_port(conn, item["id"], now)


def _port(row: Any) -> Json:  # noqa: ANN401 - a SQLAlchemy row
    return {
        **shared_fields(row),
        "name": row.name,
        "network_id": row.network_id,
        "mac_address": row.mac_address,
        "admin_state_up": True,
        "status": "ACTIVE" if row.device_owner == AMPHORA_OWNER and row.device_id else "DOWN",
        "device_id": row.device_id,
        "device_owner": row.device_owner,
        "fixed_ips": [],
        "security_groups": [],
        "allowed_address_pairs": [],
        "extra_dhcp_opts": [],
        "binding:vnic_type": "normal",
        "qos_policy_id": row.qos_policy_id,
    }


def _policy(conn: Connection, caller: Caller, given: Json) -> str | None:
    """The QoS policy that a body names, if there is one for the caller."""
    policy_id: str | None = given.get("qos_policy_id")
    if policy_id is not None and not QosPolicies().items(conn, caller, [QosPolicies.table.c.id == policy_id]):
        raise InvalidInput(f"qos_policy_id: QoS Policy {policy_id} could not be found.")
    return policy_id


def _holds(item: Json, wanted: str) -> bool:
    """Whether one of the port's addresses is as a filter such as ``ip_address=10.0.0.3`` says."""
    key, _, value = wanted.partition("=")
    if key not in ("ip_address", "subnet_id"):
        raise InvalidInput("fixed_ips: ip_address=… or subnet_id=… are its filters.")
    return any(same(ip[key], value) for ip in item["fixed_ips"])


def _with_address(wanted: Iterable[tuple[str, ...]]) -> ColumnElement[bool]:
    """Ports that have one of these addresses; all ports when none is named."""
    texts = {normal(value) or value for key, value in wanted if key == "ip_address"}
    holders = select(local_address.c.owner_id).where(local_address.c.address.in_(texts))
    return local_port.c.id.in_(holders) if texts else true()


def _check_device(given: Json, caller: Caller) -> None:
    owner = given.get("device_owner", "")
    if owner in (VIP_OWNER, AMPHORA_OWNER) or owner.startswith("network:"):
        raise PolicyNotAuthorized(f"device_owner: '{owner}' is for the services themselves.")


def _user(conn: Connection, item: Json, caller: Caller) -> str | None:
    """What the port is for, when a load balancer needs it."""
    lb_id = item["device_id"].removeprefix("lb-") if item["device_owner"] == VIP_OWNER else ""
    c = load_balancer.c
    vip = select(c.id).where(or_(c.vip_port_id == item["id"], c.id == lb_id))
    if caller.is_admin:  # what a third party's provider has made for its VIP, it may take away
        vip = vip.where(or_(c.vip_owned.is_(True), ~FOREIGN))
    if (user := conn.execute(vip.limit(1)).scalar_one_or_none()) is not None:
        return f"it is the VIP of load balancer {user}; delete that instead"
    if item["device_owner"] == AMPHORA_OWNER:
        mine = select(amphora.c.loadbalancer_id).where(amphora.c.id == item["device_id"])
        if (row := conn.execute(mine).one_or_none()) is not None:
            return f"it is an amphora's of load balancer {row.loadbalancer_id}; delete that instead"
    return None


def _wanted(conn: Connection, network: Json, fixed_ips: list[Json] | None) -> list[tuple[Any, Any]]:
    """Which addresses a new port gets: (subnet row, address or None for the next free one)."""
    subnets = [s for i in sorted(network["subnets"]) if (s := addresses.lock(conn, i)) is not None]
    subnets.sort(key=lambda s: network["subnets"].index(s.id))
    if fixed_ips is None:  # one address of each IP version, from the oldest subnet that has one left
        return [pair for version in (4, 6) for pair in _any_of(conn, [s for s in subnets if s.ip_version == version])]
    found = []
    for wish in fixed_ips:
        address = addresses.parse_address("fixed_ips", wish["ip_address"]) if "ip_address" in wish else None
        if "subnet_id" in wish:
            subnet = next((s for s in subnets if s.id == wish["subnet_id"]), None)
        else:
            subnet = next((s for s in subnets if address is not None and address in ip_network(s.cidr)), None)
        if subnet is None:
            raise InvalidInput(f"fixed_ips: {wish} is on no subnet of the network {network['id']}.")
        found.append((subnet, address))
    return found


def _any_of(conn: Connection, subnets: list[Any]) -> list[tuple[Any, None]]:
    if len(subnets) > 1:
        subnets = [s for s in subnets if addresses.has_room(conn, s)] or subnets
    return [(s, None) for s in subnets[:1]]


class FloatingIps(Kind):
    """Neutron's floating IPs: an address of an external network, translated to the address of a port."""

    singular = "floatingip"
    title = "Floating IP"
    table = local_floating_ip
    not_found = FloatingIPNotFound
    attributes: ClassVar = {
        "project_id": COMMON["project_id"],
        "description": COMMON["description"],
        "floating_network_id": Attribute(text(36), put=False),
        "subnet_id": Attribute(optional(text(36)), put=False),
        "floating_ip_address": Attribute(optional(text(64)), put=False, admin=True),
        "port_id": Attribute(optional(text(36))),
        "fixed_ip_address": Attribute(optional(text(64))),
        "router_id": Attribute(only((None,), "there are no routers here; the port alone says where it leads.")),
        "qos_policy_id": Attribute(only((None,), "there are no QoS policies here.")),
    }
    collection = Collection(
        plural="floatingips",
        keys=_COMMON_KEYS
        | {"floating_network_id", "floating_ip_address", "fixed_ip_address", "port_id", "router_id", "port_details"},
        tests=tests_of_tags(),
        narrowed=("id", "floating_network_id", "floating_ip_address", "port_id", "project_id"),
    )

    def items(self, conn: Connection, caller: Caller, where: list[ColumnElement[bool]]) -> list[Json]:
        table = local_floating_ip
        mine = [] if caller.is_admin else [table.c.project_id == caller.project_id]
        query = (
            select(table, local_port.c.name.label("port_name"), local_port.c.network_id, local_port.c.mac_address,
                   local_port.c.device_id, local_port.c.device_owner)
            .outerjoin(local_port, local_port.c.id == table.c.port_id)
            .where(*mine, *where)
            .order_by(table.c.created_at, table.c.id)
        )  # fmt: skip
        return [_floating_ip(r) for r in conn.execute(query)]

    def create(self, conn: Connection, caller: Caller, given: Json, now: float) -> str:
        work.touch(conn, "fabric", now)
        network = find(conn, Networks(), caller, given.get("floating_network_id"))
        if not network["router:external"]:
            raise InvalidInput(f"floating_network_id: network {network['id']} is not an external network.")
        row = {k: v for k, v in new_row(given, now).items() if k != "name"} | {"floating_network_id": network["id"]}
        row |= _target(conn, caller, given, own_id=None)
        row["floating_ip_address"] = self._take(conn, network, given, str(row["id"]))
        conn.execute(insert(local_floating_ip).values(row))
        return str(row["id"])

    def update(self, conn: Connection, caller: Caller, item: Json, given: Json, now: float) -> None:
        values = {"description": given["description"]} if "description" in given else {}
        if "port_id" in given or "fixed_ip_address" in given:
            work.touch(conn, "fabric", now)
            values |= _target(conn, caller, {"port_id": item["port_id"]} | given, own_id=item["id"])
        change(conn, local_floating_ip, item["id"], now, **values)

    def delete(self, conn: Connection, caller: Caller, item: Json, now: float) -> None:
        work.touch(conn, "fabric", now)
        addresses.give_back(conn, item["id"])
        conn.execute(delete(local_floating_ip).where(local_floating_ip.c.id == item["id"]))

    def _take(self, conn: Connection, network: Json, given: Json, own_id: str) -> str:
        subnets = [s for i in network["subnets"] if (s := addresses.lock(conn, i)) is not None and s.ip_version == 4]
        if given.get("subnet_id") is not None:
            subnets = [s for s in subnets if s.id == given["subnet_id"]]
            if not subnets:
                raise InvalidInput("subnet_id: is no IPv4 subnet of the floating network.")
        if given.get("floating_ip_address") is not None:
            wanted = addresses.parse_address("floating_ip_address", given["floating_ip_address"])
            subnet = next((s for s in subnets if wanted in ip_network(s.cidr)), None)
            if subnet is None:
                raise InvalidInput(f"floating_ip_address: {wanted} is on no IPv4 subnet of the floating network.")
            return addresses.take(conn, subnet, wanted, own_id)
        for subnet in subnets:
            try:
                return addresses.take_next(conn, subnet, own_id)
            except IpAddressGenerationFailure:
                continue
        raise ExternalIpAddressExhausted(
            f"Unable to find any IP address on external network {network['id']}: delete floating IPs that nobody needs."
        )


def _floating_ip(row: Any) -> Json:  # noqa: ANN401 - a SQLAlchemy row
    details = None
    if row.port_id is not None:
        details = {
            "name": row.port_name,
            "network_id": row.network_id,
            "mac_address": row.mac_address,
            "admin_state_up": True,
            "status": "ACTIVE" if row.device_owner == AMPHORA_OWNER else "DOWN",
            "device_id": row.device_id,
            "device_owner": row.device_owner,
        }
    return {
        **shared_fields(row),
        "floating_network_id": row.floating_network_id,
        "floating_ip_address": row.floating_ip_address,
        "fixed_ip_address": row.fixed_ip_address,
        "port_id": row.port_id,
        "port_details": details,
        "router_id": None,
        "status": "ACTIVE" if row.port_id is not None else "DOWN",
    }


def _target(conn: Connection, caller: Caller, given: Json, own_id: str | None) -> Json:
    """Columns port_id and fixed_ip_address for what a body asks for."""
    if given.get("port_id") is None:
        if given.get("fixed_ip_address") is not None:
            raise InvalidInput("fixed_ip_address: cannot be given without port_id.")
        return {"port_id": None, "fixed_ip_address": None}
    port = find(conn, Ports(), caller, given["port_id"])
    may_change(Ports(), caller, port)
    found = [ip["ip_address"] for ip in port["fixed_ips"] if ip_address(ip["ip_address"]).version == 4]
    if given.get("fixed_ip_address") is not None:
        wanted = str(addresses.parse_address("fixed_ip_address", given["fixed_ip_address"]))
        if wanted not in found:
            raise InvalidInput(f"fixed_ip_address: port {port['id']} does not have the IPv4 address {wanted}.")
        found = [wanted]
    if not found:
        raise InvalidInput(f"port_id: port {port['id']} has no IPv4 address that a floating IP could lead to.")
    if len(found) > 1:
        raise InvalidInput(
            f"Port {port['id']} has multiple fixed IPv4 addresses. Must provide a specific IPv4 address when assigning "
            "a floating IP (fixed_ip_address)."
        )
    table = local_floating_ip.c
    other = select(table.floating_ip_address).where(
        table.port_id == port["id"], table.fixed_ip_address == found[0], table.id != (own_id or "")
    )
    if (address := conn.execute(other).scalar_one_or_none()) is not None:
        raise FloatingIPPortAlreadyAssociated(
            f"Cannot associate floating IP with port {port['id']} using fixed IP {found[0]}, as that fixed IP already "
            f"has the floating IP {address}."
        )
    return {"port_id": port["id"], "fixed_ip_address": found[0]}

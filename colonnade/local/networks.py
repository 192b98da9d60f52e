"""Networks and subnets: what may be made of them, and when they may go."""

from ipaddress import ip_address, ip_network
from typing import Any, ClassVar

from sqlalchemy import ColumnElement, Connection, delete, exists, func, insert, select

from colonnade.local import addresses, host_routes
from colonnade.local.attributes import COMMON, Attribute, boolean, integer, objects, only, optional, text
from colonnade.local.faults import (
    InvalidInput,
    InvalidSharedSetting,
    NetworkInUse,
    NetworkNotFound,
    OverlappingSubnet,
    PolicyNotAuthorized,
    SubnetInUse,
    SubnetNotFound,
)  # fmt: skip
from colonnade.local.host_routes import Routes
from colonnade.local.kinds import Kind, change, find, new_row, shared_fields, visible_networks
from colonnade.local.listing import Collection, tests_of_tags
from colonnade.model import Caller
from colonnade.store import work
from colonnade.store.local_tables import local_address, local_floating_ip, local_network, local_port, local_subnet
from colonnade.store.tables import load_balancer, member
from colonnade.types import Json

DEFAULT_MTU = 1500
_LEAST_MTU_FOR_IPV6 = 1280


class Networks(Kind):
    """Neutron's networks: on this host a bridge each; an external one holds the addresses of floating IPs."""

    singular = "network"
    title = "Network"
    table = local_network
    not_found = NetworkNotFound
    attributes: ClassVar = {
        **COMMON,
        "shared": Attribute(boolean, admin=True),
        "router:external": Attribute(boolean, put=False, admin=True),
        "mtu": Attribute(integer(576, 9000), put=False),
    }
    collection = Collection(
        plural="networks",
        keys=frozenset(
            {"id", "name", "project_id", "tenant_id", "description", "tags", "created_at", "updated_at",
             "revision_number", "admin_state_up", "status", "shared", "router:external", "mtu", "subnets"}
        ),
        tests=tests_of_tags(),
    )  # fmt: skip

    def items(self, conn: Connection, caller: Caller, where: list[ColumnElement[bool]]) -> list[Json]:
        query = select(local_network).where(*visible_networks(caller), *where)
        rows = conn.execute(query.order_by(local_network.c.created_at, local_network.c.id)).all()
        subnets: dict[str, list[str]] = {r.id: [] for r in rows}
        of = select(local_subnet.c.id, local_subnet.c.network_id)
        if where:
            of = of.where(local_subnet.c.network_id.in_(subnets))
        for subnet in conn.execute(of.order_by(local_subnet.c.created_at, local_subnet.c.id)):
            if subnet.network_id in subnets:
                subnets[subnet.network_id].append(subnet.id)
        return [_network(r, subnets[r.id]) for r in rows]

    def create(self, conn: Connection, caller: Caller, given: Json, now: float) -> str:
        row = new_row(given, now) | {
            "shared": given.get("shared", False),
            "external": given.get("router:external", False),
            "mtu": given.get("mtu", DEFAULT_MTU),
        }
        work.touch(conn, "fabric", now)
        conn.execute(insert(local_network).values(row))
        return str(row["id"])

    def update(self, conn: Connection, caller: Caller, item: Json, given: Json, now: float) -> None:
        values = {k: given[k] for k in ("name", "description", "shared") if k in given}
        if item["shared"] and values.get("shared") is False:
            others = (local_port.c.network_id == item["id"]) & (local_port.c.project_id != item["project_id"])
            if conn.execute(select(local_port.c.id).where(others).limit(1)).first():
                raise InvalidSharedSetting(
                    f"Unable to reconfigure sharing settings for network {item['name']}. Multiple tenants are using it."
                )
        if values.get("shared", item["shared"]) != item["shared"]:
            work.touch(conn, "fabric", now)
        change(conn, local_network, item["id"], now, **values)

    def delete(self, conn: Connection, caller: Caller, item: Json, now: float) -> None:
        """Subnets without a taken address go with their network."""
        network_id = item["id"]
        work.touch(conn, "fabric", now)
        ports = exists().where(local_port.c.network_id == network_id)
        floating = exists().where(local_floating_ip.c.floating_network_id == network_id)
        if conn.execute(select(ports | floating)).scalar():
            raise NetworkInUse(
                f"Unable to complete operation on network {network_id}. There are one or more ports or floating IPs "
                "still in use on the network: delete those (or their load balancers) first."
            )
        for subnet_id in item["subnets"]:
            _check_unused(conn, subnet_id)
        conn.execute(delete(local_subnet).where(local_subnet.c.network_id == network_id))
        conn.execute(delete(local_network).where(local_network.c.id == network_id))


def _network(row: Any, subnets: list[str]) -> Json:  # noqa: ANN401 - a SQLAlchemy row
    return {
        **shared_fields(row),
        "name": row.name,
        "admin_state_up": True,
        "status": "ACTIVE",
        "shared": row.shared,
        "router:external": row.external,
        "mtu": row.mtu,
        "subnets": subnets,
    }


_NO_DHCP = "there is no DHCP service here; what is plugged in gets its addresses from the agent. Use --no-dhcp."
_NO_POOLS = "there are no subnet pools here; give the range itself (cidr, --subnet-range)."


class Subnets(Kind):
    """Neutron's subnets. All of one installation share one routing domain with the host, so no two may overlap."""

    def __init__(self, reached: Routes = host_routes.nothing) -> None:
        self._reached = reached

    singular = "subnet"
    title = "Subnet"
    table = local_subnet
    not_found = SubnetNotFound
    attributes: ClassVar = {
        **{k: v for k, v in COMMON.items() if k != "admin_state_up"},
        "network_id": Attribute(text(36), put=False),
        "cidr": Attribute(text(64), put=False),
        "ip_version": Attribute(integer(4, 6), put=False),
        "gateway_ip": Attribute(optional(text(64)), put=False),
        "allocation_pools": Attribute(objects("start", "end")),
        "enable_dhcp": Attribute(only((False,), _NO_DHCP)),
        "dns_nameservers": Attribute(only(([], None), "nothing would be told of them: there is no DHCP here.")),
        "host_routes": Attribute(only(([], None), "what is plugged in takes its routes from the gateways only.")),
        "subnetpool_id": Attribute(only((None,), _NO_POOLS), put=False),
        "use_default_subnet_pool": Attribute(only((False,), _NO_POOLS), put=False),
        "prefixlen": Attribute(only((None,), _NO_POOLS), put=False),
        "service_types": Attribute(only(([],), "addresses are given without regard to it.")),
        "ipv6_ra_mode": Attribute(only((None,), "there are no router advertisements here; addresses are set by the "
                                                "agent."), put=False),
        "ipv6_address_mode": Attribute(only((None,), "addresses are set by the agent, not by SLAAC or DHCPv6."),
                                       put=False),
    }  # fmt: skip
    collection = Collection(
        plural="subnets",
        keys=frozenset(
            {"id", "name", "project_id", "tenant_id", "description", "tags", "created_at", "updated_at",
             "revision_number", "network_id", "ip_version", "cidr", "gateway_ip", "allocation_pools", "enable_dhcp",
             "dns_nameservers", "host_routes", "subnetpool_id", "ipv6_ra_mode", "ipv6_address_mode", "service_types"}
        ),
        tests={
            **tests_of_tags(),
            # Not a field of a subnet, but a filter: what its network is.
            "router:external": lambda item, values: str(item["_external"]).lower() == values[0].lower(),
            "shared": lambda item, values: str(item["_shared"]).lower() == values[0].lower(),
        },
        narrowed=("id", "name", "network_id"),
    )  # fmt: skip

    def items(self, conn: Connection, caller: Caller, where: list[ColumnElement[bool]]) -> list[Json]:
        query = (
            select(local_subnet, local_network.c.shared, local_network.c.external)
            .join(local_network, local_network.c.id == local_subnet.c.network_id)
            .where(*visible_networks(caller), *where)
            .order_by(local_subnet.c.created_at, local_subnet.c.id)
        )
        return [_subnet(r) for r in conn.execute(query)]

    def create(self, conn: Connection, caller: Caller, given: Json, now: float) -> str:
        work.touch(conn, "fabric", now)  # first: subnets are made one after the other, so that none can overlap
        network = find(conn, Networks(), caller, given.get("network_id"))
        if not caller.is_admin and network["project_id"] != caller.project_id:
            raise PolicyNotAuthorized("Only the owner of a network may make subnets on it.")
        if "cidr" not in given:
            raise InvalidInput("cidr: is needed (--subnet-range).")
        version = given.get("ip_version", ip_network_version(given["cidr"]))
        cidr = addresses.parse_range(given["cidr"], version)
        if not caller.is_admin:
            addresses.check_free(cidr)
        addresses.check_unreached(cidr, self._reached())
        if cidr.version == 6 and network["mtu"] < _LEAST_MTU_FOR_IPV6:
            raise InvalidInput(f"cidr: IPv6 needs a network with an MTU of at least {_LEAST_MTU_FOR_IPV6}.")
        if "gateway_ip" not in given:
            gateway = _default_gateway(cidr, given)
        elif given["gateway_ip"] is None:
            gateway = None
        else:
            gateway = addresses.parse_address("gateway_ip", given["gateway_ip"])
        if gateway is not None:
            addresses.check_gateway(cidr, gateway)
        pools = addresses.default_pools(cidr, gateway)
        if "allocation_pools" in given:
            pools = addresses.parse_pools(cidr, gateway, given["allocation_pools"])
        _check_overlap(conn, caller, cidr)
        row = new_row(given, now) | {
            "network_id": network["id"],
            "ip_version": cidr.version,
            "cidr": str(cidr),
            "gateway_ip": None if gateway is None else str(gateway),
            "allocation_pools": pools,
        }
        conn.execute(insert(local_subnet).values(row))
        return str(row["id"])

    def update(self, conn: Connection, caller: Caller, item: Json, given: Json, now: float) -> None:
        """Taken addresses outside of new pools stay taken."""
        values: Json = {k: given[k] for k in ("name", "description") if k in given}
        if "allocation_pools" in given:
            gateway = ip_address(item["gateway_ip"]) if item["gateway_ip"] else None
            values["allocation_pools"] = addresses.parse_pools(
                ip_network(item["cidr"]), gateway, given["allocation_pools"]
            )
        change(conn, local_subnet, item["id"], now, **values)

    def delete(self, conn: Connection, caller: Caller, item: Json, now: float) -> None:
        work.touch(conn, "fabric", now)
        _check_unused(conn, item["id"])
        conn.execute(delete(local_subnet).where(local_subnet.c.id == item["id"]))


def _subnet(row: Any) -> Json:  # noqa: ANN401 - a SQLAlchemy row
    return {
        **shared_fields(row),
        "name": row.name,
        "network_id": row.network_id,
        "ip_version": row.ip_version,
        "cidr": row.cidr,
        "gateway_ip": row.gateway_ip,
        "allocation_pools": row.allocation_pools,
        "enable_dhcp": False,
        "dns_nameservers": [],
        "host_routes": [],
        "subnetpool_id": None,
        "ipv6_ra_mode": None,
        "ipv6_address_mode": None,
        "service_types": [],
        "_shared": row.shared,
        "_external": row.external,
    }


def ip_network_version(cidr: str) -> int:
    """4 or 6, by the look of it."""
    return 6 if ":" in cidr else 4


def _default_gateway(cidr: addresses.Range, given: Json) -> addresses.Address:
    """The first address outside the pools that were given, as a rule the first of the subnet."""
    spans = [
        [addresses.parse_address("allocation_pools", pool.get(k)) for k in ("start", "end")]
        for pool in given.get("allocation_pools", [])
    ]
    candidate = addresses.default_gateway(cidr)
    for start, end in sorted((int(a), int(b)) for a, b in spans if addresses.usable(cidr, a) and b in cidr):
        after = candidate + (end - int(candidate) + 1) if start <= int(candidate) <= end else candidate
        candidate = after if addresses.usable(cidr, after) else candidate
    return candidate


def _check_overlap(conn: Connection, caller: Caller, cidr: addresses.Range) -> None:
    rows = conn.execute(
        select(local_subnet.c.cidr, local_subnet.c.name, local_subnet.c.id, local_network.c.project_id,
               (local_network.c.shared | local_network.c.external).label("open"))
        .join(local_network, local_network.c.id == local_subnet.c.network_id)
        .where(local_subnet.c.ip_version == cidr.version)
    )  # fmt: skip
    for row in rows:
        if ip_network(row.cidr).overlaps(cidr):
            seen = caller.is_admin or row.open or row.project_id == caller.project_id
            other = f"subnet {row.name or row.id} ({row.cidr})" if seen else "another subnet"
            raise OverlappingSubnet(
                f"Requested subnet with cidr: {cidr} overlaps with {other} of this installation. All its subnets share "
                "one routing domain: please choose another range."
            )


def _check_unused(conn: Connection, subnet_id: str) -> None:
    addresses.lock(conn, subnet_id)
    taken = select(func.count()).select_from(local_address).where(local_address.c.subnet_id == subnet_id)
    count = conn.execute(taken).scalar_one()
    if count:
        raise SubnetInUse(
            f"Unable to complete operation on subnet {subnet_id}: {count} of its addresses are in use by ports or "
            "floating IPs. Delete those (or their load balancers) first."
        )
    for table, column in ((load_balancer, load_balancer.c.vip_subnet_id), (member, member.c.subnet_id)):
        user = conn.execute(select(table.c.id).where(column == subnet_id).limit(1)).scalar_one_or_none()
        if user is not None:
            what = "load balancer" if table is load_balancer else "pool member"
            raise SubnetInUse(f"Unable to complete operation on subnet {subnet_id}: {what} {user} is on it.")

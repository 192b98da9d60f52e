"""The network driver of a stand-alone installation, on the database, and the fabric that the agent is to make of it.

The ids of VIP and amphora ports follow from their names, so that two who make the same port make one.
"""

import uuid
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, Select, insert, select
from sqlalchemy.exc import IntegrityError

from colonnade import wire
from colonnade.clock import Clock
from colonnade.core.traffic import admission
from colonnade.drivers import Place
from colonnade.errors import Broken, Conflict, Invalid, Later
from colonnade.local import addresses
from colonnade.local.faults import IpAddressGenerationFailure
from colonnade.local.kinds import moment
from colonnade.local.ports import AMPHORA_OWNER, VIP_OWNER, new_mac, remove_port
from colonnade.model import FixedIp, NetworkPort, QosPolicy, SecurityGroup, Subnet
from colonnade.store.local_tables import (
    local_address,
    local_floating_ip,
    local_network,
    local_port,
    local_project,
    local_qos_policy,
    local_qos_rule,
    local_security_group,
    local_security_rule,
    local_subnet,
)  # fmt: skip
from colonnade.store.store import Store
from colonnade.types import Json

SERVICE_PROJECT = "service"
_NAMES = uuid.UUID("6f1f5a3e-54f4-4d53-9a43-0f6f636f6c6e")
_TRIES = 5
T = TypeVar("T")


class LocalNetwork:
    """drivers.Network on the database. Each verb that changes something is one short transaction."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def subnet(self, subnet_id: str) -> Subnet | None:
        """The subnet, or None when there is none."""
        with self._store.read() as conn:
            row = conn.execute(_subnets().where(local_subnet.c.id == subnet_id)).one_or_none()
        return None if row is None else _subnet(row)

    def subnets(self, network_id: str) -> list[Subnet] | None:
        """The network's subnets, oldest first; None when there is no such network."""
        order = (local_subnet.c.created_at, local_subnet.c.id)
        with self._store.read() as conn:
            rows = conn.execute(_subnets().where(local_subnet.c.network_id == network_id).order_by(*order)).all()
            known = rows or conn.execute(select(local_network.c.id).where(local_network.c.id == network_id)).first()
        return [_subnet(r) for r in rows] if known else None

    def port(self, port_id: str) -> NetworkPort | None:
        """The port, or None when there is none."""
        with self._store.read() as conn:
            return _port(conn, port_id)

    def made_up(self, lb_id: str, given: Json) -> NetworkPort | None:
        """Ids name things here."""
        return None

    def ensure_vip(
        self, lb_id: str, project_id: str, subnet: Subnet, address: str | None, more: Sequence[Place] = ()
    ) -> NetworkPort:
        """The VIP's port, named octavia-lb-<lb_id>; made when absent."""
        name = f"octavia-lb-{lb_id}"
        port_id = _port_id(name)

        def make(conn: Connection) -> NetworkPort:
            if (found := _port(conn, port_id)) is not None:
                return found
            places = ((subnet, address), *more)
            rows = {s.id: _lock(conn, s) for s, _ in sorted(places, key=lambda place: place[0].id)}
            self._insert(conn, port_id, name, subnet.network_id, project_id, f"lb-{lb_id}", VIP_OWNER)
            for position, (where, wanted) in enumerate(places):
                if wanted is None:
                    _take_next(conn, rows[where.id], port_id, position)
                else:
                    exact = addresses.parse_address("vip_address", wanted)
                    addresses.take(conn, rows[where.id], exact, port_id, position)
            return _made(conn, port_id)

        return self._write(make)

    def ensure_plugged(self, amphora_id: str, subnets: list[Subnet]) -> NetworkPort:
        """The amphora's own port on the network of ``subnets``, with one address on each of exactly these."""
        network_id = subnets[0].network_id
        name = f"octavia-lb-vrrp-{amphora_id}-{network_id}"
        port_id = _port_id(name)
        wanted = {s.id: s for s in subnets}

        def make(conn: Connection) -> NetworkPort:
            found = _port(conn, port_id)
            if found is not None and {ip.subnet_id for ip in found.fixed_ips} == wanted.keys():
                return found
            have = {ip.subnet_id for ip in found.fixed_ips} if found is not None else set[str]()
            rows = [_lock(conn, wanted[i]) for i in sorted(wanted.keys() - have)]
            if found is None:
                self._insert(conn, port_id, name, network_id, service_project(conn), amphora_id, AMPHORA_OWNER)
            addresses.give_back(conn, port_id, have - wanted.keys())
            place = list(wanted)
            for row in rows:
                _take_next(conn, row, port_id, place.index(row.id))
            return _made(conn, port_id)

        try:
            return self._write(make)
        except Invalid as e:
            raise Broken(e.sentence, "Delete the members on that subnet.") from e

    def plugged(self, amphora_id: str) -> list[NetworkPort]:
        """All ports made by ensure_plugged for this amphora."""
        mine = (local_port.c.device_id == amphora_id) & (local_port.c.device_owner == AMPHORA_OWNER)
        with self._store.read() as conn:
            return _read(conn, _ports().where(mine))

    def ours(self) -> list[NetworkPort]:
        """All ports that ensure_vip and ensure_plugged ever made and that still exist: for finding orphans."""
        with self._store.read() as conn:
            return _read(conn, _ports().where(local_port.c.device_owner.in_((VIP_OWNER, AMPHORA_OWNER))))

    def security_groups(self, ids: Collection[str]) -> list[SecurityGroup]:
        """Those of the groups that exist, with who they admit."""
        group, rule = local_security_group, local_security_rule
        with self._store.read() as conn:
            found = conn.execute(select(group.c.id, group.c.project_id).where(group.c.id.in_(list(ids)))).all()
            rules = conn.execute(select(rule).where(rule.c.security_group_id.in_(list(ids)))).mappings().all()
        admitted: dict[str, list[wire.Admission]] = {g.id: [] for g in found}
        for row in rules:
            admitted.get(row["security_group_id"], []).append(admission(dict(row)))
        return [SecurityGroup(id=g.id, project_id=g.project_id, admitted=tuple(admitted[g.id])) for g in found]

    def qos_policy(self, policy_id: str) -> QosPolicy | None:
        """The policy, or None when there is none."""
        policy, rule = local_qos_policy, local_qos_rule
        with self._store.read() as conn:
            row = conn.execute(select(policy).where(policy.c.id == policy_id)).one_or_none()
            rules = conn.execute(select(rule).where(rule.c.policy_id == policy_id)).all()
        limits = {r.direction: wire.Limit(kilobits=r.max_kbps, burst_kilobits=_burst(r)) for r in rules}
        return None if row is None else QosPolicy(id=row.id, project_id=row.project_id, shared=row.shared, **limits)

    def release(self, port_id: str) -> None:
        """Remove the port; one that is gone already is success. Its floating IPs lead nowhere then."""
        self._store.written(lambda conn: remove_port(conn, port_id, self._clock.now()))

    def _insert(
        self, conn: Connection, port_id: str, name: str, network_id: str, project_id: str, device: str, owner: str
    ) -> None:
        now = moment(self._clock.now())
        conn.execute(
            insert(local_port).values(
                id=port_id, name=name, network_id=network_id, project_id=project_id, device_id=device,
                device_owner=owner, mac_address=new_mac(), created_at=now, updated_at=now,
            )
        )  # fmt: skip

    def _write(self, make: Callable[[Connection], T]) -> T:
        """One transaction, again when another took the same address, name or MAC, or was preferred by the database, at
        the same moment."""
        for _ in range(_TRIES):
            try:
                return self._store.written(make)
            except IntegrityError:
                continue
        raise Later("Others took the same addresses at the same time, again and again.")


def fabric(conn: Connection) -> wire.Fabric:
    """All networks with their subnets, and where floating IPs lead: what the agent is to make."""
    subnets: dict[str, list[wire.FabricSubnet]] = {}
    for row in conn.execute(select(local_subnet).order_by(local_subnet.c.id)):
        subnet = wire.FabricSubnet(id=row.id, cidr=row.cidr, gateway=row.gateway_ip)
        subnets.setdefault(row.network_id, []).append(subnet)
    networks = tuple(
        wire.FabricNetwork(
            id=row.id,
            group="*" if row.shared or row.external else row.project_id,
            mtu=row.mtu,
            subnets=tuple(subnets.get(row.id, ())),
            external=row.external,
        )
        for row in conn.execute(select(local_network).order_by(local_network.c.id))
    )
    table = local_floating_ip.c
    associated = select(table.floating_ip_address, table.fixed_ip_address).where(table.port_id.is_not(None))
    return wire.Fabric(
        networks=networks,
        floating_ips={f.floating_ip_address: f.fixed_ip_address for f in conn.execute(associated)},
    )


def _burst(rule: Any) -> int:  # noqa: ANN401 - a SQLAlchemy row
    """What may pass at once, in kilobits; Neutron takes four fifths of a second's worth where nothing is said."""
    return int(rule.max_burst_kbps or rule.max_kbps * 4 // 5)


def _port_id(name: str) -> str:
    return str(uuid.uuid5(_NAMES, name))


def _lock(conn: Connection, subnet: Subnet) -> Any:  # noqa: ANN401 - a SQLAlchemy row
    row = addresses.lock(conn, subnet.id)
    if row is None:
        raise Broken(f"Subnet {subnet.id} does not exist any more.", "Delete what uses it, or use another subnet.")
    external = select(local_network.c.external).where(local_network.c.id == row.network_id)
    if conn.execute(external).scalar_one():
        raise Invalid(
            f"Subnet {subnet.id} is of an external network, whose addresses are for floating IPs: choose a subnet of "
            "another network, and give its VIP a floating IP."
        )
    return row


def _take_next(conn: Connection, row: Any, port_id: str, position: int) -> None:  # noqa: ANN401
    try:
        addresses.take_next(conn, row, port_id, position)
    except IpAddressGenerationFailure as e:
        raise Broken(e.sentence, "Delete ports that nobody needs, or use a larger subnet.") from e


def service_project(conn: Connection) -> str:
    """The project that amphorae belong to; empty, thus seen by admins only, when identity is served elsewhere."""
    query = select(local_project.c.id).where(local_project.c.name == SERVICE_PROJECT)
    return conn.execute(query).scalar_one_or_none() or ""


def _subnets() -> Select[Any]:
    return select(local_subnet, local_network.c.shared).join(
        local_network, local_network.c.id == local_subnet.c.network_id
    )


def _subnet(row: Any) -> Subnet:  # noqa: ANN401 - a SQLAlchemy row
    return Subnet(
        id=row.id,
        network_id=row.network_id,
        cidr=row.cidr,
        gateway_ip=row.gateway_ip,
        project_id=row.project_id,
        shared=row.shared,
    )


def _ports() -> Select[Any]:
    return (
        select(local_port, local_network.c.mtu, local_address.c.address, local_subnet.c.id.label("subnet_id"),
               local_subnet.c.cidr, local_subnet.c.gateway_ip)
        .join(local_network, local_network.c.id == local_port.c.network_id)
        .outerjoin(local_address, local_address.c.owner_id == local_port.c.id)
        .outerjoin(local_subnet, local_subnet.c.id == local_address.c.subnet_id)
        .order_by(local_port.c.created_at, local_port.c.id, local_address.c.position)
    )  # fmt: skip


def _read(conn: Connection, query: Select[Any]) -> list[NetworkPort]:
    rows: dict[str, Any] = {}
    ips: dict[str, list[FixedIp]] = {}
    for row in conn.execute(query):
        rows[row.id] = row
        held = ips.setdefault(row.id, [])
        if row.address is not None:
            held.append(FixedIp(subnet_id=row.subnet_id, address=row.address, cidr=row.cidr, gateway_ip=row.gateway_ip))
    return [
        NetworkPort(
            id=row.id, name=row.name, network_id=row.network_id, project_id=row.project_id, device_id=row.device_id,
            device_owner=row.device_owner, mac_address=row.mac_address, mtu=row.mtu, fixed_ips=tuple(ips[row.id]),
            qos_policy_id=row.qos_policy_id,
        )
        for row in rows.values()
    ]  # fmt: skip


def _port(conn: Connection, port_id: str) -> NetworkPort | None:
    return next(iter(_read(conn, _ports().where(local_port.c.id == port_id))), None)


def _made(conn: Connection, port_id: str) -> NetworkPort:
    found = _port(conn, port_id)
    if found is None:
        raise Conflict(f"The network of port {port_id} was deleted at the same time.")
    return found

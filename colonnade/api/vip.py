"""Where a load balancer's VIP is: from the port, network, subnet or address that its owner named."""

from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from colonnade.drivers import Network
from colonnade.errors import Broken, Busy, Conflict, Invalid, Later
from colonnade.model import Caller, FixedIp, NetworkPort, Subnet
from colonnade.types import Json


@dataclass(frozen=True, kw_only=True, slots=True)
class Vip:
    """What a load balancer stores about its VIP."""

    vip_address: str
    vip_port_id: str
    vip_subnet_id: str
    vip_network_id: str
    vip_owned: bool


def resolve(network: Network, who: Caller, lb_id: str, project_id: str, given: Json) -> Vip:
    """The VIP, its port made if it was not named. Repeating it with the same ``lb_id`` finds the same port.

    Raises Invalid, Conflict (the address is in use) and Busy (the network does not answer).
    """
    try:
        if given.get("vip_port_id"):
            return _of_port(network, who, given)
        if given.get("vip_network_id"):
            return _on_network(network, who, lb_id, project_id, given)
        if given.get("vip_subnet_id"):
            subnet = visible(network, who, given["vip_subnet_id"])
            return _made(network, lb_id, project_id, subnet, given.get("vip_address"))
    except Later as e:
        raise Busy(f"The network service does not answer: {e} Please try again.") from e
    except Broken as e:
        raise Invalid(f"Validation failure: {e} {e.help}".rstrip()) from e
    raise Invalid("Validation failure: VIP must contain one of: vip_port_id, vip_network_id, vip_subnet_id.")


def check_network(network: Network, who: Caller, given: Json, allowed: tuple[str, ...]) -> None:
    """400 unless the VIP is to be on one of these networks; none given: on any."""
    if not allowed:
        return
    port = network.port(given["vip_port_id"]) if given.get("vip_port_id") else None
    network_id = port.network_id if port else given.get("vip_network_id")
    if network_id is None and given.get("vip_subnet_id"):
        network_id = visible(network, who, given["vip_subnet_id"]).network_id
    if network_id is not None and network_id not in allowed:
        raise Invalid(
            f"Validation failure: Supplied VIP network_id {network_id} is not allowed by the availability zone; its "
            f"VIPs are on: {', '.join(allowed)}."
        )


def visible(network: Network, who: Caller, subnet_id: str) -> Subnet:
    """The subnet, if the caller may see it. Raises Invalid."""
    subnet = network.subnet(subnet_id)
    if subnet is None or not seen(subnet, who):
        raise Invalid(f"Subnet {subnet_id} not found.")
    return subnet


def check_subnet(network: Network, who: Caller, subnet_id: str | None) -> None:
    """400 unless the member's subnet, if any, is there for the caller."""
    if subnet_id is None:
        return
    try:
        visible(network, who, subnet_id)
    except Later as e:
        raise Busy(f"The network service does not answer: {e} Please try again.") from e


def seen(subnet: Subnet, who: Caller) -> bool:
    """Whether the caller may use the subnet."""
    return subnet.shared or who.is_admin or subnet.project_id == who.project_id


def _of_port(network: Network, who: Caller, given: Json) -> Vip:
    port = network.port(given["vip_port_id"])
    if port is None or not (who.is_admin or port.project_id == who.project_id):
        raise Invalid(f"Port {given['vip_port_id']} not found.")
    if port.device_id:
        raise Invalid(f"Validation failure: VIP port {port.id} is already used by device {port.device_id}.")
    if given.get("vip_network_id") not in (None, port.network_id):
        raise Invalid(f"Validation failure: VIP port {port.id} is not on network {given['vip_network_id']}.")
    chosen = _fixed_ip(port, given.get("vip_subnet_id"), given.get("vip_address"))
    return _vip(port, chosen, owned=False)


def _fixed_ip(port: NetworkPort, subnet_id: str | None, address: str | None) -> FixedIp:
    fitting = [
        f for f in port.fixed_ips if subnet_id in (None, f.subnet_id) and address in (None, str(ip_address(f.address)))
    ]
    if not fitting:
        raise Invalid(f"Validation failure: VIP port {port.id} has no address on the given subnet or no such address.")
    if len(fitting) > 1 and subnet_id is None:
        raise Invalid(f"Validation failure: VIP port {port.id} has several addresses; name one of them.")
    return fitting[0]


def _on_network(network: Network, who: Caller, lb_id: str, project_id: str, given: Json) -> Vip:
    network_id, address = given["vip_network_id"], given.get("vip_address")
    subnets = [s for s in network.subnets(network_id) or () if seen(s, who)]
    if not subnets:
        known = network.subnets(network_id) is not None and who.is_admin
        raise Invalid(f"Validation failure: Network {network_id} has no subnet." if known else
                      f"Network {network_id} not found.")  # fmt: skip
    if given.get("vip_subnet_id"):
        subnets = [s for s in subnets if s.id == given["vip_subnet_id"]]
        if not subnets:
            raise Invalid(f"Validation failure: Subnet {given['vip_subnet_id']} is not of network {network_id}.")
    if address is not None:
        subnets = [s for s in subnets if ip_address(address) in ip_network(s.cidr)]
        if not subnets:
            raise Invalid(f"Validation failure: No subnet of network {network_id} holds the address {address}.")
    full: Broken | None = None
    for subnet in sorted(subnets, key=lambda s: ip_network(s.cidr).version):  # IPv4 first, as upstream chooses
        try:
            return _made(network, lb_id, project_id, subnet, address)
        except Broken as e:
            full = e
    raise full or Invalid(f"Validation failure: No subnet of network {network_id} can hold a VIP.")


def _made(network: Network, lb_id: str, project_id: str, subnet: Subnet, address: str | None) -> Vip:
    if address is not None and ip_address(address) not in ip_network(subnet.cidr):
        raise Invalid(f"Validation failure: vip_address {address} is not in subnet {subnet.id} ({subnet.cidr}).")
    port = network.ensure_vip(lb_id, project_id, subnet, address)
    chosen = next((f for f in port.fixed_ips if f.subnet_id == subnet.id), None)
    if chosen is None:
        raise Conflict(f"VIP port {port.id} has no address on subnet {subnet.id}.")
    return _vip(port, chosen, owned=True)


def _vip(port: NetworkPort, chosen: FixedIp, *, owned: bool) -> Vip:
    return Vip(
        vip_address=str(ip_address(chosen.address)), vip_port_id=port.id, vip_subnet_id=chosen.subnet_id,
        vip_network_id=port.network_id, vip_owned=owned,
    )  # fmt: skip

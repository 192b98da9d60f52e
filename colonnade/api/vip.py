"""Where a load balancer's VIPs are: from the port, network, subnets or addresses that its owner named."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network

from colonnade.drivers import Network
from colonnade.errors import Broken, Busy, Conflict, Invalid, Later, Unsupported
from colonnade.model import AdditionalVip, Caller, FixedIp, NetworkPort, Subnet
from colonnade.settings import Networking
from colonnade.types import Json


@dataclass(frozen=True, kw_only=True, slots=True)
class Vip:
    """What a load balancer stores about its VIPs."""

    vip_address: str
    vip_port_id: str
    vip_subnet_id: str
    vip_network_id: str
    vip_owned: bool
    vip_qos_policy_id: str | None = None
    additional_vips: tuple[AdditionalVip, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Maker:
    """Makes the port, as often as it takes to find a subnet with room."""

    network: Network
    lb_id: str
    project_id: str
    more: tuple[tuple[Subnet, str | None], ...]  # the additional VIPs' subnets, with the address that was asked for


@contextmanager
def asking() -> Iterator[None]:
    """Around questions to the network service: 503 when it does not answer, 400 for what it cannot have."""
    try:
        yield
    except Later as e:
        raise Busy(f"The network service does not answer: {e} Please try again.") from e
    except Broken as e:
        raise Invalid(f"Validation failure: {e} {e.help}".rstrip()) from e


def resolve(network: Network, who: Caller, lb_id: str, project_id: str, given: Json) -> Vip:
    """The VIP, its port made if it was not named. Repeating it with the same ``lb_id`` finds the same port.

    Raises Invalid, Conflict (the address is in use) and Busy (the network does not answer).
    """
    with asking():
        place = _resolved(network, who, lb_id, project_id, given)
    return replace(place, vip_qos_policy_id=given.get("vip_qos_policy_id", place.vip_qos_policy_id))


def _resolved(network: Network, who: Caller, lb_id: str, project_id: str, given: Json) -> Vip:
    made_up = network.made_up(lb_id, given)
    if made_up is not None:
        return _vip(made_up, list(made_up.fixed_ips), owned=not given.get("vip_port_id"))
    if given.get("vip_port_id"):
        return _of_port(network, who, given)
    if given.get("vip_network_id"):
        more = _additional(network, who, given)
        return _on_network(_Maker(network=network, lb_id=lb_id, project_id=project_id, more=more), who, given)
    if given.get("vip_subnet_id"):
        subnet = visible(network, who, given["vip_subnet_id"])
        maker = _Maker(network=network, lb_id=lb_id, project_id=project_id, more=_additional(network, who, given))
        return _made(maker, subnet, given.get("vip_address"))
    raise Invalid("Validation failure: VIP must contain one of: vip_port_id, vip_network_id, vip_subnet_id.")


_ALLOWED = {"vip_port_id": "allow_vip_port_id", "vip_network_id": "allow_vip_network_id",
            "vip_subnet_id": "allow_vip_subnet_id"}  # fmt: skip


def check_words(given: Json, options: Networking) -> None:
    """400 when the VIP is named by what the operator does not let users name."""
    for field, option in _ALLOWED.items():
        if given.get(field) and not getattr(options, option):
            raise Invalid(f"Validation failure: use of {field} is disallowed by the configuration of this deployment.")


@asking()
def check_traffic(network: Network, who: Caller, given: Json) -> None:
    """400 unless the security groups and the QoS policy that are named are there for the caller."""
    try:
        wanted = given.get("vip_sg_ids") or ()
        found = network.security_groups(wanted) if wanted else []
        seen = {g.id for g in found if g.shared or _own(g.project_id, who)}
        for group_id in wanted:
            if group_id not in seen:
                raise Invalid(f"Security group {group_id} not found.")
        policy_id = given.get("vip_qos_policy_id")
        if policy_id:
            policy = network.qos_policy(policy_id)
            if policy is None or not (policy.shared or _own(policy.project_id, who)):
                raise Invalid(f"QoS policy {policy_id} not found.")
    except Unsupported as e:
        raise Invalid(f"Validation failure: {e.sentence}") from e


def _own(project_id: str, who: Caller) -> bool:
    return who.is_admin or project_id == who.project_id


@asking()
def check_network(network: Network, who: Caller, given: Json, of_zone: tuple[str, ...], options: Networking) -> None:
    """400 unless the VIP is to be on a network where VIPs may be. A zone's list is in place of the operator's own."""
    allowed, denied = of_zone or _ids(options.valid_vip_networks), _ids(options.denylist_vip_networks)
    if not allowed and not denied:
        return
    port = network.port(given["vip_port_id"]) if given.get("vip_port_id") else None
    network_id = port.network_id if port else given.get("vip_network_id")
    if network_id is None and given.get("vip_subnet_id"):
        network_id = visible(network, who, given["vip_subnet_id"]).network_id
    if network_id is None:
        return
    if allowed and network_id not in allowed:
        by = "availability zone" if of_zone else "configuration of this deployment"
        raise Invalid(
            f"Validation failure: Supplied VIP network_id {network_id} is not allowed by the {by}; its "
            f"VIPs are on: {', '.join(allowed)}."
        )
    if network_id in denied:
        raise Invalid(
            f"Validation failure: Supplied VIP network_id {network_id} is not allowed by the configuration of this "
            "deployment; choose another network."
        )


def _ids(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(t.strip().lower() for t in texts)


def visible(network: Network, who: Caller, subnet_id: str) -> Subnet:
    """The subnet, if the caller may see it. Raises Invalid."""
    subnet = network.subnet(subnet_id)
    if subnet is None or not seen(subnet, who):
        raise Invalid(f"Subnet {subnet_id} not found.")
    return subnet


def check_subnet(network: Network, who: Caller, subnet_id: str | None) -> None:
    """400 unless the member's subnet, if any, is there for the caller."""
    if subnet_id is not None:
        with asking():
            visible(network, who, subnet_id)


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
    more = [_more_of_port(port, vip) for vip in given.get("additional_vips") or ()]
    return _vip(port, [chosen, *more], owned=False)


def _fixed_ip(port: NetworkPort, subnet_id: str | None, address: str | None) -> FixedIp:
    fitting = [
        f for f in port.fixed_ips if subnet_id in (None, f.subnet_id) and address in (None, str(ip_address(f.address)))
    ]
    if not fitting:
        raise Invalid(f"Validation failure: VIP port {port.id} has no address on the given subnet or no such address.")
    if len(fitting) > 1 and subnet_id is None:
        raise Invalid(f"Validation failure: VIP port {port.id} has several addresses; name one of them.")
    return fitting[0]


def _more_of_port(port: NetworkPort, vip: Json) -> FixedIp:
    if vip.get("port_id") not in (None, port.id):
        raise Invalid(f"Validation failure: additional_vips: port_id {vip['port_id']} is not the VIP's port {port.id}.")
    wanted = vip.get("ip_address")
    for fixed in port.fixed_ips:
        if fixed.subnet_id == vip["subnet_id"] and wanted in (None, str(ip_address(fixed.address))):
            return fixed
    what = f"no address {wanted}" if wanted else "no address"
    raise Invalid(
        f"Validation failure: additional_vips: port {port.id} has {what} on subnet {vip['subnet_id']}; give the port "
        "one, or leave vip_port_id out."
    )


def _additional(network: Network, who: Caller, given: Json) -> tuple[tuple[Subnet, str | None], ...]:
    """Where the additional VIPs of a port of ours are to be."""
    found = []
    for vip in given.get("additional_vips") or ():
        if vip.get("port_id"):
            raise Invalid("Validation failure: additional_vips: port_id goes with vip_port_id only, and is the same.")
        subnet, address = visible(network, who, vip["subnet_id"]), vip.get("ip_address")
        if address is not None and ip_address(address) not in ip_network(subnet.cidr):
            raise Invalid(
                f"Validation failure: additional_vips: ip_address {address} is not in subnet {subnet.id} "
                f"({subnet.cidr})."
            )
        found.append((subnet, address))
    return tuple(found)


def _on_network(maker: _Maker, who: Caller, given: Json) -> Vip:
    network, network_id, address = maker.network, given["vip_network_id"], given.get("vip_address")
    here = [s for s in network.subnets(network_id) or () if seen(s, who)]
    taken = {s.id for s, _ in maker.more}
    subnets = [s for s in here if s.id not in taken or s.id == given.get("vip_subnet_id")]
    if here and not subnets:
        raise Invalid(f"Validation failure: All subnets of network {network_id} are for additional VIPs: none is left.")
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
            return _made(maker, subnet, address)
        except Broken as e:
            full = e
    raise full or Invalid(f"Validation failure: No subnet of network {network_id} can hold a VIP.")


def _made(maker: _Maker, subnet: Subnet, address: str | None) -> Vip:
    if address is not None and ip_address(address) not in ip_network(subnet.cidr):
        raise Invalid(f"Validation failure: vip_address {address} is not in subnet {subnet.id} ({subnet.cidr}).")
    _check_apart(subnet.network_id, [subnet.id, *(s.id for s, _ in maker.more)], maker.more)
    port = maker.network.ensure_vip(maker.lb_id, maker.project_id, subnet, address, maker.more)
    chosen = []
    for wanted in (subnet, *(s for s, _ in maker.more)):
        fixed = next((f for f in port.fixed_ips if f.subnet_id == wanted.id), None)
        if fixed is None:
            raise Conflict(f"VIP port {port.id} has no address on subnet {wanted.id}.")
        chosen.append(fixed)
    return _vip(port, chosen, owned=True)


def _check_apart(
    network_id: str, subnet_ids: list[str], more: Iterable[tuple[Subnet, str | None]] = ()
) -> None:  # fmt: skip
    """400 unless all VIPs are on one network, each on a subnet of its own."""
    for subnet, _ in more:
        if subnet.network_id != network_id:
            raise Invalid(
                f"Validation failure: additional_vips: subnet {subnet.id} is not on the VIP's network {network_id}."
            )
    twice = next((s for n, s in enumerate(subnet_ids) if s in subnet_ids[:n]), None)
    if twice is not None:
        raise Invalid(
            f"Validation failure: additional_vips: subnet {twice} has a VIP already: one address of each subnet."
        )


def _vip(port: NetworkPort, chosen: list[FixedIp], *, owned: bool) -> Vip:
    _check_apart(port.network_id, [f.subnet_id for f in chosen])
    first, *more = chosen
    return Vip(
        vip_address=str(ip_address(first.address)), vip_port_id=port.id, vip_subnet_id=first.subnet_id,
        vip_network_id=port.network_id, vip_owned=owned, vip_qos_policy_id=port.qos_policy_id,
        additional_vips=tuple(
            AdditionalVip(subnet_id=f.subnet_id, ip_address=str(ip_address(f.address)), port_id=port.id) for f in more
        ),
    )  # fmt: skip

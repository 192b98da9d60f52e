"""The VIP of a load balancer that a third party's provider serves: the provider may make its port, else we do."""

from collections.abc import Mapping
from ipaddress import ip_address, ip_network

from colonnade.api import vip
from colonnade.api.vip import Vip
from colonnade.api.writing import Api
from colonnade.drivers import Network
from colonnade.drivers.provider import Unimplemented
from colonnade.errors import Invalid, ProviderFailed
from colonnade.model import AdditionalVip, Caller, Subnet
from colonnade.types import Json

_FIELDS = ("vip_address", "vip_port_id", "vip_subnet_id", "vip_network_id")


def resolve(api: Api, who: Caller, provider: str, lb_id: str, project_id: str, given: Json) -> Vip:
    """The VIP, its port made by the provider, or by us where the provider leaves that to us. Raises as vip.resolve,
    and what a provider raises."""
    wanted = _wanted(api.network, who, lb_id, given)
    more = _more(wanted, given)
    try:
        answer = api.providers.call(provider, "create_vip_port", lb_id, project_id, dict(wanted), list(more))
    except Unimplemented:
        return vip.resolve(api.network, who, lb_id, project_id, given)
    made, others = answer if isinstance(answer, tuple | list) and len(answer) == 2 else (None, None)
    if not isinstance(made, Mapping) or not isinstance(others, tuple | list) or len(others) != len(more):
        raise ProviderFailed(f"Provider '{provider}' reports error: create_vip_port gave no pair of VIP and others.")
    found = {**wanted, **{name: made[name] for name in _FIELDS if made.get(name)}}
    wrong = [name for name in _FIELDS if not isinstance(found.get(name), str) or not found[name]]
    if wrong:
        raise ProviderFailed(f"Provider '{provider}' reports error: create_vip_port gave no {', '.join(wrong)}.")
    try:
        address = str(ip_address(found["vip_address"]))
        additional = tuple(_additional({**asked, **dict(got)}) for asked, got in zip(more, others, strict=True))
    except (ValueError, TypeError, KeyError):
        raise ProviderFailed(f"Provider '{provider}' reports error: create_vip_port gave no address.") from None
    return Vip(
        vip_address=address, vip_port_id=found["vip_port_id"], vip_subnet_id=found["vip_subnet_id"],
        vip_network_id=found["vip_network_id"], vip_owned=made.get("octavia_owned") is True,
        vip_qos_policy_id=given.get("vip_qos_policy_id"), additional_vips=additional,
    )  # fmt: skip


def _more(wanted: Json, given: Json) -> list[Json]:
    """The additional VIPs in octavia-lib's words; all are on the VIP's network."""
    network = {"network_id": wanted.get("vip_network_id")}
    return [{**network, **{k: v for k, v in a.items() if v is not None}} for a in given.get("additional_vips") or ()]


def _additional(made: Json) -> AdditionalVip:
    return AdditionalVip(
        subnet_id=str(made["subnet_id"]), ip_address=str(ip_address(made["ip_address"])), port_id=made["port_id"]
    )


def _wanted(network: Network, who: Caller, lb_id: str, given: Json) -> Json:
    """What is known of the VIP before it has a port, in octavia-lib's words; what is not known is left out."""
    if network.made_up(lb_id, given) is not None:
        return {name: given[name] for name in _FIELDS if given.get(name)}
    if given.get("vip_port_id"):
        place = vip.resolve(network, who, "", "", given)  # a port that is there: nothing is made
        return {name: getattr(place, name) for name in _FIELDS}
    with vip.asking():
        subnet = _subnet(network, who, given)
    address = given.get("vip_address")
    if address is not None and ip_address(address) not in ip_network(subnet.cidr):
        raise Invalid(f"Validation failure: vip_address {address} is not in subnet {subnet.id} ({subnet.cidr}).")
    known = {"vip_network_id": subnet.network_id, "vip_subnet_id": subnet.id}
    return known if address is None else {**known, "vip_address": address}


def _subnet(network: Network, who: Caller, given: Json) -> Subnet:
    """The named one; of a network the one that holds the address, or the first of IPv4, else the first."""
    network_id, subnet_id, address = (given.get(n) for n in ("vip_network_id", "vip_subnet_id", "vip_address"))
    if subnet_id:
        subnet = vip.visible(network, who, subnet_id)
        if network_id not in (None, subnet.network_id):
            raise Invalid(f"Validation failure: Subnet {subnet_id} is not of network {network_id}.")
        return subnet
    if not network_id:
        raise Invalid("Validation failure: VIP must contain one of: vip_port_id, vip_network_id, vip_subnet_id.")
    subnets = [s for s in network.subnets(network_id) or () if vip.seen(s, who)]
    if not subnets:
        raise Invalid(f"Network {network_id} not found.")
    fitting = [s for s in subnets if address is None or ip_address(address) in ip_network(s.cidr)]
    if not fitting:
        raise Invalid(f"Validation failure: No subnet of network {network_id} holds the address {address}.")
    return min(fitting, key=lambda s: ip_network(s.cidr).version)

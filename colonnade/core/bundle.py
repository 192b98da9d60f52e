"""Everything one amphora must be, rendered purely from its load balancer's tree and its ports."""

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from colonnade import wire
from colonnade.core import datagrams, haproxy
from colonnade.errors import Broken
from colonnade.model import Amphora, FixedIp, LoadBalancer, NetworkPort, Tree


@dataclass(frozen=True, kw_only=True, slots=True)
class RenderOptions:
    """What a bundle holds that comes from settings."""

    heartbeat_targets: tuple[str, ...]
    heartbeat_interval: float = 3.0
    default_connection_limit: int = 50000
    hard_stop_after_s: int = 60
    threads: int = 1


def render(
    tree: Tree, amphora: Amphora, ports: Sequence[NetworkPort], vip: NetworkPort, *, options: RenderOptions,
    serving: bool,
) -> wire.Bundle:  # fmt: skip
    """The bundle of ``amphora``, whose own ports are ``ports``; ``vip`` is the load balancer's port.

    Equal inputs give an equal bundle, whatever the order of ``ports``. Raises Broken when no own port is on the VIP's
    network, or the tree holds what cannot be expressed.
    """
    addresses = _served(tree, vip)
    limits = haproxy.Limits(
        default_connection_limit=options.default_connection_limit, hard_stop_after_s=options.hard_stop_after_s,
        threads=options.threads,
    )  # fmt: skip
    return wire.Bundle(
        amphora_id=amphora.id,
        loadbalancer_id=tree.load_balancer.id,
        serving=serving,
        interfaces=tuple(_interfaces(ports, vip, addresses)),
        files=haproxy.render(tree, addresses, limits) | datagrams.render(tree, addresses),
        heartbeat_targets=options.heartbeat_targets,
        heartbeat_interval=options.heartbeat_interval,
    )


def vips(balancer: LoadBalancer) -> tuple[str, ...]:
    """Its VIPs, the first one first."""
    more = (v.ip_address for v in balancer.additional_vips)
    return tuple(address for address in (balancer.vip_address, *more) if address)


def _served(tree: Tree, vip: NetworkPort) -> tuple[str, ...]:
    """The addresses to serve on: a port that its user brought may have more than those that are VIPs."""
    wanted = vips(tree.load_balancer)
    return wanted or tuple(f.address for f in vip.fixed_ips)


def _interfaces(ports: Sequence[NetworkPort], vip: NetworkPort, vips: tuple[str, ...]) -> Iterable[wire.Interface]:
    """The VIP's network first, then by network. Only the VIP's network has default routes: two would compete."""
    if not any(p.network_id == vip.network_id for p in ports):
        raise Broken(f"The amphora has no port on the network of the VIP, {vip.network_id}.", "Fail it over.")
    for port in sorted(ports, key=lambda p: (p.network_id != vip.network_id, p.network_id, p.id)):
        front = port.network_id == vip.network_id
        yield wire.Interface(
            port_id=port.id,
            network_id=port.network_id,
            mac=port.mac_address,
            mtu=port.mtu,
            addresses=tuple(_own(f) for f in port.fixed_ips),
            vips=tuple(_host(v) for v in vips) if front else (),
            gateways=_gateways(port) if front else (),
        )


def _own(fixed: FixedIp) -> str:
    return f"{fixed.address}/{ipaddress.ip_network(fixed.cidr).prefixlen}"


def _host(address: str) -> str:
    """A VIP as a lone address. ARP and ND answer for it all the same; with the subnet's prefix it would be a secondary
    of the own address, or its primary: the kernel would send health checks from it, and drop one with the other."""
    return f"{address}/{ipaddress.ip_address(address).max_prefixlen}"


def _gateways(port: NetworkPort) -> tuple[str, ...]:
    by_version: dict[int, str] = {}
    for fixed in port.fixed_ips:
        if fixed.gateway_ip:
            by_version.setdefault(ipaddress.ip_address(fixed.gateway_ip).version, fixed.gateway_ip)
    return tuple(by_version[version] for version in sorted(by_version))

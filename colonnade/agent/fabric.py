"""The host's networks: a namespace with a bridge for each, gateways, floating IPs, and the way to the host.

The wanted fabric is kept on disk before it is made; making it again changes nothing, and applies the least difference.
"""

import contextlib
import hashlib
import itertools
import logging
import os
import threading
from collections.abc import Iterable, Iterator
from ipaddress import ip_address, ip_interface, ip_network

from colonnade import wire
from colonnade.agent import host, namespaces, rules, tracking
from colonnade.agent.netlink import Interface, Link, Netlink, Subnet
from colonnade.agent.place import Installation, keep, kept
from colonnade.agent.refused import Refused

log = logging.getLogger(__name__)


class HostFabric:
    """The fabric of this host. ``restore`` comes first; afterwards all is safe to call from any thread."""

    def __init__(self, here: Installation) -> None:
        self._here = here
        self._lock = threading.RLock()
        self._want: wire.Fabric | None = None
        self._made = False
        self._numbers: dict[str, int] = {}
        self._indexes: dict[str, int] = {}
        self._host = Netlink()
        self._fabric: Netlink

    @property
    def digest(self) -> str | None:
        """Of the fabric that was put last."""
        return wire.digest(self._want) if self._want else None

    def restore(self) -> None:
        """Make what is on disk true: the namespace and the uplink always, networks when there were any."""
        data = kept(self._here.disk / "fabric.json") or {}
        self._numbers = data.get("numbers", {})
        namespaces.create(self._here.fabric)
        with namespaces.inside(self._here.fabric):
            self._fabric = Netlink()
            _prepare()
        self._fabric.bring_up("lo")
        host.connect(self._here, self._host, self._fabric)
        if data.get("fabric"):
            self._want = wire.fabric_from_json(data["fabric"])
            self._make(self._want, before=None)
            self._made = True
        host.warn_of_firewall(self._here)

    def put(self, want: wire.Fabric) -> str:
        """Make the fabric be so. Raises Refused 409 when a network to remove is in use."""
        with self._lock:
            if self._made and self._want == want:
                return wire.digest(want)
            self._refuse_removing_plugged(want)
            before, self._want = self._want if self._made else None, want
            self._made = False
            for network in want.networks:
                if not network.external and network.id not in self._numbers:
                    self._numbers[network.id] = _unused(self._numbers)
            self._save()
            self._make(want, before)
            self._numbers = {n.id: self._numbers[n.id] for n in want.networks if not n.external}
            self._save()
            self._made = True
            log.info("fabric changed: %d networks, %d floating IPs", len(want.networks), len(want.floating_ips))
            return wire.digest(want)

    def has(self, network_id: str) -> bool:
        """Whether the network is there to be plugged into."""
        return network_id in self._indexes

    def plug(self, network_id: str, name: str, *, namespace: str, mac: str, mtu: int) -> None:
        """A pair of interfaces called ``name``: one on the network's bridge, one in the namespace, down."""
        with self._lock:
            if network_id not in self._indexes:
                raise Refused(
                    409, f"The network {network_id} is not on this host yet.", "It comes with PUT /v1/fabric."
                )
            with _open(namespace) as there:
                self._fabric.add_veth(
                    name, mtu=mtu, master=self._indexes[network_id], peer=name, peer_namespace=there, peer_mac=mac
                )

    def unplug(self, name: str) -> None:
        """Remove the pair of interfaces; gone already is success."""
        self._fabric.remove_link(name)

    def _save(self) -> None:
        fabric = wire.to_json(self._want) if self._want else None
        keep(self._here.disk / "fabric.json", {"numbers": self._numbers, "fabric": fabric})

    def _refuse_removing_plugged(self, want: wire.Fabric) -> None:
        staying = {n.id for n in want.networks if not n.external}
        masters = {link.master for link in self._fabric.links().values()}
        for network_id, index in self._indexes.items():
            if network_id not in staying and index in masters:
                raise Refused(
                    409, f"The network {network_id} is in use: interfaces are plugged into it.", "Remove them first."
                )

    def _make(self, want: wire.Fabric, before: wire.Fabric | None) -> None:
        inner = [n for n in want.networks if not n.external]
        links = self._fabric.links()
        bridges = {n.id: f"br{self._numbers[n.id]}" for n in inner}
        for name in set(links) - set(bridges.values()):
            if name.startswith("br"):
                self._fabric.remove_link(name)
        for network in inner:
            self._make_bridge(bridges[network.id], network, links.get(bridges[network.id]))
        found = self._fabric.links()
        self._indexes = {n.id: found[bridges[n.id]].index for n in inner}
        for network in inner:
            self._make_gateways(self._indexes[network.id], network)
        self._make_unreachable([n for n in want.networks if n.external])
        inside = _subnets(inner, only_with_gateway=True)
        rules.load(rules.fabric(want, bridges, inside), self._here.fabric)
        reached = _subnets(want.networks, only_with_gateway=True)
        not_ours = host.elsewhere(self._here, self._host, reached)
        host.route(self._here, self._host, [s for s in reached if s not in not_ours])
        if before is None or _subnets(before.networks) != _subnets(want.networks):
            host.start_forwarding(self._here, inside)
        led = before.floating_ips if before else {}
        if moved := [address for address, target in led.items() if want.floating_ips.get(address) != target]:
            tracking.forget(moved, self._here.fabric)

    def _make_bridge(self, name: str, network: wire.FabricNetwork, have: Link | None) -> None:
        if have is None:
            self._fabric.add_bridge(name, mac=_bridge_mac(network.id), mtu=network.mtu)
        elif have.mtu != network.mtu or not have.up:
            self._fabric.bring_up(name, mtu=network.mtu)

    def _make_gateways(self, bridge: int, network: wire.FabricNetwork) -> None:
        have, want = self._fabric.addresses(bridge), set(_gateways(network))
        for address in have - want:
            self._fabric.remove_address(bridge, address)
        for address in want - have:
            self._fabric.add_address(bridge, address)

    def _make_unreachable(self, networks: list[wire.FabricNetwork]) -> None:
        """Floating addresses that lead nowhere are refused here; the default route would send them back and forth."""
        have = {r.to for r in self._fabric.routes() if r.unreachable}
        want = set(_subnets(networks))
        for subnet in have - want:
            self._fabric.remove_route(subnet)
        for subnet in want - have:
            self._fabric.add_route(subnet, unreachable=True)


def bridge(here: Installation, network_id: str) -> str:
    """The bridge of a network, from what is on disk: for other programs of root's. Raises KeyError when unknown."""
    return f"br{(kept(here.disk / 'fabric.json') or {}).get('numbers', {})[network_id]}"


def _prepare() -> None:
    for setting in ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"):
        namespaces.sysctl(setting, "1")
    for family in ("ip", "ip6", "arp"):
        # The setting is the namespace's own: bridged packets do not meet the rules for routed ones.
        namespaces.sysctl(f"net/bridge/bridge-nf-call-{family}tables", "0")
    for which in ("all", "default"):
        namespaces.sysctl(f"net/ipv4/conf/{which}/rp_filter", "0")
        namespaces.sysctl(f"net/ipv4/conf/{which}/send_redirects", "0")
        namespaces.sysctl(f"net/ipv6/conf/{which}/accept_dad", "0")
        namespaces.sysctl(f"net/ipv6/conf/{which}/accept_ra", "0")


def _subnets(networks: Iterable[wire.FabricNetwork], *, only_with_gateway: bool = False) -> list[Subnet]:
    """Without a gateway a subnet is reached by nobody outside it; external ones have none to show."""
    return [ip_network(s.cidr) for n in networks for s in n.subnets if s.gateway or n.external or not only_with_gateway]


def _gateways(network: wire.FabricNetwork) -> Iterator[Interface]:
    for subnet in network.subnets:
        if subnet.gateway:
            yield ip_interface(f"{ip_address(subnet.gateway)}/{ip_network(subnet.cidr).prefixlen}")


def _unused(numbers: dict[str, int]) -> int:
    return next(n for n in range(len(numbers) + 1) if n not in numbers.values())


def _bridge_mac(network_id: str) -> str:
    return "02:" + hashlib.sha256(network_id.encode()).digest()[:5].hex(":")


@contextlib.contextmanager
def _open(namespace: str) -> Iterator[int]:
    fd = os.open(namespaces.path(namespace), os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def overlapping(want: wire.Fabric) -> tuple[Subnet, Subnet] | None:
    """Two subnets of the fabric that share addresses; None when there are none."""
    ordered = sorted(_subnets(want.networks), key=lambda s: (s.version, s.network_address, s.prefixlen))
    for left, right in itertools.pairwise(ordered):
        if left.version == right.version and left.overlaps(right):
            return left, right
    return None

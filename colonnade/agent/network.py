"""An amphora's own network: its namespace, interfaces, addresses, VIPs and default routes.

Interfaces are named after their ports, the same on both sides of the veth, so what is there is found by name. The
other end is on a bridge of the fabric.
"""

import logging
import os
import socket
import struct
import uuid
from collections.abc import Iterable, Iterator
from ipaddress import ip_address, ip_interface, ip_network

from colonnade.agent import namespaces
from colonnade.agent.fabric import HostFabric, bridge
from colonnade.agent.netlink import Interface, Netlink
from colonnade.agent.place import Installation
from colonnade.agent.refused import Refused
from colonnade.wire import Interface as Port

log = logging.getLogger(__name__)
_METRIC = 100  # of default routes; the first interface's is lowest
_SETTINGS = {
    "net/ipv4/conf/all/accept_redirects": "0",
    "net/ipv4/conf/default/accept_redirects": "0",
    "net/ipv6/conf/all/accept_redirects": "0",
    "net/ipv6/conf/default/accept_redirects": "0",
    "net/ipv4/conf/all/send_redirects": "0",  # members are not to be reached past the load balancer
    "net/ipv4/conf/default/send_redirects": "0",
    "net/ipv4/ip_unprivileged_port_start": "0",  # HAProxy has no capability and still binds port 80
    "net/ipv4/ping_group_range": "0 2147483647",
    "net/ipv4/ip_nonlocal_bind": "1",  # HAProxy binds a VIP that another amphora still holds
    "net/ipv6/ip_nonlocal_bind": "1",
    "net/ipv4/ip_local_port_range": "10240 65535",
    "net/ipv4/conf/all/rp_filter": "0",  # a client's network may be reached by another interface than the VIP's
    "net/ipv4/conf/default/rp_filter": "0",
    "net/ipv4/conf/all/arp_ignore": "1",  # a VIP is answered for on its own network only
    "net/ipv4/conf/all/arp_announce": "2",
    "net/ipv6/conf/all/accept_dad": "0",
    "net/ipv6/conf/default/accept_dad": "0",
    "net/ipv6/conf/all/accept_ra": "0",
    "net/ipv6/conf/default/accept_ra": "0",
}


class AmphoraNetwork:
    """The network of one amphora. Not safe for two threads at once: the amphora's lock is held around it."""

    def __init__(self, fabric: HostFabric, namespace: str) -> None:
        self._fabric = fabric
        self.namespace = namespace
        self._netlink: Netlink | None = None
        self._packets: socket.socket | None = None

    def ensure(self) -> None:
        """Make the namespace unless it is there."""
        fresh = not namespaces.exists(self.namespace)
        namespaces.create(self.namespace)
        if fresh:
            self.forward(False)  # a new namespace has what the host has
        if self._netlink is None:
            with namespaces.inside(self.namespace):
                self._netlink = Netlink()
                for name, value in _SETTINGS.items():
                    namespaces.sysctl(name, value)
            self._netlink.bring_up("lo")

    def forward(self, on: bool) -> None:
        """Whether packets for others are passed on. The kernel resets what else it thinks a router is to do or not."""
        with namespaces.inside(self.namespace):
            namespaces.sysctl("net/ipv4/ip_forward", str(int(on)))
            namespaces.sysctl("net/ipv4/conf/all/accept_redirects", "0")
            namespaces.sysctl("net/ipv6/conf/all/forwarding", str(int(on)))

    def plug(self, ports: Iterable[Port]) -> None:
        """Have these interfaces, with their own addresses and routes. Others, and VIPs, stay as they are.

        Raises Refused 409 when a network is not there yet, before anything is changed.
        """
        wanted = list(ports)
        links = self._links.links()
        for port in wanted:
            if _name(port.port_id) not in links and not self._fabric.has(port.network_id):
                raise Refused(
                    409, f"The network {port.network_id} is not on this host yet.", "It comes with PUT /v1/fabric."
                )
        for port in wanted:
            if _name(port.port_id) not in links:
                self._fabric.plug(
                    port.network_id, _name(port.port_id), namespace=self.namespace, mac=port.mac, mtu=port.mtu
                )
        links = self._links.links()
        for position, port in enumerate(wanted):
            link = links[_name(port.port_id)]
            if not link.up or link.mtu != port.mtu:
                self._links.bring_up(link.name, mtu=port.mtu)
            self._address(link.index, port)
            for gateway in map(ip_address, port.gateways):
                everywhere = ip_network("0.0.0.0/0" if gateway.version == 4 else "::/0")
                self._links.add_route(everywhere, via=gateway, link=link.index, metric=_METRIC + position)

    def hold(self, ports: Iterable[Port]) -> list[Port]:
        """Put the VIPs of these interfaces on and announce them. Answers the interfaces that got one."""
        links = self._links.links()
        changed = []
        for port in ports:
            index = links[_name(port.port_id)].index
            missing = {ip_interface(v) for v in port.vips} - self._links.addresses(index)
            for vip in missing:
                self._links.add_address(index, vip, secondary=True)
            if missing:
                changed.append(port)
        self.announce(changed)
        return changed

    def announce(self, ports: Iterable[Port]) -> None:
        """Tell the networks that the VIPs are here; neighbours who sent elsewhere send here from now on."""
        if self._packets is None:
            with namespaces.inside(self.namespace):
                # Kept: closing one takes the kernel 10 ms. Protocol 0 receives nothing.
                self._packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        for port in ports:
            _announce(self._packets, _name(port.port_id), port.mac, [ip_interface(v) for v in port.vips])

    @staticmethod
    def named(ports: Iterable[Port]) -> list[tuple[str, Port]]:
        """The interfaces with their names in the namespace."""
        return [(_name(p.port_id), p) for p in ports]

    def trim(self, ports: Iterable[Port], *, serving: bool) -> None:
        """Take off what these interfaces do not say: other interfaces, other addresses, VIPs when not serving."""
        wanted = {_name(p.port_id): p for p in ports}
        for name, link in self._links.links().items():
            if name not in wanted:
                if name != "lo":
                    self._fabric.unplug(name)
                continue
            port = wanted[name]
            keeping = {ip_interface(a) for a in (*port.addresses, *(port.vips if serving else ()))}
            for address in self._links.addresses(link.index) - keeping:
                self._links.remove_address(link.index, address)
            self._drop_routes(link.index, port)

    def remove(self) -> None:
        """Remove all of it. The fabric's ends go first: a namespace lives on for a while after its name is gone."""
        if namespaces.exists(self.namespace):
            self.ensure()
            for name in self._links.links():
                if name.startswith("p"):  # kernels may put others there, which stay
                    self._links.remove_link(name)
        for held in (self._netlink, self._packets):
            if held:
                held.close()
        self._netlink = self._packets = None
        namespaces.remove(self.namespace)

    @property
    def _links(self) -> Netlink:
        if self._netlink is None:
            raise RuntimeError(f"{self.namespace} is used before ensure")
        return self._netlink

    def _address(self, index: int, port: Port) -> None:
        have = self._links.addresses(index)
        for address in map(ip_interface, port.addresses):
            if address not in have:
                self._links.add_address(index, address)

    def _drop_routes(self, index: int, port: Port) -> None:
        gateways = {ip_address(g) for g in port.gateways}
        for route in self._links.routes():
            if route.link == index and route.to.prefixlen == 0 and route.via and route.via not in gateways:
                self._links.remove_route(route.to, link=index)


def attach(
    here: Installation, network_id: str, namespace: str, *, name: str = "eth0", addresses: Iterable[str],
    gateways: Iterable[str] = (), mtu: int = 1500,
) -> None:  # fmt: skip
    """Plug an existing namespace, no amphora, into a network of the fabric: servers of a demonstration or a test.

    Needs root, not the agent. Call ``teardown`` or ``ip netns del`` to undo it. ``addresses`` carry prefix lengths.
    Raises KeyError when the network is not in the fabric.
    """
    end = f"a{uuid.uuid4().hex[:12]}"
    with namespaces.inside(here.fabric):
        fabric = Netlink()
    with namespaces.inside(namespace):
        inner = Netlink()
        namespaces.sysctl("net/ipv6/conf/default/accept_dad", "0")
    there = os.open(namespaces.path(namespace), os.O_RDONLY | os.O_CLOEXEC)
    try:
        master = fabric.links()[bridge(here, network_id)].index
        fabric.add_veth(end, mtu=mtu, master=master, peer=name, peer_namespace=there)
        for link in ("lo", name):
            inner.bring_up(link)
        index = inner.links()[name].index
        for address in addresses:
            inner.add_address(index, ip_interface(address))
        for gateway in map(ip_address, gateways):
            inner.add_route(ip_network("0.0.0.0/0" if gateway.version == 4 else "::/0"), via=gateway, link=index)
    finally:
        os.close(there)
        fabric.close()
        inner.close()


def leftovers(here: Installation, known: Iterable[str]) -> Iterator[str]:
    """Namespaces named as an amphora's that belong to none of these amphorae."""
    names = {here.namespace(a) for a in known}
    for name in namespaces.names(here.prefix):
        short = name.removeprefix(here.prefix)
        if len(short) == 13 and short[8] == "-" and name not in names:
            yield name


def _name(port_id: str) -> str:
    return "p" + port_id.replace("-", "")[:13]


def _announce(packets: socket.socket, interface: str, mac: str, vips: list[Interface]) -> None:
    hardware = bytes.fromhex(mac.replace(":", ""))
    for vip in vips:
        for frame in _arp(hardware, vip.ip.packed) if vip.version == 4 else _advert(hardware, vip.ip.packed):
            packets.sendto(frame, (interface, 0))


def _arp(mac: bytes, ip: bytes) -> list[bytes]:
    """RFC 5227 announcements: some systems take the request, others the reply."""
    everyone = b"\xff" * 6
    head = everyone + mac + struct.pack(">HHHBB", 0x0806, 1, 0x0800, 6, 4)
    return [head + struct.pack(">H", kind) + mac + ip + everyone + ip for kind in (1, 2)]


def _advert(mac: bytes, ip: bytes) -> list[bytes]:
    """An unsolicited neighbour advertisement (RFC 4861) with the override flag, from the VIP to all nodes."""
    nodes = bytes.fromhex("ff020000000000000000000000000001")
    body = struct.pack(">BBHI", 136, 0, 0, 0x20000000) + ip + b"\x02\x01" + mac
    total = sum(struct.unpack(f">{(32 + 8 + len(body)) // 2}H", ip + nodes + struct.pack(">II", len(body), 58) + body))
    total = (total & 0xFFFF) + (total >> 16)
    check = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    body = body[:2] + struct.pack(">H", check) + body[4:]
    packet = struct.pack(">IHBB", 0x60000000, len(body), 58, 255) + ip + nodes + body
    return [bytes.fromhex("333300000001") + mac + b"\x86\xdd" + packet]

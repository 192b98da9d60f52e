"""The host's side of the fabric: the uplink, routes to our subnets, forwarding, masquerading.

Forwarding is the machine's, not ours: it is switched on while any installation needs it, and put back by the last one.
"""

import contextlib
import fcntl
import logging
import os
import shlex
from collections.abc import Iterable, Iterator
from ipaddress import ip_network
from pathlib import Path

from colonnade.agent import namespaces, rules
from colonnade.agent.netlink import Netlink, Subnet
from colonnade.agent.place import RUN, Installation, keep, kept

log = logging.getLogger(__name__)
_FORWARD = RUN / "forwarding"
_IPV4 = Path("/proc/sys/net/ipv4/ip_forward")
# The kernel's table of neighbours is one for all namespaces; its 1024 places are taken by some 300 amphorae.
_NEIGHBOURS = {"gc_thresh1": 4096, "gc_thresh2": 8192, "gc_thresh3": 16384}
_IPV6 = Path("/proc/sys/net/ipv6/conf/all/forwarding")


def connect(here: Installation, host: Netlink, fabric: Netlink) -> None:
    """Lay the uplink between the host and the fabric; what is there already stays."""
    if here.uplink not in host.links():
        there = os.open(namespaces.path(here.fabric), os.O_RDONLY | os.O_CLOEXEC)
        try:
            host.add_veth(here.uplink, mtu=1500, peer="uplink", peer_namespace=there)
        finally:
            os.close(there)
    near, far = host.links()[here.uplink].index, fabric.links()["uplink"].index
    fabric.bring_up("uplink")
    for ours, theirs in zip(here.host_addresses, here.fabric_addresses, strict=True):
        try:
            host.add_address(near, ours)
            fabric.add_address(far, theirs)
            fabric.add_route(ip_network("0.0.0.0/0" if ours.version == 4 else "::/0"), via=ours.ip, link=far)
        except OSError as e:
            if ours.version == 4:
                raise
            log.warning("IPv6 is off on this host (%s): IPv6 VIPs are reached from their own networks only", e)


def route(here: Installation, host: Netlink, subnets: Iterable[Subnet]) -> None:
    """Make the host's routes through the uplink lead to exactly these subnets."""
    uplink = host.links()[here.uplink].index
    want = set(subnets)
    have = {r.to for r in host.routes() if r.link == uplink and r.via}
    gateways = {a.version: a.ip for a in here.fabric_addresses}
    for subnet in have - want:
        host.remove_route(subnet, link=uplink)
    for subnet in want - have:
        host.add_route(subnet, via=gateways[subnet.version], link=uplink)


def elsewhere(here: Installation, host: Netlink, subnets: Iterable[Subnet]) -> set[Subnet]:
    """Those of the subnets whose addresses the host reaches another way. They stay its own: a network that came to the
    host later, or that somebody asked for, may not take its traffic, nor keep the other networks from being made."""
    links = {link.index: link.name for link in host.links().values()}
    others = [r for r in host.routes() if r.to.prefixlen and links.get(r.link) != here.uplink]
    found = {}
    for subnet in subnets:
        for other in others:
            if subnet.version == other.to.version and subnet.overlaps(other.to):
                found[subnet] = (
                    f"{subnet} overlaps {other.to}, reached through {links.get(other.link, 'another route')}"
                )
    for sentence in found.values():
        log.warning("This host itself does not reach a subnet of ours: %s.", sentence)
    return set(found)


def start_forwarding(here: Installation, subnets: Iterable[Subnet]) -> None:
    """Have the host forward between the fabric and elsewhere, masqueraded where it leaves the machine."""
    with _forwarding() as original:
        if original is None:
            original = _switch_on()
            keep(_FORWARD / "original", original)
        (_FORWARD / f"user-{here.tag}").touch()
    guard = original[str(_IPV4)] == "0"
    rules.load(rules.host(here.table, here.uplink, subnets, guard=guard), None)


def stop_forwarding(here: Installation) -> None:
    """Take back what start_forwarding did; the last installation puts the machine's own settings back."""
    with contextlib.suppress(FileNotFoundError):
        rules.remove(here.table)
    with _forwarding() as original:
        (_FORWARD / f"user-{here.tag}").unlink(missing_ok=True)
        if original is not None and not list(_FORWARD.glob("user-*")):
            for path, value in reversed(original.items()):
                with contextlib.suppress(OSError):  # an interface may be gone
                    Path(path).write_text(value)
            (_FORWARD / "original").unlink()


def warn_of_firewall(here: Installation) -> None:
    """Say in the log when the host's own firewall keeps our traffic from being forwarded."""
    for chain in rules.dropping():
        up = shlex.quote(here.uplink)
        log.warning(
            "The host's firewall (nftables chain %s) drops what it forwards: this host itself reaches VIPs, floating"
            " IPs and members, other machines may not. To let them: iptables -I FORWARD -i %s -j ACCEPT;"
            " iptables -I FORWARD -o %s -j ACCEPT (or the same in that chain).",
            chain, up, up,
        )  # fmt: skip


@contextlib.contextmanager
def _forwarding() -> Iterator[dict[str, str] | None]:
    """What the machine had before any of us, None when none of us is there; under a lock between installations."""
    _FORWARD.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(_FORWARD / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield kept(_FORWARD / "original")
    finally:
        os.close(lock)


def _switch_on() -> dict[str, str]:
    """Switch forwarding on. Answers the values to write back, by path, the last one first."""
    before = {}
    if _IPV6.exists():
        before[str(_IPV6)] = _IPV6.read_text().strip()
        if before[str(_IPV6)] == "0":
            # A host that forwards IPv6 forgets the router it learned, unless accept_ra is 2.
            for path in sorted(Path("/proc/sys/net/ipv6/conf").glob("*/accept_ra")):
                if path.read_text().strip() == "1":
                    before[str(path)] = "1"
                    path.write_text("2")
            _IPV6.write_text("1")
    for family in ("ipv4", "ipv6"):
        for threshold, value in _NEIGHBOURS.items():
            path = Path(f"/proc/sys/net/{family}/neigh/default/{threshold}")
            if path.exists() and int(path.read_text()) < value:
                before[str(path)] = path.read_text().strip()
                path.write_text(str(value))
    before = {str(_IPV4): _IPV4.read_text().strip(), **dict(reversed(before.items()))}
    if before[str(_IPV4)] == "0":
        _IPV4.write_text("1")
    return before

"""Requests as hostile as they may be, read into wire's types. Whatever passes here is trusted everywhere else.

Each function raises ValueError with a sentence that names what is wrong.
"""

import math
import re
import uuid
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_interface, ip_network
from typing import Any

from colonnade import wire
from colonnade.agent.beat import target
from colonnade.agent.fabric import overlapping

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_MAC = re.compile(r"[0-9a-f][02468ace](:[0-9a-f]{2}){5}")  # no group address
_GROUP = re.compile(r"\*|[A-Za-z0-9_.-]{1,64}")
_MOST = 10_000  # networks, floating IPs, admissions
_RESERVED = [ip_network(n) for n in ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "198.18.0.0/15", "224.0.0.0/3",
                                     "::1/128", "fd63:6f6c::/32", "fe80::/10", "ff00::/8")]  # fmt: skip


def identity(text: object) -> str:
    """A UUID in its normal form."""
    if not isinstance(text, str) or not re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", text):
        raise ValueError(f"{_shown(text)} is not a UUID in lower case with dashes")
    return str(uuid.UUID(text))


def heartbeat_key(data: Any) -> str:  # noqa: ANN401 - parsed JSON
    """The key in the body of PUT amphora."""
    key = data.get("heartbeat_key") if isinstance(data, dict) else None
    if not isinstance(key, str) or not re.fullmatch(r"([0-9a-f]{2}){16,128}", key):
        raise ValueError("heartbeat_key is not 16 to 128 bytes in hexadecimal")
    return key


def bundle(data: Any, amphora_id: str) -> wire.Bundle:  # noqa: ANN401 - parsed JSON
    """The body of PUT bundle."""
    try:
        read = wire.bundle_from_json(data)
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise ValueError(f"the body is not a bundle: {e}") from e
    if identity(read.amphora_id) != amphora_id:
        raise ValueError("amphora_id is not that of the path")
    identity(read.loadbalancer_id)
    if not isinstance(read.serving, bool):
        raise ValueError("serving is neither true nor false")
    interval = read.heartbeat_interval
    if isinstance(interval, bool) or not isinstance(interval, int | float) or not math.isfinite(interval):
        raise ValueError("heartbeat_interval is not a number")
    if not 0.1 <= interval <= 3600:
        raise ValueError("heartbeat_interval is not between 0.1 and 3600 seconds")
    for text in read.heartbeat_targets:
        target(_text(text, "a heartbeat target"))
    _files(read.files)
    _kept(read)
    for interface in read.interfaces:
        _interface(interface)
    _traffic(read.traffic)
    ports = [i.port_id for i in read.interfaces]
    if len({p.replace("-", "")[:13] for p in ports}) != len(ports):
        raise ValueError("two interfaces have one port_id")
    return read


def _traffic(traffic: wire.Traffic) -> None:
    for limit in (traffic.ingress, traffic.egress):
        if limit is not None:
            _number(limit.kilobits, 1, wire.MOST_KILOBITS, "kilobits")
            _number(limit.burst_kilobits, 0, wire.MOST_KILOBITS, "burst_kilobits")
    if len(traffic.admitted or ()) > _MOST:
        raise ValueError(f"there are more than {_MOST} admissions")
    for one in traffic.admitted or ():
        _number(one.version, 4, 6, "version")
        if one.version == 5:
            raise ValueError("version is 4 or 6")
        if one.source is not None:
            source = ip_network(_text(one.source, "source"))
            if "%" in one.source or source.version != one.version or str(source) != one.source:
                raise ValueError(f"the source {_shown(one.source)} is not a network of IP version {one.version}")
        _matches(one)


def _matches(one: wire.Admission) -> None:
    if one.protocol is None:
        if one.first is not None or one.last is not None:
            raise ValueError("ports go with a protocol")
        return
    _number(one.protocol, 0, 255, "protocol")
    icmp = one.protocol in (wire.ICMP, wire.ICMP6)
    if one.first is None:
        if one.last is not None:
            raise ValueError("last goes with first")
        return
    if not icmp and one.protocol not in wire.WITH_PORTS:
        raise ValueError(f"the protocol {one.protocol} has no ports")
    _number(one.first, 0, 255 if icmp else 65535, "first")
    if one.last is not None or not icmp:
        _number(one.last, 0 if icmp else one.first, 255 if icmp else 65535, "last")


def _number(value: object, least: int, most: int, what: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{what} is not a number from {least} to {most}")


def fabric(data: Any) -> wire.Fabric:  # noqa: ANN401 - parsed JSON
    """The body of PUT fabric."""
    try:
        read = wire.fabric_from_json(data)
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise ValueError(f"the body is not a fabric: {e}") from e
    if len(read.networks) > _MOST or len(read.floating_ips) > _MOST:
        raise ValueError(f"there are more than {_MOST} networks or floating IPs")
    for network in read.networks:
        _network(network)
    if len({n.id for n in read.networks}) != len(read.networks):
        raise ValueError("two networks have one id")
    if pair := overlapping(read):
        raise ValueError(f"the subnets {pair[0]} and {pair[1]} overlap")
    for floating, fixed in read.floating_ips.items():
        pair_ = [ip_address(_text(a, "a floating IP")) for a in (floating, fixed)]
        if pair_[0].version != pair_[1].version or any("%" in str(a) for a in pair_):
            raise ValueError(f"the floating IP {floating} cannot lead to {fixed}")
    return read


def _network(network: wire.FabricNetwork) -> None:
    identity(network.id)
    if not isinstance(network.group, str) or not _GROUP.fullmatch(network.group):
        raise ValueError(f"the group {_shown(network.group)} is not letters, digits, dots, dashes")
    if not isinstance(network.external, bool):
        raise ValueError("external is neither true nor false")
    _mtu(network.mtu)
    for subnet in network.subnets:
        identity(subnet.id)
        cidr = ip_network(_text(subnet.cidr, "cidr"))
        if "%" in subnet.cidr or any(cidr.version == r.version and cidr.overlaps(r) for r in _RESERVED):
            raise ValueError(f"the subnet {cidr} holds addresses with a meaning of their own")
        _fits(subnet.gateway, cidr)


def _fits(gateway: object, cidr: IPv4Network | IPv6Network) -> None:
    if gateway is not None and ip_address(_text(gateway, "gateway")) not in cidr:
        raise ValueError(f"the gateway {gateway} is not in {cidr}")


def _interface(interface: wire.Interface) -> None:
    identity(interface.port_id)
    identity(interface.network_id)
    if not _MAC.fullmatch(_text(interface.mac, "mac")):
        raise ValueError(f"{_shown(interface.mac)} is not the MAC address of one interface")
    _mtu(interface.mtu)
    for address in (*interface.addresses, *interface.vips):
        if "/" not in _text(address, "an address") or "%" in address:
            raise ValueError(f"{_shown(address)} is not an address with its prefix length")
        ip_interface(address)
    gateways = [ip_address(_text(g, "a gateway")) for g in interface.gateways]
    if len({g.version for g in gateways}) != len(gateways) or any("%" in str(g) for g in gateways):
        raise ValueError("an interface has more than one gateway of an IP version")


def _files(files: object) -> None:
    if not isinstance(files, dict):
        raise ValueError("files is not an object")
    for name, text in files.items():
        if not _NAME.fullmatch(name):
            raise ValueError(f"{_shown(name)} is not a plain file name")
        if not isinstance(text, str) or "\0" in text:
            raise ValueError(f"the file {name} is not text")
        text.encode()  # UnicodeEncodeError is a ValueError: a lone surrogate cannot be written


def _kept(bundle: wire.Bundle) -> None:
    for name in bundle.keep:
        if not isinstance(name, str) or not _NAME.fullmatch(name) or not wire.is_secret(name):
            raise ValueError(f"{_shown(name)} is not a file that an amphora can keep")
        if name in bundle.files:
            raise ValueError(f"the file {name} is both given and to be kept")


def _mtu(value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1280 <= value <= 65535:
        raise ValueError("an MTU is not between 1280 and 65535")


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{what} is not text")
    return value


def _shown(value: object) -> str:
    return ascii(value)[:80]

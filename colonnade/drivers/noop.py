"""Drivers that do nothing and take whatever ids they are given: for measuring and testing the control plane alone.

Everything they say follows from ids, so that any number of processes say the same. What they remember (which ports an
amphora has, what it was pushed) spares a turn steps that change nothing; a process that starts anew does those once
more.
"""

import ipaddress
import uuid
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from colonnade import wire
from colonnade.drivers import Place
from colonnade.model import FixedIp, NetworkPort, QosPolicy, SecurityGroup, Subnet
from colonnade.types import Json

_NAMES = uuid.UUID("3c7b2f0e-7d0e-4b55-8e0a-6e6f6f706e6f")
_NETWORK = str(uuid.uuid5(_NAMES, "network"))  # the one that everything is on
_ADDRESSES = ipaddress.ip_network("240.0.0.0/4")  # reserved: what we make up is never somebody's
_EVERYWHERE = {4: "0.0.0.0/0", 6: "::/0"}
_MTU = 1500


class NoopNetwork:
    """drivers.Network where every subnet, network and port exists, and all are on one network."""

    def __init__(self) -> None:
        self._plugged: dict[str, NetworkPort] = {}  # by amphora

    def subnet(self, subnet_id: str) -> Subnet | None:
        """A subnet that holds every address, for everybody."""
        return Subnet(
            id=subnet_id, network_id=_NETWORK, cidr=_EVERYWHERE[4], gateway_ip=None, project_id="", shared=True
        )

    def subnets(self, network_id: str) -> list[Subnet] | None:
        """The one subnet of the network."""
        found = self.subnet(_id("subnet", network_id))
        return [replace(found, network_id=network_id)] if found else None

    def port(self, port_id: str) -> NetworkPort | None:
        """A port with an address of its own, used by nobody."""
        return _port(port_id, "", (_fixed(_id("subnet", port_id), _address(port_id)),))

    def made_up(self, lb_id: str, given: Json) -> NetworkPort | None:
        """The VIP's port with everything that was given, and the rest from the load balancer's id."""
        if not any(given.get(k) for k in ("vip_port_id", "vip_network_id", "vip_subnet_id")):
            return None
        subnet_id = given.get("vip_subnet_id") or _id("subnet", given.get("vip_network_id") or given["vip_port_id"])
        fixed = [_fixed(subnet_id, given.get("vip_address") or _address(lb_id))]
        for more in given.get("additional_vips") or ():
            address = more.get("ip_address") or _address(f"{lb_id} {more['subnet_id']}")
            fixed.append(_fixed(more["subnet_id"], address))
        port = _port(given.get("vip_port_id") or _id("vip", lb_id), f"octavia-lb-{lb_id}", tuple(fixed))
        return replace(port, network_id=given.get("vip_network_id") or _NETWORK)

    def ensure_vip(
        self, lb_id: str, project_id: str, subnet: Subnet, address: str | None, more: Sequence[Place] = ()
    ) -> NetworkPort:
        """The VIP's port."""
        fixed = [_fixed(subnet.id, address or _address(lb_id))]
        fixed += [_fixed(s.id, a or _address(f"{lb_id} {s.id}")) for s, a in more]
        return replace(_port(_id("vip", lb_id), f"octavia-lb-{lb_id}", tuple(fixed)), project_id=project_id)

    def ensure_plugged(self, amphora_id: str, subnets: list[Subnet]) -> NetworkPort:
        """The amphora's port."""
        fixed = tuple(_fixed(s.id, _address(f"{amphora_id} {s.id}")) for s in subnets)
        name = f"octavia-lb-vrrp-{amphora_id}-{_NETWORK}"
        port = self._plugged[amphora_id] = replace(_port(_id("port", amphora_id), name, fixed), device_id=amphora_id)
        return port

    def plugged(self, amphora_id: str) -> list[NetworkPort]:
        """The amphora's port, if it was made by this process."""
        port = self._plugged.get(amphora_id)
        return [port] if port else []

    def ours(self) -> list[NetworkPort]:
        """Nothing exists, so nothing is left over."""
        return []

    def security_groups(self, ids: Collection[str]) -> list[SecurityGroup]:
        """All of them, for everybody."""
        return [SecurityGroup(id=i, project_id="", shared=True) for i in ids]

    def qos_policy(self, policy_id: str) -> QosPolicy | None:
        """A policy without a limit, for everybody."""
        return QosPolicy(id=policy_id, project_id="", shared=True)

    def release(self, port_id: str) -> None:
        """Forget it."""
        for amphora_id in [a for a, p in self._plugged.copy().items() if p.id == port_id]:
            self._plugged.pop(amphora_id, None)


class NoopHost:
    """drivers.Compute, AmphoraLink and Supplies: amphorae that are nowhere and serve nothing."""

    image_id: str | None = None

    def __init__(self) -> None:
        self._digests: dict[str, str] = {}  # of what each amphora was pushed

    def ensure(self, amphora_id: str, heartbeat_key: str) -> str:
        """It is there already."""
        return "noop://"

    def remove(self, amphora_id: str, agent_url: str | None) -> None:
        """It is gone already."""
        self._digests.pop(amphora_id, None)

    def names(self) -> list[str]:
        """Nothing exists, so nothing is left over."""
        return []

    def check(self, option: str, value: str) -> None:
        """Everything can be had."""

    def observe(self, agent_url: str, amphora_id: str) -> Json | None:
        """It runs what this process gave it last."""
        return _observed(amphora_id, self._digests.get(amphora_id))

    def push(self, agent_url: str, amphora_id: str, bundle: Json) -> Json:
        """It is as the bundle says."""
        digest = self._digests[amphora_id] = wire.digest(wire.bundle_from_json(bundle))
        return _observed(amphora_id, digest)


def _observed(amphora_id: str, digest: str | None) -> Json:
    answer: Json = wire.to_json(wire.Observed(amphora_id=amphora_id, digest=digest, haproxy="absent"))
    return answer


def _id(*words: str) -> str:
    return str(uuid.uuid5(_NAMES, " ".join(words)))


def _address(seed: str) -> str:
    """One of some 268 million by the seed, neither the first nor the last."""
    return str(_ADDRESSES[1 + uuid.uuid5(_NAMES, seed).int % (_ADDRESSES.num_addresses - 2)])


def _fixed(subnet_id: str, address: str) -> FixedIp:
    cidr = _EVERYWHERE[ipaddress.ip_address(address).version]
    return FixedIp(subnet_id=subnet_id, address=address, cidr=cidr, gateway_ip=None)


def _port(port_id: str, name: str, fixed_ips: tuple[FixedIp, ...]) -> NetworkPort:
    octets: Any = uuid.uuid5(_NAMES, port_id).bytes[:5]
    return NetworkPort(
        id=port_id, name=name, network_id=_NETWORK, project_id="", device_id="", device_owner="",
        mac_address="02:" + octets.hex(":"), mtu=_MTU, fixed_ips=fixed_ips,
    )  # fmt: skip

"""A whole cloud in memory: networks, places for amphorae, their agents. It can fail before or after any effect.

For tests, the simulator, and a first look: what it does depends on nothing but what it is told.
"""

import hashlib
import ipaddress
import random
import threading
import uuid
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection

from colonnade import wire
from colonnade.drivers import Place
from colonnade.errors import Broken, Conflict, Forbidden, Invalid, Later, NotFound, Unsupported
from colonnade.model import Caller, FixedIp, Material, NetworkPort, QosPolicy, SecurityGroup, Subnet
from colonnade.types import Json

Trouble = Callable[[str, str], None]  # told (effect, "before" | "after"); may raise, and may do anything else


def no_trouble(_effect: str, _moment: str) -> None:
    """Everything works."""


@dataclass
class Faults:
    """Trouble by chance: the same seed gives the same faults in the same order."""

    seed: int
    rate: float = 0.1

    def __post_init__(self) -> None:
        self._dice = random.Random(self.seed)  # noqa: S311 - reproducible, no secret

    def __call__(self, effect: str, moment: str) -> None:
        if self._dice.random() >= self.rate:
            return
        if self._dice.random() < 0.8:
            raise Later(f"The cloud did not answer ({moment} {effect}).")
        raise Broken(f"The cloud refused ({moment} {effect}).", "Ask whoever runs it.")


@dataclass
class FakePlace:
    """An amphora's place and its agent."""

    heartbeat_key: str
    bundle: wire.Bundle | None = None
    haproxy: str = "absent"
    error: str | None = None
    files: dict[str, str] = field(default_factory=dict)  # with those that its bundle keeps

    @property
    def digest(self) -> str | None:
        return wire.digest(self.bundle) if self.bundle else None


@dataclass
class Cloud:
    """The state of the world. ``held`` says which amphora answers on an address: the last that announced it."""

    trouble: Trouble = no_trouble
    known_subnets: dict[str, Subnet] = field(default_factory=dict)
    ports: dict[str, NetworkPort] = field(default_factory=dict)
    groups: dict[str, SecurityGroup] = field(default_factory=dict)
    policies: dict[str, QosPolicy] = field(default_factory=dict)
    places: dict[str, FakePlace] = field(default_factory=dict)
    held: dict[str, str] = field(default_factory=dict)
    deaf: set[str] = field(default_factory=set)  # amphorae whose agent does not answer
    bridges: set[str] | None = None  # networks that exist on the host; None: all
    pushes: list[tuple[str, str]] = field(default_factory=list)  # (amphora, digest)
    supplies: set[str] = field(default_factory=lambda: {"small", "big", "tag", "nova", "az2"})

    def __post_init__(self) -> None:
        self._lock = threading.RLock()
        self._given = 0

    def add_subnet(self, cidr: str, network_id: str | None = None, project_id: str = "p") -> Subnet:
        """One more subnet, on a network of its own unless told."""
        net = ipaddress.ip_network(cidr)
        id = str(uuid.uuid5(uuid.NAMESPACE_OID, f"subnet {cidr}"))
        network = network_id or str(uuid.uuid5(uuid.NAMESPACE_OID, f"network {cidr}"))
        gateway = str(net.network_address + 1)
        subnet = Subnet(id=id, network_id=network, cidr=cidr, gateway_ip=gateway, project_id=project_id)
        self.known_subnets[id] = subnet
        return subnet

    # Network

    def subnet(self, subnet_id: str) -> Subnet | None:
        """The subnet, or None."""
        self.trouble("subnet", "before")
        return self.known_subnets.get(subnet_id)

    def subnets(self, network_id: str) -> list[Subnet] | None:
        """The network's subnets, or None."""
        return [s for s in self.known_subnets.values() if s.network_id == network_id] or None

    def port(self, port_id: str) -> NetworkPort | None:
        """The port, or None."""
        self.trouble("port", "before")
        return self.ports.get(port_id)

    def made_up(self, lb_id: str, given: Json) -> NetworkPort | None:
        """Ids name things here."""
        return None

    def ensure_vip(
        self, lb_id: str, project_id: str, subnet: Subnet, address: str | None, more: Sequence[Place] = ()
    ) -> NetworkPort:
        """The VIP's port."""
        return self._ensure_port(f"octavia-lb-{lb_id}", f"lb-{lb_id}", project_id, [(subnet, address), *more])

    def ensure_plugged(self, amphora_id: str, subnets: list[Subnet]) -> NetworkPort:
        """The amphora's own port on the network of ``subnets``."""
        name = f"octavia-lb-vrrp-{amphora_id}-{subnets[0].network_id}"
        return self._ensure_port(name, amphora_id, "", [(s, None) for s in subnets])

    def plugged(self, amphora_id: str) -> list[NetworkPort]:
        """All ports made by ensure_plugged for this amphora."""
        self.trouble("plugged", "before")
        with self._lock:
            return [p for p in self.ports.values() if p.name.startswith(f"octavia-lb-vrrp-{amphora_id}-")]

    def ours(self) -> list[NetworkPort]:
        """All ports of ours."""
        self.trouble("ours", "before")
        with self._lock:
            return list(self.ports.values())

    def security_groups(self, ids: Collection[str]) -> list[SecurityGroup]:
        """Those that exist."""
        self.trouble("security_groups", "before")
        return [self.groups[i] for i in ids if i in self.groups]

    def qos_policy(self, policy_id: str) -> QosPolicy | None:
        """The policy, or None."""
        self.trouble("qos_policy", "before")
        return self.policies.get(policy_id)

    def release(self, port_id: str) -> None:
        """Remove the port."""
        self.trouble("release", "before")
        with self._lock:
            self.ports.pop(port_id, None)
        self.trouble("release", "after")

    # Compute

    image_id: str | None = "1ace0000-0000-4000-8000-000000000000"

    def ensure(self, amphora_id: str, heartbeat_key: str) -> str:
        """Make the amphora's place unless it is there."""
        self.trouble("ensure", "before")
        with self._lock:
            self.places.setdefault(amphora_id, FakePlace(heartbeat_key))
        self.trouble("ensure", "after")
        return "fake://"

    def remove(self, amphora_id: str, agent_url: str | None) -> None:
        """Remove the place."""
        self.trouble("remove", "before")
        with self._lock:
            self.places.pop(amphora_id, None)
            self.held = {a: who for a, who in self.held.items() if who != amphora_id}
        self.trouble("remove", "after")

    def names(self) -> list[str]:
        """Ids of all amphorae that exist."""
        self.trouble("names", "before")
        with self._lock:
            return list(self.places)

    # Supplies

    def check(self, option: str, value: str) -> None:
        """Whether ``value`` can be had for ``option``."""
        if option not in ("compute_flavor", "amp_image_tag", "compute_zone"):
            raise Unsupported(f"A cloud in memory has nothing to give for {option}.")
        if value not in self.supplies:
            raise Invalid(f"{option} {value} not found.")

    # AmphoraLink

    def observe(self, agent_url: str, amphora_id: str) -> Json | None:
        """What the amphora's agent says of it."""
        self.trouble("observe", "before")
        self._listen(amphora_id)
        place = self.places.get(amphora_id)
        return None if place is None else self._answer(amphora_id, place)

    def push(self, agent_url: str, amphora_id: str, bundle: Json) -> Json:
        """Make the amphora be as the bundle says."""
        self.trouble("push", "before")
        self._listen(amphora_id)
        wanted = wire.bundle_from_json(bundle)
        with self._lock:
            place = self.places.get(amphora_id)
            if place is None:
                raise Later(f"There is no amphora {amphora_id}.")
            if self.bridges is not None and not {i.network_id for i in wanted.interfaces} <= self.bridges:
                raise Later("A network is not there yet.")
            missing = [name for name in wanted.keep if name not in place.files]
            if missing:
                raise Broken(f"This amphora has no file {missing[0]} to keep.")
            place.files = {**wanted.files, **{name: place.files[name] for name in wanted.keep}}
            place.bundle, place.haproxy = wanted, "running" if wanted.files.get("haproxy.cfg") else "absent"
            if wanted.serving:
                self.held.update({v.split("/")[0]: amphora_id for i in wanted.interfaces for v in i.vips})
            self.pushes.append((amphora_id, wire.digest(wanted)))
        self.trouble("push", "after")
        return self._answer(amphora_id, place)

    def _listen(self, amphora_id: str) -> None:
        if amphora_id in self.deaf:
            raise Later(f"The agent of amphora {amphora_id} does not answer.")

    def _answer(self, amphora_id: str, place: FakePlace) -> Json:
        state = "failing" if place.error else place.haproxy
        answer = wire.Observed(amphora_id=amphora_id, digest=place.digest, haproxy=state, error=place.error,
                               secrets=tuple(n for n in sorted(place.files) if wire.is_secret(n)))  # fmt: skip
        found: Json = wire.to_json(answer)
        return found

    def _ensure_port(self, name: str, device: str, project_id: str, places: Sequence[Place]) -> NetworkPort:
        effect = "ensure_vip" if device.startswith("lb-") else "ensure_plugged"
        self.trouble(effect, "before")
        with self._lock:
            port = next((p for p in self.ports.values() if p.name == name), None)
            had = tuple(f for f in port.fixed_ips if f.subnet_id in {s.id for s, _ in places}) if port else ()
            new = (place for place in places if place[0].id not in {f.subnet_id for f in had})
            fixed = (*had, *(self._address(*place) for place in new))
            if port is None:
                mac = "02:" + ":".join(hashlib.sha256(name.encode()).hexdigest()[i : i + 2] for i in range(0, 10, 2))
                port = NetworkPort(
                    id=str(uuid.uuid4()), name=name, network_id=places[0][0].network_id, project_id=project_id,
                    device_id=device, device_owner="Octavia", mac_address=mac, mtu=1500, fixed_ips=(),
                )  # fmt: skip
            port = self.ports[port.id] = replace(port, fixed_ips=fixed)
        self.trouble(effect, "after")
        return port

    def _address(self, subnet: Subnet, wanted: str | None) -> FixedIp:
        taken = {f.address for p in self.ports.values() for f in p.fixed_ips}
        if wanted in taken:
            raise Conflict(f"IP address {wanted} is in use.")
        self._given += 1
        first = ipaddress.ip_network(subnet.cidr).network_address
        address = wanted or str(first + 1 + self._given)
        return FixedIp(subnet_id=subnet.id, address=address, cidr=subnet.cidr, gateway_ip=subnet.gateway_ip)


@dataclass
class FakeFabric:
    """The networks of a host, as the loop pushes them: makes the bridges of a Cloud."""

    cloud: Cloud
    networks: Callable[[Connection], tuple[str, ...]]

    def desired(self, conn: Connection) -> wire.Fabric:
        """What they should be."""
        made = (wire.FabricNetwork(id=n, group="*", mtu=1500, subnets=()) for n in self.networks(conn))
        return wire.Fabric(networks=tuple(made))

    def push(self, fabric: wire.Fabric) -> str:
        """Make them so."""
        self.cloud.trouble("fabric", "before")
        self.cloud.bridges = {n.id for n in fabric.networks}
        self.cloud.trouble("fabric", "after")
        return wire.digest(fabric)


@dataclass
class Vault:
    """A key manager in memory: what each reference leads to, and who was let in beside the owner."""

    trouble: Trouble = no_trouble
    held: dict[str, Material] = field(default_factory=dict)
    granted: set[str] = field(default_factory=set)
    consumers: dict[str, set[str]] = field(default_factory=dict)  # load balancer -> references

    def put(self, ref: str, payload: bytes, project_id: str = "p", **parts: bytes) -> str:
        """Hold a secret, or a container of named parts; answers the reference."""
        self.held[ref] = Material(ref=ref, project_id=project_id, payloads=parts or {"": payload})
        return ref

    def read(self, ref: str, who: Caller) -> Material:
        """With the caller's rights: members read what is their project's."""
        self.trouble("read", "before")
        found = self.held.get(ref)
        if found is None:
            raise NotFound(f"{ref} not found.")
        if not who.is_admin and who.project_id != found.project_id:
            raise Forbidden(f"{ref} may not be read.")
        return found

    def grant(self, ref: str, who: Caller) -> None:
        """Let the service in."""
        self.granted.add(ref)

    def fetch(self, ref: str, project_id: str) -> Material:
        """With the service's rights."""
        self.trouble("fetch", "before")
        found = self.held.get(ref)
        if found is None:
            raise Broken(f"{ref} does not exist any more.", "Give another reference.")
        if found.project_id != project_id and ref not in self.granted:
            raise Broken(f"{ref} belongs to another project.", "Give another reference.")
        return found

    def used(self, lb_id: str, refs: Collection[str]) -> None:
        """Note it."""
        self.trouble("used", "before")
        self.consumers[lb_id] = set(refs)
        if not refs:
            del self.consumers[lb_id]

    def users(self) -> set[str]:
        """Load balancers that something is noted for."""
        return set(self.consumers)

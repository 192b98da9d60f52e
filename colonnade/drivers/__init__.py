"""What the control plane needs of the world, as small protocols. Drivers translate vendor errors to Later/Broken."""

from collections.abc import Collection, Sequence
from typing import Protocol

from colonnade.model import Caller, Material, NetworkPort, QosPolicy, SecurityGroup, Subnet
from colonnade.types import Json

Place = tuple[Subnet, str | None]  # where an address is wanted; None: any that is free


class Network(Protocol):
    """Networks, and the ports that VIPs and amphorae use. Every verb is safe to repeat: things are found by name."""

    def subnet(self, subnet_id: str) -> Subnet | None:
        """The subnet, or None when there is none."""
        ...

    def subnets(self, network_id: str) -> list[Subnet] | None:
        """The network's subnets, oldest first; None when there is no such network."""
        ...

    def port(self, port_id: str) -> NetworkPort | None:
        """The port, or None when there is none."""
        ...

    def made_up(self, lb_id: str, given: Json) -> NetworkPort | None:
        """A port that fits a VIP asked for in these words, where ids name nothing; None where they do."""
        ...

    def ensure_vip(
        self, lb_id: str, project_id: str, subnet: Subnet, address: str | None, more: Sequence[Place] = ()
    ) -> NetworkPort:
        """The VIP's port, named octavia-lb-<lb_id>; made when absent, with an address on ``subnet`` and one in each
        place of ``more``, all of the same network.

        Raises Conflict when an address is in use, Invalid when it is outside its subnet, Broken when none is free.
        """
        ...

    def ensure_plugged(self, amphora_id: str, subnets: list[Subnet]) -> NetworkPort:
        """The amphora's own port on the network of ``subnets`` (all of one network), an address on each and no other.

        Named octavia-lb-vrrp-<amphora_id>-<network_id>.
        """
        ...

    def plugged(self, amphora_id: str) -> list[NetworkPort]:
        """All ports made by ensure_plugged for this amphora."""
        ...

    def ours(self) -> list[NetworkPort]:
        """All ports that ensure_vip and ensure_plugged ever made and that still exist: for finding orphans."""
        ...

    def security_groups(self, ids: Collection[str]) -> list[SecurityGroup]:
        """Those of the groups that exist, with who they admit."""
        ...

    def qos_policy(self, policy_id: str) -> QosPolicy | None:
        """The policy, or None when there is none. Raises Unsupported when the network service knows no such thing."""
        ...

    def release(self, port_id: str) -> None:
        """Remove the port; one that is gone already is success."""
        ...


class Compute(Protocol):
    """Where amphorae run."""

    image_id: str | None  # what places are made from now, as the image service knows it

    def ensure(self, amphora_id: str, heartbeat_key: str) -> str:
        """Make the amphora's place (named amphora-<id>) unless it is there; answer its agent's base URL."""
        ...

    def remove(self, amphora_id: str, agent_url: str | None) -> None:
        """Remove the place and all that is in it; gone already is success."""
        ...

    def names(self) -> list[str]:
        """Ids of all amphorae that exist in the world, known to the database or not: for finding orphans."""
        ...


class Supplies(Protocol):
    """What amphorae can be made of and where; asked when an operator writes it into a flavor or a zone."""

    def check(self, option: str, value: str) -> None:
        """Whether ``value`` can be had for ``option``: compute_flavor, amp_image_tag, sriov_vip, allow_member_sriov,
        compute_zone, volume_zone or management_network. Raises Invalid when there is no such thing, and Unsupported
        when the option has no effect in this world."""
        ...


class AmphoraLink(Protocol):
    """Talking to an amphora's agent. Raises Later when it does not answer, Broken when it refuses a bundle."""

    def observe(self, agent_url: str, amphora_id: str) -> Json | None:
        """wire.Observed as JSON; None when the agent answers but has no such amphora."""
        ...

    def push(self, agent_url: str, amphora_id: str, bundle: Json) -> Json:
        """Make the amphora be as the bundle (wire.Bundle as JSON) says; answers as observe."""
        ...


class SecretStore(Protocol):
    """A key manager. References are those of the API: URLs of secrets and of containers."""

    def read(self, ref: str, who: Caller) -> Material:
        """What the reference leads to, with the caller's own rights. Raises NotFound, Forbidden, Invalid, Later."""
        ...

    def grant(self, ref: str, who: Caller) -> None:
        """Let the service read it from now on, whatever project uses it; ``who`` may read it. Safe to repeat."""
        ...

    def fetch(self, ref: str, project_id: str) -> Material:
        """The same with the service's rights, for a load balancer of this project. Raises Broken or Later."""
        ...

    def used(self, lb_id: str, refs: Collection[str]) -> None:
        """Note that the load balancer uses these and no others, so that nobody removes them unawares."""
        ...

    def users(self) -> set[str]:
        """Load balancers that something is noted for: for finding orphans."""
        ...


class Doorbell(Protocol):
    """Makes workers look sooner. A lost, doubled or late ring does no harm: the sweep finds what is due."""

    def ring(self, subject: str) -> None:
        """Say that ``subject`` (a load balancer's id, or "fabric") has work. Never raises, never waits."""
        ...

    def wait(self, seconds: float) -> set[str]:
        """Subjects rung since the last call; waits at most ``seconds`` for the first."""
        ...

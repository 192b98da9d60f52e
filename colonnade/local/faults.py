"""What the network service refuses. A class's name is the ``type`` of Neutron's error body."""

from colonnade.errors import ApiError, Conflict, Forbidden, Invalid, NotFound


class InvalidInput(Invalid):
    """An attribute or a query breaks a rule."""


class PolicyNotAuthorized(Forbidden):
    """The caller's roles or project do not allow it."""


class NetworkNotFound(NotFound):
    """No such network that the caller may see."""


class SubnetNotFound(NotFound):
    """No such subnet that the caller may see."""


class PortNotFound(NotFound):
    """No such port that the caller may see."""


class FloatingIPNotFound(NotFound):
    """No such floating IP that the caller may see."""


class SecurityGroupNotFound(NotFound):
    """No such security group that the caller may see."""


class SecurityGroupRuleNotFound(NotFound):
    """No such rule that the caller may see."""


class QosPolicyNotFound(NotFound):
    """No such QoS policy that the caller may see."""


class QosRuleNotFound(NotFound):
    """The QoS policy has no such rule."""


class TagNotFound(NotFound):
    """The object has no such tag."""


class ExternalIpAddressExhausted(Invalid):
    """The external network has no address left, or none of the kind asked for."""


class IpAddressInUse(Conflict):
    """Another port or floating IP has the address."""


class IpAddressGenerationFailure(Conflict):
    """The subnet has no free address."""


class NetworkInUse(Conflict):
    """Ports or floating IPs are still on the network."""


class SubnetInUse(Conflict):
    """Addresses of the subnet are still taken."""


class ServicePortInUse(Conflict):
    """The port belongs to a load balancer."""


class SecurityGroupInUse(Conflict):
    """VIPs are in the group."""


class SecurityGroupRuleExists(Conflict):
    """The group has the same rule."""


class QosPolicyInUse(Conflict):
    """Load balancers or ports follow the policy."""


class QoSRuleParameterConflict(Conflict):
    """The policy has a rule about that."""


class OverlappingSubnet(Conflict):
    """The range overlaps with another subnet of this installation."""


class GatewayConflictWithAllocationPools(Conflict):
    """The gateway lies in an allocation pool."""


class OverlappingAllocationPools(Conflict):
    """Two allocation pools overlap."""


class InvalidSharedSetting(Conflict):
    """Others use the network: it must stay shared."""


class FloatingIPPortAlreadyAssociated(Conflict):
    """The address has a floating IP already."""


class MethodNotAllowed(ApiError):
    """The path is served, but not with this method."""

    status = 405


class TooManyAttempts(ApiError):
    """Passwords were wrong too often; ``retry_after`` seconds from now it may be tried again."""

    status = 429

    def __init__(self, sentence: str, retry_after: int) -> None:
        super().__init__(sentence)
        self.retry_after = retry_after

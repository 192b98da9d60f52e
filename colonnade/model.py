"""The words of the load-balancing API: resources, their fields, their constraints.

A field is one line here. Request bodies, replies, table columns and OpenAPI are derived from these classes
(``api.shapes``, ``store.tables``). Marks (``Fixed``, ``Shown``, ``Hidden``) say who may set a field.
Values are plain: addresses are normalised text, times naive UTC, lists tuples, JSON objects dicts.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Protocol, TypeVar, cast

from annotated_types import MaxLen

from colonnade.types import (
    Algorithm,
    AlpnProtocol,
    AmphoraStatus,
    Ciphers,
    ClientAuthentication,
    Codes,
    ConnectionLimit,
    CookieName,
    DomainName,
    Fixed,
    Hidden,
    HttpMethod,
    Ip,
    L7Action,
    L7CompareType,
    L7RuleType,
    ListenerProtocol,
    Milliseconds,
    MonitorType,
    Network,
    Networks,
    OperatingStatus,
    Pause,
    PersistenceType,
    PoolProtocol,
    Port,
    Position,
    ProfileData,
    ProvisioningStatus,
    QuotaLimit,
    RedirectCode,
    Retries,
    Role,
    Seconds,
    Shown,
    Tags,
    Text,
    TlsVersion,
    Unique,
    Url,
    UrlPath,
    Uuid,
    Weight,
)  # fmt: skip
from colonnade.wire import Admission, Limit

OWN_PROVIDERS = frozenset({"amphora", "octavia"})  # two names of the provider that is built in

R = TypeVar("R", bound="Resource")


@dataclass(frozen=True, kw_only=True, slots=True)
class Resource:
    """What every user-made object has."""

    id: Shown[Uuid]
    project_id: Shown[str]
    name: Text = ""
    admin_state_up: bool = True
    provisioning_status: Shown[ProvisioningStatus] = ProvisioningStatus.PENDING_CREATE
    operating_status: Shown[OperatingStatus] = OperatingStatus.OFFLINE
    reason: Shown[str | None] = None  # why it is not well, for its owner; ours, not Octavia's
    created_at: Shown[datetime]
    updated_at: Shown[datetime | None] = None
    tags: Tags = ()

    @property
    def going(self) -> bool:
        """Whether it is on its way out."""
        return self.provisioning_status is ProvisioningStatus.PENDING_DELETE


@dataclass(frozen=True, kw_only=True, slots=True)
class AdditionalVip:
    """One more address of the VIP's port, on another subnet of the VIP's network."""

    subnet_id: Uuid
    ip_address: Ip | None = None
    port_id: Uuid | None = None  # always the VIP's


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadBalancer(Resource):
    """A VIP and what answers on it."""

    description: Text = ""
    vip_address: Fixed[Ip | None] = None
    vip_port_id: Fixed[Uuid | None] = None
    vip_subnet_id: Fixed[Uuid | None] = None
    vip_network_id: Fixed[Uuid | None] = None
    vip_qos_policy_id: Uuid | None = None
    vip_vnic_type: Shown[str] = "normal"
    vip_sg_ids: Annotated[tuple[Uuid, ...], MaxLen(20), Unique()] = ()
    additional_vips: Fixed[Annotated[tuple[AdditionalVip, ...], MaxLen(20)]] = ()
    provider: Fixed[Text | None] = None
    flavor_id: Fixed[Uuid | None] = None
    availability_zone: Fixed[Text | None] = None
    vip_owned: Hidden[bool] = True  # the VIP port is ours to remove
    topology: Hidden[Text] = "SINGLE"  # this and the next two: what flavor and availability zone said at creation
    compute_flavor: Hidden[Text | None] = None
    compute_zone: Hidden[Text | None] = None
    incarnation: Hidden[int] = 1  # raised by a failover request; older amphorae are to be replaced

    @property
    def foreign(self) -> bool:
        """Whether a third party's provider serves it, and not the loop."""
        return foreign(self.provider)


@dataclass(frozen=True, kw_only=True, slots=True)
class Listener(Resource):
    """A port of the VIP, and what is done with what arrives there."""

    loadbalancer_id: Fixed[Uuid]
    description: Text = ""
    protocol: Fixed[ListenerProtocol]
    protocol_port: Fixed[Port]
    connection_limit: ConnectionLimit = -1
    default_pool_id: Uuid | None = None
    default_tls_container_ref: Text | None = None
    sni_container_refs: tuple[Text, ...] = ()
    insert_headers: dict[str, Text] = field(default_factory=dict)
    timeout_client_data: Milliseconds = 50000
    timeout_member_connect: Milliseconds = 5000
    timeout_member_data: Milliseconds = 50000
    timeout_tcp_inspect: Milliseconds = 0
    client_ca_tls_container_ref: Text | None = None
    client_authentication: ClientAuthentication = ClientAuthentication.NONE
    client_crl_container_ref: Text | None = None
    allowed_cidrs: Networks | None = None
    tls_ciphers: Ciphers | None = None
    tls_versions: tuple[TlsVersion, ...] | None = None
    alpn_protocols: tuple[AlpnProtocol, ...] | None = None
    hsts_max_age: Seconds | None = None
    hsts_include_subdomains: bool = False
    hsts_preload: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionPersistence:
    """How a client stays on its member."""

    type: PersistenceType
    cookie_name: CookieName | None = None
    persistence_timeout: int | None = None
    persistence_granularity: Ip | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Pool(Resource):
    """Members that can stand for one another."""

    loadbalancer_id: Fixed[Uuid]
    description: Text = ""
    protocol: Fixed[PoolProtocol]
    lb_algorithm: Algorithm
    session_persistence: SessionPersistence | None = None
    tls_enabled: bool = False
    tls_container_ref: Text | None = None
    ca_tls_container_ref: Text | None = None
    crl_container_ref: Text | None = None
    tls_ciphers: Ciphers | None = None
    tls_versions: tuple[TlsVersion, ...] | None = None
    alpn_protocols: tuple[AlpnProtocol, ...] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Member(Resource):
    """A server that does the work."""

    loadbalancer_id: Hidden[Uuid]
    pool_id: Hidden[Uuid]
    address: Fixed[Ip]
    protocol_port: Fixed[Port]
    weight: Weight = 1
    backup: bool = False
    subnet_id: Fixed[Uuid | None] = None
    monitor_address: Ip | None = None
    monitor_port: Port | None = None
    vnic_type: Shown[str] = "normal"


@dataclass(frozen=True, kw_only=True, slots=True)
class HealthMonitor(Resource):
    """How a pool's members are checked. Times in seconds."""

    loadbalancer_id: Hidden[Uuid]
    pool_id: Fixed[Uuid]
    type: Fixed[MonitorType]
    delay: Pause
    timeout: Pause
    max_retries: Retries
    max_retries_down: Retries = 3
    http_method: HttpMethod | None = None  # GET when the type is HTTP or HTTPS
    url_path: UrlPath | None = None  # / when the type is HTTP or HTTPS
    expected_codes: Codes | None = None  # 200 when the type is HTTP or HTTPS
    http_version: float | None = None  # 1.0 or 1.1
    domain_name: DomainName | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class L7Policy(Resource):
    """What a listener does with the requests that all of its rules match. The first policy that matches decides."""

    loadbalancer_id: Hidden[Uuid]
    listener_id: Fixed[Uuid]
    description: Text = ""
    action: L7Action
    redirect_pool_id: Uuid | None = None  # of the action REDIRECT_TO_POOL alone; the others likewise
    redirect_url: Url | None = None
    redirect_prefix: Url | None = None
    redirect_http_code: RedirectCode | None = None  # 302 when the action is REDIRECT_TO_URL or REDIRECT_PREFIX
    position: Position = 2147483647  # when stored: 1, 2, 3 ... within the listener


@dataclass(frozen=True, kw_only=True, slots=True)
class L7Rule(Resource):
    """A condition on a request."""

    name: Hidden[Text] = ""
    loadbalancer_id: Hidden[Uuid]
    l7policy_id: Hidden[Uuid]
    type: L7RuleType
    compare_type: L7CompareType
    value: Text
    key: Text | None = None
    invert: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Amphora:
    """A place that balances load: a namespace on this host, or a server of a cloud."""

    id: Uuid
    loadbalancer_id: Uuid | None
    compute_id: Uuid | None = None
    lb_network_ip: Ip | None = None
    vrrp_ip: Ip | None = None
    ha_ip: Ip | None = None
    vrrp_port_id: Uuid | None = None
    ha_port_id: Uuid | None = None
    cert_expiration: datetime | None = None
    cert_busy: bool = False
    role: Role | None = None
    status: AmphoraStatus = AmphoraStatus.PENDING_CREATE
    vrrp_interface: str | None = None
    vrrp_id: int | None = 1
    vrrp_priority: int | None = None
    cached_zone: Text | None = None
    created_at: datetime
    updated_at: datetime | None = None
    image_id: Uuid | None = None
    compute_flavor: Text | None = None
    incarnation: Hidden[int] = 1
    agent_url: Hidden[Text | None] = None  # where its agent answers
    heartbeat_key: Hidden[Text] = ""  # hex; shared by the amphora and the health manager, never shown
    heartbeat_at: Hidden[datetime | None] = None  # the last good heartbeat, written coarsely
    digest: Hidden[Text | None] = None  # of the bundle it ran when the loop last looked


class Rules(Protocol):
    """The policy in force."""

    def allow(self, target: str, caller: "Caller", project_id: str | None) -> bool:
        """Whether the caller may do this to an object of this project."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Quota:
    """How many objects a project may have, by kind. None: as many as the operator's settings say."""

    project_id: Shown[str]
    loadbalancer: QuotaLimit | None = None
    listener: QuotaLimit | None = None
    pool: QuotaLimit | None = None
    healthmonitor: QuotaLimit | None = None
    member: QuotaLimit | None = None
    l7policy: QuotaLimit | None = None
    l7rule: QuotaLimit | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class FlavorProfile:
    """What load balancers of a flavor are made of, in words of their provider."""

    id: Shown[Uuid]
    name: Text
    provider_name: Text
    flavor_data: ProfileData
    created_at: Hidden[datetime]


@dataclass(frozen=True, kw_only=True, slots=True)
class Flavor:
    """A kind of load balancer that an operator offers."""

    id: Shown[Uuid]
    name: Text
    description: Text = ""
    enabled: bool = True
    flavor_profile_id: Fixed[Uuid]
    created_at: Hidden[datetime]


@dataclass(frozen=True, kw_only=True, slots=True)
class AvailabilityZoneProfile:
    """Where load balancers of an availability zone are put, in words of their provider."""

    id: Shown[Uuid]
    name: Text
    provider_name: Text
    availability_zone_data: ProfileData
    created_at: Hidden[datetime]


@dataclass(frozen=True, kw_only=True, slots=True)
class AvailabilityZone:
    """A place that an operator offers. Users and paths name it by its name."""

    id: Hidden[Uuid]
    name: Fixed[Text]
    description: Text = ""
    enabled: bool = True
    availability_zone_profile_id: Fixed[Uuid]
    created_at: Hidden[datetime]


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """Who sends a request, as an identity service vouches for it."""

    user_id: str
    project_id: str | None
    roles: frozenset[str] = frozenset()  # keystone's default roles: admin implies member implies reader
    system_scope: str | None = None  # "all": the token is of the whole cloud
    domain_id: str | None = None  # the token is of a domain
    trusted: bool = False  # an administrator whatever the roles: requests without a token, where those are taken
    rules: Rules | None = field(default=None, compare=False, repr=False)  # what the roles mean; None: nothing

    @property
    def is_admin(self) -> bool:
        """May do everything in every project."""
        return "admin" in self.roles


@dataclass(frozen=True, kw_only=True, slots=True)
class Subnet:
    """What the load balancer needs to know of a subnet."""

    id: Uuid
    network_id: Uuid
    cidr: Network
    gateway_ip: Ip | None
    project_id: str
    shared: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class FixedIp:
    """An address of a port, with what an interface needs to use it."""

    subnet_id: Uuid
    address: Ip
    cidr: Network
    gateway_ip: Ip | None


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkPort:
    """A port on a network, as the network driver gives it."""

    id: Uuid
    name: Text
    network_id: Uuid
    project_id: str
    device_id: str
    device_owner: str
    mac_address: str
    mtu: int
    fixed_ips: tuple[FixedIp, ...]
    qos_policy_id: Uuid | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SecurityGroup:
    """Who may reach the ports that are in the group. A port in several is reached by whom any of them admits."""

    id: Uuid
    project_id: str
    shared: bool = False
    admitted: tuple[Admission, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class QosPolicy:
    """How much may come in to and leave from a port."""

    id: Uuid
    project_id: str
    shared: bool = False
    ingress: Limit | None = None
    egress: Limit | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Material:
    """What a reference into a key manager leads to: one payload named "", or those of a container by their names."""

    ref: str
    project_id: str
    payloads: dict[str, bytes] = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Tree:
    """One load balancer with all that belongs to it, as read in one transaction at ``generation``."""

    load_balancer: LoadBalancer
    listeners: tuple[Listener, ...] = ()
    pools: tuple[Pool, ...] = ()
    members: tuple[Member, ...] = ()
    health_monitors: tuple[HealthMonitor, ...] = ()
    l7policies: tuple[L7Policy, ...] = ()
    l7rules: tuple[L7Rule, ...] = ()
    amphorae: tuple[Amphora, ...] = ()
    generation: int = 0
    delete_wanted: bool = False

    def every(self, cls: type[R]) -> tuple[R, ...]:
        """What the load balancer has of this class."""
        return cast(tuple[R, ...], getattr(self, PARTS[cls]))

    @property
    def objects(self) -> list[Resource]:
        """The load balancer and all that it has but amphorae."""
        return [self.load_balancer, *(value for cls in PARTS for value in self.every(cls))]


PARTS: dict[type[Resource], str] = {  # what a load balancer has, and where its tree keeps it
    Listener: "listeners", Pool: "pools", Member: "members", HealthMonitor: "health_monitors",
    L7Policy: "l7policies", L7Rule: "l7rules",
}  # fmt: skip
USER_RESOURCES: tuple[type[Resource], ...] = (LoadBalancer, *PARTS)


def foreign(provider: str | None) -> bool:
    """Whether it is a third party's. None: the provider that is built in."""
    return provider is not None and provider not in OWN_PROVIDERS

"""Every option, once: name, type, default, help. ``configuration`` reads colonnade.conf into frozen ``Settings``.

Section and option names are Octavia's where they mean the same. A wrong value stops the program at start with the
option's name.
"""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from oslo_config import types

from colonnade.model import OWN_PROVIDERS


def _option(default: Any, help: str, **limits: Any) -> Any:  # noqa: ANN401 - the default's type is the field's
    return field(default=default, metadata={"help": help, **limits})


_VERSIONS = ["SSLv3", "TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"]
_ALPN = ["h2", "http/1.1", "http/1.0"]
_CIPHERS = ":".join((
    "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256",
    "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305",
    "DHE-RSA-AES128-GCM-SHA256", "DHE-RSA-AES256-GCM-SHA384", "DHE-RSA-CHACHA20-POLY1305",
))  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Default:
    """[DEFAULT]"""

    state_path: str = _option("/var/lib/colonnade/default", "Directory that holds all state of this installation.")
    debug: bool = _option(False, "Log at DEBUG level.")
    host: str = _option("", "This node's name in leases and logs; empty: the host name.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Database:
    """[database]"""

    connection: str = _option(
        "",
        "mysql+pymysql://user:password@host/database (MariaDB, MySQL) or postgresql+psycopg://user:password@host/"
        "database; the user may make tables there. Empty: SQLite in the state directory.",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class ApiSettings:
    """[api_settings]"""

    bind_host: str = _option("127.0.0.1", "Address the API listens on.")
    bind_port: int = _option(9876, "TCP port the API listens on.", min=1, max=65535)
    processes: int = _option(1, "Processes that answer requests; each takes some 60 MB.", min=1, max=64)
    threads: int = _option(8, "Threads of each process that answer requests.", min=1, max=256)
    auth_strategy: str = _option(
        "builtin",
        "builtin: tokens of the built-in identity. noauth: also take requests without a token, as admin, on loopback "
        "addresses only. keystone: tokens of the Keystone that [keystone_authtoken] names (keystonemiddleware's "
        "options); no identity of our own is served.",
        choices=["builtin", "noauth", "keystone"],
    )
    allow_pagination: bool = _option(True, "Whether limit, marker and page_reverse count; else they are ignored.")
    allow_sorting: bool = _option(True, "Whether sort, sort_key and sort_dir of lists count; else they are ignored.")
    allow_filtering: bool = _option(True, "Whether filters and tags of lists count; else they are ignored.")
    allow_field_selection: bool = _option(True, "Whether fields counts; else it is ignored.")
    pagination_max_limit: str = _option(
        "1000",
        "Most items on one page of a list; infinite or a negative number: no limit.",
        regex=r"^(infinite|-[0-9]{1,9}|[1-9][0-9]{0,8})$",
    )
    api_base_uri: str = _option("", "Base of links in replies; empty: from the request.")
    max_request_body_size: int = _option(1048576, "Bytes of a request body that are accepted.", min=1024)
    allow_ping_health_monitors: bool = _option(True, "Whether PING health monitors may be created.")
    udp_connect_min_interval_health_monitor: int = _option(
        3, "Least delay of UDP-CONNECT health monitors, in seconds; negative: any."
    )
    allow_tls_terminated_listeners: bool = _option(True, "Whether TERMINATED_HTTPS listeners may be created.")
    allow_prometheus_listeners: bool = _option(True, "Whether PROMETHEUS listeners may be created.")
    default_listener_ciphers: str = _option(_CIPHERS, "What TLS listeners offer where they name no ciphers.")
    default_pool_ciphers: str = _option(_CIPHERS, "What pools with TLS offer where they name no ciphers.")
    tls_cipher_prohibit_list: tuple[str, ...] = _option((), "Ciphers that may not be named.")
    default_listener_tls_versions: tuple[str, ...] = _option(
        ("TLSv1.2", "TLSv1.3"), "Versions of listeners that name none.", item_type=types.String(choices=_VERSIONS)
    )
    default_pool_tls_versions: tuple[str, ...] = _option(
        ("TLSv1.2", "TLSv1.3"), "Versions of pools that name none.", item_type=types.String(choices=_VERSIONS)
    )
    minimum_tls_version: str = _option(
        "", "Older ones may not be asked for; empty: none is too old.", choices=["", *_VERSIONS]
    )
    default_listener_alpn_protocols: tuple[str, ...] = _option(
        tuple(_ALPN), "Protocols of listeners that name none.", item_type=types.String(choices=_ALPN)
    )
    default_pool_alpn_protocols: tuple[str, ...] = _option(
        tuple(_ALPN), "Protocols of pools that name none.", item_type=types.String(choices=_ALPN)
    )
    healthcheck_enabled: bool = _option(True, "Whether GET /healthcheck is answered.")
    enabled_provider_drivers: tuple[str, ...] = _option(
        (
            "amphora: The amphora provider: HAProxy in network namespaces or servers.",
            "octavia: Deprecated alias of the amphora provider.",
        ),
        "Providers that load balancers may have, name: description. amphora and octavia are built in; another one is "
        "looked up among the installed packages (docs/providers.md).",
        item_type=types.String(regex=r"^[^\s:,]{1,64}\s*:.*$"),
    )
    default_provider_driver: str = _option("amphora", "Provider of load balancers that name none.")
    token_lifetime_s: int = _option(86400, "Seconds a token of the built-in identity is good for.", min=60)

    @property
    def most_items(self) -> int | None:
        """On one page of a list; None: no limit."""
        text = str(self.pagination_max_limit)
        return None if text == "infinite" or text.startswith("-") else int(text)


@dataclass(frozen=True, kw_only=True, slots=True)
class OsloMiddleware:
    """[oslo_middleware]"""

    enable_proxy_headers_parsing: bool = _option(
        False,
        "Whether X-Forwarded-Proto, -Host, -Prefix and -For are believed: only behind a proxy that sets them itself "
        "and lets none of a client's through.",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Cors:
    """[cors]"""

    allowed_origin: tuple[str, ...] = _option(
        (), "Origins of web pages that may use the API from a browser, as https://dashboard.example; * for any."
    )
    allow_credentials: bool = _option(True, "Whether such a page may send its user's credentials; not with *.")
    max_age: int = _option(3600, "Seconds a browser keeps what it was told of this.", min=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class OsloPolicy:
    """[oslo_policy]"""

    policy_file: str = _option(
        "policy.yaml",
        "Rules of your own (docs/policies.md); relative to the configuration file's place. Read again when changed.",
    )
    policy_dirs: tuple[str, ...] = _option(
        ("policy.d",), "Directories of more such files, read after it in alphabetical order; relative likewise."
    )
    enforce_new_defaults: bool = _option(
        True, "Whether roles that the defaults before 2025.1 took (load-balancer_*) are not enough any more."
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class ControllerWorker:
    """[controller_worker]"""

    threads: int = _option(4, "Load balancers worked on at the same time by one worker.", min=1, max=64)
    lease_s: float = _option(30.0, "Seconds a worker's lease on a load balancer lasts without renewal.", min=1)
    sweep_interval_s: float = _option(1.0, "Seconds between looks for due work that no doorbell announced.", min=0.05)
    pending_limit_s: float = _option(
        60.0, "Seconds of failed tries after which a load balancer turns ERROR (and goes on being tried).", min=1
    )
    retry_longest_s: float = _option(60.0, "Longest pause between two tries, in seconds.", min=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class HealthManager:
    """[health_manager]"""

    bind_ip: str = _option("127.0.0.1", "Address that takes heartbeats (UDP).")
    bind_port: int = _option(5555, "UDP port that takes heartbeats.", min=1, max=65535)
    controller_ip_port_list: tuple[str, ...] = _option(
        (), "Health managers that amphorae send heartbeats to, ip:port; empty: this one's own address."
    )
    heartbeat_interval_s: float = _option(3.0, "Seconds between heartbeats of an amphora.", min=0.2)
    heartbeat_timeout_s: float = _option(60.0, "Seconds of silence after which an amphora is stale.", min=2)
    flush_interval_s: float = _option(0.3, "Seconds of heartbeats gathered into one database write.", min=0.05)


@dataclass(frozen=True, kw_only=True, slots=True)
class HouseKeeping:
    """[house_keeping]"""

    cleanup_interval_s: float = _option(30.0, "Seconds between sweeps.", min=0.2)
    event_expiry_age_s: int = _option(604800, "Seconds that events are kept.", min=60)
    events_kept: int = _option(500, "Events kept of each load balancer, the newest.", min=10)
    secret_check_interval_s: float = _option(
        60.0, "Seconds between looks for secrets that changed behind their references.", min=0.2
    )
    certificate_warning_days: tuple[str, ...] = _option(
        ("30", "7", "1"),
        "Days before a certificate's end at which its owner is warned.",
        item_type=types.String(regex=r"[1-9][0-9]{0,3}"),
    )
    orphan_age_s: float = _option(60.0, "Seconds something nobody owns must exist before it is removed.", min=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class DriverAgent:
    """[driver_agent] Where third parties' providers report, and their agents."""

    status_socket_path: str = _option("", "Socket that takes statuses; empty: run/providers/status.sock in the state.")
    stats_socket_path: str = _option("", "Socket that takes statistics; empty: run/providers/stats.sock in the state.")
    get_socket_path: str = _option("", "Socket that gives objects; empty: run/providers/get.sock in the state.")
    status_request_timeout: int = _option(5, "Seconds that a peer may take to send statuses.", min=1)
    stats_request_timeout: int = _option(5, "Seconds that a peer may take to send statistics.", min=1)
    get_request_timeout: int = _option(5, "Seconds that a peer may take to say which object it wants.", min=1)
    status_max_processes: int = _option(50, "Requests answered at a time on the status socket.", min=1, max=1000)
    stats_max_processes: int = _option(50, "Requests answered at a time on the statistics socket.", min=1, max=1000)
    get_max_processes: int = _option(50, "Requests answered at a time on the get socket.", min=1, max=1000)
    max_process_warning_percent: float = _option(0.75, "Share of those beyond which the log warns.", min=0.01, max=0.99)
    provider_path: str = _option(
        "", "Directory of providers' packages (pip install --target) beside those that are installed."
    )
    enabled_provider_agents: tuple[str, ...] = _option((), "Providers' agents to run, by their entry points' names.")
    provider_agent_shutdown_timeout: int = _option(
        60, "Seconds that a provider's agent may take to stop before it is killed.", min=1
    )
    call_limit_s: float = _option(
        60.0, "Seconds that a provider may take to accept a change; later its outcome counts as unknown.", min=1
    )
    report_limit_s: float = _option(
        3600.0, "Seconds without a report after which a change that a provider has accepted turns ERROR.", min=1
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Networking:
    """[networking]"""

    allow_vip_network_id: bool = _option(True, "Whether users may name the VIP's network.")
    allow_vip_subnet_id: bool = _option(True, "Whether users may name the VIP's subnet.")
    allow_vip_port_id: bool = _option(True, "Whether users may bring the VIP's port.")
    valid_vip_networks: tuple[str, ...] = _option(
        (), "IDs of the networks that VIPs may be on, where the availability zone names none; empty: any."
    )
    denylist_vip_networks: tuple[str, ...] = _option((), "IDs of networks that no VIP may be on.")
    reserved_ips: tuple[str, ...] = _option(("169.254.169.254",), "Addresses that no member may have.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Quotas:
    """[quotas] Limits of projects that have none of their own. Not asked with auth_strategy noauth."""

    default_load_balancer_quota: int = _option(
        -1, "Load balancers a project may have; -1: unlimited.", min=-1, max=2000000000
    )
    default_listener_quota: int = _option(-1, "Listeners a project may have; -1: unlimited.", min=-1, max=2000000000)
    default_pool_quota: int = _option(-1, "Pools a project may have; -1: unlimited.", min=-1, max=2000000000)
    default_health_monitor_quota: int = _option(
        -1, "Health monitors a project may have; -1: unlimited.", min=-1, max=2000000000
    )
    default_member_quota: int = _option(-1, "Members a project may have; -1: unlimited.", min=-1, max=2000000000)
    default_l7policy_quota: int = _option(-1, "L7 policies a project may have; -1: unlimited.", min=-1, max=2000000000)
    default_l7rule_quota: int = _option(-1, "L7 rules a project may have; -1: unlimited.", min=-1, max=2000000000)

    @property
    def by_kind(self) -> dict[str, int]:
        """The defaults by the API's first spelling of each kind."""
        return {
            "loadbalancer": self.default_load_balancer_quota, "listener": self.default_listener_quota,
            "pool": self.default_pool_quota, "healthmonitor": self.default_health_monitor_quota,
            "member": self.default_member_quota, "l7policy": self.default_l7policy_quota,
            "l7rule": self.default_l7rule_quota,
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class HaproxyAmphora:
    """[haproxy_amphora]"""

    haproxy_cmd: str = _option("/usr/sbin/haproxy", "The HAProxy program.")
    default_connection_limit: int = _option(50000, "What a listener's connection_limit of -1 means.", min=1)
    timeout_client_data: int = _option(50000, "Default of a listener's field, milliseconds.", min=0)
    timeout_member_connect: int = _option(5000, "Default of a listener's field, milliseconds.", min=0)
    timeout_member_data: int = _option(50000, "Default of a listener's field, milliseconds.", min=0)
    timeout_tcp_inspect: int = _option(0, "Default of a listener's field, milliseconds.", min=0)
    hard_stop_after_s: int = _option(60, "Seconds a replaced HAProxy process may finish its connections.", min=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Drivers:
    """[drivers] What the control plane works with."""

    compute: str = _option(
        "agent",
        "Where amphorae are. agent: namespaces that this machine's agent makes. noop: nowhere; whatever flavors and "
        "zones name exists.",
        choices=["agent", "noop"],
    )
    network: str = _option(
        "local",
        "Networks of VIPs and members. local: those of the small cloud. noop: none; whatever id is given exists, and "
        "VIPs get made-up addresses of 240.0.0.0/4.",
        choices=["local", "noop"],
    )
    amphora: str = _option(
        "agent",
        "Who makes amphorae be as wanted. agent: this machine's agent. noop: nobody; all that is wanted counts as "
        "done. With compute and amphora both noop no agent runs.",
        choices=["agent", "noop"],
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Agent:
    """[agent] (a stand-alone host's; all paths follow from state_path)"""

    tag: str = _option("default", "Short name (letters, digits, at most 8) in names of namespaces and interfaces.")
    slot: int = _option(
        0, "Number of this installation on this machine; uids and uplink addresses follow from it.", min=0, max=99
    )
    control_group: str = _option("colonnade", "Group whose members may talk to the agent.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Local:
    """[local] The small cloud around a stand-alone installation, written at first start."""

    private_cidr: str = _option("10.64.0.0/16", "Addresses of private-subnet.")
    public_cidr: str = _option("10.65.0.0/24", "Addresses of public-subnet, where floating IPs come from.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """All options, by section."""

    default: Default = field(default_factory=Default)
    database: Database = field(default_factory=Database)
    api_settings: ApiSettings = field(default_factory=ApiSettings)
    oslo_middleware: OsloMiddleware = field(default_factory=OsloMiddleware)
    cors: Cors = field(default_factory=Cors)
    oslo_policy: OsloPolicy = field(default_factory=OsloPolicy)
    controller_worker: ControllerWorker = field(default_factory=ControllerWorker)
    health_manager: HealthManager = field(default_factory=HealthManager)
    house_keeping: HouseKeeping = field(default_factory=HouseKeeping)
    driver_agent: DriverAgent = field(default_factory=DriverAgent)
    networking: Networking = field(default_factory=Networking)
    quotas: Quotas = field(default_factory=Quotas)
    haproxy_amphora: HaproxyAmphora = field(default_factory=HaproxyAmphora)
    drivers: Drivers = field(default_factory=Drivers)
    agent: Agent = field(default_factory=Agent)
    local: Local = field(default_factory=Local)
    files: tuple[str, ...] = field(default=(), compare=False)  # where from, for libraries with options of their own

    @property
    def state(self) -> Path:
        """The state directory."""
        return Path(self.default.state_path)

    @property
    def database_url(self) -> str:
        """Where the database is."""
        return self.database.connection or f"sqlite:///{self.state / 'db' / 'colonnade.sqlite'}"

    @property
    def agent_url(self) -> str:
        """Where the stand-alone host's agent answers."""
        return f"unix://{self.state / 'run' / 'agent.sock'}"

    @property
    def providers(self) -> dict[str, str]:
        """Providers that may be used, with their descriptions."""
        pairs = (item.partition(":") for item in self.api_settings.enabled_provider_drivers)
        return {name.strip(): description.strip() for name, _, description in pairs}

    @property
    def reports(self) -> bool:
        """Whether somebody reports to the driver agent."""
        return bool(self.providers.keys() - OWN_PROVIDERS or self.driver_agent.enabled_provider_agents)

    @property
    def provider_sockets(self) -> tuple[str, str, str]:
        """The driver agent's sockets: statuses, statistics, get."""
        own, there = self.driver_agent, self.state / "run" / "providers"
        return (
            own.status_socket_path or str(there / "status.sock"),
            own.stats_socket_path or str(there / "stats.sock"),
            own.get_socket_path or str(there / "get.sock"),
        )

    @property
    def heartbeat_targets(self) -> tuple[str, ...]:
        """Where amphorae send heartbeats, ip:port."""
        own = f"{self.health_manager.bind_ip}:{self.health_manager.bind_port}"
        return tuple(self.health_manager.controller_ip_port_list) or (own,)


def sections() -> "list[dataclasses.Field[Any]]":
    """The fields of ``Settings`` that are sections of the file."""
    return [f for f in dataclasses.fields(Settings) if f.default_factory is not dataclasses.MISSING]


class WrongSetting(Exception):
    """An option has a value it may not have; the text names section, option and value."""

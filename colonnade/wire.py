"""Formats shared by the control plane and the agent: the bundle, what an amphora answers, the heartbeat.

Imports nothing but the standard library, so that an amphora needs no more.

Agent API (HTTP, JSON; on a stand-alone host over a Unix socket, ``agent_url`` = ``unix:///path/agent.sock``):

    GET    /v1                          {"version": 1, "amphorae": [id, ...], "fabric": digest or null}
    PUT    /v1/amphorae/{id}            {"heartbeat_key": hex}          make its place (idempotent) -> Observed
    GET    /v1/amphorae/{id}            -> Observed, or 404
    PUT    /v1/amphorae/{id}/bundle     Bundle -> Observed; 404 no such amphora; 409 a network is not there yet (try
                                        again); 422 the bundle is refused, {"error": sentence, "help": sentence}
    DELETE /v1/amphorae/{id}            204, also when it is gone already
    PUT    /v1/fabric                   Fabric -> {"digest": ...}
    GET    /v1/fabric                   {"digest": ... or null}
"""

import hashlib
import hmac
import json
import math
import uuid
import zlib
from dataclasses import asdict, dataclass, field
from typing import Any

VERSION = 1
STATISTICS = "colonnade-statistics"  # a frontend of an amphora's own, which is nobody's listener
METRICS = "metrics.lua"  # the file of a bundle that makes HAProxy answer Prometheus
_MAGIC = b"CLN1"
_MAC_BYTES = 32
MAX_DATAGRAM = 65507
_MAX_PAYLOAD = 8 * 1024 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Interface:
    """One network interface of an amphora. Addresses carry their prefix length ("10.0.0.5/24")."""

    port_id: str
    network_id: str
    mac: str
    mtu: int
    addresses: tuple[str, ...]
    vips: tuple[str, ...] = ()  # put on the interface only while the bundle says serving; announced by GARP/NA
    gateways: tuple[str, ...] = ()  # default routes, at most one for each IP version


# What an agent takes, and thus what may be asked for.
MOST_KILOBITS = 100_000_000  # a second; nftables' arithmetic ends at 147 Gbit/s
WITH_PORTS = frozenset({6, 17, 33, 132, 136})  # TCP, UDP, DCCP, SCTP, UDP-Lite
ICMP, ICMP6 = 1, 58


@dataclass(frozen=True, kw_only=True, slots=True)
class Admission:
    """Packets that may reach the VIPs. ``first`` to ``last`` are their ports; of ICMP, type and code. None: any."""

    version: int  # 4 or 6
    protocol: int | None = None  # IANA's number
    first: int | None = None
    last: int | None = None
    source: str | None = None  # CIDR


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """How much may pass: kilobits a second, and kilobits at once."""

    kilobits: int
    burst_kilobits: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Traffic:
    """What may reach the VIPs (``admitted`` None: everything), and how much comes in to and leaves from them."""

    admitted: tuple[Admission, ...] | None = None
    ingress: Limit | None = None
    egress: Limit | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """Everything an amphora must be. ``files`` are names relative to its directory, ``haproxy.cfg`` among them
    when HAProxy has anything to serve, ``datagrams.json`` (see ``colonnade.datagrams``) when the kernel has. The
    digest is not part of it: see ``digest``.

    Of files, ``*.pem`` (certificates with keys), and pools' ``*.ca`` and ``*.crl``, change without a reload, as do
    ``*.acl`` (patterns) and ``*.map``. ``keep`` names files of the first three kinds that the amphora goes on with as
    it has them: a lost secret takes no listener down."""

    amphora_id: str
    loadbalancer_id: str
    serving: bool
    interfaces: tuple[Interface, ...]
    files: dict[str, str]
    heartbeat_targets: tuple[str, ...]  # "127.0.0.1:5555", "[::1]:5555"
    heartbeat_interval: float = 3.0  # seconds
    keep: tuple[str, ...] = ()
    traffic: Traffic = Traffic()


@dataclass(frozen=True, kw_only=True, slots=True)
class Observed:
    """What an amphora's agent answers about it."""

    amphora_id: str
    digest: str | None = None  # of the bundle it runs; None before the first
    haproxy: str = "absent"  # absent (nothing to serve) | running | failing (the agent keeps trying)
    error: str | None = None
    secrets: tuple[str, ...] = ()  # names of the files it has that ``Bundle.keep`` may name


def is_secret(name: str) -> bool:
    """Whether a file of a bundle is one that comes from a key manager."""
    return name.endswith((".pem", ".ca", ".crl"))


@dataclass(frozen=True, kw_only=True, slots=True)
class FabricSubnet:
    """A subnet of a fabric network; the fabric holds its gateway address."""

    id: str
    cidr: str
    gateway: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class FabricNetwork:
    """A bridge. ``group`` names who may reach whom: networks of one group are routed to one another; those of "*" are
    reached from all, and reach only their like."""

    id: str
    group: str
    mtu: int
    subnets: tuple[FabricSubnet, ...]
    external: bool = False  # floating IPs come from here: no bridge, its addresses live in the map only


@dataclass(frozen=True, kw_only=True, slots=True)
class Fabric:
    """All networks of a stand-alone host, and where its floating IPs lead (floating address -> fixed address)."""

    networks: tuple[FabricNetwork, ...]
    floating_ips: dict[str, str] = field(default_factory=dict)


def to_json(value: Any) -> Any:  # noqa: ANN401 - any of the dataclasses above
    """A dataclass of this module as plain JSON types."""
    return json.loads(json.dumps(asdict(value)))


def bundle_from_json(data: dict[str, Any]) -> Bundle:
    """The Bundle in a request body. Raises ValueError, TypeError or KeyError when it is not one."""
    interfaces = tuple(Interface(**_tuples(i)) for i in data["interfaces"])
    targets = tuple(data["heartbeat_targets"])
    keep = tuple(data.get("keep", ()))
    traffic = _traffic(data.get("traffic") or {})
    return Bundle(**{**data, "interfaces": interfaces, "heartbeat_targets": targets, "keep": keep, "traffic": traffic})


def _traffic(data: dict[str, Any]) -> Traffic:
    admitted = data.get("admitted")
    limits = {k: None if data.get(k) is None else Limit(**data[k]) for k in ("ingress", "egress")}
    return Traffic(
        **{**data, **limits, "admitted": None if admitted is None else tuple(Admission(**a) for a in admitted)}
    )


def _tuples(data: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}


def fabric_from_json(data: dict[str, Any]) -> Fabric:
    """The Fabric in a request body. Raises ValueError, TypeError or KeyError when it is not one."""
    networks = tuple(
        FabricNetwork(**{**n, "subnets": tuple(FabricSubnet(**s) for s in n["subnets"])}) for n in data["networks"]
    )
    return Fabric(networks=networks, floating_ips=dict(data["floating_ips"]))


def digest(value: Bundle | Fabric) -> str:
    """SHA-256 (hex) of the value's canonical JSON: equal exactly when the contents are."""
    return hashlib.sha256(json.dumps(asdict(value), sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class Counters:
    """Of one listener, since the start of the heartbeat's ``epoch``; ``active_connections`` is of now."""

    status: str  # OPEN | FULL | STOP
    bytes_in: int = 0
    bytes_out: int = 0
    active_connections: int = 0
    total_connections: int = 0
    request_errors: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class MemberState:
    """A member as HAProxy or the agent sees it, in HAProxy's words: its status column, and what the last check said."""

    status: str  # UP | UP 1/3 | DOWN | DOWN 1/2 | DRAIN | MAINT | no check
    check: str = ""  # HAProxy's check_status (L4OK, L4CON, L7STS, ...) and check_code
    text: str = ""  # what the last check said, for the member's owner


@dataclass(frozen=True, kw_only=True, slots=True)
class Heartbeat:
    """One amphora's word about itself. Signed with its own key; ``sequence`` grows within an ``epoch``.

    ``epoch`` changes when the counters start again at zero (a new agent process). Pools are keyed as HAProxy
    backends are named: ``<pool id>:<listener id>``.
    """

    amphora_id: str
    sequence: int
    time: float  # seconds since the epoch, the sender's clock
    epoch: str
    digest: str | None
    haproxy: str = "absent"
    listeners: dict[str, Counters] = field(default_factory=dict)
    pools: dict[str, str] = field(default_factory=dict)  # UP | DOWN
    members: dict[str, dict[str, MemberState]] = field(default_factory=dict)  # backend -> member id -> state


def pack(beat: Heartbeat, key: bytes) -> bytes:
    """The datagram: magic, the amphora's id (16 bytes), zlib of the JSON, HMAC-SHA256 over all before it."""
    body = json.dumps(asdict(beat), separators=(",", ":")).encode()
    head = _MAGIC + uuid.UUID(beat.amphora_id).bytes + zlib.compress(body, 1)
    return head + hmac.digest(key, head, "sha256")


def sender(datagram: bytes) -> str | None:
    """The amphora id that a datagram claims, before its signature is checked; None when it is no heartbeat."""
    if len(datagram) < len(_MAGIC) + 16 + _MAC_BYTES or not datagram.startswith(_MAGIC):
        return None
    return str(uuid.UUID(bytes=datagram[len(_MAGIC) : len(_MAGIC) + 16]))


def unpack(datagram: bytes, key: bytes) -> Heartbeat | None:
    """The heartbeat, or None when the signature or the form is wrong."""
    claimed = sender(datagram)
    head, mac = datagram[:-_MAC_BYTES], datagram[-_MAC_BYTES:]
    if claimed is None or not hmac.compare_digest(hmac.digest(key, head, "sha256"), mac):
        return None
    try:
        inflater = zlib.decompressobj()
        body = inflater.decompress(head[len(_MAGIC) + 16 :], _MAX_PAYLOAD)
        data = json.loads(body)
        beat = Heartbeat(
            **{
                **data,
                "listeners": {k: Counters(**v) for k, v in data["listeners"].items()},
                "members": {
                    b: {m: MemberState(**s) for m, s in states.items()} for b, states in data["members"].items()
                },
            }
        )
    except (zlib.error, ValueError, TypeError, KeyError, AttributeError):
        return None
    return beat if beat.amphora_id == claimed and _sound(beat) else None


def _sound(beat: Heartbeat) -> bool:
    """Whether every value has its type and a size that databases take: the sender may have been taken over."""
    states = [s for found in beat.members.values() for s in found.values()]
    texts = [beat.epoch, beat.haproxy, beat.digest or "", *(c.status for c in beat.listeners.values())]
    numbers: list[object] = [beat.sequence]
    for c in beat.listeners.values():
        numbers += [c.bytes_in, c.bytes_out, c.active_connections, c.total_connections, c.request_errors]
    return (
        type(beat.time) in (int, float) and math.isfinite(beat.time)
        and all(type(n) is int and abs(n) < 1 << 62 for n in numbers)
        and isinstance(beat.pools, dict) and all(isinstance(s, str) for s in beat.pools.values())
        and all(isinstance(t, str) for t in texts)
        and all(isinstance(t, str) for s in states for t in (s.status, s.check, s.text))
    )  # fmt: skip

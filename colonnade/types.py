"""The small vocabulary of field types: ranges, lengths, enumerations and marks, each said once.

Constraints are ``annotated_types`` where it has them and the classes below where it has not; ``api.shapes`` turns
both into validation and ``store.tables`` into columns. Sources of the rules: the API v2 reference of OpenStack Octavia.
"""

import re
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Annotated, Any, TypeVar

from annotated_types import Interval, MaxLen

T = TypeVar("T")


class Mark(Enum):
    """Who may set a field, and when. A field without a mark is given at creation and changed by PUT."""

    FIXED = "given at creation, never changed by a user"
    SHOWN = "only in replies"
    HIDDEN = "stored, never in a body or a reply"


Fixed = Annotated[T, Mark.FIXED]
Shown = Annotated[T, Mark.SHOWN]
Hidden = Annotated[T, Mark.HIDDEN]


@dataclass(frozen=True)
class Matches:
    """Text that a whole regular expression matches; ``why`` finishes the sentence of the 400."""

    pattern: re.Pattern[str]
    why: str


@dataclass(frozen=True)
class IpAddress:
    """An IPv4 or IPv6 address as text, in its normal form (RFC 5952 for IPv6)."""


@dataclass(frozen=True)
class Cidr:
    """A network in CIDR notation as text, host bits cleared."""


@dataclass(frozen=True)
class JsonText:
    """A JSON object as text, kept as its sender wrote it."""


@dataclass(frozen=True)
class OneOf:
    """One of a few numbers."""

    numbers: tuple[int, ...]


@dataclass(frozen=True)
class Unique:
    """Each item once: those that are there already are left out."""


UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

Uuid = Annotated[str, Matches(UUID, "Value should be UUID format")]
Text = Annotated[str, MaxLen(255)]
Port = Annotated[int, Interval(ge=1, le=65535)]
Weight = Annotated[int, Interval(ge=0, le=256)]
Milliseconds = Annotated[int, Interval(ge=0, le=2073600000)]
Seconds = Annotated[int, Interval(ge=0, le=2147483647)]
Pause = Annotated[int, Interval(ge=0, le=2147483)]  # seconds of timers that count milliseconds in 31 bits
Retries = Annotated[int, Interval(ge=1, le=10)]
ConnectionLimit = Annotated[int, Interval(ge=-1, le=2147483647)]
Ip = Annotated[str, IpAddress()]
Network = Annotated[str, Cidr()]
Tags = Annotated[tuple[Text, ...], MaxLen(256), Unique()]
Networks = Annotated[tuple[Network, ...], MaxLen(1000), Unique()]
QuotaLimit = Annotated[int, Interval(ge=-1, le=2000000000)]  # -1: unlimited
ProfileData = Annotated[str, MaxLen(4096), JsonText()]
CookieName = Annotated[
    str, MaxLen(255), Matches(re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"), "Value should be a cookie name (RFC 6265)")
]
UrlPath = Annotated[
    str,
    MaxLen(255),
    Matches(
        re.compile(r"/(?!/)[!-~]*"),
        "Value should be a path that starts with one / and holds no host or white space",
    ),
]
Codes = Annotated[
    str,
    MaxLen(64),
    Matches(
        re.compile(r"[0-9]{3}( *, *[0-9]{3})*|[0-9]{3}-[0-9]{3}"),
        "Value should be a code, a comma-separated list or a range",
    ),
]
DomainName = Annotated[
    str,
    MaxLen(255),
    Matches(
        re.compile(
            r"(?=.{1,255}$)[A-Za-z0-9]([A-Za-z0-9-]{0,62}[A-Za-z0-9])?"
            r"(\.[A-Za-z0-9]([A-Za-z0-9-]{0,62}[A-Za-z0-9])?)*\.?"
        ),
        "Value should be a host name (RFC 1123)",
    ),
]
Ciphers = Annotated[
    str,
    MaxLen(2048),
    Matches(
        re.compile(r"[A-Za-z0-9\-+!:@=_.]+"), "Value should be an OpenSSL cipher string of A-Z a-z 0-9 - + ! : @ = _ ."
    ),
]

Url = Annotated[
    str,
    MaxLen(255),
    Matches(
        re.compile(r"[Hh][Tt][Tt][Pp][Ss]?://[A-Za-z0-9_%\[][!-~]*"),
        "Value should be an http or https URL that holds no white space",
    ),
]
RedirectCode = Annotated[int, OneOf((301, 302, 303, 307, 308))]
Position = Annotated[int, Interval(ge=1, le=2147483647)]


class ProvisioningStatus(StrEnum):
    """What the loop is doing with an object."""

    PENDING_CREATE = "PENDING_CREATE"
    PENDING_UPDATE = "PENDING_UPDATE"
    PENDING_DELETE = "PENDING_DELETE"
    ACTIVE = "ACTIVE"
    ERROR = "ERROR"


PENDING = tuple(s for s in ProvisioningStatus if s.startswith("PENDING_"))  # something is asked for, and not done yet


class OperatingStatus(StrEnum):
    """How an object does, as seen by the amphorae."""

    ONLINE = "ONLINE"
    OFFLINE = "OFFLINE"
    DEGRADED = "DEGRADED"
    ERROR = "ERROR"
    DRAINING = "DRAINING"
    NO_MONITOR = "NO_MONITOR"


class ListenerProtocol(StrEnum):
    """What a listener speaks to clients."""

    TCP = "TCP"
    HTTP = "HTTP"
    HTTPS = "HTTPS"
    TERMINATED_HTTPS = "TERMINATED_HTTPS"
    UDP = "UDP"
    SCTP = "SCTP"
    PROMETHEUS = "PROMETHEUS"


class PoolProtocol(StrEnum):
    """What a pool speaks to its members."""

    TCP = "TCP"
    HTTP = "HTTP"
    HTTPS = "HTTPS"
    PROXY = "PROXY"
    PROXYV2 = "PROXYV2"
    UDP = "UDP"
    SCTP = "SCTP"


class Algorithm(StrEnum):
    """How a pool chooses a member."""

    ROUND_ROBIN = "ROUND_ROBIN"
    LEAST_CONNECTIONS = "LEAST_CONNECTIONS"
    SOURCE_IP = "SOURCE_IP"
    SOURCE_IP_PORT = "SOURCE_IP_PORT"


class PersistenceType(StrEnum):
    """How a client is kept on its member."""

    SOURCE_IP = "SOURCE_IP"
    HTTP_COOKIE = "HTTP_COOKIE"
    APP_COOKIE = "APP_COOKIE"


class MonitorType(StrEnum):
    """How a member's health is checked."""

    HTTP = "HTTP"
    HTTPS = "HTTPS"
    PING = "PING"
    TCP = "TCP"
    TLS_HELLO = "TLS-HELLO"
    UDP_CONNECT = "UDP-CONNECT"
    SCTP = "SCTP"


class ClientAuthentication(StrEnum):
    """Whether a TLS listener asks clients for a certificate, and whether they must have one."""

    NONE = "NONE"
    OPTIONAL = "OPTIONAL"
    MANDATORY = "MANDATORY"


class TlsVersion(StrEnum):
    """Versions of TLS, the oldest first."""

    SSLV3 = "SSLv3"
    TLSV1 = "TLSv1"
    TLSV1_1 = "TLSv1.1"
    TLSV1_2 = "TLSv1.2"
    TLSV1_3 = "TLSv1.3"


class AlpnProtocol(StrEnum):
    """What is spoken inside TLS, as the handshake names it."""

    H2 = "h2"
    HTTP_1_1 = "http/1.1"
    HTTP_1_0 = "http/1.0"


class HttpMethod(StrEnum):
    """Request method of an HTTP health check."""

    GET = "GET"
    HEAD = "HEAD"
    POST = "POST"
    PUT = "PUT"
    DELETE = "DELETE"
    TRACE = "TRACE"
    OPTIONS = "OPTIONS"
    CONNECT = "CONNECT"
    PATCH = "PATCH"


class L7Action(StrEnum):
    """What an L7 policy does with a request."""

    REJECT = "REJECT"
    REDIRECT_TO_URL = "REDIRECT_TO_URL"
    REDIRECT_TO_POOL = "REDIRECT_TO_POOL"
    REDIRECT_PREFIX = "REDIRECT_PREFIX"


class L7RuleType(StrEnum):
    """What of a request an L7 rule looks at."""

    HOST_NAME = "HOST_NAME"
    PATH = "PATH"
    FILE_TYPE = "FILE_TYPE"
    HEADER = "HEADER"
    COOKIE = "COOKIE"
    SSL_CONN_HAS_CERT = "SSL_CONN_HAS_CERT"
    SSL_VERIFY_RESULT = "SSL_VERIFY_RESULT"
    SSL_DN_FIELD = "SSL_DN_FIELD"


class L7CompareType(StrEnum):
    """How an L7 rule compares it with its value."""

    REGEX = "REGEX"
    STARTS_WITH = "STARTS_WITH"
    ENDS_WITH = "ENDS_WITH"
    CONTAINS = "CONTAINS"
    EQUAL_TO = "EQUAL_TO"


class AmphoraStatus(StrEnum):
    """The life of an amphora."""

    PENDING_CREATE = "PENDING_CREATE"
    BOOTING = "BOOTING"
    ALLOCATED = "ALLOCATED"
    READY = "READY"
    ERROR = "ERROR"
    PENDING_DELETE = "PENDING_DELETE"
    DELETED = "DELETED"
    FAILOVER_STOPPED = "FAILOVER_STOPPED"


class Role(StrEnum):
    """An amphora's place in its load balancer."""

    STANDALONE = "STANDALONE"
    MASTER = "MASTER"
    BACKUP = "BACKUP"


Json = dict[str, Any]  # a JSON object as parsed: its values are whatever the sender wrote

"""Rules that look at more than one field, as pure functions. Each raises the error of its first broken rule."""

from collections.abc import Collection, Iterable, Mapping
from ipaddress import IPv6Address, ip_address, ip_network

from colonnade.api.trees import staying
from colonnade.core import tls
from colonnade.core.datagrams import prefix_of
from colonnade.errors import Conflict, Invalid, Unsupported
from colonnade.model import HealthMonitor, Listener, LoadBalancer, Member, Pool, SessionPersistence, Tree
from colonnade.types import ListenerProtocol as L
from colonnade.types import MonitorType, PersistenceType, PoolProtocol
from colonnade.types import PoolProtocol as P

_POOLS_OF: Mapping[L, frozenset[P]] = {
    L.TCP: frozenset({P.TCP, P.HTTP, P.HTTPS, P.PROXY, P.PROXYV2}),
    L.HTTP: frozenset({P.HTTP, P.PROXY, P.PROXYV2}),
    L.HTTPS: frozenset({P.HTTPS, P.TCP, P.PROXY, P.PROXYV2}),
    L.TERMINATED_HTTPS: frozenset({P.HTTP, P.PROXY, P.PROXYV2}),
    L.UDP: frozenset({P.UDP}),
    L.SCTP: frozenset({P.SCTP}),
    L.PROMETHEUS: frozenset(),
}
_DATAGRAM_POOLS = frozenset({P.UDP, P.SCTP})
_OPAQUE_POOLS = frozenset({P.TCP, P.HTTPS})  # only listeners that do not look into what they pass on may use them
_MONITORS_OF_DATAGRAMS = frozenset({MonitorType.UDP_CONNECT, MonitorType.SCTP, MonitorType.TCP, MonitorType.HTTP})
_MONITORS_OF_STREAMS = frozenset(
    {MonitorType.HTTP, MonitorType.HTTPS, MonitorType.PING, MonitorType.TCP, MonitorType.TLS_HELLO}
)
_HTTP_MONITORS = frozenset({MonitorType.HTTP, MonitorType.HTTPS})
_ONLY_HTTP = ("http_method", "url_path", "expected_codes")
_NULL_ELSEWHERE = ("http_version", "domain_name")  # clients unset them on monitors of any type
HEADERS = frozenset(
    {"X-Forwarded-For", "X-Forwarded-Port", "X-Forwarded-Proto", "X-Forwarded-IP", "X-Client-IP", "X-Real-IP"}
)
_LONGEST_S = 0x7FFFFFFF // 1000  # what the kernel's timers, in milliseconds, hold
_TCP_FAMILY = frozenset({L.TCP, L.HTTP, L.HTTPS, L.TERMINATED_HTTPS, L.PROMETHEUS})


def listener_takes_pool(listener: L, pool: P) -> None:
    """400 unless a listener of this protocol may send to a pool of that one."""
    if listener is L.PROMETHEUS:
        raise Invalid("Protocol PROMETHEUS listeners cannot have child objects.")
    if pool not in _POOLS_OF[listener]:
        raise Invalid(
            f"Validation failure: The pool protocol '{pool}' is invalid while the listener protocol is '{listener}'."
        )


def listener_keeps_clients(listener: L, pool: Pool) -> None:
    """400 unless a listener of this protocol can keep clients as the pool wants it."""
    kind = pool.session_persistence and pool.session_persistence.type
    if kind in (PersistenceType.HTTP_COOKIE, PersistenceType.APP_COOKIE) and listener in (L.TCP, L.HTTPS):
        raise Invalid(
            f"Validation failure: Listeners of protocol {listener} cannot read cookies: session persistence of type "
            f"{kind} of pool {pool.id} would have no effect there. Use SOURCE_IP, or a listener of protocol HTTP."
        )


def pool_takes_monitor(pool: P, monitor: MonitorType) -> None:
    """400 unless a pool of this protocol may be checked so."""
    if monitor not in (_MONITORS_OF_DATAGRAMS if pool in _DATAGRAM_POOLS else _MONITORS_OF_STREAMS):
        raise Invalid(
            f"Validation failure: The health monitor type '{monitor}' is invalid while the pool protocol is '{pool}'."
        )


def member_has_way(address: str, protocol: P, vip_addresses: Iterable[str]) -> None:
    """501 for a member that no client can reach: an SCTP association names its own addresses, so nothing can carry it
    between IPv4 and IPv6. UDP is carried."""
    versions = {ip_address(a).version for a in vip_addresses}
    if protocol is P.SCTP and versions and ip_address(address).version not in versions:
        raise Unsupported(
            f"Provider 'amphora' does not support a requested option: Member {address} of an SCTP pool is of another "
            "IP version than every VIP."
        )


def monitor_interval(monitor: HealthMonitor, least: int) -> None:
    """400 for a UDP-CONNECT monitor that asks more often than the operator allows; a negative ``least`` allows all."""
    if monitor.type is MonitorType.UDP_CONNECT and monitor.delay < least:
        raise Invalid(
            f"Validation failure: The request delay value {monitor.delay} should be at least {least} for "
            f"{monitor.type} health monitor type."
        )


def persistence(value: SessionPersistence | None, protocol: PoolProtocol) -> None:
    """400 unless this session persistence makes sense on a pool of this protocol."""
    if value is None:
        return
    if value.type is PersistenceType.APP_COOKIE and not value.cookie_name:
        raise Invalid("Validation failure: Session persistence of type APP_COOKIE needs cookie_name.")
    if value.type is not PersistenceType.APP_COOKIE and value.cookie_name:
        raise Invalid("Validation failure: cookie_name is for session persistence of type APP_COOKIE only.")
    datagrams = protocol in _DATAGRAM_POOLS
    if datagrams and value.type is not PersistenceType.SOURCE_IP:
        raise Invalid(f"Validation failure: Pools of protocol {protocol} have session persistence SOURCE_IP only.")
    if protocol in _OPAQUE_POOLS and value.type is not PersistenceType.SOURCE_IP:
        raise Invalid(
            f"Validation failure: Pools of protocol {protocol} cannot read cookies: session persistence of type "
            f"{value.type} would have no effect there. Use SOURCE_IP, or a pool of protocol HTTP."
        )
    if not datagrams and (value.persistence_timeout is not None or value.persistence_granularity is not None):
        raise Invalid(
            "Validation failure: persistence_timeout and persistence_granularity are for UDP and SCTP pools only."
        )
    if value.persistence_timeout is not None and not 1 <= value.persistence_timeout <= _LONGEST_S:
        raise Invalid(f"Validation failure: persistence_timeout is not between 1 and {_LONGEST_S} seconds.")
    if value.persistence_granularity is not None:
        try:
            prefix_of(value.persistence_granularity)
        except ValueError as e:
            raise Invalid(f"Validation failure: persistence_granularity: {e}.") from None


def monitor(value: HealthMonitor, given: Collection[str]) -> None:
    """400 unless the monitor's fields fit its type; ``given`` are the fields that the request named."""
    if value.type not in _HTTP_MONITORS:
        set_here = [name for name in _NULL_ELSEWHERE if getattr(value, name) is not None]
        wrong = next((name for name in (*_ONLY_HTTP, *set_here) if name in given), None)
        if wrong is not None:
            raise Invalid(f"Validation failure: {wrong} is for health monitors of type HTTP or HTTPS only.")
    if value.domain_name is not None and (value.http_version is None or value.http_version < 1.1):
        raise Invalid("Validation failure: domain_name needs http_version 1.1.")
    first, _, last = (value.expected_codes or "").partition("-")
    if last and first > last:
        raise Invalid(
            f"Invalid input for field/attribute expected_codes. Value: '{value.expected_codes}'. Value should be a "
            "range from a lower code to a higher one."
        )


def monitor_allowed(kind: MonitorType, *, ping: bool) -> None:
    """400 for a type that the operator has switched off."""
    if kind is MonitorType.PING and not ping:
        raise Invalid(f"The selected health monitor type is not allowed in this deployment: {kind}")


def protocol_allowed(protocol: L, *, prometheus: bool) -> None:
    """400 for a protocol that the operator has switched off."""
    if protocol is L.PROMETHEUS and not prometheus:
        raise Invalid(f"The selected protocol is not allowed in this deployment: {protocol}")


def cidrs(allowed: Iterable[str] | None, vip_addresses: Iterable[str]) -> None:
    """400 unless each network is of the IP version of some VIP."""
    versions = {ip_address(a).version for a in vip_addresses}
    for cidr in allowed or ():
        if ip_network(cidr).version not in versions:
            raise Invalid(f"Validation failure: allowed_cidrs: {cidr} is of another IP version than every VIP.")


def vip_takes_groups(lb: LoadBalancer, listeners: Iterable[Listener]) -> None:
    """400 unless the VIP may have the security groups that it has."""
    if not lb.vip_sg_ids:
        return
    if lb.vip_vnic_type != "normal":
        raise Invalid("Validation failure: VIP Security Groups are not allowed with SR-IOV: leave vip_sg_ids out.")
    limited = next((x for x in listeners if x.allowed_cidrs), None)
    if limited is not None:
        raise Invalid(
            f"Validation failure: vip_sg_ids cannot be set while listener {limited.id} has allowed_cidrs; clear those "
            "first, and say it by rules of the groups."
        )


def cidrs_go_with(lb: LoadBalancer, allowed: Iterable[str] | None) -> None:
    """400 when networks are to be allowed where security groups decide."""
    if allowed and lb.vip_sg_ids:
        raise Invalid(
            "Validation failure: allowed_cidrs cannot be set while the load balancer has vip_sg_ids; say it by rules "
            "of the groups."
        )


def headers(wanted: Mapping[str, str], protocol: L) -> None:
    """400 unless these headers may be inserted by a listener of this protocol."""
    if wanted and protocol not in (L.HTTP, L.TERMINATED_HTTPS):
        raise Invalid(f"Validation failure: insert_headers is not for listeners of protocol {protocol}.")
    names = HEADERS | tls.CLIENT_HEADERS if protocol is L.TERMINATED_HTTPS else HEADERS
    for name, value in wanted.items():
        if name not in names:
            raise Invalid(f"{name} is not a valid option for insert_headers")
        if value.lower() not in ("true", "false"):  # "True" is what Python's clients make of a truth value
            raise Invalid(f"{value} is not a valid option for {name} of insert_headers; use the string true or false")


def member_address(address: str, reserved: Iterable[str]) -> None:
    """400 for an address that no member may have."""
    ip = ip_address(address)
    plain = (isinstance(ip, IPv6Address) and ip.ipv4_mapped) or ip  # where a connection to ::ffff:10.0.0.1 goes
    if plain in {ip_address(r) for r in reserved}:
        raise Invalid(f"Validation failure: Member address {address} is reserved and cannot be used.")
    no_host = plain.is_unspecified or plain.is_loopback or plain.is_multicast or (ip.version == 6 and ip.is_link_local)
    if no_host:
        raise Invalid(f"Validation failure: {address} is no address at which a load balancer can reach a member.")


def listener_is_unique(tree: Tree, new: Listener) -> None:
    """409 when another listener has the port in the same family of transport protocols."""
    for other in staying(tree.listeners):
        if other.id != new.id and other.protocol_port == new.protocol_port and _meet(other.protocol, new.protocol):
            raise Conflict(
                f"Another Listener on this Load Balancer is already using protocol {other.protocol} and "
                f"protocol_port {new.protocol_port}"
            )


def _meet(one: L, other: L) -> bool:
    return one is other or {one, other} <= _TCP_FAMILY


def member_is_unique(tree: Tree, new: Member) -> None:
    """409 when another member of the pool has the address and port."""
    for other in staying(tree.members):
        if (other.pool_id, other.address, other.protocol_port) == (new.pool_id, new.address, new.protocol_port):
            raise Conflict(
                f"Another member on this pool is already using ip {new.address} on protocol_port {new.protocol_port}"
            )


def monitor_is_alone(tree: Tree, pool_id: str) -> None:
    """409 when the pool has a monitor."""
    if any(m.pool_id == pool_id for m in staying(tree.health_monitors)):
        raise Conflict("This pool already has a health monitor")


def listener_is_free(listener: Listener) -> None:
    """409 when the listener has a default pool."""
    if listener.default_pool_id is not None:
        raise Conflict(f"Listener {listener.id} already has a default pool {listener.default_pool_id}.")


def pool_is_free(tree: Tree, pool: Pool) -> None:
    """409 when an L7 policy redirects to the pool."""
    user = next((p for p in staying(tree.l7policies) if p.redirect_pool_id == pool.id), None)
    if user is not None:
        raise Conflict(f"Pool {pool.id} is in use by L7 policy {user.id}; delete the policy or redirect it elsewhere.")


def listener_takes_policies(listener: L, *, own: bool = True) -> None:
    """400 or 501 unless a listener of this protocol may have L7 policies, with our ``own`` provider or another."""
    if listener is L.PROMETHEUS:
        raise Invalid("Protocol PROMETHEUS listeners cannot have child objects.")
    if own and listener not in (L.HTTP, L.TERMINATED_HTTPS):
        raise Unsupported(
            f"Provider 'amphora' does not support a requested option: L7 policies on listeners of protocol {listener}."
        )

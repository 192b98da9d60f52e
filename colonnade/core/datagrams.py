"""``datagrams.json`` of one load balancer: its UDP and SCTP listeners and pools, rendered purely from its tree."""

from collections.abc import Iterable, Sequence
from ipaddress import ip_address

from colonnade import datagrams as wire
from colonnade.core import haproxy
from colonnade.errors import Broken
from colonnade.model import HealthMonitor, Listener, Member, Pool, SessionPersistence, Tree
from colonnade.types import MonitorType

PERSISTENCE_TIMEOUT_S = 360  # keepalived's default, thus Octavia's


def render(tree: Tree, vips: Sequence[str]) -> dict[str, str]:
    """The file by its name; none when there is nothing to serve. Raises Broken for what cannot be expressed."""
    served = [(x, pool) for x, pool in haproxy.served(tree) if x.protocol in haproxy.DATAGRAMS]
    if not served:
        return {}
    pools = {pool.id: pool for _, pool in served if pool}
    value = wire.Datagrams(
        vips=tuple(vips),
        listeners=tuple(_listener(listener, pool) for listener, pool in served),
        pools=tuple(_pool(tree, pool, vips) for pool in pools.values()),
    )
    return {wire.FILE: wire.to_text(value)}


def _listener(listener: Listener, pool: Pool | None) -> wire.Listener:
    # A flow that began when nobody had to look at it is idle for as long as a TCP client may be.
    idle = -(-listener.timeout_client_data // 1000)
    return wire.Listener(
        id=listener.id,
        protocol=listener.protocol.lower(),
        port=listener.protocol_port,
        limit=None if listener.connection_limit < 0 else listener.connection_limit,
        allowed=tuple(listener.allowed_cidrs) if listener.allowed_cidrs else None,
        idle=idle,
        pool=pool.id if pool else None,
    )


def _pool(tree: Tree, pool: Pool, vips: Sequence[str]) -> wire.Pool:
    monitor = haproxy.monitor_of(tree, pool)
    return wire.Pool(
        id=pool.id,
        algorithm=str(pool.lb_algorithm),
        persistence=_persistence(pool.session_persistence) if pool.session_persistence else None,
        monitor=_monitor(monitor, vips) if monitor else None,
        members=tuple(_member(m) for m in tree.members if m.pool_id == pool.id and not m.going),
    )


def _member(member: Member) -> wire.Member:
    return wire.Member(
        id=member.id,
        address=member.address,
        port=member.protocol_port,
        weight=member.weight,
        backup=member.backup,
        enabled=member.admin_state_up,
        monitor_address=member.monitor_address or member.address,
        monitor_port=member.monitor_port or member.protocol_port,
    )


def _persistence(value: SessionPersistence) -> wire.Persistence:
    timeout = value.persistence_timeout or PERSISTENCE_TIMEOUT_S
    if value.persistence_granularity is None:
        return wire.Persistence(timeout=timeout)
    prefix = prefix_of(value.persistence_granularity)
    if ip_address(value.persistence_granularity).version == 4:
        return wire.Persistence(timeout=timeout, prefix4=prefix)
    return wire.Persistence(timeout=timeout, prefix6=prefix)


def prefix_of(mask: str) -> int:
    """The length of a network mask of either IP version. Raises ValueError when its ones are not all in front."""
    address = ip_address(mask)
    bits = int(address)
    length = bits.bit_count()
    every = (1 << address.max_prefixlen) - 1
    if bits != every & ~(every >> length):
        raise ValueError(f"{mask} is not a network mask")
    return length


def _monitor(monitor: HealthMonitor, vips: Sequence[str]) -> wire.Monitor:
    http = monitor.type is MonitorType.HTTP
    return wire.Monitor(
        kind=str(monitor.type),
        delay=max(monitor.delay, 1),
        timeout=max(monitor.timeout, 1),
        rise=monitor.max_retries,
        fall=monitor.max_retries_down,
        request=_request(monitor, vips) if http else "",
        codes=tuple(_codes(monitor.expected_codes or "200")) if http else (),
    )


def _request(monitor: HealthMonitor, vips: Sequence[str]) -> str:
    """As HAProxy sends it for pools of other protocols."""
    lines = [f"{monitor.http_method or 'GET'} {monitor.url_path or '/'} HTTP/{monitor.http_version or 1.0:.1f}"]
    if (monitor.http_version or 1.0) > 1.0:
        host = monitor.domain_name or (haproxy.bracketed(vips[0]) if vips else "")
        lines += [f"Host: {host}", "Connection: close"]
    for line in lines:
        if not line.isprintable() or not line.isascii():
            raise Broken(f"The request of health monitor {monitor.id} holds characters that no request may hold.",
                         "Set its url_path and domain_name again.")  # fmt: skip
    return "".join(f"{line}\r\n" for line in [*lines, ""])


def _codes(expected: str) -> Iterable[tuple[int, int]]:
    for part in expected.replace(" ", "").split(","):
        first, _, last = part.partition("-")
        yield int(first), int(last or first)

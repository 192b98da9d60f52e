"""haproxy.cfg of one load balancer, rendered purely from its tree.

Names are a contract with whoever reads HAProxy's statistics: frontend ``<listener id>``, backend
``<pool id>:<listener id>`` (one for each listener that uses the pool), server ``<member id>``. A server line holds only
keywords that ``add server`` takes too, except in backends with a cookie. Paths that depend on the process come from the
environment: COLONNADE_SOCKET, COLONNADE_STATE, COLONNADE_LOG, COLONNADE_MAXCONN. All else is relative to the working
directory. It is the same for every reload, so a process started with ``-x`` and ``-sf`` takes listeners, server states
and stick tables over from the one before it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from colonnade.core import l7, prometheus, tls
from colonnade.core.words import Line, Section, argument, environment, log_format, text
from colonnade.model import HealthMonitor, Listener, Member, Pool, Tree
from colonnade.types import (
    Algorithm,
    ListenerProtocol,
    MonitorType,
    PersistenceType,
    PoolProtocol,
)  # fmt: skip

CONFIG = "haproxy.cfg"
# HAProxy starts an external check as COMMAND NOT_USED NOT_USED ADDRESS PORT (a backend has no address of its own), so
# /bin/sh as the command runs the file of that name. This way no file of a bundle must be executable.
PING_SCRIPT = "NOT_USED"
# ping carries a file capability, and a process with an empty bounding set may not start such a file. The loader starts
# it without; the namespace's ping_group_range lets it open its socket.
_PING = """\
# Pings the member: $2 is its address.
for loader in /lib64/ld-linux-*.so.* /lib/ld-linux-*.so.* /lib/*/ld-linux-*.so.*; do
    [ -x "$loader" ] && exec "$loader" /usr/bin/ping -n -q -c 1 "$2" >/dev/null 2>&1
done
exec ping -n -q -c 1 "$2" >/dev/null 2>&1
"""
# A websocket may be silent much longer than a request; an hour is what browsers' and proxies' keep-alives stay under.
_TUNNEL_MS = 3_600_000
_PEER = "colonnade"
# On loopback in the amphora's own namespace: a new process fetches the stick tables there from the one it replaces.
_PEER_ADDRESS = "127.0.0.1:1025"
_TABLE: Line = ("size", "100k", "expire", "24h", "peers", _PEER)
_MODES = {
    ListenerProtocol.HTTP: "http", ListenerProtocol.TCP: "tcp", ListenerProtocol.HTTPS: "tcp",
    ListenerProtocol.TERMINATED_HTTPS: "http", ListenerProtocol.PROMETHEUS: "http",
}  # fmt: skip
DATAGRAMS = frozenset({ListenerProtocol.UDP, ListenerProtocol.SCTP})  # not HAProxy's: see core/datagrams
_CONSISTENT: Line = ("hash-type", "consistent", "sdbm", "avalanche")  # also what lets servers be added at run time
_BALANCE: dict[Algorithm, tuple[Line, ...]] = {
    Algorithm.ROUND_ROBIN: (("balance", "roundrobin"),),
    Algorithm.LEAST_CONNECTIONS: (("balance", "leastconn"),),
    Algorithm.SOURCE_IP: (("balance", "source"), _CONSISTENT),
    Algorithm.SOURCE_IP_PORT: (("balance", "hash", "var(sess.origin)"), _CONSISTENT),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What does not come from the tree."""

    default_connection_limit: int = 50000
    hard_stop_after_s: int = 60
    threads: int = 1


def render(tree: Tree, vips: Sequence[str], limits: Limits) -> dict[str, str]:
    """Files by name; none when there is nothing to serve."""
    fronts = [(x, pool) for x, pool in served(tree) if x.protocol not in DATAGRAMS]
    if not fronts:
        return {}
    uses = [(x, pool) for x, pool in used(tree) if x.protocol not in DATAGRAMS]
    sections = [_global(tree, uses, limits), _defaults()]
    if any(_has_table(listener, pool) for listener, pool in uses):
        sections.append([("peers", _PEER), ("peer", _PEER, _PEER_ADDRESS)])
    sections += [_frontend(tree, listener, pool, vips, limits) for listener, pool in fronts]
    sections += [_backend(tree, listener, pool, vips) for listener, pool in uses]
    if _measured(tree):
        sections.append(prometheus.SOURCE)
    files = {CONFIG: text(sections)}
    files |= {f"{x.id}.list": tls.certificate_list(x) for x, _ in fronts if tls.terminates(x)}
    for listener, _ in fronts:
        files |= l7.files(tree, listener)
    if _pings(tree, uses):
        files[PING_SCRIPT] = _PING
    if _measured(tree):
        files[prometheus.SCRIPT] = prometheus.PROGRAM
    return files


def served(tree: Tree) -> Iterator[tuple[Listener, Pool | None]]:
    """The listeners that are up, each with the pool that answers for it, if one does."""
    if not tree.load_balancer.admin_state_up:
        return
    pools = {p.id: p for p in tree.pools if p.admin_state_up and not p.going}
    for listener in tree.listeners:
        if listener.admin_state_up and not listener.going:
            yield listener, pools.get(listener.default_pool_id or "")


def used(tree: Tree) -> Iterator[tuple[Listener, Pool]]:
    """Each pool that a listener may send to, by default or by an L7 policy, once for each such listener."""
    for listener, default in served(tree):
        pools = {p.id: p for p in (default, *_aims(tree, listener)) if p}
        yield from ((listener, pool) for pool in pools.values())


def _aims(tree: Tree, listener: Listener) -> list[Pool]:
    """The pools to which the listener's L7 policies send."""
    wanted = [p.redirect_pool_id for p in l7.effective(tree, listener)]
    return [p for pool_id in wanted for p in tree.pools if p.id == pool_id]


def monitor_of(tree: Tree, pool: Pool) -> HealthMonitor | None:
    """The monitor that is at work for the pool."""
    return next((m for m in tree.health_monitors if m.pool_id == pool.id and m.admin_state_up and not m.going), None)


def endpoint(address: str, port: int) -> str:
    """Address and port as one word."""
    return f"{bracketed(address)}:{port}"


def bracketed(address: str) -> str:
    """The address as it stands before a port."""
    return f"[{address}]" if ":" in address else address


def _mode(listener: Listener) -> str:
    return _MODES[listener.protocol]


def _persistence(listener: Listener, pool: Pool) -> PersistenceType | None:
    """How the pool keeps this listener's clients. Cookies can be read only where HTTP is."""
    kind = pool.session_persistence.type if pool.session_persistence else None
    return kind if kind is PersistenceType.SOURCE_IP or _mode(listener) == "http" else None


def _has_table(listener: Listener, pool: Pool) -> bool:
    return _persistence(listener, pool) in (PersistenceType.SOURCE_IP, PersistenceType.APP_COOKIE)


def _pings(tree: Tree, uses: list[tuple[Listener, Pool]]) -> bool:
    monitors = [monitor_of(tree, pool) for _, pool in uses]
    return any(m is not None and m.type is MonitorType.PING for m in monitors)


def _measured(tree: Tree) -> bool:
    return any(listener.protocol is ListenerProtocol.PROMETHEUS for listener, _ in served(tree))


def _global(tree: Tree, uses: list[tuple[Listener, Pool]], limits: Limits) -> Section:
    lines: list[Line] = [
        ("global",),
        ("nbthread", str(limits.threads)),
        ("maxconn", environment("COLONNADE_MAXCONN")),
        ("hard-stop-after", f"{limits.hard_stop_after_s}s"),
        ("stats", "socket", environment("COLONNADE_SOCKET"), "mode", "600", "level", "admin", "expose-fd", "listeners"),
        ("server-state-file", environment("COLONNADE_STATE")),
        ("log", environment("COLONNADE_LOG"), "len", "2048", "format", "raw", "daemon", "notice"),
        ("httpclient.ssl.verify", "none"),  # else every start reads all of the system's certificates: 40 ms
    ]
    if any(_has_table(listener, pool) for listener, pool in uses):
        lines.append(("localpeer", _PEER))
    if _pings(tree, uses):
        lines += [("external-check",), ("insecure-fork-wanted",)]
    if _measured(tree):
        lines.append(prometheus.LOAD)
    return lines


def _defaults() -> Section:
    return [
        ("defaults",),
        ("retries", "3"),
        ("option", "redispatch", "1"),  # the first retry already goes to another member
        ("load-server-state-from-file", "global"),
    ]


def _frontend(tree: Tree, listener: Listener, pool: Pool | None, vips: Sequence[str], limits: Limits) -> Section:
    http = _mode(listener) == "http"
    limit = listener.connection_limit if listener.connection_limit >= 0 else limits.default_connection_limit
    lines: list[Line] = [("frontend", listener.id), ("mode", _mode(listener))]
    secure = tls.bind(listener) if tls.terminates(listener) else ()
    lines += [("bind", endpoint(vip, listener.protocol_port), *secure) for vip in vips]
    lines += [("timeout", "client", f"{listener.timeout_client_data}ms")]
    # HAProxy takes 0 for "as many as the process may have".
    lines += [("maxconn", str(limit))] if limit else [("tcp-request", "connection", "reject")]
    lines += _admission(listener.allowed_cidrs or ())
    if any(p and p.lb_algorithm is Algorithm.SOURCE_IP_PORT for p in (pool, *_aims(tree, listener))):
        lines += [("tcp-request", "connection", "set-var-fmt(sess.origin)", "%[src]:%[src_port]")]
    if listener.timeout_tcp_inspect:
        lines += [("tcp-request", "inspect-delay", f"{listener.timeout_tcp_inspect}ms")]
    if http:
        # Policies come before headers are set: rules look at what the client sent.
        lines += [("option", "idle-close-on-response"), *l7.deciding(tree, listener), *_headers(listener)]
        lines += [*tls.strict_transport(listener), *l7.sending(tree, listener)]
    if listener.protocol is ListenerProtocol.PROMETHEUS:
        lines += prometheus.answering()
    if pool:
        lines += [("default_backend", f"{pool.id}:{listener.id}")]
    return lines


def _admission(cidrs: Sequence[str]) -> Iterator[Line]:
    """Refuse who is in none of these networks. HAProxy also compares an address with networks of the other IP version,
    translated: 192.0.2.1 would be in ::/0, and 2002:c000:0201:: in 192.0.2.0/24."""
    versions = [(n, v6, [c for c in cidrs if (":" in c) == (n == "6")]) for n, v6 in (("4", "!v6"), ("6", "v6"))]
    alternatives: list[Line] = [(f"allowed{n}", v6) for n, v6, found in versions if found]
    if alternatives:
        yield ("acl", "v6", "src", "-m", "sub", ":")
        yield from (("acl", f"allowed{n}", "src", cidr) for n, _, found in versions for cidr in found)
        first, *others = alternatives
        yield ("tcp-request", "connection", "reject", "unless", *first, *(w for a in others for w in ("or", *a)))


def _headers(listener: Listener) -> Iterator[Line]:
    wanted = {name.lower() for name, value in listener.insert_headers.items() if value.lower() == "true"}
    if "x-forwarded-for" in wanted:
        yield ("option", "forwardfor")
    for name in ("X-Forwarded-IP", "X-Client-IP", "X-Real-IP"):
        if name.lower() in wanted:
            yield ("http-request", "set-header", name, "%[src]")
    if "x-forwarded-port" in wanted:
        yield ("http-request", "set-header", "X-Forwarded-Port", "%[dst_port]")
    if "x-forwarded-proto" in wanted:
        yield ("http-request", "set-header", "X-Forwarded-Proto", "https" if tls.terminates(listener) else "http")
    if tls.terminates(listener):
        yield from tls.request_headers(wanted)


def _backend(tree: Tree, listener: Listener, pool: Pool, vips: Sequence[str]) -> Section:
    http = _mode(listener) == "http"
    monitor = monitor_of(tree, pool)
    persistence = _persistence(listener, pool)
    lines: list[Line] = [("backend", f"{pool.id}:{listener.id}"), ("mode", _mode(listener)), ("log", "global")]
    lines += _BALANCE[pool.lb_algorithm]
    lines += [("option", "allbackups")]
    lines += [
        ("timeout", "connect", f"{listener.timeout_member_connect}ms"),
        ("timeout", "server", f"{listener.timeout_member_data}ms"),
    ]
    if http:
        lines += [("timeout", "tunnel", f"{_tunnel(listener)}ms"), ("http-reuse", "safe")]
    if persistence:
        lines += _sticking(listener, pool, persistence)
    if monitor:
        lines += _checking(monitor, vips)
    lines += [
        _server(m, listener, pool, monitor, cookie=persistence is PersistenceType.HTTP_COOKIE)
        for m in tree.members
        if m.pool_id == pool.id and not m.going
    ]
    return lines


def _tunnel(listener: Listener) -> int:
    timeouts = (listener.timeout_client_data, listener.timeout_member_data)
    return max(_TUNNEL_MS, *timeouts) if all(timeouts) else 0  # 0: for ever


def _sticking(listener: Listener, pool: Pool, kind: PersistenceType) -> Iterator[Line]:
    match kind:
        case PersistenceType.SOURCE_IP:
            yield ("stick-table", "type", "ipv6", *_TABLE)
            yield ("stick", "on", "src")
        case PersistenceType.HTTP_COOKIE:
            # A browser keeps one cookie of a name: the pools that policies send to would take each other's clients.
            name = "SRV" if pool.id == listener.default_pool_id else f"SRV-{pool.id[:8]}"
            yield ("cookie", name, "insert", "indirect", "nocache")
        case PersistenceType.APP_COOKIE:
            name = argument((pool.session_persistence and pool.session_persistence.cookie_name) or "")
            # Hashed, for a table cuts what is longer than its keys, and tokens (JWT) begin alike for all clients.
            yield ("stick-table", "type", "binary", "len", "20", *_TABLE)
            yield ("stick", "store-response", f"res.cook({name}),sha1")
            yield ("stick", "match", f"req.cook({name}),sha1")


def _checking(monitor: HealthMonitor, vips: Sequence[str]) -> Iterator[Line]:
    yield ("timeout", "check", f"{max(monitor.timeout, 1)}s")
    if monitor.type is MonitorType.PING:
        yield ("option", "external-check")
        yield ("external-check", "path", "/usr/bin:/bin")
        yield ("external-check", "command", "/bin/sh")
    if monitor.type in (MonitorType.HTTP, MonitorType.HTTPS):
        yield ("option", "httpchk")
        yield ("http-check", "send", *_request(monitor, vips))
        yield ("http-check", "expect", "status", (monitor.expected_codes or "200").replace(" ", ""))


def _request(monitor: HealthMonitor, vips: Sequence[str]) -> Line:
    line: Line = ("meth", str(monitor.http_method or "GET"), "uri", monitor.url_path or "/")
    if monitor.http_version is None:
        return line
    line += ("ver", f"HTTP/{monitor.http_version:.1f}")
    if monitor.domain_name:
        return (*line, "hdr", "Host", log_format(monitor.domain_name))
    if monitor.http_version > 1.0 and vips:  # HTTP/1.1 without a Host is answered 400
        return (*line, "hdr", "Host", log_format(bracketed(vips[0])))
    return line


def _server(
    member: Member, listener: Listener, pool: Pool, monitor: HealthMonitor | None, *, cookie: bool
) -> Line:  # fmt: skip
    line: Line = ("server", member.id, endpoint(member.address, member.protocol_port), "weight", str(member.weight))
    if member.backup:
        line += ("backup",)
    if not member.admin_state_up:
        line += ("disabled",)
    if pool.protocol is PoolProtocol.PROXY:
        line += ("send-proxy",)
    if pool.protocol is PoolProtocol.PROXYV2:
        line += ("send-proxy-v2-ssl-cn",) if tls.terminates(listener) else ("send-proxy-v2",)
    if pool.tls_enabled:
        line += tls.server(listener, pool, http=_mode(listener) == "http")
    if cookie:
        line += ("cookie", member.id)
    return line + _check(member, pool, monitor) if monitor else line


def _check(member: Member, pool: Pool, monitor: HealthMonitor) -> Line:
    line: Line = ("check", "inter", f"{max(monitor.delay, 1)}s")
    line += ("fall", str(monitor.max_retries_down), "rise", str(monitor.max_retries))
    if member.monitor_address:
        line += ("addr", bracketed(member.monitor_address))
    if member.monitor_port:
        line += ("port", str(member.monitor_port))
    # What a check follows of its server is said, too: a server that is added at run time is not followed.
    elsewhere = bool(member.monitor_address or member.monitor_port)
    if pool.protocol in (PoolProtocol.PROXY, PoolProtocol.PROXYV2) and not elsewhere:
        line += ("check-send-proxy",)
    if pool.tls_enabled:
        line += tls.check(pool, monitor, elsewhere=elsewhere)
    elif monitor.type in (MonitorType.HTTPS, MonitorType.TLS_HELLO):
        line += ("check-ssl", "verify", "none")
        if monitor.domain_name:
            line += ("check-sni", monitor.domain_name)
    return line

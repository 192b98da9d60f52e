"""TLS in haproxy.cfg: what a listener offers to clients, what a pool asks of members, and the files both name.

File names stay while contents change, so that an amphora can exchange a certificate while it runs: a listener's
default certificate is ``<listener id>.pem`` whatever reference it comes from. ``*.pem`` are certificates with their
keys, ``*.ca`` authorities, ``*.crl`` revocation lists, ``*.list`` what a bind line offers.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from colonnade.core.words import Line, Section
from colonnade.model import HealthMonitor, Listener, Pool, Tree
from colonnade.types import ClientAuthentication, ListenerProtocol, MonitorType, TlsVersion

Role = Literal["certificate", "authority", "revocations"]

TLS_1_3_CIPHERS = (
    "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_CCM_SHA256",
    "TLS_AES_128_CCM_8_SHA256",
)  # fmt: skip
_NAMES = {
    TlsVersion.SSLV3: "SSLv3", TlsVersion.TLSV1: "TLSv1.0", TlsVersion.TLSV1_1: "TLSv1.1",
    TlsVersion.TLSV1_2: "TLSv1.2", TlsVersion.TLSV1_3: "TLSv1.3",
}  # fmt: skip
_WITHOUT = {
    TlsVersion.TLSV1: "no-tlsv10", TlsVersion.TLSV1_1: "no-tlsv11", TlsVersion.TLSV1_2: "no-tlsv12",
}  # fmt: skip
TERMINATING = frozenset({ListenerProtocol.TERMINATED_HTTPS, ListenerProtocol.PROMETHEUS})
_VERIFY = {ClientAuthentication.OPTIONAL: "optional", ClientAuthentication.MANDATORY: "required"}
_CLIENT_HEADERS = {
    "X-SSL-Client-Verify": "%[ssl_c_verify]",
    "X-SSL-Client-Has-Cert": "%[ssl_c_used]",
    "X-SSL-Client-DN": "%[ssl_c_s_dn]",
    "X-SSL-Client-CN": "%[ssl_c_s_dn(cn)]",
    "X-SSL-Issuer": "%[ssl_c_i_dn]",
    "X-SSL-Client-SHA1": "%[ssl_c_sha1,hex]",
    "X-SSL-Client-Not-Before": "%[ssl_c_notbefore]",
    "X-SSL-Client-Not-After": "%[ssl_c_notafter]",
}
CLIENT_HEADERS = frozenset(_CLIENT_HEADERS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Use:
    """One reference into a key manager at work: whose it is, what it is read as, and the file it becomes."""

    kind: Literal["listener", "pool"]
    owner: str
    ref: str
    role: Role
    file: str


def terminates(listener: Listener) -> bool:
    """Whether clients speak TLS with the amphora at this listener."""
    return bool(listener.default_tls_container_ref or listener.sni_container_refs)


def uses(tree: Tree) -> Iterator[Use]:
    """Every use of a reference in the tree; an authority comes before the revocation list that it signed."""
    for listener in tree.listeners:
        if not listener.going and terminates(listener):
            yield from uses_of_listener(listener)
    for pool in tree.pools:
        if not pool.going and pool.tls_enabled:
            yield from uses_of_pool(pool)


def uses_of_listener(listener: Listener) -> Iterator[Use]:
    """The references of one listener."""
    id = listener.id
    if ref := listener.default_tls_container_ref:
        yield Use(kind="listener", owner=id, ref=ref, role="certificate", file=f"{id}.pem")
    for ref in dict.fromkeys(listener.sni_container_refs):
        yield Use(kind="listener", owner=id, ref=ref, role="certificate", file=sni_file(listener, ref))
    if ref := listener.client_ca_tls_container_ref:
        yield Use(kind="listener", owner=id, ref=ref, role="authority", file=f"{id}.ca")
    if ref := listener.client_crl_container_ref:
        yield Use(kind="listener", owner=id, ref=ref, role="revocations", file=f"{id}.crl")


def uses_of_pool(pool: Pool) -> Iterator[Use]:
    """The references of one pool."""
    if ref := pool.tls_container_ref:
        yield Use(kind="pool", owner=pool.id, ref=ref, role="certificate", file=f"{pool.id}.pem")
    if ref := pool.ca_tls_container_ref:
        yield Use(kind="pool", owner=pool.id, ref=ref, role="authority", file=f"{pool.id}.ca")
    if ref := pool.crl_container_ref:
        yield Use(kind="pool", owner=pool.id, ref=ref, role="revocations", file=f"{pool.id}.crl")


def sni_file(listener: Listener, ref: str) -> str:
    """Named by the reference, not by its place: exchanging one must never take another away for a moment."""
    return f"{listener.id}-{hashlib.sha256(ref.encode()).hexdigest()[:12]}.pem"


def certificate_list(listener: Listener) -> str:
    """The file that a bind line offers certificates from, the default first."""
    own = [f"{listener.id}.pem"] if listener.default_tls_container_ref else []
    names = own + [sni_file(listener, ref) for ref in dict.fromkeys(listener.sni_container_refs)]
    return "".join(f"{name}\n" for name in names)


def bind(listener: Listener) -> Line:
    """What follows the address on a bind line."""
    line: Line = ("ssl", "crt-list", f"{listener.id}.list")
    if not listener.default_tls_container_ref:
        line += ("strict-sni",)  # nobody's name: no certificate, rather than anyone's
    if listener.client_ca_tls_container_ref and listener.client_authentication in _VERIFY:
        line += ("ca-file", f"{listener.id}.ca", "verify", _VERIFY[listener.client_authentication])
        if listener.client_crl_container_ref:
            line += ("crl-file", f"{listener.id}.crl")
    line += _strength(listener.tls_ciphers, listener.tls_versions)
    return line + (("alpn", ",".join(listener.alpn_protocols)) if listener.alpn_protocols else ())


def request_headers(wanted: set[str]) -> Iterator[Line]:
    """What is told to members of the client's certificate; ``wanted`` are the headers' names in lower case."""
    for name, source in _CLIENT_HEADERS.items():
        if name.lower() in wanted:
            yield ("http-request", "set-header", name, source)


def strict_transport(listener: Listener) -> Section:
    """The HSTS header, on HAProxy's own answers too."""
    if listener.hsts_max_age is None:
        return []
    value = f"max-age={listener.hsts_max_age}"
    value += "; includeSubDomains" if listener.hsts_include_subdomains else ""
    value += "; preload" if listener.hsts_preload else ""
    return [("http-after-response", "set-header", "Strict-Transport-Security", value)]


def server(listener: Listener, pool: Pool, *, http: bool) -> Line:
    """What makes a server line speak TLS. The name that members are asked for, and their certificates are checked
    against, is the one that the client asked for."""
    line: Line = ("ssl",)
    if terminates(listener):
        line += ("sni", "ssl_fc_sni")
    elif http:
        line += ("sni", "req.hdr(host),field(1,:)")
    if pool.tls_container_ref:
        line += ("crt", f"{pool.id}.pem")
    if pool.ca_tls_container_ref:
        line += ("ca-file", f"{pool.id}.ca", "verify", "required")
        if pool.crl_container_ref:
            line += ("crl-file", f"{pool.id}.crl")
    else:
        line += ("verify", "none")
    line += _strength(pool.tls_ciphers, pool.tls_versions)
    if http and pool.alpn_protocols:
        line += ("alpn", ",".join(pool.alpn_protocols))
    return line


def check(pool: Pool, monitor: HealthMonitor, *, elsewhere: bool) -> Line:
    """What a health check of a member that speaks TLS needs beside the server's own words; ``elsewhere`` than at the
    member's own address and port it is TLS only when its type says so."""
    if monitor.type is MonitorType.PING:
        return ()
    secure = not elsewhere or monitor.type in (MonitorType.HTTPS, MonitorType.TLS_HELLO)
    line: Line = ("check-ssl",) if secure else ()
    if monitor.domain_name:
        line += ("check-sni", monitor.domain_name)
    if pool.alpn_protocols and monitor.type in (MonitorType.HTTP, MonitorType.HTTPS):
        line += ("check-alpn", ",".join(pool.alpn_protocols))
    return line


def split(ciphers: str) -> tuple[list[str], list[str]]:
    """The names for TLS 1.3, and the rest, which OpenSSL takes for older versions."""
    names = [n for n in ciphers.split(":") if n]
    return [n for n in names if n in TLS_1_3_CIPHERS], [n for n in names if n not in TLS_1_3_CIPHERS]


def usable_versions(ciphers: str | None, versions: Sequence[TlsVersion]) -> list[TlsVersion]:
    """Versions that have a cipher, the oldest first. TLS 1.3 has its own when none is named for it; a list of nothing
    but ciphers for TLS 1.3 leaves the older ones none."""
    ordered = [v for v in TlsVersion if v in versions]
    if ciphers and not split(ciphers)[1]:
        return [v for v in ordered if v is TlsVersion.TLSV1_3]
    return ordered


def _strength(ciphers: str | None, versions: Sequence[TlsVersion] | None) -> Line:
    line: Line = ()
    wanted = usable_versions(ciphers, versions or (TlsVersion.TLSV1_2, TlsVersion.TLSV1_3))
    newer, older = split(ciphers or "")
    if older and any(v is not TlsVersion.TLSV1_3 for v in wanted):
        line += ("ciphers", ":".join(older))
    if newer and TlsVersion.TLSV1_3 in wanted:
        line += ("ciphersuites", ":".join(newer))
    if wanted:
        line += ("ssl-min-ver", _NAMES[wanted[0]], "ssl-max-ver", _NAMES[wanted[-1]])
        line += tuple(_WITHOUT[v] for v in TlsVersion if wanted[0] < v < wanted[-1] and v not in wanted)
    return line

"""Rules about TLS that look at more than one field; pure. Each raises the error of its first broken one."""

import ssl
from collections.abc import Sequence

from colonnade.core import tls
from colonnade.errors import Invalid
from colonnade.model import Listener, Pool
from colonnade.settings import ApiSettings
from colonnade.types import AlpnProtocol, ClientAuthentication, Json, ListenerProtocol, PoolProtocol, TlsVersion

_STRENGTH = ("tls_ciphers", "tls_versions", "alpn_protocols")


def speaks(protocol: ListenerProtocol, fields: Json) -> bool:
    """Whether a listener with these fields speaks TLS with its clients."""
    refs = fields.get("default_tls_container_ref") or fields.get("sni_container_refs")
    return protocol is ListenerProtocol.TERMINATED_HTTPS or (protocol in tls.TERMINATING and bool(refs))


def listener_defaults(speaks_tls: bool, settings: ApiSettings) -> Json:
    """What a listener has where it says nothing."""
    if not speaks_tls:
        return dict.fromkeys(_STRENGTH)
    return {
        "tls_ciphers": settings.default_listener_ciphers,
        "tls_versions": tuple(TlsVersion(v) for v in settings.default_listener_tls_versions),
        "alpn_protocols": tuple(AlpnProtocol(p) for p in settings.default_listener_alpn_protocols),
    }


def pool_defaults(enabled: bool, settings: ApiSettings) -> Json:
    """What a pool has where it says nothing."""
    if not enabled:
        return dict.fromkeys(_STRENGTH)
    return {
        "tls_ciphers": settings.default_pool_ciphers,
        "tls_versions": tuple(TlsVersion(v) for v in settings.default_pool_tls_versions),
        "alpn_protocols": tuple(AlpnProtocol(p) for p in settings.default_pool_alpn_protocols),
    }


def listener(value: Listener, settings: ApiSettings) -> None:
    """400 unless the listener's fields about TLS fit one another, and this deployment."""
    terminated = value.protocol is ListenerProtocol.TERMINATED_HTTPS
    if terminated and not settings.allow_tls_terminated_listeners:
        raise Invalid(f"The selected protocol is not allowed in this deployment: {value.protocol}")
    has_certificate = tls.terminates(value)
    if terminated and not has_certificate:
        raise Invalid(
            "Validation failure: An SNI or default certificate container reference must be provided with "
            f"{value.protocol} listeners."
        )
    if has_certificate and value.protocol not in tls.TERMINATING:
        raise Invalid(
            "Validation failure: Certificate container references are only allowed on "
            f"{', '.join(sorted(tls.TERMINATING))} protocol listeners."
        )
    _client(value, has_certificate)
    if not has_certificate:
        wrong = next((name for name in _STRENGTH if getattr(value, name) is not None), None)
        if wrong is not None:
            raise Invalid(f"Validation failure: {wrong} is for {ListenerProtocol.TERMINATED_HTTPS} listeners only.")
    _strict_transport(value)
    _strength(value, settings)


def _client(value: Listener, has_certificate: bool) -> None:
    if value.client_ca_tls_container_ref and not has_certificate:
        raise Invalid(
            "Validation failure: An SNI or default certificate container reference must be provided with a client CA "
            "container reference."
        )
    if value.client_authentication is not ClientAuthentication.NONE and not value.client_ca_tls_container_ref:
        raise Invalid(
            f"Validation failure: Client authentication setting {value.client_authentication} requires a client CA "
            "container reference."
        )
    if value.client_crl_container_ref and not value.client_ca_tls_container_ref:
        raise Invalid(
            "Validation failure: A client authentication CA reference is required to specify a client authentication "
            "revocation list."
        )


def _strict_transport(value: Listener) -> None:
    extra = value.hsts_include_subdomains or value.hsts_preload
    if (value.hsts_max_age is not None or extra) and value.protocol is not ListenerProtocol.TERMINATED_HTTPS:
        raise Invalid("Validation failure: HSTS is for TERMINATED_HTTPS listeners only.")
    if extra and value.hsts_max_age is None:
        raise Invalid(
            "Validation failure: HSTS configuration options hsts_include_subdomains and hsts_preload only make sense "
            "if hsts_max_age is set as well."
        )


def pool(value: Pool, settings: ApiSettings) -> None:
    """400 unless the pool's fields about TLS fit one another, and this deployment."""
    if value.tls_enabled and value.protocol in (PoolProtocol.UDP, PoolProtocol.SCTP):
        raise Invalid(f"Validation failure: tls_enabled is not for pools of protocol {value.protocol}.")
    if value.crl_container_ref and not value.ca_tls_container_ref:
        raise Invalid(
            "Validation failure: A CA certificate reference is required to specify a revocation list."
        )  # fmt: skip
    _strength(value, settings)


def _strength(value: Listener | Pool, settings: ApiSettings) -> None:
    if value.tls_versions is not None:
        _versions(value.tls_versions, settings.minimum_tls_version)
    if value.alpn_protocols is not None and not value.alpn_protocols:
        raise Invalid(
            "Validation failure: Empty ALPN protocol list. Either specify at least one ALPN protocol or remove this "
            "parameter to use the default."
        )
    if value.tls_ciphers is not None:
        _ciphers(value.tls_ciphers, value.tls_versions or (), settings.tls_cipher_prohibit_list)


def _versions(versions: Sequence[TlsVersion], minimum: str) -> None:
    if not versions:
        raise Invalid(
            "Validation failure: Empty TLS version list. Either specify at least one TLS version or remove this "
            "parameter to use the default."
        )
    order = list(TlsVersion)
    low = [v for v in versions if minimum and order.index(v) < order.index(TlsVersion(minimum))]
    if low:
        raise Invalid(f"Validation failure: Requested TLS versions are less than the minimum: {', '.join(low)}")
    if set(versions) == {TlsVersion.SSLV3}:
        raise Invalid("Validation failure: SSLv3 alone cannot be served: no OpenSSL of today has it.")


def _ciphers(ciphers: str, versions: Sequence[TlsVersion], prohibited: Sequence[str]) -> None:
    named = [n for n in prohibited if n in ciphers.split(":")]
    if named:
        raise Invalid(
            f"Validation failure: The following ciphers have been prohibited by an administrator: {', '.join(named)}"
        )
    newer, older = tls.split(ciphers)
    if older:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).set_ciphers(":".join(older))
        except ssl.SSLError:
            raise Invalid(f"Validation failure: tls_ciphers: none of {':'.join(older)[:255]} is known.") from None
    elif not newer or not tls.usable_versions(ciphers, versions):
        raise Invalid("Validation failure: None of tls_ciphers can be used with any of tls_versions.")

"""TLS as clients and members see it, through real amphorae."""

import http.client
import json
import socket
import ssl
import subprocess
import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from rig import Rig, config, eventually

from colonnade import wire
from colonnade.core import certificates, haproxy
from colonnade.errors import Broken
from colonnade.model import HealthMonitor, Listener, LoadBalancer, Material, Member, Pool, Tree
from colonnade.types import (
    Algorithm,
    AlpnProtocol,
    ClientAuthentication,
    ListenerProtocol,
    MonitorType,
    PoolProtocol,
    TlsVersion,
)  # fmt: skip
from tests import pki

CA = pki.authority()
DEFAULT = CA.issue("default.test", "default.test")
SHOP = CA.issue("shop.test", "shop.test", "*.shop.test")
CLIENT, REVOKED = CA.issue("client one"), CA.issue("client two")
STRANGER = pki.authority("Other CA").issue("stranger")
COMMON: dict[str, Any] = {"project_id": "p", "created_at": datetime(2026, 1, 1), "loadbalancer_id": "lb"}


class Site:
    """A listener with TLS and its pool, on an amphora; ``secrets`` are what the key manager holds."""

    def __init__(self, rig: Rig, **listener: Any) -> None:
        self.rig, self.vip = rig, rig.address()
        self.secrets: dict[str, bytes | Broken] = {
            "default": DEFAULT.p12(), "shop": SHOP.bundle_pem, "ca": CA.pem, "crl": CA.revoke(REVOKED),
        }  # fmt: skip
        self.pool = Pool(id=str(uuid.uuid4()), protocol=PoolProtocol.HTTP, lb_algorithm=Algorithm.ROUND_ROBIN, **COMMON)
        self.listener = Listener(
            id=str(uuid.uuid4()), default_pool_id=self.pool.id,
            **{
                "protocol": ListenerProtocol.TERMINATED_HTTPS, "protocol_port": 443,
                "default_tls_container_ref": "default", **COMMON, **listener,
            },
        )  # fmt: skip
        self.member = Member(
            id=str(uuid.uuid4()), pool_id=self.pool.id, address=f"{rig.net}.0.10", protocol_port=80, **COMMON
        )
        self.bundle = rig.bundle(rig.amphora(), self.vip, None)
        self.problems: dict[str, str] = {}
        self.others: tuple[Member, ...] = ()
        self.monitors: tuple[HealthMonitor, ...] = ()

    def push(self) -> dict[str, Any]:
        """As the worker does it."""
        balancer = LoadBalancer(id="lb", vip_address=self.vip, project_id="p", created_at=COMMON["created_at"])
        tree = Tree(
            load_balancer=balancer, listeners=(self.listener,), pools=(self.pool,), members=(self.member, *self.others),
            health_monitors=self.monitors,
        )  # fmt: skip
        found = {
            ref: data if isinstance(data, Broken) else Material(ref=ref, project_id="p", payloads={"": data})
            for ref, data in self.secrets.items()
        }
        has = (self.rig.client.observe(self.rig.url, self.bundle.amphora_id) or {})["secrets"]
        gathered = certificates.gather(tree, found, has)
        files = haproxy.render(gathered.tree, [self.vip], haproxy.Limits())
        self.problems = gathered.problems
        self.bundle = replace(self.bundle, files={**files, **gathered.files}, keep=gathered.keep)
        return self.rig.push(self.bundle)

    @property
    def pids(self) -> list[int]:
        return sorted(self.rig.processes(self.bundle.amphora_id))


@pytest.fixture
def site(rig: Rig) -> Site:
    made = Site(rig, sni_container_refs=("shop",))
    made.push()
    return made


def context(trust: pki.Issued = CA, tmp_path: Path | None = None, client: pki.Issued | None = None) -> ssl.SSLContext:
    made = ssl.create_default_context(cadata=trust.pem.decode())
    if client and tmp_path:
        path = tmp_path / "client.pem"
        path.write_bytes(client.bundle_pem)
        made.load_cert_chain(path)
    return made


def shake(
    site: Site, name: str | None = "default.test", how: ssl.SSLContext | None = None,
    session: ssl.SSLSession | None = None,
) -> ssl.SSLSocket:  # fmt: skip
    how = how or context()
    how.check_hostname = False
    raw = socket.create_connection((site.vip, 443), 30)
    try:
        return how.wrap_socket(raw, server_hostname=name, session=session)
    except OSError:
        raw.close()
        raise


def shown(site: Site, name: str | None) -> str:
    """The name of the certificate that a client gets who asks for ``name``."""
    with shake(site, name) as connection:
        peer: Any = connection.getpeercert()
        return str(dict(x[0] for x in peer["subject"])["commonName"])


def ask(site: Site, path: str = "/", name: str = "default.test", how: ssl.SSLContext | None = None,
        headers: dict[str, str] | None = None) -> http.client.HTTPResponse:  # fmt: skip
    """One request; the answer with its body read."""
    connection = http.client.HTTPConnection(name)
    connection.sock = shake(site, name, how)
    try:
        connection.request("GET", path, headers={"Host": name, **(headers or {})})
        answer = connection.getresponse()
        answer.body = answer.read().decode()  # type: ignore[attr-defined]
        return answer
    finally:
        connection.close()


def seen(site: Site, how: ssl.SSLContext | None = None, **headers: str) -> dict[str, Any]:
    """The headers that a member sees."""
    answer = ask(site, "/headers", how=how, headers={k.replace("_", "-"): v for k, v in headers.items()})
    found: dict[str, Any] = json.loads(answer.body)  # type: ignore[attr-defined]
    return found


@pytest.mark.parametrize(
    ("name", "certificate"),
    [("default.test", "default.test"), ("shop.test", "shop.test"), ("www.shop.test", "shop.test"),
     ("nobody.test", "default.test"), (None, "default.test")],
)  # fmt: skip
def test_a_client_gets_the_certificate_of_the_name_it_asks_for(site: Site, name: str | None, certificate: str) -> None:
    assert shown(site, name) == certificate


def test_without_a_default_an_unknown_name_gets_none(rig: Rig) -> None:
    site = Site(rig, default_tls_container_ref=None, sni_container_refs=("shop",))
    site.push()
    assert shown(site, "shop.test") == "shop.test"
    with pytest.raises(ssl.SSLError):
        shown(site, "nobody.test")


def test_requests_reach_a_member(site: Site) -> None:
    assert ask(site).body == "m1"  # type: ignore[attr-defined]


def test_keys_are_for_the_amphora_alone(site: Site) -> None:
    here = site.rig.here
    (pid,) = site.pids
    files = [p for p in Path(f"/proc/{pid}/cwd").resolve().iterdir() if p.suffix == ".pem"]
    assert files
    assert {(p.stat().st_mode & 0o777, p.stat().st_uid) for p in files} == {(0o640, 0)}
    assert {p.stat().st_gid for p in files} == {Path(f"/proc/{pid}").stat().st_uid}
    kept = here.amphorae / site.bundle.amphora_id / "bundle.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert b"PRIVATE" not in Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
    assert "PRIVATE" not in site.rig.log.read_text()


@pytest.mark.parametrize(
    ("mode", "client", "works"),
    [
        (ClientAuthentication.MANDATORY, CLIENT, True),
        (ClientAuthentication.MANDATORY, None, False),
        (ClientAuthentication.MANDATORY, REVOKED, False),
        (ClientAuthentication.MANDATORY, STRANGER, False),
        (ClientAuthentication.OPTIONAL, CLIENT, True),
        (ClientAuthentication.OPTIONAL, None, True),
        (ClientAuthentication.OPTIONAL, REVOKED, False),
        (ClientAuthentication.NONE, STRANGER, True),
    ],
    ids=lambda v: getattr(getattr(v, "certificate", v), "subject", v),
)
def test_client_certificates(
    rig: Rig, tmp_path: Path, mode: ClientAuthentication, client: pki.Issued | None, works: bool
) -> None:
    site = Site(rig, client_ca_tls_container_ref="ca", client_crl_container_ref="crl", client_authentication=mode)
    site.push()
    how = context(tmp_path=tmp_path, client=client)
    if works:
        assert ask(site, how=how).body == "m1"  # type: ignore[attr-defined]
    else:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            ask(site, how=how)


def test_members_are_told_of_the_client(rig: Rig, tmp_path: Path) -> None:
    names = ("Client-Verify", "Client-Has-Cert", "Client-DN", "Client-CN", "Issuer", "Client-SHA1",
             "Client-Not-Before", "Client-Not-After")  # fmt: skip
    wanted = {f"X-SSL-{n}": "true" for n in names} | {"X-Forwarded-Proto": "true", "X-Forwarded-Port": "true"}
    site = Site(
        rig, client_ca_tls_container_ref="ca", client_authentication=ClientAuthentication.OPTIONAL,
        insert_headers=wanted,
    )  # fmt: skip
    site.push()
    with_one = seen(site, context(tmp_path=tmp_path, client=CLIENT))
    assert with_one["x-ssl-client-cn"] == "client one"
    assert with_one["x-ssl-client-has-cert"] == "1"
    assert with_one["x-ssl-client-verify"] == "0"
    assert with_one["x-ssl-client-dn"] == "/CN=client one"
    assert with_one["x-ssl-issuer"] == "/CN=Test CA"
    sha1 = subprocess.run(["openssl", "x509", "-noout", "-fingerprint", "-sha1"], input=CLIENT.pem,
                          capture_output=True, check=True).stdout.decode()  # fmt: skip
    assert with_one["x-ssl-client-sha1"] == sha1.strip().partition("=")[2].replace(":", "")
    assert len(with_one["x-ssl-client-not-after"]) == len(with_one["x-ssl-client-not-before"]) == len("260101000000Z")
    assert (with_one["x-forwarded-proto"], with_one["x-forwarded-port"]) == ("https", "443")
    without = seen(site, X_SSL_Client_CN="forged")
    assert (without["x-ssl-client-cn"], without["x-ssl-client-has-cert"]) == ("", "0")


@pytest.mark.parametrize(
    ("offered", "spoken"),
    [((TlsVersion.TLSV1_2,), "TLSv1.2"), ((TlsVersion.TLSV1_3,), "TLSv1.3"),
     ((TlsVersion.TLSV1_2, TlsVersion.TLSV1_3), "TLSv1.3")],
)  # fmt: skip
def test_versions(rig: Rig, offered: tuple[TlsVersion, ...], spoken: str) -> None:
    site = Site(rig, tls_versions=offered)
    site.push()
    with shake(site) as connection:
        assert connection.version() == spoken
    for version, known in ((ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.TLSv1_3, "TLSv1.3")):
        if known not in offered:
            how = context()
            how.minimum_version = how.maximum_version = version
            with pytest.raises(ssl.SSLError):
                shake(site, how=how)


def test_ciphers(rig: Rig) -> None:
    site = Site(
        rig, tls_ciphers="TLS_AES_256_GCM_SHA384:ECDHE-ECDSA-AES256-GCM-SHA384",
        tls_versions=(TlsVersion.TLSV1_2, TlsVersion.TLSV1_3),
    )  # fmt: skip
    site.push()
    with shake(site) as connection:
        assert (connection.cipher() or ("",))[0] == "TLS_AES_256_GCM_SHA384"
    for cipher, works in (("ECDHE-ECDSA-AES256-GCM-SHA384", True), ("ECDHE-ECDSA-AES128-GCM-SHA256", False)):
        how = context()
        how.maximum_version = ssl.TLSVersion.TLSv1_2
        how.set_ciphers(cipher)
        if works:
            shake(site, how=how).close()
        else:
            with pytest.raises(ssl.SSLError):
                shake(site, how=how)


@pytest.mark.parametrize(("offered", "wanted", "chosen"), [
    (("h2", "http/1.1"), ["h2", "http/1.1"], "h2"), (("http/1.1",), ["h2", "http/1.1"], "http/1.1"),
    (("h2", "http/1.1"), ["http/1.1"], "http/1.1"),
])  # fmt: skip
def test_alpn(rig: Rig, offered: tuple[str, ...], wanted: list[str], chosen: str) -> None:
    site = Site(rig, alpn_protocols=tuple(AlpnProtocol(p) for p in offered))
    site.push()
    how = context()
    how.set_alpn_protocols(wanted)
    with shake(site, how=how) as connection:
        assert connection.selected_alpn_protocol() == chosen


def curl(site: Site, *words: str) -> str:
    command = ["curl", "-sk", "--max-time", "30", "--resolve", f"default.test:443:{site.vip}", *words]
    return subprocess.run([*command, "https://default.test/"], capture_output=True, text=True, check=True).stdout


def test_clients_may_speak_http_2(rig: Rig) -> None:
    site = Site(rig, alpn_protocols=(AlpnProtocol.H2, AlpnProtocol.HTTP_1_1))
    site.push()
    assert curl(site, "--http2", "-w", " %{http_version}") == "m1 2"
    assert curl(site, "--http1.1", "-w", " %{http_version}") == "m1 1.1"


def test_strict_transport_security_is_told_by_members_and_by_haproxy_itself(rig: Rig) -> None:
    site = Site(rig, hsts_max_age=300, hsts_include_subdomains=True, hsts_preload=True)
    site.push()
    assert ask(site).headers["Strict-Transport-Security"] == "max-age=300; includeSubDomains; preload"
    site.member = replace(site.member, admin_state_up=False)
    site.push()
    answer = eventually(lambda: (a := ask(site)).status == 503 and a)
    assert answer and answer.headers["Strict-Transport-Security"] == "max-age=300; includeSubDomains; preload"


# --- to members ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def secure_members(host: Rig) -> Iterator[dict[str, str]]:
    """Members that speak TLS: one for the default name, one that wants a client certificate."""
    right, ca = host.state / "right.pem", host.state / "ca.pem"
    right.write_bytes(DEFAULT.bundle_pem)
    ca.write_bytes(CA.pem)
    host.member("s1", host.front, f"{host.net}.0.12/24", port=443, secure=(right,))
    host.member("s2", host.front, f"{host.net}.0.13/24", port=443, secure=(right, ca))
    yield {"s1": f"{host.net}.0.12", "s2": f"{host.net}.0.13"}


def monitor(site: Site, kind: MonitorType) -> HealthMonitor:
    fields = {"delay": 1, "timeout": 1, "max_retries": 1, "max_retries_down": 1, **COMMON}
    return HealthMonitor(id=str(uuid.uuid4()), pool_id=site.pool.id, type=kind, **fields)


def to(site: Site, address: str, **pool: Any) -> Site:
    site.member = replace(site.member, address=address, protocol_port=443)
    site.pool = replace(site.pool, tls_enabled=True, **pool)
    site.push()
    return site


def test_a_member_is_spoken_to_in_tls_by_the_name_that_the_client_asked_for(
    rig: Rig, secure_members: dict[str, str]
) -> None:
    site = to(Site(rig), secure_members["s1"])
    assert ask(site).body == "s1"  # type: ignore[attr-defined]
    assert seen(site)["sni"] == "default.test"


def test_members_of_a_plain_listener_are_asked_for_the_requests_host(rig: Rig, secure_members: dict[str, str]) -> None:
    site = Site(rig, protocol=ListenerProtocol.HTTP, protocol_port=80, default_tls_container_ref=None)
    to(site, secure_members["s1"], ca_tls_container_ref="ca")
    connection = http.client.HTTPConnection(site.vip, timeout=30)
    connection.request("GET", "/headers", headers={"Host": "default.test:80"})
    assert json.loads(connection.getresponse().read())["sni"] == "default.test"
    connection.close()


def test_a_member_that_the_authority_vouches_for_is_trusted(rig: Rig, secure_members: dict[str, str]) -> None:
    site = to(Site(rig), secure_members["s1"], ca_tls_container_ref="ca")
    assert ask(site).status == 200


def test_a_member_that_another_authority_vouches_for_gets_nothing(rig: Rig, secure_members: dict[str, str]) -> None:
    site = Site(rig)
    site.secrets["ca"] = pki.authority("Other CA").pem
    to(site, secure_members["s1"], ca_tls_container_ref="ca")
    assert ask(site).status == 503


@pytest.mark.parametrize("kind", [MonitorType.TCP, MonitorType.HTTP, MonitorType.HTTPS, MonitorType.TLS_HELLO])
def test_a_member_that_is_added_at_run_time_is_checked_in_tls(
    rig: Rig, secure_members: dict[str, str], kind: MonitorType
) -> None:
    site = Site(rig)
    site.monitors = (monitor(site, kind),)
    to(site, secure_members["s1"], ca_tls_container_ref="ca")
    _checked_when_added(site, ("L6OK", "L7OK"))


def _checked_when_added(site: Site, right: tuple[str, ...]) -> None:
    """Add the site's member once more and a plain web server, both at run time: the one is up by a ``right`` kind of
    check, and the other down."""
    before = site.pids
    good = replace(site.member, id=str(uuid.uuid4()))
    plain = replace(good, id=str(uuid.uuid4()), address=f"{site.rig.net}.0.10", protocol_port=80)
    site.others = (good, plain)
    site.push()
    assert site.pids == before

    def settled(beat: wire.Heartbeat) -> bool:
        states = beat.members.get(f"{site.pool.id}:{site.listener.id}", {})
        return (
            {good.id, plain.id} <= states.keys() and states[plain.id].status == "DOWN"
            and states[good.id].status == "UP" and states[good.id].check[:4] in right
        )  # fmt: skip

    site.rig.beat(site.bundle.amphora_id, settled)


@pytest.mark.parametrize("protocol", [PoolProtocol.PROXY, PoolProtocol.PROXYV2])
def test_a_check_of_a_member_that_is_added_at_run_time_begins_as_proxy_members_expect_it(
    rig: Rig, protocol: PoolProtocol
) -> None:
    inner = rig.address()
    text = config(inner, servers={}).replace(f"bind {inner}:80", f"bind {inner}:80 accept-proxy")
    text = text.replace("    default_backend pool:listener", "    http-request return status 200")
    rig.push(rig.bundle(rig.amphora(), inner, text))
    site = Site(rig, protocol=ListenerProtocol.HTTP, protocol_port=80, default_tls_container_ref=None)
    site.pool = replace(site.pool, protocol=protocol)
    site.monitors = (monitor(site, MonitorType.HTTP),)
    site.member = replace(site.member, address=inner)
    site.push()
    _checked_when_added(site, ("L7OK",))


def test_a_member_whose_certificate_was_revoked_gets_nothing(rig: Rig, secure_members: dict[str, str]) -> None:
    site = Site(rig)
    site.secrets["crl"] = CA.revoke(DEFAULT)
    to(site, secure_members["s1"], ca_tls_container_ref="ca", crl_container_ref="crl")
    assert ask(site).status == 503


def test_members_may_want_a_certificate_of_the_amphora(rig: Rig, secure_members: dict[str, str]) -> None:
    site = to(Site(rig), secure_members["s2"])
    assert ask(site).status in (502, 503)
    site.secrets["client"] = CLIENT.p12()
    to(site, secure_members["s2"], tls_container_ref="client")
    assert ask(site).status == 200
    assert dict(x[0] for x in seen(site)["peer"]["subject"])["commonName"] == "client one"


def test_members_may_speak_http_2(rig: Rig) -> None:
    inner = rig.address()
    text = config(inner, servers={}).replace(":80", ":443 ssl crt x.pem alpn h2,http/1.1")
    text = text.replace(
        "    default_backend pool:listener",
        '    http-request return content-type text/plain lf-string "%[fc_http_major]"',
    )
    bundle = rig.bundle(rig.amphora(), inner, text)
    rig.push(replace(bundle, files={**bundle.files, "x.pem": DEFAULT.bundle_pem.decode()}))
    site = to(Site(rig), inner, alpn_protocols=(AlpnProtocol.H2, AlpnProtocol.HTTP_1_1))
    assert ask(site).body == "2"  # type: ignore[attr-defined]
    site = to(site, inner, alpn_protocols=(AlpnProtocol.HTTP_1_1,))
    assert ask(site).body == "1"  # type: ignore[attr-defined]


# --- changes ---------------------------------------------------------------------------------------------------------


class Traffic:
    """New connections and kept ones in the background; what fails is counted."""

    def __init__(self, site: Site) -> None:
        self.site, self.done, self.failures = site, 0, []  # type: ignore[var-annotated]
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=t) for t in (self._new, self._kept, self._kept)]

    def __enter__(self) -> "Traffic":
        for thread in self._threads:
            thread.start()
        self.flow()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def flow(self, requests: int = 40) -> None:
        goal = self.done + requests
        eventually(lambda: self.done >= goal)

    def _new(self) -> None:
        while not self._stop.wait(0.005):
            self._count(lambda: ask(self.site).status)

    def _kept(self) -> None:
        connection = http.client.HTTPConnection("default.test")
        connection.sock = shake(self.site)

        def once() -> int:
            connection.request("GET", "/")
            answer = connection.getresponse()
            answer.read()
            if answer.will_close:
                connection.close()
                connection.sock = shake(self.site)
            return answer.status

        while not self._stop.wait(0.005):
            self._count(once)
        connection.close()

    def _count(self, once: Any) -> None:
        try:
            status = once()
            if status != 200:
                self.failures.append(status)
        except (OSError, http.client.HTTPException) as e:
            self.failures.append(repr(e))
        self.done += 1


def test_certificates_rotate_under_traffic_without_a_new_process(site: Site) -> None:
    before = site.pids
    with Traffic(site) as traffic:
        for n in range(5):
            fresh = CA.issue(f"default {n}", "default.test")
            site.secrets["default"] = fresh.p12()
            site.push()
            assert shown(site, "default.test") == f"default {n}"
            assert shown(site, "shop.test") == "shop.test"
            traffic.flow()
        site.secrets["shop"] = CA.issue("new shop", "shop.test").p12()
        site.push()
        assert shown(site, "shop.test") == "new shop"
        traffic.flow()
    assert traffic.failures == []
    assert site.pids == before


def test_another_reference_for_the_default_is_no_reload(site: Site) -> None:
    before = site.pids
    site.secrets["next"] = CA.issue("next", "default.test", bits=2048).p12()
    site.listener = replace(site.listener, default_tls_container_ref="next")
    site.push()
    assert shown(site, "default.test") == "next"
    assert site.pids == before


def test_an_sni_certificate_more_is_a_reload_that_fails_no_request(site: Site) -> None:
    with Traffic(site) as traffic:
        site.secrets["more"] = CA.issue("more.test", "more.test").p12()
        site.listener = replace(site.listener, sni_container_refs=("shop", "more"))
        site.push()
        assert shown(site, "more.test") == "more.test"
        traffic.flow()
    assert traffic.failures == []


@pytest.mark.parametrize("version", [TlsVersion.TLSV1_2, TlsVersion.TLSV1_3])
def test_a_revoked_client_is_refused_whatever_session_it_kept(rig: Rig, tmp_path: Path, version: TlsVersion) -> None:
    site = Site(
        rig, client_ca_tls_container_ref="ca", client_crl_container_ref="crl",
        client_authentication=ClientAuthentication.MANDATORY, tls_versions=(version,),
    )  # fmt: skip
    site.push()
    how = context(tmp_path=tmp_path, client=CLIENT)
    session, resumed = _session(site, how, None)
    session, resumed = _session(site, how, session)
    assert resumed
    site.secrets["crl"] = CA.revoke(REVOKED, CLIENT)
    site.push()
    for kept in (None, session):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            _session(site, how, kept)


def test_a_client_of_an_authority_no_longer_trusted_is_refused_whatever_session_it_kept(
    rig: Rig, tmp_path: Path
) -> None:
    site = Site(rig, client_ca_tls_container_ref="ca", client_authentication=ClientAuthentication.MANDATORY)
    site.push()
    how = context(tmp_path=tmp_path, client=CLIENT)
    session, _ = _session(site, how, None)
    site.secrets["ca"] = pki.authority("Other CA").pem
    site.push()
    with pytest.raises((ssl.SSLError, ConnectionError)):
        _session(site, how, session)


def _session(
    site: Site, how: ssl.SSLContext, session: ssl.SSLSession | None
) -> tuple[ssl.SSLSession | None, bool | None]:  # fmt: skip
    """Ask once; the session to come back with, and whether this one came back."""
    with shake(site, how=how, session=session) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: default.test\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        return connection.session, connection.session_reused


def test_a_rotated_certificate_is_what_a_restarted_haproxy_serves(site: Site) -> None:
    site.secrets["default"] = CA.issue("after", "default.test").p12()
    site.push()
    (pid,) = site.pids
    subprocess.run(["kill", "-9", str(pid)], check=True)
    eventually(lambda: site.pids and site.pids != [pid])
    assert eventually(lambda: shown(site, "default.test")) == "after"


def test_a_certificate_too_long_for_the_runtime_socket_is_a_reload(site: Site) -> None:
    before = site.pids
    above = tuple(CA.issue(f"above {n}", *(f"n{i}.test" for i in range(900)), ca=True).certificate for n in range(2))
    site.secrets["default"] = replace(CA.issue("long", "default.test"), above=above).bundle_pem
    site.push()
    assert shown(site, "default.test") == "long"
    assert site.pids != before


def test_a_lost_secret_takes_nothing_down(site: Site) -> None:
    before = site.pids
    with Traffic(site) as traffic:
        site.secrets["default"] = Broken("secrets/default does not exist any more.")
        site.member = replace(site.member, weight=7)
        answer = site.push()
        traffic.flow()
    assert answer["digest"] == wire.digest(site.bundle)
    assert site.problems == {site.listener.id: "secrets/default does not exist any more."}
    assert shown(site, "default.test") == "default.test"
    assert (traffic.failures, site.pids) == ([], before)


def test_what_is_kept_outlives_the_agent_and_haproxy(site: Site) -> None:
    site.secrets["default"] = Broken("It is gone.")
    site.push()
    site.rig.stop()
    for pid in site.pids:
        subprocess.run(["kill", "-9", str(pid)], check=True)
    site.rig.start()
    assert eventually(lambda: shown(site, "default.test")) == "default.test"
    observed = site.rig.client.observe(site.rig.url, site.bundle.amphora_id) or {}
    assert observed["digest"] == wire.digest(site.bundle)


def test_an_amphora_refuses_to_keep_what_it_has_not(rig: Rig) -> None:
    bundle = rig.bundle(rig.amphora(), rig.address(), None)
    with pytest.raises(Broken, match=r"no file x\.pem"):
        rig.push(replace(bundle, keep=("x.pem",)))

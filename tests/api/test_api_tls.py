"""What may be asked of TLS: every rule by table, and what is said of secrets that cannot be used."""

from typing import Any

import pytest
from lb_service import Service

from colonnade.errors import Later
from colonnade.settings import ApiSettings
from colonnade.types import Json
from tests import pki

pytestmark = pytest.mark.any_database

CA = pki.authority()
LEAF = CA.issue("www.test", "www.test", days=90)
REFS = {
    "good": LEAF.p12(), "pem": LEAF.bundle_pem, "ca": CA.pem, "crl": CA.revoke(days=3650), "rubbish": b"rubbish",
    "locked": LEAF.p12(b"secret"), "expired": CA.issue("old", days=-1).p12(), "lone": LEAF.pem,
    "two": CA.pem + LEAF.pem, "others": pki.authority().revoke(days=3650),
    "old-ca": pki.authority(days=-1).pem, "old-crl": CA.revoke(days=-1),
}  # fmt: skip
URL = "http://keys.test/v1/secrets/"


def ref(name: str) -> str:
    return URL + name


def refs(fields: Json) -> Json:
    """Fields where @name stands for a reference."""

    def one(v: Any) -> Any:
        if isinstance(v, list):
            return [one(x) for x in v]
        return ref(v[1:]) if isinstance(v, str) and v.startswith("@") else v

    return {k: one(v) for k, v in fields.items()}


@pytest.fixture
def tls(service: Service) -> Service:
    service.clock.time = pki.NOW.timestamp()  # certificates are made for today
    for name, payload in REFS.items():
        service.vault.put(ref(name), payload, "alice-project")
    service.vault.put(ref("bobs"), REFS["good"], "bob-project")
    service.vault.put(ref("box"), b"", "alice-project", certificate=LEAF.pem, private_key=LEAF.key_pem)
    return service


BASE = {"protocol": "TERMINATED_HTTPS", "protocol_port": 443, "default_tls_container_ref": "@good"}
WITH_CA = {"client_ca_tls_container_ref": "@ca"}
CREATED: list[tuple[Json, int, str]] = [
    ({}, 201, ""),
    ({"default_tls_container_ref": None}, 400, "An SNI or default certificate container reference must be provided"),
    ({"default_tls_container_ref": None, "sni_container_refs": ["@good", "@pem"]}, 201, ""),
    ({"default_tls_container_ref": "@pem"}, 201, ""),
    ({"default_tls_container_ref": "@box"}, 201, ""),
    ({"default_tls_container_ref": "@nothing"}, 400, f"Could not retrieve certificate: ['{URL}nothing']"),
    ({"default_tls_container_ref": "@bobs"}, 400, f"['{URL}bobs']. There is none, or you may not read it."),
    ({"sni_container_refs": ["@good", "@bobs", "@no"]}, 400, f"['{URL}bobs', '{URL}no']"),
    ({"default_tls_container_ref": "@rubbish"}, 400, "The certificate is invalid"),
    ({"default_tls_container_ref": "@locked"}, 400, "without a pass phrase"),
    ({"default_tls_container_ref": "@expired"}, 400, "expired on"),
    ({"default_tls_container_ref": "@lone"}, 400, "The certificate is invalid"),
    ({"protocol": "HTTP"}, 400, "only allowed on"),
    ({"protocol": "TCP"}, 400, "only allowed on"),
    ({"protocol": "HTTPS"}, 400, "only allowed on"),
    (WITH_CA, 201, ""),
    ({**WITH_CA, "client_authentication": "MANDATORY"}, 201, ""),
    ({**WITH_CA, "client_authentication": "OPTIONAL", "client_crl_container_ref": "@crl"}, 201, ""),
    ({**WITH_CA, "client_authentication": "SOMETIMES"}, 400, "Value should be one of"),
    ({"client_authentication": "MANDATORY"}, 400, "requires a client CA container reference"),
    ({"client_authentication": "NONE"}, 201, ""),
    ({"client_ca_tls_container_ref": "@two"}, 400, "The client authentication CA certificate is invalid"),
    ({"client_ca_tls_container_ref": "@rubbish"}, 400, "The client authentication CA certificate is invalid"),
    ({"client_crl_container_ref": "@crl"}, 400, "A client authentication CA reference is required"),
    ({**WITH_CA, "client_crl_container_ref": "@rubbish"}, 400, "revocation list is invalid"),
    ({**WITH_CA, "client_crl_container_ref": "@others"}, 400, "The CRL specified is not valid"),
    ({**WITH_CA, "client_crl_container_ref": "@old-crl"}, 400, "revocation list is invalid"),
    ({"client_ca_tls_container_ref": "@old-ca"}, 400, "expired on"),
    ({"tls_versions": []}, 400, "Empty TLS version list"),
    ({"tls_versions": ["TLSv1.4"]}, 400, "Value should be one of"),
    ({"tls_versions": ["SSLv3"]}, 400, "SSLv3 alone"),
    ({"tls_versions": ["TLSv1", "TLSv1.3"]}, 201, ""),
    ({"alpn_protocols": []}, 400, "Empty ALPN protocol list"),
    ({"alpn_protocols": ["h3"]}, 400, "Value should be one of"),
    ({"alpn_protocols": ["http/1.0"]}, 201, ""),
    ({"tls_ciphers": "ECDHE-RSA-AES128-GCM-SHA256:!aNULL:@STRENGTH"}, 201, ""),
    ({"tls_ciphers": "ECDHE RSA"}, 400, "OpenSSL cipher string"),
    ({"tls_ciphers": "A\nB"}, 400, ""),
    ({"tls_ciphers": "NOBODY-KNOWS-THIS"}, 400, "is known"),
    ({"tls_ciphers": "x" * 2049}, 400, "maximum"),
    ({"tls_ciphers": "TLS_AES_128_GCM_SHA256", "tls_versions": ["TLSv1.2"]}, 400, "can be used with any of"),
    ({"hsts_max_age": 0}, 201, ""),
    ({"hsts_max_age": -1}, 400, ""),
    ({"hsts_max_age": 9, "hsts_preload": True, "hsts_include_subdomains": True}, 201, ""),
    ({"hsts_preload": True}, 400, "only make sense"),
    ({"hsts_include_subdomains": True}, 400, "only make sense"),
    ({"insert_headers": {"X-SSL-Client-CN": "true", "X-Forwarded-For": "true"}}, 201, ""),
    ({"insert_headers": {"X-SSL-Nonsense": "true"}}, 400, "not a valid option"),
]


@pytest.mark.parametrize(("fields", "expect", "why"), CREATED, ids=lambda v: str(v)[:60])
def test_listeners_with_tls(tls: Service, fields: Json, expect: int, why: str) -> None:
    lb = tls.load_balancer()
    body = refs({**BASE, **fields, "loadbalancer_id": lb["id"]})
    answer = tls.post("listeners", {"listener": body}, expect=expect)
    assert why in answer.get("faultstring", "")


@pytest.mark.parametrize(("fields", "expect", "why"), CREATED, ids=lambda v: str(v)[:60])
def test_the_same_in_a_whole_tree(tls: Service, fields: Json, expect: int, why: str) -> None:
    tree = {"vip_subnet_id": tls.subnet.id, "listeners": [refs({**BASE, **fields})]}
    answer = tls.post("loadbalancers", {"loadbalancer": tree}, expect=expect)
    assert why in answer.get("faultstring", "")
    assert expect == 201 or not tls.cloud.ports


POOLS: list[tuple[Json, int, str]] = [
    ({"tls_enabled": True}, 201, ""),
    ({"tls_enabled": True, "tls_container_ref": "@good", "ca_tls_container_ref": "@ca"}, 201, ""),
    ({"tls_enabled": True, "ca_tls_container_ref": "@ca", "crl_container_ref": "@crl"}, 201, ""),
    ({"crl_container_ref": "@crl"}, 400, "A CA certificate reference is required"),
    ({"ca_tls_container_ref": "@ca", "crl_container_ref": "@others"}, 400, "The CRL specified is not valid"),
    ({"ca_tls_container_ref": "@ca", "crl_container_ref": "@old-crl"}, 400, "expired on"),
    ({"tls_container_ref": "@bobs"}, 400, "Could not retrieve certificate"),
    ({"ca_tls_container_ref": "@good"}, 400, "CA certificate is invalid"),
    ({"tls_enabled": True, "tls_versions": []}, 400, "Empty TLS version list"),
    ({"tls_enabled": True, "alpn_protocols": []}, 400, "Empty ALPN protocol list"),
    ({"tls_enabled": True, "tls_ciphers": "NOBODY-KNOWS-THIS"}, 400, "is known"),
    ({"tls_enabled": True, "protocol": "UDP"}, 400, "not for pools of protocol UDP"),
    ({"tls_enabled": True, "protocol": "PROXYV2"}, 201, ""),
]


@pytest.mark.parametrize(("fields", "expect", "why"), POOLS, ids=lambda v: str(v)[:60])
def test_pools_with_tls(tls: Service, fields: Json, expect: int, why: str) -> None:
    lb = tls.load_balancer()
    body = refs({"protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", **fields, "loadbalancer_id": lb["id"]})
    assert why in tls.post("pools", {"pool": body}, expect=expect).get("faultstring", "")


def test_defaults_are_of_the_installation_where_there_is_tls(tls: Service) -> None:
    lb = tls.load_balancer()
    terminated, plain = tls.listener(lb, **refs(BASE)), tls.listener(lb)
    defaults = ApiSettings()
    for thing in (terminated, tls.pool(lb, tls_enabled=True)):
        assert thing["tls_ciphers"] == defaults.default_listener_ciphers
        assert thing["tls_versions"] == ["TLSv1.2", "TLSv1.3"]
        assert thing["alpn_protocols"] == ["h2", "http/1.1", "http/1.0"]
    for thing in (plain, tls.pool(lb)):
        assert (thing["tls_ciphers"], thing["tls_versions"], thing["alpn_protocols"]) == (None, None, None)


CHANGED: list[tuple[Json, Json, int, str]] = [
    ({}, {"default_tls_container_ref": "@pem"}, 200, ""),
    ({}, {"default_tls_container_ref": None}, 400, "must be provided"),
    ({}, {"default_tls_container_ref": None, "sni_container_refs": ["@pem"]}, 200, ""),
    ({"sni_container_refs": ["@pem"]}, {"sni_container_refs": None}, 200, ""),
    ({}, {"default_tls_container_ref": "@bobs"}, 400, "Could not retrieve certificate"),
    (WITH_CA, {"client_authentication": "MANDATORY"}, 200, ""),
    (WITH_CA, {"client_crl_container_ref": "@crl"}, 200, ""),
    (WITH_CA, {"client_crl_container_ref": "@others"}, 400, "The CRL specified is not valid"),
    ({**WITH_CA, "client_authentication": "MANDATORY"}, {"client_authentication": None}, 200, ""),
    ({**WITH_CA, "client_authentication": "MANDATORY"}, {"client_ca_tls_container_ref": None}, 400, "requires"),
    ({"tls_versions": ["TLSv1.3"]}, {"tls_versions": None}, 200, ""),
    ({}, {"tls_versions": []}, 400, "Empty"),
    ({"hsts_max_age": 5, "hsts_preload": True}, {"hsts_max_age": None}, 400, "only make sense"),
    ({"hsts_max_age": 5, "hsts_preload": True}, {"hsts_max_age": None, "hsts_preload": None}, 200, ""),
    ({}, {"name": "other"}, 200, ""),
]


@pytest.mark.parametrize(("first", "then", "expect", "why"), CHANGED, ids=lambda v: str(v)[:50])
def test_changes_of_listeners(tls: Service, first: Json, then: Json, expect: int, why: str) -> None:
    made = tls.listener(tls.load_balancer(), **refs({**BASE, **first}))
    answer = tls.put(f"listeners/{made['id']}", {"listener": refs(then)}, expect=expect)
    assert why in answer.get("faultstring", "")
    if then.get("tls_versions", ()) is None:
        assert answer["listener"]["tls_versions"] == ["TLSv1.2", "TLSv1.3"]


def test_changes_of_pools(tls: Service) -> None:
    lb = tls.load_balancer()
    pool = tls.pool(lb, **refs({"tls_enabled": True, "ca_tls_container_ref": "@ca", "crl_container_ref": "@crl"}))
    path = f"pools/{pool['id']}"
    tls.put(path, {"pool": {"ca_tls_container_ref": None}}, expect=400)
    tls.put(path, {"pool": {"ca_tls_container_ref": None, "crl_container_ref": None}})
    other = tls.pool(lb)
    switched_on = tls.put(f"pools/{other['id']}", {"pool": {"tls_enabled": True}})["pool"]
    assert switched_on["tls_versions"] == ["TLSv1.2", "TLSv1.3"]


def test_what_a_deployment_forbids(tls: Service) -> None:
    lb = tls.load_balancer()
    tls.reset(tls_cipher_prohibit_list=("AES128-SHA",), minimum_tls_version="TLSv1.2")
    for fields, why in (
        ({"tls_ciphers": "AES256-SHA:AES128-SHA"}, "prohibited by an administrator: AES128-SHA"),
        ({"tls_versions": ["TLSv1.1", "TLSv1.2"]}, "less than the minimum: TLSv1.1"),
    ):
        listener = refs({**BASE, **fields, "loadbalancer_id": lb["id"]})
        assert why in tls.post("listeners", {"listener": listener}, expect=400)["faultstring"]
        pool = {"protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", **fields, "loadbalancer_id": lb["id"]}
        assert why in tls.post("pools", {"pool": pool}, expect=400)["faultstring"]
    tls.reset(allow_tls_terminated_listeners=False)
    body = refs({**BASE, "loadbalancer_id": lb["id"]})
    assert "not allowed in this deployment" in tls.post("listeners", {"listener": body}, expect=400)["faultstring"]


def test_prometheus_listeners_may_speak_tls(tls: Service) -> None:
    lb = tls.load_balancer()
    body = {"protocol": "PROMETHEUS", "protocol_port": 9100, "loadbalancer_id": lb["id"]}
    made = tls.post("listeners", {"listener": refs({**body, "default_tls_container_ref": "@good"})})["listener"]
    defaults = tls.post("listeners", {"listener": refs({**BASE, "loadbalancer_id": lb["id"]})})["listener"]
    strength = ("tls_ciphers", "tls_versions", "alpn_protocols")
    assert [made[f] for f in strength] == [defaults[f] for f in strength] != [None, None, None]

    def put(**fields: Any) -> Json:
        changed: Json = tls.put(f"listeners/{made['id']}", {"listener": refs(fields)})["listener"]
        return changed

    assert [put(default_tls_container_ref=None)[f] for f in strength] == [None, None, None]
    assert put(default_tls_container_ref="@good", tls_versions=["TLSv1.3"])["tls_versions"] == ["TLSv1.3"]
    tls.reset(allow_prometheus_listeners=False)
    refused = tls.post("listeners", {"listener": {**body, "protocol_port": 9101}}, expect=400)["faultstring"]
    assert refused == "The selected protocol is not allowed in this deployment: PROMETHEUS"


def test_an_admin_may_use_anothers_secret_which_then_lets_the_service_in(tls: Service) -> None:
    lb = tls.load_balancer()
    body = refs({**BASE, "default_tls_container_ref": "@bobs", "loadbalancer_id": lb["id"]})
    tls.post("listeners", {"listener": body}, by="admin")
    assert tls.vault.granted == {ref("bobs")}


def test_a_silent_key_manager_is_a_503(tls: Service) -> None:
    lb = tls.load_balancer()

    def away(_effect: str, _moment: str) -> None:
        raise Later("The key manager does not answer.")

    tls.vault.trouble = away
    body = refs({**BASE, "loadbalancer_id": lb["id"]})
    answer = tls.post("listeners", {"listener": body}, expect=503)
    assert "does not answer" in answer["faultstring"]

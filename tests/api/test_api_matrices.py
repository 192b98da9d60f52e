"""What goes with what, and each field's limits, as the API reference has them.

Protocols are pure tables over the rules, so that they hold whether or not a deployment carries the protocol.
"""

from datetime import datetime
from typing import Any

import pytest
from every_request import Furnished, filled, furnish
from lb_service import Service

from colonnade.api import rules, tls_rules
from colonnade.errors import ApiError, Conflict, Invalid, Unsupported
from colonnade.model import HealthMonitor, Listener, LoadBalancer, Pool, SessionPersistence, Tree
from colonnade.settings import ApiSettings
from colonnade.types import ClientAuthentication, TlsVersion
from colonnade.types import ListenerProtocol as L
from colonnade.types import MonitorType as M
from colonnade.types import PersistenceType as T
from colonnade.types import PoolProtocol as P

pytestmark = pytest.mark.any_database

NOW = datetime(2026, 1, 1)
OURS: dict[str, Any] = {"id": "i", "project_id": "p", "loadbalancer_id": "l", "created_at": NOW}


def _error(check: Any, *args: Any, **named: Any) -> type[ApiError] | None:
    try:
        check(*args, **named)
    except ApiError as e:
        return type(e)
    return None


# pool protocol -> the types it takes. TCP and HTTPS pools pass on what nobody reads: cookies would have no effect.
PERSISTENCE = {
    P.HTTP: {T.SOURCE_IP, T.HTTP_COOKIE, T.APP_COOKIE}, P.PROXY: {T.SOURCE_IP, T.HTTP_COOKIE, T.APP_COOKIE},
    P.PROXYV2: {T.SOURCE_IP, T.HTTP_COOKIE, T.APP_COOKIE}, P.TCP: {T.SOURCE_IP}, P.HTTPS: {T.SOURCE_IP},
    P.UDP: {T.SOURCE_IP}, P.SCTP: {T.SOURCE_IP},
}  # fmt: skip
KEYS: dict[str, Any] = {"cookie_name": "c", "persistence_timeout": 5, "persistence_granularity": "255.255.0.0"}


@pytest.mark.parametrize("protocol", list(P))
@pytest.mark.parametrize("kind", list(T))
def test_persistence_types_and_keys(kind: T, protocol: P) -> None:
    named = {"cookie_name": "c"} if kind is T.APP_COOKIE else {}
    fine = kind in PERSISTENCE[protocol]
    assert _error(rules.persistence, SessionPersistence(type=kind, **named), protocol) is (None if fine else Invalid)
    for key, value in KEYS.items():
        also = SessionPersistence(type=kind, **{**named, key: value})
        datagrams = protocol in (P.UDP, P.SCTP)
        takes = (kind is T.APP_COOKIE) if key == "cookie_name" else datagrams
        assert _error(rules.persistence, also, protocol) is (None if fine and takes else Invalid), key
    if kind is T.APP_COOKIE:
        assert _error(rules.persistence, SessionPersistence(type=kind), protocol) is Invalid


FORWARDED = ["X-Forwarded-For", "X-Forwarded-Port", "X-Forwarded-Proto"]
ADDRESSES = ["X-Forwarded-IP", "X-Client-IP", "X-Real-IP"]  # a deployment may or may not write these
OF_CLIENTS = [
    "X-SSL-Client-Verify", "X-SSL-Client-Has-Cert", "X-SSL-Client-DN", "X-SSL-Client-CN", "X-SSL-Issuer",
    "X-SSL-Client-SHA1", "X-SSL-Client-Not-Before", "X-SSL-Client-Not-After",
]  # fmt: skip


@pytest.mark.parametrize("protocol", list(L))
@pytest.mark.parametrize("header", [*FORWARDED, *ADDRESSES, *OF_CLIENTS, "X-Other", "x-forwarded-for", "Host", ""])
def test_headers_and_protocols(header: str, protocol: L) -> None:
    found = _error(rules.headers, {header: "true"}, protocol)
    if protocol not in (L.HTTP, L.TERMINATED_HTTPS):
        assert found is Invalid
    elif header in ADDRESSES:
        assert found in (None, Unsupported)
    else:
        known = [*FORWARDED, *(OF_CLIENTS if protocol is L.TERMINATED_HTTPS else [])]
        assert found is (None if header in known else Invalid)
        assert _error(rules.headers, {header: "True"}, protocol) is found
        for value in ("yes", "1", ""):
            assert _error(rules.headers, {header: value}, protocol) is Invalid


# Each option of TLS, with a certificate; all are for TERMINATED_HTTPS.
CA = {"client_ca_tls_container_ref": "ca"}
TLS: dict[str, dict[str, Any]] = {
    "default reference": {}, "other references": {"default_tls_container_ref": None, "sni_container_refs": ("s",)},
    "client CA": CA, "authentication": {**CA, "client_authentication": ClientAuthentication.MANDATORY},
    "revocation list": {**CA, "client_crl_container_ref": "crl"},
    "ciphers": {"tls_ciphers": "ECDHE-RSA-AES128-GCM-SHA256"},
    "versions": {"tls_versions": (TlsVersion.TLSV1_2,)},
    "ALPN": {"alpn_protocols": ("h2",)}, "HSTS": {"hsts_max_age": 0},
    "HSTS of subdomains": {"hsts_max_age": 1, "hsts_include_subdomains": True, "hsts_preload": True},
}  # fmt: skip


@pytest.mark.parametrize("protocol", [p for p in L if p is not L.PROMETHEUS])
@pytest.mark.parametrize("option", TLS)
def test_options_of_tls_and_protocols(option: str, protocol: L) -> None:
    fields = {"default_tls_container_ref": "d", **TLS[option]}
    listener = Listener(**OURS, protocol=protocol, protocol_port=1, **fields)
    fine = protocol is L.TERMINATED_HTTPS
    assert _error(tls_rules.listener, listener, ApiSettings()) is (None if fine else Invalid)
    del fields["default_tls_container_ref"]
    if any(fields.values()) and "sni_container_refs" not in fields:
        bare = Listener(**OURS, protocol=protocol, protocol_port=1, **fields)
        assert _error(tls_rules.listener, bare, ApiSettings()) is Invalid


@pytest.mark.parametrize("protocol", list(P))
def test_tls_to_members_and_protocols(protocol: P) -> None:
    pool = Pool(**OURS, protocol=protocol, lb_algorithm="ROUND_ROBIN", tls_enabled=True)
    datagrams = protocol in (P.UDP, P.SCTP)
    assert _error(tls_rules.pool, pool, ApiSettings()) is (Invalid if datagrams else None)


@pytest.mark.parametrize("kind", list(M))
def test_fields_of_monitors_and_types(kind: M) -> None:
    plain = HealthMonitor(**OURS, pool_id="p", type=kind, delay=1, timeout=1, max_retries=1)
    http = kind in (M.HTTP, M.HTTPS)
    assert _error(rules.monitor, plain, {"delay", "timeout", "max_retries", "max_retries_down", "name"}) is None
    for field in ("http_method", "url_path", "expected_codes"):
        assert _error(rules.monitor, plain, {field}) is (None if http else Invalid), field


L4 = {L.UDP: "udp", L.SCTP: "sctp"}


@pytest.mark.parametrize("one", list(L))
@pytest.mark.parametrize("other", list(L))
def test_listeners_that_meet_on_a_port(one: L, other: L) -> None:
    lb = LoadBalancer(id="l", project_id="p", created_at=NOW)
    there = Listener(**{**OURS, "id": "there"}, protocol=one, protocol_port=80)
    tree = Tree(load_balancer=lb, listeners=(there,))
    meet = L4.get(one, "tcp") == L4.get(other, "tcp")
    for port, conflict in ((80, meet), (81, False)):
        new = Listener(**{**OURS, "id": "new"}, protocol=other, protocol_port=port)
        assert _error(rules.listener_is_unique, tree, new) is (Conflict if conflict else None)


@pytest.fixture
def made(service: Service) -> Furnished:
    return furnish(service)


LB, LISTENER, POOL, MEMBER = (
    "loadbalancers/{lb}",
    "listeners/{listener}",
    "pools/{pool}",
    "pools/{pool}/members/{member}",
)
MONITOR, POLICY, RULE = (
    "healthmonitors/{healthmonitor}",
    "l7policies/{l7policy}",
    "l7policies/{l7policy}/rules/{l7rule}",
)
ROOTS = {LB: "loadbalancer", LISTENER: "listener", POOL: "pool", MEMBER: "member", MONITOR: "healthmonitor",
         POLICY: "l7policy", RULE: "rule", "flavors/{flavor}": "flavor", "quotas/alice-project": "quota",
         "flavorprofiles/{free-profile}": "flavorprofile"}  # fmt: skip
BIG = 2073600000

# (object, field, what it takes, what it does not)
LIMITS: list[tuple[str, str, list[Any], list[Any]]] = [
    *((path, "name", ["", "x" * 255, "ü" * 255], ["x" * 256, 5, ["x"], "a\nb"])
      for path in (LB, LISTENER, POOL, MEMBER, MONITOR, POLICY, "flavors/{flavor}")),
    *((path, "description", ["", "x" * 255, "two\nlines"], ["x" * 256, 5]) for path in (LB, LISTENER, POOL, POLICY)),
    *((path, "tags", [[], ["x" * 255], ["a", "a"]], [["x" * 256], "x", [5], [None]])
      for path in (LB, LISTENER, POOL, MEMBER, MONITOR, POLICY, RULE)),
    *((path, "admin_state_up", [True, False, "true", "False", "yes", "no", "on", "off", "1", "0", "t", "f", 1, 0],
       ["maybe", 2, -1, 0.5, [], {}]) for path in (LB, LISTENER, POOL, MEMBER, MONITOR, POLICY, RULE)),
    (LISTENER, "connection_limit", [-1, 0, 1, 2147483647, "5"], [-2, 2147483648, 1.5, True, "x"]),
    *((LISTENER, f"timeout_{n}", [0, 1, BIG, "7"], [-1, BIG + 1, "x", True])
      for n in ("client_data", "member_connect", "member_data", "tcp_inspect")),
    (LISTENER, "insert_headers",
     [{}, {"X-Forwarded-For": "true"}, {"X-Forwarded-Port": "false"}, {"X-Forwarded-For": "True"}],
     [{"X-Forwarded-For": True}, {"X-Forwarded-For": "yes"}, {"X": "true"}, [], "x"]),
    (LISTENER, "allowed_cidrs", [[], ["10.0.0.0/8"], ["10.1.2.3/32"], ["0.0.0.0/0"]],
     [["10.0.0.0/33"], ["x"], "10.0.0.0/8", ["fd00::/8"], [None]]),
    (LISTENER, "default_pool_id", ["{pool}", "{spare}"], ["x", 5, []]),
    (LISTENER, "client_authentication", ["NONE"], ["none", "SOME", "OPTIONAL", "MANDATORY", True]),
    (LISTENER, "hsts_max_age", [], [0, -1, "x"]),
    (POOL, "lb_algorithm", ["ROUND_ROBIN", "LEAST_CONNECTIONS", "SOURCE_IP", "SOURCE_IP_PORT"],
     ["round_robin", "X", None]),
    (POOL, "session_persistence",
     [{"type": "SOURCE_IP"}, {"type": "HTTP_COOKIE"}, {"type": "APP_COOKIE", "cookie_name": "x" * 255}],
     [{}, {"type": "x"}, {"type": "APP_COOKIE"}, {"type": "APP_COOKIE", "cookie_name": "x" * 256}, [], "SOURCE_IP",
      {"type": "HTTP_COOKIE", "cookie_name": "c"}, {"type": "SOURCE_IP", "cookie_name": "c"},
      *({"type": "APP_COOKIE", "cookie_name": name} for name in ("", "a b", "a,b", "a;b", "a\\b", "a\tb"))]),
    (POOL, "tls_enabled", [True, False, "true"], ["perhaps", 7]),
    (MEMBER, "weight", [0, 1, 256, "256"], [-1, 257, 1.5, True, "x"]),
    (MEMBER, "backup", [True, False], ["perhaps"]),
    (MEMBER, "monitor_port", [1, 65535, "80"], [0, 65536, -1, "x"]),
    (MEMBER, "monitor_address", ["10.0.0.1", "fd00::1"], ["x", "10.0.0.256", "10.0.0.0/8", 5]),
    (MONITOR, "delay", [0, 1, 2147483, "3"], [-1, None, "x", 1.5, 2147484, 2147483647]),
    (MONITOR, "timeout", [0, 1, 2147483], [-1, None, "x", 2147484]),
    (MONITOR, "max_retries", [1, 10], [0, 11, None]),
    (MONITOR, "max_retries_down", [1, 10], [0, 11]),
    (MONITOR, "http_method", ["GET", "HEAD", "POST", "PUT", "DELETE", "TRACE", "OPTIONS", "CONNECT", "PATCH"],
     ["get", "BREW", ""]),
    (MONITOR, "url_path", ["/", "/a", "/a?b=c&d=e", "/" + "x" * 254],
     ["", "a", "http://a/b", "//a/b", "/a b", "/a\n", "/" + "x" * 255]),
    (MONITOR, "expected_codes", ["200", "200,201", "200-204", "204-204", "200, 201"], ["", "20", "204-200", "2000",
     "200-", "200,", "a", "200;201"]),
    (MONITOR, "http_version", [1.0, 1.1, "1.0", "1.1", 1], [0.9, 1.2, 2, "2", "x", True]),
    (POLICY, "position", [1, 2147483647, "1"], [0, -1, 2147483648, "x"]),
    (POLICY, "redirect_url", ["http://a.example/", "https://a.example/b?c#d", "HTTP://a"],
     ["", "a.example", "ftp://a", "http://", "http://a b", "http://a\n", "javascript:x"]),
    (POLICY, "redirect_prefix", ["https://a.example"], ["a", "http://a b"]),
    (RULE, "value", ["x", "/" + "x" * 254], ["x" * 256, "a\nb", "a\rb", None, 5]),
    (RULE, "key", ["x", "x" * 255], ["x" * 256, "a\nb", 5]),
    (RULE, "invert", [True, False, "true"], ["perhaps"]),
    (RULE, "type", ["HOST_NAME", "PATH"], ["X", None, "path"]),
    (RULE, "compare_type", ["REGEX", "STARTS_WITH", "ENDS_WITH", "CONTAINS", "EQUAL_TO"], ["X", None, "regex"]),
    ("flavors/{flavor}", "description", ["", "x" * 255], ["x" * 256]),
    ("flavorprofiles/{free-profile}", "flavor_data", ["{{}}", "{{" + " " * 4094 + "}}"],
     ["{{" + " " * 4095 + "}}", "", "[]", "x", None, 5]),
    *(("quotas/alice-project", key, [-1, 0, 2000000000, "5", None], [-2, 2000000001, 1.5, "x", True])
      for key in ("loadbalancer", "listener", "pool", "healthmonitor", "member", "l7policy", "l7rule", "load_balancer",
                  "health_monitor")),
]  # fmt: skip


@pytest.mark.parametrize(("path", "field", "good", "bad"), LIMITS, ids=lambda v: v if isinstance(v, str) else "")
def test_limits(made: Furnished, path: str, field: str, good: list[Any], bad: list[Any]) -> None:
    place, root = path.format(**made.ids), ROOTS[path]
    done = 202 if root == "quota" else 200
    for value in good:
        body = {root: {field: filled(value, made.ids) if root != "flavorprofile" else filled(value, {})}}
        made.service.put(place, body, by="admin", expect=done)
    before = made.service.get(place, by="admin")
    for value in bad:
        given = filled(value, {}) if root == "flavorprofile" else value
        reply = made.service.send("PUT", place, {root: {field: given}}, by="admin")
        assert (reply.status_code, reply.json["faultcode"]) == (400, "Client"), (value, reply.text)
    assert made.service.get(place, by="admin") == before


@pytest.mark.parametrize("code", [0, 200, 300, 301, 302, 303, 304, 305, 306, 307, 308, 309, "302", "x", True, None])
def test_redirect_codes(made: Furnished, code: Any) -> None:
    body = {
        "listener_id": made.ids["listener"],
        "action": "REDIRECT_TO_URL",
        "redirect_url": "http://a",
        "redirect_http_code": code,
    }
    fine = code in (301, 302, 303, 307, 308, "302", None) and code is not True
    found = made.service.post("l7policies", {"l7policy": body}, expect=201 if fine else 400)
    if fine:
        assert found["l7policy"]["redirect_http_code"] == int(code or 302)


# What null resets each field to.
NULLS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    (LB, {"name": "n", "description": "d", "admin_state_up": True}, {"name": "", "description": "",
     "admin_state_up": False}),
    (LISTENER, {"timeout_client_data": 1, "timeout_member_data": 2, "timeout_member_connect": 3,
     "timeout_tcp_inspect": 4},
     {"timeout_client_data": 50000, "timeout_member_data": 50000, "timeout_member_connect": 5000,
      "timeout_tcp_inspect": 0}),
    (LISTENER, {"connection_limit": 7, "insert_headers": {"X-Forwarded-For": "true"}, "allowed_cidrs": ["10.0.0.0/8"]},
     {"connection_limit": -1, "insert_headers": {}, "allowed_cidrs": None}),
    (LISTENER, {"default_pool_id": "{pool}"}, {"default_pool_id": None}),
    (LISTENER, {"client_authentication": "NONE"}, {"client_authentication": "NONE"}),
    (POOL, {"session_persistence": {"type": "SOURCE_IP"}, "tls_enabled": True},
     {"session_persistence": None, "tls_enabled": False}),
    (MEMBER, {"weight": 9, "backup": True, "monitor_port": 1, "monitor_address": "10.0.0.1"},
     {"weight": 1, "backup": False, "monitor_port": None, "monitor_address": None}),
    (MONITOR, {"max_retries_down": 9, "http_method": "PUT", "url_path": "/x", "expected_codes": "204"},
     {"max_retries_down": 3, "http_method": "GET", "url_path": "/", "expected_codes": "200"}),
    (MONITOR, {"http_version": 1.1, "domain_name": "a.b"}, {"http_version": None, "domain_name": None}),
    (POLICY, {"name": "n", "description": "d"}, {"name": "", "description": ""}),
    (RULE, {"invert": True}, {"invert": False}),
]  # fmt: skip


@pytest.mark.parametrize(("path", "given", "null"), NULLS, ids=str)
def test_null_resets(made: Furnished, path: str, given: dict[str, Any], null: dict[str, Any]) -> None:
    place, root = path.format(**made.ids), ROOTS[path]
    made.service.put(place, {root: filled(given, made.ids)})
    changed = made.service.put(place, {root: dict.fromkeys(given)})[root]
    assert {k: changed[k] for k in null} == null
    shown = made.service.get(place)[root]
    assert {k: shown[k] for k in null} == null


@pytest.mark.parametrize("path", [LB, LISTENER, POOL, MEMBER, MONITOR, POLICY, RULE])
def test_tags_are_a_set_that_null_leaves_alone(made: Furnished, path: str) -> None:
    place, root = path.format(**made.ids), ROOTS[path]
    for given, kept in ((["a", "b", "a"], ["a", "b"]), (None, ["a", "b"]), ([], [])):
        change = {"tags": given, **({"name": "n"} if path == POLICY else {})}
        assert made.service.put(place, {root: change})[root]["tags"] == kept


@pytest.mark.parametrize("given", ["true", "1", "yes", "on", "t", "True", "YES"])
def test_words_for_yes(made: Furnished, given: str) -> None:
    made.service.put(f"{'pools/{pool}/members'.format(**made.ids)}?additive_only={given}", {"members": []}, expect=202)
    assert len(made.service.get("pools/{pool}/members".format(**made.ids))["members"]) == 1
    made.service.delete(f"{LB.format(**made.ids)}?cascade={given}")


def test_an_omitted_field_of_a_batch_is_as_at_creation(made: Furnished) -> None:
    pool = POOL.format(**made.ids)
    made.service.put(
        MEMBER.format(**made.ids), {"member": {"weight": 9, "backup": True, "tags": ["a"], "monitor_port": 7}}
    )
    made.service.put(f"{pool}/members", {"members": [{"address": "10.2.0.1", "protocol_port": 8080}]}, expect=202)
    member = made.service.get(MEMBER.format(**made.ids))["member"]
    assert [member[k] for k in ("weight", "backup", "tags", "monitor_port", "vnic_type")] == [
        1,
        False,
        [],
        None,
        "normal",
    ]


def test_an_empty_batch_on_an_empty_pool_changes_nothing(made: Furnished) -> None:
    made.service.put("pools/{spare}/members".format(**made.ids), {"members": []}, expect=202)
    assert made.service.statuses(LB.format(**made.ids), "pools/{spare}".format(**made.ids)) == ["ACTIVE", "ACTIVE"]


def test_networks_are_kept_in_their_normal_form_once(made: Furnished) -> None:
    place = LISTENER.format(**made.ids)
    given = ["10.1.2.3/8", "10.0.0.0/8", "192.0.2.1"]
    changed = made.service.put(place, {"listener": {"allowed_cidrs": given}})["listener"]
    assert changed["allowed_cidrs"] == ["10.0.0.0/8", "192.0.2.1/32"]
    assert made.service.put(place, {"listener": {"allowed_cidrs": []}})["listener"]["allowed_cidrs"] is None

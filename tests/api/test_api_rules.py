"""Every rule that looks at more than one field, by table."""

import dataclasses
from datetime import datetime
from typing import Any

import pytest
from lb_service import Service, nobody_has

from colonnade.api import rules
from colonnade.errors import Invalid
from colonnade.model import HealthMonitor, SessionPersistence
from colonnade.types import ListenerProtocol as L
from colonnade.types import MonitorType as M
from colonnade.types import PersistenceType
from colonnade.types import PoolProtocol as P

pytestmark = pytest.mark.any_database

POOLS_OF = {
    L.TCP: {P.TCP, P.HTTP, P.HTTPS, P.PROXY, P.PROXYV2},
    L.HTTP: {P.HTTP, P.PROXY, P.PROXYV2},
    L.HTTPS: {P.HTTPS, P.TCP, P.PROXY, P.PROXYV2},
    L.TERMINATED_HTTPS: {P.HTTP, P.PROXY, P.PROXYV2},
    L.UDP: {P.UDP},
    L.SCTP: {P.SCTP},
    L.PROMETHEUS: set(),
}
STREAMS = {M.HTTP, M.HTTPS, M.PING, M.TCP, M.TLS_HELLO}
DATAGRAMS = {M.UDP_CONNECT, M.SCTP, M.TCP, M.HTTP}


@pytest.mark.parametrize(("listener", "pool"), [(x, y) for x in L for y in P])
def test_listeners_take_pools_of_fitting_protocols(listener: L, pool: P) -> None:
    if pool in POOLS_OF[listener]:
        rules.listener_takes_pool(listener, pool)
        return
    with pytest.raises(Invalid) as refused:
        rules.listener_takes_pool(listener, pool)
    if listener is not L.PROMETHEUS:
        said = f"The pool protocol '{pool}' is invalid while the listener protocol is '{listener}'."
        assert said in refused.value.sentence


@pytest.mark.parametrize(("pool", "monitor"), [(x, y) for x in P for y in M])
def test_pools_take_monitors_of_fitting_types(pool: P, monitor: M) -> None:
    if monitor in (DATAGRAMS if pool in (P.UDP, P.SCTP) else STREAMS):
        rules.pool_takes_monitor(pool, monitor)
    else:
        with pytest.raises(Invalid):
            rules.pool_takes_monitor(pool, monitor)


@pytest.mark.parametrize(
    ("fields", "protocol", "fine"),
    [
        ({"type": "SOURCE_IP"}, P.HTTP, True),
        ({"type": "SOURCE_IP"}, P.UDP, True),
        ({"type": "HTTP_COOKIE"}, P.HTTP, True),
        ({"type": "HTTP_COOKIE"}, P.UDP, False),
        ({"type": "HTTP_COOKIE"}, P.TCP, False),
        ({"type": "APP_COOKIE", "cookie_name": "c"}, P.HTTPS, False),
        ({"type": "HTTP_COOKIE"}, P.PROXY, True),
        ({"type": "SOURCE_IP"}, P.TCP, True),
        ({"type": "HTTP_COOKIE", "cookie_name": "c"}, P.HTTP, False),
        ({"type": "SOURCE_IP", "cookie_name": "c"}, P.HTTP, False),
        ({"type": "APP_COOKIE"}, P.HTTP, False),
        ({"type": "APP_COOKIE", "cookie_name": "c"}, P.HTTP, True),
        ({"type": "SOURCE_IP", "persistence_timeout": 5}, P.HTTP, False),
        ({"type": "SOURCE_IP", "persistence_granularity": "255.255.0.0"}, P.HTTP, False),
        ({"type": "SOURCE_IP", "persistence_timeout": 5}, P.UDP, True),
        ({"type": "SOURCE_IP", "persistence_timeout": 0}, P.UDP, False),
        ({"type": "SOURCE_IP", "persistence_timeout": 5}, P.TCP, False),
        ({"type": "SOURCE_IP", "persistence_granularity": "255.255.255.0"}, P.SCTP, True),
        ({"type": "SOURCE_IP", "persistence_granularity": "ffff:ffff::"}, P.UDP, True),
        ({"type": "SOURCE_IP", "persistence_granularity": "255.0.255.0"}, P.UDP, False),
        ({"type": "SOURCE_IP", "persistence_granularity": "::ffff"}, P.UDP, False),
        ({"type": "APP_COOKIE", "cookie_name": "c"}, P.SCTP, False),
    ],
)
def test_session_persistence(fields: dict[str, Any], protocol: P, fine: bool) -> None:
    value = SessionPersistence(**{**fields, "type": PersistenceType(fields["type"])})
    if fine:
        rules.persistence(value, protocol)
    else:
        with pytest.raises(Invalid):
            rules.persistence(value, protocol)


@pytest.mark.parametrize("field", ["http_method", "url_path", "expected_codes", "http_version", "domain_name"])
@pytest.mark.parametrize("kind", list(M))
def test_http_fields_are_for_http_monitors(field: str, kind: M) -> None:
    monitor = HealthMonitor(
        id="i", project_id="p", loadbalancer_id="l", pool_id="p", type=kind, delay=1, timeout=1, max_retries=1,
        created_at=datetime(2026, 1, 1), http_version=1.1, domain_name="a.example",
    )  # fmt: skip
    if kind in (M.HTTP, M.HTTPS):
        rules.monitor(monitor, {field})
    else:
        with pytest.raises(Invalid):
            rules.monitor(monitor, {field})


@pytest.mark.parametrize(
    ("headers", "protocol", "error"),
    [
        ({}, L.TCP, None),
        ({"X-Forwarded-For": "true", "X-Forwarded-Port": "false", "X-Forwarded-Proto": "true"}, L.HTTP, None),
        ({"X-Forwarded-For": "true"}, L.TCP, Invalid),
        ({"X-Forwarded-For": "true"}, L.HTTPS, Invalid),
        ({"X-Forwarded-For": "yes"}, L.HTTP, Invalid),
        ({"X-Forwarded-For": "True", "X-Forwarded-Port": "FALSE"}, L.HTTP, None),
        ({"X-Else": "true"}, L.HTTP, Invalid),
        ({"X-SSL-Client-CN": "true"}, L.HTTP, Invalid),
        ({"X-SSL-Client-CN": "true", "X-Forwarded-For": "true"}, L.TERMINATED_HTTPS, None),
        ({"X-SSL-Client-Cn": "true"}, L.TERMINATED_HTTPS, Invalid),
        ({"X-Real-IP": "true", "X-Client-IP": "true", "X-Forwarded-IP": "false"}, L.HTTP, None),
        ({"X-Real-IP": "true"}, L.TCP, Invalid),
    ],
)
def test_inserted_headers(headers: dict[str, str], protocol: L, error: type[Exception] | None) -> None:
    if error is None:
        rules.headers(headers, protocol)
    else:
        with pytest.raises(error):
            rules.headers(headers, protocol)


@pytest.mark.parametrize(
    ("allowed", "vips", "fine"),
    [
        (None, ["10.0.0.1"], True),
        (["10.0.0.0/8"], ["10.0.0.1"], True),
        (["fd00::/8"], ["10.0.0.1"], False),
        (["10.0.0.0/8", "fd00::/8"], ["10.0.0.1"], False),
        (["10.0.0.0/8", "fd00::/8"], ["10.0.0.1", "fd00::1"], True),
    ],
)
def test_allowed_cidrs_are_of_the_vips_ip_version(allowed: list[str] | None, vips: list[str], fine: bool) -> None:
    if fine:
        rules.cidrs(allowed, vips)
    else:
        with pytest.raises(Invalid):
            rules.cidrs(allowed, vips)


def test_reserved_addresses_are_compared_as_addresses() -> None:
    with pytest.raises(Invalid):
        rules.member_address("fd00::1", ["fd00:0:0::1"])
    with pytest.raises(Invalid):
        rules.member_address("::ffff:169.254.169.254", ["169.254.169.254"])


@pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.9", "224.0.0.1", "::", "::1", "::ffff:127.0.0.1", "fe80::1"])
def test_a_member_has_the_address_of_a_host(address: str) -> None:
    with pytest.raises(Invalid):
        rules.member_address(address, [])


@pytest.mark.parametrize("address", ["10.0.0.1", "192.0.2.1", "fd00::1", "::ffff:10.0.0.1"])
def test_a_member_may_be_at_any_host(address: str) -> None:
    rules.member_address(address, [])


def test_ping_can_be_switched_off() -> None:
    rules.monitor_allowed(M.TCP, ping=False)
    with pytest.raises(Invalid):
        rules.monitor_allowed(M.PING, ping=False)


LISTENER = {"protocol": "HTTP", "protocol_port": 8081}
POOL = {"protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN"}
MEMBER = {"address": "10.9.9.9", "protocol_port": 80}
MONITOR = {"type": "TCP", "delay": 1, "timeout": 1, "max_retries": 1}

WRONG_LISTENERS: list[tuple[Any, int]] = [
    ({"protocol": None}, 400), ({"protocol": "FTP"}, 400), ({"protocol_port": None}, 400), ({"protocol_port": 0}, 400),
    ({"protocol_port": 65536}, 400), ({"protocol_port": True}, 400), ({"protocol_port": 80.5}, 400),
    ({"protocol_port": "9x"}, 400), ({"connection_limit": -2}, 400), ({"name": "x" * 256}, 400), ({"name": 7}, 400),
    ({"name": "a\x00b"}, 400), ({"name": "a\nb"}, 400), ({"description": "x" * 256}, 400),
    ({"admin_state_up": "perhaps"}, 400),
    ({"timeout_client_data": 2073600001}, 400),
    ({"timeout_tcp_inspect": -1}, 400),
    ({"tags": ["x" * 256]}, 400), ({"tags": "x"}, 400), ({"insert_headers": {"X-Forwarded-For": True}}, 400),
    ({"insert_headers": {"X-Other": "true"}}, 400), ({"insert_headers": ["X-Forwarded-For"]}, 400),
    ({"protocol": "TCP", "insert_headers": {"X-Forwarded-For": "true"}}, 400),
    ({"allowed_cidrs": ["10.0.0.0/99"]}, 400),
    ({"allowed_cidrs": ["fd00::/8"]}, 400), ({"unheard": 1}, 400), ({"provisioning_status": "ACTIVE"}, 400),
    ({"default_pool_id": nobody_has()}, 404), ({"default_pool_id": "x"}, 400), ({"loadbalancer_id": nobody_has()}, 404),
    ({"loadbalancer_id": "x"}, 400), ({"loadbalancer_id": None}, 400), ({"protocol_port": 80}, 409),
    ({"protocol": "TCP", "protocol_port": 80}, 409), ({"protocol": "UDP", "protocol_port": 80}, 201),
    ({"protocol": "SCTP"}, 201), ({"protocol": "UDP", "insert_headers": {"X-Forwarded-For": "true"}}, 400),
    ({"protocol": "UDP", "default_tls_container_ref": "x"}, 400),
    ({"protocol": "SCTP", "tls_versions": ["TLSv1.2"]}, 400),
    ({"protocol": "TERMINATED_HTTPS"}, 400), ({"protocol": "PROMETHEUS"}, 201),
    ({"protocol": "PROMETHEUS", "default_pool_id": "POOL"}, 400),
    ({"protocol": "PROMETHEUS", "insert_headers": {"X-Real-IP": "true"}}, 400),
    ({"protocol": "PROMETHEUS", "hsts_max_age": 1}, 400), ({"protocol": "PROMETHEUS", "connection_limit": 9}, 201),
    ({"tls_ciphers": "x"}, 400),
    ({"default_tls_container_ref": "x"}, 400), ({"sni_container_refs": ["x"]}, 400), ({"hsts_max_age": 1}, 400),
    ({"client_authentication": "MANDATORY"}, 400), ({"alpn_protocols": ["h2"]}, 400), ({"l7policies": [{}]}, 501),
    ({"insert_headers": {"X-Real-IP": "maybe"}}, 400), ({"default_pool": {}}, 400), ({"protocol": "HTTPS"}, 201),
    ({"hsts_preload": False, "tls_versions": None, "sni_container_refs": []}, 201), ({"protocol_port": "8082"}, 201),
    ({"admin_state_up": "yes", "project_id": "ignored", "name": None}, 201),
]  # fmt: skip

WRONG_POOLS: list[tuple[Any, int]] = [
    ({"protocol": None}, 400), ({"protocol": "TERMINATED_HTTPS"}, 400), ({"lb_algorithm": None}, 400),
    ({"lb_algorithm": "BEST"}, 400), ({"loadbalancer_id": None}, 400), ({"loadbalancer_id": nobody_has()}, 404),
    ({"listener_id": nobody_has()}, 404), ({"listener_id": "LISTENER"}, 409), ({"session_persistence": {}}, 400),
    ({"session_persistence": {"type": "APP_COOKIE"}}, 400), ({"session_persistence": {"type": "X"}}, 400),
    ({"session_persistence": {"type": "APP_COOKIE", "cookie_name": "a b"}}, 400),
    ({"session_persistence": {"type": "SOURCE_IP", "persistence_timeout": 3}}, 400),
    ({"session_persistence": {"type": "SOURCE_IP", "other": 3}}, 400),
    ({"members": []}, 400),
    ({"healthmonitor": {}}, 400),
    ({"protocol": "UDP"}, 201), ({"protocol": "SCTP"}, 201), ({"lb_algorithm": "SOURCE_IP_PORT"}, 201),
    ({"protocol": "UDP", "tls_enabled": True}, 400),
    ({"tls_enabled": True}, 201), ({"ca_tls_container_ref": "x"}, 400), ({"tls_enabled": False}, 201),
    ({"session_persistence": {"type": "APP_COOKIE", "cookie_name": "JSESSIONID"}}, 201),
]  # fmt: skip

WRONG_MEMBERS: list[tuple[Any, int]] = [
    ({"address": None}, 400), ({"address": "host.example"}, 400), ({"address": "10.0.0.256"}, 400),
    ({"address": "fe80::1%eth0"}, 400), ({"address": "169.254.169.254"}, 400), ({"protocol_port": None}, 400),
    ({"protocol_port": 70000}, 400), ({"weight": 257}, 400), ({"weight": -1}, 400), ({"monitor_port": 0}, 400),
    ({"monitor_address": "x"}, 400),
    ({"subnet_id": nobody_has()}, 400),
    ({"subnet_id": "x"}, 400),
    ({"backup": 5}, 400),
    ({"address": "10.2.0.1", "protocol_port": 8080}, 409),
    ({"request_sriov": True}, 400),
    ({"vnic_type": "direct"}, 400),
    ({"request_sriov": False, "weight": 0, "backup": "true"}, 201), ({"address": "FD00::0:1"}, 201),
]  # fmt: skip

WRONG_MONITORS: list[tuple[Any, int]] = [
    ({"type": None}, 400),
    ({"type": "ICMP"}, 400),
    ({"delay": None}, 400),
    ({"delay": -1}, 400),
    ({"timeout": -1}, 400),
    ({"max_retries": 0}, 400), ({"max_retries": 11}, 400), ({"max_retries_down": 11}, 400), ({"url_path": "/x"}, 400),
    ({"type": "HTTP", "url_path": "x"}, 400), ({"type": "HTTP", "url_path": "/a b"}, 400),
    ({"type": "HTTP", "expected_codes": "200,\n204"}, 400), ({"type": "HTTP", "expected_codes": "\uff12" * 3}, 400),
    ({"type": "HTTP", "expected_codes": "20"}, 400), ({"type": "HTTP", "http_method": "BREW"}, 400),
    ({"type": "HTTP", "http_version": 2.0}, 400), ({"type": "HTTP", "domain_name": "a.b"}, 400),
    ({"type": "HTTP", "expected_codes": "204-200"}, 400), ({"type": "HTTP", "expected_codes": "200-200"}, 201),
    ({"type": "HTTP", "http_version": 1.0, "domain_name": "a.b"}, 400), ({"type": "UDP-CONNECT"}, 400),
    ({"type": "SCTP"}, 400), ({"pool_id": nobody_has()}, 404), ({"pool_id": None}, 400), ({}, 201),
    ({"type": "HTTP", "http_version": "1.1", "domain_name": "a.b"}, 201),
    ({"type": "HTTP", "domain_name": "-", "http_version": 1.1}, 400),
    ({"type": "PING"}, 201), ({"type": "TLS-HELLO"}, 201), ({"type": "HTTPS", "expected_codes": "200-204"}, 201),
]  # fmt: skip


@pytest.fixture
def made(service: Service) -> Service:
    """One load balancer with a bit of everything."""
    service.lb = service.load_balancer()  # type: ignore[attr-defined]
    service.a_pool = service.pool(service.lb)  # type: ignore[attr-defined]
    service.a_listener = service.listener(service.lb, default_pool_id=service.a_pool["id"])  # type: ignore[attr-defined]
    service.member(service.a_pool)  # type: ignore[attr-defined]
    service.monitor(service.a_pool)  # type: ignore[attr-defined]
    return service


def _check(service: Service, path: str, root: str, body: dict[str, Any], expect: int) -> None:
    before = service.get("loadbalancers")
    reply = service.post(path, {root: body}, expect=expect)
    if expect != 201:
        assert reply["faultstring"]
        assert service.get("loadbalancers") == before


@pytest.mark.parametrize(("fields", "expect"), WRONG_LISTENERS, ids=str)
def test_listener_creation(made: Any, fields: dict[str, Any], expect: int) -> None:
    _check(made, "listeners", "listener", {"loadbalancer_id": made.lb["id"], **LISTENER, **fields}, expect)


@pytest.mark.parametrize(("fields", "expect"), WRONG_POOLS, ids=str)
def test_pool_creation(made: Any, fields: dict[str, Any], expect: int) -> None:
    if fields.get("listener_id") == "LISTENER":
        fields = {"listener_id": made.a_listener["id"]}
    _check(made, "pools", "pool", {"loadbalancer_id": made.lb["id"], **POOL, **fields}, expect)


@pytest.mark.parametrize(("fields", "expect"), WRONG_MEMBERS, ids=str)
def test_member_creation(made: Any, fields: dict[str, Any], expect: int) -> None:
    _check(made, f"pools/{made.a_pool['id']}/members", "member", {**MEMBER, **fields}, expect)


@pytest.mark.parametrize(("fields", "expect"), WRONG_MONITORS, ids=str)
def test_health_monitor_creation(made: Any, fields: dict[str, Any], expect: int) -> None:
    pool = made.pool(made.lb)
    _check(made, "healthmonitors", "healthmonitor", {"pool_id": pool["id"], **MONITOR, **fields}, expect)


def test_monitors_of_any_type_may_be_rid_of_what_they_have_not(made: Any) -> None:
    """``openstack loadbalancer healthmonitor unset --domain-name --http-version``."""
    monitor = made.monitor(made.pool(made.lb), type="TCP")
    path = f"healthmonitors/{monitor['id']}"
    changed = made.put(path, {"healthmonitor": {"http_version": None, "domain_name": None}})["healthmonitor"]
    assert (changed["http_version"], changed["domain_name"]) == (None, None)
    made.put(path, {"healthmonitor": {"http_version": 1.1}}, expect=400)
    made.put(path, {"healthmonitor": {"url_path": None}}, expect=400)


def test_a_pool_has_one_monitor(made: Any) -> None:
    _check(made, "healthmonitors", "healthmonitor", {"pool_id": made.a_pool["id"], **MONITOR}, 409)


def test_a_listener_takes_no_pool_of_a_wrong_protocol(made: Any) -> None:
    pool = made.pool(made.lb, protocol="HTTPS")
    body = {"loadbalancer_id": made.lb["id"], **LISTENER, "default_pool_id": pool["id"]}
    _check(made, "listeners", "listener", body, 400)
    free = made.listener(made.lb, protocol_port=81)
    body = {"listener_id": free["id"], "protocol": "HTTPS", "lb_algorithm": "ROUND_ROBIN"}
    _check(made, "pools", "pool", body, 400)
    made.put(f"listeners/{free['id']}", {"listener": {"default_pool_id": pool["id"]}}, expect=400)


def test_a_listener_takes_no_pool_of_another_load_balancer(made: Any) -> None:
    other = made.pool(made.load_balancer())
    body = {"loadbalancer_id": made.lb["id"], **LISTENER, "default_pool_id": other["id"]}
    _check(made, "listeners", "listener", body, 404)


def test_what_is_on_its_way_out_does_not_count(made: Any) -> None:
    made.delete(f"listeners/{made.a_listener['id']}")
    made.listener(made.lb)
    made.delete(f"pools/{made.a_pool['id']}")
    refused = made.post(f"pools/{made.a_pool['id']}/members", {"member": MEMBER}, expect=409)
    assert refused["faultstring"] == f"Pool {made.a_pool['id']} is immutable and cannot be updated."
    made.put(f"listeners/{made.a_listener['id']}", {"listener": {"name": "x"}}, expect=409)


CHANGES: list[tuple[str, Any, int]] = [
    ("listeners", {"protocol_port": 81}, 400), ("listeners", {"protocol": "TCP"}, 400),
    ("listeners", {"loadbalancer_id": nobody_has()}, 400), ("listeners", {"connection_limit": -5}, 400),
    ("listeners", {"default_pool_id": nobody_has()}, 404), ("listeners", {"allowed_cidrs": ["fd00::/8"]}, 400),
    ("listeners", {"tls_ciphers": "x"}, 400), ("listeners", {}, 200), ("pools", {"protocol": "TCP"}, 400),
    ("pools", {"lb_algorithm": None}, 400), ("pools", {"lb_algorithm": "SOURCE_IP_PORT"}, 200),
    ("pools", {"session_persistence": {}}, 400), ("pools", {"session_persistence": {"cookie_name": "x"}}, 400),
    ("pools", {"session_persistence": {"type": "APP_COOKIE"}}, 400), ("pools", {"members": []}, 400),
    ("healthmonitors", {"delay": None}, 400), ("healthmonitors", {"timeout": None}, 400),
    ("healthmonitors", {"max_retries": None}, 400), ("healthmonitors", {"type": "TCP"}, 400),
    ("healthmonitors", {"domain_name": "a.b"}, 400), ("healthmonitors", {"pool_id": nobody_has()}, 400),
    ("loadbalancers", {"vip_address": "10.1.0.9"}, 400), ("loadbalancers", {"provider": "x"}, 400),
    ("loadbalancers", {"vip_sg_ids": [nobody_has()]}, 400), ("loadbalancers", {"vip_sg_ids": None}, 200),
    ("loadbalancers", {"vip_qos_policy_id": nobody_has()}, 400), ("loadbalancers", {"flavor_id": None}, 400),
    ("loadbalancers", {"tags": None}, 200), ("loadbalancers", {}, 200),
]  # fmt: skip


@pytest.mark.parametrize(("plural", "fields", "expect"), CHANGES, ids=str)
def test_changes(made: Any, plural: str, fields: dict[str, Any], expect: int) -> None:
    its_id = made.get(plural)[plural][0]["id"]
    made.put(f"{plural}/{its_id}", {plural[:-1]: fields}, expect=expect)


VIPS: list[tuple[Any, int]] = [
    ({}, 400), ({"vip_subnet_id": nobody_has()}, 400), ({"vip_network_id": nobody_has()}, 400),
    ({"vip_port_id": nobody_has()}, 400), ({"vip_subnet_id": "x"}, 400), ({"vip_subnet_id": "SUBNET"}, 201),
    ({"vip_subnet_id": "SUBNET", "vip_address": "10.1.0.77"}, 201),
    ({"vip_subnet_id": "SUBNET", "vip_address": "10.9.0.1"}, 400),
    ({"vip_subnet_id": "SUBNET", "vip_address": "x"}, 400), ({"vip_network_id": "NETWORK"}, 201),
    ({"vip_network_id": "NETWORK", "vip_address": "10.1.0.78"}, 201),
    ({"vip_network_id": "NETWORK", "vip_address": "10.9.0.1"}, 400),
    ({"vip_network_id": "NETWORK", "vip_subnet_id": "SUBNET"}, 201),
    ({"vip_network_id": "NETWORK", "vip_subnet_id": nobody_has()}, 400),
    ({"vip_subnet_id": "SUBNET", "vip_address": "TAKEN"}, 409), ({"vip_subnet_id": "FOREIGN"}, 400),
    ({"vip_subnet_id": "SUBNET", "provider": "other"}, 400), ({"vip_subnet_id": "SUBNET", "provider": "octavia"}, 201),
    ({"vip_subnet_id": "SUBNET", "flavor_id": nobody_has()}, 400),
    ({"vip_subnet_id": "SUBNET", "availability_zone": "x"}, 400),
    ({"vip_subnet_id": "SUBNET", "additional_vips": [{}]}, 400),
    ({"vip_subnet_id": "SUBNET", "vip_vnic_type": "normal"}, 400),
    ({"vip_subnet_id": "SUBNET", "project_id": "bob-project"}, 403),
    ({"vip_subnet_id": "SUBNET", "project_id": "x" * 37}, 400),
    ({"vip_subnet_id": "SUBNET", "tenant_id": "alice-project"}, 201),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "expect"), VIPS, ids=str)
def test_load_balancer_creation(service: Service, fields: dict[str, Any], expect: int) -> None:
    taken = service.load_balancer()["vip_address"]
    foreign = service.cloud.add_subnet("10.3.0.0/24", project_id="bob-project")
    words = {"SUBNET": service.subnet.id, "NETWORK": service.subnet.network_id, "TAKEN": taken, "FOREIGN": foreign.id}
    ports = len(service.cloud.ports)
    body = {k: words.get(v, v) if isinstance(v, str) else v for k, v in fields.items()}
    service.post("loadbalancers", {"loadbalancer": body}, expect=expect)
    assert len(service.cloud.ports) == ports + (expect == 201)


def test_a_named_port_becomes_the_vip_once(service: Service) -> None:
    port = service.cloud.ensure_vip(nobody_has("7"), "alice-project", service.subnet, "10.1.0.50")
    service.cloud.ports[port.id] = dataclasses.replace(port, device_id="")
    lb = service.load_balancer(vip_port_id=port.id, vip_subnet_id=None)
    assert (lb["vip_address"], lb["vip_network_id"], lb["vip_subnet_id"]) == (
        "10.1.0.50", service.subnet.network_id, service.subnet.id,
    )  # fmt: skip
    body = {"loadbalancer": {"vip_port_id": port.id}}
    refused = service.post("loadbalancers", body, expect=400)
    assert f"already used by device lb-{lb['id']}" in refused["faultstring"]


def test_a_failed_creation_leaves_no_port(service: Service) -> None:
    ports = len(service.cloud.ports)
    listeners = [{"protocol": "HTTP", "protocol_port": 80}, {"protocol": "TCP", "protocol_port": 80}]
    body = {"vip_subnet_id": service.subnet.id, "listeners": listeners}
    service.post("loadbalancers", {"loadbalancer": body}, expect=409)
    assert len(service.cloud.ports) == ports
    assert service.get("loadbalancers")["loadbalancers"] == []


@pytest.mark.parametrize("pool", ["PROXY", "PROXYV2", "HTTP"])
@pytest.mark.parametrize("keep", [{"type": "HTTP_COOKIE"}, {"type": "APP_COOKIE", "cookie_name": "c"}], ids=str)
def test_a_listener_that_reads_no_cookies_refuses_pools_that_need_them(
    service: Service, pool: str, keep: dict[str, str]
) -> None:
    """Wherever the two meet; where cookies are read, and with the client's address, all is well."""
    lb = service.load_balancer()
    base = {"protocol": pool, "lb_algorithm": "ROUND_ROBIN", "loadbalancer_id": lb["id"]}
    tcp = service.listener(lb, protocol="TCP", protocol_port=1)
    wanted = {**base, "session_persistence": keep, "listener_id": tcp["id"]}
    assert "cannot read cookies" in service.post("pools", {"pool": wanted}, expect=400)["faultstring"]
    made = service.post("pools", {"pool": {**base, "session_persistence": keep}})["pool"]
    for listener, expect in (("TCP", 400), ("HTTP", 201)):
        body = {"protocol": listener, "protocol_port": 2, "loadbalancer_id": lb["id"], "default_pool_id": made["id"]}
        service.post("listeners", {"listener": body}, expect=expect)
    service.put(f"listeners/{tcp['id']}", {"listener": {"default_pool_id": made["id"]}}, expect=400)
    other = service.post("pools", {"pool": {**wanted, "session_persistence": {"type": "SOURCE_IP"}}})["pool"]
    service.put(f"pools/{other['id']}", {"pool": {"session_persistence": keep}}, expect=400)

"""UDP and SCTP through the API: what fits together, what is stored, what is refused."""

from dataclasses import replace
from typing import Any

import pytest
from lb_service import Service

from colonnade.api import rules
from colonnade.errors import Invalid
from colonnade.model import HealthMonitor
from colonnade.types import MonitorType

MEMBER = {"address": "10.9.9.9", "protocol_port": 80}
MONITOR = {"type": "TCP", "delay": 1, "timeout": 1, "max_retries": 1}


@pytest.fixture
def made(service: Service) -> Any:
    service.lb = service.load_balancer()  # type: ignore[attr-defined]
    return service


@pytest.mark.parametrize("protocol", ["UDP", "SCTP"])
def test_a_listener_a_pool_and_all_that_belongs_to_it(made: Any, protocol: str) -> None:
    stuck = {"type": "SOURCE_IP", "persistence_timeout": 30, "persistence_granularity": "255.255.255.0"}
    pool = made.pool(made.lb, protocol=protocol, session_persistence=stuck)
    assert pool["session_persistence"] == {**stuck, "cookie_name": None}
    listener = made.listener(made.lb, protocol=protocol, default_pool_id=pool["id"])
    assert (listener["protocol"], listener["insert_headers"], listener["tls_versions"]) == (protocol, {}, None)
    made.member(pool, weight=0, backup=True)
    body = {"pool_id": pool["id"], **MONITOR, "type": "HTTP"}
    monitor = made.post("healthmonitors", {"healthmonitor": body})["healthmonitor"]
    assert (monitor["http_method"], monitor["url_path"], monitor["expected_codes"]) == ("GET", "/", "200")
    wrong = {"protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "listener_id": listener["id"]}
    made.post("pools", {"pool": wrong}, expect=400)


def test_a_port_is_taken_within_its_own_protocol_only(made: Any) -> None:
    for protocol in ("TCP", "UDP", "SCTP"):
        made.listener(made.lb, protocol=protocol, protocol_port=53)
    for protocol in ("HTTP", "UDP", "SCTP"):
        body = {"loadbalancer_id": made.lb["id"], "protocol": protocol, "protocol_port": 53}
        made.post("listeners", {"listener": body}, expect=409)


@pytest.mark.parametrize(
    ("kind", "delay", "expect"),
    [("UDP-CONNECT", 3, 201), ("UDP-CONNECT", 2, 400), ("SCTP", 1, 201), ("TCP", 1, 201), ("HTTP", 1, 201),
     ("PING", 5, 400), ("HTTPS", 5, 400), ("TLS-HELLO", 5, 400)],
)  # fmt: skip
def test_monitors_of_udp_pools(made: Any, kind: str, delay: int, expect: int) -> None:
    pool = made.pool(made.lb, protocol="UDP")
    body = {"pool_id": pool["id"], **MONITOR, "type": kind, "delay": delay}
    made.post("healthmonitors", {"healthmonitor": body}, expect=expect)


def test_a_monitor_may_not_become_too_frequent(made: Any) -> None:
    pool = made.pool(made.lb, protocol="UDP")
    body = {"pool_id": pool["id"], **MONITOR, "type": "UDP-CONNECT", "delay": 5}
    monitor = made.post("healthmonitors", {"healthmonitor": body})["healthmonitor"]
    path = f"healthmonitors/{monitor['id']}"
    refused = made.put(path, {"healthmonitor": {"delay": 1}}, expect=400)
    assert "delay value 1" in refused["faultstring"]
    made.put(path, {"healthmonitor": {"delay": 3}})


def test_the_operator_may_allow_any_interval(made: Any) -> None:
    monitor = HealthMonitor(
        id="i", project_id="p", loadbalancer_id="l", pool_id="p", type=MonitorType.UDP_CONNECT, delay=1, timeout=1,
        max_retries=1, created_at=None,  # type: ignore[arg-type]
    )  # fmt: skip
    rules.monitor_interval(monitor, -1)
    rules.monitor_interval(replace(monitor, type=MonitorType.TCP), 3)
    with pytest.raises(Invalid):
        rules.monitor_interval(monitor, 3)


def test_udp_crosses_ip_versions_and_sctp_does_not(made: Any) -> None:
    for protocol, expect in (("UDP", 201), ("SCTP", 501)):
        pool = made.pool(made.lb, protocol=protocol)
        member = {**MEMBER, "address": "fd00::5"}
        refused = made.post(f"pools/{pool['id']}/members", {"member": member}, expect=expect)
    assert "another IP version" in refused["faultstring"]


@pytest.mark.parametrize("fields", [{"persistence_timeout": 0}, {"persistence_granularity": "255.0.255.0"}], ids=str)
def test_persistence_is_checked_when_it_is_changed(made: Any, fields: dict[str, Any]) -> None:
    pool = made.pool(made.lb, protocol="UDP", session_persistence={"type": "SOURCE_IP"})
    made.put(f"pools/{pool['id']}", {"pool": {"session_persistence": fields}}, expect=400)

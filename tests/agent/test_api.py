"""The agent's API takes nothing for granted."""

import http.client
import json
import os
import socket
import stat
from typing import Any

import pytest
from rig import KEY, Rig, config, get, new_id

from colonnade import wire
from colonnade.drivers.agent import HostAgent, _UnixConnection
from colonnade.errors import Later


def send(rig: Rig, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    connection = _UnixConnection(rig.url)
    connection.request(method, path, raw)
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    return answer.status, json.loads(data) if data else None


def test_the_socket_is_for_root_and_the_group_only(rig: Rig) -> None:
    found = os.stat(rig.here.socket)
    assert stat.S_IMODE(found.st_mode) == 0o660
    assert found.st_uid == 0
    assert stat.S_IMODE(os.stat(rig.here.disk).st_mode) == 0o700


def test_the_index_names_all_amphorae(rig: Rig) -> None:
    amphora = rig.amphora()
    status, data = send(rig, "GET", "/v1")
    assert (status, data["version"], data["amphorae"]) == (200, 1, [amphora])


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/", None, 404),
        ("GET", "/v1/nothing", None, 404),
        ("POST", "/v1", {}, 405),
        ("GET", f"/v1/amphorae/{new_id()}", None, 404),
        ("GET", "/v1/amphorae/..%2f..", None, 404),
        ("GET", "/v1/amphorae/..", None, 422),
        ("PUT", f"/v1/amphorae/{new_id().upper()}", {"heartbeat_key": KEY}, 422),
        ("PUT", f"/v1/amphorae/{new_id()}", {}, 422),
        ("PUT", f"/v1/amphorae/{new_id()}", {"heartbeat_key": "zz" * 32}, 422),
        ("PUT", f"/v1/amphorae/{new_id()}", b"[" * 100_000, 422),
        ("PUT", f"/v1/amphorae/{new_id()}", b"\xff\xfe", 422),
        ("PUT", f"/v1/amphorae/{new_id()}", b"", 422),
        ("PUT", "/v1/fabric", [], 422),
        ("PUT", "/v1/fabric", {"networks": [{"id": 1}], "floating_ips": {}}, 422),
        ("PUT", "/v1/fabric", {"networks": [], "floating_ips": {"10.0.0.1": "::1"}}, 422),
        ("PUT", "/v1/fabric", {"networks": [], "floating_ips": {"10.0.0.1; flush ruleset": "10.0.0.2"}}, 422),
    ],
)
def test_nonsense_is_refused_with_a_sentence(rig: Rig, method: str, path: str, body: Any, status: int) -> None:
    got, data = send(rig, method, path, body)
    assert got == status
    assert data["error"].endswith(".")
    assert data["help"]


def test_a_body_that_is_too_large_is_refused(rig: Rig) -> None:
    connection = _UnixConnection(rig.url)
    connection.putrequest("PUT", f"/v1/amphorae/{new_id()}")
    connection.putheader("Content-Length", str(1 << 40))
    connection.endheaders()
    assert connection.getresponse().status == 413


HOSTILE: list[dict[str, Any]] = [
    {"files": {"../../etc/passwd": "x"}},
    {"files": {"a/b": "x"}},
    {"files": {".hidden": "x"}},
    {"files": {"": "x"}},
    {"files": {"a": "x\0"}},
    {"files": {"a": "\ud800"}},
    {"files": {"a": 5}},
    {"files": ["haproxy.cfg"]},
    {"amphora_id": "11111111-2222-3333-4444-555555555555"},
    {"loadbalancer_id": "../x"},
    {"serving": "yes"},
    {"heartbeat_interval": 0},
    {"heartbeat_interval": True},
    {"heartbeat_interval": float("nan")},
    {"heartbeat_targets": ["localhost:5555"]},
    {"heartbeat_targets": ["127.0.0.1:99999"]},
    {"heartbeat_targets": [7]},
    {"surprise": 1},
    {"interfaces": [{"port_id": "x"}]},
    {"interfaces": None},
]


@pytest.mark.parametrize("change", HOSTILE, ids=str)
def test_a_hostile_bundle_is_refused(rig: Rig, change: dict[str, Any]) -> None:
    amphora = rig.amphora()
    body = {**wire.to_json(rig.bundle(amphora, rig.address(), None)), **change}
    assert send(rig, "PUT", f"/v1/amphorae/{amphora}/bundle", body)[0] == 422
    assert send(rig, "GET", f"/v1/amphorae/{amphora}")[1]["digest"] is None


@pytest.mark.parametrize(
    "change",
    [
        {"mac": "ff:ff:ff:ff:ff:ff"},
        {"mac": "01:00:00:00:00:01"},
        {"mac": "x"},
        {"mtu": 0},
        {"mtu": "1500"},
        {"addresses": ["10.0.0.1"]},
        {"addresses": ["10.0.0.1/33"]},
        {"addresses": "10.0.0.1/24"},
        {"vips": ["fe80::1%eth0/64"]},
        {"gateways": ["10.0.0.1", "10.0.0.2"]},
        {"port_id": "eth0; reboot"},
        {"network_id": ".."},
    ],
    ids=str,
)
def test_a_hostile_interface_is_refused(rig: Rig, change: dict[str, Any]) -> None:
    amphora = rig.amphora()
    body = wire.to_json(rig.bundle(amphora, rig.address(), None))
    body["interfaces"][0].update(change)
    assert send(rig, "PUT", f"/v1/amphorae/{amphora}/bundle", body)[0] == 422


def test_many_at_once_do_not_wait_for_one_that_is_slow(rig: Rig) -> None:
    """One caller stalls in the middle of its request; others are answered."""
    with socket.socket(socket.AF_UNIX) as stalled:
        stalled.connect(str(rig.here.socket))
        stalled.sendall(b"PUT /v1/fabric HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
        vip = rig.address()
        rig.push(rig.bundle(rig.amphora(), vip, config(vip, servers={"m1": f"{rig.net}.0.10:80"})))
        assert get(vip) == "m1"


def test_an_agent_that_is_away_is_a_matter_of_time(tmp_path: Any) -> None:
    client = HostAgent(f"unix://{tmp_path}/agent.sock")
    with pytest.raises(Later, match="does not answer"):
        client.names()


def test_a_connection_that_went_stale_is_made_again(rig: Rig) -> None:
    client = HostAgent(rig.url)
    client.names()
    rig.stop()
    with pytest.raises(Later):
        client.names()
    rig.start()
    assert client.names() == []


def test_a_socket_path_may_be_long(tmp_path: Any) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    from colonnade.agent.app import _listen

    with _listen(deep / "agent.sock", "root") as listening:
        listening.settimeout(0)
        connection = _UnixConnection(f"unix://{deep}/agent.sock")
        connection.connect()
        connection.close()
        assert isinstance(connection, http.client.HTTPConnection)

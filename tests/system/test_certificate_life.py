"""A certificate's life through the whole of a stand-alone installation: stored, served, replaced, lost."""

import base64
import http.client
import json
import socket
import ssl
from collections.abc import Callable
from typing import Any

import pytest
from standalone import Api, Standalone, WebServer
from support import eventually

from tests import pki

pytestmark = [pytest.mark.system, pytest.mark.root]

CA = pki.authority()


def keys(standalone: Standalone, method: str, url: str, data: bytes | None = None, kind: str = "application/json",
         expect: tuple[int, ...] = (200, 201, 204)) -> Any:  # fmt: skip
    """One request to the key manager as whoever needs no token: the admin."""
    connection = http.client.HTTPConnection("127.0.0.1", standalone.port, timeout=30)
    path = url.partition(f":{standalone.port}")[2]
    try:
        connection.request(method, path, data, {"Content-Type": kind, "Accept": "application/json"})
        answer = connection.getresponse()
        status, body = answer.status, answer.read()
    finally:
        connection.close()
    assert status in expect, body
    return json.loads(body) if body else None


def secret(standalone: Standalone, payload: bytes) -> str:
    body = {
        "name": "tls", "payload": base64.b64encode(payload).decode(),
        "payload_content_type": "application/octet-stream", "payload_content_encoding": "base64",
    }  # fmt: skip
    url = f"http://127.0.0.1:{standalone.port}/key-manager/v1/secrets"
    ref: str = keys(standalone, "POST", url, json.dumps(body).encode())["secret_ref"]
    return ref


def served(vip: str) -> str:
    """The common name that a client sees on port 443."""
    how = ssl.create_default_context(cadata=CA.pem.decode())
    how.check_hostname = False
    with socket.create_connection((vip, 443), 10) as raw, how.wrap_socket(raw, server_hostname="www.test") as wrapped:
        peer: Any = wrapped.getpeercert()
        return str(dict(x[0] for x in peer["subject"])["commonName"])


def test_a_certificate_is_stored_served_replaced_and_lost(
    standalone: Standalone, api: Api, web: Callable[[str], WebServer]
) -> None:
    lb = api.until_active(api.create("tls", [web("one").member()])["id"])
    (pool,) = api.get(f"lbaas/pools?loadbalancer_id={lb['id']}")
    ref = secret(standalone, CA.issue("first", "www.test").p12())
    listener = {
        "loadbalancer_id": lb["id"], "protocol": "TERMINATED_HTTPS", "protocol_port": 443,
        "default_tls_container_ref": ref, "default_pool_id": pool["id"],
    }  # fmt: skip
    made = api.post("lbaas/listeners", {"listener": listener})
    api.until_active(lb["id"])
    pid = standalone.haproxy_of(lb["id"])
    assert eventually(lambda: served(lb["vip_address"])) == "first"

    stranger = standalone.demo_user()  # to whom another project's secret is as good as none
    theirs = stranger.until_active(stranger.create("theirs", [])["id"])
    refused = stranger.ask("POST", "lbaas/listeners", {"listener": {
        "loadbalancer_id": theirs["id"], "protocol": "TERMINATED_HTTPS", "protocol_port": 443,
        "default_tls_container_ref": ref,
    }})  # fmt: skip
    assert (refused.status, "Could not retrieve certificate" in refused.body["faultstring"]) == (400, True)
    with pytest.raises(OSError, match=r"refused|timed out"):
        served(theirs["vip_address"])

    keys(standalone, "PUT", ref, CA.issue("second", "www.test").p12(), "application/octet-stream")
    assert eventually(lambda: served(lb["vip_address"]) == "second")
    assert standalone.haproxy_of(lb["id"]) == pid

    keys(standalone, "DELETE", ref, expect=(409,))
    keys(standalone, "DELETE", f"{ref}?force=1")
    shown = eventually(lambda: (x := api.get(f"lbaas/listeners/{made['id']}"))["provisioning_status"] == "ERROR" and x)
    assert shown
    assert "does not exist any more" in shown["reason"]
    assert served(lb["vip_address"]) == "second"

    other = secret(standalone, CA.issue("third", "www.test").p12())
    api.put(f"lbaas/listeners/{made['id']}", {"listener": {"default_tls_container_ref": other}})
    assert eventually(lambda: api.get(f"lbaas/listeners/{made['id']}")["provisioning_status"] == "ACTIVE")
    assert served(lb["vip_address"]) == "third"
    assert standalone.haproxy_of(lb["id"]) == pid
    assert "PRIVATE" not in standalone.logs()

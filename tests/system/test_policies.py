"""L7 policies through the whole installation: asked for by the API, seen on the wire."""

import http.client
from collections.abc import Callable

import pytest
from standalone import Api, WebServer
from support import eventually

pytestmark = [pytest.mark.system, pytest.mark.root]


def _ask(vip: str, path: str, **headers: str) -> tuple[int, str]:
    """Status, and the body or the place that is redirected to."""
    connection = http.client.HTTPConnection(vip, 80, timeout=5)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        body = answer.read().decode()
        return answer.status, answer.getheader("Location") or body
    finally:
        connection.close()


def test_policies_decide_from_creation_to_deletion(api: Api, web: Callable[[str], WebServer]) -> None:
    one, two = web("one"), web("two")
    pools = {n: {"name": n, "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": [m]} for n, m in
             (("p1", one.member()), ("p2", two.member()))}  # fmt: skip
    to_two = {
        "action": "REDIRECT_TO_POOL", "redirect_pool": pools["p2"],
        "rules": [{"type": "PATH", "compare_type": "STARTS_WITH", "value": "/two"}],
    }  # fmt: skip
    listener = {"protocol": "HTTP", "protocol_port": 80, "default_pool": pools["p1"], "l7policies": [to_two]}
    body = {"name": "l7", "vip_subnet_id": api.subnet(), "listeners": [listener]}
    lb = api.post("lbaas/loadbalancers", {"loadbalancer": body})
    vip, (listener,) = lb["vip_address"], lb["listeners"]
    api.until_active(lb["id"])
    assert eventually(lambda: _ask(vip, "/")) == (200, "one")
    assert _ask(vip, "/two") == (200, "two")
    new = {"listener_id": listener["id"], "action": "REDIRECT_PREFIX", "redirect_prefix": "http://new", "position": 1}
    policy = api.post("lbaas/l7policies", {"l7policy": new})
    rule = {"type": "HEADER", "key": "X-Move", "compare_type": "EQUAL_TO", "value": "yes"}
    api.post(f"lbaas/l7policies/{policy['id']}/rules", {"rule": rule})
    api.until_active(lb["id"])
    assert _ask(vip, "/two?x=1", **{"X-Move": "yes"}) == (302, "http://new/two?x=1")
    assert _ask(vip, "/two") == (200, "two")
    shown = api.get(f"lbaas/l7policies/{policy['id']}")
    assert (shown["provisioning_status"], shown["operating_status"]) == ("ACTIVE", "ONLINE")
    for its_id in (v["id"] for v in api.get(f"lbaas/listeners/{listener['id']}")["l7policies"]):
        api.delete(f"lbaas/l7policies/{its_id}")
    api.until_active(lb["id"])
    assert _ask(vip, "/two", **{"X-Move": "yes"}) == (200, "one")

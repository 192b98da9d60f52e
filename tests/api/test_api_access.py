"""Who may do what: tokens, roles, projects."""

from typing import Any

from lb_service import Service, Ticking, nobody_has

from colonnade.api import access
from colonnade.model import Caller
from colonnade.settings import Settings


def test_no_token_is_401(service: Service) -> None:
    for token in (None, "wrong", "notused"):
        reply = service.send("GET", "loadbalancers", by=token)
        assert reply.status_code == 401
        assert reply.json["error"]["code"] == 401
        assert reply.headers["www-authenticate"].startswith("Keystone")


def test_noauth_takes_requests_without_a_token_on_loopback_only(service: Service) -> None:
    service.reset(auth_strategy="noauth")

    def status(token: str | None, peer: str, host: str = "localhost", **headers: str) -> Any:
        reply = service.send("GET", "loadbalancers", by=token, remote_addr=peer, host=host, headers=headers)
        return reply.status_code

    for token in (None, "notused"):
        assert status(token, "127.0.0.1") == 200
        assert status(token, "::1") == 200
        assert status(token, "10.0.0.5") == 401
        assert status(token, "127.0.0.1", "evil.example") == 401
        assert status(token, "127.0.0.1", Origin="https://evil.example") == 401
    assert status("wrong", "127.0.0.1") == 401


def _everything(service: Service) -> list[tuple[str, str, Any]]:
    lb = service.load_balancer()
    pool = service.pool(lb)
    listener = service.listener(lb, default_pool_id=pool["id"])
    member, monitor = service.member(pool), service.monitor(pool)
    policy = service.policy(listener)
    rule = service.rule(policy)
    a_policy, a_rule = f"l7policies/{policy['id']}", f"l7policies/{policy['id']}/rules/{rule['id']}"
    new_rule = {"rule": {"type": "PATH", "compare_type": "EQUAL_TO", "value": "/"}}
    new_member = {"member": {"address": "10.0.0.9", "protocol_port": 1}}
    return [
        ("GET", f"loadbalancers/{lb['id']}", None), ("PUT", f"loadbalancers/{lb['id']}", {"loadbalancer": {}}),
        ("GET", f"loadbalancers/{lb['id']}/status", None), ("GET", f"loadbalancers/{lb['id']}/stats", None),
        ("GET", f"loadbalancers/{lb['id']}/events", None), ("GET", f"listeners/{listener['id']}", None),
        ("PUT", f"listeners/{listener['id']}", {"listener": {}}), ("GET", f"listeners/{listener['id']}/stats", None),
        ("GET", f"pools/{pool['id']}", None), ("PUT", f"pools/{pool['id']}", {"pool": {}}),
        ("GET", f"pools/{pool['id']}/members", None), ("POST", f"pools/{pool['id']}/members", new_member),
        ("PUT", f"pools/{pool['id']}/members", {"members": []}),
        ("GET", f"pools/{pool['id']}/members/{member['id']}", None),
        ("PUT", f"pools/{pool['id']}/members/{member['id']}", {"member": {}}),
        ("DELETE", f"pools/{pool['id']}/members/{member['id']}", None),
        ("POST", "l7policies", {"l7policy": {"listener_id": listener["id"], "action": "REJECT"}}),
        ("GET", a_policy, None), ("PUT", a_policy, {"l7policy": {"name": "x"}}), ("GET", f"{a_policy}/rules", None),
        ("POST", f"{a_policy}/rules", new_rule), ("GET", a_rule, None), ("PUT", a_rule, {"rule": {}}),
        ("DELETE", a_rule, None), ("DELETE", a_policy, None),
        ("GET", f"healthmonitors/{monitor['id']}", None),
        ("PUT", f"healthmonitors/{monitor['id']}", {"healthmonitor": {}}),
        ("DELETE", f"healthmonitors/{monitor['id']}", None), ("DELETE", f"listeners/{listener['id']}", None),
        ("POST", "listeners", {"listener": {"loadbalancer_id": lb["id"], "protocol": "TCP", "protocol_port": 9}}),
        ("POST", "pools", {"pool": {"loadbalancer_id": lb["id"], "protocol": "TCP", "lb_algorithm": "ROUND_ROBIN"}}),
        ("POST", "healthmonitors",
         {"healthmonitor": {"pool_id": pool["id"], "type": "TCP", "delay": 1, "timeout": 1, "max_retries": 1}}),
        ("DELETE", f"pools/{pool['id']}", None), ("DELETE", f"loadbalancers/{lb['id']}?cascade=True", None),
    ]  # fmt: skip


def test_other_projects_objects_are_403_for_everything(service: Service) -> None:
    for method, path, body in _everything(service):
        reply = service.send(method, path, body, by="bob")
        assert reply.status_code == 403, (method, path, reply.text)
        assert reply.json["faultstring"] == "Policy does not allow this request to be performed."


def test_a_reader_reads_and_writes_nothing(service: Service) -> None:
    for method, path, body in _everything(service):
        assert service.send(method, path, body, by="reader").status_code == (200 if method == "GET" else 403), path


def test_without_a_role_nothing_is_allowed(service: Service) -> None:
    for method, path, body in _everything(service):
        assert service.send(method, path, body, by="stranger").status_code == 403


def test_an_administrator_may_do_it_all(service: Service) -> None:
    for method, path, body in _everything(service):
        assert service.send(method, path, body, by="admin").status_code not in (401, 403, 404), path


def test_lists_hold_the_callers_project(service: Service) -> None:
    mine = service.load_balancer()
    listener, pool = service.listener(mine), service.pool(mine)
    theirs = service.load_balancer(by="admin", project_id="bob-project")
    seen = {
        by: {v["id"] for v in service.get("loadbalancers", by=by)["loadbalancers"]} for by in ("alice", "bob", "admin")
    }
    assert seen == {"alice": {mine["id"]}, "bob": {theirs["id"]}, "admin": {mine["id"], theirs["id"]}}
    assert service.get("listeners", by="bob")["listeners"] == []
    assert service.get("pools", by="bob")["pools"] == []
    assert [v["id"] for v in service.get("listeners")["listeners"]] == [listener["id"]]
    assert [v["id"] for v in service.get("pools", by="reader")["pools"]] == [pool["id"]]
    found = service.get("loadbalancers?project_id=bob-project", by="admin")["loadbalancers"]
    assert [v["id"] for v in found] == [theirs["id"]]
    service.get("loadbalancers?project_id=bob-project", expect=403)
    service.get("loadbalancers", by="nobody", expect=403)


def test_a_load_balancer_needs_a_project(service: Service) -> None:
    body = {"loadbalancer": {"vip_subnet_id": service.subnet.id}}
    service.post("loadbalancers", body, by="nobody", expect=400)
    lb = service.load_balancer(by="admin", tenant_id="bob-project")
    assert (lb["project_id"], lb["tenant_id"]) == ("bob-project", "bob-project")


def test_children_belong_to_their_load_balancers_project(service: Service) -> None:
    lb = service.load_balancer()
    listener = service.listener(lb, project_id="bob-project")
    assert listener["project_id"] == listener["tenant_id"] == "alice-project"


def test_amphorae_and_failover_are_for_administrators(service: Service) -> None:
    lb = service.load_balancer()
    service.get("/v2/octavia/amphorae", expect=403)
    service.put(f"loadbalancers/{lb['id']}/failover", expect=403)
    service.get("flavorprofiles", expect=403)
    service.put(f"loadbalancers/{nobody_has()}/failover", by="admin", expect=404)


def test_nobodys_project_is_not_the_project_of_nobody() -> None:
    rules = access.Policy(Settings(), Ticking())
    for asked in (None, "None"):
        nobody = Caller(user_id="u", project_id=None, roles=frozenset({"member"}), rules=rules)
        assert not access.allows("listener:put", nobody, asked)

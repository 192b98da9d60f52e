"""A provider package that knows nothing but octavia-lib, with the API and the driver agent as programs of their own."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openstack
import pytest
import requests

from tests.driver_agent.programs import ROOT, Programs
from tests.support import eventually, free_port

CONFIGURATION = f"""
[api_settings]
bind_port = {{port}}
auth_strategy = noauth
enabled_provider_drivers = amphora: ours,example: reports later,hasty: reports at once,mute: reports nothing
[driver_agent]
provider_path = {ROOT / "tests" / "provider_package"}
report_limit_s = 1
[house_keeping]
cleanup_interval_s = 0.3
"""
TREE = {
    "listeners": [
        {
            "name": "x", "protocol": "HTTP", "protocol_port": 80, "default_pool": {"name": "p"},
            "l7policies": [{
                "action": "REDIRECT_TO_POOL", "redirect_pool": {"name": "p"},
                "rules": [{"type": "PATH", "compare_type": "EQUAL_TO", "value": "/"}],
            }],
        }
    ],
    "pools": [
        {
            "name": "p", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN",
            "members": [{"address": "10.2.0.1", "protocol_port": 80}, {"address": "10.2.0.2", "protocol_port": 80}],
            "healthmonitor": {"type": "TCP", "delay": 1, "timeout": 1, "max_retries": 1},
        }
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Programs]:
    made = Programs(tmp_path_factory.mktemp("state"), free_port(), CONFIGURATION)
    try:
        made.start("driver-agent", "api")
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def sdk(programs: Programs) -> Any:
    """openstacksdk, by the clouds.yaml that the installation wrote."""
    file = programs.state / "secrets" / "clouds.yaml"
    config = openstack.config.OpenStackConfig(config_files=[str(file)], load_envvars=False)
    return openstack.connection.Connection(config=config.get_one("colonnade"))


@pytest.mark.parametrize("provider", ["example", "hasty"])
def test_a_life_with_a_providers_load_balancer(programs: Programs, sdk: Any, provider: str) -> None:
    """``hasty`` asks and reports from within the driver's methods: nothing may be locked meanwhile."""
    lbs, ask = sdk.load_balancer, programs.ask
    lb = lbs.create_load_balancer(name="lb", vip_subnet_id=programs.subnet(), provider=provider, **TREE)
    lb = lbs.wait_for_load_balancer(lb.id, interval=0.1, wait=120)
    assert (lb.provider, lb.operating_status) == (provider, "ONLINE")
    listener_id, pool_id = lb.listeners[0]["id"], lb.pools[0]["id"]
    tree = ask("GET", f"loadbalancers/{lb.id}/status")["statuses"]["loadbalancer"]
    (pool,) = tree["listeners"][0]["pools"]
    told = [tree, tree["listeners"][0], pool, pool["health_monitor"], *pool["members"]]
    assert {(t["provisioning_status"], t["operating_status"]) for t in told} == {("ACTIVE", "ONLINE")}
    (policy,) = ask("GET", f"l7policies?listener_id={listener_id}")["l7policies"]
    assert policy["provisioning_status"] == "ACTIVE"
    stats = {"active_connections": 1, "bytes_in": 20, "bytes_out": 300, "request_errors": 4, "total_connections": 5}
    eventually(
        lambda: ask("GET", f"loadbalancers/{lb.id}/stats") == {"stats": stats}, 60
    )  # it reports them after ACTIVE
    assert ask("GET", f"listeners/{listener_id}/stats") == {"stats": stats}

    lbs.update_load_balancer(lb.id, name="renamed")
    assert programs.settled(lb.id)["name"] == "renamed"
    member_id = pool["members"][0]["id"]
    lbs.update_member(member_id, pool_id, weight=7)
    programs.settled(lb.id)
    assert lbs.get_member(member_id, pool_id).provisioning_status == "ACTIVE"
    batch = {"members": [{"address": "10.2.0.1", "protocol_port": 80}, {"address": "10.2.0.3", "protocol_port": 80}]}
    ask("PUT", f"pools/{pool_id}/members", batch, expect=202)
    programs.settled(lb.id)
    shown = {m["address"]: m["provisioning_status"] for m in ask("GET", f"pools/{pool_id}/members")["members"]}
    assert shown == {"10.2.0.1": "ACTIVE", "10.2.0.3": "ACTIVE"}
    rule = ask("POST", f"l7policies/{policy['id']}/rules",
               {"rule": {"type": "PATH", "compare_type": "EQUAL_TO", "value": "/y"}}, expect=201)["rule"]  # fmt: skip
    programs.settled(lb.id)
    ask("DELETE", f"l7policies/{policy['id']}/rules/{rule['id']}", expect=204)
    programs.gone(f"l7policies/{policy['id']}/rules/{rule['id']}")
    programs.settled(lb.id)
    ask("PUT", f"loadbalancers/{lb.id}/failover", expect=202)
    programs.settled(lb.id)
    monitor_id = ask("GET", f"pools/{pool_id}")["pool"]["healthmonitor_id"]
    ask("DELETE", f"healthmonitors/{monitor_id}", expect=204)
    programs.gone(f"healthmonitors/{monitor_id}")
    programs.settled(lb.id)

    lbs.delete_load_balancer(lb.id, cascade=True)
    programs.gone(f"loadbalancers/{lb.id}")
    for path in (f"listeners/{listener_id}", f"pools/{pool_id}", f"l7policies/{policy['id']}"):
        assert requests.get(f"{programs.url}/v2/lbaas/{path}", timeout=30).status_code == 404
    ports = requests.get(f"{programs.url}/network/v2.0/ports?name=octavia-lb-{lb.id}", timeout=30).json()["ports"]
    assert ports == []


def create(programs: Programs, provider: str, **more: Any) -> Any:
    body = {"loadbalancer": {"vip_subnet_id": programs.subnet(), "provider": provider, **more}}
    return programs.ask("POST", "loadbalancers", body)


def test_others_are_served_while_a_provider_takes_its_time(programs: Programs, tmp_path: Path) -> None:
    waits = f"wait {tmp_path / 'go'}"
    slow = threading.Thread(target=create, args=(programs, "mute"), kwargs={"name": waits})
    slow.start()
    try:
        lb = create(programs, "example")["loadbalancer"]
        programs.settled(lb["id"])
    finally:
        (tmp_path / "go").touch()
        slow.join(30)
    programs.ask("DELETE", f"loadbalancers/{lb['id']}", expect=204)
    programs.gone(f"loadbalancers/{lb['id']}")


def test_an_api_that_is_killed_while_it_hands_over_leaves_nothing_stuck(programs: Programs, tmp_path: Path) -> None:
    lb = create(programs, "example")["loadbalancer"]
    programs.settled(lb["id"])
    failed: list[Exception] = []

    def change() -> None:
        try:
            body = {"loadbalancer": {"name": f"wait {tmp_path / 'never'}"}}
            programs.ask("PUT", f"loadbalancers/{lb['id']}", body)
        except requests.ConnectionError as e:
            failed.append(e)

    thread = threading.Thread(target=change)
    thread.start()
    programs.settled(lb["id"], "PENDING_UPDATE")
    programs.kill("api")
    thread.join(30)
    assert failed
    programs.start("api")
    assert programs.ask("GET", f"loadbalancers/{lb['id']}")["loadbalancer"]["provisioning_status"] == "PENDING_UPDATE"
    assert requests.delete(f"{programs.url}/v2/lbaas/loadbalancers/{lb['id']}", timeout=30).status_code == 409
    with programs.with_another("housekeeping"):
        shown = programs.settled(lb["id"], "ERROR")
    assert "interrupted" in shown["reason"]
    (event,) = [
        e for e in programs.ask("GET", f"loadbalancers/{lb['id']}/events")["events"] if e["kind"] == "failed"
    ]  # fmt: skip
    assert event["help"]
    programs.ask("PUT", f"loadbalancers/{lb['id']}", {"loadbalancer": {"name": "again"}}, expect=200)
    assert programs.settled(lb["id"])["reason"] is None
    programs.ask("DELETE", f"loadbalancers/{lb['id']}", expect=204)
    programs.gone(f"loadbalancers/{lb['id']}")


def test_a_provider_that_never_reports_is_told_of(programs: Programs) -> None:
    lb = create(programs, "mute")["loadbalancer"]
    with programs.with_another("housekeeping"):
        shown = programs.settled(lb["id"], "ERROR")  # report_limit_s
        assert "has not reported" in shown["reason"]
        programs.ask("DELETE", f"loadbalancers/{lb['id']}", expect=204)
        programs.settled(lb["id"], "ERROR")

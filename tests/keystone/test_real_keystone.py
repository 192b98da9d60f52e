"""Tokens of a real Keystone, validated by keystonemiddleware in front of the API."""

import json
import signal
import uuid
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.keystone.conftest import OURS
from tests.support import eventually
from tests.system.standalone import installation

pytestmark = pytest.mark.keystone

SHIPPED = Path(__file__).parents[2] / "etc" / "policy"
LBS = "/load-balancer/v2/lbaas/loadbalancers"


def _create(api: Any, cloud: Any, name: str, **more: Any) -> Any:
    subnet = api.ask(cloud, "GET", "/network/v2.0/subnets?name=private-subnet").json()["subnets"][0]["id"]
    return api.ask(cloud, "POST", LBS, {"loadbalancer": {"name": name, "vip_subnet_id": subnet, **more}})


def _names(api: Any, cloud: Any) -> set[str]:
    return {lb["name"] for lb in api.ask(cloud, "GET", LBS).json()["loadbalancers"]}


def test_a_good_token_is_needed(api: Any) -> None:
    for token in ("", "wrong"):
        reply = api.ask(token, "GET", LBS)
        assert reply.status_code == 401
        assert reply.headers["WWW-Authenticate"] == f'Keystone uri="{api.keystone.url}"'
        assert api.ask(token, "GET", "/network/v2.0/networks").status_code == 401
        for path in ("/", "/healthcheck", "/load-balancer/", "/network/"):
            assert api.ask(token, "GET", path).status_code in (200, 300), path


def test_headers_that_a_client_makes_up_are_worth_nothing(api: Any) -> None:
    made_up = {"X-Identity-Status": "Confirmed", "X-Roles": "admin", "X-Project-Id": "p", "X-User-Id": "u"}
    for path in (LBS, "/network/v2.0/networks", "/compute/v2.1/servers"):
        assert requests.get(api.url + path, headers=made_up, timeout=30).status_code == 401
    alice = api.keystone.cloud("alice", "red").session.get_token()
    forged = {**made_up, "X-Auth-Token": alice}
    assert requests.get(f"{api.url}/load-balancer/v2/octavia/amphorae", headers=forged, timeout=30).status_code == 403


def test_no_identity_of_our_own_is_served(api: Any) -> None:
    admin = api.keystone.cloud("admin", "admin")
    assert api.ask(admin, "GET", "/identity/v3/projects").status_code == 404


def test_projects_and_roles_are_keystones(api: Any) -> None:
    cloud = api.keystone.cloud
    alice, rita, lola, bob = cloud("alice", "red"), cloud("rita", "red"), cloud("lola", "red"), cloud("bob", "blue")
    admin = cloud("admin", "admin")
    made = _create(api, alice, "of-red")
    assert made.status_code == 201, made.text
    lb = made.json()["loadbalancer"]
    assert lb["project_id"] == alice.session.get_project_id()
    assert _create(api, rita, "never").status_code == 403
    assert _create(api, lola, "never").status_code == 403
    assert _create(api, bob, "never", project_id=lb["project_id"]).status_code == 403
    assert _create(api, bob, "of-blue").status_code == 201
    assert "of-red" in _names(api, rita)
    assert _names(api, bob) == {"of-blue"}
    assert {"of-red", "of-blue"} <= _names(api, admin)
    assert api.ask(bob, "GET", f"{LBS}/{lb['id']}").status_code == 403
    assert api.ask(lola, "GET", f"{LBS}/{lb['id']}").status_code == 403
    assert api.ask(rita, "DELETE", f"{LBS}/{lb['id']}").status_code == 403
    assert api.ask(admin, "GET", f"{LBS}/{lb['id']}").status_code == 200


def test_files_of_policy_count_for_its_roles_and_for_the_system(api: Any) -> None:
    cloud = api.keystone.cloud
    lola, system = cloud("lola", "red"), cloud("admin", None)
    assert api.ask(lola, "GET", LBS).status_code == 403
    assert api.ask(system, "GET", LBS).status_code == 403
    file = api.settings_file.with_name("policy.yaml")
    for name, user in (("octavia-advanced-rbac", lola), ("keystone_default_roles_scoped", system)):
        file.write_text((SHIPPED / f"{name}-policy.yaml").read_text())
        eventually(lambda user=user: api.ask(user, "GET", LBS).status_code == 200)
    file.unlink()
    eventually(lambda: api.ask(system, "GET", LBS).status_code == 403)


def test_the_stock_client_works_with_it(api: Any, stock_client: Any) -> None:
    create = "loadbalancer create --name by-client --vip-subnet-id private-subnet -f json"
    assert json.loads(stock_client("alice", "red", create))["name"] == "by-client"
    listed = json.loads(stock_client("alice", "red", "loadbalancer list -f json"))
    assert "by-client" in {lb["name"] for lb in listed}
    listed = json.loads(stock_client("bob", "blue", "loadbalancer list -f json"))
    assert "by-client" not in {lb["name"] for lb in listed}


def test_try_runs_the_control_plane_alone_with_it(api: Any, tmp_path: Path) -> None:
    """``./try --config FILE`` with drivers that do nothing: Keystone's users have load balancers that become ACTIVE."""
    keystone, settings = api.keystone, tmp_path / "alone.conf"
    ours = OURS.replace("[DEFAULT]\nstate_path = {state}\n", "").format(url=keystone.url, password=keystone.password)
    settings.write_text("[drivers]\ncompute = noop\nnetwork = noop\namphora = noop\n" + ours)
    alice, bob = keystone.cloud("alice", "red"), keystone.cloud("bob", "blue")
    with installation("--config", str(settings)) as alone:
        url = f"http://127.0.0.1:{alone.port}{LBS}"

        def ask(cloud: Any, method: str, path: str = "", body: Any = None) -> requests.Response:
            headers = {"X-Auth-Token": cloud.session.get_token()}
            return requests.request(method, url + path, json=body, headers=headers, timeout=30)

        body = {"loadbalancer": {"name": "alone", "vip_subnet_id": str(uuid.uuid4())}}
        made = ask(alice, "POST", body=body).json()["loadbalancer"]
        path = f"/{made['id']}"
        eventually(lambda: ask(alice, "GET", path).json()["loadbalancer"]["provisioning_status"] == "ACTIVE")
        assert made["project_id"] == alice.session.get_project_id()
        assert ask(bob, "GET", path).status_code == 403
        assert requests.get(url, timeout=30).status_code == 401
        assert ask(alice, "DELETE", path).status_code == 204


def test_while_keystone_is_away_new_tokens_wait_and_known_ones_work(api: Any) -> None:
    known, fresh = (api.keystone.cloud("alice", "red").session.get_token() for _ in range(2))
    assert api.ask(known, "GET", LBS).status_code == 200
    api.keystone.process.send_signal(signal.SIGKILL)
    api.keystone.process.wait()
    assert api.ask(known, "GET", LBS).status_code == 200
    assert api.ask(fresh, "GET", LBS).status_code == 503

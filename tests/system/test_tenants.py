"""Two projects on one installation."""

import pytest
from standalone import Api, Standalone

pytestmark = [pytest.mark.system, pytest.mark.root]


def test_projects_neither_see_nor_change_each_other(standalone: Standalone, api: Api) -> None:
    theirs = api.until_active(api.create("theirs", [])["id"])
    stranger = standalone.demo_user()
    assert stranger.get("lbaas/loadbalancers") == []
    path = f"lbaas/loadbalancers/{theirs['id']}"
    assert stranger.ask("GET", path).status in (403, 404)
    assert stranger.ask("PUT", path, {"loadbalancer": {"name": "mine"}}).status in (403, 404)
    assert stranger.ask("DELETE", f"{path}?cascade=true").status in (403, 404)
    assert stranger.ask("PUT", f"{path}/failover", {}).status in (403, 404)
    assert stranger.ask("GET", f"{path}/events").status in (403, 404)
    assert stranger.ask("GET", "/load-balancer/v2/octavia/amphorae").status == 403
    assert api.loadbalancer(theirs["id"])["name"] == "theirs"


def test_a_wrong_token_is_refused(standalone: Standalone) -> None:
    stranger = Api(standalone.port)
    stranger.token = "gAAAA-made-up"
    assert stranger.ask("GET", "lbaas/loadbalancers").status == 401

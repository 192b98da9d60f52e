"""What an operator switches on or off before the API: proxies' headers, browsers, features of lists."""

import dataclasses
from pathlib import Path
from typing import Any

import falcon.testing
import pytest
from lb_service import Service

from colonnade.api import front
from colonnade.configuration import load
from colonnade.settings import Cors, OsloMiddleware, Settings, WrongSetting

pytestmark = pytest.mark.any_database

_TOKEN = {"X-Auth-Token": "alice"}


def behind(service: Service, **sections: Any) -> falcon.testing.TestClient:
    """A client of the service with these sections."""
    return falcon.testing.TestClient(front.before(service.wsgi, dataclasses.replace(service.settings, **sections)))


def _href(client: falcon.testing.TestClient, **headers: str) -> str:
    sent = {k.replace("_", "-"): v for k, v in headers.items()}
    found: str = client.simulate_get("/load-balancer/", headers=sent).json["versions"][0]["links"][0]["href"]
    return found


BELIEVED = [
    ({}, "http://falconframework.org/load-balancer/v2"),
    ({"X_Forwarded_Proto": "https"}, "https://falconframework.org/load-balancer/v2"),
    ({"X_Forwarded_Host": "lb.example:8443"}, "http://lb.example:8443/load-balancer/v2"),
    ({"X_Forwarded_Proto": "https", "X_Forwarded_Host": "lb.example, inner"}, "https://lb.example/load-balancer/v2"),
    ({"X_Forwarded_Host": "[fd00::1]:80"}, "http://[fd00::1]:80/load-balancer/v2"),
    ({"X_Forwarded_Prefix": "/cloud/"}, "http://falconframework.org/cloud/load-balancer/v2"),
    ({"X_Forwarded_Proto": "javascript"}, "http://falconframework.org/load-balancer/v2"),
    ({"X_Forwarded_Host": "a b/<x>"}, "http://falconframework.org/load-balancer/v2"),
    ({"X_Forwarded_Prefix": "/a/../b?c"}, "http://falconframework.org/load-balancer/v2"),
    ({"X_Forwarded_For": "nonsense"}, "http://falconframework.org/load-balancer/v2"),
]


@pytest.mark.parametrize(("headers", "href"), BELIEVED, ids=str)
def test_a_proxys_headers_are_believed_when_told_to(service: Service, headers: dict[str, str], href: str) -> None:
    assert _href(behind(service, oslo_middleware=OsloMiddleware(enable_proxy_headers_parsing=True)), **headers) == href
    assert _href(behind(service), **headers) == "http://falconframework.org/load-balancer/v2"


def test_links_of_lists_follow_a_proxy(service: Service) -> None:
    service.load_balancer()
    client = behind(service, oslo_middleware=OsloMiddleware(enable_proxy_headers_parsing=True))
    headers = {**_TOKEN, "X-Forwarded-Proto": "https", "X-Forwarded-Host": "lb.example"}
    (link,) = client.simulate_get("/v2/loadbalancers?limit=1", headers=headers).json["loadbalancers_links"]
    assert link["href"].startswith("https://lb.example/v2/loadbalancers?limit=1&marker=")


def test_nobody_is_made_admin_by_headers(tmp_path: Path) -> None:
    file = tmp_path / "c.conf"
    file.write_text("[api_settings]\nauth_strategy = noauth\n[oslo_middleware]\nenable_proxy_headers_parsing = true\n")
    with pytest.raises(WrongSetting, match="enable_proxy_headers_parsing"):
        load([str(file)])


PAGE = "https://dashboard.example"


def test_browsers_are_told_who_may(service: Service) -> None:
    client = behind(service, cors=Cors(allowed_origin=(PAGE,), max_age=60))
    asked = {"Origin": PAGE, "Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "x-auth-token"}
    told = client.simulate_options("/v2/loadbalancers", headers=asked)
    assert (told.status_code, told.text) == (200, "")
    assert told.headers["access-control-allow-origin"] == PAGE
    assert {"GET", "PUT", "POST", "DELETE"} <= set(told.headers["access-control-allow-methods"].split(", "))
    assert {"X-Auth-Token", "X-OpenStack-Request-ID"} <= set(told.headers["access-control-allow-headers"].split(", "))
    assert told.headers["access-control-max-age"] == "60"
    for path, status in (("/v2/loadbalancers", 200), ("/v2/nothing", 404)):
        reply = client.simulate_get(path, headers={**_TOKEN, "Origin": PAGE})
        assert (reply.status_code, reply.headers["access-control-allow-origin"]) == (status, PAGE)
        assert reply.headers["access-control-allow-credentials"] == "true"
        assert "Origin" in reply.headers["vary"]
    assert client.simulate_get("/v2/loadbalancers", headers={"Origin": PAGE}).status_code == 401


@pytest.mark.parametrize("origin", ["https://evil.example", f"{PAGE}.evil.example", "null", "*", ""])
def test_other_pages_are_told_nothing(service: Service, origin: str) -> None:
    client = behind(service, cors=Cors(allowed_origin=(PAGE,)))
    asked = {"Origin": origin, "Access-Control-Request-Method": "PUT"}
    for reply in (client.simulate_options("/v2/loadbalancers", headers=asked), client.simulate_get("/", headers=asked)):
        assert reply.status_code == 200
        assert not [h for h in reply.headers if h.lower().startswith("access-control")]
    plain = behind(service).simulate_get("/", headers={"Origin": PAGE})
    assert "access-control-allow-origin" not in plain.headers


def test_any_page_may_but_with_nobodys_credentials(service: Service) -> None:
    reply = behind(service, cors=Cors(allowed_origin=("*",))).simulate_get("/", headers={"Origin": "https://a"})
    assert reply.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in reply.headers


@pytest.mark.parametrize(
    ("option", "query", "names"),
    [
        ("allow_pagination", "limit=1", "abc"), ("allow_pagination", "marker=nonsense&page_reverse=True", "abc"),
        ("allow_sorting", "sort=name:desc", "abc"), ("allow_sorting", "sort_key=unheard&sort_dir=up", "abc"),
        ("allow_filtering", "name=b", "abc"), ("allow_filtering", "tags=x&unheard=1", "abc"),
        ("allow_field_selection", "fields=id", "abc"),
    ],
)  # fmt: skip
def test_what_is_switched_off_is_ignored(service: Service, option: str, query: str, names: str) -> None:
    for name in "abc":
        service.load_balancer(name=name)
        service.clock.time += 1
    before = service.send("GET", f"loadbalancers?{query}")
    assert before.status_code == 400 or before.json["loadbalancers"] != service.get("loadbalancers")["loadbalancers"]
    service.reset(**{option: False})
    whole = service.get("loadbalancers")
    assert service.get(f"loadbalancers?{query}") == whole
    assert "".join(v["name"] for v in whole["loadbalancers"]) == names


def test_switches_leave_the_rest_alone(service: Service) -> None:
    lb = service.load_balancer(name="a")
    assert service.get("providers?name=none&fields=name")["providers"] == []
    service.reset(allow_filtering=False, allow_field_selection=False)
    assert set(service.get("providers?name=none&fields=name")["providers"][0]) == {"name", "description"}
    service.get("loadbalancers?project_id=bob-project&name=a", expect=403)
    assert len(service.get(f"loadbalancers/{lb['id']}?fields=id")["loadbalancer"]) > 20
    assert service.get("loadbalancers?limit=1")["loadbalancers_links"]


@pytest.mark.parametrize(("most", "shown"), [("2", 2), ("infinite", 3), ("-1", 3), ("3", 3)])
def test_the_most_on_a_page(service: Service, most: str, shown: int) -> None:
    for name in "abc":
        service.load_balancer(name=name)
    service.reset(pagination_max_limit=most)
    for query in ("", "?limit=100"):
        assert len(service.get(f"loadbalancers{query}")["loadbalancers"]) == shown
    assert len(service.get("loadbalancers?limit=1")["loadbalancers"]) == 1


@pytest.mark.parametrize("text", ["0", "many", "1.5", ""])
def test_a_wrong_page_size_stops_the_start(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.conf").write_text(f"[api_settings]\npagination_max_limit = {text}\n")
    with pytest.raises(WrongSetting, match="pagination_max_limit"):
        load([str(tmp_path / "c.conf")])


def test_the_defaults_are_octavias() -> None:
    section = Settings().api_settings
    assert section.most_items == 1000
    assert all(
        (section.allow_pagination, section.allow_sorting, section.allow_filtering, section.allow_field_selection)
    )

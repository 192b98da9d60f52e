"""Lists: filters, tags, sorting, paging with links, chosen fields."""

from typing import Any

import pytest
from lb_service import Service, nobody_has


def _names(service: Service, query: str = "", path: str = "loadbalancers") -> list[str]:
    return [v["name"] for v in service.get(f"{path}{query}")[path.rpartition("/")[2]]]


@pytest.fixture
def five(service: Service) -> Service:
    """Load balancers a to e, a second apart; c is described."""
    for name, tags in (("a", ["x"]), ("b", ["x", "y"]), ("c", ["y"]), ("d", []), ("e", ["z"])):
        service.load_balancer(name=name, tags=tags, description="middle" if name == "c" else "")
        service.clock.time += 1
    return service


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", "abcde"), ("?name=c", "c"), ("?name=c&description=middle", "c"), ("?name=c&description=x", ""),
        ("?name=C%27%20OR%201=1", ""), ("?admin_state_up=True", "abcde"), ("?admin_state_up=false", ""),
        ("?enabled=True", "abcde"),
        ("?provisioning_status=PENDING_CREATE", "abcde"),
        ("?provisioning_status=DELETED", ""),
        ("?project_id=alice-project", "abcde"), (f"?id={nobody_has()}", ""), ("?provider=amphora", "abcde"),
        ("?vip_network_id=none", ""), ("?created_at=2027-01-15T08:00:00", "a"), ("?tags=x", "ab"), ("?tags=x,y", "b"),
        ("?tags=x&tags=y", "b"), ("?tags-any=x,z", "abe"), ("?not-tags=x,y", "acde"), ("?not-tags-any=x,y", "de"),
        ("?tags=x&name=b", "b"), ("?sort=name:desc", "edcba"), ("?sort_key=name&sort_dir=desc", "edcba"),
        ("?sort_key=description,name&sort_dir=desc", "cabde"), ("?sort=description:desc,name:desc", "cedba"),
        ("?limit=2", "ab"), ("?limit=0", "abcde"), ("?limit=-1", "abcde"), ("?limit=infinite", "abcde"),
        ("?limit=100000", "abcde"), ("?limit=2&sort=name:desc", "ed"), ("?sort=updated_at", "abcde"),
    ],
)  # fmt: skip
def test_queries(five: Service, query: str, names: str) -> None:
    assert "".join(_names(five, query)) == names


@pytest.mark.parametrize(
    ("query", "form"),
    [
        ("?unheard=1", "faultstring"), ("?tenant_id=x", "faultstring"), ("?name=a&name=b", "faultstring"),
        ("?admin_state_up=perhaps", "faultstring"), ("?sort=unheard", "faultstring"), ("?sort=tags", "faultstring"),
        (f"?marker={nobody_has()}", "faultstring"), ("?limit=some", "description"), ("?sort=name:up", "description"),
        ("?sort_key=name&sort_dir=up", "description"),
        ("?listeners=x", "faultstring"),
        ("?limit=1&limit=2", "faultstring"),
        ("?created_at=yesterday", "faultstring"),
        ("?incarnation=1", "faultstring"),
        ("?additional_vips=x", "faultstring"),
    ],
)  # fmt: skip
def test_wrong_queries(five: Service, query: str, form: str) -> None:
    assert form in five.get(f"loadbalancers{query}", expect=400)


def test_a_large_number_is_a_filter_like_any(service: Service) -> None:
    assert service.get("listeners?protocol_port=99999999999999999999")["listeners"] == []
    service.get("listeners?protocol_port=x", expect=400)
    for number in ("inf", "-Infinity", "nan", "1e999"):
        assert service.get(f"healthmonitors?http_version={number}")["healthmonitors"] == []


@pytest.mark.parametrize("sort", ["", "&sort=name:desc", "&sort=description,name", "&sort=updated_at:desc,name"])
def test_links_lead_through_all_pages_and_back(five: Service, sort: str) -> None:
    five.settle()
    changed = five.get("loadbalancers?name=b")["loadbalancers"][0]
    five.put(f"loadbalancers/{changed['id']}", {"loadbalancer": {}})
    whole = _names(five, f"?{sort[1:]}")
    page: Any = five.get(f"loadbalancers?limit=2{sort}")
    assert [link["rel"] for link in page["loadbalancers_links"]] == ["next"]
    seen = [page]
    while page["loadbalancers"]:
        links = {link["rel"]: link["href"] for link in page["loadbalancers_links"]}
        if "next" not in links:
            break
        assert links["next"].startswith("http://falconframework.org/v2/lbaas/loadbalancers?limit=2&")
        page = five.get(links["next"].partition("falconframework.org")[2])
        seen.append(page)
    assert [v["name"] for p in seen for v in p["loadbalancers"]] == whole
    back = {link["rel"]: link["href"] for link in seen[2]["loadbalancers_links"]}
    assert list(back) == ["previous"]
    page = five.get(back["previous"].partition("falconframework.org")[2])
    assert page["loadbalancers"] == seen[1]["loadbalancers"]


def test_an_unlimited_or_short_list_has_no_next(five: Service) -> None:
    for query in ("", "?limit=0", "?limit=infinite", "?limit=9"):
        assert five.get(f"loadbalancers{query}")["loadbalancers_links"] == []


def test_links_carry_filters_and_sorting(five: Service) -> None:
    href = five.get("loadbalancers?limit=1&sort=name:desc&tags-any=x,z&fields=id&fields=name")["loadbalancers_links"][
        0
    ]["href"]
    page = five.get(href.partition("falconframework.org")[2])
    assert page["loadbalancers"][0].keys() == {"id", "name"}
    assert page["loadbalancers"][0]["name"] == "b"


def test_the_page_size_has_a_limit(five: Service) -> None:
    five.reset(pagination_max_limit=3)
    for query in ("", "?limit=100"):
        assert _names(five, query) == ["a", "b", "c"]
    page = five.get("loadbalancers")
    assert "limit=3" in page["loadbalancers_links"][0]["href"]


def test_fields(five: Service) -> None:
    listed = five.get("loadbalancers?fields=name&fields=id&limit=1")["loadbalancers"][0]
    assert set(listed) == {"id", "name"}
    assert five.get("loadbalancers?fields=unheard&limit=1")["loadbalancers"] == [{}]
    one = f"loadbalancers/{listed['id']}"
    assert five.get(f"{one}?fields=name") == {"loadbalancer": {"name": "a"}}
    assert len(five.get(f"{one}?unheard=1")["loadbalancer"]) > 20


def test_filters_by_parents(service: Service) -> None:
    one, two = service.load_balancer(), service.load_balancer()
    pool, other = service.pool(one, name="one"), service.pool(two, name="two")
    listener = service.listener(one, name="one", default_pool_id=pool["id"])
    service.listener(two, name="two")
    monitor = service.monitor(pool, name="one")
    service.monitor(other, name="two")
    member = service.member(pool, name="one")
    service.member(other, name="two")
    assert _names(service, f"?loadbalancer_id={one['id']}", "listeners") == ["one"]
    assert _names(service, f"?load_balancer_id={one['id']}", "listeners") == ["one"]
    assert _names(service, f"?loadbalancer_id={two['id']}", "pools") == ["two"]
    assert _names(service, f"?listener_id={listener['id']}", "pools") == ["one"]
    assert _names(service, f"?default_pool_id={pool['id']}", "listeners") == ["one"]
    assert _names(service, f"?pool_id={other['id']}", "healthmonitors") == ["two"]
    assert _names(service, f"?healthmonitor_id={monitor['id']}", "pools") == ["one"]
    assert _names(service, f"?health_monitor_id={monitor['id']}", "pools") == ["one"]
    assert _names(service, f"?healthmonitor_id={pool['id']}", "pools") == []
    members = f"pools/{pool['id']}/members"
    assert _names(service, "?address=10.2.0.1&protocol_port=8080", members) == ["one"]
    assert _names(service, f"?id={member['id']}&project_id=alice-project", members) == ["one"]
    assert _names(service, f"?pool_id={pool['id']}", members) == ["one"]
    assert _names(service, "?project_id=bob-project", members) == []
    assert service.get(f"{members}?limit=1")["members_links"][0]["rel"] == "next"


def test_tags_follow_their_object(service: Service) -> None:
    lb = service.load_balancer(name="a", tags=["x", "y"])
    service.put(f"loadbalancers/{lb['id']}", {"loadbalancer": {"tags": ["z"]}})
    assert (_names(service, "?tags=x"), _names(service, "?tags=z")) == ([], ["a"])
    service.put(f"loadbalancers/{lb['id']}", {"loadbalancer": {"tags": None}})
    assert _names(service, "?tags=z") == ["a"]
    service.put(f"loadbalancers/{lb['id']}", {"loadbalancer": {"tags": []}})
    assert _names(service, "?tags=z") == []

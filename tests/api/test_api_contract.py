"""The contract of every path: methods, spellings, errors, lists, versions. The tables are the API reference's."""

import re
from typing import Any
from urllib.parse import quote

import pytest
from every_request import Furnished, furnish
from lb_service import Service, nobody_has

from colonnade.api import openapi

pytestmark = pytest.mark.any_database

NOWHERE = nobody_has("9")
_KINDS = {
    "loadbalancers": "lb", "listeners": "listener", "pools": "pool", "members": "member",
    "healthmonitors": "healthmonitor", "l7policies": "l7policy", "rules": "l7rule", "flavors": "flavor",
    "flavorprofiles": "flavor-profile", "availabilityzones": "availability-zone",
    "availabilityzoneprofiles": "availability-zone-profile", "amphorae": "amphora",
}  # fmt: skip
PATHS = {path: {m.upper() for m in item if m != "parameters"} for path, item in openapi.document()["paths"].items()}
ITEMS_OF = {"provider": "amphora", "project_id": "alice-project"}


@pytest.fixture
def made(service: Service) -> Furnished:
    return furnish(service)


def _real(path: str, ids: dict[str, str]) -> str:
    """The path of an object that exists."""
    parts = path.split("/")
    for n, part in enumerate(parts):
        if part.startswith("{"):
            parts[n] = ITEMS_OF.get(part[1:-1]) or ids[_KINDS[parts[n - 1]]]
    return "/".join(parts)


def test_methods_of_every_path(made: Furnished) -> None:
    """HEAD and PATCH are 405, OPTIONS is 200 and empty; a collection's PUT and DELETE miss an id; others are 405."""
    for path, methods in PATHS.items():
        collection = any(f"{path}/{{{name}}}" in PATHS for name in ("object_id", "project_id"))
        for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} - methods:
            reply = made.service.send(method, _real(path, made.ids), by="admin")
            if method == "OPTIONS":
                assert (reply.status_code, reply.text) == (200, ""), path
            elif collection and method in ("PUT", "DELETE") and "octavia" not in path:
                assert (reply.status_code, reply.json["faultstring"]) == (400, 'Missing argument: "id"'), path
            else:
                assert reply.status_code == 405, (method, path)
                assert method == "HEAD" or set(reply.json) == {"code", "title", "description"}


def test_spellings_of_every_path(made: Furnished) -> None:
    """Below /v2 and /v2.0, with a slash at the end, with .json, without lbaas, and below /load-balancer."""
    for path in (p for p, methods in PATHS.items() if "GET" in methods and p != "/"):
        real = _real(path, made.ids)
        first = made.service.get(real, by="admin")
        rest = real.removeprefix("/v2")
        others = [
            f"/v2.0{rest}",
            f"{real}/",
            f"{real}.json",
            f"/load-balancer{real}",
            f"/load-balancer/v2.0{rest}.json",
        ]
        if rest.startswith("/lbaas/"):
            others += [real.replace("/lbaas/", "/"), f"/v2.0{rest}".replace("/lbaas/", "/")]
        for other in others:
            assert made.service.get(other, by="admin") == first, other


@pytest.mark.parametrize("kind", ["text/plain", "application/xml", "application/x-www-form-urlencoded", "text/json"])
def test_bodies_of_another_type_are_415(made: Furnished, kind: str) -> None:
    for path, methods in PATHS.items():
        for method in methods & {"POST", "PUT"}:
            if path.rpartition("/")[2] in ("failover", "config"):
                continue  # they have no body
            reply = made.service.send(
                method, _real(path, made.ids), by="admin", headers={"Content-Type": kind}, body="x"
            )
            assert (reply.status_code, reply.json.get("code")) == (415, 415), (method, path)


def test_charsets_are_taken(service: Service) -> None:
    body = f'{{"loadbalancer": {{"vip_subnet_id": "{service.subnet.id}"}}}}'
    for kind in ("application/json; charset=utf-8", "Application/JSON", "application/json;charset=UTF-8"):
        reply = service.send("POST", "loadbalancers", headers={"Content-Type": kind}, body=body)
        assert reply.status_code == 201, kind


VERSIONS = {
    "v2.0": "2016-12-11", "v2.1": "2018-04-20", "v2.2": "2018-07-31", "v2.3": "2018-12-18", "v2.4": "2018-12-19",
    "v2.5": "2019-01-21", "v2.6": "2019-01-25", "v2.7": "2018-01-25T12:00:00Z", "v2.8": "2019-02-12",
    "v2.9": "2019-03-04", "v2.10": "2019-03-05", "v2.11": "2019-06-24", "v2.12": "2019-09-11", "v2.13": "2019-09-13",
    "v2.14": "2019-11-10", "v2.15": "2020-03-10", "v2.16": "2020-03-15", "v2.17": "2020-04-29",
    "v2.18": "2020-04-29T01:00:00Z", "v2.19": "2020-05-12", "v2.20": "2020-08-02", "v2.21": "2020-09-03",
    "v2.22": "2020-09-04", "v2.23": "2020-09-07", "v2.24": "2020-10-15", "v2.25": "2021-10-02", "v2.26": "2022-08-29",
    "v2.27": "2023-05-05", "v2.28": "2023-11-08", "v2.29": "2024-10-15", "v2.30": "2025-02-26",
}  # fmt: skip


def test_every_version_has_its_date(service: Service) -> None:
    told = {v["id"]: v["updated"] for v in service.send("GET", "/", by=None).json["versions"]}
    assert told == {k: v if "T" in v else f"{v}T00:00:00Z" for k, v in VERSIONS.items()}
    assert list(told) == list(VERSIONS)


LB, LISTENER, POOL, MEMBER = (
    "loadbalancers/{lb}",
    "listeners/{listener}",
    "pools/{pool}",
    "pools/{pool}/members/{member}",
)
_NEW_MONITOR = {"type": "TCP", "delay": 1, "timeout": 1, "max_retries": 1}
_NEW_POOL = {"protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN"}
_NEW_LISTENER = {"protocol": "HTTP", "protocol_port": 99}
_PLACE = {"address": "10.2.0.1", "protocol_port": 8080}

# (method, path, body, status, form, what the sentence matches)
ERRORS: list[tuple[str, str, Any, int, str, str]] = [
    ("POST", "loadbalancers", {"loadbalancer": {"x": 1}}, 400, "A",
     r"^Unknown attribute for argument load_balancer\.loadbalancer: x$"),
    ("PUT", LISTENER, {"listener": {"protocol": "TCP"}}, 400, "A",
     r"^Unknown attribute for argument listener_\.listener: protocol$"),
    ("PUT", LISTENER, {"listener": {"connection_limit": -2}}, 400, "A",
     r"^Invalid input for field/attribute connection_limit\. Value: '-2'\. Value should be greater or equal to -1"),
    ("PUT", LISTENER, {"listener": {"tags": "x"}}, 400, "A", r"Value: 'x'\. Value should be a list\.$"),
    ("PUT", LISTENER, {"listener": {"insert_headers": []}}, 400, "A", r"Value: '\[\]'\. Value should be an object\.$"),
    ("PUT", "pools/{pool}", {"pool": {"session_persistence": "x"}}, 400, "A", r"Value should be an object\.$"),
    ("POST", "pools", {"pool": {"loadbalancer_id": "{lb}", "protocol": "HTTP"}}, 400, "A",
     r"field/attribute lb_algorithm\. Value: 'None'\. Mandatory field missing\.$"),
    ("POST", "pools", {"pool": {**_NEW_POOL, "loadbalancer_id": "{lb}", "protocol": "FTP"}}, 400, "A",
     r"attribute protocol\. Value: 'FTP'\. Value should be one of: TCP, HTTP"),
    ("POST", "pools", {"pool": _NEW_POOL}, 400, "A", r"loadbalancer_id|listener_id"),
    ("POST", "pools", {}, 400, "A", r"^No pool object supplied\.$"),
    ("PUT", LISTENER, {}, 400, "A", r"^No listener object supplied\.$"),
    ("PUT", "l7policies/{l7policy}", {"l7policy": {}}, 400, "A", r"."),
    ("PUT", LISTENER, {"listener": {"insert_headers": {"X-No": "true"}}}, 400, "A", r"X-No is not a valid option for"),
    ("POST", "loadbalancers", {"loadbalancer": {"vip_subnet_id": "{subnet}", "provider": "no"}}, 400, "A",
     r"^Provider 'no' is not enabled\.$"),
    ("POST", "l7policies/{l7policy}/rules", {"rule": {"type": "HEADER", "compare_type": "EQUAL_TO", "value": "x"}}, 400,
     "A", r"L7Rule"),
    ("POST", "loadbalancers", {"loadbalancer": {"vip_subnet_id": NOWHERE}}, 400, "A", rf"Subnet {NOWHERE} not found\."),
    ("POST", "pools/{pool}/members", {"member": {**_PLACE, "subnet_id": NOWHERE}}, 400, "A",
     f"Subnet {NOWHERE} not found"),
    ("POST", "loadbalancers", {"loadbalancer": {"vip_subnet_id": "{subnet}", "flavor_id": NOWHERE}}, 400, "A", NOWHERE),
    ("GET", "loadbalancers?name=a&name=b", None, 400, "A", "^One or more arguments are either duplicate or invalid"),
    ("GET", "loadbalancers?limit=x", None, 400, "B", "imit"),
    ("GET", "loadbalancers?sort=name:up", None, 400, "B", "direction"),
    ("GET", "providers/none/flavor_capabilities", None, 400, "A", r"^Provider 'none' is not enabled\.$"),
    *(("GET", f"{path}/{NOWHERE}", None, 404, "A", f"^{kind} {NOWHERE} not found\\.$") for path, kind in (
        ("loadbalancers", "Load Balancer"), ("listeners", "Listener"), ("pools", "Pool"),
        ("healthmonitors", "Health Monitor"), ("l7policies", "L7Policy"), ("flavors", "Flavor"),
        ("flavorprofiles", "Flavor Profile"), ("availabilityzones", "Availability Zone"),
        ("availabilityzoneprofiles", "Availability Zone Profile"), ("/v2/octavia/amphorae", "Amphora"),
        ("pools/{pool}/members", "Member"))),
    ("GET", "/v2/octavia/amphorae/{broken-amphora}/stats", None, 404, "A", r"^Amphora stats for .* not found\.$"),
    ("DELETE", "quotas/nobody", None, 404, "A", r"^Quotas nobody not found\.$"),
    ("GET", f"pools/{NOWHERE}/members", None, 404, "B", f"^Pool {NOWHERE} not found"),
    ("POST", f"pools/{NOWHERE}/members", {"member": _PLACE}, 404, "B", f"^Pool {NOWHERE} not found"),
    ("GET", f"l7policies/{NOWHERE}/rules", None, 404, "B", NOWHERE),
    ("POST", "listeners", {"listener": {**_NEW_LISTENER, "loadbalancer_id": NOWHERE}}, 404, "A",
     f"Balancer {NOWHERE} not"),
    ("POST", "listeners", {"listener": {**_NEW_LISTENER, "loadbalancer_id": "{lb}", "default_pool_id": NOWHERE}}, 404,
     "A", f"^Pool {NOWHERE} not found"),
    ("POST", "pools", {"pool": {**_NEW_POOL, "listener_id": NOWHERE}}, 404, "A", f"^Listener {NOWHERE} not found"),
    ("POST", "healthmonitors", {"healthmonitor": {**_NEW_MONITOR, "pool_id": NOWHERE}}, 404, "A",
     f"^Pool {NOWHERE} not"),
    ("POST", "l7policies", {"l7policy": {"listener_id": NOWHERE, "action": "REJECT"}}, 404, "A",
     f"^Listener {NOWHERE} not"),
    ("PUT", "l7policies/{l7policy}", {"l7policy": {"redirect_pool_id": NOWHERE}}, 404, "A",
     f"^Pool {NOWHERE} not found"),
    ("GET", "providers/amphora", None, 405, "B", "."),
    ("GET", "nothing", None, 404, "B", "."), ("GET", "/v9", None, 404, "B", "."),
    ("POST", "listeners", {"listener": {**_NEW_LISTENER, "loadbalancer_id": "{lb}", "protocol_port": 80}},
     409, "A", "80"),
    ("POST", "pools/{pool}/members", {"member": _PLACE}, 409, "A",
     r"already using ip 10\.2\.0\.1 on protocol_port 8080"),
    ("POST", "healthmonitors", {"healthmonitor": {**_NEW_MONITOR, "pool_id": "{pool}"}}, 409, "A",
     "already has a health"),
    ("POST", "pools", {"pool": {**_NEW_POOL, "listener_id": "{listener}"}}, 409, "A", "already has a default pool"),
    ("POST", "flavors", {"flavor": {"name": "gold", "flavor_profile_id": "{flavor-profile}"}}, 409, "A",
     r"^A flavor of gold already exists\.$"),
    ("POST", "availabilityzones", {"availability_zone": {
        "name": "north", "availability_zone_profile_id": "{availability-zone-profile}"}}, 409, "A",
     r"of north already exists\.$"),
    ("DELETE", "flavorprofiles/{flavor-profile}", None, 409, "A", "."),
    ("DELETE", "availabilityzoneprofiles/{availability-zone-profile}", None, 409, "A", "."),
    ("DELETE", "/v2/octavia/amphorae/{amphora}", None, 409, "A", r"^amphora .* is immutable and cannot be updated"),
    ("DELETE", LB, None, 400, "A", r"has children"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body", "status", "form", "sentence"), ERRORS, ids=str)
def test_errors(made: Furnished, method: str, path: str, body: Any, status: int, form: str, sentence: str) -> None:
    from every_request import filled

    place, _, query = path.partition("?")
    more = {"query_string": query} if query else {}
    reply = made.service.send(method, filled(place, made.ids), filled(body, made.ids), by="admin", **more)
    assert reply.status_code == status, reply.text
    said = reply.json
    if form == "A":
        assert (said["faultcode"], said["debuginfo"], set(said)) == (
            "Client",
            None,
            {"faultcode", "faultstring", "debuginfo"},
        )
    else:
        assert (said["code"], set(said)) == (status, {"code", "title", "description"})
    assert re.search(sentence, said["faultstring" if form == "A" else "description"]), said


def test_the_order_of_checks(made: Furnished) -> None:
    """The body, then the parent, then the policy, then rules, then the quota."""
    service, ids = made.service, made.ids
    wrong: dict[str, Any] = {"loadbalancer_id": NOWHERE, "protocol": "HTTP", "protocol_port": 99, "unheard": 1}
    service.post("listeners", {"listener": wrong}, by="bob", expect=400)
    del wrong["unheard"]
    wrong["default_pool_id"] = NOWHERE
    service.post("listeners", {"listener": wrong}, by="bob", expect=404)
    wrong |= {"loadbalancer_id": ids["lb"], "insert_headers": {"X-No": "true"}}
    service.post("listeners", {"listener": wrong}, by="bob", expect=403)
    service.put("quotas/alice-project", {"quota": {"listener": 1}}, by="admin", expect=202)
    del wrong["default_pool_id"]
    service.post("listeners", {"listener": wrong}, expect=400)
    del wrong["insert_headers"]
    refused = service.post("listeners", {"listener": wrong}, expect=403)
    assert refused["faultstring"] == "Quota has been met for resources: Listener"


# Every list: its key, that of its links, a filter that finds, whether it has tags, what a marker names
LISTS: dict[str, tuple[str, str, str, bool, str]] = {
    "loadbalancers": ("loadbalancers", "loadbalancers_links", "provider=amphora", True, "id"),
    "listeners": ("listeners", "listeners_links", "protocol=HTTP", True, "id"),
    "pools": ("pools", "pools_links", "lb_algorithm=ROUND_ROBIN", True, "id"),
    "pools/{pool}/members": ("members", "members_links", "address=10.2.0.1", True, "id"),
    "healthmonitors": ("healthmonitors", "healthmonitors_links", "type=HTTP", True, "id"),
    "l7policies": ("l7policies", "l7policies_links", "action=REJECT", True, "id"),
    "l7policies/{l7policy}/rules": ("rules", "rules_links", "type=PATH", True, "id"),
    "quotas": ("quotas", "quotas_links", "pool=9", False, "project_id"),
    "flavors": ("flavors", "flavors_links", "name=gold", False, "id"),
    "flavorprofiles": ("flavorprofiles", "flavorprofile_links", "provider_name=amphora", False, "id"),
    "availabilityzones": ("availability_zones", "availability_zones_links", "name=north", False, "name"),
    "availabilityzoneprofiles": (
        "availability_zone_profiles", "availability_zone_profile_links", "name=new", False, "id"
    ),
    "/v2/octavia/amphorae": ("amphorae", "amphorae_links", "loadbalancer_id={lb}", False, "id"),
}  # fmt: skip


@pytest.mark.parametrize("path", LISTS)
def test_lists(made: Furnished, path: str) -> None:
    key, links, found_by, tagged, marker = LISTS[path]
    place = path.format(**made.ids)

    def ask(query: str, expect: int = 200) -> Any:
        return made.service.get(f"{place}?{query.format(**made.ids)}", by="admin", expect=expect)

    whole = made.service.get(place, by="admin")
    assert set(whole) == {key, links}
    assert whole[links] == []
    items = whole[key]
    assert items
    assert ask(found_by)[key], found_by
    for unlimited in ("limit=0", "limit=-5", "limit=infinite", "limit=99999"):
        assert ask(unlimited)[key] == items
    first = ask("limit=1")
    assert first[key] == items[:1]
    (link,) = first[links]
    assert (link["rel"], link["href"].partition("?")[2]) == ("next", f"limit=1&marker={items[0][marker]}")
    after = ask(f"limit=1&marker={items[0][marker]}")
    assert after[key] == items[1:2]
    assert [v["rel"] for v in after[links]] == (["next", "previous"] if len(items) > 1 else [])
    assert ask(f"page_reverse=True&marker={items[-1][marker]}")[key] == items[:-1]
    assert ask(f"page_reverse=true&marker={items[-1][marker]}")[key] == []
    backward = ask(f"sort={marker}:desc")[key]
    assert [v[marker] for v in backward] == sorted((v[marker] for v in items), reverse=True)
    assert ask(f"sort_key={marker}&sort_dir=desc")[key] == backward
    assert ask("fields=unheard")[key] == [{}] * len(items)
    assert ask(f"fields={marker}&fields=unheard")[key] == [{marker: v[marker]} for v in items]
    for wrong in (
        "unheard=1",
        "tenant_id=x",
        f"{marker}=a&{marker}=b",
        "marker=nothing",
        "sort=unheard",
        "sort_key=links",
    ):
        assert "faultstring" in ask(wrong, 400), wrong
    for wrong in ("limit=x", "limit=1.5", "limit=", f"sort={marker}:up", f"sort_key={marker}&sort_dir=down"):
        assert "description" in ask(wrong, 400), wrong
    for tags in ("tags=a", "tags-any=a", "not-tags=a", "not-tags-any=a"):
        found = ask(tags, 200 if tagged else 400)
        assert not tagged or bool(found[key]) is tags.startswith("not"), tags


@pytest.mark.parametrize("key", ["providers", "flavor_capabilities", "availability_zone_capabilities"])
def test_lists_of_what_no_table_holds(made: Furnished, key: str) -> None:
    path = key if key == "providers" else f"providers/amphora/{key}"

    def ask(query: str, expect: int = 200) -> Any:
        return made.service.get(f"{path}?{query}", by="admin", expect=expect)

    whole = ask("")
    assert set(whole) == {key}
    items = whole[key]
    first, last = items[0], items[-1]
    assert len(items) > 1
    assert ask(f"name={last['name']}") == ask(f"description={quote(last['description'])}") == {key: [last]}
    assert ask(f"name={last['name']}&description=x")[key] == ask(f"name={last['name'].upper()}")[key] == []
    for unlimited in ("limit=0", "limit=-5", "limit=infinite", "limit=99999"):
        assert ask(unlimited)[key] == items
    assert ask("limit=1")[key] == [first]
    assert ask(f"limit=1&marker={first['name']}")[key] == items[1:2]
    assert ask(f"page_reverse=True&marker={last['name']}")[key] == items[:-1]
    assert ask(f"page_reverse=True&limit=1&marker={last['name']}")[key] == items[-2:-1]
    assert ask(f"page_reverse=true&marker={last['name']}")[key] == []
    backward = ask("sort=name:desc")[key]
    assert backward == sorted(items, key=lambda v: v["name"], reverse=True)
    assert ask("sort_key=name&sort_dir=desc")[key] == backward
    assert ask("sort=description,name:desc")[key] == sorted(backward, key=lambda v: v["description"])
    assert ask("fields=unheard")[key] == [{}] * len(items)
    assert ask("fields=name&fields=unheard")[key] == [{"name": v["name"]} for v in items]
    for wrong in (
        "unheard=1", "tenant_id=x", "project_id=alice-project", "tags=a", "name=a&name=b", "marker=nothing",
        "limit=1&limit=1", "sort=unheard",
    ):  # fmt: skip
        assert "faultstring" in ask(wrong, 400), wrong
    for wrong in ("limit=x", "limit=", "sort=name:up", "sort_key=name&sort_dir=down"):
        assert "description" in ask(wrong, 400), wrong


def test_every_list_is_in_the_table() -> None:
    lists = {p for p, methods in PATHS.items() if f"{p}/{{object_id}}" in PATHS or f"{p}/{{project_id}}" in PATHS}
    named = {re.sub(r"\{\w+\}", "{}", p if p.startswith("/") else f"/v2/lbaas/{p}") for p in LISTS}
    assert {re.sub(r"\{\w+\}", "{}", p) for p in lists} == named

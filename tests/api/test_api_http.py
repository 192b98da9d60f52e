"""The API as HTTP: discovery, prefixes, content types, error shapes, hostile bodies, a database that is away."""

import json
import time
from typing import Any

import pytest
from lb_service import Service, nobody_has
from sqlalchemy import Engine

from colonnade.api import transport
from colonnade.errors import Invalid


def test_the_version_document(service: Service) -> None:
    for path, app in (("/", ""), ("/load-balancer", "/load-balancer"), ("/load-balancer/", "/load-balancer")):
        versions = service.send("GET", path, by=None).json["versions"]
        assert versions[0]["id"] == "v2.0"
        assert versions[-1] == {
            "id": "v2.30", "status": "CURRENT", "updated": "2025-02-26T00:00:00Z",
            "links": [{"href": f"http://falconframework.org{app}/v2", "rel": "self"}],
        }  # fmt: skip
        assert {v["status"] for v in versions[:-1]} == {"SUPPORTED"}
        assert len(versions) == 31


def test_the_base_of_links_can_be_set(service: Service) -> None:
    service.reset(api_base_uri="https://lb.example/")
    document = service.send("GET", "/", by=None).json
    assert document["versions"][0]["links"][0]["href"] == "https://lb.example/v2"


def test_forwarding_headers_are_not_believed(service: Service) -> None:
    headers = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https"}
    assert "evil" not in service.send("GET", "/", by=None, headers=headers).text


@pytest.mark.parametrize("path", ["/v2", "/v2/", "/v2.0", "/v2/lbaas", "/v2/octavia", "/load-balancer/v2"])
def test_roots_of_trees_name_the_version(service: Service, path: str) -> None:
    assert service.get(path) == "v2"


@pytest.mark.parametrize(
    "path",
    [
        "/v2/lbaas/loadbalancers", "/v2.0/lbaas/loadbalancers", "/v2/loadbalancers", "/v2.0/loadbalancers",
        "/v2/lbaas/loadbalancers/", "/v2/lbaas/loadbalancers.json", "/load-balancer/v2.0/lbaas/loadbalancers",
        "/load-balancer/v2/loadbalancers.json",
    ],
)  # fmt: skip
def test_all_spellings_of_a_path(service: Service, path: str) -> None:
    lb = service.load_balancer()
    assert [v["id"] for v in service.get(path)["loadbalancers"]] == [lb["id"]]


@pytest.mark.parametrize("path", ["/v2/amphorae", "/v2/octavia/loadbalancers", "/v3", "/v2/lbaas/nothing", "/else"])
def test_unknown_paths_are_404_in_form_b(service: Service, path: str) -> None:
    reply = service.send("GET", path)
    assert reply.status_code == 404
    assert set(reply.json) == {"code", "title", "description"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("HEAD", "loadbalancers", 405), ("PATCH", "loadbalancers", 405), ("POST", "providers", 405),
        ("GET", f"loadbalancers/{nobody_has()}/failover", 405), ("GET", "providers/amphora", 405),
        ("OPTIONS", "loadbalancers", 200), ("PUT", "listeners", 400), ("DELETE", "listeners", 400),
        ("DELETE", f"pools/{nobody_has()}/members", 400),
    ],
)  # fmt: skip
def test_methods(service: Service, method: str, path: str, status: int) -> None:
    reply = service.send(method, path)
    assert reply.status_code == status
    if status == 405 and method != "HEAD":
        assert reply.json["code"] == 405


def test_each_reply_has_a_request_id(service: Service) -> None:
    ids = {service.send("GET", path).headers["x-openstack-request-id"] for path in ("/", "loadbalancers", "/none", "/")}
    assert len(ids) == 4
    assert all(i.startswith("req-") for i in ids)


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("", 200),
        ("*/*", 200),
        ("application/json", 200),
        ("text/html, application/json;q=0.5", 200),
        ("text/html", 406),
    ],
)
def test_accept(service: Service, accept: str, status: int) -> None:
    reply = service.send("GET", "loadbalancers", headers={"Accept": accept})
    assert reply.status_code == status
    assert reply.headers["content-type"].startswith("application/json")
    if status == 406:
        assert reply.json["code"] == 406


def test_only_json_bodies_are_taken(service: Service) -> None:
    reply = service.send("POST", "loadbalancers", headers={"Content-Type": "text/xml"}, body="<a/>")
    assert reply.status_code == 415


def test_a_large_body_is_refused(service: Service) -> None:
    service.reset(max_request_body_size=2000)
    reply = service.send("POST", "loadbalancers", {"loadbalancer": {"name": "x" * 3000}})
    assert reply.status_code == 413


HOSTILE: list[tuple[str, bytes]] = [
    ("nothing", b""),
    ("no JSON", b"{"),
    ("a list", b"[]"),
    ("a number", b"7"),
    ("no root", b"{}"),
    ("a wrong root", b'{"listener": {}}'),
    ("two roots", b'{"loadbalancer": {}, "more": 1}'),
    ("null", b'{"loadbalancer": null}'),
    ("a list inside", b'{"loadbalancer": []}'),
    ("NaN", b'{"loadbalancer": {"name": NaN}}'),
    ("infinity", b'{"loadbalancer": {"name": 1e999}}'),
    ("a lone surrogate", b'{"loadbalancer": {"name": "\\ud800"}}'),
    ("NUL", b'{"loadbalancer": {"name": "\\u0000"}}'),
    ("wrong UTF-8", b'{"loadbalancer": {"name": "\xff"}}'),
    ("a key twice", b'{"loadbalancer": {"name": "a", "name": "b"}}'),
    ("depth", b'{"loadbalancer": {"name": ' + b"[" * 5000 + b"]" * 5000 + b"}}"),
    ("some depth", b'{"loadbalancer": {"additional_vips": ' + b"[" * 200 + b"]" * 200 + b"}}"),
    ("a huge number", b'{"loadbalancer": {"admin_state_up": ' + b"9" * 5000 + b"}}"),
    ("a number as name", b'{"loadbalancer": {"name": 99999999999999999999999999}}'),
    ("an object as name", b'{"loadbalancer": {"name": {"a": 1}}}'),
]


@pytest.mark.parametrize("body", [b for _, b in HOSTILE], ids=[n for n, _ in HOSTILE])
def test_hostile_bodies_are_answered_400(service: Service, body: bytes) -> None:
    reply = service.send("POST", "loadbalancers", headers={"Content-Type": "application/json"}, body=body)
    assert reply.status_code == 400
    assert reply.json["faultcode"] == "Client"
    assert reply.json["debuginfo"] is None


def test_a_key_given_twice_among_many_costs_no_more_than_the_others() -> None:
    many = b", ".join(b'"%d": 0' % n for n in range(60_000))
    began = time.process_time()
    with pytest.raises(Invalid, match="'again' is given twice"):
        transport.parse(b'{%b, "again": 1, "again": 2}' % many)
    assert time.process_time() - began < 5  # to count each key among all of them took a minute


@pytest.mark.parametrize(
    "query", ["name=%00", "name=%FF", "name=" + "x" * 5000, "id=%F0%9F%92%A9", "&&&", "a=1;b", "%"]
)
def test_hostile_queries_are_no_server_error(service: Service, query: str) -> None:
    assert service.send("GET", "loadbalancers", query_string=query).status_code in (200, 400)


@pytest.mark.parametrize("its_id", ["x", "%00", "%FF", "..%2f..", "a" * 3000, "%F0%9F%92%A9", "lb-1.json"])
@pytest.mark.parametrize("path", ["loadbalancers/%s", "listeners/%s", "pools/%s/members", "healthmonitors/%s"])
def test_ids_that_are_none_are_not_found(service: Service, path: str, its_id: str) -> None:
    for method in ("GET", "DELETE"):
        if method == "DELETE" and path.endswith("members"):
            continue
        assert service.send(method, path % its_id).status_code == 404


def test_the_health_check(service: Service) -> None:
    for path in ("/healthcheck", "/load-balancer/healthcheck"):
        reply = service.send("GET", path, by=None)
        assert (reply.status_code, reply.text) == (200, "OK")
        assert reply.headers["content-type"].startswith("text/plain")
    assert service.send("HEAD", "/healthcheck", by=None).status_code == 200
    assert service.send("POST", "/healthcheck", by=None).status_code == 405
    as_json = service.send("GET", "/healthcheck", by=None, headers={"Accept": "application/json"})
    assert as_json.json == {"detailed": False, "reasons": ["OK"]}
    service.reset(healthcheck_enabled=False)
    assert service.send("GET", "/healthcheck", by=None).status_code == 404


def _lose_database(service: Service) -> None:
    from sqlalchemy import create_engine

    away: Engine = create_engine("sqlite:////nonexistent/directory/db.sqlite")
    service.store.engine = service.store.reader = service.store.glancer = away


def test_a_database_that_is_away_is_503_with_a_sentence(service: Service) -> None:
    lb = service.load_balancer()
    _lose_database(service)
    requests: list[tuple[str, str, Any]] = [
        ("GET", "loadbalancers", None), ("GET", f"loadbalancers/{lb['id']}", None),
        ("POST", "loadbalancers", {"loadbalancer": {"vip_subnet_id": service.subnet.id}}),
    ]  # fmt: skip
    for method, path, body in requests:
        reply = service.send(method, path, body)
        assert reply.status_code == 503
        assert reply.json["faultstring"] == "The database does not answer. Please try again."
    assert service.send("GET", "/healthcheck", by=None).status_code == 503


def test_every_letter_that_is_taken_comes_back(service: Service) -> None:
    name = " a'\"\\%_ \u00e9\u4e2d\U0001f980 "
    lb = service.load_balancer(name=name, tags=["a", "A", "\u00e1", name])
    assert lb["name"] == name
    shown = service.get(f"loadbalancers/{lb['id']}")["loadbalancer"]
    assert (shown["name"], shown["tags"]) == (name, ["a", "A", "\u00e1", name])
    assert service.send("POST", "loadbalancers", {"loadbalancer": {"name": "\0"}}).status_code == 400


def test_a_bug_is_500_with_the_request_id_and_no_traceback(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> float:
        raise RuntimeError("secret detail")

    service.clock.now = broken  # type: ignore[method-assign]  # the bug
    reply = service.send("POST", "loadbalancers", {"loadbalancer": {"vip_subnet_id": service.subnet.id}})
    assert reply.status_code == 500
    assert reply.headers["x-openstack-request-id"] in reply.json["faultstring"]
    assert "secret" not in reply.text
    assert "secret detail" in caplog.text


def test_openapi_is_served_without_a_token(service: Service) -> None:
    document = service.send("GET", "/openapi.json", by=None).json
    assert document == json.loads(service.send("GET", "/load-balancer/openapi.json", by=None).text)
    assert document["openapi"].startswith("3.1")
    assert {"UDP", "SCTP", "PROMETHEUS"} <= set(document["components"]["schemas"]["ListenerProtocol"]["enum"])
    properties = document["components"]["schemas"]["LoadBalancerCreate"]["properties"]
    assert {"vip_sg_ids", "vip_qos_policy_id", "additional_vips"} <= properties.keys()
    port = document["components"]["schemas"]["MemberCreate"]["properties"]["protocol_port"]["anyOf"][0]
    assert port == {"type": "integer", "minimum": 1, "maximum": 65535}

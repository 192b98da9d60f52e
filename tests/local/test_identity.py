"""Tokens, passwords, the catalogue, and who sees what of identity."""

import stat
import time
from collections.abc import Callable
from typing import Any

import pytest
from small_cloud import Client, Cloud, settings_of
from sqlalchemy import insert, update

from colonnade.errors import Unauthorized
from colonnade.local import directory, tokens
from colonnade.store.local_tables import local_project, local_role_assignment, local_user

TOKENS = "/identity/v3/auth/tokens"


@pytest.mark.parametrize("path", ["/identity", "/identity/", "/identity/v3", "/identity/v3/"])
def test_versions_are_told_to_anybody(cloud: Cloud, path: str) -> None:
    status = 200 if "v3" in path else 300
    document = Client(cloud, None).get(path, status)
    found = document["version"] if "v3" in path else document["versions"]["values"][0]
    assert found["id"].startswith("v3.")
    assert found["status"] == "stable"
    assert found["links"] == [{"rel": "self", "href": "http://falconframework.org/identity/v3/"}]


def test_a_token_says_who_where_and_until_when(cloud: Cloud) -> None:
    reply = Client(cloud, None).post(TOKENS, cloud.auth("admin"))
    token = reply.json["token"]
    assert token["user"]["name"] == token["project"]["name"] == "admin"
    assert {r["name"] for r in token["roles"]} == {"admin", "member", "reader"}
    assert token["methods"] == ["password"]
    assert token["issued_at"].endswith(".000000Z")
    assert reply.headers["x-openstack-request-id"].startswith("req-")


def test_the_catalogue_names_every_service(cloud: Cloud) -> None:
    catalog = Client(cloud, None).post(TOKENS, cloud.auth("demo")).json["token"]["catalog"]
    urls = {s["type"]: s["endpoints"][0]["url"].removeprefix("http://falconframework.org") for s in catalog}
    assert urls == {
        "identity": "/identity", "load-balancer": "/load-balancer", "network": "/network",
        "compute": "/compute/v2.1", "image": "/image", "key-manager": "/key-manager",
    }  # fmt: skip
    assert {e["region_id"] for s in catalog for e in s["endpoints"]} == {"RegionOne"}


def test_links_follow_the_base_uri_of_the_settings(build: Callable[..., Cloud]) -> None:
    cloud = build(api_base_uri="https://lb.example.org/cloud/")
    catalog = Client(cloud, None).post(TOKENS, cloud.auth("demo")).json["token"]["catalog"]
    assert catalog[0]["endpoints"][0]["url"].startswith("https://lb.example.org/cloud/")


SCOPES: list[tuple[Any, str | None]] = [
    (None, "admin"),
    ("unscoped", None),
    ({"project": {"name": "demo", "domain": {"id": "default"}}}, "demo"),
    ({"project": {"name": "demo", "domain": {"name": "Default"}}}, "demo"),
]


@pytest.mark.parametrize(("scope", "project"), SCOPES)
def test_scope(cloud: Cloud, scope: Any, project: str | None) -> None:
    body = cloud.auth("admin", **({} if scope is None else {"scope": scope}))
    token = Client(cloud, None).post(TOKENS, body).json["token"]
    assert token.get("project", {}).get("name") == project
    assert ("catalog" in token) == (project is not None)


def test_a_user_and_a_project_can_be_named_by_id(cloud: Cloud, admin: Client) -> None:
    user = admin.get("/identity/v3/users?name=demo")["users"][0]
    project = admin.get("/identity/v3/projects?name=demo")["projects"][0]
    given = {"id": user["id"], "password": cloud.password("demo")}
    auth = {
        "identity": {"methods": ["password"], "password": {"user": given}},
        "scope": {"project": {"id": project["id"]}},
    }
    assert admin.post(TOKENS, {"auth": auth}).json["token"]["project"]["name"] == "demo"


def test_a_token_can_be_exchanged_for_one_of_another_project(cloud: Cloud, admin: Client) -> None:
    scope = {"project": {"name": "demo", "domain": {"id": "default"}}}
    auth = {"identity": {"methods": ["token"], "token": {"id": admin.token}}, "scope": scope}
    cloud.clock.sleep(100)
    reply = Client(cloud, None).post(TOKENS, {"auth": auth}).json["token"]
    assert reply["project"]["name"] == "demo"
    assert reply["methods"] == ["password", "token"]
    old = admin.get(TOKENS, X_Subject_Token=str(admin.token))["token"]
    assert reply["expires_at"] == old["expires_at"]


def test_what_a_login_needs(cloud: Cloud) -> None:
    anyone = Client(cloud, None)
    wrong = cloud.auth("admin")
    wrong["auth"]["identity"]["password"]["user"]["password"] = "wrong"
    nobody = cloud.auth("admin")
    nobody["auth"]["identity"]["password"]["user"]["name"] = "nobody"
    elsewhere = cloud.auth("admin", scope={"project": {"name": "nowhere", "domain": {"id": "default"}}})
    foreign = cloud.auth("demo", scope={"project": {"name": "admin", "domain": {"id": "default"}}})
    system = cloud.auth("admin", scope={"system": {"all": True}})
    otherwise = cloud.auth("admin")
    otherwise["auth"]["identity"]["password"]["user"]["domain"] = {"id": "other"}
    for body in (wrong, nobody, elsewhere, foreign, system, otherwise):
        error = anyone.post(TOKENS, body, 401).json["error"]
        assert error["code"] == 401
    for body in ({}, {"auth": {}}, {"auth": {"identity": {"methods": []}}}, {"auth": 1},
                 {"auth": {"identity": {"methods": ["password"], "password": {}}}},
                 {"auth": {"identity": {"methods": ["password"], "password": {"user": {"name": "a"}}}}}):  # fmt: skip
        assert anyone.post(TOKENS, body, 400).json["error"]["title"] == "Bad Request"


def test_repeated_wrong_passwords_have_to_wait_but_whoever_is_at_work_has_not(cloud: Cloud) -> None:
    anyone = Client(cloud, None)
    anyone.post(TOKENS, cloud.auth("admin"))
    wrong = cloud.auth("admin")
    wrong["auth"]["identity"]["password"]["user"]["password"] = "wrong"
    for _ in range(5):
        anyone.post(TOKENS, wrong, 401)
    refused = anyone.post(TOKENS, wrong, 429)
    assert "try again" in refused.json["error"]["message"]
    assert int(refused.headers["retry-after"]) >= 1
    anyone.post(TOKENS, cloud.auth("admin"))
    cloud.clock.sleep(60)
    anyone.post(TOKENS, wrong, 401)


def test_tokens_end(cloud: Cloud, admin: Client) -> None:
    admin.get("/identity/v3/projects")
    cloud.clock.sleep(86400)
    admin.get("/identity/v3/projects", 401)


def test_a_revoked_token_is_worthless_here_at_once_and_elsewhere_within_a_second(build: Callable[..., Cloud]) -> None:
    here, elsewhere = build(), build()
    token = here.client("demo").token
    assert token is not None
    assert elsewhere.identity.authenticate(token).roles == {"member", "reader"}
    client = Client(here, token)
    client.ask("DELETE", TOKENS, None, 204, X_Subject_Token=token)
    client.get("/network/v2.0/networks", 401)
    elsewhere.clock.sleep(1)
    with pytest.raises(Unauthorized):
        elsewhere.identity.authenticate(token)


def test_tokens_are_looked_at_by_their_user_and_by_admins(cloud: Cloud, admin: Client, demo: Client) -> None:
    assert admin.get(TOKENS, X_Subject_Token=str(demo.token))["token"]["user"]["name"] == "demo"
    assert demo.ask("HEAD", TOKENS, X_Subject_Token=str(demo.token)).text == ""
    demo.get(TOKENS, 403, X_Subject_Token=str(admin.token))
    admin.get(TOKENS, 404, X_Subject_Token="nonsense")
    admin.get(TOKENS, 400)
    Client(cloud, None).get(TOKENS, 401, X_Subject_Token=str(admin.token))


@pytest.mark.parametrize("change", [lambda t: t[:-1] + ("B" if t[-1] == "A" else "A"),
                                    lambda t: "B" + t[1:], lambda _t: "", lambda t: t + "AAAA",
                                    lambda _t: "\xe9", lambda t: t[:50]])  # fmt: skip
def test_a_changed_token_is_refused(cloud: Cloud, admin: Client, change: Callable[[str], str]) -> None:
    with pytest.raises(Unauthorized):
        cloud.identity.authenticate(change(str(admin.token)))


def test_a_disabled_user_and_one_without_roles_lose_their_tokens(cloud: Cloud, demo: Client) -> None:
    with cloud.store.write() as conn:
        conn.execute(update(local_user).where(local_user.c.name == "demo").values(enabled=False))
        directory.changed(conn)
    cloud.clock.sleep(1)
    demo.get("/network/v2.0/networks", 401)
    demo.post(TOKENS, cloud.auth("demo"), 401)


def test_verification_is_cheap(cloud: Cloud, admin: Client) -> None:
    token = str(admin.token)
    rounds = 2000
    best = min(_timed(lambda: [cloud.identity.authenticate(token) for _ in range(rounds)]) for _ in range(5))
    assert best / rounds < 0.0001  # seconds; some 15 µs on a quiet machine


def test_a_repeated_login_costs_no_scrypt(cloud: Cloud) -> None:
    auth = cloud.auth("admin")["auth"]
    first = _timed(lambda: cloud.identity.login(auth))
    again = min(_timed(lambda: cloud.identity.login(auth)) for _ in range(5))
    assert again < first / 5


def _timed(do: Callable[[], Any]) -> float:
    """Seconds of this thread's own: not those that the machine gives to others."""
    began = time.thread_time()
    do()
    return time.thread_time() - began


def test_what_tenants_see_of_identity(admin: Client, demo: Client) -> None:
    (mine,) = demo.get("/identity/v3/auth/projects")["projects"]
    assert mine["name"] == "demo"
    assert demo.get(f"/identity/v3/projects/{mine['id']}")["project"]["name"] == "demo"
    demo.get("/identity/v3/projects", 403)
    demo.get("/identity/v3/users", 403)
    demo.get("/identity/v3/role_assignments", 403)
    other = admin.get("/identity/v3/projects?name=admin")["projects"][0]["id"]
    demo.get(f"/identity/v3/projects/{other}", 403)


def test_lists_of_identity(admin: Client) -> None:
    projects = admin.get("/identity/v3/projects")["projects"]
    assert [p["name"] for p in projects] == ["admin", "demo", "service"]
    assert admin.get(f"/identity/v3/projects?id={projects[1]['id']}")["projects"] == [projects[1]]
    assert [r["name"] for r in admin.get("/identity/v3/roles")["roles"]] == ["admin", "member", "reader"]
    assert admin.get("/identity/v3/domains/default")["domain"]["name"] == "Default"
    admin.get("/identity/v3/projects/demo", 404)
    admin.get("/identity/v3/projects?colour=red", 400)
    admin.post("/identity/v3/domains", {"domain": {"name": "x"}}, 405)


def test_role_assignments(admin: Client) -> None:
    def names(query: str) -> set[tuple[str, str, str]]:
        found = admin.get(f"/identity/v3/role_assignments?include_names{query}")["role_assignments"]
        return {(a["user"]["name"], a["scope"]["project"]["name"], a["role"]["name"]) for a in found}

    assert names("") == {("admin", "admin", "admin"), ("admin", "demo", "admin"), ("demo", "demo", "member")}
    demo = admin.get("/identity/v3/users?name=demo")["users"][0]["id"]
    assert names(f"&effective&user.id={demo}") == {("demo", "demo", "member"), ("demo", "demo", "reader")}
    for paging in ("limit=1", "marker=x"):
        admin.get(f"/identity/v3/role_assignments?{paging}", 400)


def test_noauth_takes_requests_without_a_token_on_loopback_only(build: Callable[..., Cloud]) -> None:
    cloud = build(auth_strategy="noauth")
    for token in (None, "notused"):
        assert Client(cloud, token).get("/network/v2.0/networks?name=private", Host="127.0.0.1")["networks"]
        assert cloud.identity.admit(token, {"REMOTE_ADDR": "::1"}).is_admin
        with pytest.raises(Unauthorized):
            cloud.identity.admit(token, {"REMOTE_ADDR": "192.0.2.1"})
    Client(cloud, "wrong").get("/network/v2.0/networks", 401)


def test_noauth_takes_nothing_that_a_foreign_web_page_sends(build: Callable[..., Cloud]) -> None:
    anyone = Client(build(auth_strategy="noauth"), None)
    for host in ("evil.example", "evil.example:9876", "127.0.0.1.evil.example", "[::2]:9876", "[::1", "0.0.0.0"):
        anyone.get("/network/v2.0/networks", 401, Host=host)
    for origin in ("https://evil.example", "null", "http://localhost.evil.example"):
        anyone.get("/network/v2.0/networks", 401, Host="127.0.0.1:9876", Origin=origin)
    for host in ("127.0.0.1:9876", "localhost:9876", "LOCALHOST", "[::1]:9876", "127.8.9.1"):
        anyone.get("/network/v2.0/networks", 200, Host=host)
    anyone.get("/network/v2.0/networks", 200, Host="localhost:9876", Origin="http://localhost:8080")


def test_without_noauth_a_token_is_needed(cloud: Cloud) -> None:
    for path in ("/network/v2.0/networks", "/compute/v2.1/servers", "/image/v2/images", "/identity/v3/projects"):
        assert Client(cloud, None).get(path, 401)["error"]["code"] == 401
        Client(cloud, "notused").get(path, 401)


def test_a_reader_reads_and_changes_nothing(cloud: Cloud) -> None:
    user, project = tokens.fresh_id(), tokens.fresh_id()
    with cloud.store.write() as conn:
        conn.execute(insert(local_project).values(id=project, name="third"))
        conn.execute(insert(local_user).values(id=user, name="reader", password="scrypt$2$1$1$00$00",
                                               default_project_id=project))  # fmt: skip
        conn.execute(insert(local_role_assignment).values(user_id=user, project_id=project, role="reader"))
        directory.changed(conn)
    now = int(cloud.clock.now())
    token = tokens.Token(user, project, now, now + 60, ("password",), tokens.fresh_id())
    reader = Client(cloud, tokens.sign(token, cloud.identity._key))
    reader.get("/network/v2.0/networks")
    reader.make("network", 403, name="mine")


def test_secrets_are_for_their_owner_only(cloud: Cloud) -> None:
    state = settings_of(cloud.settings.state).state
    for name in ("secrets/passwords.env", "secrets/token.key", "secrets/clouds.yaml"):
        assert stat.S_IMODE((state / name).stat().st_mode) == 0o600
    assert stat.S_IMODE((state / "secrets").stat().st_mode) == 0o700

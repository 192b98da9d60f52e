"""Projects, users, roles and assignments: made, changed and deleted by administrators."""

from collections.abc import Callable
from typing import Any

import pytest
from small_cloud import Client, Cloud
from sqlalchemy import insert

from colonnade.clock import utc
from colonnade.errors import Unauthorized
from colonnade.model import LoadBalancer
from colonnade.store import tables
from colonnade.store.rows import to_row

V3 = "/identity/v3"
TOKENS = f"{V3}/auth/tokens"
Json = dict[str, Any]


class People:
    """What an administrator does all the time."""

    def __init__(self, cloud: Cloud, admin: Client) -> None:
        self.cloud, self.admin = cloud, admin

    def make(self, kind: str, status: int = 201, **given: Any) -> Json:
        found: Json = self.admin.post(f"{V3}/{kind}s", {kind: given}, status).json
        return found[kind] if status == 201 else found["error"]

    def change(self, kind: str, item: Json, status: int = 200, **given: Any) -> Json:
        found: Json = self.admin.ask("PATCH", f"{V3}/{kind}s/{item['id']}", {kind: given}, status).json
        return found[kind] if status == 200 else found["error"]

    def remove(self, kind: str, item: Json, status: int = 204) -> Any:
        return self.admin.delete(f"{V3}/{kind}s/{item['id']}", status).json

    def named(self, kind: str, name: str) -> Json:
        (found,) = self.admin.get(f"{V3}/{kind}s?name={name}")[f"{kind}s"]
        return found

    def place(self, user: Json, project: Json, role: str) -> str:
        return f"{V3}/projects/{project['id']}/users/{user['id']}/roles/{self.named('role', role)['id']}"

    def login(self, user: str, password: str, project: str | None = None, status: int = 201) -> Client:
        given = {"name": user, "domain": {"id": "default"}, "password": password}
        auth: Json = {"identity": {"methods": ["password"], "password": {"user": given}}}
        if project:
            auth["scope"] = {"project": {"name": project, "domain": {"id": "default"}}}
        reply = Client(self.cloud, None).post(TOKENS, {"auth": auth}, status)
        return Client(self.cloud, reply.headers.get("x-subject-token"))

    def tenant(self) -> tuple[Json, Json, Client]:
        """A project with a member in it, who is logged in."""
        project = self.make("project", name="red")
        user = self.make("user", name="alice", password="secret", default_project_id=project["id"])
        self.admin.ask("PUT", self.place(user, project, "member"), None, 204)
        return project, user, self.login("alice", "secret")


@pytest.fixture
def people(cloud: Cloud, admin: Client) -> People:
    return People(cloud, admin)


def test_a_tenant_can_be_made_and_works_at_once(people: People) -> None:
    project, user, alice = people.tenant()
    assert alice.get(f"{V3}/auth/projects")["projects"][0]["id"] == project["id"]
    assert alice.get("/network/v2.0/networks")["networks"]
    token = alice.get(TOKENS, X_Subject_Token=str(alice.token))["token"]
    assert {r["name"] for r in token["roles"]} == {"member", "reader"}
    assert people.admin.get(f"{V3}/users/{user['id']}")["user"]["default_project_id"] == project["id"]
    mine = people.admin.get(f"{V3}/role_assignments?user.id={user['id']}&include_names")["role_assignments"]
    assert [(a["role"]["name"], a["scope"]["project"]["name"]) for a in mine] == [("member", "red")]


def test_what_is_given_is_what_is_shown(people: People) -> None:
    project = people.make("project", name="p", description="d", enabled=False, domain_id="default", tags=[], options={})
    assert (project["name"], project["description"], project["enabled"]) == ("p", "d", False)
    project = people.change("project", project, name="q", description="e", enabled=True)
    assert project == people.admin.get(f"{V3}/projects/{project['id']}")["project"]
    assert (project["name"], project["description"], project["enabled"]) == ("q", "e", True)
    user = people.make("user", name="u", email="u@example.org", description="d", enabled=False)
    assert (user["email"], user["description"], user["enabled"]) == ("u@example.org", "d", False)
    user = people.change("user", user, name="v", email=None, enabled=True, default_project_id=project["id"])
    assert user == people.named("user", "v")
    assert (user["email"], user["default_project_id"]) == (None, project["id"])
    role = people.make("role", name="editor", description="Edits.")
    assert people.change("role", role, description="Writes.")["description"] == "Writes."


REFUSED: list[tuple[str, Json, str]] = [
    ("project", {"name": "p", "domain_id": "other"}, "domain_id"),
    ("project", {"name": "p", "parent_id": "x"}, "parent_id"),
    ("project", {"name": "p", "is_domain": True}, "is_domain"), ("project", {"name": "p", "tags": ["t"]}, "tags"),
    ("project", {"name": "p", "options": {"immutable": True}}, "options"), ("project", {"name": "p", "x": 1}, "x"),
    ("project", {}, "name"), ("project", {"name": " "}, "name"), ("project", {"name": "p" * 65}, "name"),
    ("project", {"name": "p", "enabled": "perhaps"}, "enabled"), ("project", {"name": 1}, "name"),
    ("user", {"name": "u", "domain_id": "other"}, "domain_id"), ("user", {"name": "u", "password": ""}, "password"),
    ("user", {"name": "u", "default_project_id": "nowhere"}, "default_project_id"),
    ("user", {"name": "u", "options": {"ignore_lockout_failure_attempts": True}}, "options"),
    ("user", {"name": "u", "federated": []}, "federated"), ("user", {}, "name"),
    ("role", {"name": "r", "domain_id": "default"}, "domain_id"), ("role", {"name": "r" * 33}, "name"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "given", "word"), REFUSED)
def test_what_has_no_effect_is_refused_by_name(people: People, kind: str, given: Json, word: str) -> None:
    assert word in people.make(kind, 400, **given)["message"]
    if "name" in given and given["name"] in ("p", "u"):
        item = people.make(kind, name="first")
        assert word in people.change(kind, item, 400, **given)["message"]


def test_names_are_had_once(people: People) -> None:
    for kind, name in (("project", "demo"), ("user", "demo"), ("role", "member")):
        assert name in people.make(kind, 409, name=name)["message"]
        other = people.make(kind, name="other")
        people.change(kind, other, 409, name=name)
    people.make("role", name="another")
    assert "another" in people.make("role", 409, name="another")["message"]


def test_only_administrators_change_anything(people: People, demo: Client) -> None:
    project, user, _ = people.tenant()
    place = people.place(user, project, "reader")
    for method, path, body in (
        ("POST", "projects", {"project": {"name": "x"}}), ("POST", "users", {"user": {"name": "x"}}),
        ("POST", "roles", {"role": {"name": "x"}}), ("PATCH", f"users/{user['id']}", {"user": {"enabled": False}}),
        ("PATCH", f"projects/{project['id']}", {"project": {"name": "x"}}), ("DELETE", f"users/{user['id']}", None),
        ("DELETE", f"projects/{project['id']}", None),
    ):  # fmt: skip
        demo.ask(method, f"{V3}/{path}", body, 403)
    for method in ("PUT", "DELETE", "HEAD", "GET"):
        demo.ask(method, place, None, 403)
    demo.get(f"{V3}/projects/{project['id']}/users/{user['id']}/roles", 403)
    Client(people.cloud, None).post(f"{V3}/projects", {"project": {"name": "x"}}, 401)


@pytest.mark.parametrize("kind", ["user", "project"])
def test_who_is_deleted_is_out_at_once_here_and_elsewhere_within_a_second(
    build: Callable[..., Cloud], kind: str
) -> None:
    here, elsewhere = build(), build()
    people = People(here, here.client("admin"))
    project, user, alice = people.tenant()
    elsewhere.clock.sleep(1)
    assert elsewhere.identity.authenticate(str(alice.token)).roles == {"member", "reader"}
    people.remove(kind, project if kind == "project" else user)
    alice.get("/network/v2.0/networks", 401)
    people.login("alice", "secret", "red", 401)
    elsewhere.clock.sleep(1)
    with pytest.raises(Unauthorized):
        elsewhere.identity.authenticate(str(alice.token))
    assert people.admin.get(f"{V3}/role_assignments?user.id={user['id']}")["role_assignments"] == []
    if kind == "project":
        assert people.named("user", "alice")["default_project_id"] is None


@pytest.mark.parametrize("how", ["password", "user", "project"])
def test_tokens_end_with_a_new_password_and_with_being_disabled(people: People, how: str) -> None:
    project, user, alice = people.tenant()
    password = "secret"
    if how == "password":
        password = "another"
        people.change("user", user, password=password)
        people.login("alice", "secret", "red", 401)
    else:
        item = user if how == "user" else project
        people.change(how, item, enabled=False)
        people.login("alice", "secret", "red", 401)
        people.change(how, item, enabled=True)
    alice.get("/network/v2.0/networks", 401)
    people.login("alice", password, "red").get("/network/v2.0/networks")


def test_users_change_their_own_password_by_the_old_one(people: People) -> None:
    _, user, alice = people.tenant()
    path = f"{V3}/users/{user['id']}/password"
    alice.post(path, {"user": {"original_password": "wrong", "password": "new"}}, 401)
    alice.post(path, {"user": {"password": "new"}}, 400)
    people.admin.post(path, {"user": {"original_password": "secret", "password": "new"}}, 403)
    alice.post(path, {"user": {"original_password": "secret", "password": "new"}}, 204)
    alice.get("/network/v2.0/networks", 401)
    people.login("alice", "secret", None, 401)
    people.login("alice", "new").get("/network/v2.0/networks")


def test_a_role_that_is_taken_away_is_gone_from_tokens_that_there_are(people: People) -> None:
    project, user, alice = people.tenant()
    member, reader = (people.place(user, project, role) for role in ("member", "reader"))
    people.admin.ask("PUT", reader, None, 204)
    people.admin.ask("PUT", reader, None, 204)
    people.admin.ask("HEAD", reader, None, 204)
    people.admin.ask("DELETE", member, None, 204)
    people.admin.ask("HEAD", member, None, 404)
    people.admin.ask("DELETE", member, None, 404)
    assert people.cloud.identity.authenticate(str(alice.token)).roles == {"reader"}
    roles = people.admin.get(f"{V3}/projects/{project['id']}/users/{user['id']}/roles")["roles"]
    assert [r["name"] for r in roles] == ["reader"]
    people.admin.ask("DELETE", reader, None, 204)
    alice.get("/network/v2.0/networks", 401)


def test_roles_of_ones_own_are_in_tokens_and_go_with_their_assignments(people: People) -> None:
    project, user, alice = people.tenant()
    role = people.make("role", name="load-balancer_observer")
    people.admin.ask("PUT", people.place(user, project, "load-balancer_observer"), None, 204)
    held = people.cloud.identity.authenticate
    assert held(str(alice.token)).roles == {"member", "reader", "load-balancer_observer"}
    shown = alice.get(TOKENS, X_Subject_Token=str(alice.token))["token"]["roles"]
    assert {"id": role["id"], "name": role["name"]} in shown
    people.change("role", role, name="observer")
    assert held(str(alice.token)).roles == {"member", "reader", "observer"}
    people.remove("role", role)
    assert held(str(alice.token)).roles == {"member", "reader"}
    people.make("role", name="observer")
    assert held(str(alice.token)).roles == {"member", "reader"}


def test_what_an_installation_stands_on_stays(people: People) -> None:
    for role in ("admin", "member", "reader"):
        people.remove("role", people.named("role", role), 409)
        people.change("role", people.named("role", role), 409, name="x")
    service = people.named("project", "service")
    people.remove("project", service, 409)
    people.change("project", service, 409, name="x")
    admin = people.named("user", "admin")
    people.remove("user", admin, 409)
    people.change("user", admin, 409, enabled=False)
    for project in ("demo", "admin"):
        place = people.place(admin, people.named("project", project), "admin")
        people.admin.ask("DELETE", place, None, 204 if project == "demo" else 409)
    people.admin.get(f"{V3}/projects")


def test_a_project_that_owns_something_is_not_deleted(people: People) -> None:
    project, _, alice = people.tenant()
    lb = LoadBalancer(id="lb", project_id=project["id"], created_at=utc(0))
    with people.cloud.store.write() as conn:
        conn.execute(insert(tables.load_balancer).values(to_row(lb)))
    network = alice.make("network", name="n")
    message = people.remove("project", project, 409)["error"]["message"]
    assert "1 load balancer, 1 network" in message
    alice.get(f"/network/v2.0/networks/{network['id']}")


def test_roles_elsewhere_are_refused(people: People) -> None:
    project, user, _ = people.tenant()
    role = people.named("role", "member")["id"]
    inherited = f"OS-INHERIT/projects/{project['id']}/users/{user['id']}/roles/{role}/inherited_to_projects"
    for path in (
        f"system/users/{user['id']}/roles/{role}", f"domains/default/users/{user['id']}/roles/{role}",
        f"projects/{project['id']}/groups/g/roles/{role}", inherited,
    ):  # fmt: skip
        message = people.admin.ask("PUT", f"{V3}/{path}", None, 400).json["error"]["message"]
        assert "projects only" in message


def test_a_user_without_a_password_cannot_log_in(people: People) -> None:
    user = people.make("user", name="robot")
    people.login("robot", "x", None, 401)
    people.login("robot", "", None, 401)
    people.change("user", user, password="x")
    people.login("robot", "x")

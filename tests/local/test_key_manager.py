"""The key manager: what goes in comes out for those who may have it, and lies encrypted in between."""

import base64
import os
from collections.abc import Callable

import pytest
from small_cloud import Client, Cloud
from sqlalchemy import select, update

from colonnade.errors import Broken, Forbidden, Invalid
from colonnade.local import vault
from colonnade.local.vault import LocalSecrets, Seal
from colonnade.model import Caller
from colonnade.store.local_tables import local_secret
from colonnade.store.tables import work
from colonnade.types import Json
from tests import pki

P12 = pki.authority().issue("www.test").p12()
V1 = "/key-manager/v1"


def store(client: Client, payload: bytes | str = P12, status: int = 201, **given: object) -> str:
    """Store one; answers its path."""
    encoded = isinstance(payload, bytes)
    body = {
        "payload": base64.encodebytes(payload).decode() if isinstance(payload, bytes) else payload,
        "payload_content_type": "application/octet-stream" if encoded else "text/plain",
        **({"payload_content_encoding": "base64"} if encoded else {}), **given,
    }  # fmt: skip
    answer = client.post(f"{V1}/secrets", {k: v for k, v in body.items() if v is not None}, status).json
    return f"{V1}/secrets/{answer['secret_ref'].rpartition('/')[2]}" if status == 201 else answer["description"]


def payload(client: Client, path: str, status: int = 200) -> bytes:
    found: bytes = client.ask("GET", f"{path}/payload", None, status, Accept="application/octet-stream").content
    return found


def put(client: Client, path: str, data: bytes, status: int = 204, **headers: str) -> None:
    from falcon import testing

    headers = {"X-Auth-Token": client.token or "", "Content-Type": "application/octet-stream", **headers}
    answer = testing.TestClient(client.cloud).simulate_put(path, body=data, headers=headers)
    assert answer.status_code == status, answer.text


@pytest.fixture
def secrets(cloud: Cloud) -> LocalSecrets:
    return LocalSecrets(store=cloud.store, seal=Seal(cloud.settings.state / "secrets"), clock=cloud.clock)


def project_of(cloud: Cloud, name: str) -> str:
    project = cloud.identity.directory().project_named(name)
    assert project
    return project.id


def test_what_is_stored_comes_back(demo: Client) -> None:
    path = store(demo, name="mine", secret_type="opaque", algorithm="x", mode="y", bit_length=256)
    shown = demo.get(path, Accept="application/json")
    kept = {k: shown[k] for k in ("name", "status", "secret_type", "content_types", "bit_length", "consumers")}
    assert kept == {
        "name": "mine", "status": "ACTIVE", "secret_type": "opaque", "bit_length": 256, "consumers": [],
        "content_types": {"default": "application/octet-stream"},
    }  # fmt: skip
    assert payload(demo, path) == P12
    assert demo.ask("GET", store(demo, "schön") + "/payload", Accept="text/plain").text == "schön"


def test_nothing_can_be_read_from_the_database(cloud: Cloud, demo: Client) -> None:
    store(demo, "a very plain secret")
    cloud.store.close()
    for file in (cloud.settings.state / "db").iterdir():
        assert b"very plain" not in file.read_bytes()
    key = cloud.settings.state / "secrets" / "key-manager.key"
    assert os.stat(key).st_mode & 0o777 == 0o600


def test_a_payload_belongs_to_its_own_secret(cloud: Cloud, demo: Client, secrets: LocalSecrets) -> None:
    one, other = store(demo, "one"), store(demo, "other")
    with cloud.store.write() as conn:
        table = local_secret
        stolen = conn.execute(select(table.c.payload).where(table.c.id == one.rpartition("/")[2])).scalar_one()
        conn.execute(update(table).where(table.c.id == other.rpartition("/")[2]).values(payload=stolen))
    with pytest.raises(Broken, match="cannot be decrypted"):
        secrets.fetch(other, project_of(cloud, "demo"))
    demo.ask("GET", f"{other}/payload", None, 500)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"payload": ""}, "it is empty"),
        ({"payload": 5}, "a text is needed"),
        ({"payload_content_type": None}, "payload_content_type"),
        ({"payload_content_encoding": "base64"}, "none for text"),
        ({"payload_content_type": "application/octet-stream"}, "base64 is needed"),
        ({"payload_content_type": "application/octet-stream", "payload_content_encoding": "base64", "payload": "?"},
         "not base64"),
        ({"secret_type": "diary"}, "secret_type"),
        ({"bit_length": 0}, "bit_length"),
        ({"bit_length": "x"}, "bit_length"),
        ({"expiration": "tomorrow"}, "ISO 8601"),
        ({"expiration": "2020-01-01T00:00:00"}, "in the past"),
        ({"name": "x" * 256}, "255 letters"),
        ({"name": ["x"]}, "255 letters"),
    ],
)  # fmt: skip
def test_what_cannot_be_stored(demo: Client, given: Json, why: str) -> None:
    assert why in store(demo, **{"payload": "text", **given}, status=400)


def test_a_payload_may_be_too_long_or_of_a_strange_kind(demo: Client) -> None:
    store(demo, "x" * 65537, status=413)
    store(demo, "x", status=415, payload_content_type="image/png")


def test_two_steps_and_then_another_payload(demo: Client) -> None:
    path = store(demo, None, payload_content_type=None)  # type: ignore[arg-type]
    payload(demo, path, 404)
    put(demo, path, b"first")
    assert payload(demo, path) == b"first"
    put(demo, path, base64.b64encode(b"second"), **{"Content-Encoding": "base64"})
    assert payload(demo, path) == b"second"
    put(demo, path, b"", 400)
    put(demo, path, b"x", 415, **{"Content-Type": "image/png"})


def test_other_projects_see_nothing(cloud: Cloud, admin: Client, demo: Client, secrets: LocalSecrets) -> None:
    path = store(admin)
    for answer in ("", "/payload", "/acl", "/consumers"):
        demo.ask("GET", path + answer, None, 403)
    demo.delete(path, 403)
    put(demo, path, b"x", 403)
    demo.ask("PUT", f"{path}/acl", {"read": {"users": ["x"]}}, 403)
    assert demo.get(f"{V1}/secrets")["secrets"] == []
    stranger = Caller(user_id="u", project_id=project_of(cloud, "demo"), roles=frozenset({"member", "reader"}))
    with pytest.raises(Forbidden):
        secrets.read(path, stranger)
    with pytest.raises(Broken, match="belongs to another project"):
        secrets.fetch(path, project_of(cloud, "demo"))


def test_an_acl_lets_a_user_in(cloud: Cloud, admin: Client, demo: Client, secrets: LocalSecrets) -> None:
    path = store(admin)
    user = cloud.identity.directory().user_named("demo")
    assert user
    assert admin.get(f"{path}/acl") == {"read": {"project-access": True}}
    ref = admin.ask("PUT", f"{path}/acl", {"read": {"users": [user.id]}}).json["acl_ref"]
    assert ref.endswith("/acl")
    assert payload(demo, path) == P12
    assert admin.get(f"{path}/acl")["read"]["users"] == [user.id]
    secrets.grant(path, Caller(user_id=user.id, project_id=project_of(cloud, "demo"), roles=frozenset({"member"})))
    assert secrets.fetch(path, project_of(cloud, "demo")).payloads == {"": P12}
    admin.ask("PATCH", f"{path}/acl", {"read": {"project-access": False}})
    assert admin.get(f"{path}/acl")["read"]["users"] == [user.id, vault.SERVICE]
    admin.ask("DELETE", f"{path}/acl", None, 200)
    payload(demo, path, 403)


@pytest.mark.parametrize("body", [{}, {"read": []}, {"read": {"users": "x"}}, {"read": {"project-access": 1}}], ids=str)
def test_acls_that_make_no_sense(demo: Client, body: Json) -> None:
    demo.ask("PUT", f"{store(demo)}/acl", body, 400)


def test_readers_see_that_it_is_there(cloud: Cloud, demo: Client, secrets: LocalSecrets) -> None:
    path = store(demo)
    reader = Caller(user_id="r", project_id=project_of(cloud, "demo"), roles=frozenset({"reader"}))
    with pytest.raises(Forbidden):
        secrets.read(path, reader)


def test_lists_are_filtered_sorted_and_paged(demo: Client) -> None:
    for n in range(12):
        store(demo, "x", name=f"n{n % 3}", secret_type="passphrase" if n % 2 else "opaque")
    first = demo.get(f"{V1}/secrets?limit=5&offset=0")
    assert (len(first["secrets"]), first["total"], "previous" in first) == (5, 12, False)
    assert "offset=5" in first["next"]
    assert len(demo.get(f"{V1}/secrets?name=n1&limit=100")["secrets"]) == 4
    assert len(demo.get(f"{V1}/secrets?secret_type=passphrase&limit=100")["secrets"]) == 6
    names = [s["name"] for s in demo.get(f"{V1}/secrets?sort=name:desc&limit=100")["secrets"]]
    assert names == sorted(names, reverse=True)
    assert demo.get(f"{V1}/secrets?created=gt:2001-01-01T00:00:00")["total"] == 12
    assert demo.get(f"{V1}/secrets?created=lt:2001-01-01T00:00:00")["total"] == 0
    demo.get(f"{V1}/secrets?sort=payload", 400)
    demo.get(f"{V1}/secrets?created=yesterday", 400)


def test_an_expired_secret_is_gone(cloud: Cloud, demo: Client, secrets: LocalSecrets) -> None:
    path = store(demo, expiration="2027-01-15T09:00:00")
    assert demo.get(path, Accept="application/json")["expiration"] == "2027-01-15T09:00:00"
    cloud.clock.time += 2 * 3600
    demo.get(path, 404)
    assert demo.get(f"{V1}/secrets")["total"] == 0
    with pytest.raises(Broken, match="expired on 2027-01-15 09:00 UTC"):
        secrets.fetch(path, project_of(cloud, "demo"))


def test_containers(cloud: Cloud, demo: Client, secrets: LocalSecrets) -> None:
    parts = {name: store(demo, name) for name in ("certificate", "private_key")}
    refs = [{"name": n, "secret_ref": f"http://x{p.removeprefix('/key-manager')}"} for n, p in parts.items()]
    made = demo.post(f"{V1}/containers", {"type": "certificate", "name": "c", "secret_refs": refs}).json
    path = f"{V1}/containers/{made['container_ref'].rpartition('/')[2]}"
    shown = demo.get(path)
    assert (shown["name"], shown["type"]) == ("c", "certificate")
    assert {r["name"] for r in shown["secret_refs"]} == set(parts)
    assert demo.get(f"{V1}/containers")["total"] == 1
    found = secrets.fetch(path, project_of(cloud, "demo"))
    assert found.payloads == {"certificate": b"certificate", "private_key": b"private_key"}
    demo.delete(parts["private_key"])
    with pytest.raises(Broken, match="does not exist any more"):
        secrets.fetch(path, project_of(cloud, "demo"))
    demo.delete(path)
    demo.get(path, 404)


@pytest.mark.parametrize(
    ("kind", "names", "status"),
    [("certificate", ["private_key"], 400), ("certificate", ["certificate", "diary"], 400),
     ("rsa", ["public_key"], 400),
     ("box", [], 400), ("generic", ["anything"], 201), ("generic", ["a", "a"], 400)],
)  # fmt: skip
def test_what_containers_hold(demo: Client, kind: str, names: list[str], status: int) -> None:
    refs = [{"name": n, "secret_ref": store(demo, "x")} for n in names]
    demo.post(f"{V1}/containers", {"type": kind, "secret_refs": refs}, status)


def test_a_container_of_anothers_secret_is_refused(admin: Client, demo: Client) -> None:
    refs = [{"name": "certificate", "secret_ref": store(admin)}]
    demo.post(f"{V1}/containers", {"type": "certificate", "secret_refs": refs}, 403)


def test_consumers(demo: Client) -> None:
    path, one = store(demo), {"service": "compute", "resource_type": "server", "resource_id": "1"}
    for _ in range(2):
        assert demo.post(f"{path}/consumers", one, 200).json["consumers"] == [one]
    assert demo.get(f"{path}/consumers")["total"] == 1
    demo.delete(path, 409)
    demo.ask("DELETE", f"{path}/consumers", one)
    demo.ask("DELETE", f"{path}/consumers", one, 404)
    demo.post(f"{path}/consumers", {**one, "service": vault.SERVICE}, 403)
    demo.delete(path)


def test_a_secret_in_use_is_not_removed_unawares(cloud: Cloud, demo: Client, secrets: LocalSecrets) -> None:
    path = store(demo)
    secrets.used("lb1", {path})
    assert demo.get(f"{path}/consumers")["consumers"] == [
        {"service": "colonnade", "resource_type": "load-balancer", "resource_id": "lb1"}
    ]
    demo.delete(path, 409)
    secrets.used("lb1", set())
    assert secrets.users() == set()
    secrets.used("lb2", {path})
    demo.delete(f"{path}?force=1")
    assert secrets.users() == set()


def test_load_balancers_look_again_when_a_secret_of_theirs_changes(
    cloud: Cloud, demo: Client, secrets: LocalSecrets
) -> None:
    path = store(demo)
    container = demo.post(
        f"{V1}/containers", {"type": "certificate", "secret_refs": [{"name": "certificate", "secret_ref": path}]}
    ).json["container_ref"]
    secrets.used("lb1", {path})
    secrets.used("lb2", {container})
    with cloud.store.write() as conn:
        for lb in ("lb1", "lb2", "lb3"):
            conn.execute(work.insert().values(subject=lb, generation=1))
    put(demo, path, b"new")
    assert sorted(cloud.bell.rung) == ["lb1", "lb2"]
    with cloud.store.read() as conn:
        due = conn.execute(select(work.c.subject).where(work.c.due_at.is_not(None))).scalars()
        assert set(due) - {"fabric"} == {"lb1", "lb2"}


@pytest.mark.parametrize("ref", ["", "x", "http://h/v1/secrets/x", "http://h/v1/orders/" + "0" * 8])
def test_references_that_are_none(secrets: LocalSecrets, ref: str) -> None:
    with pytest.raises(Invalid):
        secrets.read(ref, Caller(user_id="u", project_id="p", roles=frozenset({"member"})))
    with pytest.raises(Broken):
        secrets.fetch(ref, "p")


def test_a_lost_key_file_is_told(build: Callable[..., Cloud], demo: Client, cloud: Cloud) -> None:
    path = store(demo)
    (cloud.settings.state / "secrets" / "key-manager.key").unlink()
    other = LocalSecrets(store=cloud.store, seal=Seal(cloud.settings.state / "secrets"), clock=cloud.clock)
    with pytest.raises(Broken, match="another key file"):
        other.fetch(path, project_of(cloud, "demo"))


def test_versions(demo: Client) -> None:
    (version,) = demo.get("/key-manager/")["versions"]
    assert (version["id"], version["min_version"], version["max_version"]) == ("v1", "1.0", "1.2")
    demo.get("/key-manager/", 406, OpenStack_API_Version="key-manager 9.9")

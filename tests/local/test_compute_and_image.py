"""Servers are the amphorae; one image stands for what they are made of."""

from contextlib import nullcontext

import pytest
from small_cloud import Client, Cloud
from sqlalchemy import insert

from colonnade.clock import utc
from colonnade.drivers.agent import IMAGE_ID
from colonnade.errors import Invalid
from colonnade.local.compute import Host
from colonnade.model import Amphora
from colonnade.store.rows import to_row
from colonnade.store.tables import amphora
from colonnade.types import AmphoraStatus

SERVERS = "/compute/v2.1/servers"


@pytest.fixture
def amphorae(cloud: Cloud, demo: Client) -> list[str]:
    """Three amphorae, the first of them plugged into private-subnet, the last deleted."""
    subnet = cloud.network.subnet(demo.subnet("private-subnet")["id"])
    assert subnet is not None
    cloud.network.ensure_plugged("a1", [subnet])
    states = {"a1": AmphoraStatus.ALLOCATED, "a2": AmphoraStatus.BOOTING, "a3": AmphoraStatus.DELETED}
    with cloud.store.write() as conn:
        for name, status in states.items():
            row = Amphora(id=name, loadbalancer_id="lb", status=status, created_at=utc(0))
            conn.execute(insert(amphora).values(to_row(row)))
    return list(states)


@pytest.mark.parametrize("path", ["/compute", "/compute/", "/compute/v2.1", "/compute/v2.1/"])
def test_versions_are_told_to_anybody(cloud: Cloud, path: str) -> None:
    document = Client(cloud, None).get(path)
    found = document["version"] if "v2.1" in path else document["versions"][0]
    assert (found["id"], found["status"], found["min_version"], found["version"]) == ("v2.1", "CURRENT", "2.1", "2.96")


@pytest.mark.usefixtures("amphorae")
def test_admins_see_amphorae_as_servers_of_the_service(admin: Client, demo: Client) -> None:
    found = admin.get(f"{SERVERS}/detail?deleted=False&all_tenants=True")["servers"]
    assert {s["name"]: s["status"] for s in found} == {"amphora-a1": "ACTIVE", "amphora-a2": "BUILD"}
    (private,) = (s["addresses"]["private"] for s in found if s["id"] == "a1")
    assert private[0]["addr"] == "10.64.0.2"
    assert private[0]["version"] == 4
    assert found[0]["image"] == ""
    service = admin.get("/identity/v3/projects?name=service")["projects"][0]["id"]
    assert {s["tenant_id"] for s in found} == {service}
    assert admin.get(f"{SERVERS}/detail")["servers"] == []
    assert demo.get(f"{SERVERS}/detail?all_tenants=True")["servers"] == []
    assert admin.get(f"{SERVERS}/a1")["server"]["name"] == "amphora-a1"
    for client, name in ((demo, "a1"), (admin, "amphora-a1"), (admin, "a3")):
        assert client.get(f"{SERVERS}/{name}", 404)["itemNotFound"]["code"] == 404


@pytest.mark.usefixtures("amphorae")
@pytest.mark.parametrize(
    ("query", "names"),
    [("name=a2", ["amphora-a2"]), ("status=ACTIVE", ["amphora-a1"]), ("ip=10.64.0.2", ["amphora-a1"]),
     ("flavor=other", []), ("image=x", []), ("limit=1&sort_key=id&sort_dir=desc", ["amphora-a2"])],
)  # fmt: skip
def test_filters(admin: Client, query: str, names: list[str]) -> None:
    assert [s["name"] for s in admin.get(f"{SERVERS}?all_tenants=1&{query}")["servers"]] == names


@pytest.mark.usefixtures("amphorae")
@pytest.mark.parametrize(
    ("version", "has", "has_not"),
    [("2.1", "OS-EXT-STS:vm_state", "locked"), ("2.26", "tags", "locked_reason"),
     ("2.96", "pinned_availability_zone", "x")],
)  # fmt: skip
def test_microversions(admin: Client, version: str, has: str, has_not: str) -> None:
    reply = admin.ask("GET", f"{SERVERS}/a1", OpenStack_API_Version=f"compute {version}")
    assert reply.headers["openstack-api-version"] == f"compute {version}"
    server = reply.json["server"]
    assert has in server
    assert has_not not in server
    assert ("original_name" in server["flavor"]) == (version == "2.96")
    admin.get(f"{SERVERS}/a1", X_OpenStack_Nova_API_Version=version)


@pytest.mark.parametrize("version", ["2.97", "2.0", "3.1", "x", "2.x", "-2.1"])
def test_microversions_that_are_not_served(admin: Client, version: str) -> None:
    admin.get(SERVERS, 406, OpenStack_API_Version=f"compute {version}")


def test_flavors(admin: Client) -> None:
    found = admin.get("/compute/v2.1/flavors/detail?is_public=None", OpenStack_API_Version="compute 2.61")["flavors"]
    assert [f["name"] for f in found] == ["amphora"]
    assert found[0]["extra_specs"] == {}
    assert set(admin.get("/compute/v2.1/flavors")["flavors"][0]) == {"id", "name", "links"}
    assert admin.get("/compute/v2.1/flavors/amphora")["flavor"]["disk"] == 1
    admin.get("/compute/v2.1/flavors/m1.tiny", 404)


@pytest.mark.parametrize(("method", "path"), [("POST", SERVERS), ("DELETE", f"{SERVERS}/a1"), ("PUT", f"{SERVERS}/a1"),
                                              ("POST", "/compute/v2.1/flavors")])  # fmt: skip
def test_nothing_is_made_here(admin: Client, method: str, path: str) -> None:
    assert "here" in admin.ask(method, path, {}, 405).json["badMethod"]["message"]


def test_one_image_stands_for_what_amphorae_are_made_of(cloud: Cloud, admin: Client, demo: Client) -> None:
    for path, status in (("/image", 300), ("/image/", 300), ("/image/v2", 200), ("/image/versions", 200)):
        assert "v2.9" in str(Client(cloud, None).get(path, status))
    (image,) = demo.get("/image/v2/images")["images"]
    assert (image["id"], image["name"], image["tags"]) == (IMAGE_ID, "amphora-x64-haproxy", ["amphora"])
    assert admin.get(f"/image/v2/images/{IMAGE_ID}") == image
    assert admin.ask("GET", image["file"].replace("/v2", "/image/v2", 1), status=204).content == b""
    admin.get("/image/v2/images/amphora-x64-haproxy", 404)
    admin.post("/image/v2/images", {}, 405)
    admin.delete(f"/image/v2/images/{IMAGE_ID}", 405)


@pytest.mark.parametrize(
    ("query", "found"),
    [(f"id=in:a,{IMAGE_ID}", 1), ("id=in:a,b", 0), ("name=amphora-x64-haproxy", 1), ("name=cirros", 0),
     ("tag=amphora", 1), ("tag=amphora&tag=x", 0), ("status=active&visibility=public", 1), ("visibility=private", 0),
     (f"marker={IMAGE_ID}&limit=1", 0), ("sort=name:asc,created_at:desc", 1), ("size_min=1", 0)],
)  # fmt: skip
def test_images_are_found(admin: Client, query: str, found: int) -> None:
    assert len(admin.get(f"/image/v2/images?{query}")["images"]) == found


def test_servers_name_their_image(cloud: Cloud, admin: Client) -> None:
    row = Amphora(id="a1", loadbalancer_id="lb", status=AmphoraStatus.ALLOCATED, created_at=utc(0), image_id=IMAGE_ID)
    with cloud.store.write() as conn:
        conn.execute(insert(amphora).values(to_row(row)))
    (server,) = admin.get(f"{SERVERS}/detail?all_tenants=True&image={IMAGE_ID}")["servers"]
    assert server["image"]["id"] == IMAGE_ID
    assert server["image"]["links"][0]["href"].endswith(f"/image/v2/images/{IMAGE_ID}")
    assert admin.get(f"{SERVERS}?all_tenants=True&image=x")["servers"] == []


@pytest.mark.parametrize(
    ("option", "value", "good"),
    [("amp_image_tag", "amphora", True), ("amp_image_tag", "x", False), ("compute_flavor", "amphora", True),
     ("compute_flavor", "x", False), ("compute_zone", "nova", True), ("compute_zone", "x", False)],
)  # fmt: skip
def test_what_this_host_has_for_amphorae(option: str, value: str, good: bool) -> None:
    with nullcontext() if good else pytest.raises(Invalid, match="not found"):
        Host().check(option, value)

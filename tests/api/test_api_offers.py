"""Flavors, availability zones, their profiles, providers' capabilities: and what they do to load balancers."""

import json
from typing import Any

import pytest
from lb_service import Service, nobody_has

from colonnade.errors import ApiError
from colonnade.local.compute import Host

NIL = "00000000-0000-0000-0000-000000000000"
PROFILE = {"name": "p", "provider_name": "amphora"}


def flavor_profile(service: Service, expect: int = 201, **more: Any) -> Any:
    body = {**PROFILE, "flavor_data": "{}", **more}
    if not isinstance(body["flavor_data"], str | None):
        body["flavor_data"] = json.dumps(body["flavor_data"])
    found = service.post("flavorprofiles", {"flavorprofile": body}, by="admin", expect=expect)
    return found.get("flavorprofile", found)


def flavor(service: Service, data: Any = "{}", *, provider: str = "amphora", **more: Any) -> Any:
    profile = flavor_profile(service, flavor_data=data, provider_name=provider)
    body = {"name": "gold", "flavor_profile_id": profile["id"], **more}
    return service.post("flavors", {"flavor": body}, by="admin")["flavor"]


def zone_profile(service: Service, data: Any = "{}", expect: int = 201, **more: Any) -> Any:
    text = data if isinstance(data, str) else json.dumps(data)
    body = {"availability_zone_profile": {**PROFILE, "availability_zone_data": text, **more}}
    found = service.post("availabilityzoneprofiles", body, by="admin", expect=expect)
    return found.get("availability_zone_profile", found)


def zone(service: Service, data: Any = "{}", *, provider: str = "amphora", **more: Any) -> Any:
    profile = zone_profile(service, data, provider_name=provider)
    body = {"name": "north", "availability_zone_profile_id": profile["id"], **more}
    return service.post("availabilityzones", {"availability_zone": body}, by="admin")["availability_zone"]


def test_what_is_shown(service: Service) -> None:
    text = '{\n "loadbalancer_topology": "SINGLE"}'
    profile = flavor_profile(service, flavor_data=text)
    assert profile == {**PROFILE, "id": profile["id"], "flavor_data": text}
    assert service.get(f"flavorprofiles/{profile['id']}", by="admin") == {"flavorprofile": profile}
    one = flavor(service)
    assert one == {
        "id": one["id"], "name": "gold", "description": "", "enabled": True,
        "flavor_profile_id": one["flavor_profile_id"],
    }  # fmt: skip
    assert service.get(f"flavors/{one['id']}") == {"flavor": one}
    assert service.get(f"flavors/{one['id']}?fields=name") == {"flavor": {"name": "gold"}}
    north = zone(service, {"compute_zone": "nova"}, description="cold", enabled=False)
    assert north == {
        "name": "north", "description": "cold", "enabled": False,
        "availability_zone_profile_id": north["availability_zone_profile_id"],
    }  # fmt: skip
    assert service.get("availabilityzones/north") == {"availability_zone": north}


def test_lists(service: Service) -> None:
    profile = flavor_profile(service)
    for name in "abc":
        body = {"name": name, "flavor_profile_id": profile["id"], "enabled": name != "b"}
        service.post("flavors", {"flavor": body}, by="admin")
    north = zone(service)
    empty = service.get("flavorprofiles?name=x", by="admin")
    assert empty == {"flavorprofiles": [], "flavorprofile_links": []}
    assert [f["name"] for f in service.get("flavors?enabled=True&sort=name")["flavors"]] == ["a", "c"]
    first = service.get("flavors?limit=2&sort=name")
    assert [f["name"] for f in first["flavors"]] == ["a", "b"]
    query = first["flavors_links"][0]["href"].partition("?")[2]
    assert [f["name"] for f in service.get(f"flavors?{query}")["flavors"]] == ["c"]
    zones = service.get("availabilityzones?limit=1")
    assert (zones["availability_zones"], zones["availability_zones_links"][0]["rel"]) == ([north], "next")
    assert service.get("availabilityzones?marker=north")["availability_zones"] == []
    found = service.get("availabilityzoneprofiles", by="admin")
    assert (len(found["availability_zone_profiles"]), found["availability_zone_profile_links"]) == (1, [])
    service.get("flavors?tags=x", expect=400)
    service.get("flavors?marker=nobody", expect=400)


@pytest.mark.parametrize(
    ("data", "expect"),
    [
        ({}, 201), ({"loadbalancer_topology": "SINGLE"}, 201), ({"loadbalancer_topology": "ACTIVE_STANDBY"}, 501),
        ({"loadbalancer_topology": "TRIPLE"}, 501), ({"compute_flavor": "small"}, 201), ({"compute_flavor": "x"}, 400),
        ({"compute_flavor": 5}, 501), ({"amp_image_tag": "tag"}, 201), ({"amp_image_tag": "x"}, 400),
        ({"sriov_vip": False, "allow_member_sriov": False}, 201), ({"sriov_vip": True}, 501),
        ({"allow_member_sriov": True}, 501), ({"sriov_vip": "yes"}, 501), ({"colour": "red"}, 501), ("[]", 400),
        ("{", 400), ("", 400), ("x" * 4097, 400), (None, 400),
    ],
    ids=str,
)  # fmt: skip
def test_flavor_data(service: Service, data: Any, expect: int) -> None:
    flavor_profile(service, expect, flavor_data=data)


@pytest.mark.parametrize(
    ("data", "expect"),
    [
        ({}, 201), ({"compute_zone": "nova"}, 201), ({"compute_zone": "x"}, 400), ({"compute_zone": ["nova"]}, 501),
        ({"volume_zone": "nova"}, 501), ({"management_network": nobody_has()}, 501), ({"valid_vip_networks": []}, 201),
        ({"valid_vip_networks": ["NETWORK"]}, 201), ({"valid_vip_networks": [nobody_has()]}, 400),
        ({"valid_vip_networks": "NETWORK"}, 501), ({"valid_vip_networks": ["net"]}, 501), ({"colour": 1}, 501),
        ("nonsense", 400),
    ],
    ids=str,
)  # fmt: skip
def test_availability_zone_data(service: Service, data: Any, expect: int) -> None:
    text = data if isinstance(data, str) else json.dumps(data)
    zone_profile(service, text.replace("NETWORK", service.subnet.network_id), expect)


@pytest.mark.parametrize(
    ("option", "value", "status"),
    [("compute_flavor", "amphora", None), ("compute_flavor", "m1.small", 400), ("compute_zone", "nova", None),
     ("compute_zone", "az1", 400), ("amp_image_tag", "x", 400), ("sriov_vip", "true", 501),
     ("allow_member_sriov", "true", 501), ("volume_zone", "x", 501), ("management_network", "x", 501)],
)  # fmt: skip
def test_what_a_stand_alone_host_has(option: str, value: str, status: int | None) -> None:
    if status is None:
        Host().check(option, value)
        return
    with pytest.raises(ApiError) as refused:
        Host().check(option, value)
    assert refused.value.status == status


@pytest.mark.parametrize(
    ("path", "root", "fields", "expect"),
    [
        ("flavorprofiles", "flavorprofile", {}, 400),
        ("flavorprofiles", "flavorprofile", {**PROFILE, "flavor_data": "{}", "provider_name": "other"}, 400),
        ("flavorprofiles", "flavorprofile", {**PROFILE, "flavor_data": "{}", "name": "x" * 256}, 400),
        ("flavorprofiles", "flavorprofile", {**PROFILE, "flavor_data": "{}", "colour": 1}, 400),
        ("flavors", "flavor", {"name": "x"}, 400),
        ("flavors", "flavor", {"name": "x", "flavor_profile_id": "x"}, 400),
        ("flavors", "flavor", {"name": "x", "flavor_profile_id": nobody_has()}, 400),
        ("availabilityzones", "availability_zone", {"name": "x", "availability_zone_profile_id": nobody_has()}, 400),
        ("availabilityzoneprofiles", "availability_zone_profile", {"name": "x"}, 400),
    ],
    ids=str,
)  # fmt: skip
def test_creation_is_checked(service: Service, path: str, root: str, fields: Any, expect: int) -> None:
    service.post(path, {root: fields}, by="admin", expect=expect)


@pytest.mark.parametrize("name", ["", "a/b", NIL, ".."])
def test_names_that_no_path_can_hold(service: Service, name: str) -> None:
    profile = zone_profile(service)
    body = {"name": name, "availability_zone_profile_id": profile["id"]}
    service.post("availabilityzones", {"availability_zone": body}, by="admin", expect=400)


def test_names_are_unique(service: Service) -> None:
    gold, north = flavor(service), zone(service)
    again = {"name": "gold", "flavor_profile_id": gold["flavor_profile_id"]}
    refused = service.post("flavors", {"flavor": again}, by="admin", expect=409)
    assert refused["faultstring"] == "A flavor of gold already exists."
    again = {"name": "north", "availability_zone_profile_id": north["availability_zone_profile_id"]}
    refused = service.post("availabilityzones", {"availability_zone": again}, by="admin", expect=409)
    assert refused["faultstring"] == "A availability zone of north already exists."
    tin = {"name": "tin", "flavor_profile_id": gold["flavor_profile_id"]}
    tin = service.post("flavors", {"flavor": tin}, by="admin")["flavor"]
    service.put(f"flavors/{tin['id']}", {"flavor": {"name": "gold"}}, by="admin", expect=409)


def test_changes(service: Service) -> None:
    gold, north = flavor(service, description="shiny"), zone(service)
    path = f"flavors/{gold['id']}"
    changed = service.put(path, {"flavor": {"name": "g", "description": None, "enabled": False}}, by="admin")["flavor"]
    assert changed == {**gold, "name": "g", "description": "", "enabled": False}
    assert service.get(path)["flavor"] == changed
    service.put(path, {"flavor": {"flavor_profile_id": gold["flavor_profile_id"]}}, by="admin", expect=400)
    service.put(path, {"flavor": {"name": None}}, by="admin", expect=400)
    changed = service.put("availabilityzones/north", {"availability_zone": {"description": "d"}}, by="admin")
    assert changed["availability_zone"] == {**north, "description": "d"}
    service.put("availabilityzones/north", {"availability_zone": {"name": "south"}}, by="admin", expect=400)


def test_what_is_used_stays(service: Service) -> None:
    gold = flavor(service, {"loadbalancer_topology": "SINGLE"})
    path = f"flavorprofiles/{gold['flavor_profile_id']}"
    refused = service.put(path, {"flavorprofile": {"flavor_data": "{}"}}, by="admin", expect=409)["faultstring"]
    assert refused == f"Flavor Profile {gold['flavor_profile_id']} is in use and cannot be modified."
    service.put(path, {"flavorprofile": {"provider_name": "octavia"}}, by="admin", expect=409)
    service.put(path, {"flavorprofile": {"name": "new"}}, by="admin")
    service.delete(path, by="admin", expect=409)
    north = zone(service)
    profile = f"availabilityzoneprofiles/{north['availability_zone_profile_id']}"
    new = {"availability_zone_profile": {"availability_zone_data": "{}"}}
    service.put(profile, new, by="admin", expect=409)
    service.delete(profile, by="admin", expect=409)
    lb = service.load_balancer(flavor_id=gold["id"], availability_zone="north")
    service.delete(f"flavors/{gold['id']}", by="admin", expect=409)
    service.delete("availabilityzones/north", by="admin", expect=409)
    service.delete(f"loadbalancers/{lb['id']}")
    service.delete(f"flavors/{gold['id']}", by="admin", expect=409)
    service.settle()
    service.delete(f"flavors/{gold['id']}", by="admin")
    service.put(path, {"flavorprofile": {"flavor_data": '{"compute_flavor": "big"}'}}, by="admin")
    service.put(path, {"flavorprofile": {"flavor_data": '{"compute_flavor": "x"}'}}, by="admin", expect=400)
    service.delete(path, by="admin")
    service.delete("availabilityzones/north", by="admin")
    service.put(profile, new, by="admin")
    service.delete(profile, by="admin")


@pytest.mark.parametrize("path", ["flavors", "flavorprofiles", "availabilityzones", "availabilityzoneprofiles"])
def test_what_is_not_there_is_404(service: Service, path: str) -> None:
    root = {"availabilityzones": "availability_zone", "availabilityzoneprofiles": "availability_zone_profile"}
    for key in (NIL, nobody_has(), "some-name", "%00"):
        for method, body in (("GET", None), ("PUT", {root.get(path, path[:-1]): {}}), ("DELETE", None)):
            assert service.send(method, f"{path}/{key}", body, by="admin").status_code == 404, (method, key)
    for method in ("PUT", "DELETE"):
        assert service.send(method, path, {}, by="admin").status_code == 400


@pytest.mark.parametrize("path", ["flavors", "flavorprofiles", "availabilityzones", "availabilityzoneprofiles"])
def test_only_administrators_write(service: Service, path: str) -> None:
    private = path.endswith("profiles")
    for by, reads in (("alice", 200), ("reader", 200), ("stranger", 403)):
        assert service.send("GET", path, by=by).status_code == (403 if private else reads)
        for method, where in (("POST", path), ("PUT", f"{path}/x"), ("DELETE", f"{path}/x")):
            assert service.send(method, where, {}, by=by).status_code == 403


def test_a_load_balancer_has_its_flavor_and_zone(service: Service) -> None:
    gold = flavor(service, {"compute_flavor": "big"}, provider="octavia")
    zone(service, {"compute_zone": "az2"})
    lb = service.load_balancer(flavor_id=gold["id"], availability_zone="north")
    assert (lb["flavor_id"], lb["availability_zone"], lb["provider"]) == (gold["id"], "north", "octavia")
    service.load_balancer()
    for query in (f"flavor_id={gold['id']}", "availability_zone=north"):
        assert [v["id"] for v in service.get(f"loadbalancers?{query}")["loadbalancers"]] == [lb["id"]]
    service.put(f"loadbalancers/{lb['id']}", {"loadbalancer": {"flavor_id": gold["id"]}}, expect=400)
    assert service.load_balancer(flavor_id=None, availability_zone=None)["provider"] == "amphora"


def test_a_flavor_must_be_there_enabled_and_of_the_provider(service: Service) -> None:
    gold, off = flavor(service), flavor(service, name="off", enabled=False)
    zone(service, name="off", enabled=False)
    wrong = {
        "Invalid flavor_id": {"flavor_id": nobody_has()}, "Invalid flavor_id: there is no flavor 0": {"flavor_id": NIL},
        f"The selected flavor is not allowed in this deployment: {off['id']}": {"flavor_id": off["id"]},
        f"Flavor '{gold['id']}' is not compatible with provider 'octavia'":
            {"flavor_id": gold["id"], "provider": "octavia"},
        "Invalid availability_zone": {"availability_zone": "south"},
        "The selected availability_zone is not allowed in this deployment: off": {"availability_zone": "off"},
    }  # fmt: skip
    for sentence, fields in wrong.items():
        body = {"loadbalancer": {"vip_subnet_id": service.subnet.id, **fields}}
        assert sentence in service.post("loadbalancers", body, expect=400)["faultstring"]
    assert service.cloud.ports == {}


def test_a_zone_says_where_vips_may_be(service: Service) -> None:
    other = service.cloud.add_subnet("10.7.0.0/24", project_id="alice-project")
    zone(service, {"valid_vip_networks": [other.network_id.upper()]})
    for place in ({"vip_subnet_id": service.subnet.id}, {"vip_network_id": service.subnet.network_id}):
        body = {"loadbalancer": {**place, "availability_zone": "north"}}
        assert "is not allowed" in service.post("loadbalancers", body, expect=400)["faultstring"]
    for place in ({"vip_subnet_id": other.id}, {"vip_network_id": other.network_id}):
        service.post("loadbalancers", {"loadbalancer": {**place, "availability_zone": "north"}})
    service.load_balancer()


def test_providers_and_their_capabilities(service: Service) -> None:
    assert [p["name"] for p in service.get("providers")["providers"]] == ["amphora", "octavia"]
    flavors = service.get("providers/octavia/flavor_capabilities", by="admin")["flavor_capabilities"]
    assert [c["name"] for c in flavors] == [
        "loadbalancer_topology", "compute_flavor", "amp_image_tag", "sriov_vip", "allow_member_sriov",
    ]  # fmt: skip
    path = "providers/amphora/availability_zone_capabilities"
    zones = service.get(path, by="admin")["availability_zone_capabilities"]
    assert [c["name"] for c in zones] == ["compute_zone", "volume_zone", "management_network", "valid_vip_networks"]
    assert all(c["description"] for c in (*flavors, *zones))
    found = service.get(f"{path}?name=compute_zone&fields=name", by="admin")["availability_zone_capabilities"]
    assert found == [{"name": "compute_zone"}]
    assert service.get(f"{path}?description=x", by="admin")["availability_zone_capabilities"] == []
    service.get("providers/other/flavor_capabilities", by="admin", expect=400)
    service.get(path, expect=403)
    service.get("providers/amphora/flavor_capabilities", expect=403)

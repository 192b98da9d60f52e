"""Whatever is sent, the answer is a refusal or a success, never a failure of the server."""

import random
from typing import Any

import pytest
from small_cloud import Client

from colonnade.local.networks import Networks, Subnets
from colonnade.local.ports import FloatingIps, Ports

_ODD: list[Any] = [
    None, True, False, 0, -1, 1.5, 2**70, "", "x", "\0", "\n", "%s", "é漢" * 200, "a" * 5000, [], {}, [None], [{}],
    [[]],
    {"a": {}}, "10.1.0.0/24", "10.1.0.5", "fd00::/64", "fd00::5", "::", "255.255.255.255", "1e9", "default",
    [{"start": "::", "end": "ffff::"}], [{"start": "10.1.0.0", "end": "255.255.255.255"}], [{"ip_address": "10.1.0.5"}],
    [{"subnet_id": "\0"}], [{"ip_address": "::ffff:10.1.0.5"}], [{"ip_address": "fe80::1%eth0"}],
]  # fmt: skip
_KINDS = (Networks(), Subnets(), Ports(), FloatingIps())


@pytest.mark.parametrize("seed", range(4))
def test_bodies(admin: Client, seed: int) -> None:
    chance = random.Random(seed)
    network = admin.make("network", name="n")["id"]
    admin.make("subnet", network_id=network, cidr="10.3.0.0/24")
    public = admin.network("public")["id"]
    good = {"network_id": network, "floating_network_id": public, "cidr": "10.1.0.0/24"}
    for _ in range(150):
        kind = chance.choice(_KINDS)
        names = chance.sample(sorted(kind.attributes), chance.randint(1, 3))
        given = {k: v for k, v in good.items() if k in kind.attributes} | {n: chance.choice(_ODD) for n in names}
        path = f"/network/v2.0/{kind.collection.plural}"
        http = admin._http.simulate_post(path, json={kind.singular: given}, headers={"X-Auth-Token": str(admin.token)})
        assert http.status_code < 500, (given, http.text)
        if http.status_code == 201:
            given = {n: chance.choice(_ODD) for n in names}
            item = f"{path}/{http.json[kind.singular]['id']}"
            headers = {"X-Auth-Token": str(admin.token)}
            changed = admin._http.simulate_put(item, json={kind.singular: given}, headers=headers)
            assert changed.status_code < 500, (given, changed.text)
            admin.delete(item)


@pytest.mark.parametrize("value", ["%00", "%0a", "%ff", "%25", "'", '"', "x" * 3000, "", "True", "-1", "fd00::%251"])
def test_queries_and_paths(admin: Client, value: str) -> None:
    for kind in _KINDS:
        path = f"/network/v2.0/{kind.collection.plural}"
        controls = ("limit", "marker", "sort_key", "sort_dir", "fields", "page_reverse", "fixed_ips", "tags", "colour")
        for name in (*sorted(kind.collection.keys), *controls):
            found = admin._http.simulate_get(
                path, query_string=f"{name}={value}", headers={"X-Auth-Token": str(admin.token)}
            )
            assert found.status_code in (200, 400), (name, found.text)
    for path in ("/network/v2.0/networks", "/identity/v3/projects", "/compute/v2.1/servers", "/image/v2/images"):
        if value:
            admin.get(f"{path}/{value}", 404)


@pytest.mark.parametrize("value", _ODD, ids=repr)
def test_logins(admin: Client, value: Any) -> None:
    identity = {"methods": ["password"], "password": {"user": {"name": "nobody", "domain": {"id": "default"}}}}
    again = {"methods": ["token"], "token": {"id": admin.token}}
    bodies = [
        {"auth": value},
        {"auth": {"identity": value}},
        {"auth": {"identity": {"methods": value, "password": value}}},
        {"auth": {"identity": {"methods": ["password"], "password": value}}},
        {"auth": {"identity": {"methods": ["password"], "password": {"user": value}}}},
        {"auth": {"identity": {"methods": ["token"], "token": {"id": value}}}},
        {"auth": {"identity": {**identity, "password": {"user": {"id": value, "password": "x"}}}}},
        {"auth": {"identity": again, "scope": {"project": value}}},
        {
            "auth": {
                "identity": {"methods": ["token"], "token": {"id": admin.token}},
                "scope": {"project": {"id": value}},
            }
        },
        {"auth": {"identity": again, "scope": value}},
    ]
    for body in bodies:
        found = admin._http.simulate_post("/identity/v3/auth/tokens", json=body)
        assert found.status_code in (201, 400, 401, 429), (body, found.text)

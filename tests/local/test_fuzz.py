"""Requests by chance to every path of the small cloud, with a good token: no answer is a server error.

A body is a good one with something changed, or anything at all of the words that the services know.
"""

import ast
import copy
import json
import os
import random
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from falcon import testing
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from small_cloud import Cloud, settings_of

from colonnade.local import compute, host_routes, identity_api, image, key_manager, network_api
from colonnade.local.vault import LocalSecrets, Seal

_CHANGEABLE = ("name", "description", "enabled", "admin_state_up", "fixed_ips", "port_id", "email", "gateway_ip")
EXAMPLES = int(os.environ.get("COLONNADE_EXAMPLES", "400"))
Json = dict[str, Any]
_SETTINGS = settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)  # fmt: skip


def _words() -> list[str]:
    """Every word in the services' source that may be a key or a value."""
    found: set[str] = set()
    for file in Path(identity_api.__file__).parent.glob("*.py"):
        texts = (n.value for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.Constant))
        found |= {t for t in texts if isinstance(t, str) and re.fullmatch(r"[A-Za-z][\w:.-]{1,40}", t)}
    return sorted(found)


WORDS = _words()
_SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 300), st.sampled_from([2**31, 2**63, 2**64, -(2**63), 1e300, 0.5, -0.0]),
    st.sampled_from(WORDS), st.text(max_size=8),
    st.sampled_from(["", "\0", "a\nb", "x" * 300, "default", "10.7.0.0/24", "10.7.0.5", "fd07::/64", "::", "0.0.0.0/0",
                     "2099-01-01T00:00:00", "9999-12-31T23:59:59+14:00", "0001-01-01T00:00:00", "AAAA", "%", "é"]),
)  # fmt: skip
ANY = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=4),
    max_leaves=8,
)


class Fuzzed:
    """A cloud with one of each, its paths, and ids to name in them."""

    def __init__(self, cloud: Cloud) -> None:
        self.admin = admin = cloud.client("admin")
        self.http = testing.TestClient(cloud)
        network = admin.make("network", name="n")
        subnet = admin.make("subnet", network_id=network["id"], cidr="10.3.0.0/24")
        port = admin.make("port", network_id=network["id"])
        floating = admin.make("floatingip", floating_network_id=admin.network("public")["id"])
        secret = {"name": "s", "payload": "text", "payload_content_type": "text/plain"}
        ref = admin.post("/key-manager/v1/secrets", secret).json["secret_ref"]
        holder = {"type": "generic", "name": "c", "secret_refs": [{"name": "a", "secret_ref": ref}]}
        container = admin.post("/key-manager/v1/containers", holder).json["container_ref"]
        people = {k: admin.post(f"/identity/v3/{k}s", {k: {"name": f"new-{k}"}}).json[k] for k in ("project", "user")}
        role = admin.get("/identity/v3/roles?name=member")["roles"][0]
        words = {"security_group_id": "", "direction": "ingress", "ethertype": "IPv4", "protocol": "tcp",
                 "port_range_min": 80, "port_range_max": 90, "remote_ip_prefix": "10.0.0.0/8"}  # fmt: skip
        group = admin.post("/network/v2.0/security-groups", {"security_group": {"name": "g"}}).json["security_group"]
        words["security_group_id"] = group["id"]
        rules = "/network/v2.0/security-group-rules"
        group_rule = admin.post(rules, {"security_group_rule": words}).json["security_group_rule"]
        policy = admin.post("/network/v2.0/qos/policies", {"policy": {"name": "q"}}).json["policy"]
        limits = f"/network/v2.0/qos/policies/{policy['id']}/bandwidth_limit_rules"
        limit = admin.post(limits, {"bandwidth_limit_rule": {"max_kbps": 5}}).json["bandwidth_limit_rule"]
        self.ids = {
            "networks": network["id"], "subnets": subnet["id"], "ports": port["id"], "floatingips": floating["id"],
            "secrets": ref.rpartition("/")[2], "containers": container.rpartition("/")[2], "tags": "tag",
            "security-groups": group["id"], "security-group-rules": group_rule["id"], "policies": policy["id"],
            "bandwidth_limit_rules": limit["id"],
            "projects": people["project"]["id"], "users": people["user"]["id"], "roles": role["id"],
        }  # fmt: skip
        self.good: dict[str, Json] = {
            "/network/v2.0/networks": {"network": {"name": "n", "admin_state_up": True, "shared": False, "mtu": 1500}},
            "/network/v2.0/subnets": {"subnet": {
                "network_id": network["id"], "cidr": "10.7.0.0/24", "ip_version": 4, "gateway_ip": "10.7.0.1",
                "allocation_pools": [{"start": "10.7.0.9", "end": "10.7.0.99"}], "dns_nameservers": [],
                "host_routes": [], "enable_dhcp": False}},
            "/network/v2.0/ports": {"port": {
                "network_id": network["id"], "fixed_ips": [{"subnet_id": subnet["id"], "ip_address": "10.3.0.77"}],
                "device_id": "", "device_owner": "", "allowed_address_pairs": [], "security_groups": []}},
            "/network/v2.0/floatingips": {"floatingip": {
                "floating_network_id": admin.network("public")["id"], "port_id": port["id"], "fixed_ip_address": None}},
            "/network/v2.0/security-groups": {"security_group": {"name": "g", "description": "d", "stateful": True}},
            rules: {"security_group_rule": {**words, "port_range_max": 91, "description": "d"}},
            "/network/v2.0/qos/policies": {"policy": {"name": "q", "description": "d", "shared": False}},
            "bandwidth_limit_rules": {"bandwidth_limit_rule": {
                "max_kbps": 9, "max_burst_kbps": 9, "direction": "ingress"}},
            "/identity/v3/auth/tokens": {"auth": {
                "identity": {"methods": ["token"], "token": {"id": admin.token}},
                "scope": {"project": {"name": "admin", "domain": {"id": "default"}}}}},
            "/identity/v3/projects": {"project": {"name": "p", "description": "d", "enabled": True, "tags": []}},
            "/identity/v3/users": {"user": {"name": "u", "password": "p", "email": "e", "enabled": True}},
            "/identity/v3/roles": {"role": {"name": "r", "description": "d"}},
            "/key-manager/v1/secrets": {
                **secret, "algorithm": "aes", "bit_length": 256, "mode": "cbc", "secret_type": "opaque",
                "expiration": "2099-01-01T00:00:00", "payload_content_encoding": None},
            "/key-manager/v1/containers": holder,
            "acl": {"read": {"users": ["u"], "project-access": True}},
            "consumers": {"name": "n", "URL": "http://a.example", "service": "lb", "resource_type": "t",
                          "resource_id": "i"},
            "password": {"user": {"password": "new", "original_password": "old"}},
            "tags": {"tags": ["a", "b"]},
        }  # fmt: skip
        self.requests = sorted(self._requests(cloud))

    def _requests(self, cloud: Cloud) -> Iterator[tuple[str, str]]:
        secrets = LocalSecrets(store=cloud.store, seal=Seal(cloud.settings.state / "secrets"), clock=cloud.clock)
        network = network_api.routes(cloud.store, cloud.bell, cloud.clock, host_routes.nothing)
        services = {
            "/network": network, "/compute": compute.routes(cloud.store), "/image": image.routes(cloud.store),
            "/identity": identity_api.routes(cloud.identity),
            "/key-manager": key_manager.routes(secrets, cloud.bell, cloud.clock),
        }  # fmt: skip
        for prefix, paths in services.items():
            for path, resource in paths:
                methods = [m for m in ("get", "head", "post", "put", "patch", "delete") if hasattr(resource, f"on_{m}")]
                yield from ((m.upper(), prefix + path) for m in methods)

    def good_for(self, path: str) -> Json | None:
        """A body that this path takes."""
        above, _, end = path.rpartition("/")
        found = copy.deepcopy(self.good.get(end) or self.good.get(path) or self.good.get(above))
        if end.startswith("{") and found is not None:  # most fields are given at creation only
            found = {k: {n: v for n, v in inner.items() if n in _CHANGEABLE} if isinstance(inner, dict) else inner
                     for k, inner in found.items()}  # fmt: skip
        return found

    def send(self, method: str, path: str, query: str, **body: Any) -> testing.Result:
        """With the administrator's token."""
        headers = {"X-Auth-Token": str(self.admin.token), **body.pop("headers", {})}
        if path.endswith("/auth/tokens"):
            headers["X-Subject-Token"] = "x" if method == "DELETE" else str(self.admin.token)
        return self.http.simulate_request(
            method, path, query_string=query, headers=headers, remote_addr="127.0.0.1", **body
        )

    def let_go(self, path: str, document: Any) -> None:
        """Remove what a POST made, so that the next one does not meet it."""
        its_id = str(next(iter(document.values()))).rpartition("/")[2]
        if isinstance(inner := next(iter(document.values())), dict):
            its_id = inner.get("id", "")
        if its_id and path.endswith("s") and "tokens" not in path:
            _fine(self.send("DELETE", f"{path}/{its_id}", ""), path)


@pytest.fixture(scope="module")
def fuzzed(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzzed]:
    state = tmp_path_factory.mktemp("fuzzed") / "state"
    shutil.copytree(template, state)
    cloud = Cloud(settings_of(state))
    yield Fuzzed(cloud)
    cloud.store.close()


def _places(value: Any, where: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield where
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from _places(inner, (*where, key))


@dataclass
class Dice:
    """Where things go is chosen evenly, by a number that Hypothesis draws; what is put there, by Hypothesis."""

    data: st.DataObject

    def __post_init__(self) -> None:
        self.random = random.Random(self.data.draw(st.integers(0, 2**64)))

    def changed(self, body: Any) -> Any:
        """The body with a part or two replaced, or a part more."""
        for _ in range(self.random.choice([1, 1, 1, 2])):
            places = sorted(_places(body), key=len)
            *above, last = ("", *self.random.choice(places[2:] or places))
            holder = {"": body}
            inner: Any = holder
            for step in above:
                inner = inner[step]
            if isinstance(inner[last], dict) and self.random.random() < 0.5:
                inner[last][self.random.choice(WORDS)] = self.data.draw(ANY)
            else:
                inner[last] = self.data.draw(ANY)
            body = holder[""]
        return body

    def path(self, fuzzed: Fuzzed, template: str) -> str:
        """The path with an id in it: mostly one of its kind, or of another, or none at all."""
        parts = template.split("/")
        strange = ["nothing", "%00", "%ff", "%2e%2e", "a%2Fb", "x" * 300, "%F0%9F%92%A9"]
        for n, part in enumerate(parts):
            if part.startswith("{"):
                own = fuzzed.ids.get(parts[n - 1], "nothing")
                parts[n] = self.random.choice([own] * 12 + [*fuzzed.ids.values(), *strange][::4])
        return "/".join(parts)


def _fine(reply: testing.Result, *about: Any) -> None:
    assert reply.status_code < 500, (reply.status_code, reply.text, *about)
    if reply.text and reply.status_code >= 400:
        assert isinstance(reply.json, dict)


def test_bodies(fuzzed: Fuzzed) -> None:
    writes = [r for r in fuzzed.requests if r[0] in ("POST", "PUT", "PATCH")]
    known = [r for r in writes if fuzzed.good_for(r[1]) is not None]
    made = 0

    @_SETTINGS
    @given(data=st.data())
    def run(data: st.DataObject) -> None:
        nonlocal made
        dice = Dice(data)
        method, template = dice.random.choice(known if dice.random.random() < 0.8 else writes)
        good = fuzzed.good_for(template)
        changed = dice.random.random() < 0.7  # some are sent as they are
        body = data.draw(ANY) if good is None else dice.changed(good) if changed else good
        path = dice.path(fuzzed, template)
        reply = fuzzed.send(method, path, "", body=json.dumps(body), headers={"Content-Type": "application/json"})
        _fine(reply, method, path, body)
        if method == "POST" and reply.status_code == 201:
            fuzzed.let_go(path, reply.json)
        made += reply.status_code in (200, 201, 204)

    run()
    assert made > 30, "too few bodies are good enough to reach what lies behind the checks"


def test_bodies_that_are_no_json(fuzzed: Fuzzed) -> None:
    writes = [r for r in fuzzed.requests if r[0] in ("POST", "PUT", "PATCH")]
    raw = st.binary(max_size=40) | st.sampled_from(
        [b"[" * 5000, b'{"a":' * 2000, b'{"\\ud800": 1}', b'{"user": NaN}', b"\xff", b"{}", b"null"]
    )
    kinds = st.sampled_from(
        ["application/json", "application/json; charset=x", "text/plain", "", "a/b/c", "multipart/x"]
    )

    @_SETTINGS
    @given(data=st.data(), raw=raw, kind=kinds)
    def run(data: st.DataObject, raw: bytes, kind: str) -> None:
        dice = Dice(data)
        method, template = dice.random.choice(writes)
        reply = fuzzed.send(method, dice.path(fuzzed, template), "", body=raw, headers={"Content-Type": kind})
        _fine(reply, template, raw)

    run()


def test_queries_and_paths(fuzzed: Fuzzed) -> None:
    reads = [r for r in fuzzed.requests if r[0] in ("GET", "HEAD", "DELETE")]
    values = [
        "", "%00", "%ff", "%", "a,b", "-1", "1e9", "9" * 30, "True", "name:desc", "::", "in:a,b", "gt:2020",
        "%EF%BC%95", "ip_address=x", "ip_address=10.3.0.5", "subnet_id=%00", "2099-01-01T00:00:00",
    ]  # fmt: skip
    more = ["limit", "marker", "page_reverse", "sort_key", "sort_dir", "sort", "fields", "offset", "fixed_ips"]

    @_SETTINGS
    @given(data=st.data())
    def run(data: st.DataObject) -> None:
        dice = Dice(data)
        chance = dice.random
        method, template = chance.choice(reads)
        keys = (chance.choice(more if chance.random() < 0.5 else WORDS) for _ in range(chance.randint(0, 4)))
        query = "&".join(f"{k}={chance.choice(values if chance.random() < 0.8 else WORDS)}" for k in keys)
        path = dice.path(fuzzed, template)
        if method == "DELETE":  # what the others need stays
            path = path.rpartition("/")[0] + chance.choice(["/nothing", "/%00", "/%ff", "/" + "x" * 300])
        _fine(fuzzed.send(method, path, query), method, path, query)

    run()

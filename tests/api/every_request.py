"""Every request that the API answers, with what it asks of the policy: one line each.

``{words}`` in paths and bodies are ids of Alice's objects (``furnish`` makes them).
"""

import dataclasses
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from lb_service import Service, nobody_has
from sqlalchemy import insert

from colonnade.model import Amphora
from colonnade.store import rows, tables
from colonnade.types import AmphoraStatus, Json

# Who may, of the tokens of lb_service, with Alice's objects.
ADMIN = frozenset({"admin"})
WRITE = ADMIN | {"alice"}
READ = WRITE | {"reader"}
ANY_READER = READ | {"bob", "foreign-reader"}  # where the answer is about the caller's own project


@dataclass(frozen=True)
class Request:
    """One request. ``asks``: the targets it needs, all of them. ``else_``: one that would do in the first's place."""

    asks: tuple[str, ...]
    method: str
    path: str
    may: frozenset[str]
    status: int = 200
    body: Any = None
    else_: str | None = None

    def __str__(self) -> str:
        return f"{self.asks[0]} {self.method} {self.path}"

    def send(self, service: Service, ids: dict[str, str], by: str) -> Any:
        """Send it as this token's owner."""
        return service.send(self.method, filled(self.path, ids), filled(self.body, ids), by=by)


def filled(value: Any, ids: dict[str, str]) -> Any:
    if isinstance(value, str):
        return value.format(**ids)
    if isinstance(value, dict):
        return {k: filled(v, ids) for k, v in value.items()}
    return [filled(v, ids) for v in value] if isinstance(value, list) else value


def _crud(kind: str, path: str, root: str, new: Json, change: Json, **more: Any) -> list[Request]:
    """The five of a kind; ``gone`` names the object that may be deleted, ``one`` the one that is shown."""
    one, gone = more.get("one", kind), more.get("gone", more.get("one", kind))
    read, see, write = more.get("read", READ), more.get("see", READ), more.get("write", WRITE)
    return [
        Request((f"{kind}:get_all",), "GET", path, see, else_=more.get("else_")),
        Request((f"{kind}:get_one",), "GET", f"{path}/{{{one}}}", read),
        Request((f"{kind}:post",), "POST", path, write, 201, {root: new}),
        Request((f"{kind}:put",), "PUT", f"{path}/{{{one}}}", write, 200, {root: change}),
        Request((f"{kind}:delete",), "DELETE", f"{path}/{{{gone}}}", write, 204),
    ]


def _scoped(kind: str, path: str, root: str, new: Json, **more: Any) -> list[Request]:
    """As ``_crud``, and the list of a project that no caller is of: only whoever reads in every project gets it."""
    whole = f"{kind}:get_all-global"
    elsewhere = Request((whole,), "GET", f"{path}?project_id=third-project", ADMIN, else_=f"{kind}:get_all")
    return [*_crud(kind, path, root, new, {"name": "n"}, see=ANY_READER, else_=whole, **more), elsewhere]


_NEW_LB = {"vip_subnet_id": "{subnet}", "project_id": "alice-project"}
_OF_A_KIND = {"provider_name": "amphora", "name": "new"}
_PROFILE = {**_OF_A_KIND, "flavor_data": "{{}}"}
_ZONE_PROFILE = {**_OF_A_KIND, "availability_zone_data": "{{}}"}
_MONITOR = {"pool_id": "{spare}", "type": "TCP", "delay": 1, "timeout": 1, "max_retries": 1}
_MEMBER = {"address": "10.2.0.9", "protocol_port": 81}
_OFFERED = {"write": ADMIN, "see": ANY_READER, "read": ANY_READER}
_ADMINS = {"write": ADMIN, "see": ADMIN, "read": ADMIN}

REQUESTS = [
    *_scoped("loadbalancer", "loadbalancers", "loadbalancer", _NEW_LB, one="lb", gone="empty"),
    Request(("loadbalancer:get_stats",), "GET", "loadbalancers/{lb}/stats", READ),
    Request(("loadbalancer:get_status",), "GET", "loadbalancers/{lb}/status", READ),
    Request(("loadbalancer:get_status",), "GET", "loadbalancers/{lb}/statuses", READ),
    Request(("loadbalancer:get_status",), "GET", "loadbalancers/{lb}/events", READ),
    Request(("loadbalancer:put_failover",), "PUT", "loadbalancers/{lb}/failover", ADMIN, 202),
    Request(("loadbalancer:post:vip_sg_ids", "loadbalancer:post"), "POST", "loadbalancers", WRITE, 201,
            {"loadbalancer": {**_NEW_LB, "vip_sg_ids": []}}),
    Request(("loadbalancer:put:vip_sg_ids", "loadbalancer:put"), "PUT", "loadbalancers/{lb}", WRITE, 200,
            {"loadbalancer": {"vip_sg_ids": None}}),
    *_scoped("listener", "listeners", "listener",
             {"loadbalancer_id": "{lb}", "protocol": "HTTP", "protocol_port": 81}),
    Request(("listener:get_stats",), "GET", "listeners/{listener}/stats", READ),
    *_scoped("pool", "pools", "pool", {"loadbalancer_id": "{lb}", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN"},
             gone="spare"),
    *_scoped("healthmonitor", "healthmonitors", "healthmonitor", _MONITOR),
    *_scoped("l7policy", "l7policies", "l7policy", {"listener_id": "{listener}", "action": "REJECT"}),
    *_crud("member", "pools/{pool}/members", "member", _MEMBER, {"weight": 5}, see=READ | {"service"}),
    Request(("member:post", "member:put", "member:delete"), "PUT", "pools/{pool}/members", WRITE, 202,
            {"members": [_MEMBER]}),
    Request(("member:post", "member:put"), "PUT", "pools/{pool}/members?additive_only=true", WRITE, 202,
            {"members": [_MEMBER]}),
    *_crud("l7rule", "l7policies/{l7policy}/rules", "rule",
           {"type": "PATH", "compare_type": "EQUAL_TO", "value": "/"}, {"invert": True}),
    Request(("quota:get_all",), "GET", "quotas", ANY_READER, else_="quota:get_all-global"),
    Request(("quota:get_all-global",), "GET", "quotas?project_id=third-project", ADMIN, else_="quota:get_all"),
    Request(("quota:get_one",), "GET", "quotas/alice-project", READ),
    Request(("quota:get_defaults",), "GET", "quotas/alice-project/default", READ),
    Request(("quota:get_defaults",), "GET", "quotas/defaults", ANY_READER),
    Request(("quota:put",), "PUT", "quotas/alice-project", ADMIN, 202, {"quota": {"pool": 5}}),
    Request(("quota:delete",), "DELETE", "quotas/alice-project", ADMIN, 202),
    Request(("provider:get_all",), "GET", "providers", ANY_READER),
    Request(("provider-flavor:get_all",), "GET", "providers/amphora/flavor_capabilities", ADMIN),
    Request(("provider-availability-zone:get_all",), "GET", "providers/amphora/availability_zone_capabilities", ADMIN),
    *_crud("flavor", "flavors", "flavor", {"name": "new", "flavor_profile_id": "{flavor-profile}"},
           {"description": "d"}, **_OFFERED),
    *_crud("flavor-profile", "flavorprofiles", "flavorprofile", _PROFILE, {"name": "n"},
           gone="free-profile", **_ADMINS),
    *_crud("availability-zone", "availabilityzones", "availability_zone",
           {"name": "new", "availability_zone_profile_id": "{availability-zone-profile}"}, {"description": "d"},
           **_OFFERED),
    *_crud("availability-zone-profile", "availabilityzoneprofiles", "availability_zone_profile", _ZONE_PROFILE,
           {"name": "n"}, gone="free-zone-profile", **_ADMINS),
    Request(("amphora:get_all",), "GET", "/v2/octavia/amphorae", ADMIN),
    Request(("amphora:get_one",), "GET", "/v2/octavia/amphorae/{amphora}", ADMIN),
    Request(("amphora:get_stats",), "GET", "/v2/octavia/amphorae/{amphora}/stats", ADMIN),
    Request(("amphora:put_config",), "PUT", "/v2/octavia/amphorae/{amphora}/config", ADMIN, 202),
    Request(("amphora:put_failover",), "PUT", "/v2/octavia/amphorae/{amphora}/failover", ADMIN, 202),
    Request(("amphora:delete",), "DELETE", "/v2/octavia/amphorae/{broken-amphora}", ADMIN, 204),
]  # fmt: skip


@dataclass
class Furnished:
    """Alice's objects, settled, and how to have them again untouched."""

    service: Service
    ids: dict[str, str] = field(default_factory=dict)

    def copy(self, store: Any, **more: Any) -> Service:
        """The same on another database, which holds a copy of this one's."""
        cloud = self.service.cloud
        same = dataclasses.replace(cloud, known_subnets=dict(cloud.known_subnets), ports=dict(cloud.ports))
        return Service(store, cloud=same, clock=dataclasses.replace(self.service.clock), **more)


def furnish(service: Service) -> Furnished:
    """One of each, all ACTIVE, and some that nothing uses."""
    lb, empty = service.load_balancer(), service.load_balancer()
    pool, spare = service.pool(lb), service.pool(lb)
    listener = service.listener(lb, default_pool_id=pool["id"])
    policy = service.policy(listener)
    service.put("quotas/alice-project", {"quota": {"pool": 9}}, by="admin", expect=202)
    profiles = [_offer(service, "flavorprofiles", "flavorprofile", _PROFILE) for _ in range(2)]
    zone_profiles = [
        _offer(service, "availabilityzoneprofiles", "availability_zone_profile", _ZONE_PROFILE) for _ in range(2)
    ]
    flavor = _offer(service, "flavors", "flavor", {"name": "gold", "flavor_profile_id": profiles[0]["id"]})
    zone = {"name": "north", "availability_zone_profile_id": zone_profiles[0]["id"]}
    _offer(service, "availabilityzones", "availability_zone", zone)
    ids = {
        "subnet": service.subnet.id, "lb": lb["id"], "empty": empty["id"], "pool": pool["id"], "spare": spare["id"],
        "listener": listener["id"], "member": service.member(pool)["id"], "l7policy": policy["id"],
        "healthmonitor": service.monitor(pool)["id"], "l7rule": service.rule(policy)["id"],
        "flavor-profile": profiles[0]["id"], "free-profile": profiles[1]["id"], "flavor": flavor["id"],
        "availability-zone-profile": zone_profiles[0]["id"], "free-zone-profile": zone_profiles[1]["id"],
        "availability-zone": "north", "amphora": nobody_has("a"), "broken-amphora": nobody_has("b"),
    }  # fmt: skip
    service.settle()
    _amphorae(service, ids)
    return Furnished(service, ids)


def _offer(service: Service, path: str, root: str, body: Json) -> Any:
    return service.post(path, {root: filled(body, {})}, by="admin")[root]


def _amphorae(service: Service, ids: dict[str, str]) -> None:
    made = [
        Amphora(id=ids[word], loadbalancer_id=ids["lb"], status=status, created_at=datetime(2026, 1, 1))
        for word, status in (("amphora", AmphoraStatus.ALLOCATED), ("broken-amphora", AmphoraStatus.ERROR))
    ]
    counters = dict.fromkeys(("bytes_in", "bytes_out", "total_connections", "request_errors"), 1)
    counted = {
        "listener_id": ids["listener"], "amphora_id": ids["amphora"], "loadbalancer_id": ids["lb"], "epoch": "e",
        "active_connections": 1, **{f"{side}_{n}": 1 for n in counters for side in ("base", "last")},
    }  # fmt: skip
    with service.store.write() as conn:
        conn.execute(insert(tables.amphora), [rows.to_row(a) for a in made])
        conn.execute(insert(tables.listener_statistics).values(counted))

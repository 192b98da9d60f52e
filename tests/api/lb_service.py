"""The load-balancing API in process over WSGI, on a real database and a cloud in memory."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import falcon.testing
from sqlalchemy import delete, update

from colonnade.api.app import Prefixes, make_lb_app
from colonnade.drivers.doorbell import MemoryDoorbell
from colonnade.drivers.fake import Cloud, Vault
from colonnade.errors import Unauthorized
from colonnade.model import Caller, Subnet
from colonnade.settings import Settings
from colonnade.store import tables
from colonnade.store.store import Store
from colonnade.types import Json

TOKENS = {
    "admin": Caller(user_id="u-admin", project_id="admin-project", roles=frozenset({"admin", "member", "reader"})),
    "alice": Caller(user_id="u-alice", project_id="alice-project", roles=frozenset({"member", "reader"})),
    "bob": Caller(user_id="u-bob", project_id="bob-project", roles=frozenset({"member", "reader"})),
    "reader": Caller(user_id="u-reader", project_id="alice-project", roles=frozenset({"reader"})),
    "nobody": Caller(user_id="u-nobody", project_id=None, roles=frozenset({"member"})),
    "stranger": Caller(user_id="u-stranger", project_id="alice-project", roles=frozenset()),
    "foreign-reader": Caller(user_id="u-looker", project_id="bob-project", roles=frozenset({"reader"})),
    "service": Caller(user_id="u-service", project_id="service-project", roles=frozenset({"service"})),
    "legacy": Caller(user_id="u-legacy", project_id="alice-project", roles=frozenset({"load-balancer_member"})),
    "old-admin": Caller(user_id="u-old", project_id="admin-project", roles=frozenset({"load-balancer_admin"})),
    "system-admin": Caller(
        user_id="u-system", project_id=None, roles=frozenset({"admin", "member", "reader"}), system_scope="all"
    ),
    "system-reader": Caller(user_id="u-watch", project_id=None, roles=frozenset({"reader"}), system_scope="all"),
    "domain-admin": Caller(
        user_id="u-domain", project_id=None, roles=frozenset({"admin", "member", "reader"}), domain_id="d"
    ),
}


class People:
    """An identity that knows a few tokens."""

    def authenticate(self, token: str) -> Caller:
        if token not in TOKENS:
            raise Unauthorized("The token is not valid.")
        return TOKENS[token]

    def default_caller(self) -> Caller:
        return TOKENS["admin"]


@dataclass
class Ticking:
    """A clock that a test moves."""

    time: float = 1_800_000_000.0

    def now(self) -> float:
        self.time += 0.001
        return self.time

    def monotonic(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds


@dataclass
class Service:
    """The API and what is around it, with short words for what tests do all the time."""

    store: Store
    settings: Settings = field(default_factory=Settings)
    cloud: Cloud = field(default_factory=Cloud)
    doorbell: MemoryDoorbell = field(default_factory=MemoryDoorbell)
    clock: Ticking = field(default_factory=Ticking)
    vault: Vault = field(default_factory=Vault)

    def __post_init__(self) -> None:
        self.subnet: Subnet = self.cloud.add_subnet("10.1.0.0/24", project_id="alice-project")
        self.reset()

    def reset(self, **api_settings: Any) -> None:
        """The application anew, with other settings."""
        section = dataclasses.replace(self.settings.api_settings, **api_settings)
        self.settings = dataclasses.replace(self.settings, api_settings=section)
        alone = make_lb_app(
            settings=self.settings, store=self.store, network=self.cloud, doorbell=self.doorbell, clock=self.clock,
            identity=People(), supplies=self.cloud, secrets=self.vault,
        )  # fmt: skip
        self.wsgi = Prefixes({"/load-balancer": alone}, alone)
        self.client = falcon.testing.TestClient(self.wsgi)

    def configured_by(self, files: tuple[str, ...]) -> None:
        """The application anew, with policy files beside these."""
        self.settings = dataclasses.replace(self.settings, files=files)
        self.reset()

    def send(self, method: str, path: str, document: Any = None, *, by: str | None = "alice", **more: Any) -> Any:
        """Any request; ``path`` below /v2/lbaas unless it begins with a slash."""
        headers = {"X-Auth-Token": by} if by else {}
        headers |= more.pop("headers", {})
        path = path if path.startswith("/") else f"/v2/lbaas/{path}"
        if document is not None:
            more["json"] = document
        return self.client.simulate_request(method, path, headers=headers, **more)

    def get(self, path: str, *, by: str = "alice", expect: int = 200) -> Any:
        reply = self.send("GET", path, by=by)
        assert reply.status_code == expect, reply.text
        return reply.json

    def post(self, path: str, body: Any, *, by: str = "alice", expect: int = 201) -> Any:
        reply = self.send("POST", path, body, by=by)
        assert reply.status_code == expect, reply.text
        return reply.json

    def put(self, path: str, body: Any = None, *, by: str = "alice", expect: int = 200) -> Any:
        reply = self.send("PUT", path, body, by=by)
        assert reply.status_code == expect, reply.text
        return reply.json if reply.text else None

    def delete(self, path: str, *, by: str = "alice", expect: int = 204) -> Any:
        reply = self.send("DELETE", path, by=by)
        assert reply.status_code == expect, reply.text
        return reply.json if reply.text else None

    def load_balancer(self, *, by: str = "alice", **fields: Any) -> Json:
        body = {"vip_subnet_id": self.subnet.id, **fields}
        return self.post("loadbalancers", {"loadbalancer": body}, by=by)["loadbalancer"]

    def listener(self, lb: Json, **fields: Any) -> Json:
        body = {"loadbalancer_id": lb["id"], "protocol": "HTTP", "protocol_port": 80, **fields}
        return self.post("listeners", {"listener": body})["listener"]

    def pool(self, lb: Json, **fields: Any) -> Json:
        body = {"loadbalancer_id": lb["id"], "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", **fields}
        return self.post("pools", {"pool": body})["pool"]

    def member(self, pool: Json, **fields: Any) -> Json:
        body = {"address": "10.2.0.1", "protocol_port": 8080, **fields}
        return self.post(f"pools/{pool['id']}/members", {"member": body})["member"]

    def monitor(self, pool: Json, **fields: Any) -> Json:
        body = {"pool_id": pool["id"], "type": "HTTP", "delay": 1, "timeout": 1, "max_retries": 2, **fields}
        return self.post("healthmonitors", {"healthmonitor": body})["healthmonitor"]

    def policy(self, listener: Json, **fields: Any) -> Json:
        body = {"listener_id": listener["id"], "action": "REJECT", **fields}
        return self.post("l7policies", {"l7policy": body})["l7policy"]

    def rule(self, policy: Json, **fields: Any) -> Json:
        body = {"type": "PATH", "compare_type": "STARTS_WITH", "value": "/x", **fields}
        return self.post(f"l7policies/{policy['id']}/rules", {"rule": body})["rule"]

    def settle(self) -> None:
        """What the loop does when all is well: nothing is PENDING, what was to go is gone."""
        with self.store.write() as conn:
            for table in tables.OF.values():
                if "provisioning_status" not in table.c:
                    continue
                c = table.c.provisioning_status
                conn.execute(delete(table).where(c == "PENDING_DELETE"))
                conn.execute(update(table).values(provisioning_status="ACTIVE"))

    def statuses(self, *paths: str) -> list[str]:
        """Provisioning statuses of some objects."""
        return [next(iter(self.get(path).values()))["provisioning_status"] for path in paths]


def nobody_has(word: str = "0") -> str:
    """An id that nothing has."""
    return f"{word * 8}-0000-4000-8000-000000000000"

"""Each of the 81 targets over HTTP: who may send its request, what the request asks of the policy, and no request that
asks nothing."""

import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from every_request import REQUESTS, Furnished, Request, furnish
from lb_service import TOKENS, Service

from colonnade.api import openapi, policies
from colonnade.configuration import load
from colonnade.store import schema
from colonnade.store.store import Store

pytestmark = pytest.mark.any_database

REFUSAL = "Policy does not allow this request to be performed."
FILES = Path(__file__).parents[2] / "etc" / "policy"


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Furnished, Path]]:
    """Alice's objects, and the database that holds them: a file, for each test works on a copy."""
    path = tmp_path_factory.mktemp("furnished") / "colonnade.sqlite"
    schema.upgrade(f"sqlite:///{path}")
    store = Store(f"sqlite:///{path}")
    made = furnish(Service(store))
    store.close()
    yield made, path


@pytest.fixture
def world(furnished: tuple[Furnished, Path], tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Makes services on an untouched copy of them; ``policy``: lines of a policy file."""
    made, path = furnished
    stores: list[Store] = []

    def make(policy: str | None = None) -> Service:
        place = tmp_path / str(len(stores))
        place.mkdir()
        shutil.copy(path, place / "colonnade.sqlite")
        stores.append(Store(f"sqlite:///{place / 'colonnade.sqlite'}"))
        if policy is None:
            return made.copy(stores[-1])
        (place / "policy.yaml").write_text(policy)
        (place / "colonnade.conf").touch()
        return made.copy(stores[-1], settings=load([str(place / "colonnade.conf")]))

    yield make
    for store in stores:
        store.close()


def _content(service: Service) -> list[str]:
    name = service.store.engine.url.database
    with sqlite3.connect(str(name)) as conn:
        return list(conn.iterdump())


def _refused(service: Service, request: Request, ids: dict[str, str], by: str) -> None:
    reply = request.send(service, ids, by)
    assert (reply.status_code, reply.json["faultstring"]) == (403, REFUSAL), by
    assert reply.json["faultcode"] == "Client"


def test_each_target_has_a_request() -> None:
    assert {r.asks[0] for r in REQUESTS} == {t.name for t in policies.TARGETS}
    assert len({r.asks[0] for r in REQUESTS}) == 81


def test_each_path_that_is_served_is_asked_about() -> None:
    """Whoever adds one says above who may use it."""

    def form(path: str) -> str:
        return re.sub(r"\{[^}]*\}|alice-project|amphora(?=/)", "{}", path.partition("?")[0])

    asked = {(r.method, form(r.path if r.path.startswith("/") else f"/v2/lbaas/{r.path}")) for r in REQUESTS}
    served = {
        (method.upper(), form(path))
        for path, item in openapi.document()["paths"].items()
        for method in item
        if method != "parameters" and path != "/"
    }
    assert served - asked == set()


@pytest.mark.parametrize("request_", REQUESTS, ids=str)
def test_who_may(request_: Request, world: Callable[..., Service], furnished: tuple[Furnished, Path]) -> None:
    ids = furnished[0].ids
    service = world()
    before = _content(service)
    for by in TOKENS.keys() - request_.may:
        _refused(service, request_, ids, by)
    assert _content(service) == before
    assert service.send(request_.method, request_.path, by=None).status_code == 401
    for by in sorted(request_.may):
        reply = request_.send(world() if request_.method != "GET" else service, ids, by)
        assert reply.status_code == request_.status, (by, reply.text)


@pytest.mark.parametrize("request_", REQUESTS, ids=str)
def test_what_is_asked(request_: Request, world: Callable[..., Service], furnished: tuple[Furnished, Path]) -> None:
    """Allowed by its own targets alone, refused as soon as one of them is, whoever comes."""
    ids = furnished[0].ids
    reply = request_.send(world(_policy("!", dict.fromkeys(request_.asks, "@"))), ids, "alice")
    assert reply.status_code == request_.status, reply.text
    for target in request_.asks:
        closed = [target] if request_.else_ is None else [target, request_.else_]
        _refused(world(_policy("@", dict.fromkeys(closed, "!"))), request_, ids, "admin")


def _policy(usual: str, but: dict[str, str]) -> str:
    lines = {t.full_name: usual for t in policies.TARGETS} | {policies.PREFIX + k: v for k, v in but.items()}
    return "".join(f'"{name}": "{rule}"\n' for name, rule in lines.items())


SHIPPED = {  # file -> who may read Alice's objects, who may write them, who may do what administrators do
    "admin_or_owner-policy.yaml": ("alice reader stranger legacy admin old-admin",
                                   "alice reader stranger legacy admin old-admin", "admin old-admin"),
    "keystone_default_roles-policy.yaml": ("alice reader admin old-admin", "alice admin old-admin", "admin old-admin"),
    "keystone_default_roles_scoped-policy.yaml": ("alice reader system-admin system-reader", "alice system-admin",
                                                  "system-admin old-admin"),
    "octavia-advanced-rbac-policy.yaml": ("legacy admin old-admin", "legacy admin old-admin", "admin old-admin"),
}  # fmt: skip


@pytest.mark.parametrize("file", SHIPPED)
def test_the_shipped_files(file: str, world: Callable[..., Service], furnished: tuple[Furnished, Path]) -> None:
    ids = furnished[0].ids
    readers, writers, admins = (set(words.split()) for words in SHIPPED[file])
    chosen = {"loadbalancer:get_one": readers, "listener:put": writers, "loadbalancer:put_failover": admins}
    service = world((FILES / file).read_text())
    for request in (r for r in REQUESTS if r.asks[0] in chosen):
        for by in TOKENS:
            status = request.send(service, ids, by).status_code
            assert status == (request.status if by in chosen[request.asks[0]] else 403), (request, by)


def test_every_shipped_file_is_tried() -> None:
    assert set(SHIPPED) == {f.name for f in FILES.iterdir()}


def test_lists_hold_what_the_caller_may_see(world: Callable[..., Service]) -> None:
    service = world()
    for path in ("loadbalancers", "listeners", "pools", "healthmonitors", "l7policies", "quotas"):
        for by, some in (("alice", True), ("reader", True), ("admin", True), ("bob", False)):
            assert bool(service.get(path, by=by)[path]) is some, (path, by)
        assert service.get(f"{path}?project_id=alice-project", by="admin")[path]
        assert service.get(f"{path}?project_id=bob-project", by="admin")[path] == []
        service.get(f"{path}?project_id=alice-project", by="bob", expect=403)
        service.get(path, by="nobody", expect=403)

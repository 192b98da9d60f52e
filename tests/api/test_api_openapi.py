"""The served document and the code agree: what it excludes is refused, what it allows is understood, and replies are as
it says. Each field of each body is given some 200 odd values, on objects that exist."""

import functools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jsonschema_rs
import pytest
from databases import DATABASES
from every_request import Furnished, filled, furnish
from lb_service import Service
from odd_values import NODES, SCHEMAS, Changed, changed

from colonnade.api import describe, openapi, shapes
from colonnade.errors import Invalid, Unsupported
from colonnade.store.store import Store
from colonnade.types import Json

pytestmark = pytest.mark.any_database

_SEED = 7
_TRIES = 120  # of those that the document allows, for each body
_DOCUMENT = openapi.document()


@dataclass(frozen=True)
class Write:
    """A request with a body that is good as it stands; ``{words}`` as in every_request."""

    schema: str
    method: str
    path: str
    template: str  # the path in the document
    body: shapes.Body
    good: Json

    @property
    def shape(self) -> Any:
        return self.body.create if self.method == "POST" else self.body.update

    @property
    def nodes(self) -> dict[tuple[Any, ...], str]:
        return NODES if self.schema == "LoadBalancerCreate" else {(): self.schema}


_NODE = {"protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN"}
_PLACE = {"address": "10.2.0.77", "protocol_port": 81}
_MONITOR = {"type": "HTTP", "delay": 1, "timeout": 1, "max_retries": 1}
_RULE = {"type": "PATH", "compare_type": "EQUAL_TO", "value": "/"}
_TREE = {
    "vip_subnet_id": "{subnet}",
    "listeners": [{"protocol": "HTTP", "protocol_port": 80, "l7policies": [{"action": "REJECT", "rules": [_RULE]}]}],
    "pools": [{**_NODE, "name": "p", "members": [_PLACE], "healthmonitor": _MONITOR,
               "session_persistence": {"type": "SOURCE_IP"}}],
}  # fmt: skip
_DATA = {"name": "n", "provider_name": "amphora"}


def _both(body: shapes.Body, path: str, one: str, new: Json, change: Json) -> Iterator[Write]:
    name = body.cls.__name__
    above = f"/v2/lbaas/{path}".replace("{pool}", "{pool_id}").replace("{l7policy}", "{l7policy_id}")
    yield Write(f"{name}Create", "POST", path, above, body, new)
    yield Write(f"{name}Update", "PUT", f"{path}/{one}", f"{above}/{{object_id}}", body, change)


WRITES = [
    *_both(shapes.LOAD_BALANCER, "loadbalancers", "{lb}", _TREE, {}),
    *_both(shapes.LISTENER, "listeners", "{listener}",
           {"loadbalancer_id": "{lb}", "protocol": "HTTP", "protocol_port": 81}, {}),
    *_both(shapes.POOL, "pools", "{pool}", {"loadbalancer_id": "{lb}", **_NODE}, {}),
    *_both(shapes.MEMBER, "pools/{pool}/members", "{member}", _PLACE, {}),
    *_both(shapes.HEALTH_MONITOR, "healthmonitors", "{healthmonitor}", {"pool_id": "{spare}", **_MONITOR}, {}),
    *_both(shapes.L7_POLICY, "l7policies", "{l7policy}", {"listener_id": "{listener}", "action": "REJECT"},
           {"name": "n"}),
    *_both(shapes.L7_RULE, "l7policies/{l7policy}/rules", "{l7rule}", _RULE, {}),
    *_both(shapes.FLAVOR_PROFILE, "flavorprofiles", "{flavor-profile}", {**_DATA, "flavor_data": "{{}}"}, {}),
    *_both(shapes.FLAVOR, "flavors", "{flavor}", {"name": "n", "flavor_profile_id": "{flavor-profile}"}, {}),
    *_both(shapes.AVAILABILITY_ZONE_PROFILE, "availabilityzoneprofiles", "{availability-zone-profile}",
           {**_DATA, "availability_zone_data": "{{}}"}, {}),
    *_both(shapes.AVAILABILITY_ZONE, "availabilityzones", "{availability-zone}",
           {"name": "n", "availability_zone_profile_id": "{availability-zone-profile}"}, {}),
    Write("QuotaUpdate", "PUT", "quotas/alice-project", "/v2/lbaas/quotas/{project_id}", shapes.QUOTA, {}),
]  # fmt: skip


@functools.cache
def _validator(schema: str) -> Any:
    return _compiled({"$ref": f"#/components/schemas/{schema}"})


def _compiled(schema: Json) -> Any:
    whole = {**schema, "components": {"schemas": SCHEMAS}}
    return jsonschema_rs.Draft202012Validator(whole, validate_formats=True)


def _understood(write: Write, body: Json) -> str | None:
    """Why the shapes refuse it; None: they do not."""
    try:
        write.body.values(write.shape, body)
    except (Invalid, Unsupported) as e:
        return e.sentence
    return None


@pytest.fixture(scope="module")
def ids() -> dict[str, str]:
    """Ids that look like some, for what looks no further."""
    words = ("subnet", "lb", "listener", "pool", "spare", "l7policy", "flavor-profile", "availability-zone-profile")
    return dict.fromkeys(words, "77777777-0000-4000-8000-000000000000")


@pytest.mark.parametrize("write", WRITES, ids=lambda w: w.schema)
def test_what_the_document_allows_is_understood(write: Write, ids: dict[str, str]) -> None:
    allowed = refused = 0
    for case in changed(filled(write.good, ids), write.nodes):
        why = _understood(write, case.body)
        if not _validator(write.schema).is_valid(case.body):
            refused += 1
        elif why is None:
            allowed += 1
        else:
            assert _beyond_a_schema(case), (str(case), why)
    assert allowed > 0
    assert refused > allowed


def _beyond_a_schema(case: Changed) -> bool:
    """What no schema says: the range of a number that stands in a text, networks, JSON within a text, and that the
    halves of a tree fit."""
    number = isinstance(case.value, str) and describe.WHOLE.fullmatch(case.value) is not None
    return number or case.field.endswith(("allowed_cidrs", "flavor_data", "availability_zone_data"))


@pytest.fixture(scope="module")
def world() -> Iterator[Furnished]:
    """Objects for requests to meet."""
    with DATABASES.fresh() as url:
        store = Store(url)
        service = Service(store)
        service.subnet = service.cloud.add_subnet("10.8.0.0/13", project_id="alice-project")
        yield furnish(service)
        store.close()


@pytest.mark.parametrize("write", WRITES, ids=lambda w: w.schema)
def test_what_the_document_excludes_is_refused(write: Write, world: Furnished) -> None:
    """Most of it by the shapes; the rest is sent."""
    for case in changed(filled(write.good, world.ids), write.nodes):
        if not _validator(write.schema).is_valid(case.body) and _understood(write, case.body) is None:
            reply = _send(write, world, case.body)
            assert 400 <= reply.status_code < 500 or reply.status_code == 501, (str(case), reply.status_code)
            _let_go(write, world, reply)


@pytest.mark.parametrize("write", WRITES, ids=lambda w: w.schema)
def test_what_is_allowed_is_answered_as_documented(write: Write, world: Furnished) -> None:
    cases = [
        c for c in changed(filled(write.good, world.ids), write.nodes) if _validator(write.schema).is_valid(c.body)
    ]
    chosen = random.Random(_SEED).sample(cases, min(_TRIES, len(cases)))
    done = 0
    for case in chosen:
        reply = _send(write, world, case.body)
        assert reply.status_code < 500 or reply.status_code == 501, (str(case), reply.text)
        operation = _DOCUMENT["paths"][write.template][write.method.lower()]
        answer = operation["responses"].get(str(reply.status_code), operation["responses"]["default"])
        fits = _compiled(answer["content"]["application/json"]["schema"])
        assert fits.is_valid(reply.json), (str(case), [e.message for e in fits.iter_errors(reply.json)], reply.text)
        done += reply.status_code < 300
        _let_go(write, world, reply)
    assert done * 4 > len(chosen), "too few of them reach what lies behind the checks"


def _send(write: Write, world: Furnished, body: Json) -> Any:
    path = write.path.format(**world.ids)
    return world.service.send(write.method, path, {write.body.root: body}, by="admin")


def _let_go(write: Write, world: Furnished, reply: Any) -> None:
    """Remove what was made, so that the next one meets the same world."""
    if write.method == "POST" and reply.status_code == 201:
        made = next(iter(reply.json.values()))
        path = f"{write.path.format(**world.ids)}/{made.get('id', made.get('name'))}?cascade=true"
        assert world.service.send("DELETE", path, by="admin").status_code in (204, 404)
        world.service.settle()

"""The OpenAPI 3.1 document, made from the model and the shapes. It offers only what has an effect here."""

import dataclasses
import functools
import typing
from datetime import datetime
from typing import Any

import falcon
import orjson
from pydantic import BaseModel, create_model
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from colonnade.api import describe, offers, replies, rules, shapes
from colonnade.core import tls
from colonnade.model import Amphora, HealthMonitor, L7Policy, L7Rule, Listener, LoadBalancer, Member, Pool
from colonnade.types import Json

_NOT_OFFERED = frozenset({"request_sriov"})
_HEADERS = tuple(sorted(rules.HEADERS | tls.CLIENT_HEADERS))
_FIELDS: Json = {"name": "fields", "in": "query", "schema": {"type": "string"}}
_COUNTERS = ("bytes_in", "bytes_out", "active_connections", "total_connections", "request_errors")
_ID: Json = {"type": "string", "format": "uuid"}
_REFS: Json = {"type": "array", "items": {"type": "object", "properties": {"id": _ID}, "required": ["id"]}}
_LINKS: dict[type[Any], tuple[str, ...]] = {
    LoadBalancer: ("listeners", "pools"), Listener: ("loadbalancers", "l7policies"),
    Pool: ("loadbalancers", "listeners", "members"), HealthMonitor: ("pools",), Member: (),
    L7Policy: ("rules",), L7Rule: (),
}  # fmt: skip


class Document:
    """GET /openapi.json"""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.data = _rendered()


@functools.cache
def _rendered() -> bytes:
    return orjson.dumps(document())


def document() -> Json:
    """The whole document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Colonnade",
            "version": "v2.30",
            "description": "The OpenStack Load Balancing API v2, with events and reasons.",
        },
        "servers": [{"url": "/load-balancer"}, {"url": "/"}],
        "security": [{"token": []}],
        "paths": dict(_paths()),
        "components": {
            "securitySchemes": {"token": {"type": "apiKey", "in": "header", "name": "X-Auth-Token"}},
            "schemas": _schemas(),
        },
    }


def _schemas() -> Json:
    bodies = (
        shapes.LOAD_BALANCER, shapes.LISTENER, shapes.POOL, shapes.MEMBER, shapes.HEALTH_MONITOR, shapes.L7_POLICY,
        shapes.L7_RULE,
    )  # fmt: skip
    offered = tuple(kind.body for kind in offers.PATHS.values())
    models: list[type[BaseModel]] = [m for b in (*bodies, *offered) for m in (b.create, b.update)]
    models += [shapes.QUOTA.update]
    models += [_reply_model(c) for c in (*_LINKS, Amphora, *(b.cls for b in offered))]
    _, made = models_json_schema(
        [(m, "validation") for m in models], ref_template="#/components/schemas/{model}",
        schema_generator=GenerateJsonSchema,
    )  # fmt: skip
    schemas: Json = made["$defs"]
    for body in bodies:
        for suffix in ("Create", "Update", "Node"):
            _offer(schemas.get(f"{body.cls.__name__}{suffix}", {}), _NOT_OFFERED)
    _offer(schemas["ListenerCreate"], {"l7policies"})  # only with a new load balancer
    for cls, links in _LINKS.items():
        schema = schemas[cls.__name__]
        schema["properties"] |= dict.fromkeys(links, _REFS)
        schema["required"] += links
    for name in (*(c.__name__ for c in _LINKS), "Amphora", *(b.cls.__name__ for b in offered)):
        schemas[name] = describe.exact(schemas[name])
    _finish(schemas)
    _nest(schemas)
    vips = ("vip_subnet_id", "vip_network_id", "vip_port_id")
    schemas["LoadBalancerCreate"]["anyOf"] = [{"required": [n]} for n in vips]
    schemas["PoolCreate"]["anyOf"] = [{"required": [n]} for n in ("loadbalancer_id", "listener_id")]
    limits: Json = {n: {"type": "integer", "minimum": -1} for n in schemas["QuotaUpdate"]["properties"]}
    schemas["Quota"] = {
        "type": "object",
        "properties": {**limits, "project_id": {"type": "string"}, "tenant_id": {"type": "string"}},
        "required": [*limits, "project_id", "tenant_id"],
    }
    for name in (*(c.__name__ for c in _LINKS), "Amphora", "Quota", *(b.cls.__name__ for b in offered)):
        whole = schemas[name]
        schemas[f"{name}Chosen"] = {  # with ``fields`` a document holds only some keys
            "type": "object", "properties": whole["properties"], "additionalProperties": False,
        }  # fmt: skip
    schemas["Error"] = {
        "type": "object",
        "anyOf": [{"required": ["faultstring"]}, {"required": ["description"]}, {"required": ["error"]}],
    }
    return schemas


def _finish(schemas: Json) -> None:
    """What a whole object must be, which no field of it says."""
    for name in ("SessionPersistenceUpdate", "L7PolicyUpdate"):
        schemas[name]["minProperties"] = 1
    shown = schemas["SessionPersistence"]["properties"]
    schemas["Pool"]["properties"]["session_persistence"] = {
        "type": ["object", "null"],
        "properties": describe.exact(shown),
        "required": [*shown],
    }


def _nest(schemas: Json) -> None:
    """The reply to the creation of a load balancer: each object in its place, not where it has its own path."""

    def with_(name: str, without: tuple[str, ...], **below: Json) -> Json:
        whole = schemas[name]
        kept = {k: v for k, v in whole["properties"].items() if k not in without}
        required = [*(k for k in whole["required"] if k not in (*without, *below)), *below]
        return {"type": "object", "properties": kept | below, "required": required}

    schemas["Pool"]["properties"]["healthmonitor_id"] = _ID  # where it has one
    policy = with_("L7Policy", (), rules=_many(_ref("L7Rule")))
    listener = with_("Listener", ("loadbalancers",), l7policies=_many(policy))
    monitor = {"anyOf": [_ref("HealthMonitor"), {"type": "null"}]}
    unseen = ("loadbalancers", "healthmonitor_id")
    pool = with_("Pool", unseen, members=_many(_ref("Member")), healthmonitor=monitor)
    schemas["LoadBalancerTree"] = with_("LoadBalancer", (), listeners=_many(listener), pools=_many(pool))


def _many(schema: Json) -> Json:
    return {"type": "array", "items": schema}


def _offer(schema: Json, hidden: "frozenset[str] | set[str]") -> None:
    properties = schema.get("properties", {})
    for name in hidden & properties.keys():
        properties[name] = describe.nothing(properties[name])
    if "insert_headers" in properties:
        words = {"type": "string", "pattern": describe.any_case(("true", "false"))}
        properties["insert_headers"] = {
            "type": ["object", "null"], "properties": dict.fromkeys(_HEADERS, words), "additionalProperties": False,
        }  # fmt: skip


def _reply_model(cls: type[Any]) -> type[BaseModel]:
    hints = typing.get_type_hints(cls, include_extras=True)
    fields: dict[str, Any] = {}
    for f in dataclasses.fields(cls):
        if f.name in replies.FIELDS[cls]:
            edge = shapes.edge(hints[f.name], f.name)
            fields[f.name] = (str if datetime in _parts(hints[f.name]) else edge, ...)
            if datetime in _parts(hints[f.name]) and type(None) in _parts(hints[f.name]):
                fields[f.name] = (str | None, ...)
    if "project_id" in fields:
        fields["tenant_id"] = (str, ...)
    if cls is Listener:
        fields["allowed_cidrs"] = (list[str] | None, ...)
    return create_model(cls.__name__, **fields)


def _parts(hint: Any) -> tuple[Any, ...]:  # noqa: ANN401 - type expressions are any objects
    args = typing.get_args(hint)
    return (hint, *(p for a in args for p in _parts(a)))


def _paths() -> typing.Iterator[tuple[str, Json]]:
    lb, one = "/v2/lbaas/loadbalancers", "/{object_id}"
    yield from _crud(lb, "loadbalancer", LoadBalancer)
    yield f"{lb}{one}/stats", _item("object_id", get=_reply(_stats()))
    statuses = {"type": "object", "properties": {"statuses": {"type": "object"}}, "required": ["statuses"]}
    for name in ("status", "statuses"):
        yield f"{lb}{one}/{name}", _item("object_id", get=_reply(statuses))
    yield f"{lb}{one}/events", _item("object_id", get={**_reply(_events()), "parameters": _paging()})
    yield f"{lb}{one}/failover", _item("object_id", put=_done(202))
    yield from _crud("/v2/lbaas/listeners", "listener", Listener)
    yield "/v2/lbaas/listeners/{object_id}/stats", _item("object_id", get=_reply(_stats()))
    yield from _crud("/v2/lbaas/pools", "pool", Pool)
    yield from _crud("/v2/lbaas/pools/{pool_id}/members", "member", Member)
    yield from _crud("/v2/lbaas/healthmonitors", "healthmonitor", HealthMonitor)
    yield from _crud("/v2/lbaas/l7policies", "l7policy", L7Policy)
    yield from _crud("/v2/lbaas/l7policies/{l7policy_id}/rules", "rule", L7Rule)
    yield "/v2/lbaas/providers", {"get": _described("providers")}
    for root in ("flavor_capabilities", "availability_zone_capabilities"):
        listed = _item("provider", get=_described(root), schema={"type": "string"})
        yield f"/v2/lbaas/providers/{{provider}}/{root}", listed
    for path, kind in offers.PATHS.items():
        yield from _offer_paths(f"/v2/lbaas/{path}", kind)
    yield from _quota_paths()
    amphorae = "/v2/octavia/amphorae"
    listed = _list_of("amphorae", "Amphora")
    yield amphorae, {"get": {**_reply(listed), "parameters": [*_paging(), *_list_arguments(Amphora)]}}
    yield f"{amphorae}{one}", _item("object_id", get=_reply(_root("amphora", "Amphora")), delete=_done(204))
    yield f"{amphorae}{one}/stats", _item("object_id", get=_reply(_amphora_stats()))
    for name in ("failover", "config"):
        yield f"{amphorae}{one}/{name}", _item("object_id", put=_done(202))
    versions = {"type": "object", "required": ["versions"]}
    yield "/", {"get": {**_reply(versions), "security": []}}


def _crud(path: str, root: str, cls: type[Any]) -> typing.Iterator[tuple[str, Json]]:
    name, plural = cls.__name__, path.rpartition("/")[2]
    created = _root(root, "LoadBalancerTree" if cls is LoadBalancer else name)
    collection: Json = {
        "get": {**_reply(_list_of(plural, name)), "parameters": [*_paging(), *_list_arguments(cls)]},
        "post": {**_reply(created, 201), "requestBody": _body(_root(root, f"{name}Create"))},
    }
    item: Json = {
        "get": {**_reply(_root(root, f"{name}Chosen")), "parameters": [_FIELDS]},
        "put": {**_reply(_root(root, name)), "requestBody": _body(_root(root, f"{name}Update"))},
        "delete": _done(204),
    }
    if cls is LoadBalancer:
        item["delete"]["parameters"] = [_argument("cascade", {"type": "boolean"})]
    parents = [_path_id(part[1:-1]) for part in path.split("/") if part.startswith("{")]
    if cls is Member:
        members = _many(_ref("MemberCreate"))
        whole = {"type": "object", "properties": {"members": members}, "required": ["members"],
                 "additionalProperties": False}  # fmt: skip
        collection["put"] = {
            **_done(202), "requestBody": _body(whole), "parameters": [_argument("additive_only", {"type": "boolean"})],
        }  # fmt: skip
    yield path, {**collection, **({"parameters": parents} if parents else {})}
    yield f"{path}/{{object_id}}", {**item, "parameters": [*parents, _path_id("object_id")]}


def _offer_paths(path: str, kind: offers.Kind) -> typing.Iterator[tuple[str, Json]]:
    root, name, listed = kind.body.root, kind.body.cls.__name__, kind.listed
    arguments = [_argument(n, {"type": "string"}) for n in ("sort", "page_reverse", "fields", "name")]
    many = _list_of(listed.plural, name, listed.links)
    yield (
        path,
        {
            "get": {**_reply(many), "parameters": [*_paging(), *arguments]},
            "post": {**_reply(_root(root, name), 201), "requestBody": _body(_root(root, f"{name}Create"))},
        },
    )
    item = {
        "get": {**_reply(_root(root, f"{name}Chosen")), "parameters": [_FIELDS]},
        "put": {**_reply(_root(root, name)), "requestBody": _body(_root(root, f"{name}Update"))},
        "delete": _done(204),
    }
    key = _ID if listed.key == "id" else {"type": "string", "minLength": 1, "maxLength": 255}
    yield f"{path}/{{object_id}}", _item("object_id", schema=key, **item)


def _quota_paths() -> typing.Iterator[tuple[str, Json]]:
    path, quota, project = "/v2/lbaas/quotas", _root("quota", "Quota"), {"type": "string", "minLength": 1}
    arguments = [_argument(n, {"type": "string"}) for n in ("sort", "page_reverse", "fields", "project_id")]
    yield path, {"get": {**_reply(_list_of("quotas", "Quota")), "parameters": [*_paging(), *arguments]}}
    put = {**_reply(quota, 202), "requestBody": _body(_root("quota", "QuotaUpdate"))}
    yield (
        f"{path}/{{project_id}}",
        _item("project_id", schema=project, get=_reply(quota), put=put, delete=_done(202)),
    )
    yield f"{path}/{{project_id}}/default", _item("project_id", schema=project, get=_reply(quota))


def _item(parameter: str, *, schema: Json | None = None, **operations: Json) -> Json:
    return {**operations, "parameters": [_path_id(parameter, schema)]}


def _path_id(name: str, schema: Json | None = None) -> Json:
    return {"name": name, "in": "path", "required": True, "schema": schema or _ID}


def _argument(name: str, schema: Json) -> Json:
    return {"name": name, "in": "query", "schema": schema}


def _paging() -> list[Json]:
    limit = {"anyOf": [{"type": "integer"}, {"enum": ["infinite"]}], "description": "0, negative, infinite: no limit."}
    return [_argument("limit", limit), _argument("marker", {"type": "string"})]


def _described(root: str) -> Json:
    """A list of names and what they mean, which has no links."""
    text: Json = {"type": "string"}
    names = ("sort", "sort_key", "sort_dir", "page_reverse", "fields", "name", "description")
    item = {"type": "object", "properties": {"name": text, "description": text}, "additionalProperties": False}
    whole = {"type": "object", "properties": {root: _many(item)}, "required": [root], "additionalProperties": False}
    return {**_reply(whole), "parameters": [*_paging(), *(_argument(n, text) for n in names)]}


def _list_arguments(cls: type[Any]) -> list[Json]:
    text: Json = {"type": "string"}
    names = ["id", "created_at"] if cls is Amphora else ["id", "name", "project_id", "provisioning_status"]
    names = [n for n in names if n in replies.FIELDS[cls]]
    tags = [] if cls is Amphora else ["tags", "tags-any", "not-tags", "not-tags-any"]
    others = ("sort", "sort_key", "sort_dir", "page_reverse", "fields")
    return [_argument(n, text) for n in (*others, *names, *tags)]


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _root(root: str, name: str) -> Json:
    return {"type": "object", "properties": {root: _ref(name)}, "required": [root], "additionalProperties": False}


def _list_of(plural: str, name: str, its_links: str | None = None) -> Json:
    item = _ref(f"{name}Chosen")
    links = {"type": "array", "items": {"type": "object", "required": ["rel", "href"]}}
    return {
        "type": "object",
        "properties": {plural: {"type": "array", "items": item}, its_links or f"{plural}_links": links},
        "required": [plural, its_links or f"{plural}_links"],
    }


def _stats() -> Json:
    counters = {"type": "object", "properties": {c: {"type": "integer"} for c in _COUNTERS}, "required": [*_COUNTERS]}
    return {"type": "object", "properties": {"stats": counters}, "required": ["stats"]}


def _amphora_stats() -> Json:
    names = ("id", "loadbalancer_id", "listener_id")
    counters = {**{n: {"type": "string"} for n in names}, **{c: {"type": "integer"} for c in _COUNTERS}}
    row = {"type": "object", "properties": counters, "required": [*counters]}
    return {"type": "object", "properties": {"amphora_stats": {"type": "array", "items": row}},
            "required": ["amphora_stats"]}  # fmt: skip


def _events() -> Json:
    names = ("created_at", "kind", "object_type", "object_id", "sentence", "help")
    event = {
        "type": "object",
        "properties": {"id": {"type": "integer"}, **{n: {"type": "string"} for n in names}},
        "required": ["id", *names],
    }
    return {"type": "object", "properties": {"events": {"type": "array", "items": event}}, "required": ["events"]}


def _body(schema: Json) -> Json:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _reply(schema: Json, status: int = 200) -> Json:
    return _answers(status, {"description": "Done.", "content": {"application/json": {"schema": schema}}})


def _done(status: int) -> Json:
    return _answers(status, {"description": "Accepted."})


def _answers(status: int, reply: Json) -> Json:
    error = {"description": "Refused.", "content": {"application/json": {"schema": _ref("Error")}}}
    return {"responses": {str(status): reply, "default": error}}

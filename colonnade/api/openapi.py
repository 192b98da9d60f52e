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

from colonnade.api import replies, shapes
from colonnade.core import tls
from colonnade.model import Amphora, HealthMonitor, Listener, LoadBalancer, Member, Pool
from colonnade.types import Json, Mark

_LATER: dict[str, tuple[str, ...]] = {
    "ListenerProtocol": ("UDP", "SCTP", "PROMETHEUS"),
    "PoolProtocol": ("UDP", "SCTP"),
    "MonitorType": ("UDP-CONNECT", "SCTP"),
    "Algorithm": ("SOURCE_IP_PORT",),
}
_NOT_OFFERED = frozenset({"request_sriov", "l7policies", "persistence_timeout", "persistence_granularity"})
_HEADERS = ("X-Forwarded-For", "X-Forwarded-Port", "X-Forwarded-Proto", *sorted(tls.CLIENT_HEADERS))
_COUNTERS = ("bytes_in", "bytes_out", "active_connections", "total_connections", "request_errors")
_ID: Json = {"type": "string", "format": "uuid"}
_REFS: Json = {"type": "array", "items": {"type": "object", "properties": {"id": _ID}, "required": ["id"]}}
_LINKS: dict[type[Any], tuple[str, ...]] = {
    LoadBalancer: ("listeners", "pools"), Listener: ("loadbalancers", "l7policies"),
    Pool: ("loadbalancers", "listeners", "members"), HealthMonitor: ("pools",), Member: (),
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
    bodies = (shapes.LOAD_BALANCER, shapes.LISTENER, shapes.POOL, shapes.MEMBER, shapes.HEALTH_MONITOR)
    models: list[type[BaseModel]] = [m for b in bodies for m in (b.create, b.update)]
    models += [_reply_model(c) for c in (*_LINKS, Amphora)]
    _, made = models_json_schema(
        [(m, "validation") for m in models], ref_template="#/components/schemas/{model}",
        schema_generator=GenerateJsonSchema,
    )  # fmt: skip
    schemas: Json = made["$defs"]
    for body in bodies:
        refused = {n for n, notes in shapes.marks(body.cls).items() if Mark.REFUSED in notes}
        for suffix in ("Create", "Update", "Node"):
            _offer(schemas.get(f"{body.cls.__name__}{suffix}", {}), refused | _NOT_OFFERED)
    for name, later in _LATER.items():
        schemas[name]["enum"] = [v for v in schemas[name]["enum"] if v not in later]
    for name in ("SessionPersistence", "SessionPersistenceUpdate"):
        _offer(schemas[name], _NOT_OFFERED)
    for cls, links in _LINKS.items():
        schema = schemas[cls.__name__]
        schema["properties"] |= dict.fromkeys(links, _REFS)
        schema["required"] += links
    schemas["LoadBalancerCreate"]["anyOf"] = [{"required": [n]} for n in ("vip_subnet_id", "vip_network_id")]
    schemas["PoolCreate"]["anyOf"] = [{"required": [n]} for n in ("loadbalancer_id", "listener_id")]
    schemas["Error"] = {
        "type": "object",
        "anyOf": [{"required": ["faultstring"]}, {"required": ["description"]}, {"required": ["error"]}],
    }
    return schemas


def _offer(schema: Json, hidden: "frozenset[str] | set[str]") -> None:
    properties = schema.get("properties", {})
    for name in hidden:
        properties.pop(name, None)
    if "insert_headers" in properties:
        words = {"type": "string", "enum": ["true", "false"]}
        properties["insert_headers"] = {
            "type": ["object", "null"], "properties": dict.fromkeys(_HEADERS, words), "additionalProperties": False,
        }  # fmt: skip


def _reply_model(cls: type[Any]) -> type[BaseModel]:
    hints = typing.get_type_hints(cls, include_extras=True)
    fields: dict[str, Any] = {}
    for f in dataclasses.fields(cls):
        if f.name in replies.FIELDS[cls]:
            edge = shapes.edge(hints[f.name])
            fields[f.name] = (str if datetime in _parts(hints[f.name]) else edge, ...)
            if datetime in _parts(hints[f.name]) and type(None) in _parts(hints[f.name]):
                fields[f.name] = (str | None, ...)
    if cls is not Amphora:
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
    yield "/v2/lbaas/providers", {"get": _reply({"type": "object", "required": ["providers"]})}
    amphorae = "/v2/octavia/amphorae"
    listed = _list_of("amphorae", "Amphora")
    yield amphorae, {"get": {**_reply(listed), "parameters": [*_paging(), *_list_arguments(Amphora)]}}
    yield f"{amphorae}{one}", _item("object_id", get=_reply(_root("amphora", "Amphora")))
    versions = {"type": "object", "required": ["versions"]}
    yield "/", {"get": {**_reply(versions), "security": []}}


def _crud(path: str, root: str, cls: type[Any]) -> typing.Iterator[tuple[str, Json]]:
    name, plural = cls.__name__, path.rpartition("/")[2]
    created = {"type": "object", "required": [root]} if cls is LoadBalancer else _root(root, name)
    collection: Json = {
        "get": {**_reply(_list_of(plural, name)), "parameters": [*_paging(), *_list_arguments(cls)]},
        "post": {**_reply(created, 201), "requestBody": _body(_root(root, f"{name}Create"))},
    }
    item: Json = {
        "get": _reply(_root(root, name)),
        "put": {**_reply(_root(root, name)), "requestBody": _body(_root(root, f"{name}Update"))},
        "delete": _done(204),
    }
    if cls is LoadBalancer:
        item["delete"]["parameters"] = [_argument("cascade", {"type": "boolean"})]
    parents = [_path_id("pool_id")] if cls is Member else []
    if cls is Member:
        members = {"type": "array", "items": {"$ref": "#/components/schemas/MemberCreate"}, "maxItems": 100}
        whole = {"type": "object", "properties": {"members": members}, "required": ["members"],
                 "additionalProperties": False}  # fmt: skip
        collection["put"] = {
            **_done(202), "requestBody": _body(whole), "parameters": [_argument("additive_only", {"type": "boolean"})],
        }  # fmt: skip
    yield path, {**collection, **({"parameters": parents} if parents else {})}
    yield f"{path}/{{object_id}}", {**item, "parameters": [*parents, _path_id("object_id")]}


def _item(parameter: str, **operations: Json) -> Json:
    return {**operations, "parameters": [_path_id(parameter)]}


def _path_id(name: str) -> Json:
    return {"name": name, "in": "path", "required": True, "schema": _ID}


def _argument(name: str, schema: Json) -> Json:
    return {"name": name, "in": "query", "schema": schema}


def _paging() -> list[Json]:
    return [_argument("limit", {"type": "integer", "minimum": 0}), _argument("marker", {"type": "string"})]


def _list_arguments(cls: type[Any]) -> list[Json]:
    text: Json = {"type": "string"}
    names = ["id", "created_at"] if cls is Amphora else ["id", "name", "project_id", "provisioning_status"]
    tags = [] if cls is Amphora else ["tags", "tags-any", "not-tags", "not-tags-any"]
    others = ("sort", "sort_key", "sort_dir", "page_reverse", "fields")
    return [_argument(n, text) for n in (*others, *names, *tags)]


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _root(root: str, name: str) -> Json:
    return {"type": "object", "properties": {root: _ref(name)}, "required": [root], "additionalProperties": False}


def _list_of(plural: str, name: str) -> Json:
    # With ``fields`` items hold only some keys, so they are described but not required.
    item = {"type": "object", "description": f"A {name}."}
    links = {"type": "array", "items": {"type": "object", "required": ["rel", "href"]}}
    return {
        "type": "object",
        "properties": {plural: {"type": "array", "items": item}, f"{plural}_links": links},
        "required": [plural, f"{plural}_links"],
    }


def _stats() -> Json:
    counters = {"type": "object", "properties": {c: {"type": "integer"} for c in _COUNTERS}, "required": [*_COUNTERS]}
    return {"type": "object", "properties": {"stats": counters}, "required": ["stats"]}


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

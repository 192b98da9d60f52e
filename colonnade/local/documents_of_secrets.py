"""What the key manager answers: secrets, containers, their consumers, and pages of them."""

import re
from datetime import datetime
from typing import Any

import falcon
from sqlalchemy import Connection, select

from colonnade.errors import Invalid
from colonnade.local import bodies_of_secrets as bodies
from colonnade.local import web
from colonnade.local.vault import SERVICE, Kind
from colonnade.store.local_tables import local_consumer
from colonnade.types import Json

_LONGEST_PAGE = 100
_SORTABLE = frozenset({"created", "expiration", "mode", "name", "secret_type", "status", "updated"})
_DATES = {"created": "created_at", "updated": "updated_at", "expiration": "expiration"}
_EQUAL = {"name": "name", "alg": "algorithm", "mode": "mode", "secret_type": "secret_type", "type": "type"}
_ISO = re.compile(r"(?:(gte|gt|lte|lt):)?(.+)")


def secret(row: Any, root: str, consumers: dict[str, list[Any]]) -> Json:  # noqa: ANN401 - a row
    """A secret as it is shown; ``consumers`` by the id of what they use."""
    document = {
        "secret_ref": f"{root}/v1/secrets/{row.id}", "name": row.name, "status": "ACTIVE",
        "created": iso(row.created_at), "updated": iso(row.updated_at),
        "expiration": iso(row.expiration) if row.expiration else None, "secret_type": row.secret_type,
        "algorithm": row.algorithm, "bit_length": row.bit_length, "mode": row.mode, "creator_id": row.creator_id,
        "consumers": [consumer(c, "secret") for c in consumers.get(row.id, [])],
    }  # fmt: skip
    return document | ({"content_types": {"default": row.content_type}} if row.content_type else {})


def container(row: Any, root: str, consumers: dict[str, list[Any]]) -> Json:  # noqa: ANN401 - a row
    """A container, likewise."""
    return {
        "container_ref": f"{root}/v1/containers/{row.id}", "name": row.name, "type": row.type, "status": "ACTIVE",
        "created": iso(row.created_at), "updated": iso(row.updated_at), "creator_id": row.creator_id,
        "secret_refs": [
            {"name": r["name"], "secret_ref": f"{root}/v1/secrets/{r['secret_id']}"} for r in row.secret_refs
        ],
        "consumers": [consumer(c, "container") for c in consumers.get(row.id, [])],
    }  # fmt: skip


def consumer(row: Any, kind: Kind) -> Json:  # noqa: ANN401 - a row
    """One that uses a secret or a container of this kind."""
    if kind == "secret":
        return {"service": row.service, "resource_type": row.resource_type, "resource_id": row.resource_id}
    url = f"lbaas://{row.resource_type}/{row.resource_id}" if row.service == SERVICE else row.resource_id
    return {"name": row.service, "URL": url}


def consumers(conn: Connection, ids: list[str]) -> dict[str, list[Any]]:
    """Those who use any of these, by the id of what they use, the oldest first."""
    found: dict[str, list[Any]] = {}
    for start in range(0, len(ids), 5000):
        query = select(local_consumer).where(local_consumer.c.owner_id.in_(ids[start : start + 5000]))
        for row in conn.execute(query.order_by(local_consumer.c.created_at, local_consumer.c.id)):
            found.setdefault(row.owner_id, []).append(row)
    return found


def page(req: falcon.Request, plural: str, items: list[Json]) -> Json:
    """The part of the items that the request asks for, and the addresses of the parts beside it."""
    found = [i for i in items if _passes(req, i)]
    for part in reversed((req.get_param("sort") or "created:asc").split(",")):
        key, _, direction = part.partition(":")
        if key not in _SORTABLE or direction not in ("", "asc", "desc"):
            raise Invalid(f"sort: '{part[:64]}' is not one of {', '.join(sorted(_SORTABLE))} with :asc or :desc.")
        found.sort(key=lambda i, k=key: str(i.get(k) or ""), reverse=direction == "desc")  # type: ignore[misc]
    offset, limit = _number(req, "offset", 0), min(_number(req, "limit", 10), _LONGEST_PAGE)
    reply: Json = {plural: found[offset : offset + limit], "total": len(found)}
    url = f"{web.root(req)}{req.path}"
    if offset + limit < len(found):
        reply["next"] = f"{url}?limit={limit}&offset={offset + limit}"
    if offset > 0:
        reply["previous"] = f"{url}?limit={limit}&offset={max(offset - limit, 0)}"
    return reply


def _passes(req: falcon.Request, item: Json) -> bool:
    for name, key in _EQUAL.items():
        wanted = req.get_param(name)
        if wanted is not None and key in item and item[key] != wanted:
            return False
    bits = req.get_param("bits")
    if bits not in (None, "0") and str(item.get("bit_length")) != bits:
        return False
    return all(_in_time(name, req.get_param(name), item.get(name)) for name in _DATES if req.has_param(name))


def _in_time(name: str, wanted: str | None, value: str | None) -> bool:
    for part in (wanted or "").split(","):
        match = _ISO.fullmatch(part)
        if match is None or value is None:
            return False
        limit, at = bodies.moment(match[2], name), datetime.fromisoformat(value)
        good = {"gt": at > limit, "gte": at >= limit, "lt": at < limit, "lte": at <= limit, None: at == limit}
        if not good[match[1]]:
            return False
    return True


def _number(req: falcon.Request, name: str, default: int) -> int:
    text = req.get_param(name) or ""
    return int(text[:9]) if text.isascii() and text.isdigit() else default


def iso(moment: datetime) -> str:
    """A time as it is shown."""
    return moment.isoformat()

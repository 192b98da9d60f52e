"""The part of Glance's API v2 that clients look at. One image stands for what amphorae of this host are made of."""

import platform
from datetime import UTC, datetime
from pathlib import Path

import falcon

from colonnade.drivers.agent import IMAGE_ID
from colonnade.errors import NotFound
from colonnade.local import listing, web
from colonnade.local.listing import Collection
from colonnade.local.network import service_project
from colonnade.store.store import Store
from colonnade.types import Json

OPEN_PATHS = frozenset({"", "/versions", "/v2"})
TAG = "amphora"  # Octavia's own word for it, in amp_image_tag
_NAME = "amphora-x64-haproxy"  # what Octavia's guide calls its image
_WHY = "There is one image here, the amphora's; others cannot be made: amphorae are network namespaces of this host."


def routes(store: Store) -> list[tuple[str, object]]:
    """Every path of the service."""
    return [
        ("/", web.Document(lambda r: {"versions": [_version(web.root(r))]}, 300)),
        ("/versions", web.Document(lambda r: {"versions": [_version(web.root(r))]})),
        ("/v2", web.Document(lambda r: {"version": _version(web.root(r))})),
        ("/v2/images", _Images(store)),
        ("/v2/images/{image_id}", _Image(store)),
        ("/v2/images/{image_id}/file", _File()),
    ]


def _version(root: str) -> Json:
    return {"id": "v2.9", "status": "CURRENT", "links": [{"rel": "self", "href": f"{root}/v2/"}]}


def _image(store: Store) -> Json:
    """The image: no bytes, for a namespace amphora has no disk; as old as the program that it is a part of."""
    with store.read() as conn:
        owner = service_project(conn)
    made = datetime.fromtimestamp(Path(__file__).stat().st_mtime, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "id": IMAGE_ID,
        "name": _NAME,
        "status": "active",
        "visibility": "public",
        "owner": owner,
        "tags": [TAG],
        "description": "A network namespace of this host with HAProxy in it.",
        "architecture": platform.machine(),
        "container_format": "bare",
        "disk_format": "raw",
        "size": 0,
        "virtual_size": 0,
        "min_disk": 0,
        "min_ram": 0,
        "checksum": None,
        "os_hash_algo": None,
        "os_hash_value": None,
        "os_hidden": False,
        "protected": True,
        "created_at": made,
        "updated_at": made,
        "self": f"/v2/images/{IMAGE_ID}",
        "file": f"/v2/images/{IMAGE_ID}/file",
        "schema": "/v2/schemas/image",
    }


class _Images(web.ReadOnly):
    why = _WHY

    def __init__(self, store: Store) -> None:
        self._store = store

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """The one image, unless the filters leave it out."""
        query = listing.understand(req, _IMAGES, "/v2/images")
        part = listing.page(_IMAGES, query, [_image(self._store)])
        web.answer(resp, {"images": part.items, "first": "/v2/images", "schema": "/v2/schemas/images"})


class _Image(web.ReadOnly):
    why = _WHY

    def __init__(self, store: Store) -> None:
        self._store = store

    def on_get(self, _req: falcon.Request, resp: falcon.Response, image_id: str) -> None:
        """The image, by its id; a name is not an id, so it answers 404."""
        _known(image_id)
        web.answer(resp, _image(self._store))


class _File(web.ReadOnly):
    why = _WHY

    def on_get(self, _req: falcon.Request, resp: falcon.Response, image_id: str) -> None:
        """Its bytes: none, which Glance answers with 204."""
        _known(image_id)
        resp.status = falcon.HTTP_204


def _known(image_id: str) -> None:
    if image_id != IMAGE_ID:
        raise NotFound(f"No image found with ID {image_id}. {_WHY}")


def _among(key: str) -> listing.Test:
    """Glance's comparison of texts: one of them, or ``in:a,b``."""

    def test(item: Json, values: list[str]) -> bool:
        texts = [t for v in values for t in (v.removeprefix("in:").split(",") if v.startswith("in:") else [v])]
        return item[key] in texts

    return test


_IMAGES = Collection(
    plural="images",
    keys=frozenset(
        {"id", "name", "status", "visibility", "owner", "container_format", "disk_format", "size", "protected",
         "os_hidden", "checksum", "os_hash_value", "created_at", "updated_at", "architecture"}
    ),
    tests={
        **{k: _among(k) for k in ("id", "name", "status", "container_format", "disk_format")},
        "visibility": lambda item, values: values[-1] in (item["visibility"], "all"),
        "tag": lambda item, values: set(values) <= set(item["tags"]),
        "size_min": lambda item, values: values[-1].isdecimal() and item["size"] >= int(values[-1][:18]),
        "size_max": lambda item, values: values[-1].isdecimal() and item["size"] <= int(values[-1][:18]),
        "member_status": lambda _item, _values: True,
    },
)  # fmt: skip

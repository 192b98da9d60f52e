"""The part of Glance's API v2 that clients look at: a service that answers, and has no images."""

import falcon

from colonnade.errors import NotFound
from colonnade.local import web
from colonnade.types import Json

OPEN_PATHS = frozenset({"", "/versions", "/v2"})
_NONE = "There are no images in a stand-alone installation: amphorae are network namespaces."


def routes() -> list[tuple[str, object]]:
    """Every path of the service."""
    return [
        ("/", web.Document(lambda r: {"versions": [_version(web.root(r))]}, 300)),
        ("/versions", web.Document(lambda r: {"versions": [_version(web.root(r))]})),
        ("/v2", web.Document(lambda r: {"version": _version(web.root(r))})),
        ("/v2/images", _Images()),
        ("/v2/images/{image_id}", _Image()),
    ]


def _version(root: str) -> Json:
    return {"id": "v2.9", "status": "CURRENT", "links": [{"rel": "self", "href": f"{root}/v2/"}]}


class _Images(web.ReadOnly):
    why = _NONE

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """None, whatever is asked for."""
        web.answer(resp, {"images": [], "first": "/v2/images", "schema": "/v2/schemas/images"})


class _Image(web.ReadOnly):
    why = _NONE

    def on_get(self, _req: falcon.Request, _resp: falcon.Response, image_id: str) -> None:
        """404."""
        raise NotFound(f"No image found with ID {image_id}. {_NONE}")

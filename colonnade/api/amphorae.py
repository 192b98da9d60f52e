"""Amphorae, for administrators: what serves which load balancer."""

import falcon
from sqlalchemy import bindparam, select

from colonnade.api import access, listing, replies
from colonnade.api.listing import Listed
from colonnade.api.transport import answer, caller
from colonnade.api.writing import Api
from colonnade.errors import NotFound, Unsupported
from colonnade.model import Amphora
from colonnade.store import query, tables
from colonnade.types import UUID, Json

_LISTED = Listed(cls=Amphora, plural="amphorae", also=("project_id",))
_SHOW = select(*replies.COLUMNS[Amphora]).where(tables.amphora.c.id == bindparam("id"))


class Collection:
    """All amphorae."""

    def __init__(self, api: Api) -> None:
        self.api = api

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        access.check("amphora:get_all", caller(req), caller(req).project_id)
        with self.api.store.read() as conn:
            answer(resp, listing.reply(self.api, req, _LISTED, [], conn))


class Item:
    """One amphora."""

    def __init__(self, api: Api) -> None:
        self.api = api

    def on_get(self, req: falcon.Request, resp: falcon.Response, object_id: str) -> None:
        access.check("amphora:get_one", caller(req), caller(req).project_id)
        fields = listing.Args.of(req).every("fields")
        answer(resp, {"amphora": replies.choose([self.existing(object_id)], fields)[0]})

    def on_delete(self, req: falcon.Request, resp: falcon.Response, object_id: str) -> None:
        access.check("amphora:delete", caller(req), caller(req).project_id)
        self.existing(object_id)
        raise Unsupported("Deleting a single amphora is not supported in this deployment yet.")

    def existing(self, object_id: str) -> Json:
        """The amphora's document. Raises NotFound."""
        found: list[Json] = []
        if UUID.fullmatch(object_id):
            with self.api.store.read() as conn:
                found = replies.documents(conn, Amphora, conn.execute(_SHOW, {"id": object_id}).all())
        if not found:
            raise NotFound(f"Amphora {object_id} not found.")
        return found[0]


class Statistics:
    """GET …/stats: the counters of each listener that the amphora served."""

    def __init__(self, api: Api) -> None:
        self.api = api

    def on_get(self, req: falcon.Request, resp: falcon.Response, object_id: str) -> None:
        access.check("amphora:get_stats", caller(req), caller(req).project_id)
        rows = []
        if UUID.fullmatch(object_id):
            with self.api.store.read() as conn:
                rows = query.amphora_statistics(conn, object_id)
        if not rows:
            raise NotFound(f"Amphora stats for {object_id} not found.")
        answer(resp, {"amphora_stats": [{"id": object_id, **row} for row in rows]})


class Action:
    """PUT …/failover and …/config."""

    def __init__(self, item: Item, target: str, sentence: str) -> None:
        self.item, self.target, self.sentence = item, target, sentence

    def on_put(self, req: falcon.Request, resp: falcon.Response, object_id: str) -> None:
        access.check(self.target, caller(req), None)
        self.item.existing(object_id)
        raise Unsupported(self.sentence)

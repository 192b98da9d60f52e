"""Amphorae, for administrators: what serves which load balancer, and what can be asked of one alone."""

import dataclasses
from collections.abc import Callable
from datetime import datetime

import falcon
from sqlalchemy import bindparam, select

from colonnade.api import access, listing, replies, trees, writing
from colonnade.api.listing import Listed
from colonnade.api.transport import answer, caller
from colonnade.api.trees import Change
from colonnade.api.writing import Api
from colonnade.clock import utc
from colonnade.errors import Conflict, NotFound
from colonnade.model import Amphora, Tree
from colonnade.store import amphorae as amphora_rows
from colonnade.store import query, rows, tables
from colonnade.types import UUID, AmphoraStatus, Json

Decision = Callable[[Tree, Amphora, datetime], Change]

_LISTED = Listed(cls=Amphora, plural="amphorae", also=("project_id",))
_WHOLE = select(tables.amphora).where(tables.amphora.c.id == bindparam("id"))
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
        fields = listing.fields(self.api, req)
        answer(resp, {"amphora": replies.choose([self.existing(object_id)], fields)[0]})

    def on_delete(self, req: falcon.Request, resp: falcon.Response, object_id: str) -> None:
        access.check("amphora:delete", caller(req), caller(req).project_id)
        lb_id = self.existing(object_id)["loadbalancer_id"]
        if lb_id is None:
            self._remove_spare(object_id)
        else:
            self.ask(lb_id, object_id, removal)
        resp.status = 204

    def ask(self, lb_id: str, object_id: str, decide: Decision) -> None:
        """Write to the amphora's load balancer what ``decide`` makes of both. Raises NotFound, Conflict."""
        now = utc(self.api.clock.now())

        def change(tree: Tree) -> Change:
            amphora = next((a for a in tree.amphorae if a.id == object_id), None)
            if amphora is None:
                raise NotFound(f"Amphora {object_id} not found.")
            return decide(tree, amphora, now)

        writing.change(self.api, lb_id, change)

    def owner(self, object_id: str) -> tuple[str, str]:
        """The amphora's load balancer and that one's project. Raises NotFound."""
        lb_id, found = self.existing(object_id)["loadbalancer_id"], None
        if lb_id is not None:
            with self.api.store.read() as conn:
                found = query.owner(conn, tables.load_balancer, lb_id)
        if found is None:
            raise NotFound(f"Amphora {object_id} has no load balancer.")
        return found

    def _remove_spare(self, object_id: str) -> None:
        """One without a load balancer: housekeeping takes it away."""
        now = self.api.clock.now()
        with self.api.store.write() as conn:
            found = conn.execute(_WHOLE.with_for_update(), {"id": object_id}).mappings().first()
            if found is None:
                raise NotFound(f"Amphora {object_id} not found.")
            amphora = rows.from_row(Amphora, found)
            amphora_rows.change(conn, amphora, _leaving(amphora, utc(now)), now)

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
    """PUT …/failover and …/config: a write to the amphora's load balancer."""

    def __init__(self, item: Item, target: str, decide: Decision) -> None:
        self.item, self.target, self.decide = item, target, decide

    def on_put(self, req: falcon.Request, resp: falcon.Response, object_id: str) -> None:
        lb_id, project_id = self.item.owner(object_id)
        access.check(self.target, caller(req), project_id)
        self.item.ask(lb_id, object_id, self.decide)
        resp.status = 202


def failover(tree: Tree, amphora: Amphora, _now: datetime) -> Change:
    """Have this amphora replaced: one more incarnation, unless it has a successor already."""
    lb = trees.pending(tree.load_balancer)
    lb = dataclasses.replace(lb, incarnation=max(lb.incarnation, amphora.incarnation + 1))
    tree = dataclasses.replace(tree, load_balancer=lb)
    return _change(tree, amphora, f"Asked to replace amphora {amphora.id}.")


def configuration(tree: Tree, amphora: Amphora, _now: datetime) -> Change:
    """Have the amphora looked at: its bundle follows the settings, and is pushed when it differs from what runs."""
    return _change(tree, amphora, f"Asked to configure amphora {amphora.id} anew.")


def removal(tree: Tree, amphora: Amphora, now: datetime) -> Change:
    """Have it removed by the loop, which makes another if its place is wanted. Raises Conflict."""
    leaving = _leaving(amphora, now)
    kept = tuple(leaving if a.id == amphora.id else a for a in tree.amphorae)
    tree = dataclasses.replace(tree, amphorae=kept, load_balancer=trees.pending(tree.load_balancer))
    return _change(tree, amphora, f"Asked to delete amphora {amphora.id}.")


def _leaving(amphora: Amphora, now: datetime) -> Amphora:
    if amphora.status is not AmphoraStatus.ERROR:
        raise Conflict(
            f"amphora {amphora.id} is immutable and cannot be updated. It is {amphora.status}, and only one in ERROR "
            "is deleted; fail it over to have another in its place."
        )
    return dataclasses.replace(amphora, status=AmphoraStatus.PENDING_DELETE, updated_at=now)


def _change(tree: Tree, amphora: Amphora, sentence: str) -> Change:
    return Change(tree=tree, about=("amphora", amphora.id), sentence=sentence)

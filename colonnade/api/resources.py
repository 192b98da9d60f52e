"""Create, list, show, update and delete, written once for all kinds of objects. A kind says what is its own."""

import dataclasses
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Generic, TypeVar

import falcon
from sqlalchemy import ColumnElement, bindparam, select

from colonnade.api import access, listing, replies, trees, writing
from colonnade.api.listing import Listed
from colonnade.api.shapes import Body
from colonnade.api.transport import answer, caller, read_body
from colonnade.api.trees import Change
from colonnade.api.writing import Api
from colonnade.errors import Invalid, NotFound
from colonnade.model import Caller, Resource, Tree
from colonnade.store import query, tables
from colonnade.types import UUID, Json

R = TypeVar("R", bound=Resource)

MISSING_ID = 'Missing argument: "id"'


class Kind(ABC, Generic[R]):
    """One kind of objects: its words, and the decisions about its writes. All decisions are pure but ``creation``,
    which may ask the network first."""

    cls: type[R]
    body: ClassVar[Body]
    listed: ClassVar[Listed]
    policy: ClassVar[str]

    def __init__(self, api: Api) -> None:
        self.api = api
        table = tables.OF[self.cls]
        self.show = select(*replies.COLUMNS[self.cls]).where(table.c.id == bindparam("id"))

    @abstractmethod
    def creation(self, who: Caller, given: Json) -> tuple[Tree, str]:
        """Create one: the tree it is in now, and its id."""

    def admit(self, who: Caller, object_id: str, given: Json) -> None:
        """Ask the world about a change before it is made: no transaction may wait for that. Raises Invalid."""

    @abstractmethod
    def update(self, tree: Tree, old: R, given: Json) -> Change:
        """What changing it asks for; nulls are resolved."""

    @abstractmethod
    def delete(self, tree: Tree, old: R) -> Change:
        """What deleting it asks for."""

    def defaults(self) -> Json:
        """Defaults of this installation, in place of the model's."""
        return {}

    def resolved(self, old: R, given: Json) -> Json:
        """The fields of a change, with what null means in the place of null."""
        fields = {f.name: f for f in dataclasses.fields(old)}
        instead = {"admin_state_up": False, **self.defaults()}
        found: Json = {}
        for name, value in given.items():
            if value is not None:
                found[name] = value
            elif name in instead:
                found[name] = instead[name]
            elif name != "tags":
                f = fields[name]
                found[name] = f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
        return found

    def document(self, tree: Tree, object_id: str) -> Json:
        """The reply to a write."""
        return replies.of_tree(tree, trees.find(tree, self.cls, object_id))

    def change_targets(self, given: Json) -> tuple[str, ...]:
        """What a caller must be allowed to give these fields of an existing object."""
        return (f"{self.policy}:put",)

    def owned(self, object_id: str, target: str, who: Caller) -> str:
        """The load balancer of an object that the caller may do ``target`` to. Raises NotFound, Forbidden."""
        found = None
        if UUID.fullmatch(object_id):
            with self.api.store.read() as conn:
                found = query.owner(conn, tables.OF[self.cls], object_id)
        if found is None:
            raise NotFound(f"{trees.TITLE[self.cls]} {object_id} not found.")
        access.check(target, who, found[1])
        return found[0]


def created(kind: Kind[Any], who: Caller, document: Any) -> Json:  # noqa: ANN401 - any JSON
    """Answer a POST."""
    tree, object_id = kind.creation(who, kind.body.creation(document))
    return {kind.body.root: kind.document(tree, object_id)}


def shown(api: Api, kind: Kind[Any], object_id: str, who: Caller, fields: list[str]) -> Json:
    """Answer a GET of one."""
    documents: list[Json] = []
    if UUID.fullmatch(object_id):
        with api.store.glance() as conn:
            documents = replies.documents(conn, kind.cls, conn.execute(kind.show, {"id": object_id}).all())
    if not documents:
        raise NotFound(f"{trees.TITLE[kind.cls]} {object_id} not found.")
    access.check(f"{kind.policy}:get_one", who, documents[0]["project_id"])
    return {kind.body.root: replies.choose(documents, fields)[0]}


def updated(api: Api, kind: Kind[Any], lb_id: str, object_id: str, given: Json) -> Json:
    """Answer a PUT."""

    def decide(tree: Tree) -> Change:
        old = trees.find_mutable(tree, kind.cls, object_id)
        return kind.update(tree, old, kind.resolved(old, given))

    return {kind.body.root: kind.document(writing.change(api, lb_id, decide), object_id)}


def deleted(api: Api, kind: Kind[Any], lb_id: str, object_id: str) -> None:
    """Answer a DELETE."""

    def decide(tree: Tree) -> Change:
        return kind.delete(tree, trees.find_mutable(tree, kind.cls, object_id))

    writing.change(api, lb_id, decide)


class Collection:
    """All objects of a kind that stands at the top."""

    def __init__(self, kind: Kind[Any]) -> None:
        self.kind, self.api = kind, kind.api

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        kind = self.kind
        asked = listing.Args.of(req).one("project_id")
        project_id = access.listed_project(kind.policy, caller(req), asked)
        where: list[ColumnElement[bool]] = []
        if project_id is not None:
            where.append(tables.OF[kind.cls].c.project_id == project_id)
        with self.api.store.read() as conn:
            document = listing.reply(self.api, req, kind.listed, where, conn)
        answer(resp, document)

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        document = read_body(req, self.api.settings.api_settings.max_request_body_size)
        answer(resp, created(self.kind, caller(req), document), 201)

    def on_put(self, req: falcon.Request, resp: falcon.Response) -> None:
        raise Invalid(MISSING_ID)

    def on_delete(self, req: falcon.Request, resp: falcon.Response) -> None:
        raise Invalid(MISSING_ID)


class Item:
    """One object of a kind that stands at the top."""

    def __init__(self, kind: Kind[Any]) -> None:
        self.kind, self.api = kind, kind.api

    def on_get(self, req: falcon.Request, resp: falcon.Response, object_id: str) -> None:
        fields = listing.fields(self.api, req)
        answer(resp, shown(self.api, self.kind, object_id, caller(req), fields))

    def on_put(self, req: falcon.Request, resp: falcon.Response, object_id: str) -> None:
        document = read_body(req, self.api.settings.api_settings.max_request_body_size)
        given = self.kind.body.change(document)
        for target in self.kind.change_targets(given):
            lb_id = self.kind.owned(object_id, target, caller(req))
        self.kind.admit(caller(req), object_id, given)
        answer(resp, updated(self.api, self.kind, lb_id, object_id, given))

    def on_delete(self, req: falcon.Request, resp: falcon.Response, object_id: str) -> None:
        lb_id = self.kind.owned(object_id, f"{self.kind.policy}:delete", caller(req))
        deleted(self.api, self.kind, lb_id, object_id)
        resp.status = 204

"""Members: what may be asked of them, one by one and as a batch. They live below their pool, in paths too."""

import dataclasses
from datetime import datetime
from typing import Any

import falcon
from sqlalchemy import bindparam, select

from colonnade.api import access, listing, replies, resources, room, rules, shapes, trees, vip, writing
from colonnade.api.listing import Listed
from colonnade.api.resources import Kind
from colonnade.api.transport import ParentNotFound, answer, caller, read_body
from colonnade.api.trees import Change
from colonnade.clock import utc
from colonnade.core import bundle
from colonnade.errors import Conflict, Invalid, NotFound
from colonnade.model import Caller, LoadBalancer, Member, Pool, Tree
from colonnade.store import query, tables
from colonnade.types import UUID, Json, OperatingStatus

_LISTED = Listed(cls=Member, plural="members", also=("pool_id",))
_TRUE = frozenset({"true", "1", "yes", "on", "t", "y"})


class Members(Kind[Member]):
    """The kind. ``given`` holds the pool's id, from the path."""

    cls = Member
    body = shapes.MEMBER
    listed = _LISTED
    policy = "member"

    def creation(self, who: Caller, given: Json) -> tuple[Tree, str]:
        pool_id = given.pop("pool_id")
        lb_id = self.pool(pool_id, who, "member:post")
        vip.check_subnet(self.api.network, who, given.get("subnet_id"))
        its_id = writing.new_id()

        def decide(tree: Tree) -> Change:
            pool = trees.find_mutable(tree, Pool, pool_id)
            member = self.made(tree, tree.load_balancer, pool, {**given, "id": its_id})
            rules.member_is_unique(tree, member)
            tree = trees.mark(trees.put(tree, member), pool_id=pool_id, pool_itself=True)
            return Change(
                tree=tree, about=("member", its_id), sentence=f"Asked to create {name(member)} of {_of(pool)}."
            )

        return writing.change(self.api, lb_id, decide), its_id

    def pool(self, pool_id: str, who: Caller, *targets: str) -> str:
        """The load balancer of the pool in the path. Raises ParentNotFound, Forbidden."""
        found = None
        if UUID.fullmatch(pool_id):
            with self.api.store.read() as conn:
                found = query.owner(conn, tables.pool, pool_id)
        if found is None:
            raise ParentNotFound(f"Pool {pool_id} not found.")
        for target in targets:
            access.check(target, who, found[1])
        return found[0]

    def made(self, tree: Tree, lb: LoadBalancer, pool: Pool, given: Json) -> Member:
        """A new member of the pool, its own fields checked."""
        if given.get("request_sriov"):
            raise Invalid(
                "Validation failure: request_sriov needs a flavor with allow_member_sriov, which no load balancer here "
                "has; leave it out."
            )
        fields = {k: v for k, v in given.items() if k not in ("project_id", "tenant_id", "request_sriov")}
        watched = any(m.pool_id == pool.id for m in trees.staying(tree.health_monitors))
        member = Member(
            **writing.new_fields(self.api, lb, fields),
            pool_id=pool.id,
            operating_status=OperatingStatus.OFFLINE if watched else OperatingStatus.NO_MONITOR,
        )
        self._check_addresses(member)
        if not lb.foreign:
            rules.member_has_way(member.address, pool.protocol, bundle.vips(lb))
        return member

    def _check_addresses(self, member: Member) -> None:
        for address in (member.address, member.monitor_address):
            if address is not None:
                rules.member_address(address, self.api.settings.networking.reserved_ips)

    def update(self, tree: Tree, old: Member, given: Json) -> Change:
        new = trees.changed(old, given, utc(self.api.clock.now()))
        self._check_addresses(new)
        return self._change(tree, new, f"Asked to change {name(new)}")

    def delete(self, tree: Tree, old: Member) -> Change:
        return self._change(tree, trees.leaving(old, utc(self.api.clock.now())), f"Asked to delete {name(old)}")

    def _change(self, tree: Tree, new: Member, sentence: str) -> Change:
        pool = trees.find_mutable(tree, Pool, new.pool_id)
        tree = trees.mark(trees.put(tree, new), pool_id=pool.id, pool_itself=True)
        return Change(tree=tree, about=("member", new.id), sentence=f"{sentence} of {_of(pool)}.")

    def batch(self, tree: Tree, pool_id: str, items: list[Json], *, additive: bool) -> Change:
        """Make the pool's members be these; with ``additive`` leave the others alone."""
        pool = trees.find_mutable(tree, Pool, pool_id)
        now = utc(self.api.clock.now())
        stored = {(m.address, m.protocol_port): m for m in trees.staying(tree.members) if m.pool_id == pool_id}
        new: dict[tuple[str, int], Member] = {}
        for item in items:
            member = self.made(tree, tree.load_balancer, pool, item)
            key = (member.address, member.protocol_port)
            if key in new:
                sentence = f"The member {member.address}:{member.protocol_port} is given twice"
                raise Invalid(f"Validation failure: {sentence}.") if key in stored else Conflict(f"{sentence}.")
            new[key] = member
        added = [m for key, m in new.items() if key not in stored]
        kept = [_as_given(old, new[key], now) for key, old in stored.items() if key in new]
        moved = [m for m in kept if m is not stored[m.address, m.protocol_port]]
        gone = [] if additive else [trees.leaving(old, now) for key, old in stored.items() if key not in new]
        if added or moved or gone:
            tree = _put_members(tree, added, moved, gone)
            tree = trees.mark(tree, pool_id=pool_id, pool_itself=True)
        counts = f"{len(added)} new, {len(moved)} changed, {len(gone)} removed"
        sentence = f"Asked to set the members of {_of(pool)}: {counts}."
        return Change(tree=tree, about=("pool", pool_id), sentence=sentence, how="batch")


def _as_given(old: Member, wanted: Member, now: datetime) -> Member:
    names = [f for f in shapes.MEMBER.create.model_fields if hasattr(old, f) and f != "project_id"]
    fields = {n: getattr(wanted, n) for n in names}
    same = all(getattr(old, n) == v for n, v in fields.items())
    return old if same else trees.changed(old, fields, now)


def _put_members(tree: Tree, added: list[Member], moved: list[Member], gone: list[Member]) -> Tree:
    """As ``trees.put``, in one pass however many there are."""
    instead = {m.id: m for m in (*moved, *gone)}
    members = (*(instead.get(m.id, m) for m in tree.members), *added)
    return dataclasses.replace(tree, members=members)


def _of(pool: Pool) -> str:
    return f"pool {pool.name or pool.id}"


def name(member: Member) -> str:
    """The member in words."""
    place = f"[{member.address}]" if ":" in member.address else member.address
    label = f"{member.name} " if member.name else ""
    return f"member {label}({place}:{member.protocol_port}, weight {member.weight})"


class Collection:
    """All members of a pool; ``object_id`` is the pool's."""

    def __init__(self, kind: Members) -> None:
        self.kind, self.api = kind, kind.api

    def on_get(self, req: falcon.Request, resp: falcon.Response, object_id: str) -> None:
        self.kind.pool(object_id, caller(req), "member:get_all")
        with self.api.store.read() as conn:
            where = [tables.member.c.pool_id == object_id]
            answer(resp, listing.reply(self.api, req, _LISTED, where, conn))

    def on_post(self, req: falcon.Request, resp: falcon.Response, object_id: str) -> None:
        document = read_body(req, self.api.settings.api_settings.max_request_body_size)
        given = {**self.kind.body.creation(document), "pool_id": object_id}
        tree, its_id = self.kind.creation(caller(req), given)
        answer(resp, {"member": self.kind.document(tree, its_id)}, 201)

    def on_put(self, req: falcon.Request, resp: falcon.Response, object_id: str) -> None:
        document = read_body(req, self.api.settings.api_settings.max_request_body_size)
        items = _items(document)
        additive = (listing.Args.of(req).one("additive_only") or "").lower() in _TRUE
        targets = ("member:post", "member:put", *(() if additive else ("member:delete",)))
        lb_id = self.kind.pool(object_id, caller(req), *targets)
        for subnet_id in {item.get("subnet_id") for item in items}:
            vip.check_subnet(self.api.network, caller(req), subnet_id)
        writing.change(self.api, lb_id, lambda tree: self.kind.batch(tree, object_id, items, additive=additive))
        resp.status = 202

    def on_delete(self, req: falcon.Request, resp: falcon.Response, object_id: str) -> None:
        raise Invalid(resources.MISSING_ID)


def _items(document: Any) -> list[Json]:  # noqa: ANN401 - any JSON
    if not isinstance(document, dict) or not isinstance(document.get("members"), list):
        raise Invalid("No members object supplied; a list is needed.")
    extra = next((key for key in document if key != "members"), None)
    if extra is not None:
        raise Invalid(f"Unknown attribute for argument members: {extra[:255]}")
    room.check_count(len(document["members"]))
    return [shapes.MEMBER.values(shapes.MEMBER.create, item) for item in document["members"]]


class Item:
    """One member of a pool; ``object_id`` is the pool's."""

    def __init__(self, kind: Members) -> None:
        self.kind, self.api = kind, kind.api
        self.show = select(*replies.COLUMNS[Member]).where(
            tables.member.c.id == bindparam("id"), tables.member.c.pool_id == bindparam("pool_id")
        )

    def on_get(self, req: falcon.Request, resp: falcon.Response, object_id: str, member_id: str) -> None:
        fields = listing.fields(self.api, req)
        document = self._existing(object_id, member_id, caller(req), "member:get_one")
        answer(resp, {"member": replies.choose([document], fields)[0]})

    def on_put(self, req: falcon.Request, resp: falcon.Response, object_id: str, member_id: str) -> None:
        document = read_body(req, self.api.settings.api_settings.max_request_body_size)
        given = self.kind.body.change(document)
        self._existing(object_id, member_id, caller(req), "member:put")
        lb_id = self.kind.pool(object_id, caller(req))
        answer(resp, resources.updated(self.api, self.kind, lb_id, member_id, given))

    def on_delete(self, req: falcon.Request, resp: falcon.Response, object_id: str, member_id: str) -> None:
        self._existing(object_id, member_id, caller(req), "member:delete")
        lb_id = self.kind.pool(object_id, caller(req))
        resources.deleted(self.api, self.kind, lb_id, member_id)
        resp.status = 204

    def _existing(self, pool_id: str, member_id: str, who: Caller, target: str) -> Json:
        documents: list[Json] = []
        if UUID.fullmatch(pool_id) and UUID.fullmatch(member_id):
            with self.api.store.read() as conn:
                found = conn.execute(self.show, {"id": member_id, "pool_id": pool_id}).all()
                documents = replies.documents(conn, Member, found)
        if not documents:
            self.kind.pool(pool_id, who)
            raise NotFound(f"Member {member_id} not found.")
        access.check(target, who, documents[0]["project_id"])
        return documents[0]

"""Pools: what may be asked of them."""

import dataclasses

from sqlalchemy import select

from colonnade.api import access, certificates, rules, shapes, tls_rules, trees, writing
from colonnade.api.listeners import parent_of
from colonnade.api.listing import Listed
from colonnade.api.resources import Kind
from colonnade.api.trees import Change
from colonnade.clock import utc
from colonnade.errors import Invalid
from colonnade.model import Caller, Listener, LoadBalancer, Pool, SessionPersistence, Tree
from colonnade.store import query, rows, tables
from colonnade.types import Json


class Pools(Kind[Pool]):
    """The kind."""

    cls = Pool
    body = shapes.POOL
    listed = Listed(cls=Pool, plural="pools", also=("loadbalancer_id", "listener_id", "healthmonitor_id"), scoped=True)
    policy = "pool"

    def creation(self, who: Caller, given: Json) -> tuple[Tree, str]:
        listener_id = given.pop("listener_id", None)
        lb_id, project_id = self._parent(who, given.get("loadbalancer_id"), listener_id)
        certificates.check_pool(self.api, who, project_id, given)
        its_id = writing.new_id()

        def decide(tree: Tree) -> Change:
            listener = None if listener_id is None else trees.find_mutable(tree, Listener, listener_id)
            pool = self.made(tree.load_balancer, {**given, "id": its_id})
            if listener is not None:
                rules.listener_takes_pool(listener.protocol, pool.protocol)
                rules.listener_keeps_clients(listener.protocol, pool)
                rules.listener_is_free(listener)
                tree = trees.put(tree, dataclasses.replace(listener, default_pool_id=its_id))
            tree = trees.mark(trees.put(tree, pool), pool_id=its_id)
            return Change(tree=tree, about=("pool", its_id), sentence=f"Asked to create {name(pool)}.")

        return writing.change(self.api, lb_id, decide), its_id

    def _parent(self, who: Caller, lb_id: str | None, listener_id: str | None) -> tuple[str, str]:
        if listener_id is None:
            if lb_id is None:
                raise Invalid("Validation failure: Must provide at least one of: loadbalancer_id, listener_id")
            return lb_id, parent_of(self, who, lb_id, "pool:post")
        with self.api.store.read() as conn:
            found = query.owner(conn, tables.listener, listener_id)
        owner, project_id = trees.existing(found, Listener, listener_id)
        if lb_id is not None:
            parent_of(self, who, lb_id, "pool:post")
        access.check("pool:post", who, project_id)
        if lb_id not in (None, owner):
            raise Invalid(f"Validation failure: Listener {listener_id} is not of load balancer {lb_id}.")
        return owner, project_id

    def made(self, lb: LoadBalancer, given: Json) -> Pool:
        """A new pool, its own fields checked."""
        fields = {k: v for k, v in given.items() if k not in ("project_id", "tenant_id")}
        wanted = fields.pop("session_persistence", None)
        persistence = None if wanted is None else SessionPersistence(**wanted)
        secure = tls_rules.pool_defaults(bool(fields.get("tls_enabled")), self.api.settings.api_settings)
        pool = Pool(**{**secure, **writing.new_fields(self.api, lb, fields)}, session_persistence=persistence)
        rules.persistence(pool.session_persistence, pool.protocol)
        tls_rules.pool(pool, self.api.settings.api_settings)
        return pool

    def admit(self, who: Caller, object_id: str, given: Json) -> None:
        if certificates.FIELDS.isdisjoint(given):
            return
        with self.api.store.read() as conn:
            row = conn.execute(select(tables.pool).where(tables.pool.c.id == object_id)).mappings().first()
        if row is not None:
            certificates.check_pool(self.api, who, row["project_id"], given, rows.from_row(Pool, row))

    def resolved(self, old: Pool, given: Json) -> Json:
        enabled = bool(given.get("tls_enabled", old.tls_enabled))
        secure = tls_rules.pool_defaults(enabled, self.api.settings.api_settings)
        found = super().resolved(old, {k: secure[k] if k in secure and v is None else v for k, v in given.items()})
        if enabled and not old.tls_enabled:  # switched on: what was never said is as at creation
            found = {k: v for k, v in secure.items() if getattr(old, k) is None} | found
        return found

    def update(self, tree: Tree, old: Pool, given: Json) -> Change:
        wanted = given.get("session_persistence")
        if wanted is not None:
            given = {**given, "session_persistence": _merged(old, wanted)}
        new = trees.changed(old, given, utc(self.api.clock.now()))
        rules.persistence(new.session_persistence, new.protocol)
        tls_rules.pool(new, self.api.settings.api_settings)
        for listener in trees.users(tree, new.id):
            rules.listener_keeps_clients(listener.protocol, new)
        tree = trees.mark(trees.put(tree, new), pool_id=new.id)
        return Change(tree=tree, about=("pool", new.id), sentence=f"Asked to change {name(new)}.")

    def delete(self, tree: Tree, old: Pool) -> Change:
        now = utc(self.api.clock.now())
        rules.pool_is_free(tree, old)
        tree = trees.mark(tree, pool_id=old.id)
        members = [trees.leaving(v, now) for v in tree.members if v.pool_id == old.id]
        monitors = [trees.leaving(v, now) for v in tree.health_monitors if v.pool_id == old.id]
        freed = [dataclasses.replace(v, default_pool_id=None) for v in tree.listeners if v.default_pool_id == old.id]
        tree = trees.put(tree, *freed, trees.leaving(old, now), *members, *monitors)
        return Change(tree=tree, about=("pool", old.id), sentence=f"Asked to delete {name(old)}.")


def _merged(old: Pool, wanted: Json) -> SessionPersistence:
    if not wanted:
        raise Invalid("Invalid input for field/attribute session_persistence. Value: '{}'. It holds nothing.")
    was = old.session_persistence
    kind = wanted.get("type") or (was and was.type)
    if kind is None:
        raise Invalid("Invalid input for field/attribute type. Value: 'None'. Mandatory field missing.")
    kept = dataclasses.asdict(was) if was is not None and was.type == kind else {}  # a change names what it changes
    rules.persistence(SessionPersistence(**{**wanted, "type": kind}), old.protocol)
    return SessionPersistence(**{**kept, **wanted, "type": kind})


def name(pool: Pool) -> str:
    """The pool in words."""
    return f"pool {pool.name or pool.id} ({pool.protocol}, {pool.lb_algorithm})"

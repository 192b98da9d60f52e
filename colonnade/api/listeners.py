"""Listeners: what may be asked of them."""

from sqlalchemy import select

from colonnade.api import access, certificates, rules, shapes, tls_rules, trees, writing
from colonnade.api.listing import Listed
from colonnade.api.resources import Kind
from colonnade.api.trees import Change
from colonnade.clock import utc
from colonnade.core import bundle
from colonnade.errors import Unsupported
from colonnade.model import Caller, Listener, LoadBalancer, Pool, Tree
from colonnade.store import query, rows, tables
from colonnade.types import Json


class Listeners(Kind[Listener]):
    """The kind."""

    cls = Listener
    body = shapes.LISTENER
    listed = Listed(cls=Listener, plural="listeners", also=("loadbalancer_id",), scoped=True)
    policy = "listener"

    def creation(self, who: Caller, given: Json) -> tuple[Tree, str]:
        lb_id = given["loadbalancer_id"]
        project_id = parent_of(self, who, lb_id, "listener:post")
        certificates.check_listener(self.api, who, project_id, given)
        its_id = writing.new_id()

        def decide(tree: Tree) -> Change:
            listener = self.made(tree, tree.load_balancer, {**given, "id": its_id})
            tree = trees.mark(trees.put(tree, listener))
            return Change(tree=tree, about=("listener", its_id), sentence=f"Asked to create {name(listener)}.")

        return writing.change(self.api, lb_id, decide), its_id

    def made(self, tree: Tree, lb: LoadBalancer, given: Json) -> Listener:
        """A new listener that may join the tree."""
        if given.get("l7policies"):
            raise Unsupported("l7policies can be given with a new load balancer only; create them after the listener.")
        fields = {k: v for k, v in given.items() if k not in ("project_id", "tenant_id", "l7policies")}
        section = self.api.settings.api_settings
        rules.protocol_allowed(fields["protocol"], prometheus=section.allow_prometheus_listeners)
        secure = tls_rules.listener_defaults(tls_rules.speaks(fields["protocol"], fields), section)
        listener = Listener(**{**self.defaults(), **secure, **writing.new_fields(self.api, lb, fields)})
        self._check(tree, listener)
        rules.listener_is_unique(tree, listener)
        return listener

    def admit(self, who: Caller, object_id: str, given: Json) -> None:
        if certificates.FIELDS.isdisjoint(given):
            return
        with self.api.store.read() as conn:
            row = conn.execute(select(tables.listener).where(tables.listener.c.id == object_id)).mappings().first()
        if row is not None:
            certificates.check_listener(self.api, who, row["project_id"], given, rows.from_row(Listener, row))

    def resolved(self, old: Listener, given: Json) -> Json:
        refs = {f: getattr(old, f) for f in ("default_tls_container_ref", "sni_container_refs")}
        did, does = tls_rules.speaks(old.protocol, refs), tls_rules.speaks(old.protocol, {**refs, **given})
        secure = tls_rules.listener_defaults(does, self.api.settings.api_settings)
        given = {k: secure[k] if k in secure and v is None else v for k, v in given.items()}
        return super().resolved(old, {**secure, **given} if did != does else given)

    def update(self, tree: Tree, old: Listener, given: Json) -> Change:
        new = trees.changed(old, given, utc(self.api.clock.now()))
        self._check(tree, new)
        tree = trees.mark(trees.put(tree, new))
        return Change(tree=tree, about=("listener", new.id), sentence=f"Asked to change {name(new)}.")

    def delete(self, tree: Tree, old: Listener) -> Change:
        now = utc(self.api.clock.now())
        policies = [p for p in tree.l7policies if p.listener_id == old.id]
        ids = {p.id for p in policies}
        tree = trees.put(tree, *(trees.leaving(p, now) for p in policies))
        tree = trees.put(tree, *(trees.leaving(r, now) for r in tree.l7rules if r.l7policy_id in ids))
        tree = trees.mark(trees.put(tree, trees.leaving(old, now)))
        return Change(tree=tree, about=("listener", old.id), sentence=f"Asked to delete {name(old)}.")

    def defaults(self) -> Json:
        section = self.api.settings.haproxy_amphora
        names = ("timeout_client_data", "timeout_member_connect", "timeout_member_data", "timeout_tcp_inspect")
        return {n: getattr(section, n) for n in names}

    def _check(self, tree: Tree, listener: Listener) -> None:
        if listener.default_pool_id is not None:
            pool = trees.find_mutable(tree, Pool, listener.default_pool_id)
            rules.listener_takes_pool(listener.protocol, pool.protocol)
            rules.listener_keeps_clients(listener.protocol, pool)
        rules.headers(listener.insert_headers, listener.protocol)
        tls_rules.listener(listener, self.api.settings.api_settings)
        rules.cidrs_go_with(tree.load_balancer, listener.allowed_cidrs)
        rules.cidrs(listener.allowed_cidrs, bundle.vips(tree.load_balancer))


def name(listener: Listener) -> str:
    """The listener in words."""
    return f"listener {listener.name or listener.id} ({listener.protocol} on port {listener.protocol_port})"


def parent_of(kind: "Kind[Listener] | Kind[Pool]", who: Caller, lb_id: str, target: str) -> str:
    """404 unless the load balancer exists, 403 unless the caller may do ``target`` in its project, which it answers."""
    with kind.api.store.read() as conn:
        found = query.owner(conn, tables.load_balancer, lb_id)
    project_id = trees.existing(found, LoadBalancer, lb_id)[1]
    access.check(target, who, project_id)
    return project_id

"""Load balancers: what may be asked of them, and what they tell about themselves."""

import dataclasses
import logging
from datetime import UTC, datetime

import falcon
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from colonnade.api import (
    access,
    certificates,
    graph,
    listing,
    offers,
    provided_vip,
    replies,
    resources,
    rules,
    shapes,
    trees,
    vip,
    writing,
)
from colonnade.api.listeners import Listeners
from colonnade.api.listing import Listed
from colonnade.api.providers import Wish
from colonnade.api.resources import Kind
from colonnade.api.transport import answer, caller, read_body
from colonnade.api.trees import Change, How
from colonnade.api.writing import Api
from colonnade.clock import utc
from colonnade.drivers.provider import NotEnabled
from colonnade.errors import Busy, Conflict, Invalid, Later, NotFound
from colonnade.model import Caller, LoadBalancer, Tree, foreign
from colonnade.store import query, tables
from colonnade.types import UUID, Json

log = logging.getLogger(__name__)

_TRUE = frozenset({"true", "1", "yes", "on", "t", "y"})


class LoadBalancers(Kind[LoadBalancer]):
    """The kind."""

    cls = LoadBalancer
    body = shapes.LOAD_BALANCER
    listed = Listed(cls=LoadBalancer, plural="loadbalancers", scoped=True)
    policy = "loadbalancer"

    def __init__(self, api: Api, makers: graph.Makers) -> None:
        super().__init__(api)
        self.makers = makers

    def creation(self, who: Caller, given: Json) -> tuple[Tree, str]:
        project_id = given.pop("project_id", None) or given.pop("tenant_id", None) or who.project_id
        given.pop("tenant_id", None)
        if not project_id:
            raise Invalid("Missing project ID in request where one is required. Give project_id.")
        access.check("loadbalancer:post", who, project_id)
        if "vip_sg_ids" in given:
            access.check("loadbalancer:post:vip_sg_ids", who, project_id)
        below = graph.read(given)
        provider, wish = self._choice(given)
        fields = {
            **given, "provider": provider, "topology": wish.topology, "compute_flavor": wish.compute_flavor,
            "compute_zone": wish.compute_zone, "vip_vnic_type": wish.vnic_type,
        }  # fmt: skip
        for subnet_id in below.subnet_ids:
            vip.check_subnet(self.api.network, who, subnet_id)
        for wanted in below.listeners:
            certificates.check_listener(self.api, who, project_id, wanted.fields)
        for pool in below.pools.values():
            certificates.check_pool(self.api, who, project_id, pool)
        lb_id = writing.new_id()
        vip.check_words(given, self.api.settings.networking)
        vip.check_traffic(self.api.network, who, given)
        vip.check_network(self.api.network, who, given, wish.vip_networks, self.api.settings.networking)
        if not foreign(provider):
            place = vip.resolve(self.api.network, who, lb_id, project_id, given)
        else:
            place = provided_vip.resolve(self.api, who, provider, lb_id, project_id, given)
        fields |= {f.name: getattr(place, f.name) for f in dataclasses.fields(place)}
        fields |= {"project_id": project_id, "id": lb_id}

        def decide(conn: Connection) -> Change:
            if not place.vip_owned and (user := query.port_user(conn, place.vip_port_id)):
                raise _taken(place, user)
            if offers.chosen(conn, given, given.get("provider"), hold=True).wish != wish:
                raise Busy("The flavor or the availability zone was changed just now. Please try again.")
            lb = LoadBalancer(**writing.new_fields(self.api, None, fields))
            rules.vip_takes_groups(lb, ())
            tree = graph.grow(self.makers, lb, below)
            return Change(
                tree=tree, about=("loadbalancer", lb_id), sentence=f"Asked to create {name(lb)}{graph.summary(tree)}."
            )

        try:
            return writing.create(self.api, lb_id, decide), lb_id
        except IntegrityError as e:  # where writers do not take turns, another may have got the port a moment ago
            with self.api.store.read() as conn:
                user = query.port_user(conn, place.vip_port_id)
            if user is None:
                raise
            raise _taken(place, user) from e
        except BaseException:
            with self.api.store.read() as conn:
                gone = query.owner(conn, tables.load_balancer, lb_id) is None
            if gone:
                self._release(place)
            raise

    def change_targets(self, given: Json) -> tuple[str, ...]:
        return ("loadbalancer:put", "loadbalancer:put:vip_sg_ids") if "vip_sg_ids" in given else ("loadbalancer:put",)

    def _release(self, place: vip.Vip) -> None:
        if place.vip_owned:
            try:
                self.api.network.release(place.vip_port_id)
            except Later as e:  # the sweep for orphans removes it
                log.warning("left a port", extra={"port": place.vip_port_id, "error": str(e)})

    def _choice(self, given: Json) -> tuple[str, Wish]:
        """Its provider, and what its flavor and availability zone ask for. Raises Invalid."""
        if given.get("provider"):
            self.api.providers.check(given["provider"])
        found = offers.Choice(given.get("provider"), Wish())
        if given.get("flavor_id") or given.get("availability_zone"):
            with self.api.store.read() as conn:
                found = offers.chosen(conn, given, given.get("provider"))
        provider = given.get("provider") or found.provider or self.api.settings.api_settings.default_provider_driver
        self.api.providers.check(provider)
        return provider, found.wish

    def document(self, tree: Tree, object_id: str) -> Json:
        return replies.of_tree(tree, tree.load_balancer)

    def admit(self, who: Caller, object_id: str, given: Json) -> None:
        vip.check_traffic(self.api.network, who, given)

    def update(self, tree: Tree, old: LoadBalancer, given: Json) -> Change:
        new = trees.changed(old, given, utc(self.api.clock.now()))
        rules.vip_takes_groups(new, trees.staying(tree.listeners))
        return _change(tree, new, f"Asked to change {name(new)}.")

    def delete(self, tree: Tree, old: LoadBalancer) -> Change:
        return self.removal(tree, cascade=False)

    def removal(self, tree: Tree, *, cascade: bool) -> Change:
        """What deleting it asks for. Children that are on their way out are no hindrance."""
        lb = tree.load_balancer
        if not cascade and trees.staying((*tree.listeners, *tree.pools)):
            raise Invalid(
                f"Validation failure: Cannot delete Load Balancer {lb.id} - it has children. Delete those first, or "
                "all at once with cascade=true (--cascade)."
            )
        if lb.going:
            raise Conflict(f"Invalid state {lb.provisioning_status} of loadbalancer resource {lb.id}")
        new = trees.leaving(lb, utc(self.api.clock.now()))
        sentence = f"Asked to delete {name(lb)}{' and all it has' if cascade else ''}."
        return _change(tree, new, sentence, "cascade" if cascade else "")

    def failover(self, tree: Tree) -> Change:
        """What replacing its amphorae asks for."""
        lb = tree.load_balancer
        new = dataclasses.replace(trees.pending(lb), incarnation=lb.incarnation + 1)
        return _change(tree, new, f"Asked to replace the amphorae of {name(lb)}.", "failover")


def _change(tree: Tree, new: LoadBalancer, sentence: str, how: How = "") -> Change:
    tree = dataclasses.replace(tree, load_balancer=new)
    return Change(tree=tree, about=("loadbalancer", new.id), sentence=sentence, how=how)


def name(lb: LoadBalancer) -> str:
    """The load balancer in words."""
    return f"load balancer {lb.name or lb.id} (VIP {lb.vip_address})"


class Collection(resources.Collection):
    """All load balancers."""

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        document = read_body(req, self.api.settings.api_settings.max_request_body_size)
        tree, _ = self.kind.creation(caller(req), self.kind.body.creation(document))
        answer(resp, {"loadbalancer": replies.nested(tree)}, 201)


class Item(resources.Item):
    """One load balancer."""

    def __init__(self, kind: LoadBalancers) -> None:
        super().__init__(kind)
        self.load_balancers = kind

    def on_delete(self, req: falcon.Request, resp: falcon.Response, object_id: str) -> None:
        cascade = (listing.Args.of(req).one("cascade") or "").lower() in _TRUE
        self.kind.owned(object_id, "loadbalancer:delete", caller(req))

        def decide(tree: Tree) -> Change:
            return self.load_balancers.removal(tree, cascade=cascade)

        try:
            writing.change(self.api, object_id, decide, delete=True)
        except NotEnabled:
            if not caller(req).is_admin:
                raise
            writing.forsake(self.api, object_id, decide)
        resp.status = 204


class Failover:
    """PUT …/failover"""

    def __init__(self, kind: LoadBalancers) -> None:
        self.kind = kind

    def on_put(self, req: falcon.Request, resp: falcon.Response, object_id: str) -> None:
        self.kind.owned(object_id, "loadbalancer:put_failover", caller(req))
        writing.change(self.kind.api, object_id, self.kind.failover)
        resp.status = 202


class Statuses:
    """GET …/status and …/statuses"""

    def __init__(self, kind: LoadBalancers) -> None:
        self.kind = kind

    def on_get(self, req: falcon.Request, resp: falcon.Response, object_id: str) -> None:
        found = {}
        if UUID.fullmatch(object_id):
            with self.kind.api.store.read() as conn:
                found = query.statuses(conn, object_id)
        if not found:
            raise NotFound(f"Load Balancer {object_id} not found.")
        access.check("loadbalancer:get_status", caller(req), found["loadbalancer"][0].parent)
        answer(resp, replies.status_tree(found))


class Statistics:
    """GET …/stats"""

    def __init__(self, kind: LoadBalancers) -> None:
        self.kind = kind

    def on_get(self, req: falcon.Request, resp: falcon.Response, object_id: str) -> None:
        self.kind.owned(object_id, "loadbalancer:get_stats", caller(req))
        with self.kind.api.store.read() as conn:
            answer(resp, {"stats": query.load_balancer_statistics(conn, object_id)})


class ListenerStatistics:
    """GET /listeners/{id}/stats"""

    def __init__(self, kind: Listeners) -> None:
        self.kind = kind

    def on_get(self, req: falcon.Request, resp: falcon.Response, object_id: str) -> None:
        self.kind.owned(object_id, "listener:get_stats", caller(req))
        with self.kind.api.store.read() as conn:
            answer(resp, {"stats": query.listener_statistics(conn, object_id)})


class Events:
    """GET …/events: what happened to the load balancer, newest first. Ours, not Octavia's."""

    def __init__(self, kind: LoadBalancers) -> None:
        self.kind = kind

    def on_get(self, req: falcon.Request, resp: falcon.Response, object_id: str) -> None:
        api = self.kind.api
        self.kind.owned(object_id, "loadbalancer:get_status", caller(req))
        args = listing.Args.of(req)
        limit = listing.limit_of(args.one("limit"), api.settings.api_settings.most_items)
        with api.store.read() as conn:
            found = query.load_balancer_events(conn, object_id, limit, _marker(args.one("marker")))
        documents = [
            {
                "id": e.id, "created_at": _moment(e.at), "kind": e.kind, "object_type": e.object_type,
                "object_id": e.object_id, "sentence": e.sentence, "help": e.help,
            }
            for e in found
        ]  # fmt: skip
        links = []
        if documents and len(documents) == limit:
            href = f"{listing.base_uri(api, req)}{req.path}?limit={limit}&marker={documents[-1]['id']}"
            links.append({"rel": "next", "href": href})
        answer(resp, {"events": documents, "events_links": links})


def _taken(place: vip.Vip, user: str) -> Invalid:
    return Invalid(f"Validation failure: VIP port {place.vip_port_id} is already used by device lb-{user}.")


def _marker(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Invalid("Validation failure: marker is not the id of an event")
    return int(text)


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).replace(tzinfo=None).isoformat(timespec="milliseconds")

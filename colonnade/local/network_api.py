"""The part of Neutron's API v2.0 that clients need around load balancers: one set of handlers for all kinds."""

from collections.abc import Callable
from typing import TypeVar

import falcon
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from colonnade.clock import Clock
from colonnade.drivers import Doorbell
from colonnade.errors import Conflict, NotFound
from colonnade.local import attributes, kinds, listing, qos, web
from colonnade.local.faults import PolicyNotAuthorized, TagNotFound
from colonnade.local.host_routes import Routes
from colonnade.local.kinds import Kind
from colonnade.local.listing import Collection
from colonnade.local.networks import Networks, Subnets
from colonnade.local.ports import FloatingIps, Ports
from colonnade.local.qos import QosPolicies
from colonnade.local.security import SecurityGroupRules, SecurityGroups
from colonnade.model import Caller
from colonnade.store.store import Store
from colonnade.types import Json

OPEN_PATHS = frozenset({"", "/v2.0"})
_TRIES = 5
T = TypeVar("T")

_EXTENSIONS = {
    "external-net": ("Neutron external network", "Networks that floating IPs come from."),
    "router": ("Neutron L3 Router", "Floating IPs. There are no routers to make: a project's networks are routed."),
    "net-mtu": ("Network MTU", "The MTU of a network."),
    "project-id": ("project_id field enabled", "project_id beside tenant_id."),
    "pagination": ("Pagination support", "limit, marker, page_reverse."),
    "sorting": ("Sorting support", "sort_key, sort_dir."),
    "standard-attr-description": ("standard-attr-description", "A description of every object."),
    "standard-attr-tag": ("Tag support for resources with standard attribute", "Tags."),
    "standard-attr-timestamp": ("Resource timestamps", "created_at, updated_at."),
    "standard-attr-revisions": ("Resource revision numbers", "revision_number."),
    "security-group": ("security-group", "Who may reach the VIPs of load balancers."),
    "qos": ("Quality of Service", "How much may come in to and leave from the VIPs of load balancers."),
    "qos-bw-limit-direction": ("Direction for QoS bandwidth limit rule", "Of each direction one limit."),
    "fip-port-details": ("Floating IP Port Details Extension", "port_details of floating IPs."),
}

# Lists that are truthfully empty: path -> key of the reply.
_EMPTY = {
    "subnetpools": "subnetpools",
    "routers": "routers",
    "address-scopes": "address_scopes",
}


def routes(store: Store, doorbell: Doorbell, clock: Clock, reached: Routes) -> list[tuple[str, object]]:
    """Every path of the service. ``reached``: what subnets may not overlap, beside one another."""
    paths: list[tuple[str, object]] = [
        ("/", web.Document(lambda r: {"versions": [_version(web.root(r))]})),
        ("/v2.0", web.Document(lambda r: {"version": _version(web.root(r)), "resources": []})),
        ("/v2.0/extensions", web.Document(lambda _r: {"extensions": [_extension(a) for a in _EXTENSIONS]})),
        ("/v2.0/extensions/{alias}", _Extension()),
    ]
    for path, key in _EMPTY.items():
        paths.append((f"/v2.0/{path}", _Empty(key)))
        paths.append((f"/v2.0/{path}/{{item_id}}", _Empty(key)))
    kinds_served: list[Kind] = [
        Networks(), Subnets(reached), Ports(), FloatingIps(), SecurityGroups(), SecurityGroupRules(),
    ]  # fmt: skip
    for kind in kinds_served:
        handlers = _Handlers(kind, store, doorbell, clock)
        path = f"/v2.0/{kind.path or kind.collection.plural}"
        paths += [(path, _List(handlers)), (f"{path}/{{item_id}}", _One(handlers)), *_tagging(path, handlers)]
    policies = _Handlers(QosPolicies(), store, doorbell, clock)
    path, below = "/v2.0/qos/policies", "/v2.0/qos/policies/{item_id}"
    return [
        *paths,
        (path, _List(policies)),
        (below, _One(policies)),
        *_tagging("/v2.0/policies", policies),  # where Neutron has them
        (f"{below}/bandwidth_limit_rules", _QosRules(policies)),
        (f"{below}/bandwidth_limit_rules/{{rule_id}}", _QosRule(policies)),
        (f"{below}/{{kind}}", _NoQosRules()),
        ("/v2.0/qos/rule-types", web.Document(lambda _r: {"rule_types": [{"type": "bandwidth_limit"}]})),
    ]


def _tagging(path: str, handlers: "_Handlers") -> list[tuple[str, object]]:
    return [(f"{path}/{{item_id}}/tags", _Tags(handlers)), (f"{path}/{{item_id}}/tags/{{tag}}", _Tag(handlers))]


def _version(root: str) -> Json:
    return {"id": "v2.0", "status": "CURRENT", "links": [{"rel": "self", "href": f"{root}/v2.0/"}]}


def _extension(alias: str) -> Json:
    name, description = _EXTENSIONS[alias]
    return {"alias": alias, "name": name, "description": description, "updated": "2026-01-01T00:00:00-00:00",
            "links": []}  # fmt: skip


class _Extension(web.ReadOnly):
    def on_get(self, _req: falcon.Request, resp: falcon.Response, alias: str) -> None:
        """One extension."""
        if alias not in _EXTENSIONS:
            raise NotFound(f"Extension with alias {alias} does not exist.")
        web.answer(resp, {"extension": _extension(alias)})


class _Empty(web.ReadOnly):
    """A kind of thing of which there is none here."""

    def __init__(self, key: str) -> None:
        self._key = key
        self.why = f"There are no {key.replace('_', ' ')} in a stand-alone installation."

    def on_get(self, _req: falcon.Request, resp: falcon.Response, item_id: str | None = None) -> None:
        """The empty list, or 404."""
        if item_id is not None:
            raise NotFound(f"{item_id} could not be found. {self.why}")
        web.answer(resp, {self._key: []})


class _Handlers:
    """What the resources of one kind share: transactions, and who may write."""

    def __init__(self, kind: Kind, store: Store, doorbell: Doorbell, clock: Clock) -> None:
        self.kind = kind
        self.store = store
        self._doorbell = doorbell
        self._clock = clock

    def write(
        self, caller: Caller, change: Callable[[Connection, float], T], about: Callable[[Connection, T], Json]
    ) -> T:
        """One transaction, again when another took the same address or was preferred by the database at the same
        moment; then the doorbell, for whom the item that it is ``about`` concerns."""
        if "member" not in caller.roles:
            raise PolicyNotAuthorized("The role reader may not change anything.")

        def write(conn: Connection) -> tuple[T, list[str]]:
            done = change(conn, self._clock.now())
            return done, self.kind.concerned(conn, about(conn, done))

        for _ in range(_TRIES):
            try:
                done, concerned = self.store.written(write)
            except IntegrityError:
                continue
            for subject in concerned:
                self._doorbell.ring(subject)
            return done
        raise Conflict("Others took the same addresses at the same time, again and again. Please try again.")

    def own(self, conn: Connection, caller: Caller, item_id: str) -> Json:
        """An item that the caller may change."""
        item = kinds.find(conn, self.kind, caller, item_id)
        kinds.may_change(self.kind, caller, item)
        return item

    def reply(self, req: falcon.Request, resp: falcon.Response, item: Json, status: int = 200) -> None:
        """Answer with one item."""
        web.answer(resp, {self.kind.singular: listing.chosen(req, item)}, status)


class _List:
    def __init__(self, handlers: _Handlers) -> None:
        self._handlers = handlers

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """The items that the query asks for."""
        kind = self._handlers.kind
        collection: Collection = kind.collection
        query = listing.understand(req, collection, web.root(req) + req.path)
        with self._handlers.store.read() as conn:
            items = kind.items(conn, web.caller(req), query.narrow(collection, kind.table))
        web.answer(resp, listing.answer(collection, query, items))

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Make one."""
        kind, caller = self._handlers.kind, web.caller(req)
        given = attributes.read(web.body(req, kind.singular), kind.attributes, caller, creating=True)

        def make(conn: Connection, now: float) -> Json:
            return kinds.find(conn, kind, _as_admin(caller), kind.create(conn, caller, given, now))

        self._handlers.reply(req, resp, self._handlers.write(caller, make, _itself), 201)


def _itself(_conn: Connection, item: Json) -> Json:
    return item


def _as_admin(caller: Caller) -> Caller:
    """For reading back what the caller just made."""
    return Caller(user_id=caller.user_id, project_id=caller.project_id, roles=caller.roles | {"admin"})


class _One:
    def __init__(self, handlers: _Handlers) -> None:
        self._handlers = handlers

    def on_get(self, req: falcon.Request, resp: falcon.Response, item_id: str) -> None:
        """One item; a name is not an id, so it answers 404."""
        with self._handlers.store.read() as conn:
            item = kinds.find(conn, self._handlers.kind, web.caller(req), item_id)
        self._handlers.reply(req, resp, item)

    def on_put(self, req: falcon.Request, resp: falcon.Response, item_id: str) -> None:
        """Change it."""
        kind, caller = self._handlers.kind, web.caller(req)
        given = attributes.read(web.body(req, kind.singular), kind.attributes, caller, creating=False)

        def change(conn: Connection, now: float) -> Json:
            kind.update(conn, caller, self._handlers.own(conn, caller, item_id), given, now)
            return kinds.find(conn, kind, caller, item_id)

        self._handlers.reply(req, resp, self._handlers.write(caller, change, _itself))

    def on_delete(self, req: falcon.Request, resp: falcon.Response, item_id: str) -> None:
        """Remove it."""
        kind, caller = self._handlers.kind, web.caller(req)

        def remove(conn: Connection, now: float) -> Json:
            item = self._handlers.own(conn, caller, item_id)
            kind.delete(conn, caller, item, now)
            return item

        self._handlers.write(caller, remove, _itself)
        resp.status = falcon.HTTP_204


class _QosRules:
    """The rules of a QoS policy."""

    def __init__(self, handlers: _Handlers) -> None:
        self._handlers = handlers

    def on_get(self, req: falcon.Request, resp: falcon.Response, item_id: str) -> None:
        """All of them."""
        with self._handlers.store.read() as conn:
            found = qos.rules(conn, kinds.find(conn, self._handlers.kind, web.caller(req), item_id))
        wanted = {k: req.get_param(k) for k in ("id", "direction") if req.has_param(k)}
        web.answer(resp, {"bandwidth_limit_rules": [r for r in found if all(r[k] == v for k, v in wanted.items())]})

    def on_post(self, req: falcon.Request, resp: falcon.Response, item_id: str) -> None:
        """One more."""
        given = _given_rule(req)
        made = _of_policy(self._handlers, req, item_id, lambda conn, policy, now: qos.add(conn, policy, given, now))
        web.answer(resp, {"bandwidth_limit_rule": made}, 201)


class _QosRule:
    """One rule of a QoS policy."""

    def __init__(self, handlers: _Handlers) -> None:
        self._handlers = handlers

    def on_get(self, req: falcon.Request, resp: falcon.Response, item_id: str, rule_id: str) -> None:
        """The rule."""
        with self._handlers.store.read() as conn:
            found = qos.one(conn, kinds.find(conn, self._handlers.kind, web.caller(req), item_id), rule_id)
        web.answer(resp, {"bandwidth_limit_rule": found})

    def on_put(self, req: falcon.Request, resp: falcon.Response, item_id: str, rule_id: str) -> None:
        """Change it."""
        given = _given_rule(req)
        found = _of_policy(
            self._handlers, req, item_id, lambda conn, policy, now: qos.alter(conn, policy, rule_id, given, now)
        )
        web.answer(resp, {"bandwidth_limit_rule": found})

    def on_delete(self, req: falcon.Request, resp: falcon.Response, item_id: str, rule_id: str) -> None:
        """Remove it."""
        _of_policy(self._handlers, req, item_id, lambda conn, policy, now: qos.remove(conn, policy, rule_id, now))
        resp.status = falcon.HTTP_204


class _NoQosRules(web.ReadOnly):
    """Kinds of QoS rules that have no effect here."""

    why = "Only bandwidth-limit rules have an effect here."

    def on_get(self, _req: falcon.Request, resp: falcon.Response, item_id: str, kind: str) -> None:
        """None."""
        raise NotFound(f"{kind} of {item_id} could not be found. {self.why}")


def _given_rule(req: falcon.Request) -> Json:
    return attributes.read(web.body(req, "bandwidth_limit_rule"), qos.RULE, web.caller(req), creating=False)


def _of_policy(
    handlers: _Handlers, req: falcon.Request, item_id: str, change: Callable[[Connection, Json, float], T]
) -> T:
    caller = web.caller(req)

    def write(conn: Connection, now: float) -> T:
        return change(conn, handlers.own(conn, caller, item_id), now)

    return handlers.write(caller, write, lambda conn, _done: kinds.find(conn, handlers.kind, caller, item_id))


class _Tags:
    """All tags of an item."""

    def __init__(self, handlers: _Handlers) -> None:
        self._handlers = handlers

    def on_get(self, req: falcon.Request, resp: falcon.Response, item_id: str) -> None:
        """The tags."""
        with self._handlers.store.read() as conn:
            web.answer(resp, {"tags": kinds.find(conn, self._handlers.kind, web.caller(req), item_id)["tags"]})

    def on_put(self, req: falcon.Request, resp: falcon.Response, item_id: str) -> None:
        """Exactly these tags."""
        wanted = attributes.tags("tags", web.document(req).get("tags"))
        web.answer(resp, {"tags": _set_tags(self._handlers, req, item_id, lambda _old: wanted)})

    def on_delete(self, req: falcon.Request, resp: falcon.Response, item_id: str) -> None:
        """No tags."""
        _set_tags(self._handlers, req, item_id, lambda _old: [])
        resp.status = falcon.HTTP_204


class _Tag:
    """One tag of an item."""

    def __init__(self, handlers: _Handlers) -> None:
        self._handlers = handlers

    def on_get(self, req: falcon.Request, resp: falcon.Response, item_id: str, tag: str) -> None:
        """Whether it has the tag."""
        with self._handlers.store.read() as conn:
            if tag not in kinds.find(conn, self._handlers.kind, web.caller(req), item_id)["tags"]:
                raise TagNotFound(f"Tag {tag} could not be found.")
        resp.status = falcon.HTTP_204

    def on_put(self, req: falcon.Request, resp: falcon.Response, item_id: str, tag: str) -> None:
        """With this tag too."""
        attributes.tag("tag", tag)
        _set_tags(self._handlers, req, item_id, lambda old: attributes.tags("tags", [*old, tag]))
        resp.status = falcon.HTTP_201

    def on_delete(self, req: falcon.Request, resp: falcon.Response, item_id: str, tag: str) -> None:
        """Without it."""

        def without(old: list[str]) -> list[str]:
            if tag not in old:
                raise TagNotFound(f"Tag {tag} could not be found.")
            return [t for t in old if t != tag]

        _set_tags(self._handlers, req, item_id, without)
        resp.status = falcon.HTTP_204


def _set_tags(
    handlers: _Handlers, req: falcon.Request, item_id: str, choose: Callable[[list[str]], list[str]]
) -> list[str]:
    caller = web.caller(req)

    def change(conn: Connection, now: float) -> list[str]:
        chosen = choose(handlers.own(conn, caller, item_id)["tags"])
        kinds.change(conn, handlers.kind.table, item_id, now, tags=chosen)
        return chosen

    return handlers.write(caller, change, lambda conn, _done: handlers.own(conn, caller, item_id))

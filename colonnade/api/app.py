"""The API as one WSGI application: the load-balancing API at the root and below /load-balancer, and beside it the
small cloud of a stand-alone installation, each service below its own prefix."""

import logging
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import falcon

from colonnade.api import (
    amphorae,
    front,
    l7rules,
    loadbalancers,
    members,
    offers,
    openapi,
    providers,
    quotas,
    resources,
    transport,
    versions,
)
from colonnade.api.access import Policy
from colonnade.api.graph import Makers
from colonnade.api.l7policies import L7Policies
from colonnade.api.l7rules import L7Rules
from colonnade.api.listeners import Listeners
from colonnade.api.members import Members
from colonnade.api.monitors import HealthMonitors
from colonnade.api.pools import Pools
from colonnade.api.writing import Api
from colonnade.clock import Clock
from colonnade.drivers import Doorbell, Network, SecretStore, Supplies
from colonnade.drivers.provider import Packages, Providers, missing
from colonnade.settings import Settings
from colonnade.store import owner
from colonnade.store.store import Store

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from colonnade.drivers.keystone import Keystone

log = logging.getLogger(__name__)

_TREES = ("/v2/lbaas", "/v2.0/lbaas", "/v2", "/v2.0")


def make_wsgi(
    *, settings: Settings, store: Store, network: Network, doorbell: Doorbell, clock: Clock,
    supplies: Supplies | None = None,
) -> "WSGIApplication":  # fmt: skip
    """Everything one port serves. ``supplies`` None: what a stand-alone host has."""
    from colonnade.local import app as local  # only where the small cloud is served
    from colonnade.local import host_routes
    from colonnade.local.compute import Host
    from colonnade.local.identity import Identity
    from colonnade.local.vault import LocalSecrets, Seal

    keystone = _keystone(settings, clock)
    identity = None if keystone else Identity(settings, store, clock)
    parts: dict[str, Any] = {
        "settings": settings, "store": store, "network": network, "doorbell": doorbell, "clock": clock,
        "identity": identity, "keystone": keystone,
    }  # fmt: skip
    apps: dict[str, WSGIApplication] = dict(local.make_apps(**parts, reached=host_routes.reader(settings.agent.slot)))
    secrets = LocalSecrets(store=store, seal=Seal(settings.state / "secrets"), clock=clock)
    root = make_lb_app(**parts, supplies=supplies or Host(), secrets=secrets)
    return front.before(Prefixes({**apps, "/load-balancer": root}, root), settings)


def _keystone(settings: Settings, clock: Clock) -> "Keystone | None":
    if settings.api_settings.auth_strategy != "keystone":
        return None
    from colonnade.drivers.keystone import Keystone  # 18 MB that nobody else pays for

    return Keystone(settings, clock)


def make_lb_app(
    *, settings: Settings, store: Store, network: Network, doorbell: Doorbell, clock: Clock,
    supplies: Supplies, identity: transport.Identity | None, keystone: "Keystone | None" = None,
    secrets: SecretStore | None = None,
) -> "WSGIApplication":  # fmt: skip
    """The load-balancing API alone, for tokens of one of the two."""
    api = Api(
        settings=settings, store=store, network=network, doorbell=doorbell, clock=clock, supplies=supplies,
        secrets=secrets, providers=_providers(settings),
        me=owner.name(settings.default.host or socket.gethostname()),
    )  # fmt: skip
    noauth = settings.api_settings.auth_strategy == "noauth"
    admit = transport.by_keystone(keystone) if keystone else transport.by_token(identity, noauth=noauth)
    app: falcon.App[Any, Any] = falcon.App(middleware=[transport.Gate(admit, Policy(settings, clock))])
    app.req_options.strip_url_path_trailing_slash = True
    app.resp_options.default_media_type = falcon.MEDIA_JSON
    transport.add_error_handlers(app)
    for path, resource in _routes(api):
        app.add_route(path, resource)
    served = without_suffix(app)
    return keystone.before(served, transport.is_open) if keystone else served


def _providers(settings: Settings) -> Providers:
    for sentence in missing(settings):
        log.warning(sentence)
    at_once = max(1, settings.api_settings.threads // 2)  # a provider that hangs leaves the other half for the others
    limit_s = settings.driver_agent.call_limit_s
    return Providers(settings.providers, Packages.of(settings), limit_s, at_once=at_once)


def _routes(api: Api) -> Iterable[tuple[str, Any]]:
    yield "/", versions.Root(api)
    yield "/healthcheck", versions.Health(api)
    yield "/openapi.json", openapi.Document()
    for path in ("/v2", "/v2.0", "/v2/lbaas", "/v2.0/lbaas", "/v2/octavia", "/v2.0/octavia"):
        yield path, versions.Version()
    for prefix in ("/v2/octavia", "/v2.0/octavia"):
        yield from ((f"{prefix}/amphorae{path}", resource) for path, resource in _amphorae(api))
    for prefix in _TREES:
        yield from ((f"{prefix}/{path}", resource) for path, resource in _lbaas(api))


def _amphorae(api: Api) -> Iterable[tuple[str, Any]]:
    item = amphorae.Item(api)
    yield "", amphorae.Collection(api)
    yield "/{object_id}", item
    yield "/{object_id}/stats", amphorae.Statistics(api)
    yield "/{object_id}/failover", amphorae.Action(item, "amphora:put_failover", amphorae.failover)
    yield "/{object_id}/config", amphorae.Action(item, "amphora:put_config", amphorae.configuration)


def _lbaas(api: Api) -> Iterable[tuple[str, Any]]:
    listeners, pools, monitors, below = Listeners(api), Pools(api), HealthMonitors(api), Members(api)
    policies, rules = L7Policies(api), L7Rules(api)
    makers = Makers(listeners, pools, below, monitors, policies, rules)
    lbs = loadbalancers.LoadBalancers(api, makers)
    yield "loadbalancers", loadbalancers.Collection(lbs)
    yield "loadbalancers/{object_id}", loadbalancers.Item(lbs)
    yield "loadbalancers/{object_id}/stats", loadbalancers.Statistics(lbs)
    yield "loadbalancers/{object_id}/status", loadbalancers.Statuses(lbs)
    yield "loadbalancers/{object_id}/statuses", loadbalancers.Statuses(lbs)
    yield "loadbalancers/{object_id}/events", loadbalancers.Events(lbs)
    yield "loadbalancers/{object_id}/failover", loadbalancers.Failover(lbs)
    kinds: list[resources.Kind[Any]] = [listeners, pools, monitors, policies]
    for kind in kinds:
        yield kind.listed.plural, resources.Collection(kind)
        yield f"{kind.listed.plural}/{{object_id}}", resources.Item(kind)
    yield "listeners/{object_id}/stats", loadbalancers.ListenerStatistics(listeners)
    yield "pools/{object_id}/members", members.Collection(below)
    yield "pools/{object_id}/members/{member_id}", members.Item(below)
    yield "l7policies/{object_id}/rules", l7rules.Collection(rules)
    yield "l7policies/{object_id}/rules/{rule_id}", l7rules.Item(rules)
    for path, offer in offers.PATHS.items():
        yield path, offers.Collection(api, offer)
        yield f"{path}/{{object_id}}", offers.Item(api, offer)
    yield "quotas", quotas.Collection(api)
    yield "quotas/{project_id}", quotas.Item(api)
    yield "quotas/{project_id}/default", quotas.Default(api)
    yield "providers", providers.Providers(api)
    yield "providers/{provider}", providers.Provider()
    for what, words in (("flavor", providers.FLAVOR), ("availability_zone", providers.ZONE)):
        yield f"providers/{{provider}}/{what}_capabilities", providers.Capabilities(api, what, words)


def without_suffix(app: "WSGIApplication") -> "WSGIApplication":
    """The same application where ``/loadbalancers.json`` is ``/loadbalancers``."""

    def serve(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path.endswith(".json") and path.startswith("/v2"):
            environ["PATH_INFO"] = path[: -len(".json")]
        return app(environ, start_response)

    return serve


class Prefixes:
    """Gives a request to the application whose prefix begins its path, and to the root when there is none."""

    def __init__(self, apps: "dict[str, WSGIApplication]", root: "WSGIApplication") -> None:
        self.apps, self.root = apps, root

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        prefix = "/" + path[1:].partition("/")[0]
        app = self.apps.get(prefix)
        if app is None:
            return self.root(environ, start_response)
        environ["SCRIPT_NAME"] = environ.get("SCRIPT_NAME", "") + prefix
        environ["PATH_INFO"] = path[len(prefix) :] or "/"
        return app(environ, start_response)

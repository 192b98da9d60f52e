"""The API as one WSGI application: the load-balancing API at the root and below /load-balancer, and beside it the
small cloud of a stand-alone installation, each service below its own prefix."""

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import falcon

from colonnade.api import amphorae, loadbalancers, members, openapi, resources, transport, unserved, versions
from colonnade.api.listeners import Listeners
from colonnade.api.members import Members
from colonnade.api.monitors import HealthMonitors
from colonnade.api.pools import Pools
from colonnade.api.writing import Api
from colonnade.clock import Clock
from colonnade.drivers import Doorbell, Network, SecretStore
from colonnade.settings import Settings
from colonnade.store.store import Store

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger(__name__)

_TREES = ("/v2/lbaas", "/v2.0/lbaas", "/v2", "/v2.0")


def make_wsgi(
    *, settings: Settings, store: Store, network: Network, doorbell: Doorbell, clock: Clock
) -> "WSGIApplication":
    """Everything one port serves."""
    from colonnade.local import app as local  # only where the small cloud is served
    from colonnade.local.identity import Identity
    from colonnade.local.vault import LocalSecrets, Seal

    identity = Identity(settings, store, clock)
    parts: dict[str, Any] = {
        "settings": settings, "store": store, "network": network, "doorbell": doorbell, "clock": clock,
    }  # fmt: skip
    apps: dict[str, WSGIApplication] = dict(local.make_apps(**parts, identity=identity))
    secrets = LocalSecrets(store=store, seal=Seal(settings.state / "secrets"), clock=clock)
    root = make_lb_app(**parts, identity=identity, secrets=secrets)
    return Prefixes({**apps, "/load-balancer": root}, root)


def make_lb_app(
    *, settings: Settings, store: Store, network: Network, doorbell: Doorbell, clock: Clock,
    identity: transport.Identity, secrets: SecretStore | None = None,
) -> "WSGIApplication":  # fmt: skip
    """The load-balancing API alone."""
    api = Api(settings=settings, store=store, network=network, doorbell=doorbell, clock=clock, secrets=secrets)
    noauth = settings.api_settings.auth_strategy == "noauth"
    app: falcon.App[Any, Any] = falcon.App(middleware=[transport.Gate(identity, noauth)])
    app.req_options.strip_url_path_trailing_slash = True
    app.resp_options.default_media_type = falcon.MEDIA_JSON
    transport.add_error_handlers(app)
    for path, resource in _routes(api):
        app.add_route(path, resource)
    return without_suffix(app)


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
    sentence = "Replacing a single amphora is not supported yet; fail over its load balancer instead."
    yield "/{object_id}/failover", amphorae.Action(item, "amphora:put_failover", sentence)
    sentence = "Amphorae take no configuration of their own in this deployment."
    yield "/{object_id}/config", amphorae.Action(item, "amphora:put_config", sentence)


def _lbaas(api: Api) -> Iterable[tuple[str, Any]]:
    listeners, pools, monitors, below = Listeners(api), Pools(api), HealthMonitors(api), Members(api)
    lbs = loadbalancers.LoadBalancers(api, listeners, pools, below, monitors)
    yield "loadbalancers", loadbalancers.Collection(lbs)
    yield "loadbalancers/{object_id}", loadbalancers.Item(lbs)
    yield "loadbalancers/{object_id}/stats", loadbalancers.Statistics(lbs)
    yield "loadbalancers/{object_id}/status", loadbalancers.Statuses(lbs)
    yield "loadbalancers/{object_id}/statuses", loadbalancers.Statuses(lbs)
    yield "loadbalancers/{object_id}/events", loadbalancers.Events(lbs)
    yield "loadbalancers/{object_id}/failover", loadbalancers.Failover(lbs)
    kinds: list[resources.Kind[Any]] = [listeners, pools, monitors]
    for kind in kinds:
        yield kind.listed.plural, resources.Collection(kind)
        yield f"{kind.listed.plural}/{{object_id}}", resources.Item(kind)
    yield "listeners/{object_id}/stats", loadbalancers.ListenerStatistics(listeners)
    yield "pools/{object_id}/members", members.Collection(below)
    yield "pools/{object_id}/members/{member_id}", members.Item(below)
    yield from _unserved(api)


def _unserved(api: Api) -> Iterable[tuple[str, Any]]:
    for kind in unserved.MISSING:
        yield kind.path, unserved.Collection(kind)
        yield f"{kind.path}/{{object_id}}", unserved.Item(kind)
    yield "l7policies/{object_id}/rules", unserved.Rules()
    yield "l7policies/{object_id}/rules/{rule_id}", unserved.Rules()
    yield "quotas", unserved.Quotas()
    yield "quotas/{project_id}", unserved.Quota()
    yield "quotas/{project_id}/default", unserved.QuotaDefault()
    yield "providers", unserved.Providers(api)
    flavors = unserved.Capabilities("provider-flavor:get_all", "flavor capabilities")
    yield "providers/{provider}/flavor_capabilities", flavors
    zones = unserved.Capabilities("provider-availability-zone:get_all", "availability zone capabilities")
    yield "providers/{provider}/availability_zone_capabilities", zones


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

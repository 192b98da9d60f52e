"""The small cloud around a stand-alone installation: its services as WSGI apps, by path prefix."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import falcon

from colonnade.clock import Clock
from colonnade.drivers import Doorbell, Network
from colonnade.errors import Unauthorized
from colonnade.local import compute, host_routes, identity_api, image, key_manager, network_api, web
from colonnade.local.host_routes import Routes
from colonnade.local.identity import Identity
from colonnade.local.vault import LocalSecrets, Seal
from colonnade.local.web import Service, Shape, WSGIApp
from colonnade.model import Caller
from colonnade.settings import Settings
from colonnade.store.store import Store

if TYPE_CHECKING:
    from colonnade.drivers.keystone import Keystone


def make_apps(
    *, settings: Settings, store: Store, network: Network, doorbell: Doorbell, clock: Clock,
    identity: Identity | None, keystone: "Keystone | None" = None, reached: Routes = host_routes.nothing,
) -> dict[str, WSGIApp]:  # fmt: skip
    """The apps, for tokens of one of the two; the small cloud's own identity only where it is the one.

    ``reached``: what the machine of the networks reaches already. Whoever mounts the apps moves the prefix from
    PATH_INFO to SCRIPT_NAME, as WSGI has it.
    """

    def admit(req: falcon.Request) -> Caller:
        if keystone:
            return keystone.caller(req.env)
        if identity is None:
            raise Unauthorized("Nobody can log in here.")
        return identity.admit(req.get_header("X-Auth-Token"), req.env)

    def make(prefix: str, shape: Shape, open_paths: frozenset[str], routes: Iterable[tuple[str, object]]) -> WSGIApp:
        api = settings.api_settings
        service = Service(
            prefix=prefix,
            admit=admit,
            base_uri=api.api_base_uri,
            longest_body=api.max_request_body_size,
            page_limit=api.most_items,
            shape=shape,
            open_paths=open_paths,
        )
        app = web.make(service, routes)
        return keystone.before(app, service.is_open) if keystone else app

    secrets = LocalSecrets(store=store, seal=Seal(settings.state / "secrets"), clock=clock)
    apps = {
        "/network": make(
            "/network", web.neutron_shape, network_api.OPEN_PATHS, network_api.routes(store, doorbell, clock, reached)
        ),
        "/compute": make("/compute", web.nova_shape, compute.OPEN_PATHS, compute.routes(store)),
        "/image": make("/image", web.nova_shape, image.OPEN_PATHS, image.routes(store)),
        "/key-manager": make(
            "/key-manager",
            key_manager.barbican_shape,
            key_manager.OPEN_PATHS,
            key_manager.routes(secrets, doorbell, clock),
        ),
    }
    if identity:
        routes = identity_api.routes(identity)
        apps["/identity"] = make("/identity", web.keystone_shape, identity_api.OPEN_PATHS, routes)
    return apps

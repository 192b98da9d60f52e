"""The small cloud around a stand-alone installation: its services as WSGI apps, by path prefix."""

from colonnade.clock import Clock
from colonnade.drivers import Doorbell, Network
from colonnade.local import compute, host_routes, identity_api, image, network_api, web
from colonnade.local.host_routes import Routes
from colonnade.local.identity import Identity
from colonnade.local.web import Service, Shape, WSGIApp
from colonnade.settings import Settings
from colonnade.store.store import Store


def make_apps(
    *, settings: Settings, store: Store, network: Network, doorbell: Doorbell, clock: Clock, identity: Identity,
    reached: Routes = host_routes.nothing,
) -> dict[str, WSGIApp]:  # fmt: skip
    """The apps. Whoever mounts them moves the prefix from PATH_INFO to SCRIPT_NAME, as WSGI has it. ``reached``: what
    the machine of the networks reaches already."""

    def service(prefix: str, shape: Shape, open_paths: frozenset[str]) -> Service:
        api = settings.api_settings
        return Service(
            prefix=prefix,
            identity=identity,
            base_uri=api.api_base_uri,
            longest_body=api.max_request_body_size,
            page_limit=api.pagination_max_limit,
            shape=shape,
            open_paths=open_paths,
        )

    return {
        "/identity": web.make(
            service("/identity", web.keystone_shape, identity_api.OPEN_PATHS), identity_api.routes(identity)
        ),
        "/network": web.make(
            service("/network", web.neutron_shape, network_api.OPEN_PATHS),
            network_api.routes(store, doorbell, clock, reached),
        ),
        "/compute": web.make(service("/compute", web.nova_shape, compute.OPEN_PATHS), compute.routes(store, identity)),
        "/image": web.make(service("/image", web.nova_shape, image.OPEN_PATHS), image.routes()),
    }

"""The small cloud around a stand-alone installation: its services as WSGI apps, by path prefix."""

from colonnade.clock import Clock
from colonnade.drivers import Doorbell, Network
from colonnade.local import compute, identity_api, image, key_manager, network_api, web
from colonnade.local.identity import Identity
from colonnade.local.vault import LocalSecrets, Seal
from colonnade.local.web import Service, Shape, WSGIApp
from colonnade.settings import Settings
from colonnade.store.store import Store


def make_apps(
    *, settings: Settings, store: Store, network: Network, doorbell: Doorbell, clock: Clock, identity: Identity
) -> dict[str, WSGIApp]:
    """The apps. Whoever mounts them moves the prefix from PATH_INFO to SCRIPT_NAME, as WSGI has it."""

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

    secrets = LocalSecrets(store=store, seal=Seal(settings.state / "secrets"), clock=clock)
    return {
        "/identity": web.make(
            service("/identity", web.keystone_shape, identity_api.OPEN_PATHS), identity_api.routes(identity)
        ),
        "/network": web.make(
            service("/network", web.neutron_shape, network_api.OPEN_PATHS), network_api.routes(store, doorbell, clock)
        ),
        "/compute": web.make(service("/compute", web.nova_shape, compute.OPEN_PATHS), compute.routes(store, identity)),
        "/image": web.make(service("/image", web.nova_shape, image.OPEN_PATHS), image.routes()),
        "/key-manager": web.make(
            service("/key-manager", key_manager.barbican_shape, key_manager.OPEN_PATHS),
            key_manager.routes(secrets, doorbell, clock),
        ),
    }

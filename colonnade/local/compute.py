"""The part of Nova's API v2.1 that shows amphorae as servers. It makes nothing: load balancers do."""

from dataclasses import dataclass
from typing import Any

import falcon
from sqlalchemy import Connection, select

from colonnade.errors import ApiError, Invalid, NotFound, Unsupported
from colonnade.local import image, listing, web
from colonnade.local.listing import Collection
from colonnade.local.network import service_project
from colonnade.local.ports import AMPHORA_OWNER
from colonnade.model import Caller
from colonnade.store.local_tables import local_address, local_network, local_port
from colonnade.store.store import Store
from colonnade.store.tables import amphora
from colonnade.types import AmphoraStatus, Json

OPEN_PATHS = frozenset({"", "/v2.1"})
_LEAST, _MOST = (2, 1), (2, 96)
_FLAVOR = "amphora"
_ZONE = "nova"
_DISK = 1  # GiB: an amphora's files, rounded up as compute services count disks
_LACKS = {
    "sriov_vip": "there is no SR-IOV in its networks",
    "allow_member_sriov": "there is no SR-IOV in its networks",
    "volume_zone": "amphorae have no volumes",
    "management_network": "amphorae are reached through a socket of the host",
}
_WRITES = "Servers here are amphorae: load balancers make and remove them (openstack loadbalancer …)."

_STATES = {  # amphora status -> (status, vm_state, task_state, power_state)
    AmphoraStatus.PENDING_CREATE: ("BUILD", "building", "scheduling", 0),
    AmphoraStatus.BOOTING: ("BUILD", "building", "spawning", 0),
    AmphoraStatus.ERROR: ("ERROR", "error", None, 0),
    AmphoraStatus.PENDING_DELETE: ("ACTIVE", "active", "deleting", 1),
    AmphoraStatus.FAILOVER_STOPPED: ("SHUTOFF", "stopped", None, 4),
}
_RUNNING = ("ACTIVE", "active", None, 1)

# Fields of a server by the microversion that brought them.
_SINCE = {
    "locked": (2, 9), "host_status": (2, 16), "description": (2, 19), "tags": (2, 26),
    "trusted_image_certificates": (2, 63), "server_groups": (2, 71), "locked_reason": (2, 73),
    "pinned_availability_zone": (2, 96),
}  # fmt: skip


class NotAcceptable(ApiError):
    """A microversion that is not served."""

    status = 406


class Host:
    """What a stand-alone host has for amphorae (drivers.Supplies): what this service shows."""

    def check(self, option: str, value: str) -> None:
        """Raises Invalid and Unsupported, as the protocol says."""
        match option:
            case "compute_flavor" if value != _FLAVOR:
                raise Invalid(f"Compute flavor {value} not found; a stand-alone installation has one: {_FLAVOR}.")
            case "compute_zone" if value != _ZONE:
                raise Invalid(f"Compute zone {value} not found; a stand-alone installation has one: {_ZONE}.")
            case "amp_image_tag" if value != image.TAG:
                raise Invalid(f"Image with tag {value} not found; a stand-alone installation has one: {image.TAG}.")
            case "compute_flavor" | "compute_zone" | "amp_image_tag":
                return
            case _:
                raise Unsupported(f"A stand-alone installation has nothing to give for {option}: {_LACKS[option]}.")


def routes(store: Store) -> list[tuple[str, object]]:
    """Every path of the service."""
    return [
        ("/", web.Document(lambda r: {"versions": [_version(web.root(r))]})),
        ("/v2.1", web.Document(lambda r: {"version": _version(web.root(r))})),
        ("/v2.1/servers", _Servers(store, detail=False)),
        ("/v2.1/servers/detail", _Servers(store, detail=True)),
        ("/v2.1/servers/{server_id}", _Server(store)),
        ("/v2.1/flavors", _Flavors(detail=False)),
        ("/v2.1/flavors/detail", _Flavors(detail=True)),
        ("/v2.1/flavors/{flavor_id}", _Flavor()),
    ]


def _version(root: str) -> Json:
    return {
        "id": "v2.1",
        "status": "CURRENT",
        "version": f"{_MOST[0]}.{_MOST[1]}",
        "min_version": f"{_LEAST[0]}.{_LEAST[1]}",
        "updated": "2013-07-23T11:33:21Z",
        "links": [{"rel": "self", "href": f"{root}/v2.1/"}],
    }


def _microversion(req: falcon.Request, resp: falcon.Response) -> tuple[int, int]:
    """The version that the request asks for, and says so in the reply. Raises NotAcceptable."""
    service, _, asked = (req.get_header("OpenStack-API-Version") or "").strip().partition(" ")
    text = asked if service == "compute" else req.get_header("X-OpenStack-Nova-API-Version") or ""
    text = text.strip() or f"{_LEAST[0]}.{_LEAST[1]}"
    major, _, minor = text.partition(".")
    if text == "latest":
        version = _MOST
    elif major.isdecimal() and minor.isdecimal() and len(text) < 10:
        version = (int(major), int(minor))
    else:
        version = (0, 0)
    if not _LEAST <= version <= _MOST:
        raise NotAcceptable(f"Version {text} is not supported by the API. Minimum is 2.1 and maximum is 2.96.")
    resp.set_header("OpenStack-API-Version", f"compute {version[0]}.{version[1]}")
    resp.set_header("X-OpenStack-Nova-API-Version", f"{version[0]}.{version[1]}")
    resp.set_header("Vary", "OpenStack-API-Version, X-OpenStack-Nova-API-Version")
    return version


@dataclass(frozen=True, slots=True)
class _Source:
    """Where servers are read: all amphorae, for admins; nobody else owns one."""

    store: Store

    def servers(self, caller: Caller, root: str, version: tuple[int, int]) -> list[Json]:
        if not caller.is_admin:
            return []
        with self.store.read() as conn:
            project_id = service_project(conn)
            rows = conn.execute(
                select(amphora).where(amphora.c.status != AmphoraStatus.DELETED)
                .order_by(amphora.c.created_at.desc(), amphora.c.id)
            ).all()  # fmt: skip
            networks = _addresses(conn)
        return [_render(r, networks.get(r.id, {}), project_id, root, version) for r in rows]


class _Servers(web.ReadOnly):
    why = _WRITES

    def __init__(self, store: Store, *, detail: bool) -> None:
        self._source = _Source(store)
        self._detail = detail

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Servers of the caller's project; of all projects with all_tenants, for admins."""
        version, caller = _microversion(req, resp), web.caller(req)
        query = listing.understand(req, _SERVERS, web.root(req) + req.path)
        servers = self._source.servers(caller, web.root(req), version)
        if not listing.flag(req, "all_tenants"):
            servers = [s for s in servers if s["tenant_id"] == caller.project_id]
        reply = listing.answer(_SERVERS, query, servers)
        if not self._detail:
            reply["servers"] = [{k: s[k] for k in ("id", "name", "links") if k in s} for s in reply["servers"]]
        web.answer(resp, reply)


class _Server(web.ReadOnly):
    why = _WRITES

    def __init__(self, store: Store) -> None:
        self._source = _Source(store)

    def on_get(self, req: falcon.Request, resp: falcon.Response, server_id: str) -> None:
        """One server; a name is not an id, so it answers 404."""
        version = _microversion(req, resp)
        servers = self._source.servers(web.caller(req), web.root(req), version)
        found = next((s for s in servers if s["id"] == server_id), None)
        if found is None:
            raise NotFound(f"Instance {server_id} could not be found.")
        web.answer(resp, {"server": found})


class _Flavors(web.ReadOnly):
    why = "There is one flavor here, the amphora's; others cannot be made."

    def __init__(self, *, detail: bool) -> None:
        self._detail = detail

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """The one flavor."""
        version = _microversion(req, resp)
        query = listing.understand(req, _FLAVORS, web.root(req) + req.path)
        reply = listing.answer(_FLAVORS, query, [_flavor(web.root(req), version)])
        if not self._detail:
            reply["flavors"] = [{k: f[k] for k in ("id", "name", "links") if k in f} for f in reply["flavors"]]
        web.answer(resp, reply)


class _Flavor(web.ReadOnly):
    why = _Flavors.why

    def on_get(self, req: falcon.Request, resp: falcon.Response, flavor_id: str) -> None:
        """The flavor, by its id."""
        version = _microversion(req, resp)
        if flavor_id != _FLAVOR:
            raise NotFound(f"Flavor {flavor_id} could not be found.")
        web.answer(resp, {"flavor": _flavor(web.root(req), version)})


def _addresses(conn: Connection) -> dict[str, dict[str, list[Json]]]:
    """What amphorae have, by amphora id and network name, as Nova writes it."""
    query = (
        select(local_port.c.device_id, local_port.c.mac_address, local_network.c.name, local_address.c.address)
        .join(local_network, local_network.c.id == local_port.c.network_id)
        .join(local_address, local_address.c.owner_id == local_port.c.id)
        .where(local_port.c.device_owner == AMPHORA_OWNER)
        .order_by(local_port.c.created_at, local_address.c.position)
    )
    found: dict[str, dict[str, list[Json]]] = {}
    for row in conn.execute(query):
        found.setdefault(row.device_id, {}).setdefault(row.name, []).append(
            {
                "addr": row.address,
                "version": 6 if ":" in row.address else 4,
                "OS-EXT-IPS:type": "fixed",
                "OS-EXT-IPS-MAC:mac_addr": row.mac_address,
            }
        )
    return found


def _render(
    row: Any,  # noqa: ANN401 - a SQLAlchemy row
    networks: dict[str, list[Json]], project_id: str, root: str, version: tuple[int, int],
) -> Json:  # fmt: skip
    status, vm_state, task_state, power_state = _STATES.get(AmphoraStatus(row.status), _RUNNING)
    created = f"{row.created_at.isoformat()}Z"
    server_id = row.compute_id or row.id
    server: Json = {
        "id": server_id,
        "name": f"amphora-{row.id}",
        "status": status,
        "tenant_id": project_id,
        "user_id": project_id,
        "metadata": {},
        "hostId": "",
        "image": _embedded_image(row.image_id, root),
        "flavor": _embedded_flavor(root, version),
        "created": created,
        "updated": f"{row.updated_at.isoformat()}Z" if row.updated_at else created,
        "addresses": networks,
        "accessIPv4": "",
        "accessIPv6": "",
        "links": [{"rel": "self", "href": f"{root}/v2.1/servers/{server_id}"}],
        "progress": 100 if status == "ACTIVE" else 0,
        "OS-DCF:diskConfig": "MANUAL",
        "OS-EXT-AZ:availability_zone": row.cached_zone or _ZONE,
        "config_drive": "",
        "key_name": None,
        "OS-SRV-USG:launched_at": created,
        "OS-SRV-USG:terminated_at": None,
        "OS-EXT-SRV-ATTR:host": None,
        "OS-EXT-SRV-ATTR:instance_name": f"amphora-{row.id}",
        "OS-EXT-SRV-ATTR:hypervisor_hostname": None,
        "OS-EXT-STS:task_state": task_state,
        "OS-EXT-STS:vm_state": vm_state,
        "OS-EXT-STS:power_state": power_state,
        "os-extended-volumes:volumes_attached": [],
        "locked": False,
        "locked_reason": None,
        "host_status": "UP",
        "description": None,
        "tags": [],
        "trusted_image_certificates": None,
        "server_groups": [],
        "pinned_availability_zone": None,
    }
    if status == "ERROR":
        server["fault"] = {"code": 500, "message": "The amphora is in ERROR.", "created": server["updated"]}
    return {k: v for k, v in server.items() if version >= _SINCE.get(k, _LEAST)}


def _embedded_image(image_id: str | None, root: str) -> Json | str:
    if image_id is None:
        return ""
    where = f"{root.removesuffix('/compute')}/image/v2/images/{image_id}"
    return {"id": image_id, "links": [{"rel": "bookmark", "href": where}]}


def _embedded_flavor(root: str, version: tuple[int, int]) -> Json:
    if version < (2, 47):
        return {"id": _FLAVOR, "links": [{"rel": "bookmark", "href": f"{root}/flavors/{_FLAVOR}"}]}
    return {
        "original_name": _FLAVOR,
        "vcpus": 1,
        "ram": 16,
        "disk": _DISK,
        "ephemeral": 0,
        "swap": 0,
        "extra_specs": {},
    }


def _flavor(root: str, version: tuple[int, int]) -> Json:
    flavor: Json = {
        "id": _FLAVOR,
        "name": _FLAVOR,
        "vcpus": 1,
        "ram": 16,
        "disk": _DISK,
        "swap": "" if version < (2, 75) else 0,
        "rxtx_factor": 1.0,
        "OS-FLV-EXT-DATA:ephemeral": 0,
        "OS-FLV-DISABLED:disabled": False,
        "os-flavor-access:is_public": True,
        "links": [{"rel": "self", "href": f"{root}/v2.1/flavors/{_FLAVOR}"}],
    }
    if version >= (2, 55):
        flavor["description"] = "A network namespace on this host."
    if version >= (2, 61):
        flavor["extra_specs"] = {}
    return flavor


_SERVERS = Collection(
    plural="servers",
    keys=frozenset({"id", "status", "tenant_id", "user_id", "created", "updated"}),
    # Nova's name filter is a regular expression; a substring is what people type.
    tests={
        "name": lambda item, values: any(v.strip("^$") in item["name"] for v in values),
        "project_id": lambda item, values: item["tenant_id"] in values,
        "uuid": lambda item, values: item["id"] in values,
        "flavor": lambda _item, values: _FLAVOR in values,
        "image": lambda item, values: bool(item["image"]) and item["image"]["id"] in values,
        "ip": lambda item, values: any(v.strip("^$") in a for a in _held(item, 4) for v in values),
        "ip6": lambda item, values: any(v.strip("^$") in a for a in _held(item, 6) for v in values),
        "deleted": lambda _item, values: values[-1].lower() in ("false", "0", ""),
        "host": lambda _item, _values: False,
    },
    ignored=frozenset({"all_tenants", "all_projects"}),
)
_FLAVORS = Collection(
    plural="flavors",
    keys=frozenset({"id", "name"}),
    tests={
        "is_public": lambda _item, values: values[-1].lower() in ("none", "true", "1"),
        "minRam": lambda item, values: values[-1].isdecimal() and item["ram"] >= int(values[-1][:9]),
        "minDisk": lambda item, values: values[-1].isdecimal() and item["disk"] >= int(values[-1][:9]),
    },
)


def _held(item: Json, version: int) -> list[str]:
    return [a["addr"] for held in item["addresses"].values() for a in held if a["version"] == version]

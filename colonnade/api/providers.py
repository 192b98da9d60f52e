"""Providers, and what a flavor or an availability zone may ask of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import falcon
import orjson

from colonnade.api import access, listing
from colonnade.api.transport import answer, caller
from colonnade.api.writing import Api
from colonnade.errors import Invalid, ProviderFailed, Unsupported
from colonnade.model import foreign
from colonnade.types import UUID, Json

# What flavor_data may hold, and what availability_zone_data.
FLAVOR = {
    "loadbalancer_topology": "How many amphorae serve a load balancer. SINGLE: one.",
    "compute_flavor": "The ID of the compute service's flavor that amphorae are made with.",
    "amp_image_tag": "The tag of the image that amphorae are made from.",
    "sriov_vip": "Whether the VIP's port is an SR-IOV virtual function; only where the network has them.",
    "allow_member_sriov": "Whether members' ports may be SR-IOV virtual functions; only where the network has them.",
}
ZONE = {
    "compute_zone": "The compute service's availability zone that amphorae are made in.",
    "volume_zone": "The volume service's availability zone that amphorae's volumes are made in.",
    "management_network": "The ID of the network over which the control plane reaches amphorae.",
    "valid_vip_networks": "A list of the IDs of networks that VIPs may be on; without it any.",
}
_FLAGS = frozenset({"sriov_vip", "allow_member_sriov"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """What a load balancer's flavor and availability zone ask for."""

    topology: str = "SINGLE"
    compute_flavor: str | None = None
    compute_zone: str | None = None
    vip_networks: tuple[str, ...] = ()  # empty: any
    vnic_type: str = "normal"


def wish(provider: str | None, flavor_data: str, zone_data: str) -> Wish:
    """The data of two profiles in one, each checked when it was stored. Of a third party's provider only the networks
    concern us: the rest is for itself."""
    flavor, zone = orjson.loads(flavor_data), orjson.loads(zone_data)
    if foreign(provider):
        networks = zone.get("valid_vip_networks")
        named = networks if isinstance(networks, list) else []
        return Wish(vip_networks=tuple(n.lower() for n in named if isinstance(n, str)))
    return Wish(
        topology=flavor.get("loadbalancer_topology", "SINGLE"),
        compute_flavor=flavor.get("compute_flavor"),
        compute_zone=zone.get("compute_zone"),
        vnic_type="direct" if flavor.get("sriov_vip") else "normal",
        vip_networks=tuple(n.lower() for n in zone.get("valid_vip_networks", ())),
    )


def same(one: str, other: str) -> bool:
    """Whether two names mean one provider."""
    return one == other or not (foreign(one) or foreign(other))


def check_flavor(api: Api, provider: str, text: str) -> None:
    """Refuse flavor data that has no effect here: 501 for words the provider does not know and for what this
    deployment has not, 400 for names that the compute service does not know."""
    data: Json = orjson.loads(text)
    if foreign(provider):
        api.providers.call(provider, "validate_flavor", data)
        return
    _known(provider, data, FLAVOR)
    topology = data.pop("loadbalancer_topology", "SINGLE")
    if topology not in ("SINGLE", "ACTIVE_STANDBY"):
        raise _unsupported(provider, "loadbalancer_topology is SINGLE or ACTIVE_STANDBY.")
    if topology != "SINGLE":
        raise _unsupported(provider, "loadbalancer_topology ACTIVE_STANDBY. There are no standbys yet; use SINGLE.")
    for name, value in data.items():
        if name in _FLAGS:
            if not isinstance(value, bool):
                raise _unsupported(provider, f"{name} is true or false.")
            if value:
                api.supplies.check(name, "true")
        else:
            api.supplies.check(name, _text(provider, name, value))


def check_zone(api: Api, provider: str, text: str) -> None:
    """As ``check_flavor``, of an availability zone's data."""
    data: Json = orjson.loads(text)
    if foreign(provider):
        api.providers.call(provider, "validate_availability_zone", data)
        return
    _known(provider, data, ZONE)
    networks = data.pop("valid_vip_networks", [])
    if not isinstance(networks, list) or not all(isinstance(n, str) and UUID.fullmatch(n) for n in networks):
        raise _unsupported(provider, "valid_vip_networks is a list of network IDs.")
    for network_id in networks:
        if api.network.subnets(network_id.lower()) is None:
            raise Invalid(f"Network {network_id} not found.")
    for name, value in data.items():
        api.supplies.check(name, _text(provider, name, value))


def _known(provider: str, data: Json, words: Iterable[str]) -> None:
    unknown = next((name for name in data if name not in words), None)
    if unknown is not None:
        raise _unsupported(provider, f"{unknown[:255]!r} is none of {', '.join(words)}.")


def _text(provider: str, name: str, value: Any) -> str:  # noqa: ANN401 - any JSON
    if not isinstance(value, str) or not 0 < len(value) <= 255:
        raise _unsupported(provider, f"{name} is a text of 1 to 255 letters.")
    return value


def _unsupported(provider: str, why: str) -> Unsupported:
    return Unsupported(f"Provider '{provider}' does not support a requested option: {why}")


class Providers:
    """What may stand in a load balancer's ``provider``."""

    def __init__(self, api: Api) -> None:
        self.api = api

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        access.check("provider:get_all", caller(req), caller(req).project_id)
        answer(resp, {"providers": _chosen(self.api, req, self.api.providers.described)})


class Provider:
    """The path of one provider, which knows no method: clients list them. Below it are its capabilities."""


class Capabilities:
    """What a provider's flavors or availability zones can say."""

    def __init__(self, api: Api, what: str, words: dict[str, str]) -> None:
        self.api, self.what, self.words = api, what, words

    def on_get(self, req: falcon.Request, resp: falcon.Response, provider: str) -> None:
        target = f"provider-{self.what.replace('_', '-')}:get_all"
        access.check(target, caller(req), caller(req).project_id)
        self.api.providers.check(provider)
        words = self._asked(provider) if foreign(provider) else self.words
        answer(resp, {f"{self.what}_capabilities": _chosen(self.api, req, words)})

    def _asked(self, provider: str) -> dict[str, str]:
        found = self.api.providers.call(provider, f"get_supported_{self.what}_metadata") or {}
        if not isinstance(found, Mapping):
            raise ProviderFailed(f"Provider '{provider}' reports error: its {self.what} metadata is no mapping.")
        return {str(name): str(description) for name, description in found.items()}


def _chosen(api: Api, req: falcon.Request, described: dict[str, str]) -> list[Json]:
    rows: list[Json] = [{"name": n, "description": d} for n, d in described.items()]
    return listing.told(api, req, ("name", "description"), rows)

"""Collections that clients ask for and that hold nothing in this deployment: lists are truthfully empty, a single
object is not found, and making one is answered 501 with the name of what is missing."""

from dataclasses import dataclass

import falcon

from colonnade.api import access, listing
from colonnade.api.loadbalancers import PROVIDERS
from colonnade.api.resources import MISSING_ID
from colonnade.api.transport import answer, caller
from colonnade.api.writing import Api
from colonnade.errors import Invalid, NotFound, Unsupported
from colonnade.types import Json


@dataclass(frozen=True, kw_only=True, slots=True)
class Missing:
    """A kind of objects that there are none of."""

    path: str
    plural: str
    links: str
    title: str
    policy: str
    noun: str


MISSING = (
    Missing(path="flavors", plural="flavors", links="flavors_links", title="Flavor", policy="flavor", noun="Flavors"),
    Missing(path="flavorprofiles", plural="flavorprofiles", links="flavorprofile_links", title="Flavor Profile",
            policy="flavor-profile", noun="Flavor profiles"),
    Missing(path="availabilityzones", plural="availability_zones", links="availability_zones_links",
            title="Availability Zone", policy="availability-zone", noun="Availability zones"),
    Missing(path="availabilityzoneprofiles", plural="availability_zone_profiles",
            links="availability_zone_profile_links", title="Availability Zone Profile",
            policy="availability-zone-profile", noun="Availability zone profiles"),
)  # fmt: skip


class Collection:
    """None of them."""

    def __init__(self, kind: Missing) -> None:
        self.kind = kind

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        listing.limit_of(listing.Args.of(req).one("limit"), 1)
        access.check(f"{self.kind.policy}:get_all", caller(req), caller(req).project_id)
        answer(resp, {self.kind.plural: [], self.kind.links: []})

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        access.check(f"{self.kind.policy}:post", caller(req), caller(req).project_id)
        raise Unsupported(f"{self.kind.noun} are not supported in this deployment yet.")

    def on_put(self, req: falcon.Request, resp: falcon.Response) -> None:
        raise Invalid(MISSING_ID)

    def on_delete(self, req: falcon.Request, resp: falcon.Response) -> None:
        raise Invalid(MISSING_ID)


class Item:
    """There is no such object."""

    def __init__(self, kind: Missing) -> None:
        self.kind = kind

    def _answer(self, req: falcon.Request, resp: falcon.Response, object_id: str) -> None:
        raise NotFound(f"{self.kind.title} {object_id} not found.")

    on_get = on_put = on_delete = _answer


_KEYS = ("loadbalancer", "load_balancer", "listener", "member", "pool", "healthmonitor", "health_monitor", "l7policy",
         "l7rule")  # fmt: skip


class Quotas:
    """Nothing is limited, so no project has limits of its own."""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        access.listed_project("quota", caller(req), listing.Args.of(req).one("project_id"))
        answer(resp, {"quotas": [], "quotas_links": []})


class Quota:
    """One project's quota: unlimited (-1)."""

    def on_get(self, req: falcon.Request, resp: falcon.Response, project_id: str) -> None:
        # "defaults" is nobody's project: whoever may read a quota may read them.
        own = caller(req).project_id if project_id == "defaults" else project_id
        access.check("quota:get_defaults" if project_id == "defaults" else "quota:get_one", caller(req), own)
        answer(resp, {"quota": _unlimited(project_id)})

    def on_put(self, req: falcon.Request, resp: falcon.Response, project_id: str) -> None:
        access.check("quota:put", caller(req), project_id)
        raise Unsupported("Quotas are not supported in this deployment yet: nothing is limited.")

    def on_delete(self, req: falcon.Request, resp: falcon.Response, project_id: str) -> None:
        access.check("quota:delete", caller(req), project_id)
        raise NotFound(f"Quotas {project_id} not found.")


class QuotaDefault:
    """GET /quotas/{project}/default"""

    def on_get(self, req: falcon.Request, resp: falcon.Response, project_id: str) -> None:
        access.check("quota:get_defaults", caller(req), project_id)
        answer(resp, {"quota": _unlimited(project_id)})


def _unlimited(project_id: str) -> Json:
    return {**dict.fromkeys(_KEYS, -1), "project_id": project_id, "tenant_id": project_id}


class Providers:
    """What may stand in a load balancer's ``provider``."""

    def __init__(self, api: Api) -> None:
        self.api = api

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        access.check("provider:get_all", caller(req), caller(req).project_id)
        args = listing.Args.of(req)
        found = [{"name": n, "description": d} for n, d in PROVIDERS.items()]
        for key in ("name", "description"):
            wanted = args.one(key)
            found = [p for p in found if wanted in (None, p[key])]
        chosen = args.every("fields")
        answer(resp, {"providers": [{k: v for k, v in p.items() if not chosen or k in chosen} for p in found]})


class Capabilities:
    """What a provider's flavors or availability zones can say: nothing, while there are none."""

    def __init__(self, target: str, noun: str) -> None:
        self.target, self.noun = target, noun

    def on_get(self, req: falcon.Request, resp: falcon.Response, provider: str) -> None:
        access.check(self.target, caller(req), caller(req).project_id)
        if provider not in PROVIDERS:
            raise Invalid(f"Provider '{provider}' is not enabled.")
        raise Unsupported(f"Provider '{provider}' does not support a requested action: listing {self.noun}")

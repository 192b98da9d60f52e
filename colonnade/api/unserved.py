"""Collections that clients ask for and that hold nothing in this deployment: lists are truthfully empty, a single
object is not found, and making one is answered 501 with the name of what is missing."""

from dataclasses import dataclass

import falcon

from colonnade.api import access, listing
from colonnade.api.resources import MISSING_ID
from colonnade.api.transport import ParentNotFound, answer, caller
from colonnade.errors import Invalid, NotFound, Unsupported


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
    Missing(path="l7policies", plural="l7policies", links="l7policies_links", title="L7Policy", policy="l7policy",
            noun="L7 policies"),
)  # fmt: skip


class Collection:
    """None of them."""

    def __init__(self, kind: Missing) -> None:
        self.kind = kind

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        listing.limit_of(listing.Args.of(req).one("limit"), 1)
        if self.kind.policy == "l7policy":
            access.listed_project("l7policy", caller(req), listing.Args.of(req).one("project_id"))
        else:
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


class Rules:
    """L7 rules live below policies, and there are none."""

    def _answer(self, req: falcon.Request, resp: falcon.Response, object_id: str, rule_id: str = "") -> None:
        raise ParentNotFound(f"L7Policy {object_id} not found.")

    on_get = on_put = on_post = on_delete = _answer

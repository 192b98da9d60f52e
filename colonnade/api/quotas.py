"""Quotas: what projects may have, and what they may have when nobody has said."""

import re

import falcon
from sqlalchemy import ColumnElement

from colonnade.api import access, listing, replies, shapes
from colonnade.api.listing import Listed
from colonnade.api.resources import MISSING_ID
from colonnade.api.transport import answer, caller, read_body
from colonnade.api.writing import Api
from colonnade.errors import Invalid, NotFound
from colonnade.model import Quota
from colonnade.store import quotas, tables
from colonnade.types import Json

DEFAULTS = "defaults"  # nobody's project: its quota are the defaults
_PROJECT = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,64}")


def document(api: Api, row: Json) -> Json:
    """The reply about one row, or a part of it: defaults in the place of null, both spellings of two kinds."""
    defaults = api.settings.quotas.by_kind
    found = {k: defaults[k] if v is None and k in defaults else v for k, v in row.items()}
    return found | {new: found[old] for new, old in shapes.QUOTA_SPELLINGS.items() if old in found}


class Collection:
    """Quotas of projects that have a row: those that have made something, or were given limits."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.listed = Listed(
            cls=Quota, plural="quotas", scoped=True, key="project_id", finish=lambda d: d.update(document(api, d))
        )

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        project_id = access.listed_project("quota", caller(req), listing.Args.of(req).one("project_id"))
        where: list[ColumnElement[bool]] = []
        if project_id is not None:
            where.append(tables.quota.c.project_id == project_id)
        with self.api.store.read() as conn:
            answer(resp, listing.reply(self.api, req, self.listed, where, conn))

    def on_put(self, req: falcon.Request, resp: falcon.Response) -> None:
        raise Invalid(MISSING_ID)

    def on_delete(self, req: falcon.Request, resp: falcon.Response) -> None:
        raise Invalid(MISSING_ID)


class Item:
    """One project's quota."""

    def __init__(self, api: Api) -> None:
        self.api = api

    def on_get(self, req: falcon.Request, resp: falcon.Response, project_id: str) -> None:
        # "defaults" is nobody's project: whoever may read a quota may read them.
        own = caller(req).project_id if project_id == DEFAULTS else project_id
        access.check("quota:get_defaults" if project_id == DEFAULTS else "quota:get_one", caller(req), own)
        row = None
        if _PROJECT.fullmatch(project_id):
            with self.api.store.read() as conn:
                row = quotas.stored(conn, project_id)
        reply = _of(self.api, project_id, row)
        answer(resp, {"quota": replies.choose([reply], listing.fields(self.api, req))[0]})

    def on_put(self, req: falcon.Request, resp: falcon.Response, project_id: str) -> None:
        access.check("quota:put", caller(req), project_id)
        given = shapes.QUOTA.change(read_body(req, self.api.settings.api_settings.max_request_body_size))
        if project_id == DEFAULTS:
            raise Invalid("The defaults are options of the configuration: section [quotas], default_…_quota.")
        if not _PROJECT.fullmatch(project_id):
            raise Invalid("Invalid input for field/attribute project_id. Value should have 1 to 64 letters.")
        values = _one_spelling(given)
        with self.api.store.write() as conn:
            row = quotas.change(conn, project_id, values)
        answer(resp, {"quota": _of(self.api, project_id, row)}, 202)

    def on_delete(self, req: falcon.Request, resp: falcon.Response, project_id: str) -> None:
        access.check("quota:delete", caller(req), project_id)
        with self.api.store.write() as conn:
            if not _PROJECT.fullmatch(project_id) or quotas.stored(conn, project_id) is None:
                raise NotFound(f"Quotas {project_id} not found.")
            quotas.change(conn, project_id, dict.fromkeys(self.api.settings.quotas.by_kind))
        resp.status = 202


class Default:
    """GET /quotas/{project}/default"""

    def __init__(self, api: Api) -> None:
        self.api = api

    def on_get(self, req: falcon.Request, resp: falcon.Response, project_id: str) -> None:
        access.check("quota:get_defaults", caller(req), project_id)
        answer(resp, {"quota": _of(self.api, project_id, None)})


def _of(api: Api, project_id: str, row: Json | None) -> Json:
    own = row or dict.fromkeys(api.settings.quotas.by_kind)
    return document(api, {**own, "project_id": project_id, "tenant_id": project_id})


def _one_spelling(given: Json) -> Json:
    """Raises Invalid when two spellings of one kind differ."""
    values = {k: v for k, v in given.items() if k not in shapes.QUOTA_SPELLINGS}
    for new, old in shapes.QUOTA_SPELLINGS.items():
        if new in given:
            if given[new] != values.get(old, given[new]):
                raise Invalid(f"Validation failure: {old} and {new} are one limit, given two values.")
            values[old] = given[new]
    return values

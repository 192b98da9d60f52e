"""The arguments of lists: filters, tags, sorting, paging, fields; and the links to the pages around."""

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode

import falcon
from sqlalchemy import ColumnElement, Connection, Table

from colonnade.api import replies
from colonnade.api.writing import Api
from colonnade.errors import Invalid
from colonnade.store import query, tables
from colonnade.types import Json

_PAGING, _SORTING = frozenset({"limit", "marker", "page_reverse"}), frozenset({"sort", "sort_key", "sort_dir"})
_CONTROL_ARGS = _PAGING | _SORTING | {"fields"}
_TAG_ARGS = frozenset({"tags", "tags-any", "not-tags", "not-tags-any"})
_ALSO_CALLED = {  # as openstacksdk calls them
    "load_balancer_id": "loadbalancer_id", "health_monitor_id": "healthmonitor_id", "rule_value": "value",
}  # fmt: skip
_MOST_TAGS = 100  # in one argument; each is a condition, and databases take only so many
_NUMBER = re.compile(r"[+-]?[0-9]{1,4000}")
_WRONG = "One or more arguments are either duplicate or invalid"


@dataclass(frozen=True, slots=True)
class Args:
    """A query string, in order."""

    pairs: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, req: falcon.Request) -> "Args":
        """Raises Invalid for text that no column holds."""
        if not req.query_string:
            return cls(())
        try:
            pairs = parse_qsl(req.query_string, keep_blank_values=True, max_num_fields=200)
        except ValueError as e:
            raise Invalid(_WRONG) from e
        if any("\0" in k or "\0" in v for k, v in pairs):
            raise Invalid(_WRONG)
        return cls(tuple(pairs))

    def every(self, name: str) -> list[str]:
        """All values of an argument, comma lists taken apart."""
        return [part for k, v in self.pairs if k == name for part in v.split(",") if part]

    def one(self, name: str) -> str | None:
        """The only value of an argument. Raises Invalid when there are more."""
        values = [v for k, v in self.pairs if k == name]
        if len(values) > 1:
            raise Invalid(_WRONG)
        return values[0] if values else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """A list as it is served."""

    cls: type[Any]
    plural: str
    also: tuple[str, ...] = ()  # filters besides the shown fields
    scoped: bool = False  # project_id is the scope, not a filter
    key: str = "id"  # what a marker names
    links: str | None = None  # the key of its links, where it is not the plural's
    finish: Callable[[Json], None] | None = None  # completes a document with what its row does not hold


def reply(
    api: Api, req: falcon.Request, listed: Listed, where: list[ColumnElement[bool]], conn: Connection
) -> dict[str, Any]:
    """The document of one page."""
    args = counted(api, req)
    table = tables.OF[listed.cls]
    page = _page(args, table, _most(api), listed)
    conditions = [*where, *_filters(args, table, listed)]
    try:
        found = query.page(conn, table, replies.COLUMNS[listed.cls], conditions, page)
    except query.UnknownMarker as e:
        raise _unknown_marker(e) from e
    documents = replies.documents(conn, listed.cls, found)
    if listed.finish is not None:
        for document in documents:
            listed.finish(document)
    links = _links(api, req, args, page, documents)
    chosen = replies.choose(documents, args.every("fields"))
    return {listed.plural: chosen, listed.links or f"{listed.plural}_links": links}


def told(api: Api, req: falcon.Request, keys: tuple[str, ...], rows: list[Json]) -> list[Json]:
    """One page of documents that no table holds, by the same arguments; in the order of ``rows`` unless another is
    asked for. ``keys``: what they may be chosen and sorted by; the first is what a marker names."""
    args = counted(api, req)
    wanted = dict[str, str]()
    for name, value in args.pairs:
        if name not in _CONTROL_ARGS:
            if name not in keys or name in wanted:
                raise Invalid(_WRONG)
            wanted[name] = value
    found = [row for row in rows if all(row[k] == v for k, v in wanted.items())]
    for key, down in reversed(_wanted_order(args, lambda k: k in keys).items()):
        found.sort(key=operator.itemgetter(key), reverse=down)
    limit, marker = limit_of(args.one("limit"), _most(api)), args.one("marker")
    backward = args.one("page_reverse") == "True" and marker is not None
    if marker is not None:
        at = next((n for n, row in enumerate(found) if row[keys[0]] == marker), None)
        if at is None:
            raise _unknown_marker(marker)
        found = found[:at] if backward else found[at + 1 :]
    if limit is not None:
        found = found[-limit:] if backward else found[:limit]
    return replies.choose(found, args.every("fields"))


def fields(api: Api, req: falcon.Request) -> list[str]:
    """The keys that the request wants of an object; none: all."""
    return counted(api, req).every("fields")


def counted(api: Api, req: falcon.Request) -> Args:
    """The request's arguments without those that the operator has switched off."""
    section = api.settings.api_settings

    def counts(name: str) -> bool:
        if name in _PAGING:
            return section.allow_pagination
        if name in _SORTING:
            return section.allow_sorting
        return section.allow_field_selection if name == "fields" else section.allow_filtering

    return Args(tuple(pair for pair in Args.of(req).pairs if counts(pair[0])))


def _most(api: Api) -> int | None:
    section = api.settings.api_settings
    return section.most_items if section.allow_pagination else None


def _unknown_marker(marker: object) -> Invalid:
    return Invalid(f"Validation failure: marker {marker} is not an object of this list")


def _page(args: Args, table: Table, most: int | None, listed: Listed) -> query.Page:
    return query.Page(
        sort=_sort(args, table, listed),
        limit=limit_of(args.one("limit"), most),
        marker=args.one("marker"),
        backward=args.one("page_reverse") == "True",
        key=listed.key,
    )


def limit_of(text: str | None, most: int | None) -> int | None:
    """The page size; None: no limit. Raises 400 in form B."""
    if text is None:
        return most
    if text in ("infinite", "None"):
        return None
    if _NUMBER.fullmatch(text) is None:
        raise falcon.HTTPBadRequest(description=f"Limit must be an integer or 'infinite', not {text[:64]!r}")
    limit = int(text)
    return min(limit, most or limit) if limit > 0 else None


def _sort(args: Args, table: Table, listed: Listed) -> tuple[tuple[str, bool], ...]:
    known = _filterable(listed)
    chosen = _wanted_order(args, lambda key: key in known and query.sortable(table, key))
    for key in ("created_at", "id", listed.key):
        if key in table.c:
            chosen.setdefault(key, False)
    return tuple(chosen.items())


def _wanted_order(args: Args, sortable: Callable[[str], bool]) -> dict[str, bool]:
    """What to sort by, and whether downwards."""
    wanted = [part.partition(":") for part in args.every("sort")]
    keys = [(key, direction or "asc") for key, _, direction in wanted]
    if not keys:
        names, directions = args.every("sort_key"), args.every("sort_dir")
        if len(directions) > len(names):
            raise falcon.HTTPBadRequest(description="There are more sort directions than sort keys.")
        keys = [(n, directions[i] if i < len(directions) else "asc") for i, n in enumerate(names)]
    chosen: dict[str, bool] = {}
    for key, direction in keys:
        if direction not in ("asc", "desc"):
            raise falcon.HTTPBadRequest(description=f"Sort direction must be asc or desc, not {direction[:64]!r}")
        if not sortable(key):
            raise Invalid(f"Validation failure: {key[:64]!r} is not a valid sort key")
        chosen.setdefault(key, direction == "desc")
    return chosen


def _filterable(listed: Listed) -> frozenset[str]:
    return frozenset((*replies.FIELDS[listed.cls], *listed.also))


def _filters(args: Args, table: Table, listed: Listed) -> list[ColumnElement[bool]]:
    known = _filterable(listed)
    conditions: dict[str, ColumnElement[bool]] = {}
    for name, value in args.pairs:
        if name in _CONTROL_ARGS or name in _TAG_ARGS or (name == "project_id" and listed.scoped):
            continue
        column = "admin_state_up" if name == "enabled" and "admin_state_up" in known else _ALSO_CALLED.get(name, name)
        if column not in known or column in conditions or column == "tags":
            raise Invalid(_WRONG)
        conditions[column] = _condition(table, column, value)
    return [*conditions.values(), *_tags(args, table)]


def _condition(table: Table, column: str, value: str) -> ColumnElement[bool]:
    if table is tables.pool and column == "listener_id":
        return query.pool_of_listener(value)
    if table is tables.pool and column == "healthmonitor_id":
        return query.pool_of_monitor(value)
    if table is tables.amphora and column == "project_id":
        return query.amphora_of_project(value)
    try:
        return query.equals(table, column, value)
    except query.UnusableFilter as e:
        raise Invalid(_WRONG) from e


def _tags(args: Args, table: Table) -> list[ColumnElement[bool]]:
    conditions = []
    for name in _TAG_ARGS:
        tags = args.every(name)
        if tags:
            if "tags" not in table.c or len(tags) > _MOST_TAGS:
                raise Invalid(_WRONG)
            choose = query.untagged if name.startswith("not") else query.tagged
            conditions.append(choose(table, tags, every=not name.endswith("any")))
    return conditions


def _links(api: Api, req: falcon.Request, args: Args, page: query.Page, documents: list[Json]) -> list[Json]:
    links: list[Json] = []
    if documents and page.limit is not None and len(documents) == page.limit:
        links.append({"rel": "next", "href": _href(api, req, args, page, documents[-1][page.key], backward=False)})
    if documents and page.marker is not None:
        links.append({"rel": "previous", "href": _href(api, req, args, page, documents[0][page.key], backward=True)})
    return links


def _href(api: Api, req: falcon.Request, args: Args, page: query.Page, marker: str, *, backward: bool) -> str:
    base = base_uri(api, req) + req.path
    # Filters go along: stock clients follow a link by its query string alone.
    kept = [(k, v) for k, v in args.pairs if k not in ("limit", "marker", "page_reverse")]
    paging = [("limit", str(page.limit)), *kept, ("marker", marker)]
    return f"{base}?{urlencode(paging + ([('page_reverse', 'True')] if backward else []))}"


def base_uri(api: Api, req: falcon.Request) -> str:
    """Where this service answers, without a slash at the end. Behind a proxy api_base_uri says it, or the proxy's
    headers where they are believed (``api.front``)."""
    base = api.settings.api_settings.api_base_uri.rstrip("/")
    return base + req.root_path if base else req.prefix

"""What every list of the small cloud can do: filter, sort, page, choose fields. Once, on rendered items.

Sources may narrow what they read by ``Query.narrow``; the filters here are what decides.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any
from urllib.parse import urlencode

import falcon
from sqlalchemy import ColumnElement, Table

from colonnade.errors import Invalid
from colonnade.types import Json

_CONTROLS = ("fields", "sort_key", "sort_dir", "sort", "limit", "marker", "page_reverse")
_YES, _NO = ("true", "1", "yes", "on"), ("false", "0", "no", "off")
Test = Callable[[Json, list[str]], bool]


@dataclass(frozen=True, kw_only=True)
class Collection:
    """What one kind of list knows."""

    plural: str
    keys: frozenset[str]  # of its items: filters, sort keys and fields
    tests: Mapping[str, Test] = field(default_factory=dict)  # filters that are no plain comparison
    ignored: frozenset[str] = frozenset()  # asked for by clients, and true of every item
    narrowed: tuple[str, ...] = ("id", "name")  # keys that are columns and worth an index
    conditions: Mapping[str, Callable[[list[str]], ColumnElement[bool]]] = field(default_factory=dict)  # more of such


@dataclass(frozen=True, kw_only=True)
class Query:
    """A request's query string, understood."""

    filters: dict[str, list[str]]
    fields: list[str]
    order: list[tuple[str, bool]]  # (key, descending)
    limit: int | None
    marker: str | None
    reverse: bool
    path: str

    def narrow(self, collection: Collection, table: Table) -> list[ColumnElement[bool]]:
        """Conditions that leave out rows which the filters would leave out anyway."""
        plain = [table.c[k].in_(self.filters[k]) for k in collection.narrowed if k in self.filters]
        return plain + [make(self.filters[k]) for k, make in collection.conditions.items() if k in self.filters]


@dataclass(frozen=True, kw_only=True)
class Page:
    """Part of a list, with the addresses of the parts beside it."""

    items: list[Json]
    next: str | None = None
    previous: str | None = None

    @property
    def links(self) -> list[Json]:
        """As Neutron and Nova write them."""
        return [{"rel": r, "href": h} for r, h in (("next", self.next), ("previous", self.previous)) if h]


def understand(req: falcon.Request, collection: Collection, url: str) -> Query:
    """The request's query. Raises Invalid for what cannot be understood; nothing is silently ignored."""
    given = {k: v if isinstance(v, list) else [v] for k, v in req.params.items()}
    if "tenant_id" in given and "project_id" in collection.keys:
        given["project_id"] = given.pop("tenant_id")
    filters = {k: v for k, v in given.items() if k not in _CONTROLS and k not in collection.ignored}
    for name, values in filters.items():
        if any("\0" in v for v in values):
            raise Invalid(f"'{name}' has a value with a NUL in it.")
        if name not in collection.keys and name not in collection.tests:
            raise Invalid(f"'{name}' is not a filter of {collection.plural}.")
    if "id" not in collection.keys and ("limit" in given or "marker" in given):
        raise Invalid(f"{collection.plural} have no ids to page by: the list comes whole.")
    return Query(
        filters=filters,
        fields=[f for value in given.get("fields", []) for f in value.split(",") if f],
        order=_order(given, collection),
        limit=_limit(given, req.context.service.page_limit),
        marker=given.get("marker", [None])[-1] or None,
        reverse=given.get("page_reverse", ["False"])[-1].lower() in _YES,
        path=url,
    )


def page(collection: Collection, query: Query, items: Iterable[Json]) -> Page:
    """The part of the items that the query asks for. Raises Invalid when the marker is not among them."""
    found = [i for i in items if _passes(collection, query.filters, i)]
    for key, descending in reversed(query.order):
        found.sort(key=lambda item, k=key: _sortable(item[k]), reverse=descending)  # type: ignore[misc]
    start, end = 0, len(found)
    if query.marker is not None:
        at = next((n for n, i in enumerate(found) if i["id"] == query.marker), None)
        if at is None:
            raise Invalid(f"The marker {query.marker} is not an item of this list.")
        start, end = (0, at) if query.reverse else (at + 1, len(found))
    if query.limit is not None:
        start, end = (max(start, end - query.limit), end) if query.reverse else (start, min(end, start + query.limit))
    part = found[start:end]
    linked = query.limit is not None and part
    return Page(
        items=[_choose(i, query.fields) for i in part],
        next=_link(query, part[-1]["id"], reverse=False) if linked and end < len(found) else None,
        previous=_link(query, part[0]["id"], reverse=True) if linked and start > 0 else None,
    )


def answer(collection: Collection, query: Query, items: Iterable[Json]) -> Json:
    """The reply as Neutron and Nova write it: the items, and links beside them when there are pages."""
    part = page(collection, query, items)
    return {collection.plural: part.items, **({f"{collection.plural}_links": part.links} if part.links else {})}


def chosen(req: falcon.Request, item: Json) -> Json:
    """One item with the fields that the request asks for."""
    fields = req.get_param_as_list("fields") or []
    return _choose(item, [f for value in fields for f in value.split(",") if f])


def flag(req: falcon.Request, name: str) -> bool:
    """Whether a yes-or-no parameter is given and not no; ``True`` is how Python clients write it."""
    return req.has_param(name) and (req.get_param(name) or "true").lower() not in _NO


def tests_of_tags() -> dict[str, Test]:
    """The four filters by tags; each value may be a comma-separated list."""

    def wanted(values: list[str]) -> set[str]:
        return {t for v in values for t in v.split(",") if t}

    return {
        "tags": lambda item, values: wanted(values) <= set(item["tags"]),
        "tags-any": lambda item, values: bool(wanted(values) & set(item["tags"])),
        "not-tags": lambda item, values: not wanted(values) <= set(item["tags"]),
        "not-tags-any": lambda item, values: not wanted(values) & set(item["tags"]),
    }


def same(value: Any, text: str) -> bool:  # noqa: ANN401 - a JSON value
    """Whether a query's text means this value."""
    match value:
        case bool():
            return text.lower() in (_YES if value else _NO)
        case None:
            return text in ("", "null", "None")
        case list():
            return any(same(v, text) for v in value)
        case str():
            return value == text or (":" in value and (value.lower() == text.lower() or value == normal(text)))
    return str(value) == text


def normal(text: str) -> str | None:
    """An IPv6 address or network in the form that replies have."""
    try:
        return str(ip_network(text) if "/" in text else ip_address(text))
    except ValueError:
        return None


def _passes(collection: Collection, filters: dict[str, list[str]], item: Json) -> bool:
    for name, values in filters.items():
        test = collection.tests.get(name)
        if not (test(item, values) if test else any(same(item[name], v) for v in values)):
            return False
    return True


def _order(given: dict[str, list[str]], collection: Collection) -> list[tuple[str, bool]]:
    pairs = [part.partition(":") for value in given.get("sort", []) for part in value.split(",") if part]
    keys = given.get("sort_key", []) or [key for key, _, _ in pairs]
    directions = given.get("sort_dir", []) or [direction for _, _, direction in pairs]
    if len(directions) > len(keys):
        raise Invalid("The number of sort_keys and sort_dirs must be same.")
    order = []
    for n, key in enumerate(keys):
        direction = (directions[n] if n < len(directions) else "") or "asc"
        if key == "tenant_id":
            key = "project_id"
        if key not in collection.keys:
            raise Invalid(f"'{key}' is not a sort key of {collection.plural}.")
        if direction not in ("asc", "desc"):
            raise Invalid(f"sort_dir: '{direction}' must be asc or desc.")
        order.append((key, direction == "desc"))
    return order


def _limit(given: dict[str, list[str]], most: int | None) -> int | None:
    text = given.get("limit", [""])[-1]
    if not text:
        return None
    if not (text.isascii() and text.isdigit()):
        raise Invalid(f"limit: '{text}' must be an integer 0 or greater.")
    wanted = int(text[:9])
    return min(wanted, most or wanted) or None


def _sortable(value: Any) -> tuple[bool, str, float, str]:  # noqa: ANN401 - a JSON value
    number = float(value) if isinstance(value, int | float) else 0.0
    return (value is None, type(value).__name__, number, str(value))


def _choose(item: Json, fields: list[str]) -> Json:
    return {k: v for k, v in item.items() if (k in fields or not fields) and not k.startswith("_")}


def _link(query: Query, marker: str, *, reverse: bool) -> str:
    kept = [(k, v) for k, values in query.filters.items() for v in values]
    kept += [("fields", f) for f in query.fields]
    for key, descending in query.order:
        kept += [("sort_key", key), ("sort_dir", "desc" if descending else "asc")]
    kept += [("limit", str(query.limit)), ("marker", marker)]
    if reverse:
        kept.append(("page_reverse", "True"))
    return f"{query.path}?{urlencode(kept)}"

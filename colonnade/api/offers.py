"""What operators offer: flavors and availability zones, each by its profile. None is changed or removed below what
uses it: whoever begins to use one locks its row first, and so does whoever takes it away."""

import dataclasses
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import falcon
from sqlalchemy import Column, Connection, Select, Table, delete, exc, insert, select, update

from colonnade.api import access, listing, providers, replies, shapes
from colonnade.api.listing import Listed
from colonnade.api.resources import MISSING_ID
from colonnade.api.shapes import Body
from colonnade.api.transport import answer, caller, read_body
from colonnade.api.writing import Api
from colonnade.clock import utc
from colonnade.errors import Conflict, Invalid, NotFound
from colonnade.store import tables
from colonnade.types import UUID, Json

NIL = "00000000-0000-0000-0000-000000000000"  # reserved: upstream's deleted load balancers point at it


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """One kind of objects. Profiles have ``data`` and ``check``; what they are profiles of has ``profile``."""

    body: Body
    listed: Listed
    title: str
    policy: str
    users: Column[Any]  # who names one of these
    profile: Column[Any] | None = None  # the profile's id
    data: str | None = None
    check: Callable[[Api, str, str], None] | None = None

    @property
    def table(self) -> Table:
        return tables.OF[self.body.cls]

    def one(self, key: str) -> Select[Any]:
        """The row with this key."""
        return select(self.table).where(self.table.c[self.listed.key] == key)


FLAVOR_PROFILES = Kind(
    body=shapes.FLAVOR_PROFILE, title="Flavor Profile", policy="flavor-profile",
    listed=Listed(cls=shapes.FLAVOR_PROFILE.cls, plural="flavorprofiles", links="flavorprofile_links"),
    users=tables.flavor.c.flavor_profile_id, data="flavor_data", check=providers.check_flavor,
)  # fmt: skip
FLAVORS = Kind(
    body=shapes.FLAVOR, title="Flavor", policy="flavor", listed=Listed(cls=shapes.FLAVOR.cls, plural="flavors"),
    users=tables.load_balancer.c.flavor_id, profile=tables.flavor_profile.c.id,
)  # fmt: skip
ZONE_PROFILES = Kind(
    body=shapes.AVAILABILITY_ZONE_PROFILE, title="Availability Zone Profile", policy="availability-zone-profile",
    listed=Listed(cls=shapes.AVAILABILITY_ZONE_PROFILE.cls, plural="availability_zone_profiles",
                  links="availability_zone_profile_links"),
    users=tables.availability_zone.c.availability_zone_profile_id, data="availability_zone_data",
    check=providers.check_zone,
)  # fmt: skip
ZONES = Kind(
    body=shapes.AVAILABILITY_ZONE, title="Availability Zone", policy="availability-zone",
    listed=Listed(cls=shapes.AVAILABILITY_ZONE.cls, plural="availability_zones", key="name"),
    users=tables.load_balancer.c.availability_zone, profile=tables.availability_zone_profile.c.id,
)  # fmt: skip
PATHS = {
    "flavorprofiles": FLAVOR_PROFILES, "flavors": FLAVORS, "availabilityzoneprofiles": ZONE_PROFILES,
    "availabilityzones": ZONES,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Choice:
    """What a load balancer is created by: its provider, if that follows from the flavor, and what is asked of it."""

    provider: str | None
    wish: providers.Wish


def chosen(conn: Connection, given: Json, provider: str | None, *, hold: bool = False) -> Choice:
    """What ``flavor_id`` and ``availability_zone`` of a new load balancer mean. Raises Invalid.

    With ``hold`` both stay as they are until the transaction ends.
    """
    f, z = tables.flavor.c, tables.availability_zone.c
    profile, zone_profile = tables.flavor_profile.c, tables.availability_zone_profile.c
    flavor_data = zone_data = "{}"
    if given.get("flavor_id"):
        query = select(f.enabled, profile.provider_name, profile.flavor_data.label("data"))
        query = query.where(f.id == given["flavor_id"], profile.id == f.flavor_profile_id)
        flavor_provider, flavor_data = _usable(conn, query, "flavor", given["flavor_id"], hold)
        if provider not in (None, flavor_provider):
            raise Invalid(f"Flavor '{given['flavor_id']}' is not compatible with provider '{provider}'")
        provider = flavor_provider
    if given.get("availability_zone"):
        name = given["availability_zone"]
        query = select(z.enabled, zone_profile.provider_name, zone_profile.availability_zone_data.label("data"))
        query = query.where(z.name == name, zone_profile.id == z.availability_zone_profile_id)
        zone_provider, zone_data = _usable(conn, query, "availability_zone", name, hold)
        if provider is not None and not providers.same(provider, zone_provider):
            raise Invalid(f"Availability zone '{name}' is not compatible with provider '{provider}'")
        provider = provider or zone_provider
    return Choice(provider, providers.wish(provider, flavor_data, zone_data))


def _usable(conn: Connection, query: Select[Any], field: str, value: str, hold: bool) -> tuple[str, str]:
    row = conn.execute(query.with_for_update(read=True) if hold else query).first()
    if row is None:
        word = "flavor_id" if field == "flavor" else "availability_zone"
        raise Invalid(f"Validation failure: Invalid {word}: there is no {field.replace('_', ' ')} {value}.")
    if not row.enabled:
        raise Invalid(f"The selected {field} is not allowed in this deployment: {value}")
    return row.provider_name, row.data


class Collection:
    """All objects of a kind."""

    def __init__(self, api: Api, kind: Kind) -> None:
        self.api, self.kind = api, kind

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        _may(self.kind, "get_all", req)
        with self.api.store.read() as conn:
            answer(resp, listing.reply(self.api, req, self.kind.listed, [], conn))

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        _may(self.kind, "post", req)
        kind, api = self.kind, self.api
        given = kind.body.creation(read_body(req, api.settings.api_settings.max_request_body_size))
        fixed = {"id": str(uuid.uuid4()), "created_at": utc(api.clock.now())}
        row = _filled(kind, {**given, **fixed})
        _check(api, kind, row)
        with api.store.write() as conn:
            if kind.profile is not None:
                _hold_profile(conn, kind, row)
            _named(kind, row["name"], lambda: conn.execute(insert(kind.table).values(row)))
        answer(resp, {kind.body.root: _document(kind, row)}, 201)

    def on_put(self, req: falcon.Request, resp: falcon.Response) -> None:
        raise Invalid(MISSING_ID)

    def on_delete(self, req: falcon.Request, resp: falcon.Response) -> None:
        raise Invalid(MISSING_ID)


class Item:
    """One object of a kind; ``object_id`` is what its paths name it by."""

    def __init__(self, api: Api, kind: Kind) -> None:
        self.api, self.kind = api, kind

    def on_get(self, req: falcon.Request, resp: falcon.Response, object_id: str) -> None:
        _may(self.kind, "get_one", req)
        fields = listing.fields(self.api, req)
        with self.api.store.read() as conn:
            row = self._row(conn, object_id)
        answer(resp, {self.kind.body.root: replies.choose([_document(self.kind, row)], fields)[0]})

    def on_put(self, req: falcon.Request, resp: falcon.Response, object_id: str) -> None:
        _may(self.kind, "put", req)
        kind = self.kind
        given = kind.body.change(read_body(req, self.api.settings.api_settings.max_request_body_size))
        with self.api.store.read() as conn:
            seen = self._row(conn, object_id)
        values = _filled(kind, given, whole=False)
        if kind.data is not None and {kind.data, "provider_name"}.intersection(values):
            _check(self.api, kind, {**seen, **values})
        with self.api.store.write() as conn:
            row = self._row(conn, object_id, lock=True)
            if kind.data is not None and {kind.data, "provider_name"}.intersection(values):
                self._free(conn, object_id)
            if values:
                change = update(kind.table).where(kind.table.c.id == row["id"]).values(values)
                _named(kind, values.get("name", ""), lambda: conn.execute(change))
        answer(resp, {kind.body.root: _document(kind, {**row, **values})})

    def on_delete(self, req: falcon.Request, resp: falcon.Response, object_id: str) -> None:
        _may(self.kind, "delete", req)
        with self.api.store.write() as conn:
            row = self._row(conn, object_id, lock=True)
            self._free(conn, object_id)
            conn.execute(delete(self.kind.table).where(self.kind.table.c.id == row["id"]))
        resp.status = 204

    def _row(self, conn: Connection, key: str, *, lock: bool = False) -> Json:
        query = self.kind.one(key)
        possible = key != NIL and "\0" not in key and (self.kind.listed.key != "id" or UUID.fullmatch(key))
        found = conn.execute(query.with_for_update() if lock else query).mappings().first() if possible else None
        if found is None:
            raise NotFound(f"{self.kind.title} {key} not found.")
        return dict(found)

    def _free(self, conn: Connection, key: str) -> None:
        users = self.kind.users
        if conn.execute(select(users).where(users == key).limit(1)).first() is not None:
            raise Conflict(f"{self.kind.title} {key} is in use and cannot be modified.")


def _may(kind: Kind, verb: str, req: falcon.Request) -> None:
    access.check(f"{kind.policy}:{verb}", caller(req), caller(req).project_id)


def _filled(kind: Kind, given: Json, *, whole: bool = True) -> Json:
    """Column values: null means the default, and with ``whole`` so does absence."""
    defaults = {
        f.name: f.default for f in dataclasses.fields(kind.body.cls) if f.default is not dataclasses.MISSING
    }  # fmt: skip
    values = {**defaults, **given} if whole else dict(given)
    return {k: defaults.get(k) if v is None else v for k, v in values.items()}


def _check(api: Api, kind: Kind, row: Json) -> None:
    if kind.listed.key == "name" and (not row["name"] or "/" in row["name"] or row["name"] in (NIL, ".", "..")):
        raise Invalid(
            f"Invalid input for field/attribute name. Value: '{row['name']}'. Value should have 1 to 255 letters and "
            "no slash: it stands in paths."
        )
    if kind.check is not None and kind.data is not None:
        api.providers.check(row["provider_name"])
        kind.check(api, row["provider_name"], row[kind.data])


def _hold_profile(conn: Connection, kind: Kind, row: Json) -> None:
    if kind.profile is None:
        return
    word = kind.profile.table.name + "_id"
    found = select(kind.profile).where(kind.profile == row[word]).with_for_update(read=True)
    if conn.execute(found).first() is None:
        raise Invalid(f"Validation failure: Invalid {word}: there is no such profile, {row[word]}.")


def _named(kind: Kind, name: str, write: Callable[[], Any]) -> None:
    try:
        write()
    except exc.IntegrityError as e:
        raise Conflict(f"A {kind.title.lower()} of {name} already exists.") from e


def _document(kind: Kind, row: Json) -> Json:
    return {k: row[k] for k in replies.FIELDS[kind.body.cls]}

"""The part of Keystone's API v3 that clients need: tokens, the catalogue, and who there is.

Administrators change who there is; what else Keystone has (domains, groups, roles in the system) is refused by name.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import falcon
from sqlalchemy import Connection

from colonnade.errors import Forbidden, Invalid, NotFound
from colonnade.local import directory, listing, people, web
from colonnade.local import documents_of_people as shown
from colonnade.local.directory import Directory, Project, User, fixed_id
from colonnade.local.identity import Identity
from colonnade.local.listing import Collection
from colonnade.local.tokens import Token
from colonnade.model import Caller
from colonnade.types import Json

REGION = "RegionOne"
_VERSION = "v3.14"
_UPDATED = "2020-04-07T00:00:00Z"
_SERVICES = {  # type -> (name, path)
    "identity": ("keystone", "/identity"),
    "load-balancer": ("octavia", "/load-balancer"),
    "network": ("neutron", "/network"),
    "compute": ("nova", "/compute/v2.1"),
    "image": ("glance", "/image"),
    "key-manager": ("barbican", "/key-manager"),
}
OPEN_PATHS = frozenset({"", "/v3", "/v3/auth/tokens"})  # POST tokens has no token yet; the others ask for one

_ELSEWHERE = (
    "projects/{item_id}/groups/{group_id}/roles/{role_id}",
    "domains/{item_id}/users/{user_id}/roles/{role_id}",
    "domains/{item_id}/groups/{group_id}/roles/{role_id}",
    "system/users/{user_id}/roles/{role_id}",
    "system/groups/{group_id}/roles/{role_id}",
    "OS-INHERIT/projects/{project_id}/users/{user_id}/roles/{role_id}/inherited_to_projects",
    "OS-INHERIT/domains/{domain_id}/users/{user_id}/roles/{role_id}/inherited_to_projects",
)

Lister = Callable[[Directory, str], list[Json]]  # (who there is, the service's URL) -> items


def routes(identity: Identity) -> list[tuple[str, object]]:
    """Every path of the service."""
    lists: list[tuple[Collection, Lister, people.Changes | None]] = [
        (shown.PROJECTS, lambda who, root: [shown.project(p, root) for p in who.projects.values()], people.PROJECTS),
        (shown.USERS, lambda who, root: [shown.user(u, root) for u in who.users.values()], people.USERS),
        (shown.ROLES, lambda who, root: [shown.role(r, root) for r in who.known_roles.values()], people.ROLES),
        (shown.DOMAINS, lambda _who, root: [shown.domain(root)], None),
    ]
    paths: list[tuple[str, object]] = [
        ("/", web.Document(lambda r: {"versions": {"values": [_version(web.root(r))]}}, 300)),
        ("/v3", web.Document(lambda r: {"version": _version(web.root(r))})),
        ("/v3/auth/tokens", _Tokens(identity)),
        ("/v3/auth/catalog", _Catalog()),
        ("/v3/auth/projects", _OwnProjects(identity)),
        ("/v3/users/{item_id}/projects", _OwnProjects(identity)),
        ("/v3/users/{item_id}/password", _Password(identity)),
        ("/v3/role_assignments", _Assignments(identity)),
        ("/v3/projects/{item_id}/users/{user_id}/roles", _RolesOf(identity)),
        ("/v3/projects/{item_id}/users/{user_id}/roles/{role_id}", _RoleOf(identity)),
    ]
    for collection, lister, changes in lists:
        kind = _Kind(identity, collection, lister)
        paths.append((f"/v3/{collection.plural}", _List(kind, changes) if changes else _ListRead(kind)))
        paths.append((f"/v3/{collection.plural}/{{item_id}}", _One(kind, changes) if changes else _OneRead(kind)))
    return paths + [(f"/v3/{path}", _Elsewhere()) for path in _ELSEWHERE]


def _version(root: str) -> Json:
    return {
        "id": _VERSION,
        "status": "stable",
        "updated": _UPDATED,
        "links": [{"rel": "self", "href": f"{root}/v3/"}],
        "media-types": [{"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"}],
    }


def catalog(base: str) -> list[Json]:
    """Where each service is, under this URL."""
    return [
        {
            "type": kind,
            "name": name,
            "id": fixed_id("service", kind),
            "endpoints": [
                {
                    "id": fixed_id(interface, kind),
                    "interface": interface,
                    "region": REGION,
                    "region_id": REGION,
                    "url": base + path,
                }
                for interface in ("public", "internal", "admin")
            ],
        }
        for kind, (name, path) in _SERVICES.items()
    ]


class _Tokens:
    """/v3/auth/tokens"""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Log in."""
        login = self._identity.login(web.body(req, "auth"))
        resp.set_header("X-Subject-Token", login.text)
        resp.set_header("Vary", "X-Auth-Token")
        web.answer(resp, self._render(req, login.token), 201)

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """What a token says."""
        token = self._subject(req)
        resp.set_header("X-Subject-Token", req.get_header("X-Subject-Token") or "")
        resp.set_header("Vary", "X-Auth-Token")
        web.answer(resp, self._render(req, token))

    def on_head(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Whether a token is good."""
        self._subject(req)
        resp.status = falcon.HTTP_200

    def on_delete(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Make a token worthless."""
        self._identity.revoke(self._subject(req))
        resp.status = falcon.HTTP_204

    def _subject(self, req: falcon.Request) -> Token:
        caller = self._identity.admit(req.get_header("X-Auth-Token"), req.env)
        return self._identity.subject(caller, req.get_header("X-Subject-Token"))

    def _render(self, req: falcon.Request, token: Token) -> Json:
        known = self._identity.directory()
        user = known.users[token.user_id]
        body: Json = {
            "methods": list(token.methods),
            "user": {"id": user.id, "name": user.name, "domain": shown.DOMAIN, "password_expires_at": None},
            "audit_ids": [token.audit_id],
            "issued_at": _time(token.issued_at),
            "expires_at": _time(token.expires_at),
        }
        if token.project_id is not None:
            project = known.projects[token.project_id]
            roles = known.roles(user.id, project.id)
            body["project"] = {"id": project.id, "name": project.name, "domain": shown.DOMAIN}
            body["is_domain"] = False
            body["roles"] = [{"id": r.id, "name": r.name} for r in known.known_roles.values() if r.name in roles]
            if not req.has_param("nocatalog"):
                body["catalog"] = catalog(web.base(req))
        return {"token": body}


class _Catalog(web.ReadOnly):
    """/v3/auth/catalog"""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Where each service is."""
        if web.caller(req).project_id is None:
            raise Forbidden("A catalogue belongs to a token of a project.")
        web.answer(resp, {"catalog": catalog(web.base(req)), "links": _links(req)})


class _OwnProjects(web.ReadOnly):
    """/v3/auth/projects and /v3/users/{item_id}/projects: where a user has a role."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    def on_get(self, req: falcon.Request, resp: falcon.Response, item_id: str | None = None) -> None:
        """The projects, by name."""
        caller = web.caller(req)
        if item_id is not None and item_id != caller.user_id:
            _check_admin(caller)
        known = self._identity.directory()
        items = [shown.project(p, web.root(req)) for p in known.projects_of(item_id or caller.user_id)]
        _reply(req, resp, shown.PROJECTS, items)


@dataclass(frozen=True, slots=True)
class _Kind:
    """Projects, users, roles or domains."""

    identity: Identity
    collection: Collection
    lister: Lister

    @property
    def singular(self) -> str:
        return self.collection.plural.removesuffix("s")

    def items(self, req: falcon.Request) -> list[Json]:
        return self.lister(self.identity.directory(), web.root(req))

    def item(self, req: falcon.Request, item_id: str) -> Json:
        """One of them. Raises NotFound; a name is not an id."""
        found = next((i for i in self.items(req) if i["id"] == item_id), None)
        if found is None:
            raise NotFound(f"Could not find {self.singular}: {item_id}.")
        return {self.singular: found}

    def answer_list(self, req: falcon.Request, resp: falcon.Response) -> None:
        """For admins, where it is no secret for everybody."""
        if self.collection in (shown.PROJECTS, shown.USERS):
            _check_admin(web.caller(req))
        _reply(req, resp, self.collection, self.items(req))

    def answer_one(self, req: falcon.Request, resp: falcon.Response, item_id: str) -> None:
        """Everybody may see themselves, their projects, and what is no secret."""
        caller = web.caller(req)
        if self.collection is shown.PROJECTS and not self.identity.directory().roles(caller.user_id, item_id):
            _check_admin(caller)
        if self.collection is shown.USERS and item_id != caller.user_id:
            _check_admin(caller)
        web.answer(resp, self.item(req, item_id))


_ONE_DOMAIN = "There is one domain here, Default; domains are not made, changed or deleted."


class _ListRead(web.ReadOnly):
    """A list of what there is."""

    why = _ONE_DOMAIN

    def __init__(self, kind: _Kind) -> None:
        self._kind = kind

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """The items that the query asks for."""
        self._kind.answer_list(req, resp)


class _OneRead(web.ReadOnly):
    """One item of such a list."""

    why = _ONE_DOMAIN

    def __init__(self, kind: _Kind) -> None:
        self._kind = kind

    def on_get(self, req: falcon.Request, resp: falcon.Response, item_id: str) -> None:
        """The item."""
        self._kind.answer_one(req, resp, item_id)


class _List:
    """A list that administrators add to."""

    def __init__(self, kind: _Kind, changes: people.Changes) -> None:
        self._kind = kind
        self._changes = changes

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """The items that the query asks for."""
        self._kind.answer_list(req, resp)

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Create."""
        _check_admin(web.caller(req))
        given = self._changes.understand(web.body(req, self._kind.singular))
        item_id = self._kind.identity.change(lambda conn, _now: self._changes.create(conn, given))
        web.answer(resp, self._kind.item(req, item_id), 201)


class _One:
    """One item, which administrators change."""

    def __init__(self, kind: _Kind, changes: people.Changes) -> None:
        self._kind = kind
        self._changes = changes

    def on_get(self, req: falcon.Request, resp: falcon.Response, item_id: str) -> None:
        """The item."""
        self._kind.answer_one(req, resp, item_id)

    def on_patch(self, req: falcon.Request, resp: falcon.Response, item_id: str) -> None:
        """Change."""
        _check_admin(web.caller(req))
        given = self._changes.understand(web.body(req, self._kind.singular))
        self._kind.identity.change(lambda conn, now: self._changes.update(conn, item_id, given, now))
        web.answer(resp, self._kind.item(req, item_id))

    def on_delete(self, req: falcon.Request, resp: falcon.Response, item_id: str) -> None:
        """Delete."""
        _check_admin(web.caller(req))
        self._kind.identity.change(lambda conn, _now: self._changes.delete(conn, item_id))
        resp.status = falcon.HTTP_204


class _Password:
    """/v3/users/{item_id}/password: a user's own, who knows the old one."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    def on_post(self, req: falcon.Request, resp: falcon.Response, item_id: str) -> None:
        """Change it; tokens given out before are worth nothing from then on."""
        if web.caller(req).user_id != item_id:
            raise Forbidden("Only users themselves change a password this way; an admin sets one without the old.")
        given = web.body(req, "user")
        old = given.get("original_password")
        if not isinstance(old, str) or not given.get("password") or given.keys() - {"original_password", "password"}:
            raise Invalid("user: original_password and password are needed, and nothing else.")
        self._identity.check_password(self._identity.directory(fresh=True).users[item_id], old)
        values = people.USERS.understand({"password": given["password"]})
        self._identity.change(lambda conn, now: people.USERS.update(conn, item_id, values, now))
        resp.status = falcon.HTTP_204


class _RolesOf(web.ReadOnly):
    """/v3/projects/{item_id}/users/{user_id}/roles"""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    def on_get(self, req: falcon.Request, resp: falcon.Response, item_id: str, user_id: str) -> None:
        """The roles that the user was given in the project."""
        caller, known = web.caller(req), self._identity.directory()
        if user_id != caller.user_id:
            _check_admin(caller)
        user, project, _ = _place(known, user_id, item_id)
        assigned = known.assigned.get((user.id, project.id), frozenset())
        items = [shown.role(r, web.root(req)) for r in known.known_roles.values() if r.name in assigned]
        _reply(req, resp, shown.ROLES, items)


class _RoleOf:
    """/v3/projects/{item_id}/users/{user_id}/roles/{role_id}"""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    def on_get(
        self, req: falcon.Request, resp: falcon.Response, item_id: str, user_id: str, role_id: str
    ) -> None:  # fmt: skip
        """Whether the user was given the role there."""
        _check_admin(web.caller(req))
        known = self._identity.directory()
        user, project, role = _place(known, user_id, item_id, role_id)
        if role not in known.assigned.get((user.id, project.id), frozenset()):
            raise NotFound(f"Could not find role assignment with role: {role_id}, user: {user_id}.")
        resp.status = falcon.HTTP_204

    on_head = on_get

    def on_put(
        self, req: falcon.Request, resp: falcon.Response, item_id: str, user_id: str, role_id: str
    ) -> None:  # fmt: skip
        """Give it."""
        self._change(req, resp, people.assign, item_id, user_id, role_id)

    def on_delete(
        self, req: falcon.Request, resp: falcon.Response, item_id: str, user_id: str, role_id: str
    ) -> None:  # fmt: skip
        """Take it away."""
        self._change(req, resp, people.withdraw, item_id, user_id, role_id)

    def _change(
        self, req: falcon.Request, resp: falcon.Response, do: Callable[[Connection, str, str, str], None],
        project_id: str, user_id: str, role_id: str,
    ) -> None:  # fmt: skip
        _check_admin(web.caller(req))

        def change(conn: Connection, _now: float) -> None:
            user, project, role = _place(directory.read(conn), user_id, project_id, role_id)
            do(conn, user.id, project.id, role)

        self._identity.change(change)
        resp.status = falcon.HTTP_204


def _place(known: Directory, user_id: str, project_id: str, role_id: str = "") -> tuple[User, Project, str]:
    """What a path names. Raises NotFound."""
    user, project, role = known.users.get(user_id), known.projects.get(project_id), known.known_roles.get(role_id)
    if user is None:
        raise NotFound(f"Could not find user: {user_id}.")
    if project is None:
        raise NotFound(f"Could not find project: {project_id}.")
    if role_id and role is None:
        raise NotFound(f"Could not find role: {role_id}.")
    return user, project, role.name if role else ""


class _Elsewhere:
    """Roles of groups, in domains, in the system, or inherited."""

    def on_put(self, _req: falcon.Request, _resp: falcon.Response, **_path: str) -> None:
        """Refuse."""
        raise Invalid(
            "Users have roles in projects only here: not in domains or the system, not by groups or heritage."
        )

    on_get = on_head = on_post = on_delete = on_put


class _Assignments(web.ReadOnly):
    """/v3/role_assignments"""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Who has which role where; one's own, or everybody's for admins. ``effective`` adds what roles imply."""
        caller, known, root = web.caller(req), self._identity.directory(), web.root(req)
        if not caller.is_admin and req.get_param("user.id") != caller.user_id:
            raise Forbidden("You are not authorized to perform the requested action: identity:list_role_assignments.")
        named = listing.flag(req, "include_names")
        found = known.implied if listing.flag(req, "effective") else known.assigned
        items = []
        for (user_id, project_id), roles in found.items():
            user, project = known.users.get(user_id), known.projects.get(project_id)
            if user is None or project is None:
                continue
            for role in (r for r in known.known_roles.values() if r.name in roles):
                items.append(shown.assignment(user, project, role, root, named=named))
        _reply(req, resp, shown.ASSIGNMENTS, items)


def _check_admin(caller: Caller) -> None:
    if not caller.is_admin:
        raise Forbidden("You are not authorized to perform the requested action: it needs the role admin.")


def _reply(req: falcon.Request, resp: falcon.Response, collection: Collection, items: list[Json]) -> None:
    url = web.root(req) + req.path
    part = listing.page(collection, listing.understand(req, collection, url), items)
    links = {"next": part.next, "self": url, "previous": part.previous}
    web.answer(resp, {collection.plural: part.items, "links": links})


def _links(req: falcon.Request) -> Json:
    return {"self": web.root(req) + req.path}


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000000Z")

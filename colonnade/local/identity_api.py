"""The part of Keystone's API v3 that clients need: tokens, the catalogue, and who there is."""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime

import falcon

from colonnade.errors import Forbidden, NotFound
from colonnade.local import directory, listing, web
from colonnade.local.directory import Directory, Project, User
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
_DOMAIN = {"id": directory.DEFAULT_DOMAIN, "name": directory.DEFAULT_DOMAIN_NAME}
OPEN_PATHS = frozenset({"", "/v3", "/v3/auth/tokens"})  # POST tokens has no token yet; the others ask for one

Lister = Callable[[Directory, str], list[Json]]  # (who there is, the service's URL) -> items


def _id(kind: str, name: str) -> str:
    return uuid.uuid5(uuid.NAMESPACE_URL, f"colonnade:{kind}:{name}").hex


def routes(identity: Identity) -> list[tuple[str, object]]:
    """Every path of the service."""
    lists: list[tuple[Collection, Lister]] = [
        (_PROJECTS, lambda known, root: [_project(p, root) for p in known.projects.values()]),
        (_USERS, lambda known, root: [_user(u, root) for u in known.users.values()]),
        (_ROLES, lambda _known, root: [_role(name, root) for name in directory.ROLES]),
        (_DOMAINS, lambda _known, root: [_domain(root)]),
    ]
    paths: list[tuple[str, object]] = [
        ("/", web.Document(lambda r: {"versions": {"values": [_version(web.root(r))]}}, 300)),
        ("/v3", web.Document(lambda r: {"version": _version(web.root(r))})),
        ("/v3/auth/tokens", _Tokens(identity)),
        ("/v3/auth/catalog", _Catalog()),
        ("/v3/auth/projects", _OwnProjects(identity)),
        ("/v3/users/{item_id}/projects", _OwnProjects(identity)),
        ("/v3/role_assignments", _Assignments(identity)),
    ]
    for collection, lister in lists:
        paths.append((f"/v3/{collection.plural}", _List(identity, collection, lister)))
        paths.append((f"/v3/{collection.plural}/{{item_id}}", _One(identity, collection, lister)))
    return paths


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
            "id": _id("service", kind),
            "endpoints": [
                {
                    "id": _id(interface, kind),
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
        caller = self._identity.admit(req.get_header("X-Auth-Token"), req.env.get("REMOTE_ADDR", ""))
        return self._identity.subject(caller, req.get_header("X-Subject-Token"))

    def _render(self, req: falcon.Request, token: Token) -> Json:
        known = self._identity.directory()
        user = known.users[token.user_id]
        body: Json = {
            "methods": list(token.methods),
            "user": {"id": user.id, "name": user.name, "domain": _DOMAIN, "password_expires_at": None},
            "audit_ids": [token.audit_id],
            "issued_at": _time(token.issued_at),
            "expires_at": _time(token.expires_at),
        }
        if token.project_id is not None:
            project = known.projects[token.project_id]
            roles = known.roles(user.id, project.id)
            body["project"] = {"id": project.id, "name": project.name, "domain": _DOMAIN}
            body["is_domain"] = False
            body["roles"] = [{"id": _id("role", r), "name": r} for r in directory.ROLES if r in roles]
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
        items = [_project(p, web.root(req)) for p in known.projects_of(item_id or caller.user_id)]
        _reply(req, resp, _PROJECTS, items)


class _List(web.ReadOnly):
    """A list of what there is, for admins; everybody may see themselves, their projects, and what is no secret."""

    def __init__(self, identity: Identity, collection: Collection, lister: Lister) -> None:
        self._identity = identity
        self._collection = collection
        self._lister = lister

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """The items that the query asks for."""
        if self._collection in (_PROJECTS, _USERS):
            _check_admin(web.caller(req))
        _reply(req, resp, self._collection, self._lister(self._identity.directory(), web.root(req)))


class _One(web.ReadOnly):
    """One item of such a list."""

    def __init__(self, identity: Identity, collection: Collection, lister: Lister) -> None:
        self._identity = identity
        self._collection = collection
        self._lister = lister

    def on_get(self, req: falcon.Request, resp: falcon.Response, item_id: str) -> None:
        """The item; a name is not an id, so it answers 404."""
        caller, known = web.caller(req), self._identity.directory()
        if self._collection is _PROJECTS and not known.roles(caller.user_id, item_id):
            _check_admin(caller)
        if self._collection is _USERS and item_id != caller.user_id:
            _check_admin(caller)
        item = next((i for i in self._lister(known, web.root(req)) if i["id"] == item_id), None)
        singular = self._collection.plural.removesuffix("s")
        if item is None:
            raise NotFound(f"Could not find {singular}: {item_id}.")
        web.answer(resp, {singular: item})


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
            for role in sorted(roles):
                items.append(_assignment(user, project, role, root, named=named))
        _reply(req, resp, _ASSIGNMENTS, items)


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


def _project(project: Project, root: str) -> Json:
    return {
        "id": project.id,
        "name": project.name,
        "description": project.description,
        "enabled": project.enabled,
        "domain_id": directory.DEFAULT_DOMAIN,
        "parent_id": directory.DEFAULT_DOMAIN,
        "is_domain": False,
        "tags": [],
        "options": {},
        "links": {"self": f"{root}/v3/projects/{project.id}"},
    }


def _user(user: User, root: str) -> Json:
    return {
        "id": user.id,
        "name": user.name,
        "enabled": user.enabled,
        "domain_id": directory.DEFAULT_DOMAIN,
        "default_project_id": user.default_project_id,
        "password_expires_at": None,
        "options": {},
        "links": {"self": f"{root}/v3/users/{user.id}"},
    }


def _role(name: str, root: str) -> Json:
    found = _id("role", name)
    return {
        "id": found,
        "name": name,
        "description": None,
        "domain_id": None,
        "options": {},
        "links": {"self": f"{root}/v3/roles/{found}"},
    }


def _domain(root: str) -> Json:
    return {
        **_DOMAIN,
        "description": "The default domain",
        "enabled": True,
        "tags": [],
        "options": {},
        "links": {"self": f"{root}/v3/domains/{directory.DEFAULT_DOMAIN}"},
    }


def _assignment(user: User, project: Project, role: str, root: str, *, named: bool) -> Json:
    def reference(found: str, name: str, *, in_domain: bool = True) -> Json:
        return {"id": found, **({"name": name, **({"domain": _DOMAIN} if in_domain else {})} if named else {})}

    role_id = _id("role", role)
    link = f"{root}/v3/projects/{project.id}/users/{user.id}/roles/{role_id}"
    return {
        "role": reference(role_id, role, in_domain=False),
        "user": reference(user.id, user.name),
        "scope": {"project": reference(project.id, project.name)},
        "links": {"assignment": link},
    }


def _none(_item: Json, _values: list[str]) -> bool:
    """Filters by what does not exist here (groups, system and domain scopes): nothing has it."""
    return False


_PROJECTS = Collection(plural="projects", keys=frozenset(_project(Project("", "", "", True), "")))
_USERS = Collection(plural="users", keys=frozenset(_user(User("", "", "", None, True), "")))
_ROLES = Collection(plural="roles", keys=frozenset(_role("", "")))
_DOMAINS = Collection(plural="domains", keys=frozenset(_domain("")))
_ASSIGNMENTS = Collection(
    plural="role_assignments",
    keys=frozenset(),
    ignored=frozenset({"include_names", "effective", "include_subtree"}),
    tests={
        "role.id": lambda item, values: item["role"]["id"] in values,
        "user.id": lambda item, values: item["user"]["id"] in values,
        "scope.project.id": lambda item, values: item["scope"]["project"]["id"] in values,
        "group.id": _none,
        "scope.domain.id": _none,
        "scope.system": _none,
        "scope.OS-INHERIT:inherited_to": _none,
    },
)

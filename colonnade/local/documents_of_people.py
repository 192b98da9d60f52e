"""Projects, users, roles and who has which, as Keystone's API shows them, and what its lists can be asked for."""

from colonnade.local import directory
from colonnade.local.directory import Project, Role, User
from colonnade.local.listing import Collection
from colonnade.types import Json

DOMAIN = {"id": directory.DEFAULT_DOMAIN, "name": directory.DEFAULT_DOMAIN_NAME}


def project(project: Project, root: str) -> Json:
    """A project."""
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


def user(user: User, root: str) -> Json:
    """A user; passwords are never shown."""
    return {
        "id": user.id,
        "name": user.name,
        "enabled": user.enabled,
        "domain_id": directory.DEFAULT_DOMAIN,
        "default_project_id": user.default_project_id,
        "email": user.email,
        "description": user.description,
        "password_expires_at": None,
        "options": {},
        "links": {"self": f"{root}/v3/users/{user.id}"},
    }


def role(role: Role, root: str) -> Json:
    """A role."""
    return {
        "id": role.id,
        "name": role.name,
        "description": role.description,
        "domain_id": None,
        "options": {},
        "links": {"self": f"{root}/v3/roles/{role.id}"},
    }


def domain(root: str) -> Json:
    """The one domain."""
    return {
        **DOMAIN,
        "description": "The default domain",
        "enabled": True,
        "tags": [],
        "options": {},
        "links": {"self": f"{root}/v3/domains/{directory.DEFAULT_DOMAIN}"},
    }


def assignment(user: User, project: Project, role: Role, root: str, *, named: bool) -> Json:
    """A role that a user has in a project; ``named``: with everybody's names."""

    def reference(found: str, name: str, *, in_domain: bool = True) -> Json:
        return {"id": found, **({"name": name, **({"domain": DOMAIN} if in_domain else {})} if named else {})}

    link = f"{root}/v3/projects/{project.id}/users/{user.id}/roles/{role.id}"
    return {
        "role": reference(role.id, role.name, in_domain=False),
        "user": reference(user.id, user.name),
        "scope": {"project": reference(project.id, project.name)},
        "links": {"assignment": link},
    }


def _none(_item: Json, _values: list[str]) -> bool:
    """Filters by what does not exist here (groups, system and domain scopes): nothing has it."""
    return False


PROJECTS = Collection(plural="projects", keys=frozenset(project(Project("", "", "", True), "")))
USERS = Collection(plural="users", keys=frozenset(user(User("", "", "", None, True), "")))
ROLES = Collection(plural="roles", keys=frozenset(role(Role("", ""), "")))
DOMAINS = Collection(plural="domains", keys=frozenset(domain("")))
ASSIGNMENTS = Collection(
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

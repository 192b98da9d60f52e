"""Who there is: users, projects and what they may do, as one value read from the database."""

import uuid
from dataclasses import dataclass, field

from sqlalchemy import Connection, delete, insert, select, update

from colonnade.store.local_tables import (
    local_project,
    local_revoked_token,
    local_role,
    local_role_assignment,
    local_state,
    local_user,
)  # fmt: skip

DEFAULT_DOMAIN = "default"
DEFAULT_DOMAIN_NAME = "Default"
_IMPLIED = {"admin": ("member", "reader"), "member": ("reader",), "reader": ()}
ROLES = tuple(_IMPLIED)


@dataclass(frozen=True, slots=True)
class User:
    """Someone who can log in."""

    id: str
    name: str
    password: str
    default_project_id: str | None
    enabled: bool
    email: str | None = None
    description: str | None = None
    tokens_from: int = 0  # seconds since the epoch: tokens issued before are worth nothing


@dataclass(frozen=True, slots=True)
class Project:
    """What owns objects."""

    id: str
    name: str
    description: str
    enabled: bool
    tokens_from: int = 0


@dataclass(frozen=True, slots=True)
class Role:
    """What a user can be in a project."""

    id: str
    name: str
    description: str | None = None


def fixed_id(kind: str, name: str) -> str:
    """The id of something that every installation has; the same in all of them."""
    return uuid.uuid5(uuid.NAMESPACE_URL, f"colonnade:{kind}:{name}").hex


BUILT_IN = {role.id: role for role in (Role(fixed_id("role", name), name) for name in ROLES)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Directory:
    """Everything about identity at one moment."""

    generation: int = -1
    users: dict[str, User] = field(default_factory=dict)  # by id
    projects: dict[str, Project] = field(default_factory=dict)  # by id
    assigned: dict[tuple[str, str], frozenset[str]] = field(default_factory=dict)  # (user, project) -> roles, direct
    implied: dict[tuple[str, str], frozenset[str]] = field(default_factory=dict)  # the same with what they imply
    known_roles: dict[str, Role] = field(default_factory=lambda: BUILT_IN)  # by id; the built-in ones first
    revoked: frozenset[str] = frozenset()  # audit ids of tokens

    def user_named(self, name: str) -> User | None:
        """The user of this name."""
        return next((u for u in self.users.values() if u.name == name), None)

    def project_named(self, name: str) -> Project | None:
        """The project of this name."""
        return next((p for p in self.projects.values() if p.name == name), None)

    def roles(self, user_id: str, project_id: str) -> frozenset[str]:
        """What the user is in the project; empty unless both exist and are enabled."""
        user, project = self.users.get(user_id), self.projects.get(project_id)
        if user is None or project is None or not (user.enabled and project.enabled):
            return frozenset()
        return self.implied.get((user_id, project_id), frozenset())

    def has_administrator(self) -> bool:
        """Whether anybody who can log in is admin anywhere."""
        return any("admin" in self.roles(u, p) and self.users[u].password for u, p in self.assigned if u in self.users)

    def projects_of(self, user_id: str) -> list[Project]:
        """The projects that the user has a role in, by name."""
        return sorted(
            (self.projects[p] for u, p in self.assigned if u == user_id and self.roles(u, p)), key=lambda p: p.name
        )


def generation(conn: Connection) -> int:
    """Changes whenever anything of the directory does."""
    return conn.execute(select(local_state.c.value).where(local_state.c.name == "identity")).scalar_one_or_none() or 0


def read(conn: Connection) -> Directory:
    """The directory as it is now."""
    assigned: dict[tuple[str, str], set[str]] = {}
    for row in conn.execute(select(local_role_assignment)):
        assigned.setdefault((row.user_id, row.project_id), set()).add(row.role)
    return Directory(
        generation=generation(conn),
        users={r.id: User(r.id, r.name, r.password, r.default_project_id, r.enabled, r.email, r.description,
                          r.tokens_from or 0) for r in conn.execute(select(local_user).order_by(local_user.c.name))},
        projects={r.id: Project(r.id, r.name, r.description, r.enabled, r.tokens_from or 0) for r in
                  conn.execute(select(local_project).order_by(local_project.c.name))},
        known_roles=BUILT_IN | {r.id: Role(r.id, r.name, r.description) for r in
                                conn.execute(select(local_role).order_by(local_role.c.name))},
        assigned={k: frozenset(v) for k, v in assigned.items()},
        implied={k: frozenset(v).union(*(_IMPLIED.get(r, ()) for r in v)) for k, v in assigned.items()},
        revoked=frozenset(conn.scalars(select(local_revoked_token.c.audit_id))),
    )  # fmt: skip


def changed(conn: Connection) -> None:
    """Tell every process to read the directory again. Part of each transaction that changes it."""
    name = local_state.c.name == "identity"
    if conn.execute(update(local_state).where(name).values(value=local_state.c.value + 1)).rowcount == 0:
        conn.execute(insert(local_state).values(name="identity", value=1))


def revoke(conn: Connection, audit_id: str, expires_at: float, now: float) -> None:
    """Write down that a token is no longer good; forget those whose time is over anyway."""
    table = local_revoked_token
    conn.execute(delete(table).where((table.c.expires_at < now) | (table.c.audit_id == audit_id)))
    conn.execute(insert(table).values(audit_id=audit_id, expires_at=expires_at))
    changed(conn)

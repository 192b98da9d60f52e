"""Changes of who there is: projects, users, roles, and who has which role where. Each runs inside one transaction.

Nothing is taken and ignored: what has no effect here is refused by name. There is one domain, Default.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from colonnade.errors import Conflict, Invalid, NotFound
from colonnade.local import directory, tokens
from colonnade.local.attributes import Parse, boolean, only, optional, text
from colonnade.local.network import SERVICE_PROJECT
from colonnade.local.passwords import conceal
from colonnade.store.local_tables import (
    local_floating_ip,
    local_network,
    local_port,
    local_project,
    local_qos_policy,
    local_role,
    local_role_assignment,
    local_secret,
    local_security_group,
    local_user,
)  # fmt: skip
from colonnade.store.tables import load_balancer, quota
from colonnade.types import Json

_OWNED = {load_balancer: "load balancer", local_network: "network", local_port: "port",
          local_floating_ip: "floating IP", local_secret: "secret", local_security_group: "security group",
          local_qos_policy: "QoS policy"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Changes:
    """What can be done to one kind. ``now`` is in seconds since the epoch."""

    understand: Callable[[Json], Json]  # a body's fields as they are stored; slow for passwords, so no transaction yet
    create: Callable[[Connection, Json], str]  # answers the id
    update: Callable[[Connection, str, Json, float], None]
    delete: Callable[[Connection, str], None]


def assign(conn: Connection, user_id: str, project_id: str, role: str) -> None:
    """Give the user the role in the project; they may have it already."""
    values = {"user_id": user_id, "project_id": project_id, "role": role}
    if not conn.execute(select(local_role_assignment).filter_by(**values)).first():
        conn.execute(insert(local_role_assignment).values(values))


def withdraw(conn: Connection, user_id: str, project_id: str, role: str) -> None:
    """Take the role away. Raises NotFound when they do not have it."""
    values = {"user_id": user_id, "project_id": project_id, "role": role}
    if conn.execute(delete(local_role_assignment).filter_by(**values)).rowcount == 0:
        raise NotFound(f"Could not find role assignment with role: {role}, user: {user_id}, project: {project_id}.")


def _word(longest: int) -> Parse:
    def parse(name: str, value: Any) -> str:  # noqa: ANN401 - as the sender wrote it
        found: str = text(longest)(name, value)
        if not found.strip():
            raise Invalid(f"{name}: must not be empty.")
        return found

    return parse


_ONE_DOMAIN = only((directory.DEFAULT_DOMAIN,), "there is one domain here, Default.")
_NO_OPTIONS = only(({},), "options of users, projects and roles have no effect here.")
_PROJECT: dict[str, Parse] = {
    "name": _word(64),
    "description": text(255),
    "enabled": boolean,
    "domain_id": _ONE_DOMAIN,
    "parent_id": only((None, directory.DEFAULT_DOMAIN), "projects are not nested here."),
    "is_domain": only((False,), "there is one domain here, Default."),
    "tags": only(([],), "projects have no tags here."),
    "options": _NO_OPTIONS,
}
_USER: dict[str, Parse] = {
    "name": _word(255),
    "password": optional(_word(1024)),
    "default_project_id": optional(text(64)),
    "email": optional(text(255)),
    "description": optional(text(255)),
    "enabled": boolean,
    "domain_id": _ONE_DOMAIN,
    "options": _NO_OPTIONS,
}
_ROLE: dict[str, Parse] = {
    "name": _word(32),
    "description": optional(text(255)),
    "domain_id": only((None,), "roles are for all projects here."),
    "options": _NO_OPTIONS,
}
_SETTLED = ("domain_id", "parent_id", "is_domain", "tags", "options")  # can only say what is so anyway


def _read(given: Json, fields: Mapping[str, Parse]) -> Json:
    for name in given:
        if name not in fields:
            raise Invalid(f"{name[:64]}: what it is for does not exist here.")
    found = {name: fields[name](name, value) for name, value in given.items()}
    return {name: value for name, value in found.items() if name not in _SETTLED}


def _named(given: Json, kind: str) -> None:
    if "name" not in given:
        raise Invalid(f"name: a {kind} needs one.")


def _insert(conn: Connection, table: Table, kind: str, values: Json) -> str:
    values = {"id": tokens.fresh_id(), **values}
    try:
        with conn.begin_nested():
            conn.execute(insert(table).values(values))
    except IntegrityError as e:
        raise _taken(kind, values["name"]) from e
    found: str = values["id"]
    return found


def _update(conn: Connection, table: Table, kind: str, item_id: str, values: Json) -> None:
    if not values:
        return
    try:
        with conn.begin_nested():
            conn.execute(update(table).where(table.c.id == item_id).values(values))
    except IntegrityError as e:
        raise _taken(kind, values.get("name", "")) from e


def _taken(kind: str, name: str) -> Conflict:
    return Conflict(f"Conflict occurred attempting to store {kind} - it is not permitted to have two named {name}.")


def _existing(conn: Connection, table: Table, kind: str, item_id: str) -> Any:  # noqa: ANN401 - a SQLAlchemy row
    row = conn.execute(select(table).where(table.c.id == item_id)).first()
    if row is None:
        raise NotFound(f"Could not find {kind}: {item_id}.")
    return row


def _create_project(conn: Connection, given: Json) -> str:
    _named(given, "project")
    return _insert(conn, local_project, "project", {"description": "", **given})


def _update_project(conn: Connection, project_id: str, given: Json, now: float) -> None:
    row = _existing(conn, local_project, "project", project_id)
    if row.name == SERVICE_PROJECT and given.get("name", row.name) != row.name:
        raise Conflict(f"name: the project {SERVICE_PROJECT} owns the amphorae and is found by its name.")
    _update(conn, local_project, "project", project_id, given | _ending(given, now))


def _delete_project(conn: Connection, project_id: str) -> None:
    """Keystone deletes it whatever it owns elsewhere. Here all that is in one database, and must not be left behind."""
    row = _existing(conn, local_project, "project", project_id)
    if row.name == SERVICE_PROJECT:
        raise Conflict(f"The project {SERVICE_PROJECT} owns the amphorae: it stays.")
    owned = {}
    for table, what in _OWNED.items():
        count = conn.execute(select(func.count()).where(table.c.project_id == project_id)).scalar_one()
        if count:
            owned[what] = count
    if owned:
        said = ", ".join(f"{count} {what}{'s' if count > 1 else ''}" for what, count in owned.items())
        raise Conflict(f"The project {row.name} still owns {said}: delete these first, or disable the project.")
    mine = local_user.c.default_project_id == project_id
    conn.execute(update(local_user).where(mine).values(default_project_id=None))
    conn.execute(delete(local_role_assignment).where(local_role_assignment.c.project_id == project_id))
    conn.execute(delete(quota).where(quota.c.project_id == project_id))
    conn.execute(delete(local_project).where(local_project.c.id == project_id))


def _understand_user(given: Json) -> Json:
    values = _read(given, _USER)
    if "password" in values:
        values["password"] = conceal(values["password"]) if values["password"] else ""
    return values


def _create_user(conn: Connection, given: Json) -> str:
    _named(given, "user")
    _check_default_project(conn, given)
    return _insert(conn, local_user, "user", {"password": "", **given})


def _update_user(conn: Connection, user_id: str, given: Json, now: float) -> None:
    _existing(conn, local_user, "user", user_id)
    _check_default_project(conn, given)
    _update(conn, local_user, "user", user_id, given | _ending(given, now))


def _check_default_project(conn: Connection, given: Json) -> None:
    project_id = given.get("default_project_id")
    if project_id and not conn.execute(select(local_project).where(local_project.c.id == project_id)).first():
        raise Invalid(f"default_project_id: there is no project {project_id}.")


def _delete_user(conn: Connection, user_id: str) -> None:
    _existing(conn, local_user, "user", user_id)
    conn.execute(delete(local_role_assignment).where(local_role_assignment.c.user_id == user_id))
    conn.execute(delete(local_user).where(local_user.c.id == user_id))


def _create_role(conn: Connection, given: Json) -> str:
    _named(given, "role")
    if given["name"] in directory.ROLES:
        raise _taken("role", given["name"])
    return _insert(conn, local_role, "role", given)


def _update_role(conn: Connection, role_id: str, given: Json, _now: float) -> None:
    _no_built_in(role_id)
    row = _existing(conn, local_role, "role", role_id)
    name = given.get("name", row.name)
    if name in directory.ROLES:
        raise _taken("role", name)
    _update(conn, local_role, "role", role_id, given)
    if name != row.name:
        held = local_role_assignment.c.role == row.name
        conn.execute(update(local_role_assignment).where(held).values(role=name))


def _delete_role(conn: Connection, role_id: str) -> None:
    _no_built_in(role_id)
    row = _existing(conn, local_role, "role", role_id)
    conn.execute(delete(local_role_assignment).where(local_role_assignment.c.role == row.name))
    conn.execute(delete(local_role).where(local_role.c.id == role_id))


def _no_built_in(role_id: str) -> None:
    if role_id in directory.BUILT_IN:
        raise Conflict(f"The role {directory.BUILT_IN[role_id].name} is built in: it stays as it is.")


def _ending(values: Json, now: float) -> Json:
    """What ends the tokens that there are, if these changes are to: a new password, and being disabled."""
    return {"tokens_from": math.ceil(now)} if "password" in values or values.get("enabled") is False else {}


PROJECTS = Changes(lambda given: _read(given, _PROJECT), _create_project, _update_project, _delete_project)
USERS = Changes(_understand_user, _create_user, _update_user, _delete_user)
ROLES = Changes(lambda given: _read(given, _ROLE), _create_role, _update_role, _delete_role)

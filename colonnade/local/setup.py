"""What a stand-alone installation has from its first start on: projects, users, networks, and files that tell of them.

Safe to call at every start and by several processes at once. What people delete later is not made again; the
files follow the settings.
"""

import logging
import secrets as random
from pathlib import Path

from sqlalchemy import Connection, insert, select
from sqlalchemy.exc import IntegrityError

from colonnade.clock import Clock
from colonnade.errors import ApiError
from colonnade.local import directory, secrets, tokens
from colonnade.local.identity_api import REGION
from colonnade.local.network import SERVICE_PROJECT
from colonnade.local.networks import Networks, Subnets
from colonnade.local.passwords import conceal
from colonnade.model import Caller
from colonnade.settings import Settings, WrongSetting
from colonnade.store.local_tables import local_project, local_role_assignment, local_state, local_user
from colonnade.store.store import Store
from colonnade.types import Json

log = logging.getLogger(__name__)

_PROJECTS = {
    "admin": "The operator's own project.",
    "demo": "A project to try things in.",
    SERVICE_PROJECT: "Owns the amphorae.",
}
_USERS = {"admin": (("admin", "admin"), ("demo", "admin")), "demo": (("demo", "member"),)}  # (project, role)
_TRIES = 5


def ensure(settings: Settings, store: Store, clock: Clock) -> None:
    """Make what is missing. The tables must be there. Raises WrongSetting when the networks cannot be as set."""
    path, first = settings.state / "secrets" / "passwords.env", _empty(store)
    if first or path.exists():
        passwords = _passwords(path)
    else:
        log.warning("passwords.env is gone: clouds.yaml stays as it is", extra={"path": str(path)})
        passwords = {}
    concealed = {name: conceal(password) for name, password in passwords.items()} if first else {}
    for left in reversed(range(_TRIES)):
        try:
            with store.write() as conn:
                _people(conn, concealed)
                _networks(conn, settings, clock.now())
            break
        except IntegrityError:  # another process made the same at the same time: look again
            if not left:
                raise
    if passwords:
        # The state directory itself is root's: ./try copies it there, for whoever called it.
        secrets.replace(settings.state / "secrets" / "clouds.yaml", clouds(settings, passwords))


def _passwords(path: Path) -> dict[str, str]:
    fresh = "".join(f"{name.upper()}_PASSWORD={random.token_urlsafe(18)}\n" for name in _USERS)
    lines = dict(line.partition("=")[::2] for line in secrets.ensure(path, fresh).splitlines() if "=" in line)
    return {name: lines[f"{name.upper()}_PASSWORD"] for name in _USERS if f"{name.upper()}_PASSWORD" in lines}


def _empty(store: Store) -> bool:
    with store.read() as conn:
        return conn.execute(select(local_user.c.id).limit(1)).first() is None


def _people(conn: Connection, concealed: dict[str, str]) -> None:
    if not _first(conn, "people"):
        return
    projects = {name: tokens.fresh_id() for name in _PROJECTS}
    for name, project_id in projects.items():
        conn.execute(insert(local_project).values(id=project_id, name=name, description=_PROJECTS[name]))
    for name, password in concealed.items():
        user_id = tokens.fresh_id()
        row = {"id": user_id, "name": name, "password": password, "default_project_id": projects[name]}
        conn.execute(insert(local_user).values(row))
        for project, role in _USERS[name]:
            values = {"user_id": user_id, "project_id": projects[project], "role": role}
            conn.execute(insert(local_role_assignment).values(values))
    directory.changed(conn)


def _networks(conn: Connection, settings: Settings, now: float) -> None:
    if not _first(conn, "networks"):
        return
    owner = conn.execute(select(local_project.c.id).where(local_project.c.name == "admin")).scalar_one()
    admin = Caller(user_id="", project_id=owner, roles=frozenset({"admin", "member", "reader"}))
    wanted = {
        "private": ("private_cidr", settings.local.private_cidr, {"shared": True}),
        "public": ("public_cidr", settings.local.public_cidr, {"router:external": True}),
    }
    for n, (name, (option, cidr, kind)) in enumerate(wanted.items()):
        # Lists go by age in whole seconds: the first subnet, which some clients just take, is one for VIPs.
        made = now + n
        given: Json = {"name": name, "project_id": owner, **kind}
        network_id = Networks().create(conn, admin, given, made)
        subnet = {"name": f"{name}-subnet", "project_id": owner, "network_id": network_id, "cidr": cidr}
        try:
            Subnets().create(conn, admin, subnet, made)
        except ApiError as e:
            raise WrongSetting(f"[local] {option} = {cidr}: {e.sentence}") from e


def _first(conn: Connection, name: str) -> bool:
    """Whether this is the first time; only one transaction ever hears yes."""
    if conn.execute(select(local_state.c.value).where(local_state.c.name == name)).first():
        return False
    conn.execute(insert(local_state).values(name=name, value=1))
    return True


def clouds(settings: Settings, passwords: dict[str, str]) -> str:
    """The clouds.yaml that stock clients need."""
    if settings.api_settings.auth_strategy == "keystone":
        return "# Users are those of your Keystone: use the clouds.yaml that you have for it.\nclouds: {}\n"
    base = base_url(settings)
    lines = ["# Written at each start of this installation.", "clouds:"]
    for cloud, user in (("colonnade", "admin"), ("colonnade-demo", "demo")):
        if user not in passwords:
            continue
        lines += [
            f"  {cloud}:",
            "    auth_type: password",
            "    auth:",
            f"      auth_url: {base}/identity",
            f"      username: {user}",
            f'      password: "{passwords[user]}"',
            f"      project_name: {user}",
            "      user_domain_id: default",
            "      project_domain_id: default",
            f"    region_name: {REGION}",
        ]
    if settings.api_settings.auth_strategy == "noauth":
        lines += [
            "  colonnade-noauth:",
            "    auth_type: none",
            f"    load_balancer_endpoint_override: {base}/load-balancer",
            f"    network_endpoint_override: {base}/network",
            f"    compute_endpoint_override: {base}/compute/v2.1",
            f"    image_endpoint_override: {base}/image",
            f"    key_manager_endpoint_override: {base}/key-manager",
            f"    identity_endpoint_override: {base}/identity",
        ]
    return "\n".join(lines) + "\n"


def base_url(settings: Settings) -> str:
    """Where clients on this machine reach the API."""
    api = settings.api_settings
    if api.api_base_uri:
        return api.api_base_uri.rstrip("/")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(api.bind_host, api.bind_host)  # wildcards
    return f"http://{f'[{host}]' if ':' in host else host}:{api.bind_port}"

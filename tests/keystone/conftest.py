"""A real Keystone in an environment of its own, and our API beside it, which takes its tokens."""

import base64
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openstack
import pytest
import requests
from waitress.server import create_server

from colonnade.api.app import make_wsgi
from colonnade.clock import SystemClock
from colonnade.configuration import load
from colonnade.drivers.doorbell import MemoryDoorbell
from colonnade.local import setup
from colonnade.local.network import LocalNetwork
from colonnade.store import schema
from colonnade.store.store import Store
from tests.support import free_port

ROOT = Path(__file__).parents[2]
CONFIGURATION = """
[DEFAULT]
use_stderr = true
[database]
connection = sqlite:///{state}/keystone.sqlite
[fernet_tokens]
key_repository = {state}/keys
[fernet_receipts]
key_repository = {state}/keys
[credential]
key_repository = {state}/keys
[identity]
password_hash_rounds = 4
"""
OURS = """
[DEFAULT]
state_path = {state}
[api_settings]
auth_strategy = keystone
[keystone_authtoken]
auth_type = password
auth_url = {url}
www_authenticate_uri = {url}
username = colonnade
password = {password}
project_name = service
user_domain_id = default
project_domain_id = default
"""


@dataclass
class Keystone:
    """A running Keystone with its administrator."""

    url: str
    password: str
    process: "subprocess.Popen[bytes]"

    def cloud(self, user: str, project: str | None, password: str | None = None, **more: Any) -> Any:
        """openstacksdk as this user; ``project`` None: with a token of the system."""
        scope = {"project_name": project, "project_domain_id": "default"} if project else {"system_scope": "all"}
        return openstack.connect(
            load_yaml_config=False, load_envvars=False, auth_url=self.url, username=user, user_domain_id="default",
            password=password or self.password, region_name="RegionOne", **scope, **more,
        )  # fmt: skip


@pytest.fixture(scope="session")
def keystone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keystone]:
    state, port, password = tmp_path_factory.mktemp("keystone"), free_port(), secrets.token_urlsafe(12)
    made = subprocess.run(
        ["bash", "-c", ". deploy/machine.sh; environment keystone requirements-keystone.txt"],
        cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    programs, file = Path(made.stdout.strip()) / "bin", state / "keystone.conf"
    file.write_text(CONFIGURATION.format(state=state))
    (state / "keys").mkdir(mode=0o700)
    for name in ("0", "1"):
        (state / "keys" / name).touch(mode=0o600)
        (state / "keys" / name).write_bytes(base64.urlsafe_b64encode(os.urandom(32)))
    url = f"http://127.0.0.1:{port}/v3"
    urls = [f"--bootstrap-{kind}-url={url}" for kind in ("public", "internal", "admin")]
    for words in (
        ["db_sync"],
        ["bootstrap", f"--bootstrap-password={password}", "--bootstrap-region-id=RegionOne", *urls],
    ):
        _run([str(programs / "keystone-manage"), "--config-file", str(file), *words])
    with (state / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(programs / "python"), str(Path(__file__).with_name("serve_keystone.py")), str(port)],
            env={**os.environ, "OS_KEYSTONE_CONFIG_FILES": str(file), "PYTHONPATH": ""}, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        _await(url, process, state / "log")
        yield Keystone(url, password, process)
    finally:
        process.kill()
        process.wait()


@dataclass
class Api:
    """Our API, with a project for each of two tenants."""

    url: str
    keystone: Keystone
    settings_file: Path

    def ask(self, cloud: Any, method: str, path: str, body: Any = None) -> requests.Response:
        """A request with a user's token, or with this text for one."""
        token = cloud if isinstance(cloud, str) else cloud.session.get_token()
        return requests.request(method, self.url + path, json=body, headers={"X-Auth-Token": token}, timeout=30)


@pytest.fixture(scope="session")
def api(keystone: Keystone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    state, port = tmp_path_factory.mktemp("api"), free_port()
    url, admin = f"http://127.0.0.1:{port}", keystone.cloud("admin", "admin")
    _people(keystone, admin, url)
    file = state / "colonnade.conf"
    file.write_text(OURS.format(state=state, url=keystone.url, password=keystone.password))
    (state / "db").mkdir()
    settings, clock = load([str(file)]), SystemClock()
    schema.upgrade(settings.database_url)
    store = Store(settings.database_url)
    setup.ensure(settings, store, clock)
    app = make_wsgi(
        settings=settings, store=store, network=LocalNetwork(store, clock), doorbell=MemoryDoorbell(), clock=clock
    )
    server = create_server(app, host="127.0.0.1", port=port, threads=4)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    yield Api(url, keystone, file)
    server.close()
    thread.join(5)
    store.close()


def _people(keystone: Keystone, admin: Any, url: str) -> None:
    """Two tenants, an own user for the API, and where the API is."""
    identity = admin.identity
    roles = {role.name: role for role in identity.roles()}
    roles["load-balancer_member"] = identity.create_role(name="load-balancer_member")
    projects = {name: identity.create_project(name=name, domain_id="default") for name in ("red", "blue", "service")}
    for name, project, role in (
        ("alice", "red", "member"), ("rita", "red", "reader"), ("lola", "red", "load-balancer_member"),
        ("bob", "blue", "member"), ("colonnade", "service", "admin"),
    ):  # fmt: skip
        user = identity.create_user(name=name, password=keystone.password, domain_id="default")
        identity.assign_project_role_to_user(projects[project], user, roles[role])
    for kind, path in (("load-balancer", "/load-balancer"), ("network", "/network")):
        service = identity.create_service(type=kind, name=kind)
        identity.create_endpoint(service_id=service.id, interface="public", region_id="RegionOne", url=url + path)


def _run(argv: list[str]) -> None:
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def _await(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            if requests.get(url, timeout=30).ok:
                return
        except requests.RequestException:
            time.sleep(0.1)
    raise AssertionError(f"Keystone did not answer on {url}: {log.read_text()}")


def openstack_command(keystone: Keystone, user: str, project: str, words: str) -> str:
    """What the stock client says."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OS_")}
    environment |= {
        "OS_AUTH_URL": keystone.url, "OS_USERNAME": user, "OS_PASSWORD": keystone.password,
        "OS_PROJECT_NAME": project, "OS_USER_DOMAIN_ID": "default", "OS_PROJECT_DOMAIN_ID": "default",
        "OS_REGION_NAME": "RegionOne", "OS_INTERFACE": "public",
    }  # fmt: skip
    argv = [sys.executable, "-m", "openstackclient.shell", *words.split()]
    done = subprocess.run(argv, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def stock_client(api: Api) -> Any:
    return lambda user, project, words: openstack_command(api.keystone, user, project, words)

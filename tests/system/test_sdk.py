"""openstacksdk's own functional tests for the load balancer, as they are in the installed package."""

import ast
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from standalone import Api, Standalone
from support import eventually

pytestmark = [pytest.mark.system, pytest.mark.root]

_MODULE = "openstack.tests.functional.load_balancer.v2.test_load_balancer"
_CASE = "TestLoadBalancer"
_ALONE = {"test_quota_update"}  # sets every project's quota, and reads it back
_AT_ONCE = 29  # each waits some 25 s in all, and works less than one


def _names() -> list[str]:
    """Read from the source: importing it wants a cloud."""
    spec = importlib.util.find_spec(_MODULE)
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text())
    (case,) = (n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == _CASE)
    return [n.name for n in case.body if isinstance(n, ast.FunctionDef) and n.name.startswith("test_")]


@contextmanager
def _projects(admin: Api, number: int) -> Iterator[list[str]]:
    """Names of projects in which the user admin is admin, too."""
    user, role = (
        next(i["id"] for i in admin.ask("GET", f"/identity/v3/{kind}").body[kind] if i["name"] == "admin")
        for kind in ("users", "roles")
    )
    made = [admin.post("/identity/v3/projects", {"project": {"name": f"sdk-{n}"}}) for n in range(number)]
    for project in made:
        path = f"/identity/v3/projects/{project['id']}/users/{user}/roles/{role}"
        assert admin.ask("PUT", path).status == 204
    yield [p["name"] for p in made]
    for project in made:
        admin.delete(f"/identity/v3/projects/{project['id']}")


def _clouds(standalone: Standalone, projects: list[str]) -> str:
    """A clouds.yaml (JSON is YAML, too) with the names that the tests look for, and one for each project."""

    def cloud(user: str, project: str) -> dict[str, object]:
        return {
            "auth": {
                "auth_url": f"http://127.0.0.1:{standalone.port}/identity", "username": user,
                "password": standalone.secrets[f"{user.upper()}_PASSWORD"], "project_name": project,
                "user_domain_id": "default", "project_domain_id": "default",
            },
            "region_name": "RegionOne",
        }  # fmt: skip

    known = {"devstack-admin": "admin", "devstack-system-admin": "admin", "devstack": "demo", "devstack-alt": "demo"}
    clouds = {name: cloud(user, user) for name, user in known.items()}
    return json.dumps({"clouds": clouds | {project: cloud("admin", project) for project in projects}})


@pytest.fixture(scope="module")
def outcomes(
    request: pytest.FixtureRequest, standalone: Standalone, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """Those tests that were asked for, all run; a file for each with what was wrong."""
    items = [i for i in request.session.items if isinstance(i, pytest.Function) and i.path == request.path]
    names = [i.callspec.params["name"] for i in items if hasattr(i, "callspec")]
    directory = tmp_path_factory.mktemp("outcomes")
    with _projects(standalone.admin(), min(_AT_ONCE, len(names))) as projects:
        clouds = tmp_path_factory.mktemp("clouds") / "clouds.yaml"
        clouds.write_text(_clouds(standalone, projects))
        environment = {
            "PATH": os.environ["PATH"], "HOME": str(directory), "OS_CLIENT_CONFIG_FILE": str(clouds),
            "OPENSTACKSDK_IMAGE": "amphora-x64-haproxy", "OS_TEST_TIMEOUT": "500", "OS_LOG_CAPTURE": "1",
            "PYTHONWARNINGS": "ignore",
        }  # fmt: skip
        words = [sys.executable, str(Path(__file__).with_name("sdk_runner.py")), f"{_MODULE}.{_CASE}"]
        marked = [f"{n}!" if n in _ALONE else n for n in names]
        done = subprocess.run(
            [*words, str(directory), *projects], input="\n".join(marked), text=True, env=environment,
            capture_output=True, timeout=900, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        yield directory


def test_there_are_as_many_as_we_know_of() -> None:
    assert len(_names()) == 58


@pytest.mark.parametrize("name", _names())
def test_of_the_sdk(outcomes: Path, name: str) -> None:
    said = (outcomes / name).read_text()
    assert said == "", said


@pytest.mark.usefixtures("outcomes")
def test_they_leave_nothing_behind(standalone: Standalone) -> None:
    eventually(standalone.nothing_left_over)

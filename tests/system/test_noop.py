"""The control plane alone: ./try with drivers that do nothing."""

import secrets
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from databases import Server, server
from standalone import ROOT, Api, Standalone, free_port, installation, run
from support import eventually

from colonnade import supervisor

pytestmark = [pytest.mark.system, pytest.mark.root]

SETTINGS = """
[drivers]
compute = noop
network = noop
amphora = noop
[api_settings]
processes = 2
"""
SUBNET = "12345678-0000-4000-8000-000000000000"


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standalone]:
    settings = tmp_path_factory.mktemp("noop") / "noop.conf"
    settings.write_text(SETTINGS)
    with installation("--config", str(settings)) as made:
        yield made


def _owners(standalone: Standalone) -> dict[str, int]:
    """Programs and the users they run as."""
    pids = {f.stem: supervisor.running(f) for f in (standalone.state / "run").glob("*.pid")}
    return {name: Path(f"/proc/{pid}").stat().st_uid for name, pid in pids.items()}


def test_a_load_balancer_is_active_with_no_agent_and_no_namespace(alone: Standalone) -> None:
    admin = alone.admin()
    body = {"name": "nowhere", "vip_subnet_id": SUBNET}
    lb = admin.until_active(admin.post("lbaas/loadbalancers", {"loadbalancer": body})["id"])
    assert (lb["vip_subnet_id"], lb["operating_status"]) == (SUBNET, "OFFLINE")
    assert len(admin.get(f"/load-balancer/v2/octavia/amphorae?loadbalancer_id={lb['id']}")) == 1
    assert alone.namespaces() == set()
    owners = _owners(alone)
    assert {name for name, user in owners.items() if user == 0} == {"keeper", "up"}
    assert owners.keys() == {"keeper", "up", "api", "api-2", "worker", "health-manager", "housekeeping"}
    said = run(str(alone.state / "bin" / "colonnade"), "status").stdout
    assert "api-2" in said and "agent" not in said and "NOT RUNNING" not in said
    admin.delete(f"lbaas/loadbalancers/{lb['id']}")
    admin.until_gone(lb["id"])


def test_each_api_process_answers_while_the_other_is_gone(alone: Standalone) -> None:
    for name in ("api", "api-2"):
        before = alone.pid(name)
        alone.kill(name)
        for _ in range(20):
            assert Api(alone.port).ask("GET", "/").status == 200
        eventually(
            lambda name=name, before=before: supervisor.running(alone.state / f"run/{name}.pid") not in (0, before)
        )


def test_mariadb_goes_away_and_comes_back(tmp_path: Path) -> None:
    with server("mariadb") as database:
        settings = tmp_path / "mariadb.conf"
        settings.write_text(f"{SETTINGS}[database]\nconnection = {database.create('colonnade')}\n")
        with installation("--config", str(settings)) as made:
            _life_with(made, database)


def test_a_database_that_does_not_answer_is_told_at_the_start(tmp_path: Path) -> None:
    settings = tmp_path / "mariadb.conf"
    url = f"mysql+pymysql://colonnade:secret-word@127.0.0.1:{free_port()}/colonnade"
    settings.write_text(f"{SETTINGS}[database]\nconnection = {url}\n")
    made = Standalone(Path(f"/tmp/cln{secrets.token_hex(3)}"), free_port(), ("--config", str(settings)))
    words = ("--state", str(made.state), "--port", str(made.port), *made.options)
    try:
        done = run(str(ROOT / "try"), *words, check=False)
        assert done.returncode == 1
        assert "the database does not do what is asked of it" in done.stderr
        assert "Traceback" not in done.stderr and "secret-word" not in done.stderr + made.logs()
    finally:
        made.stop("--purge")


def _life_with(made: Standalone, database: Server) -> None:
    admin, body = made.admin(), {"loadbalancer": {"name": "lb", "vip_subnet_id": SUBNET}}
    lb = admin.until_active(admin.post("lbaas/loadbalancers", body)["id"])
    pids = {name: made.pid(name) for name in ("api", "api-2", "worker", "health-manager", "housekeeping")}
    database.stop(signal.SIGKILL)
    for method, path in (("GET", f"lbaas/loadbalancers/{lb['id']}"), ("POST", "lbaas/loadbalancers")):
        reply = admin.ask(method, path, body if method == "POST" else None)
        assert (reply.status, reply.body["faultstring"]) == (503, "The database does not answer. Please try again.")
    database.start()
    # Each process may answer one more request by a connection that it has used within the last second.
    eventually(lambda: {admin.ask("GET", "lbaas/loadbalancers").status for _ in range(20)} == {200})
    assert admin.loadbalancer(lb["id"])["provisioning_status"] == "ACTIVE"
    other = eventually(lambda: admin.ask("POST", "lbaas/loadbalancers", body).body.get("loadbalancer"))
    admin.until_active(other["id"])
    admin.delete(f"lbaas/loadbalancers/{lb['id']}")
    admin.until_gone(lb["id"])
    assert pids == {name: made.pid(name) for name in pids}, made.logs()


def test_the_demo_is_refused_without_an_agent(tmp_path: Path) -> None:
    settings = tmp_path / "noop.conf"
    settings.write_text(SETTINGS)
    state, port = f"/var/tmp/colonnade-{tmp_path.name}", str(free_port())
    words = ("--state", state, "--port", port, "--demo", "--config", str(settings))
    done = run(str(ROOT / "try"), *words, check=False)
    assert done.returncode == 1
    assert "--demo needs the agent" in done.stderr

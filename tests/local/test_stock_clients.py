"""The stock client and SDK against the small cloud, over HTTP."""

import base64
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from small_cloud import Cloud, serving, settings_of
from sqlalchemy import insert
from stock_client import Client

from colonnade.clock import SystemClock, utc
from colonnade.local import setup
from colonnade.model import Amphora
from colonnade.store.rows import to_row
from colonnade.store.tables import amphora
from colonnade.types import AmphoraStatus
from tests import pki


@pytest.fixture
def served(build: Callable[..., Cloud], monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """A cloud on a port of its own, with a clouds.yaml that says where; it has one amphora."""
    cloud = build(SystemClock(), auth_strategy="noauth")
    with serving(cloud) as port:
        settings = settings_of(cloud.settings.state, bind_port=port, auth_strategy="noauth")
        setup.ensure(settings, cloud.store, SystemClock())
        monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(cloud.settings.state / "secrets" / "clouds.yaml"))
        for name in [n for n in os.environ if n.startswith("OS_") and n != "OS_CLIENT_CONFIG_FILE"]:
            monkeypatch.delenv(name)
        subnet = cloud.network.subnet(cloud.client("demo").subnet("private-subnet")["id"])
        assert subnet is not None
        cloud.network.ensure_plugged("a1", [subnet])
        row = Amphora(id="a1", loadbalancer_id="lb", status=AmphoraStatus.ALLOCATED, created_at=utc(0))
        with cloud.store.write() as conn:
            conn.execute(insert(amphora).values(to_row(row)))
        yield cloud


class Shell:
    """The stock client, kept running."""

    def __init__(self) -> None:
        self.client = Client()

    def __call__(self, cloud: str, command: str, fails: bool = False) -> Any:
        """Run one command; its parsed output, or what it says when it fails."""
        return self.client.shown("--os-cloud", cloud, *command.split(), fails=fails)


@pytest.fixture
def openstack(served: Cloud) -> Iterator[Shell]:
    shell = Shell()
    yield shell
    shell.client.close()


@pytest.mark.usefixtures("served")
def test_the_program_itself() -> None:
    beside = Path(sys.executable).with_name("openstack")
    found = str(beside) if beside.exists() else shutil.which("openstack")
    assert found, "python-openstackclient is not installed"
    argv = [found, "--os-cloud", "colonnade", "token", "issue", "-f", "value", "-c", "id"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    assert len(done.stdout.strip()) == 120


def test_the_operators_commands(openstack: Shell) -> None:
    assert openstack("colonnade", "token issue -f json")["id"]
    types = {s["Type"] for s in openstack("colonnade", "catalog list -f json")}
    assert types == {"identity", "load-balancer", "network", "compute", "image", "key-manager"}
    projects = {p["Name"] for p in openstack("colonnade", "project list -f json")}
    assert projects == {"admin", "demo", "service"}
    assert {u["Name"] for u in openstack("colonnade", "user list -f json")} == {"admin", "demo"}
    assert openstack("colonnade", "role assignment list --names -f json")
    (server,) = openstack("colonnade", "server list --all -f json")
    assert (server["Name"], server["Flavor"], server["Networks"]) == (
        "amphora-a1",
        "amphora",
        {"private": ["10.64.0.2"]},
    )
    assert openstack("colonnade", "server show a1 -f json")["name"] == "amphora-a1"


@pytest.mark.parametrize("cloud", ["colonnade-demo", "colonnade-noauth"])
def test_the_network_sequence(openstack: Shell, cloud: str) -> None:
    network = openstack(cloud, "network create net1 --tag red -f json")
    assert network["status"] == "ACTIVE"
    subnet = openstack(
        cloud,
        "subnet create --network net1 --subnet-range 10.90.0.0/24 --gateway 10.90.0.9 --no-dhcp "
        "--allocation-pool start=10.90.0.20,end=10.90.0.30 sub1 -f json",
    )
    assert subnet["allocation_pools"] == [{"start": "10.90.0.20", "end": "10.90.0.30"}]
    six = openstack(
        cloud, "subnet create --network net1 --ip-version 6 --subnet-range 2001:db8:9::/64 --no-dhcp six -f json"
    )
    assert six["gateway_ip"] == "2001:db8:9::1"
    refused = openstack(cloud, "subnet create --network net1 --subnet-range 10.90.0.128/25 sub2", fails=True)
    assert "overlaps with subnet sub1 (10.90.0.0/24)" in refused
    assert "DHCP" in openstack(cloud, "subnet create --network net1 --subnet-range 10.91.0.0/24 --dhcp s", fails=True)
    port = openstack(cloud, "port create --network net1 --fixed-ip subnet=sub1,ip-address=10.90.0.77 port1 -f json")
    assert port["fixed_ips"][0]["ip_address"] == "10.90.0.77"
    floating = openstack(cloud, "floating ip create public -f json")["floating_ip_address"]
    openstack(cloud, f"floating ip set --port port1 {floating}")
    (listed,) = [f for f in openstack(cloud, "floating ip list -f json") if f["Floating IP Address"] == floating]
    assert listed["Fixed IP Address"] == "10.90.0.77"
    assert openstack(cloud, f"floating ip show {floating} -f json")["status"] == "ACTIVE"
    assert "in use" in openstack(cloud, "network delete net1", fails=True)
    openstack(cloud, f"floating ip unset --port {floating}")
    openstack(cloud, f"floating ip delete {floating}")
    openstack(cloud, "port delete port1")
    openstack(cloud, "subnet delete sub1 six")
    openstack(cloud, "network delete net1")


def test_the_sdk(served: Cloud) -> None:
    import openstack as sdk

    for name in ("colonnade", "colonnade-noauth"):
        conn = sdk.connect(cloud=name)
        network = conn.network.create_network(name="n")
        subnet = conn.network.create_subnet(network_id=network.id, cidr="10.90.0.0/24", ip_version=4)
        port = conn.network.create_port(network_id=network.id, fixed_ips=[{"subnet_id": subnet.id}])
        assert conn.network.find_network("n").id == network.id
        assert [p.id for p in conn.network.ports(fixed_ips=f"ip_address={port.fixed_ips[0]['ip_address']}")] == [
            port.id
        ]
        floating = conn.create_floating_ip(network="public")
        floating = conn.network.update_ip(floating.id, port_id=port.id)
        assert floating.fixed_ip_address == "10.90.0.2"
        assert [i.id for i in conn.network.ips(port_id=port.id)] == [floating.id]
        assert len(list(conn.network.networks(limit=1))) == 3
        assert [s.name for s in conn.compute.servers(all_projects=True)] == ["amphora-a1"]
        assert [i.name for i in conn.image.images(tag="amphora")] == ["amphora-x64-haproxy"]
        conn.network.delete_ip(floating)
        conn.network.delete_port(port)
        conn.network.delete_network(network)
        assert conn.network.find_network("n") is None
    assert "fabric" in served.bell.rung


def test_tenants_are_made_and_unmade(openstack: Shell) -> None:
    def run(command: str, **more: Any) -> Any:
        return openstack("colonnade", command, **more)

    project = run("project create red --description Tenants -f json")
    assert (project["name"], project["description"], project["enabled"]) == ("red", "Tenants", True)
    assert run("project create red --or-show -f json")["id"] == project["id"]
    user = run("user create alice --password secret --project red --email a@example.org --domain Default -f json")
    assert (user["default_project_id"], user["email"]) == (project["id"], "a@example.org")
    assert run("role create editor -f json")["name"] == "editor"
    for role in ("member", "editor"):
        run(f"role add --user alice --project red {role}")
    listed = run("role assignment list --user alice --project red --names -f json")
    assert {(a["Role"], a["User"], a["Project"]) for a in listed} == {
        ("member", "alice@Default", "red@Default"), ("editor", "alice@Default", "red@Default"),
    }  # fmt: skip
    run("role remove --user alice --project red editor")
    run("role delete editor")
    assert {r["Name"] for r in run("role list -f json")} == {"admin", "member", "reader"}
    assert "alice" in {u["Name"] for u in run("user list -f json")}
    as_alice = "--os-username alice --os-password {} --os-project-name red {}"
    assert openstack("colonnade", as_alice.format("secret", "network list -f json"))
    openstack("colonnade", as_alice.format("secret", "user list"), fails=True)
    openstack("colonnade", as_alice.format("secret", "user password set --original-password secret --password newer"))
    openstack("colonnade", as_alice.format("secret", "token issue"), fails=True)
    run("user set alice --password newest --disable")
    openstack("colonnade", as_alice.format("newest", "token issue"), fails=True)
    run("user set alice --enable")
    assert openstack("colonnade", as_alice.format("newest", "token issue -f json"))["id"]
    run("project set red --name crimson --description Others")
    shown = run("project show crimson -f json")
    assert (shown["id"], shown["description"]) == (project["id"], "Others")
    assert "tags" in run("project create x --tag t", fails=True)
    assert "options" in run("project create x --immutable", fails=True)
    assert "colour" in run("project create x --property colour=red", fails=True)
    assert "parent_id" in run("project create x --parent crimson", fails=True)
    assert "Default" in run("domain create x", fails=True)
    run("user delete alice")
    run("project delete crimson")
    assert "crimson" not in {p["Name"] for p in run("project list -f json")}


def test_secrets_by_the_stock_commands(openstack: Shell, tmp_path: Path) -> None:
    bundle = tmp_path / "server.p12"
    bundle.write_bytes(pki.authority().issue("www.test").p12())
    text = base64.b64encode(bundle.read_bytes()).decode()
    cloud = "colonnade-demo"
    typed = "--payload-content-type application/octet-stream --payload-content-encoding base64"
    stored = openstack(cloud, f"secret store -f json --name tls {typed} --payload {text}")
    ref = stored["Secret href"]
    assert openstack(cloud, f"secret get -f json {ref}")["Name"] == "tls"
    out = tmp_path / "out.p12"
    openstack(cloud, f"secret get {ref} --payload_content_type application/octet-stream --file {out}")
    assert out.read_bytes() == bundle.read_bytes()
    assert [s["Secret href"] for s in openstack(cloud, "secret list -f json")] == [ref]
    assert openstack(cloud, "secret list --name other -f json") in ([], "[]\n", "\n")
    parts = {}
    for name in ("certificate", "private_key"):
        parts[name] = openstack(cloud, f"secret store -f json --name {name} --payload {name}")["Secret href"]
    assert openstack(cloud, f"secret get -f json --payload {parts['certificate']}")["Payload"] == "certificate"
    words = " ".join(f"--secret {n}={r}" for n, r in parts.items())
    made = openstack(cloud, f"secret container create -f json --name c --type certificate {words}")["Container href"]
    # Its own times are no JSON.
    assert openstack(cloud, f"secret container get -f value -c Type {made}").strip() == "certificate"
    assert made in openstack(cloud, "secret container list -f value")
    openstack(cloud, f"secret container delete {made}")
    openstack(cloud, f"acl submit -f value --user somebody {ref}")
    assert "somebody" in openstack(cloud, f"acl get -f csv {ref}")
    openstack(cloud, f"acl user add -f value --user another {ref}")
    assert "another" in openstack(cloud, f"acl get -f csv {ref}")
    openstack(cloud, f"acl delete {ref}")
    consumer = "--service-type-name compute --resource-type server --resource-id 1"
    openstack(cloud, f"secret consumer create {consumer} {ref}")
    assert openstack(cloud, f"secret consumer list -f json {ref}")[0]["Service"] == "compute"
    openstack(cloud, f"secret delete {ref}", fails=True)
    openstack(cloud, f"secret consumer delete {consumer} {ref}")
    for one in (ref, *parts.values()):
        openstack(cloud, f"secret delete {one}")
    assert openstack(cloud, f"secret get {ref}", fails=True)

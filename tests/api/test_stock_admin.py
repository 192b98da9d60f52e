"""The stock client's commands for operators against the whole API over HTTP, with a worker behind it."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openstack as sdk
import pytest
from sqlalchemy import insert, update
from stock_client import Client
from support import PATIENCE_S, eventually
from waitress.server import create_server

from colonnade.api.app import make_wsgi
from colonnade.clock import SystemClock
from colonnade.drivers.doorbell import MemoryDoorbell
from colonnade.drivers.fake import Cloud
from colonnade.local import setup
from colonnade.local.network import LocalNetwork
from colonnade.settings import ApiSettings, Default, Settings
from colonnade.store import tables
from colonnade.store.store import Store
from colonnade.worker.loop import Worker

pytestmark = pytest.mark.any_database


@pytest.fixture
def served(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """Everything but hosts: amphorae are in memory."""
    clock, doorbell, cloud, stop = SystemClock(), MemoryDoorbell(), Cloud(), threading.Event()
    network = LocalNetwork(store, clock)
    (tmp_path / "secrets").mkdir()

    def settings(port: int) -> Settings:
        return Settings(default=Default(state_path=str(tmp_path)), api_settings=ApiSettings(bind_port=port))

    setup.ensure(settings(1), store, clock)
    app = make_wsgi(settings=settings(1), store=store, network=network, doorbell=doorbell, clock=clock)
    server: Any = create_server(app, host="127.0.0.1", port=0, threads=4)
    setup.ensure(settings(server.effective_port), store, clock)
    app = make_wsgi(
        settings=settings(server.effective_port), store=store, network=network, doorbell=doorbell, clock=clock
    )  # fmt: skip
    server.application = app
    worker = Worker(
        settings=settings(1), store=store, network=network, compute=cloud, link=cloud, doorbell=doorbell, clock=clock,
        fabric=None,
    )  # fmt: skip
    threads = [threading.Thread(target=server.run, daemon=True), threading.Thread(target=worker.run, args=(stop,))]
    for thread in threads:
        thread.start()
    for name in [n for n in os.environ if n.startswith("OS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(tmp_path / "secrets" / "clouds.yaml"))
    yield cloud
    stop.set()
    server.close()
    threads[1].join(PATIENCE_S)


class Shell:
    """The stock client, kept running, as the operator."""

    def __init__(self) -> None:
        self.client = Client()

    def __call__(self, command: str, *more: str, fails: bool = False) -> Any:
        """Run one command; what it shows, or what it says when it fails."""
        return self.client.shown("--os-cloud", "colonnade", "loadbalancer", *command.split(), *more, fails=fails)


@pytest.fixture
def openstack(served: Cloud) -> Iterator[Shell]:
    shell = Shell()
    yield shell
    shell.client.close()


def test_quotas(openstack: Shell) -> None:
    assert openstack("quota defaults show -f json")["load_balancer"] == -1
    openstack(
        "quota set demo --loadbalancer 5 --listener 6 --pool 7 --member 8 --healthmonitor 9 --l7policy 10 --l7rule 11"
    )
    shown = openstack("quota show demo -f json")
    assert shown == {
        "load_balancer": 5, "listener": 6, "pool": 7, "member": 8, "health_monitor": 9, "l7policy": 10, "l7rule": 11,
    }  # fmt: skip
    (row,) = openstack("quota list -f json")
    assert {k: v for k, v in row.items() if k != "project_id"} == shown
    assert openstack("quota list --project demo -f json") == [row]
    openstack("quota unset demo --loadbalancer --member")
    assert openstack("quota show demo -f json") == {**shown, "load_balancer": -1, "member": -1}
    openstack("quota reset demo")
    assert set(openstack("quota show demo -f json").values()) == {-1}
    openstack("quota reset admin", fails=True)
    openstack("quota set admin --loadbalancer 0")
    refused = openstack("create --vip-subnet-id private-subnet --project admin", fails=True)
    assert "Quota has been met for resources: Load Balancer" in refused


def test_flavors_and_zones(openstack: Shell, served: Cloud) -> None:
    openstack("flavorprofile create --name fp --provider amphora --flavor-data", '{"compute_flavor": "amphora"}')
    openstack("flavorprofile set fp --name fp2 --flavor-data", '{"loadbalancer_topology": "SINGLE"}')
    assert openstack("flavorprofile show fp2 -f json")["flavor_data"] == '{"loadbalancer_topology": "SINGLE"}'
    assert openstack("flavorprofile list --provider amphora -f json")[0]["name"] == "fp2"
    said = openstack(
        "flavorprofile create --name x --provider amphora --flavor-data", '{"compute_flavor": "huge"}', fails=True
    )
    assert "Compute flavor huge not found" in said
    openstack("flavor create --name gold --flavorprofile fp2 --description shiny")
    openstack("flavor set gold --disable")
    openstack("flavor unset gold --description")
    shown = openstack("flavor show gold -f json")
    assert (shown["enabled"], shown["description"]) == (False, "")
    assert openstack("flavor list --flavorprofile fp2 --disable -f json")[0]["name"] == "gold"
    openstack("flavor set gold --enable --name golden")
    assert "in use" in openstack("flavorprofile delete fp2", fails=True)
    data = '{"compute_zone": "nova"}'
    openstack("availabilityzoneprofile create --name zp --provider amphora --availability-zone-data", data)
    openstack("availabilityzoneprofile set zp --name zp2")
    assert openstack("availabilityzoneprofile show zp2 -f json")["availability_zone_data"] == data
    assert len(openstack("availabilityzoneprofile list --name zp2 -f json")) == 1
    openstack("availabilityzone create --name north --availabilityzoneprofile zp2 --description cold")
    openstack("availabilityzone set north --disable --description colder")
    assert openstack("availabilityzone show north -f json")["description"] == "colder"
    openstack("availabilityzone unset north --description")
    openstack("availabilityzone set north --enable")
    (row,) = openstack("availabilityzone list --availabilityzoneprofile zp2 -f json")
    assert (row["name"], row["enabled"]) == ("north", True)
    made = "create --name lb --vip-subnet-id private-subnet --flavor golden --availability-zone north --wait -f json"
    lb = openstack(made)
    assert (lb["availability_zone"], lb["provisioning_status"]) == ("north", "ACTIVE")
    assert openstack("list --availability-zone north --flavor golden -f json")[0]["id"] == lb["id"]
    (amphora,) = openstack("amphora list --long -f json")
    assert amphora["cached_zone"] == "nova"
    assert "in use" in openstack("flavor delete golden", fails=True)
    openstack("delete lb --wait")
    openstack("flavor delete golden")
    openstack("flavorprofile delete fp2")
    openstack("availabilityzone delete north")
    openstack("availabilityzoneprofile delete zp2")
    eventually(lambda: served.places == {})


def test_providers(openstack: Shell) -> None:
    assert {p["name"] for p in openstack("provider list -f json")} == {"amphora", "octavia"}
    found = openstack("provider capability list amphora -f json")
    assert {"flavor", "availability_zone"} == {c["type"] for c in found}
    assert "loadbalancer_topology" in {
        c["name"] for c in openstack("provider capability list amphora --flavor -f json")
    }


def test_amphorae(openstack: Shell, served: Cloud, store: Store) -> None:
    lb = openstack("create --name lb --vip-subnet-id private-subnet --wait -f json")
    (first,) = openstack("amphora list --loadbalancer lb --role STANDALONE --status ALLOCATED -f json")
    assert openstack(f"amphora show {first['id']} -f json")["loadbalancer_id"] == lb["id"]
    openstack(f"amphora configure {first['id']} --wait")
    listeners = ["1" * 36, "2" * 36]
    counted = {f"{part}_{c}": 2 for part in ("base", "last")
               for c in ("bytes_in", "bytes_out", "total_connections", "request_errors")}  # fmt: skip
    with store.write() as conn:
        for id in listeners:
            row = {"listener_id": id, "amphora_id": first["id"], "loadbalancer_id": lb["id"], "epoch": "e"}
            conn.execute(insert(tables.listener_statistics).values(**row, active_connections=1, **counted))
    assert openstack(f"amphora stats show {first['id']} -f json")["bytes_in"] == 8
    openstack(f"amphora failover {first['id']} --wait")

    def another(than: Any) -> Any:
        """The one amphora that is left, when it is another one."""
        found = openstack("amphora list --status ALLOCATED -f json")
        return found[0] if [a["id"] for a in found] == list(served.places) != [than["id"]] else None

    second = eventually(lambda: another(first))
    assert "immutable" in openstack(f"amphora delete {second['id']}", fails=True)
    with store.write() as conn:
        conn.execute(update(tables.amphora).values(status="ERROR"))
    openstack(f"amphora delete {second['id']} --wait")
    eventually(lambda: another(second))
    openstack("delete lb --cascade --wait")


@pytest.mark.usefixtures("served")
@pytest.mark.filterwarnings("ignore")  # openstacksdk's own, of its own future
def test_the_sdk() -> None:
    cloud = sdk.connect("colonnade").load_balancer
    project = sdk.connect("colonnade").current_project_id
    quota = cloud.update_quota(project, load_balancers=3, pools=4)
    assert (quota.id, quota.load_balancers, quota.pools) == (project, 3, 4)
    (listed,) = cloud.quotas()
    cloud.update_quota(listed, load_balancers=12345)
    assert cloud.get_quota(project).load_balancers == 12345
    assert cloud.get_quota_default().pools == -1
    cloud.delete_quota(project)
    profile = cloud.create_availability_zone_profile(
        name="zp", provider_name="amphora", availability_zone_data='{"compute_zone": "nova"}'
    )
    zone = cloud.create_availability_zone(name="z", availability_zone_profile_id=profile.id)
    assert cloud.find_availability_zone("z").name == zone.name
    assert cloud.update_availability_zone("z", description="d").description == "d"
    assert [z.name for z in cloud.availability_zones()] == ["z"]
    cloud.delete_availability_zone("z")
    cloud.delete_availability_zone_profile(profile)
    assert any(c["name"] == "loadbalancer_topology" for c in cloud.provider_flavor_capabilities("amphora"))

"""What an administrator asks of one amphora, and what the loop makes of it."""

import dataclasses
from typing import Any

import pytest
from lb_service import Service, nobody_has
from sqlalchemy import insert, select, update

from colonnade.clock import utc
from colonnade.housekeeping.keep import HouseKeeper
from colonnade.model import Amphora
from colonnade.settings import HealthManager
from colonnade.store import rows, tables, work
from colonnade.types import AmphoraStatus
from colonnade.worker.loop import Worker


class Operated(Service):
    """The API, and a worker that takes turns when told to."""

    def work(self) -> None:
        """Turns until nothing is due."""
        cloud = self.cloud
        worker = Worker(
            settings=self.settings, store=self.store, network=cloud, compute=cloud, link=cloud, doorbell=self.doorbell,
            clock=self.clock, fabric=None,
        )  # fmt: skip
        for _ in range(20):
            due = worker.sweep()
            if not due:
                return
            for subject in due:
                worker.turn(subject)
        raise AssertionError("The loop does not come to an end.")

    def amphorae(self, lb: Any) -> list[Any]:
        found = self.get(f"/v2/octavia/amphorae?loadbalancer_id={lb['id']}", by="admin")["amphorae"]
        assert isinstance(found, list)
        return found

    def ask(self, method: str, path: str, expect: int, by: str = "admin") -> Any:
        reply = self.send(method, f"/v2/octavia/amphorae/{path}", by=by)
        assert reply.status_code == expect, reply.text
        return reply.json if reply.text else None

    def sentences(self, lb: Any) -> list[str]:
        return [e["sentence"] for e in self.get(f"loadbalancers/{lb['id']}/events")["events"]]

    def set(self, amphora_id: str, **values: Any) -> None:
        with self.store.write() as conn:
            conn.execute(update(tables.amphora).where(tables.amphora.c.id == amphora_id).values(values))


@pytest.fixture
def service(store: Any) -> Operated:
    return Operated(store)


@pytest.fixture
def lb(service: Operated) -> Any:
    made = service.load_balancer(listeners=[{"protocol": "HTTP", "protocol_port": 80}])
    service.work()
    return service.get(f"loadbalancers/{made['id']}")["loadbalancer"]


def test_failover_replaces_the_amphora(service: Operated, lb: Any) -> None:
    (old,) = service.amphorae(lb)
    service.ask("PUT", f"{old['id']}/failover", 202)
    assert service.statuses(f"loadbalancers/{lb['id']}") == ["PENDING_UPDATE"]
    service.ask("PUT", f"{old['id']}/failover", 202)  # its successor is wanted already
    service.work()
    (new,) = service.amphorae(lb)
    assert (new["id"] != old["id"], new["status"]) == (True, "ALLOCATED")
    assert service.cloud.held == {lb["vip_address"]: new["id"]}
    assert service.statuses(f"loadbalancers/{lb['id']}") == ["ACTIVE"]
    assert f"Asked to replace amphora {old['id']}." in service.sentences(lb)
    with service.store.read() as conn:
        assert conn.execute(select(tables.load_balancer.c.incarnation)).scalar_one() == 2
    service.ask("PUT", f"{old['id']}/failover", 404)


def test_configuration_is_pushed_when_settings_are_others(service: Operated, lb: Any) -> None:
    (amphora,) = service.amphorae(lb)
    before = len(service.cloud.pushes)
    service.ask("PUT", f"{amphora['id']}/config", 202)
    assert service.statuses(f"loadbalancers/{lb['id']}") == ["ACTIVE"]
    service.work()
    assert len(service.cloud.pushes) == before
    section = HealthManager(heartbeat_interval_s=1.5, controller_ip_port_list=("10.0.0.1:5555",))
    service.settings = dataclasses.replace(service.settings, health_manager=section)
    service.ask("PUT", f"{amphora['id']}/config", 202)
    service.work()
    bundle = service.cloud.places[amphora["id"]].bundle
    assert bundle is not None
    assert (bundle.heartbeat_interval, bundle.heartbeat_targets) == (1.5, ("10.0.0.1:5555",))
    assert len(service.cloud.pushes) == before + 1
    assert f"Asked to configure amphora {amphora['id']} anew." in service.sentences(lb)


def test_only_an_amphora_in_error_is_deleted(service: Operated, lb: Any) -> None:
    (old,) = service.amphorae(lb)
    refused = service.ask("DELETE", old["id"], 409)["faultstring"]
    assert refused.startswith(f"amphora {old['id']} is immutable and cannot be updated.")
    service.set(old["id"], status="ERROR")
    service.ask("DELETE", old["id"], 204)
    assert [a["status"] for a in service.amphorae(lb)] == ["PENDING_DELETE"]
    assert set(service.cloud.places) == {old["id"]}  # the loop takes it away, when another serves
    service.work()
    (new,) = service.amphorae(lb)
    assert (new["status"], set(service.cloud.places)) == ("ALLOCATED", {new["id"]})
    assert new["id"] != old["id"]
    assert f"Asked to delete amphora {old['id']}." in service.sentences(lb)


def test_one_without_a_load_balancer_goes_by_housekeeping(service: Operated) -> None:
    spare = Amphora(id=nobody_has("5"), loadbalancer_id=None, status=AmphoraStatus.READY, created_at=utc(0))
    with service.store.write() as conn:
        conn.execute(insert(tables.amphora).values(rows.to_row(spare)))
    service.cloud.ensure(spare.id, "")
    keeper = HouseKeeper(
        settings=service.settings, store=service.store, network=service.cloud, compute=service.cloud,
        doorbell=service.doorbell, clock=service.clock,
    )  # fmt: skip
    service.ask("DELETE", spare.id, 409)
    service.ask("PUT", f"{spare.id}/failover", 404)
    service.ask("PUT", f"{spare.id}/config", 404)
    service.set(spare.id, status="ERROR")
    service.ask("DELETE", spare.id, 204)
    keeper.sweep()
    service.clock.sleep(100)
    keeper.sweep()
    assert service.cloud.places == {}
    service.ask("GET", spare.id, 404)


def test_nothing_is_asked_of_what_is_being_deleted(service: Operated, lb: Any) -> None:
    (amphora,) = service.amphorae(lb)
    service.set(amphora["id"], status="ERROR")
    service.delete(f"loadbalancers/{lb['id']}?cascade=true")
    for method, path in (("PUT", "/failover"), ("PUT", "/config"), ("DELETE", "")):
        service.ask(method, f"{amphora['id']}{path}", 409)
    service.work()
    assert service.amphorae(lb) == []


def test_what_is_not_there_and_who_may_ask(service: Operated, lb: Any) -> None:
    (amphora,) = service.amphorae(lb)
    for method, path in (("PUT", "/failover"), ("PUT", "/config"), ("DELETE", ""), ("GET", "/stats"), ("GET", "")):
        for missing in (nobody_has(), "some-name"):
            service.ask(method, f"{missing}{path}", 404)
        for by in ("alice", "reader"):
            service.ask(method, f"{amphora['id']}{path}", 403, by)
    with service.store.read() as conn:
        generation = work.generation(conn, lb["id"])
    assert generation == 1


def test_statistics_are_a_list_by_listener(service: Operated, lb: Any) -> None:
    (amphora,) = service.amphorae(lb)
    assert "not found" in service.ask("GET", f"{amphora['id']}/stats", 404)["faultstring"]
    counted = {f"{part}_{c}": 1 for part in ("base", "last") for c in tables.COUNTERS}
    with service.store.write() as conn:
        for n in (1, 2):
            row = {"listener_id": nobody_has(str(n)), "amphora_id": amphora["id"], "loadbalancer_id": lb["id"]}
            conn.execute(insert(tables.listener_statistics).values(**row, epoch="e", active_connections=n, **counted))
    found = service.ask("GET", f"{amphora['id']}/stats", 200)["amphora_stats"]
    assert [(s["listener_id"], s["active_connections"], s["bytes_in"]) for s in found] == [
        (nobody_has("1"), 1, 2), (nobody_has("2"), 2, 2),
    ]  # fmt: skip
    assert {s["id"] for s in found} == {amphora["id"]}


def test_amphorae_are_made_as_flavor_and_zone_say(service: Operated) -> None:
    data = {"flavorprofile": {"name": "p", "provider_name": "amphora", "flavor_data": '{"compute_flavor": "big"}'}}
    profile = service.post("flavorprofiles", data, by="admin")["flavorprofile"]["id"]
    flavor = {"flavor": {"name": "f", "flavor_profile_id": profile}}
    flavor_id = service.post("flavors", flavor, by="admin")["flavor"]["id"]
    data = {"name": "p", "provider_name": "amphora", "availability_zone_data": '{"compute_zone": "az2"}'}
    body = {"availability_zone_profile": data}
    profile = service.post("availabilityzoneprofiles", body, by="admin")["availability_zone_profile"]["id"]
    zone = {"availability_zone": {"name": "z", "availability_zone_profile_id": profile}}
    service.post("availabilityzones", zone, by="admin")
    lb = service.load_balancer(flavor_id=flavor_id, availability_zone="z")
    plain = service.load_balancer()
    service.work()
    made = [(a["compute_flavor"], a["cached_zone"]) for a in (*service.amphorae(lb), *service.amphorae(plain))]
    assert made == [("big", "az2"), (None, None)]

"""Quotas: what is told of them, what they refuse, and that they never drift nor let one too many through."""

import dataclasses
import threading
import typing
from typing import Any

import pytest
from lb_service import Service
from sqlalchemy import exc, insert, select

from colonnade.errors import Busy
from colonnade.model import Pool, Quota
from colonnade.store import quotas, tables
from colonnade.store.store import Store

WORDS = [f.name for f in dataclasses.fields(Quota) if f.name != "project_id"]
BOTH = {*WORDS, "load_balancer", "health_monitor"}


def limit(service: Service, **limits: Any) -> Any:
    return service.put("quotas/alice-project", {"quota": limits}, by="admin", expect=202)["quota"]


def met(service: Service, path: str, body: Any, what: str, method: str = "POST") -> None:
    reply = service.send(method, path, body)
    assert (reply.status_code, reply.json["faultstring"]) == (403, f"Quota has been met for resources: {what}")


def test_every_reply_has_both_spellings(service: Service) -> None:
    unlimited = {**dict.fromkeys(BOTH, -1), "project_id": "alice-project", "tenant_id": "alice-project"}
    assert service.get("quotas/alice-project")["quota"] == unlimited
    assert service.get("quotas/alice-project/default")["quota"] == unlimited
    assert service.get("quotas/defaults")["quota"] == {**unlimited, "project_id": "defaults", "tenant_id": "defaults"}
    changed = limit(service, loadbalancer=3, health_monitor=4)
    assert changed == {**unlimited, "loadbalancer": 3, "load_balancer": 3, "healthmonitor": 4, "health_monitor": 4}
    assert service.get("quotas/alice-project")["quota"] == changed
    assert service.get("quotas")["quotas"] == [changed]


def test_defaults_are_settings(service: Service) -> None:
    section = dataclasses.replace(service.settings.quotas, default_pool_quota=7, default_health_monitor_quota=0)
    service.settings = dataclasses.replace(service.settings, quotas=section)
    service.reset()
    assert service.get("quotas/defaults")["quota"]["pool"] == 7
    assert limit(service, pool=9)["health_monitor"] == 0
    assert limit(service, pool=None)["pool"] == 7
    pool = service.pool(service.load_balancer())
    body = {"pool_id": pool["id"], "type": "TCP", "delay": 1, "timeout": 1, "max_retries": 1}
    met(service, "healthmonitors", {"healthmonitor": body}, "Health Monitor")
    limit(service, health_monitor=1)
    service.monitor(pool)


@pytest.mark.parametrize(
    ("given", "expect"),
    [
        ({}, 202), ({"pool": "5"}, 202), ({"pool": 2000000000}, 202), ({"pool": 2000000001}, 400), ({"pool": -2}, 400),
        ({"pool": True}, 400), ({"pool": "many"}, 400), ({"pools": 1}, 400), ({"project_id": "x"}, 400),
        ({"l7policy": 1, "l7rule": 2}, 202), ({"loadbalancer": 1, "load_balancer": 1}, 202),
        ({"loadbalancer": 1, "load_balancer": 2}, 400), ({"healthmonitor": None, "health_monitor": 2}, 400),
    ],
    ids=str,
)  # fmt: skip
def test_a_change_is_checked(service: Service, given: Any, expect: int) -> None:
    service.put("quotas/alice-project", {"quota": given}, by="admin", expect=expect)


def test_who_has_a_row(service: Service) -> None:
    assert service.get("quotas", by="admin")["quotas"] == []
    service.delete("quotas/alice-project", by="admin", expect=404)
    service.load_balancer()
    limit(service, pool=1)
    service.put("quotas/bob-project", {"quota": {"pool": 2}}, by="admin", expect=202)
    listed = {q["project_id"]: q["pool"] for q in service.get("quotas", by="admin")["quotas"]}
    assert listed == {"alice-project": 1, "bob-project": 2}
    assert [q["project_id"] for q in service.get("quotas", by="bob")["quotas"]] == ["bob-project"]
    service.get("quotas?project_id=alice-project", by="bob", expect=403)
    service.delete("quotas/alice-project", by="admin", expect=202)
    assert service.get("quotas/alice-project")["quota"]["pool"] == -1


def test_lists_page_sort_and_choose(service: Service) -> None:
    for n in range(5):
        service.put(f"quotas/p{n}", {"quota": {"pool": n}}, by="admin", expect=202)
    page = service.get("quotas?limit=2&sort=pool:desc&fields=project_id", by="admin")
    assert [q["project_id"] for q in page["quotas"]] == ["p4", "p3"]
    assert page["quotas_links"][0]["href"].endswith("marker=p3")
    page = service.get("quotas?limit=2&sort=pool:desc&marker=p3&fields=load_balancer", by="admin")
    assert page["quotas"] == [{"load_balancer": -1}] * 2
    assert [q["project_id"] for q in service.get("quotas?pool=3", by="admin")["quotas"]] == ["p3"]


def test_roles(service: Service) -> None:
    service.get("quotas/alice-project", by="reader")
    service.get("quotas/alice-project", by="bob", expect=403)
    service.get("quotas/alice-project/default", by="bob", expect=403)
    service.get("quotas/defaults", by="bob")
    service.put("quotas/alice-project", {"quota": {"pool": 1}}, expect=403)
    service.delete("quotas/alice-project", expect=403)
    service.put("quotas/defaults", {"quota": {"pool": 1}}, by="admin", expect=400)
    service.put(f"quotas/{'x' * 65}", {"quota": {"pool": 1}}, by="admin", expect=400)


def test_each_kind_is_limited(service: Service) -> None:
    lb = service.load_balancer()
    pool = service.pool(lb)
    service.listener(lb)
    service.member(pool)
    service.monitor(pool)
    limit(service, loadbalancer=1, listener=1, pool=1, member=1, healthmonitor=1)
    met(service, "loadbalancers", {"loadbalancer": {"vip_subnet_id": service.subnet.id}}, "Load Balancer")
    port = {"loadbalancer_id": lb["id"], "protocol": "HTTP", "protocol_port": 81}
    met(service, "listeners", {"listener": port}, "Listener")
    second = {"loadbalancer_id": lb["id"], "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN"}
    met(service, "pools", {"pool": second}, "Pool")
    place = {"address": "10.2.0.9", "protocol_port": 1}
    met(service, f"pools/{pool['id']}/members", {"member": place}, "Member")
    limit(service, pool=2)
    other = service.pool(lb)
    monitor = {"pool_id": other["id"], "type": "TCP", "delay": 1, "timeout": 1, "max_retries": 1}
    met(service, "healthmonitors", {"healthmonitor": monitor}, "Health Monitor")


def test_a_refused_load_balancer_leaves_nothing(service: Service) -> None:
    limit(service, loadbalancer=0)
    met(service, "loadbalancers", {"loadbalancer": {"vip_subnet_id": service.subnet.id}}, "Load Balancer")
    assert service.cloud.ports == {}
    with service.store.read() as conn:
        assert conn.execute(select(tables.work)).all() == []


@pytest.mark.parametrize(
    ("limits", "what"),
    [
        ({"listener": 1}, "Listener"), ({"pool": 1}, "Pool"), ({"member": 2}, "Member"),
        ({"healthmonitor": 0}, "Health Monitor"), ({"loadbalancer": 0, "pool": 0}, "Load Balancer"),
        ({"listener": 2, "pool": 2, "member": 3, "healthmonitor": 1, "loadbalancer": 1}, None),
    ],
    ids=str,
)  # fmt: skip
def test_a_whole_tree_is_counted(service: Service, limits: Any, what: str | None) -> None:
    limit(service, **limits)
    members = [{"address": f"10.2.0.{n}", "protocol_port": 80} for n in range(1, 4)]
    monitor = {"type": "TCP", "delay": 1, "timeout": 1, "max_retries": 1}
    pool = {"protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN"}
    tree = {
        "vip_subnet_id": service.subnet.id,
        "pools": [{**pool, "name": "a", "members": members, "healthmonitor": monitor}, {**pool, "name": "b"}],
        "listeners": [{"protocol": "HTTP", "protocol_port": p} for p in (80, 81)],
    }
    if what is None:
        service.post("loadbalancers", {"loadbalancer": tree})
    else:
        met(service, "loadbalancers", {"loadbalancer": tree}, what)


def test_a_batch_is_asked_for_its_net_growth(service: Service) -> None:
    pool = service.pool(service.load_balancer())
    path = f"pools/{pool['id']}/members"

    def batch(*last: int) -> Any:
        return {"members": [{"address": f"10.2.0.{n}", "protocol_port": 80} for n in last]}

    service.put(path, batch(1, 2, 3), expect=202)
    limit(service, member=3)
    service.put(path, batch(3, 4, 5), expect=202)  # two in the place of two
    met(service, path, batch(3, 4, 5, 6), "Member", "PUT")
    met(service, f"{path}?additive_only=true", batch(7), "Member", "PUT")
    service.settle()
    met(service, path, batch(3, 4, 5, 6), "Member", "PUT")
    service.put(path, batch(3), expect=202)
    service.settle()
    service.put(path, batch(3, 8, 9), expect=202)


def test_objects_count_until_they_are_gone(service: Service) -> None:
    lb = service.load_balancer()
    pool = service.pool(lb)
    service.member(pool)
    service.monitor(pool)
    limit(service, pool=1, member=1, healthmonitor=1)
    service.delete(f"pools/{pool['id']}")
    body = {"loadbalancer_id": lb["id"], "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN"}
    met(service, "pools", {"pool": body}, "Pool")
    service.settle()
    pool = service.pool(lb)
    service.member(pool)
    service.monitor(pool)


def test_without_tokens_nothing_is_limited(service: Service) -> None:
    limit(service, loadbalancer=0)
    service.reset(auth_strategy="noauth")
    service.load_balancer()


def test_other_projects_do_not_count(service: Service) -> None:
    service.load_balancer(by="admin", project_id="bob-project")
    limit(service, loadbalancer=1)
    service.load_balancer()


def test_two_processes_do_not_take_the_last_place_both(store: Store) -> None:
    services = [Service(Store(str(store.engine.url))) for _ in range(2)]
    lbs = [services[0].load_balancer() for _ in range(4)]
    limit(services[0], pool=10)
    start, statuses = threading.Barrier(8), []

    def many(n: int) -> None:
        body = {"loadbalancer_id": lbs[n % 4]["id"], "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN"}
        start.wait()
        for _ in range(3):
            statuses.append(services[n % 2].send("POST", "pools", {"pool": body}).status_code)

    threads = [threading.Thread(target=many, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [201] * 10 + [403] * 14
    with store.read() as conn:
        assert len(conn.execute(select(tables.pool.c.id)).all()) == 10
    for service in services:
        service.store.close()


@pytest.mark.skipif("config.getoption('--database') != 'sqlite'", reason="reads SQLite's own plan")
def test_a_limit_is_looked_for_no_further_than_it_reaches(store: Store) -> None:
    with store.write() as conn:
        conn.execute(insert(tables.quota).values(project_id="p", member=5))
        plan = "".join(
            str(row)
            for row in conn.exec_driver_sql(
                "EXPLAIN QUERY PLAN SELECT 1 FROM member WHERE project_id = 'p' LIMIT 1 OFFSET 5"
            )
        )
        assert "COVERING INDEX ix_member_project_id" in plan
        assert quotas.stored(conn, "p") == {**dict.fromkeys(WORDS), "project_id": "p", "member": 5}


class Deadlocked:
    """A connection on which the database gave up waiting for the project's row."""

    def execute(self, *_: Any) -> None:
        raise exc.OperationalError("SELECT", {}, Exception("1213 Deadlock found when trying to get lock"))


def test_a_turn_that_does_not_come_is_told() -> None:
    with pytest.raises(Busy, match="Unable to lock the project"):
        quotas.claim(typing.cast(Any, Deadlocked()), "p", {Pool: 1}, {"pool": 5})

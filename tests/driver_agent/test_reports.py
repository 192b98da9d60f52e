"""What providers report, and what becomes of it: by octavia-lib's own client over the sockets."""

from typing import Any

import pytest
from octavia_lib.api.drivers import data_models, exceptions
from octavia_lib.api.drivers.driver_lib import DriverLibrary
from sqlalchemy import select

from colonnade.errors import Later
from colonnade.store import query, tables, work
from tests import pki
from tests.driver_agent.conftest import PENDING, Scene
from tests.support import deadlock_once

ABSENT = "99999999-0000-4000-8000-000000000000"


def test_statuses_are_written_as_they_are_told(scene: Scene, library: DriverLibrary) -> None:
    ids = scene.tree()
    for kind in ids:
        assert scene.status(kind, ids[kind]) == PENDING
    both = {"provisioning_status": "ACTIVE", "operating_status": "ONLINE"}
    library.update_loadbalancer_status({kind: [{"id": id, **both}] for kind, id in ids.items()})
    for kind, id in ids.items():
        assert scene.status(kind, id) == ("ACTIVE", "ONLINE")
    library.update_loadbalancer_status({"members": [{"id": ids["members"], "operating_status": "ERROR"}]})
    assert scene.status("members", ids["members"]) == ("ACTIVE", "ERROR")
    library.update_loadbalancer_status({"members": [{"id": ids["members"]}]})
    assert scene.status("members", ids["members"]) == ("ACTIVE", "ERROR")


def test_an_error_has_a_reason_and_an_event(scene: Scene, library: DriverLibrary) -> None:
    lb = scene.tree()["loadbalancers"]
    library.update_loadbalancer_status({"loadbalancers": [{"id": lb, "provisioning_status": "ERROR"}]})
    assert "acme" in scene.row("loadbalancers", lb)["reason"]
    library.update_loadbalancer_status({"loadbalancers": [{"id": lb, "provisioning_status": "ACTIVE"}]})
    assert scene.row("loadbalancers", lb)["reason"] is None
    with scene.store.read() as conn:
        told = conn.execute(select(tables.event.c.kind, tables.event.c.sentence).order_by(tables.event.c.id)).all()
    assert [tuple(t) for t in told] == [
        ("failed", "Provider acme reports that it failed."), ("status", "Provider acme reports that it is ACTIVE."),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "with_it"),
    [
        ("listeners", ("l7policies", "l7rules")), ("pools", ("members", "healthmonitors")), ("members", ()),
        ("healthmonitors", ()), ("l7policies", ("l7rules",)), ("l7rules", ()),
    ],
)  # fmt: skip
def test_what_is_deleted_is_gone(scene: Scene, library: DriverLibrary, kind: str, with_it: Any) -> None:
    ids, others = scene.tree(), scene.tree()
    gone = {kind, *with_it}
    library.update_loadbalancer_status({kind: [{"id": ids[kind], "provisioning_status": "DELETED"}]})
    for each in ids:
        assert (scene.row(each, ids[each]) is None) == (each in gone), each
        assert scene.row(each, others[each]) is not None
    if kind == "pools":
        assert scene.row("listeners", ids["listeners"])["default_pool_id"] is None
    if kind == "healthmonitors":
        assert scene.row("members", ids["members"])["operating_status"] == "NO_MONITOR"
    with scene.store.read() as conn:
        tagged = set(conn.execute(select(tables.tag.c.object_id)).scalars())
    assert tagged == {others["members"], *({ids["members"]} - {ids[k] for k in gone})}
    library.update_loadbalancer_status({kind: [{"id": ids[kind], "provisioning_status": "DELETED"}]})  # said twice


def test_a_deleted_load_balancer_leaves_nothing(scene: Scene, library: DriverLibrary) -> None:
    ids, others = scene.tree(), scene.tree()
    lb = ids["loadbalancers"]
    library.update_loadbalancer_status({"loadbalancers": [{"id": lb, "provisioning_status": "DELETED"}]})
    assert all(scene.row(kind, id) is None for kind, id in ids.items())
    assert [p.name for p in scene.cloud.ours()] == [f"octavia-lb-{others['loadbalancers']}"]
    with scene.store.read() as conn:
        assert work.generation(conn, lb) == 0
    library.update_loadbalancer_status({"loadbalancers": [{"id": lb, "provisioning_status": "DELETED"}]})


def test_a_vip_port_that_cannot_be_removed_keeps_the_load_balancer(scene: Scene, library: DriverLibrary) -> None:
    lb = scene.tree()["loadbalancers"]

    def trouble(verb: str, _when: str) -> None:
        if verb == "release":
            raise Later("the network is away")

    scene.cloud.trouble = trouble
    with pytest.raises(exceptions.UpdateStatusError, match="the network is away"):
        library.update_loadbalancer_status({"loadbalancers": [{"id": lb, "provisioning_status": "DELETED"}]})
    assert scene.row("loadbalancers", lb) is not None


def test_what_does_not_exist(scene: Scene, library: DriverLibrary) -> None:
    for kind in scene.tree():
        library.update_loadbalancer_status({kind: [{"id": ABSENT, "provisioning_status": "ACTIVE"}]})
        if kind != "loadbalancers":
            library.update_loadbalancer_status({kind: [{"id": ABSENT, "provisioning_status": "DELETED"}]})
    with pytest.raises(exceptions.UpdateStatusError) as e:
        library.update_loadbalancer_status({"loadbalancers": [{"id": ABSENT, "provisioning_status": "DELETED"}]})
    assert (e.value.status_object, e.value.status_object_id) == ("loadbalancers", ABSENT)


def test_items_before_a_bad_one_stay_applied_children_first(scene: Scene, library: DriverLibrary) -> None:
    ids = scene.tree()
    active = {"provisioning_status": "ACTIVE"}
    report = {
        "loadbalancers": [{"id": ids["loadbalancers"], **active}], "pools": [{"id": ids["pools"], **active}, active],
        "members": [{"id": ids["members"], **active}], "listeners": [{"id": ids["listeners"], **active}],
    }  # fmt: skip
    with pytest.raises(exceptions.UpdateStatusError) as e:
        library.update_loadbalancer_status(report)
    assert (e.value.status_object, e.value.status_record) == ("pools", active)
    done = [kind for kind in ids if scene.status(kind, ids[kind]) != PENDING]
    assert done == ["pools", "members"]


@pytest.mark.parametrize("item", [
    {"provisioning_status": "WELL"}, {"operating_status": "PENDING_CREATE"}, {"provisioning_status": 7},
    {"operating_status": ["ONLINE"]},
])  # fmt: skip
def test_words_that_are_no_statuses_are_refused(scene: Scene, library: DriverLibrary, item: Any) -> None:
    lb = scene.tree()["loadbalancers"]
    with pytest.raises(exceptions.UpdateStatusError, match="is no"):
        library.update_loadbalancer_status({"loadbalancers": [{"id": lb, **item}]})
    assert scene.status("loadbalancers", lb) == PENDING


@pytest.mark.parametrize("provider", ["amphora", "octavia", None])
def test_what_is_the_loops_is_not_a_providers(scene: Scene, library: DriverLibrary, provider: Any) -> None:
    ids = scene.tree(provider)
    for kind, id in ids.items():
        for status in ("ACTIVE", "DELETED"):
            with pytest.raises(exceptions.UpdateStatusError, match="our own"):
                library.update_loadbalancer_status({kind: [{"id": id, "provisioning_status": status}]})
        assert scene.status(kind, id) == PENDING
    assert len(scene.cloud.ours()) == 1
    assert library.get_loadbalancer(ids["loadbalancers"]) is None
    with pytest.raises(exceptions.UpdateStatisticsError):
        library.update_listener_statistics(numbers(ids["listeners"], 1))


# --- statistics ------------------------------------------------------------------------------------------------------


def numbers(id: str, base: int, **more: Any) -> Any:
    names = ("active_connections", "bytes_in", "bytes_out", "request_errors", "total_connections")
    return {"listeners": [{"id": id, **{name: base + i for i, name in enumerate(names)}, **more}]}


def test_statistics_are_absolute(scene: Scene, library: DriverLibrary) -> None:
    ids, others = scene.tree(), scene.tree()
    library.update_listener_statistics(numbers(ids["listeners"], 1000))
    library.update_listener_statistics(numbers(ids["listeners"], 10))
    library.update_listener_statistics(numbers(others["listeners"], 2**40, active_connections=2**31 - 1))
    shown = {"active_connections": 10, "bytes_in": 11, "bytes_out": 12, "request_errors": 13, "total_connections": 14}
    with scene.store.read() as conn:
        assert query.listener_statistics(conn, ids["listeners"]) == shown
        assert query.load_balancer_statistics(conn, ids["loadbalancers"]) == shown
        assert query.load_balancer_statistics(conn, others["loadbalancers"])["bytes_in"] == 2**40 + 1


@pytest.mark.parametrize("wrong", [None, -1, "5", 2**63, True, 1.5])
def test_all_numbers_are_needed(scene: Scene, library: DriverLibrary, wrong: Any) -> None:
    id = scene.tree()["listeners"]
    with pytest.raises(exceptions.UpdateStatisticsError, match="bytes_in") as e:
        library.update_listener_statistics(numbers(id, 1, bytes_in=wrong))
    assert (e.value.stats_object, e.value.stats_object_id) == ("listeners", id)
    with scene.store.read() as conn:
        assert query.listener_statistics(conn, id)["bytes_out"] == 0


def test_no_number_is_beyond_what_is_stored(scene: Scene, library: DriverLibrary) -> None:
    id = scene.tree()["listeners"]
    with pytest.raises(exceptions.UpdateStatisticsError, match="active_connections"):
        library.update_listener_statistics(numbers(id, 1, active_connections=2**31))


def test_statistics_of_nothing(scene: Scene, library: DriverLibrary) -> None:
    library.update_listener_statistics(numbers(ABSENT, 1))
    with scene.store.read() as conn:
        assert conn.execute(select(tables.listener_statistics)).all() == []
    for wrong in ({}, {"listeners": 5}, {"listeners": [5]}, {"listeners": [{"bytes_in": 1}]}):
        with pytest.raises(exceptions.UpdateStatisticsError):
            library.update_listener_statistics(wrong)


# --- get -------------------------------------------------------------------------------------------------------------


def test_objects_come_as_data_models(scene: Scene, library: DriverLibrary) -> None:
    ids = scene.tree()
    lb = library.get_loadbalancer(ids["loadbalancers"])
    assert isinstance(lb, data_models.LoadBalancer)
    assert (lb.loadbalancer_id, lb.name, lb.project_id, lb.flavor) == (ids["loadbalancers"], "lb", "p", None)
    assert lb.listeners[0]["default_pool"]["members"][0]["address"] == "10.2.0.1"
    assert lb.listeners[0]["l7policies"][0]["rules"][0]["value"] == "/"
    for kind, get, name in (
        ("listeners", library.get_listener, "listener_id"), ("pools", library.get_pool, "pool_id"),
        ("members", library.get_member, "member_id"), ("l7rules", library.get_l7rule, "l7rule_id"),
        ("healthmonitors", library.get_healthmonitor, "healthmonitor_id"),
        ("l7policies", library.get_l7policy, "l7policy_id"),
    ):  # fmt: skip
        assert getattr(get(ids[kind]), name) == ids[kind]
        assert get(ABSENT) is None
        assert get(ids["loadbalancers"]) is None
    assert library.get_loadbalancer("no such id") is None
    assert library.get_pool(ids["pools"]).listener_id == ids["listeners"]


def test_a_secret_that_is_lost_takes_nothing_else_away(scene: Scene, library: DriverLibrary) -> None:
    id = scene.tree()["listeners"]
    with scene.store.write() as conn:
        conn.execute(tables.listener.update().values(default_tls_container_ref="http://k/v1/secrets/x"))
    assert library.get_listener(id).default_tls_container_data is None
    scene.vault.put("http://k/v1/secrets/x", pki.issue("example.com").p12())
    found = library.get_listener(id)
    assert found.default_tls_container_data["primary_cn"] == "example.com"


def test_a_report_that_the_database_ended_for_a_write_is_written_after_it(scene: Scene, library: DriverLibrary) -> None:
    lb = scene.tree()["loadbalancers"]
    seen = deadlock_once(scene.store)
    library.update_loadbalancer_status({"loadbalancers": [{"id": lb, "provisioning_status": "ACTIVE"}]})
    assert scene.status("loadbalancers", lb)[0] == "ACTIVE"
    assert seen[0] == "ended"

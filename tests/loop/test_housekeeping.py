"""Housekeeping takes away what nobody owns, and nothing else."""

import dataclasses
import uuid

from sqlalchemy import delete, insert, select, update

from colonnade.housekeeping.keep import HouseKeeper
from colonnade.settings import HouseKeeping
from colonnade.store import events, tables
from tests.loop.world import SETTINGS, World, a_world


def sweep_twice(world: World, keeper: HouseKeeper | None = None) -> HouseKeeper:
    keeper = keeper or world.keeper()
    keeper.sweep()
    world.clock.at += 61
    keeper.sweep()
    return keeper


def test_what_belongs_to_a_load_balancer_stays(world: World) -> None:
    lb = world.create()
    with world.wish(lb) as conn:
        conn.execute(insert(tables.tag).values(object_id=lb, value="blue"))
    world.settle(world.worker())
    keeper = sweep_twice(world)
    world.assert_matches()
    assert world.count(tables.tag) == 1
    assert sum(keeper.removed.values()) == 0


def test_a_place_without_a_row_goes_when_it_is_old_enough(world: World) -> None:
    keeper, id = world.keeper(), str(uuid.uuid4())
    world.cloud.ensure(id, "k")
    keeper.sweep()
    world.clock.at += 59
    keeper.sweep()
    assert id in world.cloud.places
    world.clock.at += 2
    keeper.sweep()
    assert id not in world.cloud.places
    assert keeper.removed["place"] == 1


def test_an_orphan_that_finds_its_owner_in_time_stays(world: World) -> None:
    lb, keeper = world.create(), world.keeper()
    world.settle(world.worker())
    (amphora,) = world.tree(lb).amphorae
    with world.store.write() as conn:
        saved = dict(conn.execute(select(tables.amphora)).mappings().one())
        conn.execute(delete(tables.amphora))
    keeper.sweep()
    with world.store.write() as conn:
        conn.execute(insert(tables.amphora).values(saved))
    world.clock.at += 61
    keeper.sweep()
    with world.store.write() as conn:
        conn.execute(delete(tables.amphora))
    keeper.sweep()
    assert amphora.id in world.cloud.places


def test_an_amphora_without_its_load_balancer_goes_with_all_it_has(world: World) -> None:
    lb = world.create()
    world.settle(world.worker())
    with world.store.write() as conn:
        conn.execute(delete(tables.load_balancer))
        conn.execute(delete(tables.listener).where(tables.listener.c.loadbalancer_id == lb))
    sweep_twice(world)
    assert (world.cloud.places, world.cloud.ports) == ({}, {})
    assert world.count(tables.amphora) == world.count(tables.work) == 0


def test_a_port_without_an_owner_goes_and_a_strangers_port_stays(world: World) -> None:
    vip = world.cloud.ensure_vip(str(uuid.uuid4()), "p", world.vip_subnet, None)
    own = world.cloud.ensure_plugged(str(uuid.uuid4()), [world.vip_subnet])
    strange = world.cloud.ensure_plugged("somebody", [world.vip_subnet])
    keeper = sweep_twice(world)
    assert list(world.cloud.ports) == [strange.id]
    assert vip.id != own.id and keeper.removed["port"] == 2


def test_tags_and_statistics_without_an_object_go(world: World) -> None:
    with world.store.write() as conn:
        conn.execute(insert(tables.tag).values(object_id="gone", value="blue"))
        row = {"listener_id": "gone", "amphora_id": "a", "loadbalancer_id": "b", "epoch": "e"}
        conn.execute(insert(tables.listener_statistics).values(row))
    sweep_twice(world)
    assert world.count(tables.tag) == world.count(tables.listener_statistics) == 0


def test_an_unwell_load_balancer_with_nothing_due_is_brought_to_the_loop(world: World) -> None:
    lb, worker = world.create(), world.worker()
    with world.store.write() as conn:
        conn.execute(update(tables.work).values(due_at=None))
    sweep_twice(world)
    assert lb in world.doorbell.wait(0)
    world.settle(worker)
    world.assert_matches()


def test_a_load_balancer_the_ledger_does_not_know_is_brought_to_the_loop(world: World) -> None:
    world.create()
    with world.store.write() as conn:
        conn.execute(delete(tables.work))
    sweep_twice(world)
    world.settle(world.worker())
    world.assert_matches()


def test_old_events_go_and_the_newest_stay_up_to_a_number() -> None:
    few = dataclasses.replace(SETTINGS, house_keeping=HouseKeeping(events_kept=10, event_expiry_age_s=100))
    with a_world(few) as world:
        with world.store.write() as conn:
            for n in range(2500):
                events.add(conn, "old", "p", n / 1000, "did", ("loadbalancer", "old"), f"{n}")
            for n in range(30):
                events.add(conn, "busy", "p", world.clock.at, "did", ("loadbalancer", "busy"), f"{n}")
            events.add(conn, "calm", "p", world.clock.at, "did", ("loadbalancer", "calm"), "0")
        keeper = world.keeper()
        keeper.sweep()
        assert world.story("old") == []
        assert [s for _, s in world.story("busy")] == [f"{n}" for n in range(20, 30)]
        assert len(world.story("calm")) == 1
        assert keeper.removed["events"] == 2520


def test_one_duty_that_fails_holds_up_no_other(world: World) -> None:
    id = str(uuid.uuid4())
    world.cloud.ensure(id, "k")
    world.cloud.ensure_plugged(id, [world.vip_subnet])

    def no_names(effect: str, moment: str) -> None:
        if effect == "names":
            raise ZeroDivisionError

    world.cloud.trouble = no_names
    keeper = sweep_twice(world)
    assert (world.cloud.ports, list(world.cloud.places)) == ({}, [id])
    world.cloud.trouble = lambda effect, moment: None
    sweep_twice(world, keeper)
    assert world.cloud.places == {}


def test_several_housekeepers_do_no_harm(world: World) -> None:
    world.create()
    world.settle(world.worker())
    world.cloud.ensure(str(uuid.uuid4()), "k")
    keepers = [world.keeper() for _ in range(3)]
    for _ in range(3):
        for keeper in keepers:
            keeper.sweep()
        world.clock.at += 31
    world.assert_matches()

"""What a load balancer's owner sees when the loop meets trouble, and that it ends when the trouble does."""

import pytest

from colonnade.drivers.fake import FakeFabric
from colonnade.errors import Broken, Later
from colonnade.model import Listener
from colonnade.store import tables
from colonnade.types import ProvisioningStatus
from tests.loop.world import World, fails

ACTIVE, ERROR = ProvisioningStatus.ACTIVE, ProvisioningStatus.ERROR
PENDING_CREATE = ProvisioningStatus.PENDING_CREATE
PENDING_DELETE = ProvisioningStatus.PENDING_DELETE


def test_trouble_that_passes_keeps_it_pending_with_a_reason(world: World) -> None:
    lb, worker = world.create(), world.worker()
    world.cloud.trouble = fails(Later, "ensure")
    worker.turn(lb)
    balancer = world.balancer(lb)
    assert balancer.provisioning_status == PENDING_CREATE
    assert balancer.reason == "No ensure today."
    assert world.story(lb) == [("waits", "No ensure today.")]


def test_the_same_trouble_is_told_once(world: World) -> None:
    lb, worker = world.create(), world.worker()
    world.cloud.trouble = fails(Later, "ensure")
    for _ in range(5):
        world.clock.at = world.ledger(lb).due_at
        assert worker.turn(lb)
    assert world.story(lb) == [("waits", "No ensure today.")]


def test_pending_ends_at_the_limit_and_heals_when_the_trouble_ends(world: World) -> None:
    lb, worker, began = world.create(), world.worker(), world.clock.at
    world.cloud.trouble = fails(Later, "ensure")
    while world.balancer(lb).provisioning_status == PENDING_CREATE:
        world.clock.at = max(world.clock.at, world.ledger(lb).due_at)
        assert world.clock.at - began <= 60.001
        worker.turn(lb)
    tree = world.tree(lb)
    assert {tree.load_balancer.provisioning_status, tree.listeners[0].provisioning_status} == {ERROR}
    assert {tree.load_balancer.reason, tree.listeners[0].reason} == {"No ensure today."}
    assert world.story(lb)[-1] == ("failed", "No ensure today.")
    world.cloud.trouble = lambda effect, moment: None
    world.settle(worker)
    world.assert_matches()


def test_steady_writes_do_not_hide_steady_trouble(world: World) -> None:
    lb, worker = world.create(), world.worker()
    world.cloud.trouble = fails(Later, "ensure")
    for _ in range(20):
        world.change(lb)
        worker.turn(lb)
        world.clock.at += 5
    assert world.balancer(lb).provisioning_status == ERROR


def test_what_needs_a_person_is_an_error_at_once_and_still_tried(world: World) -> None:
    lb, worker = world.create(), world.worker()

    def refuse(effect: str, moment: str) -> None:
        if effect == "push":
            raise Broken("The bundle is refused.", "Change the listener.")

    world.cloud.trouble = refuse
    worker.turn(lb)
    assert world.balancer(lb).provisioning_status == ERROR
    assert world.balancer(lb).reason == "The bundle is refused. Change the listener."
    with world.store.read() as conn:
        assert conn.execute(tables.event.select()).one().help == "Change the listener."
    pauses = []
    for _ in range(8):
        pauses.append(world.ledger(lb).due_at - world.clock.at)
        world.clock.at = world.ledger(lb).due_at
        worker.turn(lb)
    assert pauses[0] <= 1 and pauses[-1] > 30
    assert max(pauses) <= 60


def test_a_write_on_error_is_tried_at_once_and_heals(world: World) -> None:
    lb, worker = world.create(), world.worker()
    world.cloud.trouble = fails(Broken, "push")
    worker.turn(lb)
    world.cloud.trouble = lambda effect, moment: None
    world.change(lb, name="better")
    worker.turn(lb)
    world.assert_matches()


def test_a_write_that_overtakes_a_refusal_is_not_called_an_error(world: World) -> None:
    lb, worker = world.create(), world.worker()

    def refuse(effect: str, moment: str) -> None:
        if effect == "push":
            world.change(lb, name="better")
            raise Broken("The bundle is refused.")

    world.cloud.trouble = refuse
    worker.turn(lb)
    assert world.balancer(lb).provisioning_status == PENDING_CREATE
    assert world.ledger(lb).due_at <= world.clock.at


def test_delete_works_while_in_error(world: World) -> None:
    lb, worker = world.create(), world.worker()
    world.cloud.trouble = fails(Broken, "push")
    worker.turn(lb)
    world.delete(lb)
    worker.turn(lb)
    assert world.tree(lb) is None
    assert (world.cloud.places, world.cloud.ports) == ({}, {})


def test_a_delete_that_fails_keeps_its_wish_and_ends_when_it_can(world: World) -> None:
    lb, worker = world.create(), world.worker()
    worker.turn(lb)
    world.delete(lb)
    world.cloud.trouble = fails(Broken, "remove")
    worker.turn(lb)
    assert world.balancer(lb).provisioning_status == ERROR
    assert world.ledger(lb).delete_wanted
    world.cloud.trouble = lambda effect, moment: None
    world.settle(worker)
    assert world.tree(lb) is None


def test_a_child_to_be_deleted_keeps_that_through_an_error(world: World) -> None:
    lb, worker = world.create(), world.worker()
    worker.turn(lb)
    (listener,) = world.tree(lb).listeners
    world.drop(lb, Listener, listener.id)
    world.cloud.trouble = fails(Broken, "push")
    worker.turn(lb)
    assert world.tree(lb).listeners[0].provisioning_status == PENDING_DELETE
    world.cloud.trouble = lambda effect, moment: None
    world.settle(worker)
    assert world.tree(lb).listeners == ()


def test_a_fault_of_the_program_is_an_error_that_is_told(world: World, caplog: pytest.LogCaptureFixture) -> None:
    lb, worker = world.create(), world.worker()
    world.cloud.trouble = fails(ZeroDivisionError, "ensure")
    worker.turn(lb)
    assert world.balancer(lb).reason == "A fault of the program (ZeroDivisionError); the worker's log has more."
    assert "Traceback" in caplog.text
    world.cloud.trouble = lambda effect, moment: None
    world.settle(worker)
    world.assert_matches()


def test_a_network_that_is_not_there_yet_is_made_first(world: World) -> None:
    world.cloud.bridges = set()
    fabric = FakeFabric(world.cloud, lambda conn: (world.vip_subnet.network_id,))
    worker = world.worker(fabric)
    with world.wish("fabric"):
        pass
    lb = world.create()
    worker.turn(lb)
    assert world.balancer(lb).provisioning_status == ACTIVE
    assert world.ledger("fabric").due_at is None


def test_a_fabric_that_cannot_be_pushed_is_tried_again(world: World) -> None:
    fabric = FakeFabric(world.cloud, lambda conn: ("n1",))
    worker = world.worker(fabric)
    with world.wish("fabric"):
        pass
    world.cloud.trouble = fails(Later, "fabric")
    worker.turn("fabric")
    assert world.ledger("fabric").due_at > world.clock.at
    world.cloud.trouble = lambda effect, moment: None
    world.settle(worker)
    assert world.cloud.bridges == {"n1"}

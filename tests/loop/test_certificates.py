"""Certificates through the loop: what is lost is told, what changes is deployed, what ends is warned of."""

import dataclasses
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from world import PROJECT, SETTINGS, World, a_world

from colonnade import wire
from colonnade.clock import utc
from colonnade.core import bundle
from colonnade.errors import Later
from colonnade.model import Listener
from colonnade.settings import HouseKeeping
from colonnade.store import tables
from colonnade.types import ListenerProtocol
from colonnade.worker.loop import Worker
from tests import pki

CA = pki.authority()


@pytest.fixture
def world() -> Iterator[World]:
    with a_world(dataclasses.replace(SETTINGS, house_keeping=HouseKeeping(event_expiry_age_s=10**9))) as made:
        made.clock.at = pki.NOW.timestamp()
        made.vault.put("one", CA.issue("one.test", days=90).p12(), PROJECT)
        made.vault.put("two", CA.issue("two.test", days=90).p12(), PROJECT)
        yield made


def render(tree: Any, amphora: Any, ports: Any, vip: Any) -> wire.Bundle:
    options = bundle.RenderOptions(heartbeat_targets=())
    return bundle.render(tree, amphora, ports, vip, options=options, serving=True)


def worker_of(world: World) -> Worker:
    made = world.worker()
    made._render = render
    return made


def secure(world: World, *refs: str) -> tuple[str, list[str]]:
    """A load balancer with a TLS listener for each reference, deployed; their ids."""
    lb_id, ids = world.create(listeners=1), []
    for n, ref in enumerate(refs):
        made = Listener(
            id=str(uuid.uuid4()), project_id=PROJECT, created_at=utc(world.clock.now() + n), loadbalancer_id=lb_id,
            name="" if n else "shop", protocol=ListenerProtocol.TERMINATED_HTTPS, protocol_port=443 + n,
            default_tls_container_ref=ref,
        )  # fmt: skip
        ids.append(made.id)
        with world.wish(lb_id) as conn:
            world.insert(conn, made)
    world.settle(worker_of(world))
    return lb_id, ids


def listeners(world: World, lb_id: str) -> dict[str, tuple[str, str | None]]:
    tree = world.tree(lb_id)
    assert tree
    return {x.id: (str(x.provisioning_status), x.reason) for x in tree.listeners}


def files(world: World) -> dict[str, str]:
    (place,) = world.cloud.places.values()
    return place.files


def told(world: World, lb_id: str, word: str) -> list[str]:
    return [sentence for _, sentence in world.story(lb_id) if word in sentence]


def test_certificates_reach_the_amphora_and_the_key_manager_knows(world: World) -> None:
    lb_id, ids = secure(world, "one", "two")
    assert {f"{id}.pem" for id in ids} <= set(files(world))
    assert set(listeners(world, lb_id).values()) == {("ACTIVE", None)}
    assert world.vault.consumers == {lb_id: {"one", "two"}}


def test_one_bad_listener_stops_no_other(world: World) -> None:
    lb_id, (good, bad) = secure(world, "one", "nothing")
    shown = listeners(world, lb_id)
    assert shown[good] == ("ACTIVE", None)
    assert shown[bad] == ("ERROR", "nothing does not exist any more. Give another reference.")
    assert f"{good}.pem" in files(world)
    assert bad not in files(world)["haproxy.cfg"]
    assert world.balancer(lb_id).provisioning_status == "ACTIVE"
    assert told(world, lb_id, "exist any more") == [
        f"Listener {bad}: nothing does not exist any more. Give another reference."
    ]


@pytest.mark.parametrize(("payload", "project", "why"), [
    (b"rubbish", PROJECT, "neither a PKCS12 bundle"), (CA.issue("x").p12(), "p2", "another project"),
])  # fmt: skip
def test_what_cannot_be_used_is_told(world: World, payload: bytes, project: str, why: str) -> None:
    world.vault.put("bad", payload, project)
    lb_id, (bad,) = secure(world, "bad")
    status, reason = listeners(world, lb_id)[bad]
    assert status == "ERROR"
    assert why in (reason or "")


def test_a_lost_secret_leaves_the_listener_serving_until_it_is_there_again(world: World) -> None:
    lb_id, (id,) = secure(world, "one")
    before, kept = files(world)[f"{id}.pem"], world.vault.held.pop("one")
    keeper, worker = world.keeper(), worker_of(world)
    keeper.sweep()
    world.settle(worker)
    assert listeners(world, lb_id)[id][0] == "ERROR"
    assert files(world)[f"{id}.pem"] == before
    assert id in files(world)["haproxy.cfg"]
    world.vault.held["one"] = kept
    world.clock.at += 61
    keeper.sweep()
    world.settle(worker)
    assert listeners(world, lb_id)[id] == ("ACTIVE", None)


def test_a_secret_that_changes_behind_its_reference_is_deployed(world: World) -> None:
    _, (id,) = secure(world, "one")
    before = files(world)[f"{id}.pem"]
    world.keeper().sweep()
    world.settle(worker_of(world))
    assert files(world)[f"{id}.pem"] == before
    world.vault.put("one", CA.issue("one.test").p12(), PROJECT)
    world.keeper().sweep()
    world.settle(worker_of(world))
    assert files(world)[f"{id}.pem"] != before


def test_a_silent_key_manager_is_waited_for_but_stops_nothing_that_works(world: World) -> None:
    lb_id, (id,) = secure(world, "one")

    def away(effect: str, _moment: str) -> None:
        if effect == "fetch":
            raise Later("The key manager does not answer.")

    world.vault.trouble = away
    world.add_listener(lb_id, 8080)
    world.settle(worker_of(world))
    assert listeners(world, lb_id)[id] == ("ACTIVE", None)
    assert ":8080" in files(world)["haproxy.cfg"]


def test_nothing_is_left_of_a_deleted_load_balancer(world: World) -> None:
    lb_id, _ = secure(world, "one")
    world.delete(lb_id)
    world.settle(worker_of(world))
    assert world.vault.consumers == {}
    assert world.count(tables.certificate) == 0


def test_a_certificate_is_warned_of_once_at_each_day_before_its_end(world: World) -> None:
    lb_id, _ = secure(world, "one")
    end = world.clock.at + 90 * 86400
    for left, warnings in ((31, 0), (30, 1), (29, 1), (6.5, 2), (0.9, 3), (0.5, 3), (-0.1, 4), (-9, 4)):
        world.clock.at = end - left * 86400
        world.keeper().sweep()
        assert len(told(world, lb_id, "certificate of listener shop")) == warnings, left
    assert "ends in 30 days" in told(world, lb_id, "ends in")[0]
    assert "clients refuse it" in told(world, lb_id, "ended on")[0]


def test_a_new_certificate_is_warned_of_anew(world: World) -> None:
    lb_id, _ = secure(world, "one")
    world.clock.at += timedelta(days=85).total_seconds()
    keeper = world.keeper()
    keeper.sweep()
    world.vault.put("one", CA.issue("one.test", days=88).p12(), PROJECT)
    world.clock.at += 61
    keeper.sweep()
    world.settle(worker_of(world))
    world.clock.at += 61
    keeper.sweep()
    assert len(told(world, lb_id, "ends in")) == 2

"""What the loop makes of VIPs beside the first."""

import pytest

from colonnade.model import Subnet
from tests.loop.world import World


@pytest.fixture
def six(world: World) -> Subnet:
    """An IPv6 subnet on the VIP's network."""
    return world.cloud.add_subnet("fd00:1::/64", world.vip_subnet.network_id)


def test_an_amphora_is_on_each_vips_subnet_and_holds_each_vip(world: World, six: Subnet) -> None:
    lb = world.create(more=(six,))
    world.worker().turn(lb)
    world.assert_matches()
    (amphora,) = world.tree(lb).amphorae  # type: ignore[union-attr]
    (port,) = world.cloud.plugged(amphora.id)
    assert {f.subnet_id for f in port.fixed_ips} == {world.vip_subnet.id, six.id}
    (second,) = world.balancer(lb).additional_vips
    assert world.cloud.held[str(second.ip_address)] == amphora.id


def test_a_failover_takes_all_of_them_along(world: World, six: Subnet) -> None:
    lb, worker = world.create(more=(six,)), world.worker()
    worker.turn(lb)
    (old,) = world.tree(lb).amphorae  # type: ignore[union-attr]
    world.failover(lb)
    worker.turn(lb)
    world.assert_matches()
    (new,) = world.tree(lb).amphorae  # type: ignore[union-attr]
    assert set(world.cloud.held.values()) == {new.id} != {old.id}
    assert len(world.cloud.held) == 2


def test_a_lost_port_is_made_again_with_all_its_addresses(world: World, six: Subnet) -> None:
    lb, worker = world.create(more=(six,)), world.worker()
    worker.turn(lb)
    before = world.balancer(lb)
    world.cloud.release(str(before.vip_port_id))
    world.change(lb)
    worker.turn(lb)
    world.assert_matches()
    after = world.balancer(lb)
    assert after.vip_port_id != before.vip_port_id
    assert [v.ip_address for v in after.additional_vips] == [v.ip_address for v in before.additional_vips]
    assert {v.port_id for v in after.additional_vips} == {after.vip_port_id}


def test_nothing_is_left_of_them(world: World, six: Subnet) -> None:
    lb, worker = world.create(more=(six,)), world.worker()
    worker.turn(lb)
    world.delete(lb)
    worker.turn(lb)
    assert not world.cloud.ports
    assert not world.cloud.held

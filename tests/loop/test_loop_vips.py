"""What the loop makes of VIPs beside the first."""

import pytest

from colonnade.drivers.fake import no_trouble
from colonnade.model import QosPolicy, SecurityGroup, Subnet
from colonnade.wire import Admission, Limit, Traffic
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


GROUP = "00000000-0000-4000-8000-0000000000aa"
WEB = Admission(version=4, protocol=6, first=80, last=80)


def _traffic(world: World, lb: str) -> Traffic:
    (amphora,) = world.tree(lb).amphorae  # type: ignore[union-attr]
    bundle = world.cloud.places[amphora.id].bundle
    assert bundle is not None
    return bundle.traffic


def test_groups_and_policies_reach_the_amphora_and_are_cleared(world: World) -> None:
    limit = Limit(kilobits=1000, burst_kilobits=800)
    world.cloud.groups[GROUP] = SecurityGroup(id=GROUP, project_id="p1", admitted=(WEB,))
    world.cloud.policies["q"] = QosPolicy(id="q", project_id="p1", egress=limit)
    lb, worker = world.create(vip_sg_ids=(GROUP,), vip_qos_policy_id="q"), world.worker()
    worker.turn(lb)
    assert _traffic(world, lb) == Traffic(admitted=(WEB,), egress=limit)
    world.cloud.groups[GROUP] = SecurityGroup(id=GROUP, project_id="p1")
    with world.wish(lb):
        pass
    worker.turn(lb)
    assert _traffic(world, lb) == Traffic(admitted=(), egress=limit)
    world.change(lb, vip_sg_ids=(), vip_qos_policy_id=None)
    worker.turn(lb)
    assert _traffic(world, lb) == Traffic()
    world.assert_matches()


def test_a_lost_group_opens_nothing_and_is_told(world: World) -> None:
    world.cloud.groups[GROUP] = SecurityGroup(id=GROUP, project_id="p1", admitted=(WEB,))
    lb, worker = world.create(vip_sg_ids=(GROUP,)), world.worker()
    worker.turn(lb)
    del world.cloud.groups[GROUP]
    with world.wish(lb):
        pass
    worker.turn(lb)
    assert _traffic(world, lb) == Traffic(admitted=(WEB,))
    assert "does not exist any more" in str(world.balancer(lb).reason)
    world.change(lb, vip_sg_ids=())
    worker.turn(lb)
    assert _traffic(world, lb) == Traffic()
    assert world.balancer(lb).reason is None


def test_a_port_made_again_undoes_no_write_of_the_user(world: World, six: Subnet) -> None:
    world.cloud.groups[GROUP] = SecurityGroup(id=GROUP, project_id="p1")
    lb, worker = world.create(more=(six,)), world.worker()
    worker.turn(lb)
    world.cloud.release(str(world.balancer(lb).vip_port_id))
    world.change(lb)

    def meanwhile(effect: str, moment: str) -> None:
        if (effect, moment) == ("ensure_vip", "after"):
            world.cloud.trouble = no_trouble
            world.change(lb, vip_sg_ids=[GROUP])

    world.cloud.trouble = meanwhile
    worker.turn(lb)
    assert world.balancer(lb).vip_sg_ids == (GROUP,)
    assert _traffic(world, lb) == Traffic(admitted=())

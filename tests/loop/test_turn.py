"""What a load balancer's owner sees of the loop, one story at a time."""

import threading

import pytest

from colonnade.errors import Later
from colonnade.model import HealthMonitor, L7Policy, L7Rule, Listener, Member, Pool
from colonnade.store import events, query, tables, work
from colonnade.types import L7Action, L7CompareType, L7RuleType, MonitorType, ProvisioningStatus
from tests.loop.world import World, fails, with_settings

ACTIVE, ERROR = ProvisioningStatus.ACTIVE, ProvisioningStatus.ERROR
PENDING_CREATE = ProvisioningStatus.PENDING_CREATE


def test_one_turn_makes_a_load_balancer_active(world: World) -> None:
    lb = world.create()
    assert world.worker().turn(lb)
    world.assert_matches()
    assert world.ledger(lb).due_at is None


def test_an_amphora_is_shown_truthfully(world: World) -> None:
    lb = world.create()
    world.worker().turn(lb)
    (amphora,) = world.tree(lb).amphorae
    port = world.cloud.ports[amphora.vrrp_port_id]
    assert (amphora.status, amphora.role, amphora.compute_id) == ("ALLOCATED", "STANDALONE", amphora.id)
    assert amphora.lb_network_ip == amphora.vrrp_ip == port.fixed_ips[0].address != amphora.ha_ip
    assert amphora.ha_port_id == world.balancer(lb).vip_port_id
    assert world.cloud.places[amphora.id].heartbeat_key == amphora.heartbeat_key
    assert len(bytes.fromhex(amphora.heartbeat_key)) == 32


def test_what_is_not_due_gets_no_turn(world: World) -> None:
    lb, worker = world.create(), world.worker()
    assert worker.turn(lb)
    assert not worker.turn(lb)
    assert not worker.turn("nobody")


def test_a_settled_load_balancer_tells_what_was_done(world: World) -> None:
    lb = world.create()
    world.worker().turn(lb)
    ((kind, sentence),) = world.story(lb)
    assert kind == "did"
    assert sentence.startswith("Booted amphora ") and sentence.endswith("All is as wanted.")


def test_a_look_that_finds_nothing_to_do_tells_nothing(world: World) -> None:
    lb, worker = world.create(), world.worker()
    worker.turn(lb)
    story = world.story(lb)
    with world.store.write() as conn:
        assert work.nudge(conn, lb, world.clock.now())
    assert worker.turn(lb)
    assert world.story(lb) == story


def test_writes_that_came_together_are_done_together(world: World) -> None:
    lb = world.create()
    for _ in range(5):
        world.add_listener(lb)
    world.worker().turn(lb)
    world.assert_matches()
    assert len(world.cloud.pushes) == 1


def test_a_write_during_a_turn_is_done_in_the_same_turn(world: World) -> None:
    lb = world.create()
    writes = iter(range(1))

    def write_meanwhile(effect: str, moment: str) -> None:
        if (effect, moment) == ("push", "after") and next(writes, None) is not None:
            world.change(lb, name="changed meanwhile")

    world.cloud.trouble = write_meanwhile
    world.worker().turn(lb)
    assert world.balancer(lb).name == "changed meanwhile"
    assert len(world.cloud.pushes) == 2
    world.assert_matches()


def test_writes_without_end_do_not_keep_a_turn_for_ever(world: World) -> None:
    lb = world.create()
    names = iter(range(1000))

    def always_write(effect: str, moment: str) -> None:
        if (effect, moment) == ("push", "after"):
            world.change(lb, name=f"change {next(names)}")

    world.cloud.trouble = always_write
    worker = world.worker()
    worker.turn(lb)
    assert len(world.cloud.pushes) < 20
    assert world.ledger(lb).owner is None and world.ledger(lb).due_at <= world.clock.now()
    assert world.balancer(lb).provisioning_status == PENDING_CREATE
    world.cloud.trouble = lambda effect, moment: None
    world.settle(worker)
    world.assert_matches()


def test_a_deleted_child_goes_when_the_turn_settles(world: World) -> None:
    lb, worker = world.create(), world.worker()
    pool = world.add_pool(lb)
    member = world.add_member(lb, pool)
    world.settle(worker)
    world.drop(lb, Member, member)
    assert [m.id for m in world.tree(lb).members] == [member]
    world.settle(worker)
    assert world.tree(lb).members == ()
    assert member not in world.cloud.places[world.tree(lb).amphorae[0].id].bundle.files["haproxy.cfg"]


def test_a_deleted_pool_takes_its_members_monitor_and_references_along(world: World) -> None:
    lb, worker = world.create(), world.worker()
    pool = world.add_pool(lb)
    world.add_member(lb, pool)
    with world.wish(lb) as conn:
        conn.execute(tables.listener.update().values(default_pool_id=pool))
        conn.execute(tables.tag.insert().values(object_id=pool, value="blue"))
        world.insert(conn, _monitor(world, lb, pool))
    world.settle(worker)
    world.drop(lb, Pool, pool)
    world.settle(worker)
    tree = world.tree(lb)
    assert (tree.pools, tree.members, tree.health_monitors) == ((), (), ())
    assert tree.listeners[0].default_pool_id is None
    assert world.count(tables.tag) == 0


def test_a_monitor_is_online_once_settled_and_its_members_unwatched_once_it_goes(world: World) -> None:
    lb, worker = world.create(), world.worker()
    pool = world.add_pool(lb)
    world.add_member(lb, pool)
    monitor = _monitor(world, lb, pool)
    with world.wish(lb) as conn:
        world.insert(conn, monitor)
    world.settle(worker)
    assert world.tree(lb).health_monitors[0].operating_status == "ONLINE"
    world.drop(lb, HealthMonitor, monitor.id)
    world.settle(worker)
    assert world.tree(lb).members[0].operating_status == "NO_MONITOR"


def _monitor(world: World, lb: str, pool: str) -> HealthMonitor:
    made = world.tree(lb).pools[0]
    return HealthMonitor(
        id=lb, project_id="p1", created_at=made.created_at, loadbalancer_id=lb, pool_id=pool, type=MonitorType.TCP,
        delay=5, timeout=3, max_retries=2,
    )  # fmt: skip


def _policy(world: World, lb: str, pool: str) -> tuple[L7Policy, L7Rule]:
    """A policy of the first listener that sends to the pool, with a rule."""
    own = {"project_id": "p1", "created_at": world.tree(lb).listeners[0].created_at, "loadbalancer_id": lb}
    policy = L7Policy(
        id=f"policy-{pool}"[:36], listener_id=world.tree(lb).listeners[0].id, action=L7Action.REDIRECT_TO_POOL,
        redirect_pool_id=pool, position=1, **own,
    )  # fmt: skip
    rule = L7Rule(
        id=f"rule-{pool}"[:36], l7policy_id=policy.id, type=L7RuleType.PATH, compare_type=L7CompareType.EQUAL_TO,
        value="/x", **own,
    )  # fmt: skip
    with world.wish(lb) as conn:
        world.insert(conn, policy)
        world.insert(conn, rule)
        conn.execute(tables.tag.insert().values(object_id=rule.id, value="blue"))
    return policy, rule


def test_policies_and_rules_are_active_and_online_once_settled(world: World) -> None:
    lb, worker = world.create(), world.worker()
    pool = world.add_pool(lb)
    _policy(world, lb, pool)
    world.settle(worker)
    tree = world.tree(lb)
    found = [(v.provisioning_status, v.operating_status) for v in (*tree.l7policies, *tree.l7rules)]
    assert found == [("ACTIVE", "ONLINE")] * 2
    world.assert_matches()
    with world.wish(lb) as conn:
        conn.execute(tables.l7policy.update().values(admin_state_up=False))
    world.settle(worker)
    assert world.tree(lb).l7policies[0].operating_status == "OFFLINE"


@pytest.mark.parametrize("cls", [Listener, L7Policy, L7Rule])
def test_a_deleted_policy_takes_its_rules_along_and_a_listener_its_policies(world: World, cls: type) -> None:
    lb, worker = world.create(), world.worker()
    policy, rule = _policy(world, lb, world.add_pool(lb))
    world.settle(worker)
    world.drop(lb, cls, {Listener: policy.listener_id, L7Policy: policy.id, L7Rule: rule.id}[cls])
    world.settle(worker)
    tree = world.tree(lb)
    assert len(tree.l7policies) == (1 if cls is L7Rule else 0)
    assert tree.l7rules == ()
    assert world.count(tables.tag) == 0
    world.assert_matches()


def test_nothing_of_l7_outlives_its_load_balancer(world: World) -> None:
    lb, worker = world.create(), world.worker()
    _policy(world, lb, world.add_pool(lb))
    world.settle(worker)
    world.delete(lb)
    world.settle(worker)
    assert [world.count(t) for t in (tables.l7policy, tables.l7rule, tables.tag)] == [0, 0, 0]


def test_a_member_elsewhere_has_the_amphora_plugged_there_and_unplugged_after(world: World) -> None:
    lb, worker = world.create(), world.worker()
    pool = world.add_pool(lb)
    far = world.far_subnets[0]
    member = world.add_member(lb, pool, far.id)
    world.settle(worker)
    (amphora,) = world.tree(lb).amphorae
    assert {p.network_id for p in world.cloud.plugged(amphora.id)} == {far.network_id, world.vip_subnet.network_id}
    world.drop(lb, Member, member)
    world.settle(worker)
    assert {p.network_id for p in world.cloud.plugged(amphora.id)} == {world.vip_subnet.network_id}
    world.assert_matches()


def test_a_second_subnet_of_a_network_has_an_address_while_it_is_needed(world: World) -> None:
    lb, worker = world.create(), world.worker()
    beside = world.cloud.add_subnet("10.9.0.0/16", world.vip_subnet.network_id)
    member = world.add_member(lb, world.add_pool(lb), beside.id)
    world.settle(worker)
    (amphora,) = world.tree(lb).amphorae
    (port,) = world.cloud.plugged(amphora.id)
    assert {f.subnet_id for f in port.fixed_ips} == {world.vip_subnet.id, beside.id}
    world.drop(lb, Member, member)
    world.settle(worker)
    (port,) = world.cloud.plugged(amphora.id)
    assert {f.subnet_id for f in port.fixed_ips} == {world.vip_subnet.id}
    world.assert_matches()


def test_failover_serves_from_the_new_before_the_old_goes(world: World) -> None:
    lb, worker = world.create(), world.worker()
    worker.turn(lb)
    (old,) = world.tree(lb).amphorae
    world.failover(lb)
    held: list[str] = []

    def watch(effect: str, moment: str) -> None:
        if effect == "remove":
            held.extend(world.cloud.held.values())

    world.cloud.trouble = watch
    worker.turn(lb)
    (new,) = world.tree(lb).amphorae
    assert new.id != old.id
    assert held == [new.id, new.id]
    world.assert_matches()


def test_changes_go_on_when_a_replacement_cannot_be_made(world: World) -> None:
    lb, worker = world.create(), world.worker()
    worker.turn(lb)
    (old,) = world.tree(lb).amphorae
    world.failover(lb)
    world.add_listener(lb)
    world.cloud.trouble = fails(Later, "ensure")
    worker.turn(lb)
    assert world.cloud.held == {world.balancer(lb).vip_address: old.id}
    assert world.cloud.places[old.id].bundle.files["haproxy.cfg"].count("listener ") == 2
    world.cloud.trouble = lambda effect, moment: None
    world.settle(worker)
    world.assert_matches()


def test_an_old_amphora_takes_the_vip_back_from_nobody(world: World) -> None:
    lb, worker = world.create(), world.worker()
    worker.turn(lb)
    (old,) = world.tree(lb).amphorae
    world.failover(lb)
    world.cloud.trouble = fails(Later, "remove")
    worker.turn(lb)
    new = next(a for a in world.tree(lb).amphorae if a.id != old.id)
    world.add_listener(lb)
    worker.turn(lb)
    assert world.cloud.held[world.balancer(lb).vip_address] == new.id
    assert world.cloud.pushes[-1][0] == new.id


def test_an_amphora_that_does_not_answer_can_be_failed_over(world: World) -> None:
    lb, worker = world.create(), world.worker()
    worker.turn(lb)
    (old,) = world.tree(lb).amphorae
    world.cloud.deaf.add(old.id)
    world.failover(lb)
    worker.turn(lb)
    assert old.id not in world.cloud.places
    world.assert_matches()


def test_a_rebooted_amphora_heals_without_being_replaced(world: World) -> None:
    lb, worker = world.create(), world.worker()
    worker.turn(lb)
    (amphora,) = world.tree(lb).amphorae
    del world.cloud.places[amphora.id]
    world.change(lb)
    worker.turn(lb)
    assert [a.id for a in world.tree(lb).amphorae] == [amphora.id]
    world.assert_matches()


def test_a_half_made_amphora_is_taken_up_again(world: World) -> None:
    lb, worker = world.create(), world.worker()
    world.cloud.trouble = fails(Later, "ensure")
    worker.turn(lb)
    (begun,) = world.tree(lb).amphorae
    world.cloud.trouble = lambda effect, moment: None
    world.settle(worker)
    assert [a.id for a in world.tree(lb).amphorae] == [begun.id]


def test_an_amphora_whose_haproxy_does_not_run_keeps_the_old_one_in_place(world: World) -> None:
    lb, worker = world.create(), world.worker()
    worker.turn(lb)
    (old,) = world.tree(lb).amphorae
    world.failover(lb)

    def spoil(effect: str, moment: str) -> None:
        if (effect, moment) == ("ensure", "after"):
            (new,) = set(world.cloud.places) - {old.id}
            world.cloud.places[new].error = "cannot bind"

    world.cloud.trouble = spoil
    worker.turn(lb)
    assert old.id in world.cloud.places
    assert "cannot bind" in world.balancer(lb).reason
    world.cloud.trouble = lambda effect, moment: None
    for place in world.cloud.places.values():
        place.error = None
    world.settle(worker)
    world.assert_matches()


def test_a_vip_port_that_vanished_is_made_again(world: World) -> None:
    lb, worker = world.create(), world.worker()
    worker.turn(lb)
    was = world.balancer(lb)
    del world.cloud.ports[was.vip_port_id]
    world.change(lb)
    worker.turn(lb)
    assert world.balancer(lb).vip_address == was.vip_address
    world.assert_matches()


def test_a_users_own_vip_port_that_vanished_is_told(world: World) -> None:
    lb, worker = world.create(), world.worker()
    worker.turn(lb)
    del world.cloud.ports[world.balancer(lb).vip_port_id]
    world.change(lb, vip_owned=False)
    worker.turn(lb)
    balancer = world.balancer(lb)
    assert balancer.provisioning_status == ERROR
    assert "does not exist any more" in balancer.reason and "create it anew" in balancer.reason


def test_delete_leaves_nothing_but_the_story(world: World) -> None:
    lb, worker = world.create(), world.worker()
    world.add_member(lb, world.add_pool(lb), world.far_subnets[0].id)
    worker.turn(lb)
    world.delete(lb)
    worker.turn(lb)
    assert (world.cloud.places, world.cloud.ports, world.cloud.held) == ({}, {}, {})
    left = {t.name for t in tables.metadata.sorted_tables if not t.name.startswith("local_") and world.count(t)}
    assert left == {"event"}
    assert world.story(lb)[-1][1].endswith("The load balancer is deleted.")


def test_delete_leaves_a_users_own_vip_port(world: World) -> None:
    lb, worker = world.create(), world.worker()
    world.change(lb, vip_owned=False)
    worker.turn(lb)
    vip = world.balancer(lb).vip_port_id
    world.delete(lb)
    worker.turn(lb)
    assert list(world.cloud.ports) == [vip]


def test_delete_before_the_first_turn_makes_nothing(world: World) -> None:
    lb = world.create()
    world.delete(lb)
    world.worker().turn(lb)
    assert (world.cloud.places, world.cloud.ports, world.cloud.pushes) == ({}, {}, [])
    assert world.tree(lb) is None


def test_removed_amphorae_leave_their_counts_to_the_listener_in_one_row(world: World) -> None:
    lb, worker = world.create(), world.worker()
    worker.turn(lb)
    for counted in (100, 20):
        tree = world.tree(lb)
        with world.store.write() as conn:
            conn.execute(
                tables.listener_statistics.insert().values(
                    listener_id=tree.listeners[0].id, amphora_id=tree.amphorae[0].id, loadbalancer_id=lb, epoch="e",
                    active_connections=7, base_bytes_in=1, last_bytes_in=counted,
                )
            )  # fmt: skip
        world.failover(lb)
        worker.turn(lb)
    with world.store.read() as conn:
        row = conn.execute(tables.listener_statistics.select()).one()
        sums = query.load_balancer_statistics(conn, lb)
    assert (row.amphora_id, row.active_connections) == ("", 0)
    assert sums["bytes_in"] == 122


def test_work_without_a_load_balancer_is_forgotten(world: World) -> None:
    with world.wish("nobody"):
        pass
    world.worker().turn("nobody")
    assert world.count(tables.work) == 0


def test_a_long_turn_keeps_its_lease(world: World) -> None:
    lb, worker = world.create(), world.worker()
    lease_s = with_settings().controller_worker.lease_s

    def slow(effect: str, moment: str) -> None:
        if moment == "before" and effect in ("ensure", "ensure_plugged", "push"):
            world.clock.at += lease_s * 0.6
            assert not world.worker().turn(lb)

    world.cloud.trouble = slow
    worker.turn(lb)
    world.assert_matches()


def test_events_are_told_in_words_without_secrets(world: World) -> None:
    lb = world.create()
    world.worker().turn(lb)
    key = world.tree(lb).amphorae[0].heartbeat_key
    assert all(key not in sentence for _, sentence in world.story(lb))
    with world.store.read() as conn:
        assert not events.crowded(conn, 10)


def test_what_a_worker_did_after_losing_its_lease_is_looked_at_again(world: World) -> None:
    lb, late, other = world.create(), world.worker(), world.worker()
    moments = iter(range(1))

    def stall(effect: str, moment: str) -> None:
        if (effect, moment) == ("push", "before") and next(moments, None) is not None:
            world.clock.at += 31
            world.change(lb, name="newer")
            assert other.turn(lb)
            assert world.ledger(lb).due_at is None

    world.cloud.trouble = stall
    late.turn(lb)  # its push of the older bundle arrives last
    assert late.numbers["lost"] == 1
    world.settle(other)
    assert world.cloud.places[world.tree(lb).amphorae[0].id].bundle.files["haproxy.cfg"].startswith("newer")
    world.assert_matches()


def test_a_worker_that_is_to_stop_puts_its_load_balancer_back(world: World) -> None:
    lb, worker, stop = world.create(), world.worker(), threading.Event()
    stop.set()
    worker.run(stop)
    worker.turn(lb)
    assert world.ledger(lb).owner is None
    assert world.ledger(lb).due_at <= world.clock.at
    world.settle(world.worker())
    world.assert_matches()

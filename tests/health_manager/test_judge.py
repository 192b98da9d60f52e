"""What heartbeats change in the database, and what they do not."""

import logging
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from colonnade import wire
from colonnade.clock import utc
from colonnade.health_manager import counts
from colonnade.settings import Drivers
from colonnade.store import amphorae, tables
from colonnade.types import AmphoraStatus


def test_a_first_heartbeat_makes_all_online(world):
    ids = world.add()
    world.hear(world.beat(ids))
    for table, id in (
        (tables.load_balancer, "lb"), (tables.listener, "listener"), (tables.pool, "pool"),
        (tables.member, "member"), (tables.health_monitor, "monitor"),
    ):  # fmt: skip
        row = world.row(table, ids[id])
        assert (row.operating_status, row.reason, row.updated_at) == ("ONLINE", None, None)


def test_a_failing_member_shows_why_and_leaves_an_event(world):
    ids = world.add()
    world.hear(world.beat(ids))
    world.hear(world.beat(ids, member="DOWN", check="L7STS 404", pool="DOWN"))
    row = world.row(tables.member, ids["member"])
    assert row.operating_status == "ERROR"
    assert row.reason == "The health check got HTTP 404 from 10.0.0.5:80/; expected 200."
    assert f"Member one is ERROR: {row.reason}" in world.events()
    assert world.row(tables.load_balancer, ids["lb"]).operating_status == "ERROR"


def test_a_member_without_a_name_is_called_by_its_address(world):
    ids = world.add(member_name="")
    world.hear(world.beat(ids))
    assert "Member 10.0.0.5:80 is ONLINE." in world.events()


def test_a_member_that_is_back_has_no_reason(world):
    ids = world.add()
    world.hear(world.beat(ids, member="DOWN", check="L4CON", pool="DOWN"))
    world.hear(world.beat(ids))
    row = world.row(tables.member, ids["member"])
    assert (row.operating_status, row.reason) == ("ONLINE", None)
    assert [e for e in world.events() if e.startswith("Member")][1:] == ["Member one is ONLINE."]


def test_the_same_word_again_writes_nothing(world):
    ids = world.add()
    world.hear(world.beat(ids))
    before = world.events()
    with _statements(world) as said:
        world.hear(world.beat(ids))
    assert not [s for s in said if s.startswith(("INSERT", "UPDATE"))]
    assert world.events() == before


def test_many_heartbeats_are_one_transaction(world):
    many = [world.add() for _ in range(20)]
    for ids in many:
        world.hear(world.beat(ids))
    for ids in many:
        down = world.beat(ids, member="DOWN", check="L4CON", pool="DOWN")
        world.manager._inbox.hear(wire.pack(down, b"\xab" * 32), world.clock.now())
    with _statements(world) as said:
        world.manager.turn()
    assert said.count("BEGIN IMMEDIATE") == 1
    assert all(world.row(tables.member, ids["member"]).operating_status == "ERROR" for ids in many)


def test_the_reason_of_a_provisioning_error_is_left_alone(world):
    ids = world.add()
    for table, id in ((tables.member, "member"), (tables.load_balancer, "lb")):
        world.change(table, ids[id], provisioning_status="ERROR", reason="No address is free.")
    world.hear(world.beat(ids, member="DOWN", check="L4CON", pool="DOWN"))
    for table, id in ((tables.member, "member"), (tables.load_balancer, "lb")):
        row = world.row(table, ids[id])
        assert (row.operating_status, row.reason) == ("ERROR", "No address is free.")


def test_the_reason_that_the_loop_shows_while_it_tries_is_left_alone(world):
    ids = world.add()
    world.change(tables.load_balancer, ids["lb"], provisioning_status="PENDING_UPDATE", reason="Still trying.")
    world.hear(world.beat(ids))
    assert world.row(tables.load_balancer, ids["lb"]).reason == "Still trying."


def test_what_was_settled_meanwhile_is_judged_without_a_new_word(world):
    ids = world.add()
    world.hear(world.beat(ids))
    world.change(tables.member, ids["member"], admin_state_up=False)
    world.change(tables.work, ids["lb"], generation=2)
    world.clock.time += 1
    world.manager.turn()
    assert world.row(tables.member, ids["member"]).operating_status == "OFFLINE"


def test_an_amphora_that_falls_silent_is_told_once_and_its_return_heals(world):
    ids = world.add()
    world.hear(world.beat(ids))
    for _ in range(5):
        world.clock.time += 30
        world.manager.turn()
    row = world.row(tables.load_balancer, ids["lb"])
    assert row.operating_status == "ERROR"
    assert "has sent no word for 90 s" in row.reason
    assert sum("sent no word" in e for e in world.events()) == 1
    assert world.bell.rung == [ids["lb"]]
    assert world.row_of_work(ids["lb"]).due_at is not None
    world.hear(world.beat(ids))
    row = world.row(tables.load_balancer, ids["lb"])
    assert (row.operating_status, row.reason) == ("ONLINE", None)


def test_amphorae_that_are_nowhere_are_never_silent(world):
    ids = world.add()
    world.manager._socket.close()
    world.manager = world.start(drivers=Drivers(amphora="noop"))
    before = world.row(tables.load_balancer, ids["lb"])
    for _ in range(4):
        world.clock.time += 600
        world.manager.turn()
    assert world.row(tables.load_balancer, ids["lb"]) == before
    assert before.operating_status == "OFFLINE"
    assert world.row_of_work(ids["lb"]).due_at is None


def test_a_manager_that_was_away_calls_nobody_silent(world):
    ids = world.add()
    world.hear(world.beat(ids))
    world.clock.time += 1000
    world.manager._socket.close()
    world.manager = world.start()
    world.clock.time += 59
    world.manager.turn()
    assert world.row(tables.load_balancer, ids["lb"]).operating_status == "ONLINE"
    world.clock.time += 2
    world.manager.turn()
    assert world.row(tables.load_balancer, ids["lb"]).operating_status == "ERROR"


def test_an_amphora_that_another_manager_hears_is_not_silent(world):
    ids = world.add()
    world.hear(world.beat(ids))
    for _ in range(4):
        world.clock.time += 30
        world.change(tables.amphora, ids["amphora"], heartbeat_at=utc(world.clock.time))
        world.manager.turn()
    assert world.row(tables.load_balancer, ids["lb"]).operating_status == "ONLINE"


def test_an_amphora_that_never_served_is_never_silent(world):
    ids = world.add(amphora_status=AmphoraStatus.BOOTING)
    world.clock.time += 1000
    world.manager.turn()
    assert world.row(tables.load_balancer, ids["lb"]).operating_status == "OFFLINE"
    assert world.bell.rung == []


def test_heartbeat_at_is_written_coarsely(world):
    ids = world.add()
    world.hear(world.beat(ids))
    first = world.row(tables.amphora, ids["amphora"]).heartbeat_at
    assert first.replace(tzinfo=UTC).timestamp() == world.clock.now()
    for _ in range(3):
        world.clock.time += 3
        world.hear(world.beat(ids))
        assert world.row(tables.amphora, ids["amphora"]).heartbeat_at == first
    world.clock.time += 3
    world.hear(world.beat(ids))
    assert world.row(tables.amphora, ids["amphora"]).heartbeat_at > first


def test_another_bundle_than_the_settled_one_is_work_when_said_twice(world):
    ids = world.add()
    world.hear(world.beat(ids, digest="other"))
    assert world.bell.rung == []
    world.hear(world.beat(ids, digest="other"))
    assert world.bell.rung == [ids["lb"]]
    assert world.row_of_work(ids["lb"]).due_at == world.clock.now()
    assert world.row_of_work(ids["lb"]).generation == 1


def test_another_bundle_is_no_news_while_the_worker_is_at_it(world):
    ids = world.add()
    world.change(tables.work, ids["lb"], due_at=5.0)
    for _ in range(3):
        world.hear(world.beat(ids, digest=None))
    assert world.bell.rung == []
    assert world.row_of_work(ids["lb"]).due_at == 5.0


def test_counters_add_up_over_epochs(world):
    ids = world.add()
    said = []
    for epoch, total in (("e1", 5), ("e1", 9), ("e2", 2), ("e2", 2), ("e3", 0), ("e3", 4)):
        world.clock.time += 2
        counters = {"total_connections": total, "bytes_in": total * 10, "active_connections": 1}
        world.hear(world.beat(ids, epoch=epoch, counters=counters))
        (row,) = world.statistics()
        said.append(row["base_total_connections"] + row["last_total_connections"])
        assert row["base_bytes_in"] + row["last_bytes_in"] == said[-1] * 10
    assert said == [5, 9, 11, 11, 11, 15]


def test_counters_alone_are_written_every_two_seconds(world):
    ids = world.add()
    world.hear(world.beat(ids, counters={"bytes_in": 1}))
    world.hear(world.beat(ids, counters={"bytes_in": 2}))
    assert world.statistics()[0]["last_bytes_in"] == 1
    world.clock.time += 2
    world.manager.turn()
    assert world.statistics()[0]["last_bytes_in"] == 2


def test_counters_of_a_listener_that_is_gone_are_not_written(world):
    ids = world.add()
    with world.store.write() as conn:
        conn.execute(tables.listener.delete())
    world.hear(world.beat(ids, counters={"bytes_in": 1}))
    assert world.statistics() == []


def test_a_late_count_of_an_amphora_that_is_gone_is_not_written(world):
    ids = world.add()
    world.hear(world.beat(ids, counters={"bytes_in": 1}))
    world.hear(world.beat(ids, counters={"bytes_in": 2}))  # waits for its two seconds
    with world.store.write() as conn:
        amphorae.drop(conn, ids["amphora"])
    world.clock.time += 2
    world.manager.turn()
    assert [(row["amphora_id"], row["base_bytes_in"]) for row in world.statistics()] == [("", 1)]


def test_an_amphora_that_is_gone_is_forgotten(world):
    ids = world.add()
    world.hear(world.beat(ids))
    with world.store.write() as conn:
        conn.execute(tables.amphora.delete())
    world.clock.time += 1
    world.hear(world.beat(ids, counters={"bytes_in": 9}))
    assert world.manager._inbox._keys == {}
    assert world.manager._judge._beats == {}


def test_a_database_outage_is_told_once_and_nothing_is_lost(world, caplog):
    ids = world.add()
    world.hear(world.beat(ids))
    with _away(world), caplog.at_level(logging.INFO):
        world.hear(world.beat(ids, member="DOWN", check="L4CON", pool="DOWN", counters={"bytes_in": 7}))
        for _ in range(9):
            world.clock.time += 30
            world.manager.turn()
    assert sum("database is away" in r.message for r in caplog.records) == 1
    world.manager.turn()
    assert world.row(tables.member, ids["member"]).operating_status == "ERROR"
    assert world.statistics()[0]["last_bytes_in"] == 7


def test_an_outage_of_the_database_does_not_excuse_the_silent(world):
    ids = world.add()
    world.hear(world.beat(ids))
    world.clock.time += 61
    world.manager.turn()
    with _away(world):
        world.clock.time += 2
        world.manager.turn()
    world.clock.time += 2
    world.manager.turn()
    assert world.row(tables.load_balancer, ids["lb"]).operating_status == "ERROR"


epochs = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 50), st.integers(0, 10**12)), max_size=30)


@given(epochs)
def test_totals_never_run_backwards(history):
    row, before = None, (0, 0)
    for epoch, connections, size in history:
        said = counts.Count("lb", epoch, wire.Counters(status="OPEN", total_connections=connections, bytes_in=size))
        row = _stored(row, said)
        total = tuple(row[f"base_{n}"] + row[f"last_{n}"] for n in ("total_connections", "bytes_in"))
        assert total >= before
        assert all(a >= b for a, b in zip(total, before, strict=True))
        before = total


def _stored(row, count):
    if row is None:
        return counts._new(("l", "a"), count)
    stored = type("Row", (), row)
    folded = counts._folded(stored, count)
    fresh = {k.removeprefix("new_"): v for k, v in folded.items() if k.startswith("new_")}
    return {**row, **fresh}


@contextmanager
def _statements(world):
    said = []

    def note(_conn, _cursor, statement, *_):
        said.append(statement)

    event.listen(world.store.engine, "before_cursor_execute", note)
    yield said
    event.remove(world.store.engine, "before_cursor_execute", note)


@contextmanager
def _away(world):
    def refuse(*_):
        raise OperationalError("SELECT 1", {}, Exception("the database went away"))

    event.listen(world.store.engine, "before_cursor_execute", refuse)
    yield
    event.remove(world.store.engine, "before_cursor_execute", refuse)


def test_a_replaced_amphora_heals_what_its_silence_broke(world):
    ids = world.add()
    world.clock.time += 61
    world.manager.turn()
    assert world.row(tables.load_balancer, ids["lb"]).operating_status == "ERROR"
    with world.store.write() as conn:
        conn.execute(tables.amphora.update().values(id="5d3c36e1-2f4a-4d1e-9c38-000000000001"))
    world.hear(replace(world.beat(ids), amphora_id="5d3c36e1-2f4a-4d1e-9c38-000000000001"))
    assert world.row(tables.load_balancer, ids["lb"]).operating_status == "ONLINE"

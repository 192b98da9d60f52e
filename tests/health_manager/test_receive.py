"""Which datagrams count."""

import dataclasses
import logging
import socket
import threading
import time
from dataclasses import replace
from typing import Any

import pytest

from colonnade import wire
from colonnade.health_manager.receive import Inbox

ID = "7ed4a5a1-2f4a-4d1e-9c38-000000000001"
KEY = b"k" * 32
NOW = 1000.0


@pytest.fixture
def inbox():
    inbox = Inbox(skew_s=60)
    inbox.learn({ID: KEY}, [ID], 0.0)
    return inbox


def beat(**more):
    return wire.Heartbeat(**{"amphora_id": ID, "sequence": 5, "time": NOW, "epoch": "e1", "digest": None, **more})


def takes(inbox, said, key=KEY, now=NOW):
    inbox.hear(wire.pack(said, key), now)
    return ID in inbox.take()


def test_a_good_heartbeat_is_taken(inbox):
    inbox.hear(wire.pack(beat(), KEY), NOW)
    assert inbox.take() == {ID: beat()}
    assert inbox.take() == {}


@pytest.mark.parametrize(("what", "second", "taken"), [
    ("the same again", beat(), False),
    ("an older sequence", beat(sequence=4), False),
    ("a newer sequence", beat(sequence=6), True),
    ("a newer sequence, its clock set back", beat(sequence=6, time=NOW - 5), True),
    ("another epoch, newer", beat(epoch="e2", sequence=1, time=NOW + 1), True),
    ("another epoch, recorded earlier", beat(epoch="e0", sequence=99, time=NOW - 1), False),
    ("another epoch of the same instant", beat(epoch="e2", sequence=1), False),
    ("from long ago", beat(sequence=6, time=NOW - 61), False),
    ("from the future", beat(sequence=6, time=NOW + 61), False),
])  # fmt: skip
def test_what_is_not_new_is_refused(inbox, what, second, taken):
    assert takes(inbox, beat())
    assert takes(inbox, second) is taken


def test_an_epoch_that_ended_does_not_come_back(inbox):
    assert takes(inbox, beat())
    assert takes(inbox, beat(epoch="e2", sequence=1, time=NOW + 1))
    assert not takes(inbox, beat(sequence=6))


@pytest.mark.parametrize("cut", [b"", b"CLN1", b"x" * 100, wire.pack(beat(), KEY)[:-1], wire.pack(beat(), b"wrong")])
def test_what_is_no_heartbeat_is_refused(inbox, cut):
    inbox.hear(cut, NOW)
    assert inbox.take() == {}


def test_a_flipped_bit_is_refused(inbox):
    good = wire.pack(beat(), KEY)
    for place in range(len(good)):
        inbox.hear(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :], NOW)
    assert inbox.take() == {}


def test_a_stranger_waits_until_its_key_is_known():
    inbox = Inbox(60)
    assert not takes(inbox, beat())
    assert inbox.strangers() == [ID]
    inbox.learn({ID: KEY}, [ID], NOW)
    assert ID in inbox.take()


def test_a_stranger_without_a_key_is_asked_about_seldom():
    inbox = Inbox(60)
    takes(inbox, beat())
    inbox.learn({}, [ID], NOW)
    takes(inbox, beat(), now=NOW + 9)
    assert inbox.strangers() == []
    takes(inbox, beat(), now=NOW + 10)
    assert inbox.strangers() == [ID]


def test_a_changed_key_is_looked_up(inbox):
    assert not takes(inbox, beat(), key=b"new")
    inbox.learn({ID: b"new"}, inbox.strangers(), NOW)
    assert ID in inbox.take()


def test_strangers_are_bounded():
    inbox = Inbox(60)
    for n in range(3000):
        one = replace(beat(), amphora_id=f"7ed4a5a1-2f4a-4d1e-9c38-{n:012d}")
        inbox.hear(wire.pack(one, KEY), NOW)
    assert len(inbox.strangers()) == 1000


def test_a_clock_that_is_off_is_told_once(inbox, caplog):
    with caplog.at_level(logging.WARNING):
        for n in range(5):
            takes(inbox, beat(sequence=n, time=NOW - 100))
    assert [r.message for r in caplog.records] == [
        "A heartbeat's time is off by -100 s: it is refused. Set the clocks, or it is a recorded one."
    ]


def test_heartbeats_over_the_network_reach_the_database(world):
    ids = world.add()
    stop = threading.Event()
    runner = threading.Thread(target=world.manager.run, args=(stop,))
    host, port = world.manager.address.rsplit(":", 1)
    runner.start()
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.sendto(b"noise", (host, int(port)))
            s.sendto(wire.pack(world.beat(ids), bytes.fromhex("ab" * 32)), (host, int(port)))
        deadline = time.monotonic() + 60
        while "Member one is ONLINE." not in world.events():
            assert time.monotonic() < deadline
    finally:
        stop.set()
        runner.join()


@pytest.mark.parametrize(
    "wrong",
    [
        {"sequence": "9"}, {"sequence": 1 << 70}, {"time": float("nan")}, {"time": "now"}, {"time": True}, {"epoch": 5},
        {"digest": 7}, {"haproxy": []}, {"pools": 5}, {"pools": {"p": 1}},
        {"listeners": {"l": wire.Counters(status="OPEN", bytes_in=1 << 70)}},
        {"listeners": {"l": wire.Counters(status="OPEN", bytes_in="z")}},
        {"members": {"p": {"m": wire.MemberState(status=None)}}},
    ],
)  # fmt: skip
def test_a_signed_heartbeat_of_wrong_types_is_none(wrong: dict[str, Any]) -> None:
    good = wire.Heartbeat(
        amphora_id="00000000-0000-4000-8000-000000000001", sequence=1, time=1.8e9, epoch="e", digest=None
    )
    key = b"k" * 32
    assert wire.unpack(wire.pack(good, key), key) == good
    assert wire.unpack(wire.pack(dataclasses.replace(good, **wrong), key), key) is None

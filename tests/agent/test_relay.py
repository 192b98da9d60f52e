"""The relay alone, as a process on loopback."""

import contextlib
import json
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rig import eventually

from colonnade.agent import relay
from colonnade.agent.place import kept


class Member:
    """On ::1; answers with the port that it was asked from."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        self.socket.bind(("::1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                data, sender = self.socket.recvfrom(65536)
                self.socket.sendto(f"{sender[1]} ".encode() + data, sender)


class Running:
    """The process with room for ``most`` flows."""

    def __init__(self, directory: Path, most: int) -> None:
        self.directory = directory
        (directory / "own").mkdir()
        self.member = Member()
        self.doors = [self.door()]
        self.write(60)
        words = [sys.executable, "-I", "-S", relay.__file__, str(most)]
        self.process = subprocess.Popen(words, cwd=directory, stderr=subprocess.DEVNULL)
        self.opened(1)

    def door(self) -> list[object]:
        """At a port that is free, and none of those that the kernel gives to whoever asks for any."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            while True:
                with contextlib.suppress(OSError):
                    s.bind(("127.0.0.1", random.randrange(10000, 30000)))
                    return ["127.0.0.1", s.getsockname()[1], "::1", self.member.port]

    def write(self, idle: float) -> None:
        fresh = self.directory / "relay.new"
        fresh.write_text(json.dumps({"doors": self.doors, "idle": idle}))
        fresh.replace(self.directory / "relay.json")  # whole, as the agent writes it

    def again(self, idle: float) -> None:
        self.write(idle)
        self.process.send_signal(signal.SIGHUP)

    def opened(self, count: int) -> None:
        eventually(lambda: len(kept(self.directory / "own" / "relay.open") or []) == count)

    def client(self, door: int = 0) -> socket.socket:
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.settimeout(20)
        s.connect(("127.0.0.1", self.doors[door][1]))
        return s


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    made = Running(tmp_path, 3)
    yield made
    made.process.kill()
    made.process.wait(5)
    made.member.socket.close()


def ask(client: socket.socket) -> str:
    client.send(b"?")
    return client.recv(100).decode().split(" ")[0]


def test_each_flow_has_a_port_of_its_own_and_keeps_it(running: Running) -> None:
    one, other = running.client(), running.client()
    assert ask(one) == ask(one) != ask(other) == ask(other)
    one.send(b"x" * 60000)
    assert len(one.recv(65536)) > 60000


def test_there_are_never_too_many_flows_and_the_longest_silent_goes(running: Running) -> None:
    clients = [running.client() for _ in range(3)]
    before = [ask(c) for c in clients]
    assert ask(clients[0]) == before[0]  # now the second one was silent for longest
    assert ask(running.client())
    assert [ask(clients[0]), ask(clients[2])] == [before[0], before[2]]
    assert ask(clients[1]) != before[1]


def test_a_silent_flow_ends(running: Running) -> None:
    running.again(2)
    talking, silent = running.client(), running.client()
    before = ask(talking), ask(silent)
    for _ in range(12):
        time.sleep(0.3)
        assert ask(talking) == before[0]
    assert ask(silent) != before[1]


def test_doors_come_and_go_and_flows_of_others_stay(running: Running) -> None:
    client = running.client()
    before = ask(client)
    running.doors.append(running.door())
    running.again(60)
    running.opened(2)
    assert ask(running.client(1))
    assert ask(client) == before
    del running.doors[1]
    running.again(60)
    running.opened(1)
    assert ask(client) == before


def test_a_door_that_is_not_listed_goes_on_for_a_while(running: Running) -> None:
    """The kernel's rules lead there a little longer, and the member may be answering."""
    running.doors += [running.door(), running.door()]
    running.again(60)
    running.opened(3)
    stays, later, goes = (running.client(n) for n in range(3))
    before = ask(stays), ask(later), ask(goes)
    place = running.doors.pop()
    running.again(60)
    running.opened(2)
    assert ask(goes) == before[2]
    time.sleep(relay.LINGER * 0.7)
    del running.doors[1]
    running.again(60)  # does not begin anew
    running.opened(1)
    assert ask(goes) == before[2]

    def refused() -> bool:
        try:
            return not ask(goes)
        except ConnectionRefusedError:
            return True

    goes.settimeout(0.1)
    assert eventually(refused)
    assert ask(later) == before[1]
    running.doors.append(place)
    running.again(60)
    running.opened(2)
    assert ask(running.client(1))
    assert ask(stays) == before[0]


def test_a_place_that_another_member_gets_is_its_own_at_once(running: Running) -> None:
    client = running.client()
    before = ask(client)
    other = Member()
    running.doors[0] = [*running.doors[0][:3], other.port]
    running.again(60)
    eventually(lambda: kept(running.directory / "own" / "relay.open") == running.doors)
    assert ask(client) != before
    other.socket.close()


def test_a_door_that_cannot_be_had_closes_no_other(running: Running) -> None:
    client = running.client()
    before = ask(client)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        running.doors.append(["127.0.0.1", taken.getsockname()[1], "::1", running.member.port])
        running.again(60)
        running.doors.append(running.door())
        running.again(60)
        running.opened(2)
        assert ask(client) == before
    assert running.process.poll() is None


def test_a_member_that_refuses_does_no_harm(running: Running) -> None:
    running.doors.append(["127.0.0.1", running.door()[1], "::1", 9])
    running.again(60)
    running.opened(2)
    refused = running.client(1)
    for _ in range(5):
        refused.send(b"?")
        time.sleep(0.02)
    assert ask(running.client())

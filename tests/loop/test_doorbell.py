"""Doorbells: quick, and harmless whatever becomes of those who listen."""

import os
import socket
import threading
from pathlib import Path

import pytest

from colonnade.drivers.doorbell import MemoryDoorbell, SocketDoorbell

pytestmark = pytest.mark.any_database


def test_a_ring_is_heard_once_by_every_listener(tmp_path: Path) -> None:
    one, two, ringer = (SocketDoorbell(tmp_path, listen) for listen in (True, True, False))
    ringer.ring("a")
    ringer.ring("a")
    ringer.ring("b")
    assert one.wait(1) == two.wait(1) == {"a", "b"}
    assert one.wait(0) == set()
    for bell in (one, two, ringer):
        bell.close()


def test_a_ring_wakes_who_waits(tmp_path: Path) -> None:
    for bell in (MemoryDoorbell(), SocketDoorbell(tmp_path, listen=True)):
        heard: list[set[str]] = []
        thread = threading.Thread(target=lambda bell=bell, heard=heard: heard.append(bell.wait(20)))
        thread.start()
        bell.ring("a")
        thread.join(20)
        assert heard == [{"a"}]


def test_a_dead_listener_is_forgotten_and_a_strange_file_is_not(tmp_path: Path) -> None:
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    dead.bind(str(tmp_path / "1-0.sock"))
    dead.close()
    (tmp_path / "note.txt").write_text("stays")
    SocketDoorbell(tmp_path, listen=False).ring("a")
    assert [p.name for p in tmp_path.iterdir()] == ["note.txt"]


def test_ringing_never_waits_for_a_listener_that_does_not_listen(tmp_path: Path) -> None:
    full = SocketDoorbell(tmp_path, listen=True)
    ringer = SocketDoorbell(tmp_path, listen=False)
    for n in range(20_000):
        ringer.ring(f"{n}")
    assert full.wait(0)


def test_ringing_never_raises(tmp_path: Path) -> None:
    ringer = SocketDoorbell(tmp_path / "bells", listen=False)
    (tmp_path / "bells").rmdir()
    ringer.ring("a")
    ringer.close()
    ringer.ring("a")


def test_a_closed_listener_leaves_no_socket(tmp_path: Path) -> None:
    SocketDoorbell(tmp_path, listen=True).close()
    assert list(tmp_path.iterdir()) == []


def test_a_socket_left_by_a_dead_process_of_the_same_number_is_in_nobodys_way(tmp_path: Path) -> None:
    for n in range(200):
        (tmp_path / f"{os.getpid()}-{n}.sock").touch()
    bell = SocketDoorbell(tmp_path, listen=True)
    bell.ring("a")
    assert bell.wait(1) == {"a"}
    bell.close()


@pytest.mark.parametrize("seconds", [0.0, 0.01])
def test_waiting_ends_when_nobody_rings(tmp_path: Path, seconds: float) -> None:
    assert MemoryDoorbell().wait(seconds) == set()
    assert SocketDoorbell(tmp_path, listen=False).wait(seconds) == set()

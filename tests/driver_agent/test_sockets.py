"""The driver agent's sockets and peers that do not behave."""

import contextlib
import json
import socket
import stat
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from octavia_lib.api.drivers.driver_lib import DriverLibrary

from colonnade.clock import SystemClock
from colonnade.driver_agent import sockets as module
from colonnade.driver_agent.sockets import Door, Server
from tests.driver_agent.conftest import Scene
from tests.support import eventually


def connected(path: str) -> socket.socket:
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    s.settimeout(60)
    s.connect(path)
    return s


def answered(s: socket.socket) -> Any:
    with s, s.makefile("rb") as file:
        data = file.read(int(file.readline()))
        with contextlib.suppress(ConnectionResetError):  # so it ends for who sent more than was read
            assert file.read() == b""
    return json.loads(data)


def sent(path: str, data: bytes, *, more: bool = False) -> Any:
    s = connected(path)
    s.sendall(data)
    if not more:
        s.shutdown(socket.SHUT_WR)
    return answered(s)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "ended early"), (b"\n", "begins with its length"), (b"x\n{}", "begins with its length"),
        (b"-3\n{}", "begins with its length"), (b"12345678901234567890\n{}", "begins with its length"),
        ("٣\n{}".encode(), "begins with its length"), (b"9999999999\n{}", "at most"), (b"7\n{}", "ended early"),
        (b"2\n{]", "not JSON"), (b"3\n\xff\xff\xff", "not JSON"), (b"200000\n" + b"[" * 200_000, "not JSON"),
        (b"2\n[]", "is an object"), (b"4\nnull", "is an object"), (b'8\n{"a":[]}', "no collections a"),
        (b'13\n{"members":5}', "is not a list"), (b'15\n{"members":[5]}', "has no id"),
        (b'22\n{"members":[{"id":5}]}', "has no id"),
    ],
)  # fmt: skip
def test_nonsense_gets_a_fault(sockets: tuple[str, str, str], data: bytes, why: str) -> None:
    said = sent(sockets[0], data)
    assert said["status_code"] == 500
    assert why in said["fault_string"]


@pytest.mark.parametrize("request_", [[], {}, {"object": "members"}, {"object": "amphorae", "id": "x"}, {"id": [1]}])
def test_nonsense_about_an_object_gets_a_fault(sockets: tuple[str, str, str], request_: Any) -> None:
    data = json.dumps(request_).encode()
    assert sent(sockets[2], b"%d\n%b" % (len(data), data))["status_code"] == 500


def test_a_request_may_come_in_pieces(sockets: tuple[str, str, str]) -> None:
    s = connected(sockets[0])
    for piece in (b"1", b"4\n", b'{"mem', b'bers":[]', b"}"):
        s.sendall(piece)
        time.sleep(0.02)
    assert answered(s) == {"status_code": 200}


@pytest.mark.usefixtures("hurried")
def test_one_that_is_too_slow_is_told_so(sockets: tuple[str, str, str]) -> None:
    began = time.monotonic()
    s = connected(sockets[0])
    stop = threading.Event()

    def drip() -> None:
        s.sendall(b"5000\n")
        while not stop.wait(0.1):
            try:
                s.sendall(b" ")
            except OSError:
                return

    threading.Thread(target=drip, daemon=True).start()
    assert "too long" in answered(s)["fault_string"]
    stop.set()
    assert 0.9 < time.monotonic() - began < 45  # it would go on for 500 s


@pytest.mark.usefixtures("hurried")
def test_many_that_say_nothing_keep_nobody_out_for_long(sockets: tuple[str, str, str]) -> None:
    silent = [connected(sockets[0]) for _ in range(12)]  # three times as many as there are places
    assert sent(sockets[0], b'14\n{"members":[]}') == {"status_code": 200}
    for s in silent:
        s.close()


def test_one_that_reads_nothing_is_left(scene: Scene, tmp_path: Path) -> None:
    stop, path = threading.Event(), tmp_path / "big.sock"
    door = Door(
        name="big", path=path, answer=lambda _: {"x": "y" * 10_000_000}, timeout_s=2, most=1, warn_at=0.75
    )  # fmt: skip
    thread = threading.Thread(target=Server(door, stop, SystemClock()).run, daemon=True)
    thread.start()
    lazy = connected(str(path))
    lazy.sendall(b"2\n{}")
    s = connected(str(path))
    s.sendall(b"2\n{}")
    assert len(answered(s)["x"]) == 10_000_000
    lazy.close()
    stop.set()
    thread.join(5)


def test_only_the_services_user_and_group_come_in(sockets: tuple[str, str, str]) -> None:
    for path in sockets:
        assert stat.S_IMODE(Path(path).stat().st_mode) == 0o660


def test_a_socket_that_a_dead_process_left_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    module.bind(path).close()
    assert path.exists()
    module.bind(path).close()
    path.unlink()
    path.write_text("precious")
    with pytest.raises(FileExistsError):
        module.bind(path)
    assert path.read_text() == "precious"


def test_an_answer_that_fails_is_a_fault(scene: Scene, tmp_path: Path) -> None:
    def broken(_: object) -> Any:
        raise RuntimeError("secret words")

    stop, path = threading.Event(), tmp_path / "broken.sock"
    door = Door(name="broken", path=path, answer=broken, timeout_s=60, most=1, warn_at=0.5)
    thread = threading.Thread(target=Server(door, stop, SystemClock()).run, daemon=True)
    thread.start()
    said = sent(str(path), b"2\n{}")
    assert said["status_code"] == 500
    assert "secret" not in said["fault_string"]
    stop.set()
    thread.join(5)


def test_many_reports_at_once_are_all_applied(scene: Scene, library: DriverLibrary) -> None:
    ids = [scene.tree() for _ in range(10)]
    failed: list[Exception] = []

    def report(of: dict[str, str]) -> None:
        try:
            for status in ("PENDING_UPDATE", "ERROR", "ACTIVE"):
                items = {kind: [{"id": id, "provisioning_status": status}] for kind, id in of.items()}
                library.update_loadbalancer_status(items)
        except Exception as e:
            failed.append(e)

    threads = [threading.Thread(target=report, args=(of,)) for of in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []
    eventually(lambda: all(scene.status(k, i)[0] == "ACTIVE" for of in ids for k, i in of.items()), 60)

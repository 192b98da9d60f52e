"""A process at the runtime socket that does not speak as HAProxy does."""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from colonnade.agent import runtime
from colonnade.agent.runtime import Runtime


@contextmanager
def answering(tmp_path: Path, answer: Callable[[socket.socket], object]) -> Iterator[Runtime]:
    """A connection to somebody who greets well, and then answers so."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.listen()

        def serve() -> None:
            with contextlib.suppress(OSError), listening.accept()[0] as s:
                for _ in ("prompt", "set timeout"):
                    s.recv(100)
                    s.sendall(b"\n> ")
                s.recv(100)
                answer(s)

        thread = threading.Thread(target=serve)
        thread.start()
        made = Runtime(tmp_path / "s", os.geteuid())
        yield made
        made.close()
        thread.join(10)


def for_ever(s: socket.socket) -> None:
    while True:
        s.sendall(b"x" * 65536)


def drop_by_drop(s: socket.socket) -> None:
    for _ in range(3000):
        s.sendall(b"x")
        time.sleep(0.02)


def silent(s: socket.socket) -> None:
    s.settimeout(60)
    s.recv(1)  # until whoever asked closes the connection


def test_an_answer_without_end_takes_little_memory(tmp_path: Path) -> None:
    with answering(tmp_path, for_ever) as asked:
        with pytest.raises(ConnectionAbortedError):
            asked.ask("show stat")
        with pytest.raises(OSError, match="descriptor"):
            asked.ask("show stat")


@pytest.mark.parametrize("answer", [drop_by_drop, silent])
def test_who_is_too_slow_is_not_waited_for_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Callable[[socket.socket], object]
) -> None:
    monkeypatch.setattr(runtime, "_LONGEST_WAIT", 0.5)
    monkeypatch.setattr(runtime, "_REST", 60.0)
    with answering(tmp_path, answer) as asked:
        asked._socket.settimeout(0.5)  # as _PATIENCE does, but for the greeting
        with pytest.raises(TimeoutError):  # else it lasts a minute, and ends otherwise
            asked.ask("show stat")
        began = time.monotonic()
        for _ in range(100):
            with pytest.raises(TimeoutError, match="lately"):
                asked.ask("show stat")
        assert time.monotonic() - began < 20  # of 50

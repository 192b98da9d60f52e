"""What the agent knows of a relay."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from colonnade.agent.relays import Relays
from colonnade.datagrams import Member

FAR = Member(id="m", address="fd00::1", port=53, monitor_address="fd00::1", monitor_port=53)


class Later:
    """Timers that are turned by hand."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        self.waiting.append(call)

    def turn(self) -> None:
        due, self.waiting = self.waiting, []
        for call in due:
            call()


@pytest.fixture
def timers() -> Later:
    return Later()


def test_a_relay_that_ends_again_and_again_is_looked_after_once(
    timers: Later, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    relays = Relays(
        namespace="", run=tmp_path, uid=0, spawner=cast(Any, None), watcher=cast(Any, None), timers=cast(Any, timers),
        changed=lambda: None,
    )  # fmt: skip
    monkeypatch.setattr(relays, "_tell", lambda: None)
    relays.have({"m": (FAR, "10.0.0.1")}, 60)
    for _ in range(3):
        relays._restart()
    assert len(timers.waiting) == 1
    timers.turn()
    assert len(timers.waiting) == 1


def test_doors_that_a_busy_machine_opens_late_are_used(
    timers: Later, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until then the members behind them get nothing, and nobody else would ask again."""
    told: list[dict[str, int]] = []
    relays = Relays(
        namespace="", run=tmp_path, uid=0, spawner=cast(Any, None), watcher=cast(Any, None), timers=cast(Any, timers),
        changed=lambda: told.append(relays.ports()),
    )  # fmt: skip
    monkeypatch.setattr(relays, "_tell", lambda: None)
    monkeypatch.setattr(relays, "_runs", lambda: True)
    relays.have({"m": (FAR, "10.0.0.1")}, 60)
    assert relays.ports() == {}
    timers.turn()
    timers.turn()
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "relay.open").write_text(json.dumps([["10.0.0.1", 1024, "fd00::1", 53]]))
    timers.turn()
    assert told == [{}, {}, {"m": 1024}]
    assert timers.waiting == []
    relays.have({}, 60)
    timers.turn()
    assert len(told) == 3

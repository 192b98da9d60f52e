"""Providers' own agents: each in a process of its own, started again, stopped, or killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from colonnade.store import schema
from tests.support import eventually

ROOT = Path(__file__).parents[2]
PACKAGES = ROOT / "tests" / "provider_package"


class Program:
    """``colonnade driver-agent`` with these agents."""

    def __init__(self, state: Path, *agents: str, patience_s: int = 60) -> None:
        (state / "db").mkdir()
        (state / "run" / "providers").mkdir(parents=True)
        (state / "told").mkdir()
        file = state / "colonnade.conf"
        file.write_text(
            f"[DEFAULT]\nstate_path = {state}\n[driver_agent]\nprovider_path = {PACKAGES}\n"
            f"enabled_provider_agents = {','.join(agents)}\nprovider_agent_shutdown_timeout = {patience_s}\n"
        )
        schema.upgrade(f"sqlite:///{state / 'db' / 'colonnade.sqlite'}")
        self.told, self.log = state / "told", state / "log"
        environment = {**os.environ, "EXAMPLE_AGENTS": str(self.told), "PYTHONPATH": str(ROOT)}
        argv = [sys.executable, "-P", "-m", "colonnade", "driver-agent", "--config-file", str(file)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(argv, env=environment, stdout=log, stderr=log)

    def pids(self, name: str) -> list[int]:
        file = self.told / name
        return [int(line) for line in file.read_text().split()] if file.exists() else []

    def stop(self) -> float:
        """Ask it to stop; how long that took."""
        began = time.monotonic()
        self.process.terminate()
        assert self.process.wait(90) == 0, self.log.read_text()
        return time.monotonic() - began


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path


def alive(pid: int) -> bool:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return fields[0] not in "ZX"


def test_an_agent_runs_until_the_program_stops(state: Path) -> None:
    program = Program(state, "diligent")
    eventually(lambda: program.pids("diligent"), 60)
    (pid,) = program.pids("diligent")
    assert pid != program.process.pid
    program.stop()
    assert program.pids("diligent.stopped") == [pid]
    assert not alive(pid)


def test_an_agent_that_fails_is_started_again_and_harms_no_other(state: Path) -> None:
    program = Program(state, "failing", "absent", "diligent")
    eventually(lambda: len(program.pids("failing")) >= 2 and program.pids("diligent"), 60)
    told = ("an agent's own mistake", "no installed package offers absent")
    eventually(lambda: all(words in program.log.read_text() for words in told), 60)
    assert len(program.pids("diligent")) == 1
    program.stop()


def test_an_agent_that_does_not_stop_is_killed(state: Path) -> None:
    program = Program(state, "stubborn", patience_s=1)
    eventually(lambda: program.pids("stubborn"), 60)
    assert 0.9 < program.stop() < 60
    assert not alive(program.pids("stubborn")[0])


def test_agents_do_not_outlive_a_killed_program(state: Path) -> None:
    program = Program(state, "stubborn", "diligent")
    eventually(lambda: program.pids("stubborn") and program.pids("diligent"), 60)
    program.process.send_signal(signal.SIGKILL)
    program.process.wait()
    eventually(lambda: not any(alive(p) for p in program.pids("stubborn") + program.pids("diligent")), 60)

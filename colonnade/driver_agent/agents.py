"""Providers' own agents: functions of installed packages, each run in a process of its own until it is told to stop."""

import ctypes
import logging
import multiprocessing
import multiprocessing.context
import multiprocessing.process
import os
import signal
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.synchronize import Event

from colonnade import logs
from colonnade.clock import Clock
from colonnade.drivers.provider import AGENTS, Packages

log = logging.getLogger("colonnade.driver_agent")

_PAUSE_S = 1.0  # after an agent has failed
_LOOK_S = 0.2
_PR_SET_PDEATHSIG = 1


@dataclass(kw_only=True, slots=True)
class _Agent:
    name: str
    process: multiprocessing.process.BaseProcess | None = None
    due_at: float = 0.0


class Agents:
    """Runs them. Not fork but spawn: this process has threads, and a child must not inherit their locks."""

    def __init__(
        self, names: Sequence[str], packages: Packages, clock: Clock, *, patience_s: float, debug: bool
    ) -> None:  # fmt: skip
        self._agents = [_Agent(name=name) for name in names]
        self._packages, self._clock, self._patience_s, self._debug = packages, clock, patience_s, debug
        self._context = multiprocessing.get_context("spawn")
        self._exit: Event = self._context.Event()

    def run(self, stop: threading.Event) -> None:
        """Until ``stop`` is set. From the main thread alone: a child goes when the thread that started it ends."""
        try:
            while not stop.is_set():
                for agent in self._agents:
                    self._look(agent)
                stop.wait(_LOOK_S)
        finally:
            self._finish()

    def _look(self, agent: _Agent) -> None:
        if agent.process is not None and not agent.process.is_alive():
            code = agent.process.exitcode
            agent.process.join()
            agent.process, agent.due_at = None, self._clock.monotonic() + _PAUSE_S
            log.warning("A provider's agent ended; it is started again.", extra={"agent": agent.name, "code": code})
        if agent.process is None and self._clock.monotonic() >= agent.due_at:
            arguments = (agent.name, self._exit, self._packages, os.getpid(), self._debug)
            agent.process = self._context.Process(target=serve, args=arguments, name=f"agent-{agent.name}")
            agent.process.start()
            log.info("Started a provider's agent.", extra={"agent": agent.name, "pid": agent.process.pid})

    def _finish(self) -> None:
        self._exit.set()
        until = self._clock.monotonic() + self._patience_s
        for agent in self._agents:
            if agent.process is None:
                continue
            agent.process.join(max(0.0, until - self._clock.monotonic()))
            if agent.process.is_alive():
                log.warning("A provider's agent does not stop; killing it.", extra={"agent": agent.name})
                agent.process.kill()
                agent.process.join()


def serve(name: str, exit_event: Event, packages: Packages, parent: int, debug: bool) -> None:
    """The child: run the agent until it returns. What it raises ends the process, and is logged."""
    # Not SIGTERM: nothing of a provider's may outlive this program, whatever it does with signals.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    for number in (signal.SIGTERM, signal.SIGINT):  # the parent tells it by the event
        signal.signal(number, signal.SIG_IGN)
    logs.begin(debug)
    try:
        packages.load(AGENTS, name)(exit_event)
    except Exception:  # somebody else's code
        log.exception("A provider's agent failed.", extra={"agent": name})
        os._exit(1)

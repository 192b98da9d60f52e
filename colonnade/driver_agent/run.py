"""``colonnade driver-agent``: the sockets on which third parties' providers report, and their own agents."""

import logging
import threading
from pathlib import Path

from colonnade.clock import Clock
from colonnade.driver_agent.agents import Agents
from colonnade.driver_agent.answer import Answers
from colonnade.driver_agent.sockets import Door, Server
from colonnade.drivers import Network, SecretStore
from colonnade.drivers.provider import Packages
from colonnade.settings import Settings
from colonnade.store.store import Store

log = logging.getLogger("colonnade.driver_agent")


class DriverAgent:
    """One driver agent program; one for each set of sockets."""

    def __init__(
        self, *, settings: Settings, store: Store, network: Network, secrets: SecretStore | None, clock: Clock
    ) -> None:  # fmt: skip
        self._settings, self._clock = settings, clock
        self._answers = Answers(store=store, network=network, secrets=secrets, clock=clock)

    def run(self, stop: threading.Event) -> None:
        """Serve until ``stop`` is set."""
        own, sockets = self._settings.driver_agent, self._settings.provider_sockets
        servers = [Server(door, stop, self._clock) for door in self.doors()]
        threads = [threading.Thread(target=server.run, daemon=True) for server in servers]
        for thread in threads:
            thread.start()
        log.info("The driver agent is up.", extra={"sockets": " ".join(sockets)})
        agents = Agents(
            own.enabled_provider_agents, Packages.of(self._settings), self._clock,
            patience_s=own.provider_agent_shutdown_timeout, debug=self._settings.default.debug,
        )  # fmt: skip
        agents.run(stop)
        for thread in threads:
            thread.join()

    def doors(self) -> list[Door]:
        """The three sockets, by the settings."""
        own, answers = self._settings.driver_agent, self._answers
        status, statistics, get = map(Path, self._settings.provider_sockets)
        warn = own.max_process_warning_percent
        return [
            Door(name="status", path=status, answer=answers.status, timeout_s=own.status_request_timeout,
                 most=own.status_max_processes, warn_at=warn),
            Door(name="stats", path=statistics, answer=answers.statistics, timeout_s=own.stats_request_timeout,
                 most=own.stats_max_processes, warn_at=warn),
            Door(name="get", path=get, answer=answers.get, timeout_s=own.get_request_timeout,
                 most=own.get_max_processes, warn_at=warn),
        ]  # fmt: skip

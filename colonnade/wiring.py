"""Which drivers the settings choose, in one place. Imports stay inside: a program pays for nothing but what it uses."""

import typing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from colonnade import wire
    from colonnade.clock import Clock
    from colonnade.drivers import AmphoraLink, Compute, Doorbell, Network, SecretStore, Supplies
    from colonnade.settings import Settings
    from colonnade.store.store import Store

NOOP = "noop"


def uses_agent(settings: "Settings") -> bool:
    """Whether this machine's agent is needed: for places of amphorae, or to talk to them."""
    return {settings.drivers.compute, settings.drivers.amphora} != {NOOP}


class Wiring:
    """The drivers of one program, made when they are asked for and then kept."""

    def __init__(self, settings: "Settings", store: "Store", clock: "Clock") -> None:
        self._settings, self._store, self._clock = settings, store, clock
        self._hosts: dict[str, typing.Any] = {}

    def network(self) -> "Network":
        """[drivers] network"""
        if self._settings.drivers.network == NOOP:
            from colonnade.drivers.noop import NoopNetwork

            return NoopNetwork()
        from colonnade.local.network import LocalNetwork

        return LocalNetwork(self._store, self._clock)

    def compute(self) -> "Compute":
        """[drivers] compute"""
        return typing.cast("Compute", self._host(self._settings.drivers.compute))

    def link(self) -> "AmphoraLink":
        """[drivers] amphora"""
        return typing.cast("AmphoraLink", self._host(self._settings.drivers.amphora))

    def supplies(self) -> "Supplies":
        """What goes with [drivers] compute."""
        from colonnade.local.compute import Host

        return typing.cast("Supplies", self._host(NOOP)) if self._settings.drivers.compute == NOOP else Host()

    def fabric(self) -> "Fabric | None":
        """The networks of this machine, where amphorae are on them."""
        if self._settings.drivers.network == NOOP or not uses_agent(self._settings):
            return None
        from colonnade.drivers.agent import HostAgent

        return Fabric(HostAgent(self._settings.agent_url).put_fabric)

    def secrets(self) -> "SecretStore":
        """The key manager."""
        from colonnade.local.vault import LocalSecrets, Seal

        seal = Seal(self._settings.state / "secrets")
        return LocalSecrets(store=self._store, seal=seal, clock=self._clock)

    def doorbell(self, *, listen: bool) -> "Doorbell":
        """Between the programs of this machine; ``listen``: to be rung at."""
        from colonnade.drivers.doorbell import SocketDoorbell

        return SocketDoorbell(self._settings.state / "run" / "doorbell", listen=listen)

    def _host(self, name: str) -> object:
        """One for both uses: what compute makes is what the link reaches."""
        if name not in self._hosts:
            if name == NOOP:
                from colonnade.drivers.noop import NoopHost

                self._hosts[name] = NoopHost()
            else:
                from colonnade.drivers.agent import HostAgent

                self._hosts[name] = HostAgent(self._settings.agent_url)
        return self._hosts[name]


class Fabric:
    """The machine's networks for the worker: the small cloud says what they should be, the agent makes them."""

    def __init__(self, put: "Callable[[wire.Fabric], str]") -> None:
        self.push = put

    def desired(self, conn: "Connection") -> "wire.Fabric":
        """What they should be, from the database."""
        from colonnade.local.network import fabric

        return fabric(conn)

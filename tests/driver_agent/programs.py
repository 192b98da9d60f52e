"""The programs of an installation with providers, without root: the API, the driver agent, housekeeping."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from tests.support import eventually

ROOT = Path(__file__).parents[2]


class Programs:
    """Programs on one state directory. ``python`` is whose packages they have."""

    def __init__(self, state: Path, port: int, configuration: str, python: str = sys.executable) -> None:
        self.state, self.url, self.python = state, f"http://127.0.0.1:{port}", python
        for name in ("db", "secrets", "run/providers", "run/doorbell", "log"):
            (state / name).mkdir(parents=True)
        self.file = state / "colonnade.conf"
        self.file.write_text(f"[DEFAULT]\nstate_path = {state}\n{configuration.format(port=port)}")
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run(self._argv("prepare"), env=self.environment, check=True)

    def _argv(self, name: str) -> list[str]:
        return [self.python, "-P", "-m", "colonnade", name, "--config-file", str(self.file)]

    def start(self, *names: str) -> None:
        """Start them; the API answers and the sockets are there when it returns."""
        for name in names:
            with (self.state / "log" / name).open("ab") as log:
                self._running[name] = subprocess.Popen(self._argv(name), env=self.environment, stdout=log, stderr=log)
        if "driver-agent" in names:
            sockets = [self.state / "run" / "providers" / f"{n}.sock" for n in ("status", "stats", "get")]
            eventually(lambda: all(s.exists() for s in sockets), 60)
        if "api" in names:
            eventually(self._answers, 60)

    def _answers(self) -> bool:
        try:
            return requests.get(self.url, timeout=5).ok
        except requests.RequestException:
            return False

    def kill(self, name: str) -> None:
        """kill -9."""
        process = self._running.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait()

    @contextmanager
    def with_another(self, name: str) -> Iterator[None]:
        """While one more program runs."""
        self.start(name)
        try:
            yield
        finally:
            self.kill(name)

    def stop(self) -> None:
        """All of them, in order."""
        for process in self._running.values():
            process.terminate()
        for process in self._running.values():
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.state, ignore_errors=True)

    def log(self, name: str) -> str:
        """What it wrote."""
        return (self.state / "log" / name).read_text()

    def ask(self, method: str, path: str, body: Any = None, expect: int | None = None) -> Any:
        """A request to the load-balancing API, without a token; answers the JSON."""
        reply = requests.request(method, f"{self.url}/v2/lbaas/{path}", json=body, timeout=120)
        assert expect in (None, reply.status_code), reply.text
        return reply.json() if reply.text else None

    def subnet(self) -> str:
        """The id of private-subnet."""
        reply = requests.get(f"{self.url}/network/v2.0/subnets?name=private-subnet", timeout=30)
        id: str = reply.json()["subnets"][0]["id"]
        return id

    def settled(self, lb_id: str, status: str = "ACTIVE") -> Any:
        """The load balancer, once it has this status."""

        def look() -> Any:
            lb = self.ask("GET", f"loadbalancers/{lb_id}")["loadbalancer"]
            assert lb["provisioning_status"] == status, lb
            return lb

        return eventually(look, 60)

    def gone(self, path: str) -> None:
        """Wait until there is no such object."""
        eventually(lambda: requests.get(f"{self.url}/v2/lbaas/{path}", timeout=30).status_code == 404, 60)


def within(seconds: float, doing: Callable[[], Any]) -> Any:
    """What it answers; fails if it takes longer."""
    began = time.monotonic()
    found = doing()
    assert time.monotonic() - began < seconds
    return found

"""Two small servers to balance, in namespaces of their own on ``private-subnet``: ``./try --demo``.

Their addresses are ports of the small cloud, so nobody else gets them. Each is an HAProxy process that answers HTTP by
itself, and a ``greeter`` that answers UDP; they outlive this program, which starts again what ends.
"""

import http.client
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from colonnade import greeter
from colonnade.agent import namespaces, network
from colonnade.agent.place import Installation
from colonnade.agent.spawn import Program, Spawner
from colonnade.settings import Settings

log = logging.getLogger(__name__)
_NAMES = ("demo-1", "demo-2")
_UID = 9990  # of the installation's 10000, counted from the end that amphorae do not reach
_WEB_PORT, _UDP_PORT = 80, 53
_WEB_SERVER = """\
defaults
  mode http
  timeout client 30s
  timeout server 30s
  timeout connect 5s
frontend web
  bind {address}:80
  http-request return status 200 content-type text/plain string "OK\\n" if {{ path /healthcheck }}
  http-request return status 200 content-type text/plain string "Hello from {name} at {address}\\n"
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Server:
    name: str
    network_id: str
    address: str
    prefix: int
    gateway: str | None


def run(settings: Settings, stop: threading.Event) -> int:
    """Keep the servers there until ``stop``; then they stay until ``remove``. Who waits for them is told where they are
    when they answer."""
    here = Installation(state=settings.state, tag=settings.agent.tag, slot=settings.agent.slot)
    told = here.state / "demo.env"
    servers: list[_Server] = []
    spawner = Spawner()
    running: dict[tuple[str, ...], int] = {}
    complete = False
    while not stop.wait(1.0 if complete else 0.1):
        try:
            servers = servers or _reserve(settings)
            for server in servers:
                _keep(here, settings, server, spawner, running)
        except (OSError, KeyError, http.client.HTTPException) as e:
            log.info("not yet", extra={"reason": repr(e)})  # the API or the fabric is still on its way
            continue
        complete = complete or all(_answers(here, server) for server in servers)
        if not complete:
            continue
        text = f'MEMBERS="{" ".join(s.address for s in servers)}"\n'
        if not told.exists() or told.read_text() != text:
            told.write_text(text)
            log.info("ready", extra={"members": [s.address for s in servers]})
    return 0


def remove(tag: str) -> None:
    """Stop the servers and remove their namespaces; gone already is success. Their ports stay reserved."""
    for name in _NAMES:
        space = f"cln-{tag}-{name}"
        if namespaces.exists(space):
            for pid in namespaces.processes(space):
                os.kill(pid, signal.SIGKILL)
            subprocess.run(["ip", "-n", space, "link", "delete", "eth0"], capture_output=True, check=False)
        namespaces.remove(space)


def _keep(
    here: Installation, settings: Settings, server: _Server, spawner: Spawner, running: dict[tuple[str, ...], int]
) -> None:
    space = f"{here.prefix}{server.name}"
    namespaces.create(space)
    with namespaces.inside(space):
        namespaces.sysctl("net/ipv4/ip_unprivileged_port_start", "0")
        plugged = _has_eth0()
    if not plugged:
        network.attach(
            here, server.network_id, space, addresses=[f"{server.address}/{server.prefix}"],
            gateways=[server.gateway] if server.gateway else [],
        )  # fmt: skip
    for words in _programs(here, settings, server):
        if words not in running:  # an earlier one of us may have started it
            running.update((words, pid) for pid in namespaces.processes(space) if _words(pid) == words)
        if words not in running or not _alive(running[words]):
            _config(here, server).write_text(_WEB_SERVER.format(address=server.address, name=server.name))
            started = spawner.start(
                Program(words=words, namespace=space, directory=Path("/"), uid=here.uid(_UID), environment={})
            )
            running[words] = started.pid
            log.info("started", extra={"server": server.name, "address": server.address, "program": words[0]})


def _answers(here: Installation, server: _Server) -> bool:
    """Whether both of its programs are at work: the one takes connections, the other has an answer."""
    try:
        with namespaces.inside(f"{here.prefix}{server.name}"):
            web = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            greeting = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with web, greeting:
            for s, port in ((web, _WEB_PORT), (greeting, _UDP_PORT)):
                s.settimeout(1)
                s.connect((server.address, port))
            greeting.send(b"\n")
            return bool(greeting.recv(1))
    except OSError:
        return False


def _programs(here: Installation, settings: Settings, server: _Server) -> list[tuple[str, ...]]:
    python = (os.path.realpath(sys.executable), "-I", "-S", str(Path(greeter.__file__)))
    return [
        (settings.haproxy_amphora.haproxy_cmd, "-db", "-f", str(_config(here, server))),
        (*python, server.address, str(_UDP_PORT), server.name),
    ]


def _config(here: Installation, server: _Server) -> Path:
    return here.state / "etc" / f"{server.name}.cfg"


def _words(pid: int) -> tuple[str, ...]:
    try:
        return tuple(Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1])
    except OSError:
        return ()


def _has_eth0() -> bool:
    # /sys shows the namespace it was mounted in; this file follows the thread.
    return any(line.strip().startswith("eth0:") for line in Path("/proc/thread-self/net/dev").read_text().splitlines())


def _alive(pid: int) -> bool:
    try:
        ended, _ = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:  # started by an earlier one of us
        ended = 0 if Path(f"/proc/{pid}").exists() else pid
    return not ended


def _reserve(settings: Settings) -> list[_Server]:
    """The servers' ports, found by name or made. Raises OSError while the API is away."""
    api = _Api(settings)
    (subnet,) = api.ask("GET", "/network/v2.0/subnets?name=private-subnet")["subnets"]
    servers = []
    for name in _NAMES:
        found = api.ask("GET", f"/network/v2.0/ports?name={name}")["ports"]
        body = {"port": {"name": name, "network_id": subnet["network_id"], "fixed_ips": [{"subnet_id": subnet["id"]}]}}
        port = found[0] if found else api.ask("POST", "/network/v2.0/ports", body)["port"]
        servers.append(
            _Server(
                name=name, network_id=subnet["network_id"], address=port["fixed_ips"][0]["ip_address"],
                prefix=ip_network(subnet["cidr"]).prefixlen, gateway=subnet["gateway_ip"],
            )
        )  # fmt: skip
    return servers


class _Api:
    """The small cloud's API as the user admin."""

    def __init__(self, settings: Settings) -> None:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.api_settings.bind_host)
        self._host = host or settings.api_settings.bind_host
        self._port = settings.api_settings.bind_port
        self._token: str | None = None
        lines = (settings.state / "secrets" / "passwords.env").read_text().splitlines()
        passwords = dict(line.split("=", 1) for line in lines if "=" in line)
        user = {"name": "admin", "domain": {"id": "default"}, "password": passwords["ADMIN_PASSWORD"].strip("\"'")}
        scope = {"project": {"name": "admin", "domain": {"id": "default"}}}
        identity = {"methods": ["password"], "password": {"user": user}}
        self.ask("POST", "/identity/v3/auth/tokens", {"auth": {"identity": identity, "scope": scope}})

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:  # noqa: ANN401 - JSON
        """The reply's body. Raises OSError unless it is a 2xx."""
        conn = http.client.HTTPConnection(self._host, self._port, timeout=10)
        try:
            headers = {"Content-Type": "application/json", **({"X-Auth-Token": self._token} if self._token else {})}
            conn.request(method, path, json.dumps(body) if body else None, headers)
            reply = conn.getresponse()
            text = reply.read()
            if reply.status // 100 != 2:
                raise OSError(f"{method} {path}: {reply.status} {reply.reason}")
            self._token = reply.getheader("X-Subject-Token") or self._token
            return json.loads(text)
        finally:
            conn.close()

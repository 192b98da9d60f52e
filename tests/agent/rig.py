"""A whole host's agent under test: a real process, real namespaces, real HAProxy, and tiny servers as members."""

import contextlib
import fcntl
import http.client
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from colonnade import wire
from colonnade.agent import namespaces
from colonnade.agent.network import attach
from colonnade.agent.place import Installation
from colonnade.agent.teardown import teardown
from colonnade.drivers.agent import HostAgent
from colonnade.errors import Later

T = TypeVar("T")
_AGENT = """
import faulthandler, logging, pathlib, signal, sys, threading
faulthandler.register(signal.SIGUSR1, all_threads=True)
logging.basicConfig(level="INFO", stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
from colonnade.agent import app
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
app.run(state=pathlib.Path(sys.argv[1]), tag=sys.argv[2], slot=int(sys.argv[3]), group="root",
        haproxy="/usr/sbin/haproxy", stop=stop)
"""
KEY = "5a" * 32
_NUMBERS = itertools.count()


def _free_slot() -> tuple[int, int]:
    """One of 20 that no other rig on this machine uses, and the descriptor by which it is ours until that is closed."""
    for n in range(20):
        lock = os.open(f"/run/lock/colonnade-test-{n}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        else:
            return n, lock
    raise AssertionError("20 rigs at once are enough for one machine")


def new_id() -> str:
    return str(uuid.uuid4())


def eventually(look: Callable[[], T], seconds: float = 60.0) -> T:
    """The first true value of ``look``, tried until a deadline, which only a busy machine comes near; errors of the
    network count as not yet."""
    deadline = time.monotonic() + seconds
    last: object = None
    while time.monotonic() < deadline:
        try:
            last = look()
            if last:
                return last
        except (OSError, http.client.HTTPException) as e:
            last = e
        threading.Event().wait(0.005)
    raise AssertionError(f"not within {seconds} s; last: {last!r}")


def _patiently(call: Callable[[], T]) -> T:
    """As the control plane does: again while the amphora is at an earlier change."""
    until = time.monotonic() + 60
    while True:
        try:
            return call()
        except Later as e:
            if "still at an earlier change" not in str(e) or time.monotonic() > until:
                raise


class Rig:
    """Networks: ``front`` and ``other`` (another group), dual-stack ``front``, external ``outside``."""

    def __init__(self, state: Path) -> None:
        number = next(_NUMBERS)
        n, self._slot = _free_slot()
        self.state = state
        self.here = Installation(state=state, tag=f"t{os.getpid() % 1000}x{number}", slot=80 + n)
        self.net = f"10.{210 + n}"
        self.net6 = f"fd00:c1:{n + 1}:"
        self.front, self.other, self.outside = new_id(), new_id(), new_id()
        self.agent: subprocess.Popen[bytes] | None = None
        self.client = HostAgent(self.url)
        self.members: list[subprocess.Popen[bytes]] = []
        self.beats = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.beats.bind(("127.0.0.1", 0))
        self._addresses = iter(range(20, 250))
        self._ids: list[str] = []
        self.log = state / "agent.log"
        self.fabric = wire.Fabric(
            networks=(
                self.network(self.front, "red", f"{self.net}.0.0/24", f"{self.net6}:/64"),
                self.network(self.other, "blue", f"{self.net}.1.0/24"),
                replace(self.network(self.outside, "*", f"{self.net}.255.0/24"), external=True),
            )
        )

    @property
    def url(self) -> str:
        return f"unix://{self.here.socket}"

    @staticmethod
    def network(network_id: str, group: str, *cidrs: str) -> wire.FabricNetwork:
        subnets = tuple(
            wire.FabricSubnet(id=new_id(), cidr=c, gateway=c.split("/")[0].removesuffix("0") + "1") for c in cidrs
        )
        return wire.FabricNetwork(id=network_id, group=group, mtu=1450, subnets=subnets)

    def start(self) -> None:
        words = [sys.executable, "-c", _AGENT, str(self.state), self.here.tag, str(self.here.slot)]
        with open(self.log, "ab") as log:
            self.agent = subprocess.Popen(words, stderr=log)
        eventually(lambda: self.client._call(self.url, "GET", "/v1") if self._alive() else None)

    def _alive(self) -> bool:
        if self.agent and self.agent.poll() is not None:
            raise AssertionError(f"the agent ended:\n{self.log.read_text()[-3000:]}")
        with contextlib.suppress(Exception):
            self.client.names()
            return True
        return False

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self.agent:
            self.agent.send_signal(number)
            self.agent.wait(60)
            self.agent = None

    def teardown(self) -> None:
        self.stop(signal.SIGKILL)
        teardown(state=self.state, tag=self.here.tag, slot=self.here.slot)
        for member in self.members:
            member.wait(60)

    def release(self) -> None:
        """Let another rig have the addresses."""
        os.close(self._slot)
        self.beats.close()

    def member(
        self, name: str, network: str, *addresses: str, port: int = 80, secure: tuple[Path, ...] = (),
        program: str = "member.py",
    ) -> Path:  # fmt: skip
        """A web server of this name with these addresses; with TLS by the files ``secure``: a certificate, and
        perhaps an authority for clients. Answers the file that makes it sick. ``program`` is beside this file."""
        namespace = f"{self.here.prefix}{name}"
        sick = self.state / f"sick-{name}"
        namespaces.create(namespace)
        gateways = [
            a.split("/")[0].rpartition("." if "." in a else ":")[0] + (".1" if "." in a else ":1") for a in addresses
        ]
        attach(self.here, network, namespace, addresses=addresses, gateways=gateways)
        script = Path(__file__).with_name(program)
        words = [
            "nsenter",
            f"--net={namespaces.path(namespace)}",
            sys.executable,
            str(script),
            str(port),
            name,
            str(sick),
            *map(str, secure),
        ]
        self.members.append(subprocess.Popen(words))
        first = addresses[0].split("/")[0]
        eventually(lambda: socket.create_connection((first, port), 1).close() or True if secure
                   else get(first, port) == name)  # fmt: skip
        return sick

    def address(self) -> str:
        return f"{self.net}.0.{next(self._addresses)}"

    def amphora(self) -> str:
        amphora_id = new_id()
        self._ids.append(amphora_id)
        self.client.ensure(amphora_id, KEY)
        return amphora_id

    def bundle(
        self,
        amphora_id: str,
        vip: str,
        config: str | None,
        *,
        serving: bool = True,
        own: str | None = None,
        network: str | None = None,
        vips: tuple[str, ...] = (),
        **changes: Any,
    ) -> wire.Bundle:
        own = own or self.address()
        gateway = own.rpartition(".")[0] + ".1"
        port = wire.Interface(
            port_id=str(uuid.uuid5(uuid.UUID(amphora_id), "port")),
            network_id=network or self.front,
            mac="fa:16:3e:" + uuid.UUID(amphora_id).bytes[:3].hex(":"),
            mtu=1450,
            addresses=(f"{own}/24", *([] if network else [f"{self.net6}:{own.split('.')[3]}/64"])),
            vips=(f"{vip}/32", *vips),
            gateways=(gateway, *([] if network else [f"{self.net6}:1"])),
        )
        files = {} if config is None else {"haproxy.cfg": config}
        bundle = wire.Bundle(
            amphora_id=amphora_id,
            loadbalancer_id=new_id(),
            serving=serving,
            interfaces=(port,),
            files=files,
            heartbeat_targets=(f"127.0.0.1:{self.beats.getsockname()[1]}",),
            heartbeat_interval=1.0,
        )
        return replace(bundle, **changes)

    def push(self, bundle: wire.Bundle) -> dict[str, Any]:
        return _patiently(lambda: self.client.push(self.url, bundle.amphora_id, wire.to_json(bundle)))

    def forget(self) -> None:
        for amphora_id in self._ids:
            _patiently(partial(self.client.remove, amphora_id, None))
        self._ids.clear()

    def beat(self, amphora_id: str, fits: Callable[[wire.Heartbeat], object], seconds: float = 60.0) -> wire.Heartbeat:
        """The first heartbeat of this amphora that fits; older ones that were not read yet count. One that says nothing
        yet of what is looked for does not fit."""
        deadline = time.monotonic() + seconds
        last = None
        while (left := deadline - time.monotonic()) > 0:
            self.beats.settimeout(left)
            with contextlib.suppress(TimeoutError, KeyError):
                datagram = self.beats.recv(65536)
                beat = wire.unpack(datagram, bytes.fromhex(KEY))
                if beat and beat.amphora_id == amphora_id:
                    last = beat
                    if fits(beat):
                        return beat
        raise AssertionError(f"no such heartbeat within {seconds} s; the last: {last}")

    def drain_beats(self) -> None:
        self.beats.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                self.beats.recv(65536)

    def ask(self, amphora_id: str, command: str) -> str:
        """What the newest HAProxy of an amphora answers on its own socket."""
        number = json.loads((self.here.amphorae / amphora_id / "place.json").read_text())["number"]
        # A starting HAProxy binds s<number>.<pid>.tmp and then renames it.
        sockets = [p for p in (self.here.run / str(number) / "own").glob("s*") if p.name[1:].isdigit()]
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(30)
            s.connect(str(max(sockets, key=lambda p: int(p.name[1:]))))
            s.sendall(f"{command}\n".encode())
            return b"".join(iter(lambda: s.recv(65536), b"")).decode()

    def processes(self, amphora_id: str) -> list[int]:
        return namespaces.processes(self.here.namespace(amphora_id))


def config(*binds: str, servers: dict[str, str], extra: str = "", name: str = "pool:listener", port: int = 80) -> str:
    """A configuration as the control plane writes it. ``servers``: name -> the rest of its line."""
    lines = "".join(f"    server {n} {rest}\n" for n, rest in servers.items())
    bind = "".join(f"    bind {b}:{port}\n" for b in binds)
    return f"""global
    nbthread 1
    maxconn "${{COLONNADE_MAXCONN}}"
    hard-stop-after 20s
    stats socket "${{COLONNADE_SOCKET}}" mode 600 level admin expose-fd listeners
    server-state-file "${{COLONNADE_STATE}}"
    log "${{COLONNADE_LOG}}" len 2048 format raw daemon notice
    httpclient.ssl.verify none

defaults
    load-server-state-from-file global
    timeout connect 2s
    timeout client 20s
    timeout server 20s
    retries 3
    option redispatch 1

frontend listener
    mode http
{bind}    option idle-close-on-response
    default_backend {name}

backend {name}
    mode http
    log global
    balance roundrobin
{extra}{lines}"""


def get(host: str, port: int = 80, path: str = "/", timeout: float = 20.0) -> str:
    """The body of an answer. Raises OSError or HTTPException."""
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read().decode()
        if answer.status != 200:
            raise ConnectionError(f"status {answer.status}")
        return body
    finally:
        connection.close()


class Traffic:
    """Requests in the background, new connections and kept ones, counting what fails."""

    def __init__(self, host: str, port: int = 80) -> None:
        self.answers: list[str] = []
        self.failures: list[str] = []
        self._stop = threading.Event()
        targets = [self._new, self._new, self._kept, self._kept]
        self._threads = [threading.Thread(target=t, args=(host, port)) for t in targets]

    def __enter__(self) -> "Traffic":
        for thread in self._threads:
            thread.start()
        self.flow(20)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def flow(self, requests: int) -> None:
        """Wait until so many more were answered or failed."""
        goal = len(self.answers) + len(self.failures) + requests
        eventually(lambda: len(self.answers) + len(self.failures) >= goal)

    def _new(self, host: str, port: int) -> None:
        while not self._stop.wait(0.01):
            try:
                self.answers.append(get(host, port))
            except (OSError, http.client.HTTPException) as e:
                self.failures.append(f"new: {e!r}")

    def _kept(self, host: str, port: int) -> None:
        connection = http.client.HTTPConnection(host, port, timeout=20)
        while not self._stop.wait(0.01):
            try:
                connection.request("GET", "/")
                answer = connection.getresponse()
                body = answer.read().decode()
                (self.answers if answer.status == 200 else self.failures).append(body)
            except (OSError, http.client.HTTPException) as e:
                self.failures.append(f"kept: {e!r}")
                connection.close()
        connection.close()


@contextlib.contextmanager
def running(state: Path) -> Iterator[Rig]:
    rig = Rig(state)
    try:
        rig.start()
        rig.client.put_fabric(rig.fabric)
        yield rig
    finally:
        rig.teardown()
        rig.release()


def snapshot() -> dict[str, str]:
    """What of the kernel's an installation may leave behind."""

    def told(*words: str) -> str:
        return subprocess.run(words, capture_output=True, text=True, check=False).stdout

    links = json.loads(told("ip", "-j", "link"))
    return {
        "namespaces": told("ip", "netns"),
        "links": " ".join(sorted(link["ifname"] for link in links)),
        "routes": told("ip", "route") + told("ip", "-6", "route"),
        "rules": told("nft", "list", "ruleset"),
        "forwarding": Path("/proc/sys/net/ipv4/ip_forward").read_text(),
        "forwarding6": Path("/proc/sys/net/ipv6/conf/all/forwarding").read_text(),
    }

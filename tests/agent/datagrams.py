"""For tests of UDP and SCTP: members, clients, and the file that a bundle holds."""

import contextlib
import itertools
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from rig import Rig, eventually, new_id

from colonnade import datagrams, wire
from colonnade.agent import namespaces
from colonnade.agent.network import attach
from colonnade.datagrams import Datagrams, Listener, Member, Monitor, Persistence, Pool

__all__ = ["Datagrams", "Listener", "Member", "Monitor", "Persistence", "Pool"]


_IPV6_MTU = 24  # linux/in6.h


class Servers:
    """UDP members ``u1`` to ``u4``, each in a namespace with an IPv4 and an IPv6 address."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.running: dict[str, subprocess.Popen[str]] = {}
        self._asked: set[int] = set()
        for n in range(1, 5):
            self.place(f"u{n}", 250 + n)
            self.start(f"u{n}")

    def place(self, name: str, last: int) -> None:
        namespace = self.namespace(name)
        namespaces.create(namespace)
        addresses = [f"{self.rig.net}.0.{last}/24", f"{self.rig.net6}:{last}/64"]
        gateways = [f"{self.rig.net}.0.1", f"{self.rig.net6}:1"]
        attach(self.rig.here, self.rig.front, namespace, addresses=addresses, gateways=gateways, mtu=1450)

    def clients(self, count: int) -> list[str]:
        """Addresses of the namespace ``clients``, made once: IPv6 ones, and two IPv4 ones of one /31 at the end."""
        six = [f"{self.rig.net6}:c:{n:x}" for n in range(1, count + 1)]
        four = [f"{self.rig.net}.0.{n}" for n in (248, 249)]
        namespace = self.namespace("clients")
        if not namespaces.exists(namespace):
            namespaces.create(namespace)
            addresses = [*(f"{a}/64" for a in six), *(f"{a}/24" for a in four)]
            attach(self.rig.here, self.rig.front, namespace, addresses=addresses, mtu=1450)
        return [*six, *four]

    def namespace(self, name: str) -> str:
        return f"{self.rig.here.prefix}{name}"

    def address(self, name: str, version: int = 4) -> str:
        last = 250 + int(name[1:])
        return f"{self.rig.net}.0.{last}" if version == 4 else f"{self.rig.net6}:{last}"

    def start(self, name: str) -> None:
        self.run(name, self.address(name, 4), self.address(name, 6))

    def run(self, name: str, *addresses: str) -> None:
        """Answer datagrams to port 53 of these addresses in the namespace of that name."""
        script = Path(__file__).with_name("udp_member.py")
        words = ["nsenter", f"--net={namespaces.path(self.namespace(name))}", sys.executable, str(script), name]
        for address in addresses:
            words += [address, "53"]
        self.running[name] = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        out = self.running[name].stdout
        assert out is not None
        assert out.readline() == "ready\n"
        threading.Thread(target=lambda: self._asked.update(map(int, out)), daemon=True).start()
        self.rig.members.append(self.running[name])  # type: ignore[arg-type]

    def asked(self, *numbers: int) -> None:
        """Wait until members have these questions, to be answered late: a busy kernel takes packets up late."""
        eventually(lambda: self._asked.issuperset(numbers))

    def stop(self, name: str) -> None:
        self.running[name].kill()
        self.running[name].wait(60)


def member(servers: Servers, name: str, *, version: int = 4, **changes: Any) -> Member:
    address = servers.address(name, version)
    made = Member(
        id=str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{name}.{version}")), address=address, port=53, monitor_address=address,
        monitor_port=53,
    )  # fmt: skip
    return replace(made, **changes)


def pool(*members: Member, algorithm: str = "ROUND_ROBIN", **changes: Any) -> Pool:
    return replace(Pool(id=new_id(), algorithm=algorithm, persistence=None, monitor=None, members=members), **changes)


def listener(to: Pool | None, *, port: int = 53, protocol: str = "udp", **changes: Any) -> Listener:
    made = Listener(
        id=new_id(), protocol=protocol, port=port, limit=None, allowed=None, idle=50, pool=to.id if to else None
    )
    return replace(made, **changes)


def vips(rig: Rig) -> tuple[str, str]:
    """An IPv4 and an IPv6 address that no amphora has."""
    four = rig.address()
    return four, f"{rig.net6}:{int(four.split('.')[3]) + 0x1000:x}"


_OWN: dict[str, str] = {}  # addresses of amphorae: with another one, all flows would end


def bundle(rig: Rig, amphora: str, want: Datagrams, config: str | None = None, **changes: Any) -> wire.Bundle:
    four = next(v for v in want.vips if "." in v)
    six = tuple(f"{v}/128" if ":" in v else f"{v}/32" for v in want.vips if v != four)
    own = changes.pop("own", None) or _OWN.get(amphora) or _OWN.setdefault(amphora, rig.address())
    made = rig.bundle(amphora, four, config, vips=six, own=own, **changes)
    text = {datagrams.FILE: datagrams.to_text(want)} if want.listeners else {}
    return replace(made, files={**made.files, **text})


_NUMBERS = itertools.count(1)  # of questions


class Client:
    """A UDP socket of the host's, to a VIP: one flow."""

    def __init__(
        self, vip: str, port: int = 53, *, namespace: str | None = None, source: tuple[str, int] | None = None,
        patience: float = 20.0,
    ) -> None:  # fmt: skip
        with namespaces.inside(namespace):
            self.socket = socket.socket(socket.AF_INET6 if ":" in vip else socket.AF_INET, socket.SOCK_DGRAM)
        if source:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # others may have the port elsewhere
            self.socket.bind(source)
        self.socket.connect((vip, port))
        if ":" in vip:  # else the first long packet tells that the networks take shorter ones, and is lost
            self.socket.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU, 1400)
        self.socket.settimeout(patience)

    def ask(self) -> list[str]:
        """Name, address and port that the member saw. Raises OSError."""
        return self.hear(self.send())

    def send(self, late: int = 0, size: int = 0) -> int:
        """Only ask, with so many bytes more, to be answered so many milliseconds later. The number of the answer."""
        number = next(_NUMBERS)
        words = ["late", str(late)] if late else []
        words += ["x" * size] if size else []
        self.socket.send(" ".join([*words, str(number)]).encode())
        return number

    def hear(self, number: int) -> list[str]:
        """The answer, as ``ask``'s; others that come before are lost."""
        while True:
            said = self.socket.recv(65536).decode().split(" ")
            if said[-1] == str(number):
                return said[:3]

    def close(self) -> None:
        self.socket.close()


# Those that the kernel would pick by chance may be an earlier flow's, which still leads to its member.
_PORTS = itertools.cycle(range(10000, 19000))


def ask(vip: str, port: int = 53, *, source: str = "", **how: Any) -> str:
    """The name of the member that answers a new flow from this address."""
    client = Client(vip, port, source=(source, next(_PORTS)), **how)
    try:
        return client.ask()[0]
    finally:
        client.close()


class Running:
    """Flows that ask all the time; what each was told, and what was not answered."""

    def __init__(self, vip: str, flows: int = 6, port: int = 53) -> None:
        self.answers: dict[int, list[str]] = {n: [] for n in range(flows)}
        self.lost: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n, vip, port)) for n in range(flows)]

    def _run(self, number: int, vip: str, port: int) -> None:
        client = Client(vip, port)
        while not self._stop.wait(0.005):
            try:
                self.answers[number].append(client.ask()[0])
            except OSError as e:
                self.lost.append(f"{number}: {e!r}")
        client.close()

    @contextlib.contextmanager
    def going(self) -> Iterator["Running"]:
        for t in self._threads:
            t.start()
        try:
            self.flow()
            yield self
            self.flow()
        finally:
            self._stop.set()
            for t in self._threads:
                t.join()

    def flow(self, rounds: int = 20) -> None:
        """Wait until every flow has got so many more answers. Nothing may be lost meanwhile."""
        goal = {n: len(a) + rounds for n, a in self.answers.items()}
        for _ in range(6000):
            assert self.lost == []
            if all(len(self.answers[n]) >= g for n, g in goal.items()):
                return
            self._stop.wait(0.01)
        raise AssertionError("the flows stand still")

    def members(self, number: int) -> list[str]:
        """Whom a flow was answered by, repetitions left out."""
        said = self.answers[number]
        return [m for n, m in enumerate(said) if n == 0 or said[n - 1] != m]

"""What the kernel does for load balancers, seen from this machine: UDP members and clients, queues."""

import contextlib
import socket
import threading
from typing import Any

from standalone import Standalone, run


class Echo:
    """A member on an address of this machine: answers its name, or without one what it was sent, after ``late_s``."""

    def __init__(self, address: str, name: str, late_s: float = 0.0) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((address, 0))
        self.port = self.socket.getsockname()[1]
        self._name = name.encode()
        self._late_s = late_s
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                data, sender = self.socket.recvfrom(2048)
                if data and self._late_s:
                    threading.Timer(self._late_s, self._answer, (data, sender)).start()
                elif data:
                    self._answer(data, sender)

    def _answer(self, data: bytes, sender: Any) -> None:
        with contextlib.suppress(OSError):  # it was closed meanwhile
            self.socket.sendto(self._name or data, sender)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


def ask(vip: str, port: int = 53, timeout: float = 5) -> str:
    """Which member answers a new client. Raises OSError when none does."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(timeout)
        s.connect((vip, port))
        s.send(b"?")
        return s.recv(100).decode()


def queue(standalone: Standalone, amphora_id: str) -> str:
    """The classes of the queues in an amphora, as tc shows them."""
    name = f"cln-{standalone.tag}-{amphora_id[:13]}"
    links = run("ip", "-n", name, "-o", "link").stdout.splitlines()
    ours = [line.split()[1].partition("@")[0] for line in links if line.split()[1].startswith("p")]
    return "".join(run("tc", "-n", name, "class", "show", "dev", link).stdout for link in ours)

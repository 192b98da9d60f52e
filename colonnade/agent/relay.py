"""Carries UDP between IPv4 and IPv6, which the kernel's address translation cannot: a program of its own.

Runs as an amphora's own unprivileged user in its namespace, from a copy of this file, thus with nothing but the
standard library. ``relay.json`` in its directory lists ``[address, port, member's address, member's port]``; after
SIGHUP it is read again. Each client's flow has a socket of its own to the member, so answers find their way back. A
flow ends when it was silent for ``idle`` seconds; there are never more than ``most``, the longest silent ones go first.
What is no longer listed goes on for ``LINGER`` seconds: members may be answering, and the kernel's rules change later.
"""

import contextlib
import json
import os
import resource
import selectors
import signal
import socket
import sys
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

_LARGEST = 65535
_MOST_AT_ONCE = 64  # datagrams from one socket before others get their turn
_QUIET = 1.0  # seconds between looks for flows that have been silent
LINGER = 5.0  # seconds, as the kernel's table lets answers through (ruleset.LATE_S)

Place = tuple[str, int]


class Flow:
    """A client that sends to a door's member."""

    def __init__(self, door: "Door", client: Any) -> None:  # noqa: ANN401 - a socket address of either kind
        self.door, self.client = door, client
        family = socket.AF_INET6 if ":" in door.member[0] else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self.socket.connect(door.member)
        self.heard = time.monotonic()


class Door:
    """Where the kernel sends what is for one member."""

    def __init__(self, place: Place, member: Place) -> None:
        self.place, self.member = place, member
        self.until: float | None = None  # when it is closed
        family = socket.AF_INET6 if ":" in place[0] else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            self.socket.bind(place)
        except OSError:
            self.socket.close()
            raise


class Relay:
    """All doors and flows."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._selector = selectors.DefaultSelector()
        self._doors: dict[tuple[Place, Place], Door] = {}
        self._flows: OrderedDict[tuple[Place, Any], Flow] = OrderedDict()  # the longest silent first
        self._again, bell = socket.socketpair()
        self._again.setblocking(False)
        bell.setblocking(False)
        signal.set_wakeup_fd(bell.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGHUP, lambda *_: None)
        self._bell = bell
        self._selector.register(self._again, selectors.EVENT_READ)
        self._idle = 60.0

    def read(self) -> None:
        """Have the doors that the file says. What stays open goes on undisturbed."""
        given = json.loads(Path("relay.json").read_text())
        self._idle = float(given["idle"])
        wanted = {((a, p), (m, q)) for a, p, m, q in given["doors"]}
        until = time.monotonic() + LINGER
        for key, door in self._doors.items():
            door.until = None if key in wanted else door.until or until
        for place, member in wanted - set(self._doors):
            for other in [key for key in self._doors if key[0] == place]:
                self._close(self._doors.pop(other))
            try:
                door = self._doors[place, member] = Door(place, member)
            except OSError as e:
                print(f"{place[0]} port {place[1]} cannot be had: {e}", file=sys.stderr, flush=True)
                continue
            self._selector.register(door.socket, selectors.EVENT_READ, door)
        fresh = Path("own/relay.new")
        opened = [[*place, *member] for place, member in self._doors if (place, member) in wanted]
        fresh.write_text(json.dumps(opened))  # tells the agent
        fresh.replace("own/relay.open")

    def run(self) -> None:
        """For ever."""
        last = time.monotonic()
        while True:
            for key, _ in self._selector.select(_QUIET):
                if key.data is None:
                    self._again.recv(64)
                    self.read()
                elif isinstance(key.data, Door):
                    self._from_clients(key.data)
                else:
                    self._from_member(key.data)
            if (now := time.monotonic()) - last >= _QUIET:
                last = now
                self._end_silent(now)
                for gone in [k for k, door in self._doors.items() if door.until and now >= door.until]:
                    self._close(self._doors.pop(gone))

    def _from_clients(self, door: Door) -> None:
        for _ in range(_MOST_AT_ONCE):
            try:
                data, client = door.socket.recvfrom(_LARGEST)
            except OSError:
                return
            key = (door.place, client)
            flow = self._flows.get(key)
            if flow is None:
                if len(self._flows) >= self._most:
                    self._end(next(iter(self._flows)))
                try:
                    flow = Flow(door, client)
                except OSError:
                    continue
                self._flows[key] = flow
                self._selector.register(flow.socket, selectors.EVENT_READ, flow)
            self._touch(key, flow)
            with contextlib.suppress(OSError):  # full, or the member refused an earlier one: datagrams may be lost
                flow.socket.send(data)

    def _from_member(self, flow: Flow) -> None:
        for _ in range(_MOST_AT_ONCE):
            try:
                data = flow.socket.recv(_LARGEST)
            except ConnectionError:
                continue
            except OSError:
                return
            self._touch((flow.door.place, flow.client), flow)
            try:
                flow.door.socket.sendto(data, flow.client)
            except OSError:
                return

    def _touch(self, key: tuple[Place, Any], flow: Flow) -> None:
        flow.heard = time.monotonic()
        if key in self._flows:
            self._flows.move_to_end(key)

    def _end_silent(self, now: float) -> None:
        while self._flows:
            key, flow = next(iter(self._flows.items()))
            if now - flow.heard < self._idle:
                return
            self._end(key)

    def _end(self, key: tuple[Place, Any]) -> None:
        flow = self._flows.pop(key)
        self._selector.unregister(flow.socket)
        flow.socket.close()

    def _close(self, door: Door) -> None:
        for key in [k for k, flow in self._flows.items() if flow.door is door]:
            self._end(key)
        self._selector.unregister(door.socket)
        door.socket.close()


def main() -> None:
    """Until it is ended."""
    os.umask(0o077)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    relay = Relay(min(int(sys.argv[1]), max(64, most // 2)))
    relay.read()
    relay.run()


if __name__ == "__main__":
    main()

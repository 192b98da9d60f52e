"""The relay of one amphora, while some member is reached through it only: which ports it has, and that it runs.

Members that go are carried for some seconds more, at ports that nobody else gets soon: they may be answering.
"""

import contextlib
import itertools
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from colonnade.agent import namespaces, relay
from colonnade.agent.place import keep, kept, write_file
from colonnade.agent.processes import end_processes, start_time
from colonnade.agent.spawn import Program, Spawner
from colonnade.agent.timers import Timers
from colonnade.agent.watch import Watcher
from colonnade.datagrams import Member

log = logging.getLogger(__name__)
_NAME = "relay.py"
_PORTS = range(1024, 10240)  # below those that the kernel gives out
_MOST_FLOWS = 4096  # a descriptor each
_SHORT_LIFE, _LONGEST_PAUSE = 5.0, 10.0
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # it may have put a pipe there
_PATIENCE = 2.0  # seconds for it to open its doors

Door = tuple[str, int, str, int]  # address and port, the member's address and port


class Relays:
    """Changes are made under the balancer's lock."""

    def __init__(
        self, *, namespace: str, run: Path, uid: int, spawner: Spawner, watcher: Watcher, timers: Timers,
        changed: Callable[[], None],
    ) -> None:  # fmt: skip
        self._namespace = namespace
        self._run = run
        self._uid = uid
        self._spawner = spawner
        self._watcher = watcher
        self._timers = timers
        self._changed = changed
        self._lock = threading.RLock()
        self._doors: dict[str, Door] = {}  # by member
        self._minded: Mapping[str, Door] | None = None  # those that a look is due for
        self._ports = itertools.cycle(_PORTS)
        self._idle = 0
        self._pid = 0
        self._started: str | None = None
        self._since = self._needed_until = 0.0
        self._deaths = 0

    @property
    def pid(self) -> int:
        """Its process, one that an earlier agent started too; 0 when there is none."""
        if self._runs():
            return self._pid
        record = kept(self._run / "relays.json") or {"pid": 0}
        return int(record["pid"]) if record["pid"] and start_time(record["pid"]) == record["started"] else 0

    def adopt(self) -> None:
        """Take over what an earlier agent started."""
        with self._lock:
            record = kept(self._run / "relays.json") or {"doors": {}, "pid": 0}
            self._doors = {m: (a, p, b, q) for m, (a, p, b, q) in record["doors"].items()}
            if record["pid"] and start_time(record["pid"]) == record["started"]:
                self._pid, self._started, self._since = record["pid"], record["started"], time.monotonic()
                with contextlib.suppress(ProcessLookupError):
                    self._watcher.end_of(self._pid, self._ended)
            if (self._run / _NAME).exists():  # one was started, written down or not
                end_processes(self._strays)

    def _strays(self) -> list[int]:
        """Relays that an agent started and died before it wrote them down: they would keep the doors."""
        return [p for p in namespaces.processes(self._namespace) if p != self._pid and _NAME in _words(p)]

    def have(self, crossing: Mapping[str, tuple[Member, str]], idle: int) -> None:
        """Have a door for each of these members, and keep those there are. Waits a moment until they are open."""
        with self._lock:
            doors: dict[str, Door] = {}
            taken = {(d[0], d[1]) for d in self._doors.values()}
            for member_id, (member, vip) in sorted(crossing.items()):
                old = self._doors.get(member_id)
                if old and (old[0], old[2], old[3]) == (vip, member.address, member.port):
                    doors[member_id] = old
                    continue
                ports = itertools.islice(self._ports, len(_PORTS))
                port = next((p for p in ports if (vip, p) not in taken), None)
                if port is None:
                    log.warning("%s: more members of the other IP version than the relay has ports", self._namespace)
                    break
                taken.add((vip, port))
                doors[member_id] = (vip, port, member.address, member.port)
            idle = idle or 3600
            if doors == self._doors and idle == self._idle and (self._runs() or not doors):
                return
            self._doors, self._idle = doors, idle
            self._tell()
            self._mind()

    def ports(self) -> dict[str, int]:
        """The ports at which members are reached, of those doors that are open."""
        with self._lock:
            if not self._doors or not self._runs():
                return {}
            opened = self._opened()
            return {m: d[1] for m, d in self._doors.items() if d in opened}

    def _mind(self, pause: float = 1.0) -> None:
        """Have the rules follow doors that a busy machine opens later than anybody can wait for here."""
        doors = self._doors
        if self._minded is not doors and not set(doors.values()) <= self._opened():
            self._minded = doors  # a relay that ends again and again asks for one look each time
            self._timers.after(pause, lambda: self._look(doors, pause))

    def _look(self, doors: Mapping[str, Door], pause: float) -> None:
        with self._lock:
            if self._doors is not doors:
                return  # whoever changed them looks for the new ones
            self._minded = None
            self._mind(min(2 * pause, _LONGEST_PAUSE))
        self._changed()

    def close(self) -> None:
        """End it."""
        with self._lock:
            self._doors = {}
            self._end()

    def _tell(self) -> None:
        """Have the process know, and run only while it is needed."""
        doors = sorted(self._doors.values())
        if self._runs() or doors:
            write_file(self._run / "relay.json", json.dumps({"doors": doors, "idle": self._idle}), self._uid)
        if self._runs():
            os.kill(self._pid, 1)
        elif doors:
            self._start()
        if not doors:
            self._needed_until = time.monotonic() + relay.LINGER
            self._timers.after(relay.LINGER, self._rest)
        deadline = time.monotonic() + _PATIENCE
        while self._runs() and not set(doors) <= self._opened() and time.monotonic() < deadline:
            time.sleep(0.005)
        self._keep()

    def _rest(self) -> None:
        """End it unless it is needed again."""
        with self._lock:
            if not self._doors and self._runs() and time.monotonic() >= self._needed_until:
                self._end()
                self._keep()

    def _start(self) -> None:
        write_file(self._run / _NAME, Path(relay.__file__).read_text(), self._uid)
        (self._run / "own" / "relay.open").unlink(missing_ok=True)
        words = (os.path.realpath(sys.executable), "-I", "-S", _NAME, str(_MOST_FLOWS))
        try:
            popen = self._spawner.start(
                Program(words=words, namespace=self._namespace, directory=self._run, uid=self._uid, environment={})
            )
        except OSError as e:
            log.error("%s: the relay cannot be started: %s", self._namespace, e)
            return
        popen.returncode = 0  # the watcher reaps it
        if popen.stderr:
            self._watcher.text_of(os.dup(popen.stderr.fileno()), self._said)
            popen.stderr.close()
        self._pid, self._started, self._since = popen.pid, start_time(popen.pid), time.monotonic()
        self._watcher.end_of(popen.pid, self._ended)

    def _said(self, data: bytes) -> None:
        if data:
            log.warning("%s: the relay says: %s", self._namespace, data.decode(errors="replace")[-500:].strip())

    def _ended(self, status: int | None) -> None:
        """In the watcher's thread."""
        self._timers.after(0.0, self._again)

    def _again(self) -> None:
        """Start it anew if it is needed; later when it ends again and again."""
        with self._lock:
            if self._runs() or not self._doors:
                return
            short = time.monotonic() - self._since < _SHORT_LIFE
            self._deaths = self._deaths + 1 if short else 0
            pause = min(_LONGEST_PAUSE, 0.1 * 2.0 ** min(self._deaths - 3, 10)) if self._deaths > 3 else 0.0
            if pause:
                self._timers.after(pause, self._restart)
                return
        self._restart()

    def _restart(self) -> None:
        with self._lock:
            if self._doors and not self._runs():
                self._tell()
                self._mind()
        self._changed()

    def _runs(self) -> bool:
        return bool(self._pid) and self._started is not None and start_time(self._pid) == self._started

    def _end(self) -> None:
        if self._runs():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, 9)
        self._pid, self._started = 0, None

    def _opened(self) -> set[Door]:
        """What it says is open; the file is its own, so it is believed only as far as it names our doors."""
        try:
            with open(os.open(self._run / "own" / "relay.open", _FLAGS)) as f:  # noqa: PTH123
                return {(a, p, b, q) for a, p, b, q in json.loads(f.read(1 << 20))}
        except (OSError, ValueError, TypeError, RecursionError):
            return set()

    def _keep(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            data = {"doors": self._doors, "pid": self._pid, "started": self._started}
            keep(self._run / "relays.json", data, durable=False)


def _words(pid: int) -> list[str]:
    """The words that the process was started with."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []

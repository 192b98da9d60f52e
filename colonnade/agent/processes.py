"""The HAProxy processes of one amphora: the one that serves, and older ones that finish what they have.

A process serves until another has taken its listening sockets over, so a reload loses no connection; one that does not
come up leaves the older serving. Counters of all of them add up and never run backwards within an ``epoch``.
"""

import contextlib
import logging
import os
import resource
import select
import signal
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from colonnade.agent import datagram_rows, namespaces
from colonnade.agent.difference import Add, Change, Disable, Drop, Enable, Refill, Renew, Weigh, checked, servers
from colonnade.agent.place import keep, kept, write_file
from colonnade.agent.refused import Refused
from colonnade.agent.runtime import Runtime, Statistics, negative, server_state, settled, sum_counters
from colonnade.agent.spawn import Program, Spawner
from colonnade.agent.watch import Watcher
from colonnade.wire import Counters

log = logging.getLogger(__name__)
_START_LIMIT = 15.0  # seconds
_SPARE_FILES = 200  # descriptors for everything that is not a client's or a member's connection
_MOST_CONNECTIONS = 60000
_LAST_WORDS = 4096  # bytes of stderr kept


class Process:
    """One HAProxy process."""

    def __init__(self, pid: int, number: int, socket: Path) -> None:
        self.pid = pid
        self.number = number
        self.socket = socket
        self.started = start_time(pid)
        self.since = time.monotonic()
        self.ended = threading.Event()
        self.status: int | None = None
        self.last_words = b""
        self.silent = threading.Event()  # its stderr is closed
        self.runtime: Runtime | None = None
        self.statistics = Statistics()

    def heard(self, data: bytes) -> None:
        """Keep the end of what it says on stderr; empty when it says no more."""
        self.last_words = (self.last_words + data)[-_LAST_WORDS:]
        if not data:
            self.silent.set()

    def look(self) -> Statistics:
        """Fresh statistics; the last ones when it does not answer."""
        with contextlib.suppress(OSError, KeyError, ValueError):
            if self.runtime and not self.ended.is_set():
                self.statistics = self.runtime.statistics()
        return self.statistics

    def send(self, number: signal.Signals) -> None:
        """Signal it, unless it is gone."""
        if not self.ended.is_set() and start_time(self.pid) == self.started:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


class Processes:
    """Changes are made under the amphora's lock; ``look``, ``tidy`` and what is read may be called without."""

    def __init__(
        self, *, haproxy: str, spawner: Spawner, watcher: Watcher, namespace: str, run: Path, uid: int,
        died: Callable[[Process], None],
    ) -> None:  # fmt: skip
        self._haproxy = haproxy
        self._spawner = spawner
        self._watcher = watcher
        self._namespace = namespace
        self._run = run
        self._uid = uid
        self._died = died
        self._lock = threading.Lock()  # of what follows
        self.current: Process | None = None
        self.finishing: list[Process] = []
        self._base: dict[str, Counters] = {}
        self._dropped: set[str] = set()
        self._digest = ""
        self._number = 0
        self._begun: dict[str, Any] | None = None  # the number and digest of a process that is being started
        self.epoch = uuid.uuid4().hex

    def start(self, directory: Path, digest: str) -> None:
        """Start the first process, on the files in ``directory``. Raises Refused with HAProxy's reason."""
        write_file(self._run / "state", "1\n", self._uid)
        self._succeed(self._launch(directory, digest, ()), digest)

    def reload(self, directory: Path, digest: str) -> None:
        """Have a new process take over from the current one. Raises Refused; then the current one goes on."""
        old = self.current
        if old is None or old.runtime is None or old.ended.is_set():
            self.start(directory, digest)
            return
        config = (directory / "haproxy.cfg").read_text()
        with contextlib.suppress(OSError):
            state = server_state(old.runtime.ask("show servers state"), checked(config))
            write_file(self._run / "state", state, self._uid)
        old.look()
        self._succeed(self._launch(directory, digest, ("-x", str(old.socket), "-sf", str(old.pid))), digest)

    def change(self, changes: Sequence[Change], digest: str) -> bool:
        """Change the current process while it runs. False when it refused something: a reload makes it right."""
        runtime = self.current.runtime if self.current else None
        if runtime is None:
            return False
        try:
            for change in changes:
                if isinstance(change, Refill):
                    if not runtime.refill(change.kind, change.file, change.lines):
                        log.info("HAProxy did not take %s as it is; it is reloaded instead", change.file)
                        return False
                    continue
                for command, answer in _commands(change, self._dropped):
                    said = runtime.ask(command)
                    if answer not in said if answer else said:
                        # Only the first line: what follows may be a private key.
                        log.info("HAProxy refused %r (%s); it is reloaded instead", command.partition("\n")[0], said)
                        return False
                if isinstance(change, Drop):
                    self._dropped.add(change.server)
                elif isinstance(change, Add):
                    self._dropped.discard(change.server)
        except OSError:
            return False
        self._digest = digest
        self._record()
        self._drop()
        return True

    def stop(self) -> None:
        """Take no new connection; finish those there are, then end."""
        with self._lock:
            old, self.current = self.current, None
            if old:
                self.finishing.append(old)
        self._record()
        if old:
            old.send(signal.SIGUSR1)

    def kill(self) -> None:
        """End all of them now, and wait for it."""
        with self._lock:
            everyone = [*self.finishing, *([self.current] if self.current else [])]
            self.current = None
            self.finishing = everyone
        for process in everyone:
            process.send(signal.SIGKILL)
        for process in everyone:
            process.ended.wait(5)

    def adopt(self) -> bool:
        """Take over, undisturbed, what an earlier agent started. False when there is nothing that serves."""
        record = kept(self._run / "process.json")
        if not record:
            return False
        begun = self._begun_by(record)
        process = begun or self._answering(record["number"], record["pid"], record["started"])
        if process is None:
            return False
        self._number = max(record["number"], process.number)
        self._digest = record["begun"]["digest"] if begun else record["digest"]
        process.look()
        older = [*record["finishing"], *([record] if begun else [])]
        if older:
            # What those have counted since they were last looked at is lost: count anew rather than backwards.
            self._base = negative(process.statistics.listeners)
        else:
            self.epoch = record["epoch"]
            self._base = {listener: Counters(**c) for listener, c in record["base"].items()}
        finishing = [p for p in map(self._still_there, older) if p]
        with self._lock:
            self.current = process
            self.finishing = finishing
        self._dropped = set() if begun else set(record["dropped"])
        sockets = {p.socket for p in (process, *finishing)}
        for stale in set((self._run / "own").glob("s*")) - sockets:
            stale.unlink(missing_ok=True)
        self._watch(process)
        for old in finishing:
            self._watch(old)
        self._record()
        return True

    def resume(self) -> None:
        """Count on where an earlier agent stopped that had no process at all."""
        record = kept(self._run / "process.json")
        if record and not (record["pid"] or record["begun"] or record["finishing"]):
            self._number, self.epoch = record["number"], record["epoch"]
            self._base = {listener: Counters(**c) for listener, c in record["base"].items()}

    def runs_in(self, directory: Path) -> bool:
        """Whether the current process has its files there."""
        try:
            return self.current is not None and Path(f"/proc/{self.current.pid}/cwd").readlink() == directory
        except OSError:
            return False

    @property
    def digest(self) -> str:
        """Of the files that the current process runs."""
        return self._digest

    def look(self) -> Statistics:
        """What the current process says of everything, with the counters of all there ever were."""
        with self._lock:
            current, finishing = self.current, list(self.finishing)
        if current is None:
            return Statistics()
        now = current.look()
        for process in finishing:
            process.look()
        with self._lock:
            living = [p.statistics.listeners for p in self.finishing]
            total = sum_counters([now.listeners, *living, self._base])
        return Statistics(listeners={name: total[name] for name in now.listeners}, pools=now.pools, members=now.members)

    def tidy(self) -> bool:
        """Let processes go that have finished, remove members that have. False when nothing is left to tidy."""
        with self._lock:
            finishing = list(self.finishing)
        for process in finishing:
            with contextlib.suppress(OSError):
                if process.runtime and process.runtime.finished():
                    process.look()
                    process.runtime.close()
        self._drop()
        return bool(finishing or self._dropped)

    def _launch(self, directory: Path, digest: str, words: Sequence[str]) -> Process:
        """Written down first: an agent that comes after us finds what we have begun."""
        self._number += 1
        self._begun = {"number": self._number, "digest": digest}
        self._record()
        try:
            return self._launched(directory, words)
        except BaseException:
            self._begun = None
            raise

    def _launched(self, directory: Path, words: Sequence[str]) -> Process:
        socket = self._socket(self._number)
        socket.unlink(missing_ok=True)
        popen = self._spawner.start(
            Program(
                words=(self._haproxy, "-db", "-f", "haproxy.cfg", *words),
                namespace=self._namespace,
                directory=directory,
                uid=self._uid,
                environment={
                    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                    "COLONNADE_SOCKET": str(socket),
                    "COLONNADE_STATE": str(self._run / "state"),
                    "COLONNADE_LOG": str(self._run / "log"),
                    "COLONNADE_DATAGRAMS": str(self._run / datagram_rows.FILE),
                    "COLONNADE_MAXCONN": str(_connections(directory)),
                },
            )
        )
        process = Process(popen.pid, self._number, socket)
        popen.returncode = 0  # the watcher reaps it
        if popen.stderr:
            self._watcher.text_of(os.dup(popen.stderr.fileno()), process.heard)
            popen.stderr.close()
        self._watcher.end_of(process.pid, lambda status: self._ended(process, status))
        self._await(process)
        return process

    def _begun_by(self, record: dict[str, Any]) -> Process | None:
        """The process that an agent was starting when it died, if it serves; otherwise it is ended, lest it serve
        later beside the one that we start or adopt."""
        if not record["begun"]:
            return None
        process = self._answering(record["begun"]["number"])
        if process:
            return process
        known = {record["pid"] or -1, *(old["pid"] for old in record["finishing"])}
        end_processes(lambda: [p for p in namespaces.processes(self._namespace) if not {p, _parent(p)} & known])
        return None

    def _answering(self, number: int, pid: int | None = None, started: str | None = None) -> Process | None:
        """The process behind a socket, if it takes connections; with ``pid`` only that one. What it says of itself is
        believed only as far as it is in our namespace."""
        if pid is not None and start_time(pid) != started:
            return None
        runtime = None
        try:
            runtime = Runtime(self._socket(number), self._uid)
            said = runtime.pid()
            ours = namespaces.processes(self._namespace) if pid is None else [pid]
            if said in ours and "Stopping: 1" not in runtime.ask("show info").split("\n"):
                process = Process(said, number, self._socket(number))
                process.runtime = runtime
                return process
        except OSError:
            pass
        if runtime:
            runtime.close()
        return None

    def _still_there(self, old: dict[str, Any]) -> Process | None:
        """A finishing process of an earlier agent. It listens on its socket no more, so nobody can ask it anything."""
        there = old["pid"] and start_time(old["pid"]) == old["started"]
        return Process(old["pid"], old["number"], self._socket(old["number"])) if there else None

    def _watch(self, process: Process) -> None:
        """Of an earlier agent's."""
        try:
            self._watcher.end_of(process.pid, lambda status: self._ended(process, status))
        except ProcessLookupError:
            self._ended(process, None)

    def _socket(self, number: int) -> Path:
        return self._run / "own" / f"s{number}"

    def _await(self, process: Process) -> None:
        """Until it answers: its listeners are open then."""
        deadline = time.monotonic() + _START_LIMIT
        while time.monotonic() < deadline:
            if process.ended.is_set():
                process.silent.wait(0.2)
                raise Refused(422, f"HAProxy refuses its configuration: {_alert(process.last_words)}",
                              "Change the load balancer's settings that it names.")  # fmt: skip
            try:
                runtime = Runtime(process.socket, self._uid)
            except OSError:
                process.ended.wait(0.001)
                continue
            if runtime.pid() == process.pid:
                process.runtime = runtime
                return
            runtime.close()
        process.send(signal.SIGKILL)
        raise Refused(503, f"HAProxy did not start within {_START_LIMIT:.0f} seconds.", "The host may be overloaded.")

    def _succeed(self, process: Process, digest: str) -> None:
        with self._lock:
            old, self.current = self.current, process
            if old and not old.ended.is_set():
                self.finishing.append(old)
            elif old:
                self._base = sum_counters([self._base, settled(old.statistics.listeners)])
            self._dropped = set()
            self._digest = digest
            self._begun = None
        self._record()
        if process.ended.is_set():
            self._died(process)

    def _ended(self, process: Process, status: int | None) -> None:
        """In the watcher's thread."""
        process.status = status
        with self._lock:
            process.ended.set()
            if process in self.finishing:
                self.finishing.remove(process)
                self._base = sum_counters([self._base, settled(process.statistics.listeners)])
            current = process is self.current
        if process.runtime:
            process.runtime.close()
        process.socket.unlink(missing_ok=True)
        if current:
            self._died(process)
        elif self._run.exists():
            self._record()

    def _drop(self) -> None:
        """Remove servers that have finished; those that have not are asked again later."""
        runtime = self.current.runtime if self.current else None
        for server in sorted(self._dropped):
            with contextlib.suppress(OSError):
                said = runtime.ask(f"del server {server}") if runtime else ""
                if "deleted" in said or "No such server" in said:
                    self._dropped.discard(server)

    def _record(self) -> None:
        with self._lock:
            current = self.current
            data: dict[str, Any] = {
                "pid": current.pid if current else 0,
                "started": current.started if current else None,
                "number": self._number,
                "digest": self._digest,
                "epoch": self.epoch,
                "begun": self._begun,
                "finishing": [{"pid": p.pid, "started": p.started, "number": p.number} for p in self.finishing],
                "base": {listener: asdict(c) for listener, c in self._base.items()},
                "dropped": sorted(self._dropped),
            }
            with contextlib.suppress(FileNotFoundError):  # the amphora is being removed
                keep(self._run / "process.json", data, durable=False)


def start_time(pid: int) -> str | None:
    """When the process started, in the kernel's ticks; None when it is gone or only its exit status is left."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else rest[18]


def end_processes(found: Callable[[], list[int]]) -> None:
    """End every process that ``found`` finds, and wait until it finds none."""
    deadline = time.monotonic() + 5
    while pids := found():
        for pid in pids:
            if time.monotonic() > deadline:
                log.error("process %d does not end", pid)
                return
            try:
                pidfd = os.pidfd_open(pid)
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            except ProcessLookupError:
                continue
            _wait(pidfd)
            os.close(pidfd)


def _wait(pidfd: int) -> None:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.poll(2000)


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _commands(change: Weigh | Disable | Enable | Drop | Add | Renew, dropped: set[str]) -> list[tuple[str, str]]:
    """Commands, and what each answer must hold; nothing: it must be empty."""
    match change:
        case Weigh(server=s, weight=w):
            return [(f"set server {s} weight {w}", "")]
        case Disable(server=s) | Drop(server=s):
            return [(f"set server {s} state maint", "")]
        case Enable(server=s):
            return [(f"set server {s} state ready", "")]
        case Add(server=s, words=words, checked=has_check, disabled=disabled):
            commands = [(f"del server {s}", "deleted")] if s in dropped else []
            commands += [(f"add server {s} {' '.join(words)}", "registered")]
            commands += [(f"enable health {s}", "")] if has_check else []
            return commands if disabled else [*commands, (f"enable server {s}", "")]
        case Renew(file=file, kind=kind, text=text):
            return [(f"set ssl {kind} {file} <<\n{text}", "ransaction"), (f"commit ssl {kind} {file}", "Success")]


def _connections(directory: Path) -> int:
    """As many as the file limit allows: two descriptors each, and one for each member's health check."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    members = len(servers((directory / "haproxy.cfg").read_text()))
    return max(100, min(_MOST_CONNECTIONS, (limit - _SPARE_FILES - 2 * members) // 2))


def _alert(said: bytes) -> str:
    """The first line that says why; HAProxy's later ones only sum up."""
    lines = said.decode(errors="replace").split("\n")
    alerts = [line.partition(") : ")[2] or line for line in lines if line.startswith("[ALERT]")]
    return (alerts or [line for line in lines if line.strip()] or ["it ended without a word."])[0].strip()

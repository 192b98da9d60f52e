"""One amphora: its namespace, its HAProxy, the bundle it was given last, and what it says of itself.

The bundle on disk is the truth after a restart; it is written once HAProxy runs it. Changes to one amphora wait for
one another (``_lock``), heartbeats do not wait for changes.
"""

import contextlib
import hashlib
import json
import logging
import os
import shutil
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from functools import partial

from colonnade import wire
from colonnade.agent import datagram_rows, namespaces
from colonnade.agent.balancer import Balancer
from colonnade.agent.beat import Beats
from colonnade.agent.checks import Checks
from colonnade.agent.difference import Change, difference, servers
from colonnade.agent.fabric import HostFabric
from colonnade.agent.guard import Guard
from colonnade.agent.network import AmphoraNetwork
from colonnade.agent.place import Installation, keep, kept, write_file, write_files
from colonnade.agent.processes import Process, Processes, end_processes
from colonnade.agent.refused import Refused
from colonnade.agent.relays import Relays
from colonnade.agent.spawn import Spawner
from colonnade.agent.timers import Timers
from colonnade.agent.tracking import Pace
from colonnade.agent.watch import Watcher
from colonnade.datagrams import FILE as DATAGRAMS

log = logging.getLogger(__name__)
_SHORT_LIFE = 5.0  # seconds; a process that ends earlier counts towards the pause before the next
_LONGEST_PAUSE = 10.0
_FREE_DEATHS = 3
_TURN_S = 2.0  # how long a request waits for another one to the same amphora: the agent has few threads for all
_MOST_CHANGES = 300  # at run time; HAProxy takes longer for each the more servers it has, and a reload costs the same
_BEAT_SHARE = 10  # of an amphora's time at most one part in so many goes to beats
_A_MOMENT = 0.05  # seconds until a look whether a change has ended
_ANNOUNCE_AGAIN = (0.5, 2.0)  # seconds; a neighbour may have missed the first


class Tools:
    """What all amphorae of the agent share."""

    def __init__(self, here: Installation, fabric: HostFabric, haproxy: str) -> None:
        self.here = here
        self.fabric = fabric
        self.haproxy = haproxy
        self.spawner = Spawner()
        self.watcher = Watcher()
        self.timers = Timers()
        self.beats = Beats()
        self.checks = Checks()
        self.pace = Pace()


class Amphora:
    """``restore`` or ``ensure`` comes first. Safe to call from any thread."""

    def __init__(self, tools: Tools, amphora_id: str, number: int, heartbeat_key: str) -> None:
        here = tools.here
        self.id = amphora_id
        self.number = number
        self._key = bytes.fromhex(heartbeat_key)
        self._tools = tools
        self._disk = here.amphorae / amphora_id
        self._run = here.run / str(number)
        self._files = self._run / "files"  # HAProxy must reach it from /, wherever the state directory is
        self._uid = here.uid(number)
        self._lock = threading.RLock()
        self._bundle: wire.Bundle | None = None
        self._digest: str | None = None
        self._present: dict[str, str] = {}  # the bundle's files, with those it keeps
        self._servers: set[tuple[str, str]] = set()  # (backend, server) of the bundle
        self._error: str | None = None
        self._deaths = 0
        self._sequence = 0
        self._gone = False
        self._beat_soon = False
        self._beat_due = 0.0
        self._beat_took = 0.0
        self._tidying = False
        self._close_log: Callable[[], None] | None = None
        self._network = AmphoraNetwork(tools.fabric, here.namespace(amphora_id))
        self._guard = Guard(self._network.namespace, self._run / "guarded")
        self._processes = Processes(
            haproxy=tools.haproxy, spawner=tools.spawner, watcher=tools.watcher, namespace=self._network.namespace,
            run=self._run, uid=self._uid, died=self._died,
        )  # fmt: skip
        relays = Relays(
            namespace=self._network.namespace, run=self._run, uid=self._uid, spawner=tools.spawner,
            watcher=tools.watcher, timers=tools.timers, changed=lambda: self._balancer.refresh(),
        )  # fmt: skip
        self._balancer = Balancer(
            network=self._network, run=self._run, checks=tools.checks, timers=tools.timers, relays=relays,
            pace=tools.pace, news=lambda: self._beat_now(0.05),
        )  # fmt: skip

    def ensure(self, heartbeat_key: str) -> wire.Observed:
        """Make its place, unless it is there; take a new key."""
        with self._turn():
            self._refuse_when_gone()
            place = {"number": self.number, "heartbeat_key": heartbeat_key}
            if kept(self._disk / "place.json") != place:
                self._disk.mkdir(mode=0o700, parents=True, exist_ok=True)
                keep(self._disk / "place.json", place)
                self._key = bytes.fromhex(heartbeat_key)
            self._prepare()
            return self.observed()

    def apply(self, bundle: wire.Bundle) -> wire.Observed:
        """Be as the bundle says, with the least disturbance. Raises Refused; then all is as before."""
        with self._turn():
            self._refuse_when_gone()
            digest = wire.digest(bundle)
            if digest == self._digest and self._as_wanted():
                return self.observed()
            before = self._bundle
            files = self._with_kept(bundle)
            self._prepare()
            try:
                self._plug(bundle)
                how = self._serve(files)
            except Refused:
                if before:
                    self._network.trim(before.interfaces, serving=before.serving)
                    self._guard_as(before)
                raise
            if digest != self._digest:
                own = {name: files[name] for name in bundle.keep}
                keep(self._disk / "bundle.json", {**wire.to_json(bundle), "kept": own})
            self._remember(bundle, files)
            self._error, self._deaths = None, 0
            self._finish_network(bundle)
            log.info("amphora %s: bundle %s: %s", self.id, digest[:12], how)
            self._beat_now()
            if before is None:
                self._beat_regularly()
            self._tidy_later()
            return self.observed()

    def restore(self) -> None:
        """Make what is on disk true again; a HAProxy that still runs goes on undisturbed."""
        with self._lock:
            data = kept(self._disk / "bundle.json")
            self._prepare()
            if data is None:
                if (self._run / "process.json").exists():  # an agent died while it started the first one
                    self._end_strays()
                return
            own = data.pop("kept", {})
            bundle = wire.bundle_from_json(data)
            self._remember(bundle, {**bundle.files, **own})
            self._beat_regularly()
            try:
                self._plug(bundle)
                self._resume(bundle)
                self._finish_network(bundle)
            except (Refused, OSError) as e:
                self._error = str(e)
                log.warning("amphora %s cannot be as its bundle says: %s", self.id, e)
                self._tools.timers.after(self._pause(), self._again)

    def observed(self) -> wire.Observed:
        """What the control plane is told."""
        secrets = tuple(sorted(name for name in self._present if wire.is_secret(name)))
        return wire.Observed(
            amphora_id=self.id, digest=self._digest, haproxy=self._haproxy, error=self._error, secrets=secrets
        )

    def remove(self) -> None:
        """Remove it and all that is its own. Safe to repeat. Raises Refused while it is at an earlier change."""
        with self._turn():
            self._gone = True
            self._processes.kill()
            self._balancer.close()
            if self._close_log:
                self._close_log()
                self._close_log = None
            end_processes(partial(namespaces.processes, self._network.namespace))  # a relay that nobody adopted, too
            self._network.remove()
            shutil.rmtree(self._run, ignore_errors=True)
            shutil.rmtree(self._disk, ignore_errors=True)
            log.info("amphora %s removed", self.id)

    @property
    def _haproxy(self) -> str:
        if self._bundle is None or "haproxy.cfg" not in self._bundle.files:
            return "absent"
        current = self._processes.current
        return "running" if current and not current.ended.is_set() else "failing"

    def _with_kept(self, bundle: wire.Bundle) -> dict[str, str]:
        missing = [name for name in bundle.keep if name not in self._present]
        if missing:
            raise Refused(422, f"This amphora has no file {missing[0]} to keep.", "Look at it again.")
        return {**bundle.files, **{name: self._present[name] for name in bundle.keep}}

    def _remember(self, bundle: wire.Bundle, files: dict[str, str]) -> None:
        self._present = files
        self._servers = servers(bundle.files.get("haproxy.cfg", ""))
        self._bundle, self._digest = bundle, wire.digest(bundle)

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Hold the lock for a request. One amphora that takes long may not keep the agent's threads from the others."""
        if not self._lock.acquire(timeout=_TURN_S):
            raise Refused(503, f"Amphora {self.id} is still at an earlier change.", "It is tried again.")
        try:
            yield
        finally:
            self._lock.release()

    def _refuse_when_gone(self) -> None:
        if self._gone:
            raise Refused(404, f"There is no amphora {self.id}.", "Make it with PUT first.")

    def _as_wanted(self) -> bool:
        return self._haproxy != "failing" and self._error is None

    def _prepare(self) -> None:
        self._network.ensure()
        if self._close_log is None:
            self._run.mkdir(mode=0o750, parents=True, exist_ok=True)
            os.chown(self._run, 0, self._uid)
            own = self._run / "own"
            own.mkdir(mode=0o700, exist_ok=True)
            os.chown(own, self._uid, self._uid)
            self._close_log = self._tools.watcher.datagrams(self._run / "log", self._logged)

    def _plug(self, bundle: wire.Bundle) -> None:
        """Guarded before anything is served: no VIP is open for a moment."""
        self._network.plug(bundle.interfaces)
        self._guard_as(bundle)

    def _guard_as(self, bundle: wire.Bundle) -> None:
        self._guard.apply(self._network.named(bundle.interfaces), bundle.traffic)

    def _finish_network(self, bundle: wire.Bundle) -> None:
        if bundle.serving:
            announced = self._network.hold(bundle.interfaces)
            for pause in _ANNOUNCE_AGAIN if announced else ():
                self._tools.timers.after(pause, self._announce)
        self._network.trim(bundle.interfaces, serving=bundle.serving)

    def _announce(self) -> None:
        if not self._lock.acquire(blocking=False):  # a change is under way; the threads of timers are all amphorae's
            self._tools.timers.after(_ANNOUNCE_AGAIN[0], self._announce)
            return
        try:
            if not self._gone and self._bundle and self._bundle.serving:
                self._network.announce(self._bundle.interfaces)
        finally:
            self._lock.release()

    def _serve(self, files: dict[str, str]) -> str:
        """Have the kernel and HAProxy do as these files say. Answers how, in a few words. Raises Refused; then the
        older ones go on."""
        epoch = self._processes.epoch
        self._balancer.apply(files.get(DATAGRAMS), epoch)
        try:
            return self._serve_streams(_streams(files))
        except Refused:
            self._balancer.apply(self._present.get(DATAGRAMS), epoch)
            raise

    def _serve_streams(self, files: dict[str, str]) -> str:
        """What of it is HAProxy's."""
        if "haproxy.cfg" not in files:
            self._processes.stop()
            write_files(self._files, files, self._uid)
            return "HAProxy is not needed"
        wanted = _digest(files)
        running = self._haproxy == "running"
        if running and self._processes.digest == wanted:
            return "HAProxy unchanged"
        changes = self._changes(files) if running else None
        if changes is not None and self._processes.change(changes, wanted):
            for name in (n for n in files if files[n] != self._present[n]):
                write_file(self._files / name, files[name], self._uid)
            return f"{len(changes)} runtime change{'s' * (len(changes) != 1)}"
        fresh = self._run / "files.new"
        write_files(fresh, files, self._uid)
        try:
            self._processes.reload(fresh, wanted)
        except Refused:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        shutil.rmtree(self._files, ignore_errors=True)
        fresh.rename(self._files)  # the process goes on in it by its new name
        self._tidy_later()
        return "HAProxy reloaded" if running else "HAProxy started"

    def _changes(self, files: dict[str, str]) -> list[Change] | None:
        before = _streams(self._present)
        if self._processes.digest != _digest(before):
            return None
        changes = difference(before, files)
        return changes if changes is not None and len(changes) <= _MOST_CHANGES else None

    def _resume(self, bundle: wire.Bundle) -> None:
        fresh = self._run / "files.new"
        if "haproxy.cfg" in bundle.files and self._processes.adopt():
            log.info("amphora %s: HAProxy %s adopted", self.id, self._processes.current and self._processes.current.pid)
            if self._processes.runs_in(fresh):
                shutil.rmtree(self._files, ignore_errors=True)
                fresh.rename(self._files)
            self._tidy_later()
        else:
            if "haproxy.cfg" not in bundle.files:
                self._processes.resume()
            self._end_strays()
            for socket in (self._run / "own").glob("s*"):
                socket.unlink()
        shutil.rmtree(fresh, ignore_errors=True)  # of an agent that died before anything ran in it
        self._serve(self._present)

    def _end_strays(self) -> None:
        """Processes that are not known: an agent died between starting one and writing it down, or a check forked."""
        end_processes(lambda: [p for p in namespaces.processes(self._network.namespace) if p != self._balancer.relay])

    def _died(self, process: Process) -> None:
        """In the watcher's thread, when the current process has ended."""
        short = time.monotonic() - process.since < _SHORT_LIFE
        self._deaths = self._deaths + 1 if short else 0
        how = _how(process.status)
        self._error = f"HAProxy ended{how}; it is being started again."
        log.warning("amphora %s: HAProxy %d ended%s", self.id, process.pid, how)
        self._tools.timers.after(self._pause(), self._again)

    def _pause(self) -> float:
        """A few deaths in a row may be bad luck, and cost no time; more are no accident."""
        over = self._deaths - _FREE_DEATHS
        return min(_LONGEST_PAUSE, 0.1 * 2.0 ** min(over, 10)) if over > 0 else 0.0

    def _again(self) -> None:
        """Start what should run and does not; later once more when that fails."""
        if not self._lock.acquire(blocking=False):
            self._tools.timers.after(_A_MOMENT, self._again)
            return
        try:
            bundle = self._bundle
            if self._gone or bundle is None or self._as_wanted():
                return
            try:
                self._prepare()
                self._plug(bundle)
                log.info("amphora %s: again: %s", self.id, self._serve(self._present))
                self._finish_network(bundle)
                self._error = None
            except (Refused, OSError) as e:
                self._deaths += 1
                self._error = str(e)
                self._tools.timers.after(self._pause(), self._again)
        finally:
            self._lock.release()
        self._beat_now()

    def _tidy_later(self) -> None:
        if not self._tidying:
            self._tidying = True
            self._tools.timers.after(0.1, self._tidy)

    def _tidy(self) -> None:
        if not self._gone and self._processes.tidy():
            self._tools.timers.after(1.0, self._tidy)
        else:
            self._tidying = False

    def _logged(self, line: bytes) -> None:
        """In the watcher's thread: HAProxy logs a member's new state; soon after there may be more."""
        if b"Server " in line:
            self._beat_now(0.05)

    def _beat_now(self, after: float = 0.0) -> None:
        if not self._beat_soon:
            self._beat_soon = True
            self._tools.timers.after(max(after, _BEAT_SHARE * self._beat_took), self._beat)

    def _beat_regularly(self) -> None:
        """Amphorae beat at different moments of the interval, each always at its own."""
        interval = self._bundle.heartbeat_interval if self._bundle else 0
        self._beat_due = time.monotonic() + interval * (zlib.crc32(self.id.encode()) % 1000) / 1000
        self._tools.timers.after(self._beat_due - time.monotonic(), self._regular_beat)

    def _regular_beat(self) -> None:
        if self._gone or self._bundle is None:
            return
        self._beat()
        now = time.monotonic()
        self._beat_due = max(self._beat_due + self._bundle.heartbeat_interval, now)
        self._tools.timers.after(self._beat_due - now, self._regular_beat)

    def _beat(self) -> None:
        self._beat_soon = False
        bundle = self._bundle
        if self._gone or bundle is None:
            return
        began = time.thread_time()
        seen = self._processes.look()
        also = self._balancer.look(self._processes.epoch)
        # The kernel's clock since boot: it grows on when the agent starts anew in the same epoch.
        self._sequence = max(self._sequence + 1, time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000)
        beat = wire.Heartbeat(
            amphora_id=self.id,
            sequence=self._sequence,
            time=time.time(),
            epoch=self._processes.epoch,
            digest=self._digest,
            haproxy=self._haproxy,
            listeners={**seen.listeners, **also.listeners},
            pools={**seen.pools, **also.pools},
            members={
                pool: {name: state for name, state in members.items() if (pool, name) in self._servers}
                for pool, members in seen.members.items()
            }
            | also.members,
        )
        self._tools.beats.send(beat, self._key, bundle.heartbeat_targets)
        if wire.METRICS in bundle.files:
            with contextlib.suppress(FileNotFoundError):  # the amphora is being removed
                write_file(self._run / datagram_rows.FILE, datagram_rows.rows(also), self._uid)
        self._beat_took = time.thread_time() - began


def _how(status: int | None) -> str:
    if status is None:  # a process that an earlier agent started
        return ""
    return f" by signal {-status}" if status < 0 else f" with status {status}"


def _streams(files: dict[str, str]) -> dict[str, str]:
    return {name: text for name, text in files.items() if name != DATAGRAMS}


def _digest(files: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()

"""``colonnade up``: starts the programs of a stand-alone installation, starts again what ends, stops them in order.

Two small processes, so that either may be killed: the keeper holds the lock and the API's listening socket (a
restarting API refuses no connection) and starts the supervisor again when it dies; the supervisor starts the programs.
Neither imports anything of the service: settings are read, and tables made, by child processes.
"""

import contextlib
import ctypes
import dataclasses
import fcntl
import grp
import json
import os
import pwd
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

USER = "colonnade"
_API = "api"
API_SOCKET = "COLONNADE_API_SOCKET"  # environment: the file descriptor the API listens on
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 1, 36, 38
TEAR_DOWN = signal.SIGUSR1  # to the keeper: stop, and remove everything from the kernel, HAProxy processes too
_HANDLED = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, TEAR_DOWN}
_STOP_PATIENCE_S = 10.0
_SHORT_LIFE_S = 1.0
_LONGEST_PAUSE_S = 5.0
_LOG_BYTES = 20 * 1024 * 1024
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What the supervisor needs to know of the settings; printed as JSON by ``colonnade facts``."""

    state: str
    host: str
    port: int
    tag: str
    slot: int
    group: str
    haproxy: str
    agent: bool  # whether one is needed
    apis: int  # processes that answer requests
    providers: bool = False  # whether somebody reports to the driver agent


@dataclass(kw_only=True, slots=True)
class _Program:
    name: str
    argv: list[str]
    root: bool = False
    serves: bool = False  # on the API's socket
    pid: int = 0
    started_at: float = 0.0
    due_at: float = 0.0
    short_lives: int = 0


def run(config_files: list[str], demo: bool) -> int:
    """Run until SIGTERM or SIGINT. Answers an exit code: 1 when another one runs or the port is taken, 2 on a wrong
    setting."""
    if os.geteuid() != 0:
        return _fail("up needs root: it starts the agent, which makes network namespaces.")
    done = subprocess.run(_command("facts", config_files), stdout=subprocess.PIPE, check=False)
    if done.returncode:
        return done.returncode
    facts = Facts(**json.loads(done.stdout))
    try:
        pwd.getpwnam(USER)
    except KeyError:
        return _fail(f"there is no user {USER}: ./try makes it, or useradd --system {USER}.")
    _make_directories(facts)
    run_dir = Path(facts.state, "run")
    lock = os.open(run_dir / "up.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return _fail(f"another supervisor runs on {facts.state}.")
    (run_dir / "ready").unlink(missing_ok=True)
    try:
        listener = _listen(facts)
    except OSError as e:
        return _fail(f"cannot listen on {facts.host} port {facts.port}: {e.strerror}. Choose another with --port.")
    prepared = _wait_as_user(_command("prepare", config_files))
    if prepared:
        return prepared
    return _keep(facts, config_files, demo, listener)


def _keep(facts: Facts, config_files: list[str], demo: bool, listener: socket.socket) -> int:
    """Hold what must outlive a killed supervisor, and start it again until it ends by itself."""
    run_dir = Path(facts.state, "run")
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
    write_pid(run_dir / "keeper.pid")
    lives = 0
    while True:
        began = time.monotonic()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = _Supervisor(facts, config_files, demo, listener).run()
            except Exception as e:
                _say(f"the supervisor failed: {e!r}")
            finally:
                os._exit(code)
        ended, told = _watch(child)
        if told == TEAR_DOWN:
            ended = _tear_down(_command("down", config_files))
        if told or ended == 0:
            (run_dir / "keeper.pid").unlink(missing_ok=True)
            return ended
        _say("the supervisor died; ending its programs and starting it again")
        for path in run_dir.glob("*.pid"):
            if path.stem not in ("keeper", "up"):
                end(path)
        lives = lives + 1 if time.monotonic() - began < _SHORT_LIFE_S else 0
        time.sleep(min(1.0, 0.1 * lives))


def _watch(child: int) -> tuple[int, int]:
    """Reap until this child ends: (its exit code, the signal that told us to stop or 0). Passes a stop on to it."""
    told = 0
    while True:
        while ended := _reap_one():
            if ended[0] == child:
                return os.waitstatus_to_exitcode(ended[1]), told
        info = signal.sigtimedwait(_HANDLED, 60)
        if info and info.si_signo != signal.SIGCHLD:
            told = info.si_signo
            os.kill(child, signal.SIGTERM)


def _tear_down(argv: list[str]) -> int:
    """Run ``colonnade down`` and reap what it kills: those are our children since the agent is gone."""
    down = os.posix_spawn(argv[0], argv, _environment(), setsigmask=[])
    code, _ = _watch(down)
    until = time.monotonic() + 1
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < until:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.01)
    return code


class _Supervisor:
    """Starts the programs, starts again at once what ends; pauses grow while one keeps dying within a second."""

    def __init__(self, facts: Facts, config_files: list[str], demo: bool, listener: socket.socket) -> None:
        self.facts = facts
        self.listener = listener
        self.run_dir = Path(facts.state, "run")
        agent = [sys.executable, "-P", "-m", "colonnade", "agent", "--state", facts.state, "--tag", facts.tag]
        agent += ["--slot", str(facts.slot), "--group", facts.group, "--haproxy", facts.haproxy]
        self.programs = [_Program(name="agent", argv=agent, root=True)] if facts.agent else []
        apis = [_API, *(f"{_API}-{n}" for n in range(2, facts.apis + 1))]
        self.programs += [_Program(name=n, argv=_command(_API, config_files), serves=True) for n in apis]
        others = ["worker", "health-manager", "housekeeping", *(["driver-agent"] if facts.providers else [])]
        self.programs += [_Program(name=n, argv=_command(n, config_files)) for n in others]
        if demo:
            self.programs.append(_Program(name="demo", argv=_command("demo", config_files), root=True))
        self.ready = False

    def run(self) -> int:
        """Until SIGTERM or SIGINT."""
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        with _disk_may_be_full("up.pid"):
            write_pid(self.run_dir / "up.pid")
        next_rotation = 0.0
        while True:
            now = time.monotonic()
            self._reap(now)
            for program in self.programs:
                if not program.pid and program.due_at <= now:
                    self._start(program, now)
            if not self.ready and self._answering():
                self.ready = True
                with _disk_may_be_full("the file that says so"):
                    (self.run_dir / "ready").write_text("")
                _say("ready")
            if now >= next_rotation:
                next_rotation = now + 10
                _rotate(Path(self.facts.state, "log"))
            info = signal.sigtimedwait(_HANDLED, self._pause(now))
            if info and info.si_signo != signal.SIGCHLD:
                self._stop()
                return 0

    def _pause(self, now: float) -> float:
        waiting = [p.due_at - now for p in self.programs if not p.pid]
        return max(0.0, min([10.0 if self.ready else 0.05, *waiting]))

    def _reap(self, now: float) -> None:
        while ended := _reap_one():
            for program in self.programs:
                if program.pid == ended[0]:
                    self._ended(program, os.waitstatus_to_exitcode(ended[1]), now)

    def _ended(self, program: _Program, code: int, now: float) -> None:
        program.pid = 0
        short = now - program.started_at < _SHORT_LIFE_S
        program.short_lives = program.short_lives + 1 if short else 0
        pause = min(_LONGEST_PAUSE_S, 0.1 * 2.0 ** (program.short_lives - 1)) if short else 0.0
        program.due_at = now + pause
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        _say(f"{program.name} {how}; starting it again" + (f" in {pause:.1f} s" if pause else ""))

    def _start(self, program: _Program, now: float) -> None:
        parent = os.getpid()
        program.started_at = now
        program.pid = os.fork()
        if program.pid:
            with _disk_may_be_full(f"{program.name}.pid"):
                write_pid(self.run_dir / f"{program.name}.pid", program.pid)
            return
        try:
            os.setsid()
            log = os.open(
                Path(self.facts.state, "log", f"{program.name}.log"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640
            )
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(log, 1)
            os.dup2(log, 2)
            environment = _environment()
            if program.serves:
                os.set_inheritable(self.listener.fileno(), True)
                environment[API_SOCKET] = str(self.listener.fileno())
            if not program.root:
                _become_user()
            _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)  # after the change of user, which clears it
            if os.getppid() != parent:
                os._exit(1)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)
            os.execve(program.argv[0], program.argv, environment)
        finally:
            os._exit(127)

    def _stop(self) -> None:
        """The agent last, for the others talk to it."""
        (self.run_dir / "ready").unlink(missing_ok=True)
        self._end([p for p in self.programs if p.pid and not p.root])
        for program in reversed(self.programs):
            self._end([program] if program.pid and program.root else [])
        for program in self.programs:
            (self.run_dir / f"{program.name}.pid").unlink(missing_ok=True)
        (self.run_dir / "up.pid").unlink(missing_ok=True)

    def _end(self, batch: list[_Program]) -> None:
        for program in batch:
            os.kill(program.pid, signal.SIGTERM)  # our child, not reaped yet: the number is still its own
        until = time.monotonic() + _STOP_PATIENCE_S
        while any(p.pid for p in batch):
            while ended := _reap_one():
                for program in self.programs:
                    program.pid = 0 if program.pid == ended[0] else program.pid
            if time.monotonic() > until:
                for program in batch:
                    if program.pid:
                        _say(f"{program.name} does not stop; killing it")
                        os.kill(program.pid, signal.SIGKILL)
                until += _STOP_PATIENCE_S
            signal.sigtimedwait({signal.SIGCHLD}, 0.2)

    def _answering(self) -> bool:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.facts.host, self.facts.host)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        if not _http_answers(family, (host, self.facts.port), "/"):
            return False
        return not self.facts.agent or _http_answers(socket.AF_UNIX, str(self.run_dir / "agent.sock"), "/v1")


def _http_answers(family: int, address: object, path: str) -> bool:
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_STREAM) as s:
        s.settimeout(1.0)
        s.connect(address)  # type: ignore[arg-type]  # its shape goes with the family
        s.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        return s.recv(16).split(b" ")[1:2] in ([b"200"], [b"300"])
    return False


def _listen(facts: Facts) -> socket.socket:
    family = socket.AF_INET6 if ":" in facts.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((facts.host, facts.port))
    listener.listen(1024)
    return listener


def _make_directories(facts: Facts) -> None:
    """Everything root executes or writes through stays root's; the programs own what only they write."""
    user = pwd.getpwnam(USER)
    state = Path(facts.state)
    for name, owner, group, mode in (
        ("", 0, 0, 0o755),
        ("etc", 0, 0, 0o755),
        ("log", 0, user.pw_gid, 0o750),
        ("run", 0, 0, 0o755),
        ("run/doorbell", user.pw_uid, user.pw_gid, 0o700),
        ("run/providers", user.pw_uid, user.pw_gid, 0o750),
        ("agent", 0, 0, 0o700),
        ("db", user.pw_uid, user.pw_gid, 0o700),
        ("secrets", user.pw_uid, user.pw_gid, 0o700),
    ):
        path = state / name
        path.mkdir(mode=mode, parents=not name, exist_ok=True)
        os.chown(path, owner, group, follow_symlinks=False)
        path.chmod(mode)


def _wait_as_user(argv: list[str]) -> int:
    done = subprocess.run(
        argv, env=_environment(), user=USER, group=USER, extra_groups=[], umask=0o077, check=False
    )  # fmt: skip
    return done.returncode


def _become_user() -> None:
    user = pwd.getpwnam(USER)
    os.setgroups([grp.getgrnam(USER).gr_gid])
    os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
    os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    os.umask(0o077)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def _command(name: str, config_files: list[str]) -> list[str]:
    argv = [sys.executable, "-P", "-m", "colonnade", name]
    for file in config_files:
        argv += ["--config-file", file]
    return argv


def _environment() -> dict[str, str]:
    package = str(Path(__file__).parent.parent)
    # Two arenas: eight threads would otherwise each keep their own free memory.
    keep = {k: v for k, v in os.environ.items() if k in ("LANG", "LC_ALL", "TZ", "PATH")}
    return {"PATH": os.defpath, **keep, "PYTHONPATH": package, "MALLOC_ARENA_MAX": "2", "PYTHONDONTWRITEBYTECODE": "1"}


def _reap_one() -> tuple[int, int] | None:
    """One ended child as (pid, status); None when there is none."""
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return (pid, status) if pid else None


def _rotate(directory: Path) -> None:
    """Keep one older part of a log that has grown. The writers append, so they go on at the new beginning."""
    for log in directory.glob("*.log"):
        if log.stat().st_size > _LOG_BYTES:
            older = log.with_suffix(".log.1")
            try:
                with log.open("rb") as source, older.open("wb") as target:
                    while part := source.read(1 << 16):
                        target.write(part)
            except OSError as e:
                _say(f"{log} cannot be kept ({e.strerror}): it begins anew")
                older.unlink(missing_ok=True)
            os.truncate(log, 0)


@contextlib.contextmanager
def _disk_may_be_full(what: str) -> Iterator[None]:
    """Programs are kept running also when a file about them cannot be written."""
    try:
        yield
    except OSError as e:
        _say(f"cannot write {what}: {e.strerror}")


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), f"prctl {option}")


def started(pid: int) -> str | None:
    """When the process started, in ticks since boot: with the number it names a process for good. None: gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] == b"Z" else fields[19].decode()


def write_pid(path: Path, pid: int = 0) -> None:
    """Write "pid starttime" for this process, or another."""
    pid = pid or os.getpid()
    temporary = path.with_suffix(".new")
    temporary.write_text(f"{pid} {started(pid)}\n")
    temporary.rename(path)


def running(path: Path) -> int:
    """The process that a pid file names, if it still lives; otherwise 0."""
    try:
        pid, start = path.read_text().split()
    except (OSError, ValueError):
        return 0
    return int(pid) if started(int(pid)) == start else 0


def end(path: Path, patience_s: float = _STOP_PATIENCE_S, gently: signal.Signals = signal.SIGTERM) -> None:
    """Signal the process that a pid file names, SIGKILL when it takes too long; returns when it is gone."""
    until = time.monotonic() + patience_s
    sent: int = 0
    while pid := running(path):
        wanted = gently if time.monotonic() < until else signal.SIGKILL
        if sent != wanted:
            sent = wanted
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, wanted)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        time.sleep(0.02)
    path.unlink(missing_ok=True)


def _say(sentence: str) -> None:
    sys.stderr.write(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} supervisor {sentence}\n")
    sys.stderr.flush()


def _fail(sentence: str) -> int:
    sys.stderr.write(f"colonnade up: {sentence}\n")
    return 1


def facts_json(facts: Facts) -> str:
    """As ``run`` reads it."""
    return json.dumps(dataclasses.asdict(facts))

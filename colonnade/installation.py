"""Starts and stops a stand-alone installation on this machine: what ``./try`` does once packages are there.

An installation is a state directory. What must differ between those of one machine (slot, tag, addresses, the
heartbeat port) is chosen at its first start and kept in ``etc/colonnade.conf``. Standard library and settings only.
"""

import argparse
import compileall
import configparser
import contextlib
import errno
import fcntl
import hashlib
import ipaddress
import itertools
import json
import os
import pwd
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from colonnade import configuration, settings, supervisor, wiring
from colonnade.drivers import provider

_SLOTS = Path("/var/lib/colonnade/slots")
_READY_S = 60.0
_STOP_S = 60.0
_Net = ipaddress.IPv4Network | ipaddress.IPv6Network


class Refused(Exception):
    """It cannot be done; the sentence says why and what would help."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """What no other installation of this machine may have."""

    slot: int
    tag: str
    private_cidr: str
    public_cidr: str
    heartbeat_port: int


def main() -> int:
    """``python -m colonnade.installation start|stop ...``; answers an exit code."""
    try:
        args = _arguments()
        if args.action == "start":
            start(args)
        else:
            stop(args.state.absolute(), args.purge)
    except BrokenPipeError:  # ./try | head: who reads has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except KeyboardInterrupt:
        sys.stderr.write("\ntry: interrupted; what was begun goes on. --stop stops it.\n")
        return 130
    except Refused as e:
        sys.stderr.write(f"try: {e}\n")
        return 1
    except settings.WrongSetting as e:
        sys.stderr.write(f"try: {e}\n")
        return 2
    return 0


def _arguments() -> argparse.Namespace:
    parser = _Parser(prog="try")
    parser.add_argument("action", choices=["start", "stop"])
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--port", type=int, default=9876)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--demo", action="store_true")
    parser.add_argument("--noauth", action="store_true")
    parser.add_argument("--purge", action="store_true")
    parser.add_argument("--client", help="the environment that holds the openstack command")
    return parser.parse_args()


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One sentence: the usage is ./try's to print."""
        raise Refused(f"{message}; see --help.")


def start(args: argparse.Namespace) -> None:
    """Start the installation, wait until it is ready, print how to use it. One that runs is left as it is."""
    state: Path = args.state.absolute()
    with _alone(state):
        _start(state, args)


def _start(state: Path, args: argparse.Namespace) -> None:
    began = time.monotonic()
    up = state / "run" / "up.pid"
    if supervisor.running(up) and not supervisor.running(state / "run" / "keeper.pid"):
        print("The keeper was gone; starting the programs anew, load balancers go on.", flush=True)
        supervisor.end(up, _STOP_S)
    if _running(state):
        print(f"Already running on {state}; nothing was changed (to change options, --stop it first).")
        _print_usage(state)
        return
    _check_reachable(state)
    _check_port(args.port)
    if args.config:
        own = configuration.load([str(args.config)])  # a wrong one is refused before anything is written
        for sentence in configuration.ignored([str(args.config)]):
            sys.stderr.write(f"try: {sentence}\n")
        if args.demo and not wiring.uses_agent(own):
            raise Refused("--demo needs the agent, which [drivers] compute and amphora = noop leave out: drop either.")
    (state / "etc").mkdir(parents=True, exist_ok=True)
    with _registry():
        place = _kept(state) or _choose(state, args.config)
        _write_settings(state, place, args)
        (_SLOTS / str(place.slot)).write_text(f"{state}\n")
    files = _config_files(state)
    effective = configuration.load(files)
    if effective.state != state:
        raise Refused(f"{args.config} sets state_path to {effective.state}: use --state for that.")
    if (effective.agent.tag, effective.agent.slot) != (place.tag, place.slot):
        raise Refused(f"{args.config} sets tag or slot in [agent]: ./try chooses these.")
    for sentence in provider.missing(effective):
        sys.stderr.write(f"try: {sentence}\n")
    _install(state, args.client)
    for old in (state / "run" / "ready", state / "demo.env"):
        old.unlink(missing_ok=True)
    log = state / "log" / "up.log"
    log.parent.mkdir(exist_ok=True)
    command = [sys.executable, "-P", "-m", "colonnade", "up", *_file_options(files)]
    with log.open("ab") as output:
        offset = output.tell()
        started = subprocess.Popen(
            command + ["--demo"] * args.demo, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True, cwd="/", env={**os.environ, "PYTHONPATH": str(state / "lib")},
        )  # fmt: skip
    _wait_ready(state, started, log, offset, args.demo)
    _give_clouds(state)
    print(f"Colonnade is ready, {time.monotonic() - began:.1f} s after its start.")
    _print_usage(state)


def stop(state: Path, purge: bool) -> None:
    """Stop every process of the installation and remove what it made in the kernel. Safe to repeat."""
    if not (state / "etc" / "colonnade.conf").exists():
        print(f"There is no installation in {state}.")
        return
    with _alone(state):
        _stop(state, purge)


def _stop(state: Path, purge: bool) -> None:
    run_dir = state / "run"
    supervisor.end(run_dir / "keeper.pid", _STOP_S, supervisor.TEAR_DOWN)
    supervisor.end(run_dir / "up.pid", _STOP_S)  # ended with the keeper, unless that had been killed
    for path in sorted(run_dir.glob("*.pid")):
        supervisor.end(path)
    (run_dir / "ready").unlink(missing_ok=True)
    # Again: what died before may have left something, and after a crash nobody has done it yet.
    command = [sys.executable, "-P", "-m", "colonnade", "down", *_file_options(_config_files(state)[:1])]
    if subprocess.run(command, check=False).returncode:
        raise Refused("not everything could be removed (messages above); run it again.")
    if purge:
        with _registry():
            place = _kept(state)
            if place:
                (_SLOTS / str(place.slot)).unlink(missing_ok=True)
            shutil.rmtree(state)
    print(f"Stopped.{' Its state was removed.' if purge else f' Its state stays in {state}.'}")


@contextlib.contextmanager
def _alone(state: Path) -> Iterator[None]:
    """One start or stop of an installation at a time; a second one waits."""
    _SLOTS.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(os.fsencode(state)).hexdigest()[:16]
    with (_SLOTS / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _running(state: Path) -> bool:
    """Whether a supervisor holds the lock; a just starting one counts, one that crashed does not."""
    try:
        lock = os.open(state / "run" / "up.lock", os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def _check_reachable(state: Path) -> None:
    """The programs that are not root must get into the state directory."""
    if re.search(r"\s", str(state)):
        raise Refused(f"the state directory may not have blanks in its name: {state}")
    if state.exists() and not state.is_dir():
        raise Refused(f"{state} is a file: choose another --state.")
    if (
        state.exists()
        and not (state / "etc" / "colonnade.conf").exists()
        and {p.name for p in state.iterdir()} - {"etc"}
    ):
        raise Refused(f"{state} holds something else already: choose an empty or a new directory for --state.")
    for parent in state.parents:
        if parent.exists() and not parent.stat().st_mode & stat.S_IXOTH:
            raise Refused(f"user {supervisor.USER} cannot enter {parent}: choose another --state, or chmod o+x it.")


def _check_port(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
        except OverflowError as e:
            raise Refused(f"--port {port} is no port: it goes from 1 to 65535.") from e
        except OSError as e:
            raise Refused(f"port {port} cannot be used ({e.strerror}): choose another with --port.") from e


@contextlib.contextmanager
def _registry() -> Iterator[None]:
    """The lock around choosing a place: one installation of the machine at a time."""
    _SLOTS.mkdir(parents=True, exist_ok=True)
    with (_SLOTS / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _kept(state: Path) -> Place | None:
    """The place that an installation chose before; None when it has none, or another one took it since."""
    conf = configparser.ConfigParser(interpolation=None)
    try:
        conf.read(state / "etc" / "colonnade.conf")
        place = Place(
            slot=conf.getint("agent", "slot"), tag=conf["agent"]["tag"], private_cidr=conf["local"]["private_cidr"],
            public_cidr=conf["local"]["public_cidr"], heartbeat_port=conf.getint("health_manager", "bind_port"),
        )  # fmt: skip
    except (configparser.Error, KeyError, ValueError):
        return None
    owner = _SLOTS / str(place.slot)
    return place if not owner.exists() or owner.read_text().strip() == str(state) else None


def _others(state: Path) -> list[Place]:
    """The places of all other installations that still exist."""
    found = []
    for entry in _SLOTS.glob("[0-9]*"):
        other = Path(entry.read_text().strip())
        place = _kept(other) if other != state else None
        if place:
            found.append(place)
        else:
            entry.unlink()
    return found


def _choose(state: Path, config: Path | None) -> Place:
    others = _others(state)
    links = {link["ifname"] for link in _ip("link", "show")}
    taken_slots = {o.slot for o in others}
    slot = next((n for n in range(100) if n not in taken_slots and f"cln{n}up" not in links), None)
    if slot is None:
        raise Refused("all 100 places of this machine are taken: --stop --purge an installation that is not needed.")
    tag = re.sub(r"[^a-z0-9]", "", state.name.lower())[:8] or f"i{slot}"
    if tag in {o.tag for o in others}:
        tag = f"i{slot}"
    private, public = _subnets(others, config)
    return Place(
        slot=slot, tag=tag, private_cidr=private, public_cidr=public,
        heartbeat_port=_free_udp_port({o.heartbeat_port for o in others}),
    )  # fmt: skip


def _subnets(others: list[Place], config: Path | None) -> tuple[str, str]:
    """Two networks that nothing on this machine has a route to. What the user's own file says goes first."""
    wanted = configparser.ConfigParser(interpolation=None)
    if config:
        wanted.read(config)
    used = [ipaddress.ip_network(c) for o in others for c in (o.private_cidr, o.public_cidr)]
    for route in _ip("route", "show", "table", "all"):
        with contextlib.suppress(ValueError, KeyError):
            used.append(ipaddress.ip_network(route["dst"], strict=False))
    free = [c for c in _candidates() if not any(_overlap(c, u) for u in used)]
    private = wanted.get("local", "private_cidr", fallback=None) or next(
        (str(c) for c in free if c.prefixlen < 24), None
    )
    public = wanted.get("local", "public_cidr", fallback=None) or next(
        (str(c) for c in free if c.prefixlen == 24), None
    )
    if not private or not public:
        raise Refused("no private network is free: give [local] private_cidr and public_cidr in a file with --config.")
    return private, public


def _candidates() -> Iterator[_Net]:
    """Public ones are the /24; what home and company networks usually have comes last."""
    for n in range(64, 192, 2):
        yield ipaddress.ip_network(f"10.{n}.0.0/16")
        yield ipaddress.ip_network(f"10.{n + 1}.0.0/24")
    for n in range(16, 32, 2):
        yield ipaddress.ip_network(f"172.{n}.0.0/16")
        yield ipaddress.ip_network(f"172.{n + 1}.0.0/24")
    for n in range(128, 256, 32):
        yield ipaddress.ip_network(f"192.168.{n}.0/20")
        yield ipaddress.ip_network(f"192.168.{n + 16}.0/24")


def _overlap(a: _Net, b: _Net) -> bool:
    return a.version == b.version and b.prefixlen > 0 and a.overlaps(b)


def _free_udp_port(taken: set[int]) -> int:
    for port in itertools.count(5555):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            try:
                s.bind(("127.0.0.1", port))
            except OSError as e:
                if e.errno != errno.EADDRINUSE:
                    raise
            else:
                if port not in taken:
                    return port
    raise AssertionError("unreachable: a port past 65535 raises OverflowError")


def _ip(*words: str) -> list[dict[str, str]]:
    done = subprocess.run(["ip", "-json", *words], check=True, capture_output=True, text=True)
    answer: list[dict[str, str]] = json.loads(done.stdout or "[]")
    return answer


def _write_settings(state: Path, place: Place, args: argparse.Namespace) -> None:
    chosen = {
        "DEFAULT": {"state_path": state},
        "api_settings": {"bind_port": args.port, "auth_strategy": "noauth" if args.noauth else "builtin"},
        "health_manager": {"bind_port": place.heartbeat_port},
        "agent": {"tag": place.tag, "slot": place.slot},
        "local": {"private_cidr": place.private_cidr, "public_cidr": place.public_cidr},
    }
    temporary = state / "etc" / "colonnade.conf.new"
    with temporary.open("w") as out:
        out.write("# Written by ./try at each start. Own settings: a file of your own, with ./try --config FILE.\n")
        for name, values in chosen.items():
            out.write(f"\n[{name}]\n" + "".join(f"{k} = {v}\n" for k, v in values.items()))
    temporary.rename(state / "etc" / "colonnade.conf")
    extra = state / "etc" / "extra.conf"
    extra.unlink(missing_ok=True)
    if args.config:
        try:
            text = args.config.read_text()
        except OSError as e:
            raise Refused(f"cannot read {args.config}: {e.strerror}") from e
        extra.touch(mode=0o640)
        extra.write_text(text)
        shutil.chown(extra, "root", supervisor.USER)
        _copy_policy(state, args.config)


def _copy_policy(state: Path, config: Path) -> None:
    """The rules that stand beside the user's settings: the programs may not read there. Without any, ours stay."""
    policy = configuration.load([str(config)]).oslo_policy.policy_file
    if (config.parent / policy).is_file() and Path(policy).name == policy:
        shutil.copyfile(config.parent / policy, state / "etc" / policy)
        (state / "etc" / policy).chmod(0o644)


def _config_files(state: Path) -> list[str]:
    return [str(f) for f in (state / "etc" / "colonnade.conf", state / "etc" / "extra.conf") if f.exists()]


def _file_options(files: list[str]) -> list[str]:
    return [word for f in files for word in ("--config-file", f)]


def _install(state: Path, client: str | None) -> None:
    """A copy of the package, which the programs run from: a checkout that changes does not disturb them."""
    new, lib = state / "lib.new", state / "lib"
    shutil.rmtree(new, ignore_errors=True)
    shutil.copytree(Path(__file__).parent, new / "colonnade", ignore=shutil.ignore_patterns("__pycache__"))
    compileall.compile_dir(new, quiet=1, stripdir=str(new), prependdir=str(lib))
    for path in [new, *new.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    shutil.rmtree(lib, ignore_errors=True)
    new.rename(lib)
    commands = state / "bin"
    commands.mkdir(exist_ok=True)
    own = commands / "colonnade"
    own.write_text(
        f"#!/bin/sh\nexport PYTHONPATH={lib} COLONNADE_CONFIG=${{COLONNADE_CONFIG:-{':'.join(_config_files(state))}}}\n"
        f'exec {sys.executable} -P -m colonnade "$@"\n'
    )
    own.chmod(0o755)
    link = commands / "openstack"
    link.unlink(missing_ok=True)
    if client:
        link.symlink_to(Path(client, "bin", "openstack"))


def _wait_ready(state: Path, up: "subprocess.Popen[bytes]", log: Path, offset: int, demo: bool) -> None:
    until = time.monotonic() + _READY_S
    wanted = [state / "run" / "ready"] + [state / "demo.env"] * demo
    sys.stderr.write("Starting ")
    while not all(path.exists() for path in wanted):
        if up.poll() is not None or time.monotonic() > until:
            what = "It did not start" if up.returncode is not None else f"It is not ready after {_READY_S:.0f} s"
            said = log.read_bytes()[offset:].decode(errors="replace").strip()[-2000:]
            if up.returncode is None:
                up.send_signal(signal.SIGTERM)
                up.wait(_STOP_S)
            sys.stderr.write("\n")
            raise Refused(f"{what}. What it said (all of it is in {log.parent}):\n{said}")
        sys.stderr.write(".")
        sys.stderr.flush()
        time.sleep(0.1)
    sys.stderr.write("\n")


def _give_clouds(state: Path) -> None:
    """The client settings to whoever called sudo: they hold a password, so nobody else may read them."""
    source, target = state / "secrets" / "clouds.yaml", state / "clouds.yaml"
    temporary = state / "clouds.yaml.new"
    temporary.unlink(missing_ok=True)
    temporary.touch(mode=0o600)
    temporary.write_bytes(source.read_bytes())
    caller = os.environ.get("SUDO_UID")
    if caller:
        user = pwd.getpwuid(int(caller))
        os.chown(temporary, user.pw_uid, user.pw_gid)
    temporary.rename(target)


def _print_usage(state: Path) -> None:
    strategy = configuration.load(_config_files(state)).api_settings.auth_strategy
    if strategy == "keystone":
        print(f"\nUsers are your Keystone's. Its catalogue must name this API. Logs: {state}/log/.")
        return
    noauth = strategy == "noauth"
    print(f"""
  export OS_CLIENT_CONFIG_FILE={state}/clouds.yaml OS_CLOUD=colonnade PATH={state}/bin:$PATH

  openstack loadbalancer create --name lb1 --vip-subnet-id private-subnet
  openstack loadbalancer listener create --name listener1 --protocol HTTP --protocol-port 80 lb1
  openstack loadbalancer list

Passwords: {state}/clouds.yaml (admin) and {state}/secrets/passwords.env. Logs: {state}/log/.
What runs: sudo {state}/bin/colonnade status{"" if not noauth else "    Without a token: OS_CLOUD=colonnade-noauth"}""")
    demo = state / "demo.env"
    if demo.exists():
        print(f"Demo servers: {demo.read_text().strip()} (also in {demo})")


if __name__ == "__main__":
    sys.exit(main())

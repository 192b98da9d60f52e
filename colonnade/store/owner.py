"""Who holds a lease: a name by which any program of the same machine sees whether its holder still lives."""

import hashlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path


def name(host: str, pid: int = 0) -> str:
    """A new owner, "host:machine:pid:start:random", for this process or another; at most 64 characters."""
    pid = pid or os.getpid()
    return f"{host[:24]}:{machine()}:{pid}:{started(pid)}:{secrets.token_hex(3)}"


def dead(owner: str, machine: str, started: Callable[[int], str | None]) -> bool:
    """Whether the owner was a process of this machine that is no more. Of another machine's nothing is known."""
    parts = owner.split(":")[-4:]
    if len(parts) < 4 or parts[0] != machine or not parts[1].isdecimal():
        return False
    start = started(int(parts[1]))
    return start is not None and start != parts[2]


def machine() -> str:
    """Where a process number means the same: one kernel since its boot, one namespace of processes. Containers may
    share a host's name without sharing these."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text()
    return hashlib.sha256((boot + Path("/proc/self/ns/pid").readlink().name).encode()).hexdigest()[:8]


def started(pid: int) -> str | None:
    """When the process started, in ticks since boot: with the number it names a process for good. Empty: it is gone.
    None: it cannot be told, for /proc may hide other users' processes."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return "" if _gone(pid) else None
    return "" if fields[0] in (b"Z", b"X") else fields[19].decode()


def _gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        return False
    return False

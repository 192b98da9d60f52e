"""Network namespaces with names, the way ``ip netns`` knows them: bind mounts under /run/netns.

A thread enters a namespace alone; everything it opens or starts meanwhile belongs there, threads too. So nothing
that may start a thread runs inside ``inside``.
"""

import contextlib
import ctypes
import errno
import os
from collections.abc import Iterator
from pathlib import Path

_DIRECTORY = Path("/run/netns")
_NEWNET = 0x40000000
_MS_BIND, _MS_REC, _MS_SHARED = 0x1000, 0x4000, 0x100000
_MNT_DETACH = 2
_libc = ctypes.CDLL(None, use_errno=True)


def path(name: str) -> Path:
    """Where the namespace is found by name."""
    return _DIRECTORY / name


def names(prefix: str) -> list[str]:
    """Names that start with ``prefix``, also of namespaces that are half made."""
    return sorted(p.name for p in _DIRECTORY.glob(f"{prefix}*")) if _DIRECTORY.is_dir() else []


def exists(name: str) -> bool:
    """Whether there is a namespace of this name, not only a file that one was to be mounted on."""
    try:
        return path(name).stat().st_dev != _DIRECTORY.stat().st_dev
    except FileNotFoundError:
        return False


def create(name: str) -> None:
    """Make the namespace, its loopback still down, unless it is there."""
    if exists(name):
        return
    _share_directory()
    path(name).touch(mode=0o444)
    with _coming_home():
        _call("unshare", _NEWNET)
        _call("mount", b"/proc/thread-self/ns/net", bytes(path(name)), b"none", _MS_BIND, None)


def remove(name: str) -> None:
    """Remove the name; the kernel removes the namespace once nothing uses it, a little later."""
    try:
        _call("umount2", bytes(path(name)), _MNT_DETACH)
    except OSError as e:
        if e.errno not in (errno.EINVAL, errno.ENOENT):
            raise
    path(name).unlink(missing_ok=True)


@contextlib.contextmanager
def inside(name: str | None) -> Iterator[None]:
    """Put this thread into the namespace for a while; None: where it is. Raises FileNotFoundError."""
    if name is None:
        yield
        return
    there = os.open(path(name), os.O_RDONLY | os.O_CLOEXEC)
    try:
        with _coming_home():
            _call("setns", there, _NEWNET)
            yield
    finally:
        os.close(there)


def sysctl(name: str, value: str) -> None:
    """Set a kernel parameter of the thread's namespace, by path below /proc/sys; one that does not exist is left."""
    with contextlib.suppress(FileNotFoundError):
        Path("/proc/sys", name).write_text(value)


def processes(name: str) -> list[int]:
    """Ids of all processes whose network is this namespace; none when there is no such namespace."""
    if not exists(name):
        return []
    wanted = path(name).stat()
    found = []
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            with contextlib.suppress(OSError):
                have = (directory / "ns/net").stat()
                if (have.st_dev, have.st_ino) == (wanted.st_dev, wanted.st_ino):
                    found.append(int(directory.name))
    return found


def processes_of(uids: range) -> list[int]:
    """Ids of all processes that run as one of these users."""
    found = []
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            with contextlib.suppress(OSError):
                words = (directory / "status").read_text().split()
                if words[words.index("State:") + 1] not in "ZX" and int(words[words.index("Uid:") + 1]) in uids:
                    found.append(int(directory.name))
    return found


@contextlib.contextmanager
def _coming_home() -> Iterator[None]:
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield
    finally:
        _call("setns", home, _NEWNET)
        os.close(home)


def _share_directory() -> None:
    """As iproute2 does, so that names made here are seen from other mount namespaces."""
    _DIRECTORY.mkdir(mode=0o755, parents=True, exist_ok=True)
    here = bytes(_DIRECTORY)
    try:
        _call("mount", b"", here, b"none", _MS_SHARED | _MS_REC, None)
    except OSError as e:
        if e.errno != errno.EINVAL:
            raise
        _call("mount", here, here, b"none", _MS_BIND | _MS_REC, None)
        _call("mount", b"", here, b"none", _MS_SHARED | _MS_REC, None)


def _call(name: str, *arguments: int | bytes | None) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")

"""Takes everything of an installation out of the kernel; what is on disk stays, and a later start makes it again."""

import contextlib
import logging
import shutil
from functools import partial
from pathlib import Path

from colonnade.agent import host, namespaces
from colonnade.agent.netlink import Netlink
from colonnade.agent.place import Installation
from colonnade.agent.processes import end_processes

log = logging.getLogger(__name__)


def teardown(*, state: Path, tag: str, slot: int) -> None:
    """Remove processes, namespaces, interfaces, routes, rules and /run files, whatever ended before in whatever way.

    For root, when no agent runs. Safe to repeat. Everything is found by the names of the installation.
    """
    here = Installation(state=state.resolve(), tag=tag, slot=slot)
    kernel = Netlink()
    kernel.remove_link(here.uplink)  # its routes go with it
    kernel.close()
    for name in namespaces.names(here.prefix):
        end_processes(partial(namespaces.processes, name))
    end_processes(lambda: namespaces.processes_of(here.uids))  # their namespace may have lost its name
    for name in sorted(namespaces.names(here.prefix), key=lambda n: n == here.fabric):
        _empty(name)
        namespaces.remove(name)
    host.stop_forwarding(here)
    shutil.rmtree(here.run, ignore_errors=True)
    for path in (here.socket, here.socket.with_name(".agent.sock")):
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # another installation is there
        shutil.rmtree(here.run.parent) if not _others(here) else None


def _others(here: Installation) -> bool:
    known = {"forwarding"}
    users = list((here.run.parent / "forwarding").glob("user-*"))
    return bool(users) or any(p.name not in known for p in here.run.parent.iterdir())


def _empty(name: str) -> None:
    """Remove the namespace's interfaces now: the kernel would take its time."""
    if not namespaces.exists(name):
        return
    with namespaces.inside(name):
        kernel = Netlink()
    for link in kernel.links():
        if link != "lo":
            with contextlib.suppress(OSError):  # its other end was removed meanwhile, or it cannot be removed
                kernel.remove_link(link)
    kernel.close()

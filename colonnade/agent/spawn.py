"""Starts programs that can never become root again: no capability, an empty bounding set, no_new_privs, an own user.

One thread has given all that up for itself, which its children inherit, and keeps only what it needs to enter
namespaces and to change the user. The rest of the agent is not touched.
"""

import ctypes
import os
import queue
import subprocess
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from colonnade.agent import namespaces

_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 24, 38, 47, 4
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class Program:
    """What to start, where, as whom."""

    words: Sequence[str]
    namespace: str
    directory: Path
    uid: int
    environment: Mapping[str, str]


class Spawner:
    """The thread. Ends with the process."""

    def __init__(self) -> None:
        self._wanted: queue.SimpleQueue[tuple[Program, Future[subprocess.Popen[bytes]]]] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="spawner", daemon=True).start()

    def start(self, program: Program) -> "subprocess.Popen[bytes]":
        """Start it. Its stderr is a pipe. Raises OSError."""
        result: Future[subprocess.Popen[bytes]] = Future()
        self._wanted.put((program, result))
        return result.result()

    def _run(self) -> None:
        failed = _give_up_privileges()
        while True:
            program, result = self._wanted.get()
            try:
                if failed:
                    raise failed
                with namespaces.inside(program.namespace):
                    result.set_result(_popen(program))
            except OSError as e:
                result.set_exception(e)


def _popen(program: Program) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        program.words,
        cwd=program.directory,
        env=dict(program.environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        user=program.uid,
        group=program.uid,
        extra_groups=[],
        umask=0o077,
        start_new_session=True,  # a Ctrl-C at the agent's terminal is not for it
    )


def _give_up_privileges() -> OSError | None:
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    wishes = [(_PR_SET_NO_NEW_PRIVS, 1), (_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)]
    wishes += [(_PR_CAPBSET_DROP, capability) for capability in range(last + 1)]
    for wish, value in wishes:
        if _libc.prctl(wish, value, 0, 0, 0) != 0:
            code = ctypes.get_errno()
            return OSError(code, f"the agent cannot give up privileges for HAProxy: {os.strerror(code)}")
    return None

"""HAProxy's runtime socket: one connection kept for a process's life, and what its answers mean.

The connection outlives a reload: a process that is finishing no longer listens, but answers those who are there. It
also keeps the process from ending, so ``finished`` must be asked and the connection closed.
"""

import contextlib
import csv
import re
import socket
import struct
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from colonnade.wire import STATISTICS, Counters, MemberState

_PROMPT = b"\n> "
_PATIENCE = 2.0  # seconds for a part of an answer
_LONGEST_WAIT = 10.0  # seconds for all of it
_REST = 5.0  # seconds in which nobody waits for a process again that did not answer
_LARGEST = 32 << 20  # bytes of an answer; 2,000 members take one or two million
_SPECIAL = re.compile(r"[ \\;<]")  # what ends a word, a command, or starts a payload
_LONGEST = 200  # letters of what a health check said


class Runtime:
    """A connection. Threads take turns. Raises OSError when the process does not answer, or not ``uid`` listens there:
    the socket is in a directory of HAProxy's own, who, taken over, might put another amphora's in its place."""

    def __init__(self, path: Path, uid: int) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._lock = threading.Lock()
        self._rest_until = 0.0
        try:
            self._socket.settimeout(_PATIENCE)
            self._socket.connect(str(path))
            if _owner(self._socket) != uid:
                raise PermissionError(f"{path} leads to somebody else's socket")
            self.ask("prompt")
            self.ask("set timeout cli 24d")
        except OSError:
            self._socket.close()
            raise

    def ask(self, command: str) -> str:
        """The answer to one command. Whoever it is that answers, one that has been taken over too: it takes neither
        much of the agent's memory nor much of its threads' time, which are other amphorae's as well."""
        with self._lock:
            if time.monotonic() < self._rest_until:
                raise TimeoutError("HAProxy did not answer lately")
            try:
                return self._asked(command)
            except TimeoutError:
                self._rest_until = time.monotonic() + _REST
                raise

    def _asked(self, command: str) -> str:
        until = time.monotonic() + _LONGEST_WAIT
        self._socket.sendall(command.encode() + b"\n")
        answer = bytearray()
        while not answer.endswith(_PROMPT):
            data = self._socket.recv(1 << 18)
            if not data:
                raise ConnectionResetError("HAProxy closed its runtime socket")
            answer += data
            if len(answer) > _LARGEST:
                self._socket.close()
                raise ConnectionAbortedError("HAProxy's answer has no end")
            if time.monotonic() > until:
                raise TimeoutError("HAProxy's answer takes too long")
        return answer[: -len(_PROMPT)].decode(errors="replace").strip("\n")

    def refill(self, kind: str, file: str, lines: Sequence[str]) -> bool:
        """Give an ACL's file, or a map, another content, all at once. False when what HAProxy read of it is not that:
        then nothing has changed."""
        version = self.ask(f"prepare {kind} {file}").rpartition(" ")[2]
        for line in lines:
            key, blank, value = line.partition(" ") if kind == "map" else (line, "", "")
            self.ask(f"add {kind} @{version} {file} {_escaped(key)}{blank}{_escaped(value)}")
        read = self.ask(f"show {kind} @{version} {file}").split("\n")
        if [r.partition(" ")[2] for r in read if r] != list(lines):
            return False
        return not self.ask(f"commit {kind} @{version} {file}")

    def close(self) -> None:
        """Let the process end."""
        with self._lock, contextlib.suppress(OSError):
            self._socket.close()

    def pid(self) -> int:
        """Of the process that answers."""
        return int(_info(self.ask("show info")).get("Pid", "0"))

    def finished(self) -> bool:
        """Whether a stopping process waits for nothing any more but this connection."""
        info = _info(self.ask("show info"))
        return info.get("Stopping") == "1" and int(info.get("Jobs", "0")) <= 1

    def statistics(self) -> "Statistics":
        """What ``show stat`` says now."""
        return read_statistics(self.ask("show stat"))


def _escaped(value: str) -> str:
    """One word of a command."""
    return _SPECIAL.sub(r"\\\g<0>", value)


def _owner(connected: socket.socket) -> int:
    _pid, uid, _gid = struct.unpack("3i", connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(uid)


@dataclass(frozen=True, kw_only=True, slots=True)
class Statistics:
    """What one HAProxy process says of itself."""

    listeners: dict[str, Counters] = field(default_factory=dict)
    pools: dict[str, str] = field(default_factory=dict)
    members: dict[str, dict[str, MemberState]] = field(default_factory=dict)


def read_statistics(text: str) -> Statistics:
    """The CSV of ``show stat``. Columns are found by name: their order changes between versions."""
    found = Statistics()
    for row in csv.DictReader(text.removeprefix("# ").split("\n")):
        match row["svname"]:
            case "FRONTEND" if row["pxname"] == STATISTICS:
                pass
            case "FRONTEND":
                found.listeners[row["pxname"]] = _counters(row)
            case "BACKEND":
                found.pools[row["pxname"]] = "UP" if row["status"].startswith("UP") else "DOWN"
            case name:
                found.members.setdefault(row["pxname"], {})[name] = _member(row)
    return found


def sum_counters(parts: Iterable[dict[str, Counters]]) -> dict[str, Counters]:
    """Counters of several processes added up; the status is the first one's that knows the listener."""
    total: dict[str, Counters] = {}
    for part in parts:
        for listener, counters in part.items():
            total[listener] = _add(total[listener], counters) if listener in total else counters
    return total


def negative(counters: dict[str, Counters]) -> dict[str, Counters]:
    """What to add so that these count from zero on."""
    return {
        listener: Counters(
            status=c.status, bytes_in=-c.bytes_in, bytes_out=-c.bytes_out, total_connections=-c.total_connections,
            request_errors=-c.request_errors,
        )
        for listener, c in counters.items()
    }  # fmt: skip


def settled(counters: dict[str, Counters]) -> dict[str, Counters]:
    """The counters of a process that is gone: it has no connection any more."""
    return {
        listener: Counters(
            status=c.status, bytes_in=c.bytes_in, bytes_out=c.bytes_out, total_connections=c.total_connections,
            request_errors=c.request_errors,
        )
        for listener, c in counters.items()
    }  # fmt: skip


def server_state(text: str, checked: set[tuple[str, str]]) -> str:
    """The part of ``show servers state`` that a new process should know: what health checks found.

    Only servers in ``checked`` (backend, server) and in no maintenance: of others, the configuration knows better,
    and a server without checks that is told to be down would stay so. Nor does a weight that was set at run time
    survive, nor where checks went: HAProxy would take both for newer than the configuration.
    """
    kept = []
    columns: dict[str, int] = {}
    for line in text.split("\n"):
        words = line.split()
        if words and words[0] == "#":
            columns = {name: at for at, name in enumerate(words[1:])}
        if not words or words[0] in ("1", "#"):
            kept.append(line)
        elif len(words) > 6 and (words[1], words[3]) in checked and words[6] == "0":
            kept.append(" ".join(_as_configured(words, columns)))
    return "\n".join(kept) + "\n"


def _as_configured(words: list[str], columns: dict[str, int]) -> list[str]:
    """A server's line with the weight it started with and no place to check but its own."""
    said = {"srv_uweight": words[columns["srv_iweight"]], "srv_check_port": "0", "srv_check_addr": "-"}
    at = {columns[name]: value for name, value in said.items() if name in columns}
    return [at.get(n, word) for n, word in enumerate(words)]


def _info(text: str) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in text.split("\n") if ": " in line)


def _add(one: Counters, other: Counters) -> Counters:
    return Counters(
        status=one.status,
        bytes_in=one.bytes_in + other.bytes_in,
        bytes_out=one.bytes_out + other.bytes_out,
        active_connections=one.active_connections + other.active_connections,
        total_connections=one.total_connections + other.total_connections,
        request_errors=one.request_errors + other.request_errors,
    )


def _counters(row: dict[str, str]) -> Counters:
    return Counters(
        status=row["status"] if row["status"] in ("OPEN", "FULL", "STOP") else "STOP",
        bytes_in=_number(row["bin"]),
        bytes_out=_number(row["bout"]),
        active_connections=_number(row["scur"]),
        total_connections=_number(row["stot"]),
        request_errors=_number(row["ereq"]),
    )


def _member(row: dict[str, str]) -> MemberState:
    words = [w for w in (row.get("check_desc"), row.get("last_chk")) if w]
    text = "".join(c if c.isprintable() else " " for c in ": ".join(words))
    result = row["check_status"].removeprefix("* ")  # the star says that the next check is under way
    check = f"{result} {row['check_code']}".strip()
    return MemberState(status=row["status"], check=check, text=text[:_LONGEST])


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0

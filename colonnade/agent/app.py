"""The agent of a stand-alone host: HTTP on a Unix socket (see ``wire``), and the life of the program.

Ending the agent ends nothing else: traffic goes on, and the next agent takes over what runs.
"""

import fcntl
import grp
import json
import logging
import os
import re
import resource
import shutil
import socket
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import waitress.server

from colonnade import wire
from colonnade.agent import bodies, namespaces
from colonnade.agent.amphora import Amphora, Tools
from colonnade.agent.fabric import HostFabric
from colonnade.agent.network import AmphoraNetwork, leftovers
from colonnade.agent.place import Installation, kept
from colonnade.agent.processes import end_processes
from colonnade.agent.refused import Refused

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_T = TypeVar("_T")
log = logging.getLogger(__name__)
_LARGEST_BODY = 32 * 1024 * 1024
_MOST_AMPHORAE = 10_000  # uids of one installation
_THREADS = 6
_FILES = 1 << 20
_REASONS = {200: "OK", 204: "No Content", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed",
            409: "Conflict", 413: "Content Too Large", 422: "Unprocessable Content", 500: "Internal Server Error",
            503: "Service Unavailable"}  # fmt: skip


def run(*, state: Path, tag: str, slot: int, group: str, haproxy: str, stop: threading.Event) -> None:
    """Be the agent until ``stop`` is set. What it made goes on without it."""
    here = Installation(state=state.resolve(), tag=tag, slot=slot)
    if not re.fullmatch(r"[A-Za-z0-9]{1,8}", tag) or not 0 <= slot <= 99:
        raise ValueError("an installation's tag is 1 to 8 letters and digits, its slot 0 to 99")
    here.disk.mkdir(mode=0o700, parents=True, exist_ok=True)
    here.socket.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    lock = os.open(here.disk / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _raise_file_limit()
        host = Host(here, haproxy)
        host.restore()
        _serve(here, host, group, stop)
    finally:
        os.close(lock)


class Host:
    """All amphorae of this host."""

    def __init__(self, here: Installation, haproxy: str) -> None:
        self._here = here
        self._fabric = HostFabric(here)
        self._tools = Tools(here, self._fabric, haproxy)
        self._amphorae: dict[str, Amphora] = {}
        self._lock = threading.Lock()

    @property
    def fabric(self) -> HostFabric:
        """Its networks."""
        return self._fabric

    def ids(self) -> list[str]:
        """Of all amphorae."""
        with self._lock:
            return sorted(self._amphorae)

    def amphora(self, amphora_id: str) -> Amphora:
        """Raises Refused 404."""
        with self._lock:
            if amphora_id not in self._amphorae:
                raise Refused(404, f"There is no amphora {amphora_id}.", "Make it with PUT first.")
            return self._amphorae[amphora_id]

    def ensure(self, amphora_id: str, heartbeat_key: str) -> wire.Observed:
        """The amphora, made when it is not there."""
        with self._lock:
            if amphora_id not in self._amphorae:
                taken = {a.number for a in self._amphorae.values()}
                number = next((n for n in range(_MOST_AMPHORAE) if n not in taken), None)
                if number is None:
                    raise Refused(503, "This host has no room for another amphora.", "Remove one, or add a host.")
                self._amphorae[amphora_id] = Amphora(self._tools, amphora_id, number, heartbeat_key)
            amphora = self._amphorae[amphora_id]
        return amphora.ensure(heartbeat_key)

    def remove(self, amphora_id: str) -> None:
        """Remove the amphora; gone already is success."""
        with self._lock:
            amphora = self._amphorae.get(amphora_id)
        if amphora:
            amphora.remove()
            with self._lock:
                self._amphorae.pop(amphora_id, None)

    def restore(self) -> None:
        """Make all true that is on disk, and remove what only the kernel remembers."""
        here = self._here
        here.run.mkdir(mode=0o711, parents=True, exist_ok=True)
        here.run.parent.chmod(0o711)
        self._fabric.restore()
        for directory in sorted(here.amphorae.glob("*-*")):
            place = kept(directory / "place.json")
            if place is None:
                shutil.rmtree(directory)  # an agent died before it had made it
            else:
                self._amphorae[directory.name] = Amphora(
                    self._tools, directory.name, place["number"], place["heartbeat_key"]
                )
        for namespace in leftovers(here, self._amphorae):
            log.warning("namespace %s belongs to no amphora: removed", namespace)
            end_processes(partial(namespaces.processes, namespace))
            AmphoraNetwork(self._fabric, namespace).remove()
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(_restore, self._amphorae.values()))


def _restore(amphora: Amphora) -> None:
    try:
        amphora.restore()
    except Exception:  # one that cannot be restored does not keep the others from it
        log.exception("amphora %s cannot be restored", amphora.id)


class Api:
    """The WSGI application."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._routes: list[tuple[str, str, Callable[..., Any]]] = [
            ("GET", r"/v1", self._index),
            ("GET", r"/v1/fabric", self._fabric),
            ("PUT", r"/v1/fabric", self._put_fabric),
            ("GET", r"/v1/amphorae/([^/]+)", self._observe),
            ("PUT", r"/v1/amphorae/([^/]+)", self._ensure),
            ("DELETE", r"/v1/amphorae/([^/]+)", self._remove),
            ("PUT", r"/v1/amphorae/([^/]+)/bundle", self._put_bundle),
        ]

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Answer one request."""
        try:
            status, data = 200, self._answer(environ)
        except Refused as e:
            status, data = e.status, {"error": e.sentence, "help": e.help}
        except Exception:
            log.exception("a request failed")
            status, data = 500, {"error": "The agent failed.", "help": "See the agent's log."}
        body = b"" if data is None else json.dumps(data).encode()
        status = 204 if data is None else status
        start_response(
            f"{status} {_REASONS[status]}", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        )
        return [body]

    def _answer(self, environ: "WSGIEnvironment") -> Any:  # noqa: ANN401 - JSON
        method, path = environ["REQUEST_METHOD"], environ.get("PATH_INFO", "")
        found = [(m, call, match) for m, p, call in self._routes if (match := re.fullmatch(p, path))]
        if not found:
            raise Refused(404, "There is no such path.", "See wire.py for the agent's API.")
        for allowed, call, match in found:
            if allowed == method:
                arguments = [_read(bodies.identity, a) for a in match.groups()]
                return call(*arguments, *([_read(_body, environ)] if method == "PUT" else []))
        raise Refused(405, f"{method} is not done here.", "See wire.py for the agent's API.")

    def _index(self) -> Any:  # noqa: ANN401 - JSON
        return {"version": wire.VERSION, "amphorae": self._host.ids(), "fabric": self._host.fabric.digest}

    def _fabric(self) -> Any:  # noqa: ANN401 - JSON
        return {"digest": self._host.fabric.digest}

    def _put_fabric(self, data: Any) -> Any:  # noqa: ANN401 - JSON
        return {"digest": self._host.fabric.put(_read(bodies.fabric, data))}

    def _observe(self, amphora_id: str) -> Any:  # noqa: ANN401 - JSON
        return wire.to_json(self._host.amphora(amphora_id).observed())

    def _ensure(self, amphora_id: str, data: Any) -> Any:  # noqa: ANN401 - JSON
        return wire.to_json(self._host.ensure(amphora_id, _read(bodies.heartbeat_key, data)))

    def _put_bundle(self, amphora_id: str, data: Any) -> Any:  # noqa: ANN401 - JSON
        return wire.to_json(self._host.amphora(amphora_id).apply(_read(bodies.bundle, data, amphora_id)))

    def _remove(self, amphora_id: str) -> None:
        self._host.remove(amphora_id)


def _read(reader: Callable[..., _T], *arguments: object) -> _T:
    """What the request says, or 422 with the reason why it says nothing."""
    try:
        return reader(*arguments)
    except ValueError as e:
        raise Refused(422, f"The request is wrong: {e}.", "This is a mistake in the control plane.") from e


def _body(environ: "WSGIEnvironment") -> Any:  # noqa: ANN401 - JSON
    raw = environ["wsgi.input"].read(_LARGEST_BODY + 1)
    if len(raw) > _LARGEST_BODY:
        raise Refused(413, "The body is too large.", "Split the load balancer.")
    try:
        return json.loads(raw)
    except RecursionError as e:
        raise ValueError("the body is nested too deeply") from e


def _serve(here: Installation, host: Host, group: str, stop: threading.Event) -> None:
    listening = _listen(here.socket, group)
    server = waitress.server.create_server(
        Api(host),
        sockets=[listening],
        threads=_THREADS,
        max_request_body_size=_LARGEST_BODY,
        ident="",
        channel_timeout=3600,
        asyncore_use_poll=True,  # select() ends at descriptor 1023, which some 170 amphorae reach
    )
    worker = threading.Thread(target=server.run, name="http", daemon=True)
    worker.start()
    log.info("the agent answers on %s", here.socket)
    stop.wait()
    here.socket.unlink(missing_ok=True)
    server.task_dispatcher.shutdown(cancel_pending=True, timeout=5)
    log.info("the agent ends; load balancers go on")


def _listen(path: Path, group: str) -> socket.socket:
    """A socket that root and the group may connect to, from the moment it is there."""
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    fresh = path.with_name(".agent.sock")
    fresh.unlink(missing_ok=True)
    with _near(fresh) as reachable:
        before = os.umask(0o177)
        s.bind(reachable)
        os.umask(before)
    os.chown(fresh, 0, grp.getgrnam(group).gr_gid)
    fresh.chmod(0o660)
    s.listen(64)
    fresh.replace(path)
    return s


class _near:
    """A short name for a socket's path, which may have 107 bytes only."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> str:
        self._directory = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._directory}/{self._path.name}"

    def __exit__(self, *_: object) -> None:
        os.close(self._directory)


def _raise_file_limit() -> None:
    """HAProxy processes inherit the limit; without the right to raise it, what there is must do."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(hard, _FILES), max(hard, _FILES)))
    except (ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

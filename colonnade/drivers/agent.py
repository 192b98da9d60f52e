"""The stand-alone host's agent, over its Unix socket: where amphorae run, the link to them, and the fabric."""

import http.client
import json
import os
import socket
import threading
from typing import Any

from colonnade import wire
from colonnade.errors import Broken, Later
from colonnade.types import Json

_CONNECT_S = 2.0
_ANSWER_S = 30.0
IMAGE_ID = "a3f0c1de-0a3b-4c5e-9d57-6b1f2a0e4c11"  # the small cloud's one image, which stands for a namespace


class HostAgent:
    """Compute and AmphoraLink on one host. Connections are kept, one for each thread."""

    image_id: str | None = IMAGE_ID

    def __init__(self, url: str) -> None:
        self._url = url
        self._local = threading.local()

    def ensure(self, amphora_id: str, heartbeat_key: str) -> str:
        """Make the amphora's place unless it is there; answers the agent's URL."""
        self._call(self._url, "PUT", f"/v1/amphorae/{amphora_id}", {"heartbeat_key": heartbeat_key})
        return self._url

    def remove(self, amphora_id: str, agent_url: str | None) -> None:
        """Remove the place and all that is in it; gone already is success."""
        self._call(agent_url or self._url, "DELETE", f"/v1/amphorae/{amphora_id}")

    def names(self) -> list[str]:
        """Ids of all amphorae on the host."""
        index = self._call(self._url, "GET", "/v1")
        return [str(a) for a in index["amphorae"]] if index else []

    def observe(self, agent_url: str, amphora_id: str) -> Json | None:
        """wire.Observed; None when there is no such amphora."""
        return self._call(agent_url, "GET", f"/v1/amphorae/{amphora_id}", absent_is_none=True)

    def push(self, agent_url: str, amphora_id: str, bundle: Json) -> Json:
        """Make the amphora be as the bundle says; answers wire.Observed."""
        return self._call(agent_url, "PUT", f"/v1/amphorae/{amphora_id}/bundle", bundle) or {}

    def put_fabric(self, fabric: wire.Fabric) -> str:
        """Make the host's networks be so; answers the digest."""
        return str((self._call(self._url, "PUT", "/v1/fabric", wire.to_json(fabric)) or {}).get("digest"))

    def _call(
        self, url: str, method: str, path: str, body: Json | None = None, *, absent_is_none: bool = False
    ) -> Json | None:
        try:
            status, raw = self._exchange(url, method, path, None if body is None else json.dumps(body).encode())
            data: Any = json.loads(raw) if raw else None
        except (OSError, http.client.HTTPException, ValueError) as e:
            raise Later(f"The agent of this host does not answer ({e or type(e).__name__}).") from e
        if status < 300:
            return data  # type: ignore[no-any-return]  # an object, by the agent's API
        if status == 404 and absent_is_none:
            return None
        sentence = str(data.get("error") or "") if isinstance(data, dict) else ""
        sentence = sentence or f"The agent of this host answers {status}."
        if status == 422:
            raise Broken(sentence, str(data.get("help") or "") if isinstance(data, dict) else "")
        raise Later(sentence)

    def _exchange(self, url: str, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        """One request. All of them are safe to repeat, so one that met a connection grown stale is sent once more."""
        connections: dict[str, _UnixConnection] = self._local.__dict__.setdefault("connections", {})
        kept = url in connections
        connection = connections.setdefault(url, _UnixConnection(url))
        try:
            return _ask(connection, method, path, body)
        except (ConnectionError, http.client.RemoteDisconnected, http.client.CannotSendRequest):
            connection.close()
            if not kept:
                raise
            return _ask(connection, method, path, body)
        except BaseException:
            connection.close()
            raise


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over the socket of a unix:// URL."""

    def __init__(self, url: str) -> None:
        super().__init__("localhost", timeout=_ANSWER_S)
        self._path = url.removeprefix("unix://")

    def connect(self) -> None:
        """Connect; by way of the directory, since a socket's own path may have 107 bytes only."""
        directory, name = os.path.split(self._path)
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self.sock.settimeout(_CONNECT_S)
        reachable = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.sock.connect(f"/proc/self/fd/{reachable}/{name}")
        except OSError:
            self.close()
            raise
        finally:
            os.close(reachable)
        self.sock.settimeout(_ANSWER_S)


def _ask(connection: _UnixConnection, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
    headers = {} if body is None else {"Content-Type": "application/json"}
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    return answer.status, answer.read()

"""The small cloud in one process: its apps mounted as the API mounts them, a client for them, a clock to turn."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from falcon import testing
from waitress.server import create_server

from colonnade.local import host_routes
from colonnade.local.app import make_apps
from colonnade.local.host_routes import Routes
from colonnade.local.identity import Identity
from colonnade.local.network import LocalNetwork
from colonnade.settings import ApiSettings, Default, Settings
from colonnade.store.store import Store

Json = dict[str, Any]


class Clock:
    """A clock that goes when told to, and a millisecond at each look at the wall."""

    def __init__(self) -> None:
        self.time = 1_800_000_000.0

    def now(self) -> float:
        self.time += 0.001
        return self.time

    def monotonic(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds


class Bell:
    """A doorbell that remembers."""

    def __init__(self) -> None:
        self.rung: list[str] = []

    def ring(self, subject: str) -> None:
        self.rung.append(subject)

    def wait(self, seconds: float) -> set[str]:
        return set(self.rung)


def settings_of(state: Path, **api: Any) -> Settings:
    return Settings(default=Default(state_path=str(state)), api_settings=ApiSettings(**api))


class Cloud:
    """One installation's small cloud."""

    def __init__(self, settings: Settings, clock: Any = None, reached: Routes = host_routes.nothing) -> None:
        self.settings = settings
        self.clock = clock or Clock()
        self.bell = Bell()
        self.store = Store(settings.database_url)
        self.identity = Identity(settings, self.store, self.clock)
        self.network = LocalNetwork(self.store, self.clock)
        self.apps = make_apps(
            settings=settings, store=self.store, network=self.network, doorbell=self.bell, clock=self.clock,
            identity=self.identity, reached=reached,
        )  # fmt: skip

    def __call__(self, environ: Json, start_response: Any) -> Any:
        """Mount each app under its prefix."""
        path = environ["PATH_INFO"]
        for prefix, app in self.apps.items():
            if path == prefix or path.startswith(f"{prefix}/"):
                environ["SCRIPT_NAME"] = environ.get("SCRIPT_NAME", "") + prefix
                environ["PATH_INFO"] = path[len(prefix) :]
                return app(environ, start_response)
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"nothing here"]

    def password(self, user: str) -> str:
        lines = (self.settings.state / "secrets" / "passwords.env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)[f"{user.upper()}_PASSWORD"]

    def auth(self, user: str, **scope: Any) -> Json:
        """The body of a log-in by password."""
        given = {"name": user, "domain": {"id": "default"}, "password": self.password(user)}
        return {"auth": {"identity": {"methods": ["password"], "password": {"user": given}}, **scope}}

    def client(self, user: str) -> "Client":
        """A client that is logged in."""
        anyone = Client(self, None)
        return Client(self, anyone.post("/identity/v3/auth/tokens", self.auth(user), 201).headers["x-subject-token"])


class Client:
    """Requests with one token; each says which status it expects."""

    def __init__(self, cloud: Cloud, token: str | None) -> None:
        self.cloud = cloud
        self.token = token
        self._http = testing.TestClient(cloud)

    def ask(self, method: str, path: str, body: Any = None, status: int = 200, **headers: str) -> "testing.Result":
        path, _, query = path.partition("?")
        sent = {"X-Auth-Token": self.token} if self.token else {}
        sent |= {k.replace("_", "-"): v for k, v in headers.items()}
        found = self._http.simulate_request(
            method, path, query_string=query, json=body, headers=sent, remote_addr="127.0.0.1",
            host=sent.pop("Host", testing.helpers.DEFAULT_HOST),
        )  # fmt: skip
        assert found.status_code == status, f"{method} {path}: {found.status_code} {found.text}"
        return found

    def get(self, path: str, status: int = 200, **headers: str) -> Any:
        return self.ask("GET", path, None, status, **headers).json

    def post(self, path: str, body: Any, status: int = 201) -> "testing.Result":
        return self.ask("POST", path, body, status)

    def put(self, path: str, body: Any, status: int = 200) -> Any:
        return self.ask("PUT", path, body, status).json

    def delete(self, path: str, status: int = 204) -> "testing.Result":
        return self.ask("DELETE", path, None, status)

    def make(self, kind: str, status: int = 201, /, **given: Any) -> Json:
        """POST one network object; answers it, or the error."""
        found = self.post(f"/network/v2.0/{kind}s", {kind: given}, status).json
        inner: Json = found[kind] if status == 201 else found["NeutronError"]
        return inner

    def network(self, name: str) -> Json:
        """The network of this name."""
        (found,) = self.get(f"/network/v2.0/networks?name={name}")["networks"]
        inner: Json = found
        return inner

    def subnet(self, name: str) -> Json:
        """The subnet of this name."""
        (found,) = self.get(f"/network/v2.0/subnets?name={name}")["subnets"]
        inner: Json = found
        return inner


@contextmanager
def serving(cloud: Cloud) -> Iterator[int]:
    """The cloud on a free TCP port of 127.0.0.1."""
    server = create_server(cloud, host="127.0.0.1", port=0, threads=4)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield server.effective_port
    finally:
        server.close()
        thread.join(1)

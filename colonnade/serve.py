"""The API's HTTP server: waitress, on the supervisor's socket where there is one."""

import os
import signal
import socket
import sys
import time
import typing
from collections import Counter
from collections.abc import Callable
from typing import Any

import waitress
from waitress.channel import HTTPChannel

from colonnade.settings import Settings
from colonnade.supervisor import API_SOCKET

# A process may have 1,024 descriptors where nobody allows it more; the rest is for the database and providers.
_MOST = 900
_MOST_IDLE = 800  # of those on which no whole request is being answered


def serve(app: Callable[..., Any], settings: Settings) -> None:
    """Answer requests until SIGTERM or SIGINT; those begun are finished."""
    inherited = os.environ.get(API_SOCKET)
    section, believed = settings.api_settings, settings.oslo_middleware.enable_proxy_headers_parsing
    where: dict[str, Any] = {"host": section.bind_host, "port": section.bind_port}
    if inherited:
        where = {"sockets": [socket.socket(fileno=int(inherited))]}
    sockets: dict[int, Any] = {}  # waitress keeps all of its own here, by descriptor
    server = waitress.create_server(
        app, map=sockets, threads=section.threads, max_request_body_size=section.max_request_body_size, ident=None,
        expose_tracebacks=False, clear_untrusted_proxy_headers=not believed, connection_limit=_MOST, channel_timeout=60,
        asyncore_use_poll=True, **where,
    )  # fmt: skip
    for listening in sockets.values():
        if listening.accepting:
            listening.channel_class = Connection
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))  # waitress takes SystemExit in its loop as the order to stop
    typing.cast(Any, server).run()


class Connection(HTTPChannel):  # type: ignore[misc]  # waitress carries no types
    """One client's. When many are idle, as those are that never send a whole request, one of them gives way to each new
    one: the oldest of the address that has most. A client that sends its request at once is not among those."""

    def __init__(self, server: Any, sock: socket.socket, addr: Any, adj: Any, map: dict[int, Any]) -> None:  # noqa: ANN401
        idle = [c for c in map.values() if isinstance(c, Connection) and not c.requests]
        if len(idle) >= _MOST_IDLE:
            of = Counter(c.addr[0] for c in idle)
            min(idle, key=lambda c: (-of[c.addr[0]], c.answered_at)).handle_close()
        self.answered_at = time.monotonic()  # or connected, before the first answer
        super().__init__(server, sock, addr, adj, map=map)

    def service(self) -> None:
        """Answer a request; in one of waitress's threads."""
        self.answered_at = time.monotonic()  # the request is over before we are back, and must not look old then
        super().service()
        self.answered_at = time.monotonic()

"""The API's HTTP server: waitress, on the supervisor's socket where there is one."""

import os
import signal
import socket
import sys
import typing
from collections.abc import Callable
from typing import Any

import waitress

from colonnade.settings import Settings
from colonnade.supervisor import API_SOCKET


def serve(app: Callable[..., Any], settings: Settings) -> None:
    """Answer requests until SIGTERM or SIGINT; those begun are finished."""
    inherited = os.environ.get(API_SOCKET)
    section, believed = settings.api_settings, settings.oslo_middleware.enable_proxy_headers_parsing
    where: dict[str, Any] = {"host": section.bind_host, "port": section.bind_port}
    if inherited:
        where = {"sockets": [socket.socket(fileno=int(inherited))]}
    server = waitress.create_server(
        app, threads=section.threads, max_request_body_size=section.max_request_body_size, ident=None,
        expose_tracebacks=False, clear_untrusted_proxy_headers=not believed, connection_limit=1000, channel_timeout=60,
        **where,
    )  # fmt: skip
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))  # waitress takes SystemExit in its loop as the order to stop
    typing.cast(Any, server).run()

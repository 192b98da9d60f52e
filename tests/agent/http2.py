"""HTTP/2 to talk with: a client, and, as a program inside a namespace, a member that sends back what it gets at once.

Arguments of the program: port, name, a file that nobody reads, a certificate with its key.
"""

import contextlib
import socket
import ssl
import sys
import threading
from collections.abc import Callable
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.exceptions

Headers = list[tuple[str, str]]


class Client:
    """One connection. Raises ConnectionError when it ends, or a stream does, before it should."""

    def __init__(self, connection: ssl.SSLSocket) -> None:
        assert connection.selected_alpn_protocol() == "h2"
        self._socket = connection
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self._h2.initiate_connection()
        self.seen: dict[int, list[Any]] = {}  # events by stream
        self.going_away = False
        self._flush()

    def open(self, path: str, *, end: bool = False) -> int:
        """A new stream."""
        stream = self._h2.get_next_available_stream_id()
        head = [(":method", "GET" if end else "POST"), (":path", path), (":scheme", "https"), (":authority", "x.test")]
        self._h2.send_headers(stream, [*head, ("te", "trailers")], end_stream=end)
        self.seen[stream] = []
        self._flush()
        return stream

    def say(self, stream: int, data: bytes) -> None:
        """Send a part of a request's body."""
        self._h2.send_data(stream, data)
        self._flush()

    def end(self, stream: int, trailers: Headers) -> None:
        """End a request with these."""
        self._h2.send_headers(stream, trailers, end_stream=True)
        self._flush()

    def body(self, stream: int) -> bytes:
        """What was answered so far."""
        return b"".join(e.data for e in self.seen[stream] if isinstance(e, h2.events.DataReceived))

    def headers(self, stream: int, kind: type = h2.events.ResponseReceived) -> dict[str, str]:
        """Of the answer; with ``kind`` TrailersReceived those at its end. Empty while there are none."""
        return next((dict(e.headers) for e in self.seen[stream] if isinstance(e, kind)), {})

    def ended(self, stream: int) -> bool:
        """Whether the answer is whole."""
        return any(isinstance(e, h2.events.StreamEnded) for e in self.seen[stream])

    def until(self, look: Callable[[], Any]) -> None:
        """Read until this is so."""
        while not look():
            data = self._socket.recv(65536)
            if not data:
                raise ConnectionError("the connection was closed")
            for event in self._h2.receive_data(data):
                self._take(event)
            self._flush()

    def get(self, path: str = "/") -> bytes:
        """One whole request."""
        stream = self.open(path, end=True)
        self.until(lambda: self.ended(stream))
        status = self.headers(stream)[":status"]
        if status != "200":
            raise ConnectionError(f"status {status}")
        return self.body(stream)

    def close(self) -> None:
        self._socket.close()

    def _take(self, event: Any) -> None:
        if isinstance(event, h2.events.StreamReset):
            raise ConnectionError(f"stream {event.stream_id} was reset: {event.error_code}")
        if isinstance(event, h2.events.ConnectionTerminated):
            self.going_away = True
            # What was sent before it was told may still be answered.
            self._h2.state_machine.state = h2.connection.ConnectionState.CLIENT_OPEN
        stream = getattr(event, "stream_id", None)
        if stream in self.seen:
            self.seen[stream].append(event)
        if isinstance(event, h2.events.DataReceived) and event.flow_controlled_length:
            self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)

    def _flush(self) -> None:
        self._socket.sendall(self._h2.data_to_send())


def _serve(connection: ssl.SSLSocket, name: str) -> None:
    """Answer with the member's name, and with each part of the request when it comes; trailers count them."""
    h2c = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
    h2c.initiate_connection()
    connection.sendall(h2c.data_to_send())
    parts: dict[int, int] = {}
    told: dict[int, str] = {}
    while data := connection.recv(65536):
        for event in h2c.receive_data(data):
            stream = getattr(event, "stream_id", 0)
            if isinstance(event, h2.events.RequestReceived):
                parts[stream] = 0
                h2c.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc"), ("x-member", name)])
            elif isinstance(event, h2.events.DataReceived) and event.data:
                parts[stream] += 1
                h2c.send_data(stream, event.data)
                h2c.acknowledge_received_data(event.flow_controlled_length, stream)
            elif isinstance(event, h2.events.TrailersReceived):
                told[stream] = dict(event.headers).get("x-told", "")
            elif isinstance(event, h2.events.StreamEnded):
                end = [("grpc-status", "0"), ("x-parts", str(parts.pop(stream))), ("x-told", told.pop(stream, ""))]
                h2c.send_headers(stream, end, end_stream=True)
        connection.sendall(h2c.data_to_send())


def _main(port: int, name: str, certificate: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.set_alpn_protocols(["h2"])

    def greet(raw: socket.socket) -> None:
        with contextlib.suppress(OSError, h2.exceptions.ProtocolError), context.wrap_socket(raw, server_side=True) as c:
            _serve(c, name)

    with socket.create_server(("", port)) as server:
        while True:
            threading.Thread(target=greet, args=(server.accept()[0],), daemon=True).start()


if __name__ == "__main__":
    _main(int(sys.argv[1]), sys.argv[2], sys.argv[4])

"""A tiny web server, run inside a namespace: answers its name, /health by whether a file exists, /headers what it got,
a websocket with what it is sent.

Arguments: port, name, that file; for TLS a certificate with its key, and whom clients' certificates must come from.
"""

import base64
import hashlib
import http.server
import json
import pathlib
import ssl
import sys


class _Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.headers.get("Upgrade") == "websocket":
            self._echo()
            return
        name, sick = sys.argv[2], pathlib.Path(sys.argv[3])
        status = 500 if self.path == "/health" and sick.exists() else 200
        body = (self.client_address[0] if self.path == "/client" else name).encode()
        if self.path == "/headers":
            tls = {"sni": server.asked, "peer": self.connection.getpeercert()} if len(sys.argv) > 4 else {}
            body = json.dumps({**{k.lower(): v for k, v in self.headers.items()}, **tls}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _echo(self) -> None:
        """A websocket's handshake; after it, whatever comes goes back."""
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        digest = hashlib.sha1(key.encode(), usedforsecurity=False).digest()
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(digest).decode())
        self.end_headers()
        self.close_connection = True
        while data := self.connection.recv(4096):
            self.connection.sendall(data)

    def log_message(self, *_: object) -> None:
        pass


class _Server(http.server.ThreadingHTTPServer):
    address_family = __import__("socket").AF_INET6
    request_queue_size = 128


server = _Server(("::", int(sys.argv[1])), _Answer)
server.asked = None
if len(sys.argv) > 4:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[4])
    context.sni_callback = lambda _connection, name, _context: setattr(server, "asked", name)
    if len(sys.argv) > 5:
        context.load_verify_locations(sys.argv[5])
        context.verify_mode = ssl.CERT_REQUIRED
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()

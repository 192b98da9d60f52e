"""A tiny web server, run inside a namespace: answers its name, and /health by whether a file exists."""

import http.server
import pathlib
import sys


class _Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        name, sick = sys.argv[2], pathlib.Path(sys.argv[3])
        status = 500 if self.path == "/health" and sick.exists() else 200
        body = (self.client_address[0] if self.path == "/client" else name).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class _Server(http.server.ThreadingHTTPServer):
    address_family = __import__("socket").AF_INET6
    request_queue_size = 128


_Server(("::", int(sys.argv[1])), _Answer).serve_forever()

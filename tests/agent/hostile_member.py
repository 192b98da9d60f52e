"""TCP services that are no good, one a port: silent, dripping, flooding, closing, no HTTP, redirecting.

Arguments: ADDRESS PORT.
"""

import socket
import sys
import threading
import time
from collections.abc import Callable


def silent(s: socket.socket) -> None:
    time.sleep(60)


def dripping(s: socket.socket) -> None:
    for letter in b"HTTP/1.0 200 OK\r\n\r\n" * 10:
        s.sendall(bytes([letter]))
        time.sleep(0.5)


def flooding(s: socket.socket) -> None:
    while True:
        s.sendall(b"x" * 65536)


def closing(s: socket.socket) -> None:
    s.recv(100)


def no_http(s: socket.socket) -> None:
    s.sendall(b"220 mail.example ESMTP\r\n")
    time.sleep(60)


def redirecting(s: socket.socket) -> None:
    s.sendall(b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n")


def serve(listening: socket.socket, answer: Callable[[socket.socket], None]) -> None:
    def one(s: socket.socket) -> None:
        try:
            answer(s)
        except OSError:
            pass
        finally:
            s.close()

    while True:
        threading.Thread(target=one, args=(listening.accept()[0],), daemon=True).start()


for n, kind in enumerate((silent, dripping, flooding, closing, no_http, redirecting)):
    server = socket.create_server((sys.argv[1], int(sys.argv[2]) + n), backlog=128)
    threading.Thread(target=serve, args=(server, kind), daemon=True).start()
print("ready", flush=True)
time.sleep(3600)

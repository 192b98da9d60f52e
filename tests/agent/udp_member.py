"""A member that answers each datagram with its name, the sender, and the datagram. Arguments: NAME ADDRESS PORT ...

A datagram ``late MILLISECONDS ...`` is answered so much later; its last word is told at once on standard output.
"""

import heapq
import selectors
import socket
import sys
import time

name = sys.argv[1]
selector = selectors.DefaultSelector()
for address, port in zip(sys.argv[2::2], sys.argv[3::2], strict=True):
    s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    s.bind((address, int(port)))
    selector.register(s, selectors.EVENT_READ)
waiting: list[tuple[float, int, bytes, tuple]] = []  # when, from which socket, what, to whom
print("ready", flush=True)
while True:
    for key, _ in selector.select(max(0.0, waiting[0][0] - time.monotonic()) if waiting else None):
        data, sender = key.fileobj.recvfrom(65536)
        answer = f"{name} {sender[0]} {sender[1]} ".encode() + data
        if data.startswith(b"late "):
            due = time.monotonic() + int(data.split(b" ")[1]) / 1000
            heapq.heappush(waiting, (due, key.fileobj.fileno(), answer, sender))
            print(data.split(b" ")[-1].decode(), flush=True)
        else:
            key.fileobj.sendto(answer, sender)
    while waiting and waiting[0][0] <= time.monotonic():
        _, number, answer, sender = heapq.heappop(waiting)
        next(k for k in selector.get_map().values() if k.fd == number).fileobj.sendto(answer, sender)

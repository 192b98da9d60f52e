"""A member that answers each datagram with its name, the sender, and the datagram. Arguments: NAME ADDRESS PORT ..."""

import selectors
import socket
import sys

name = sys.argv[1]
selector = selectors.DefaultSelector()
for address, port in zip(sys.argv[2::2], sys.argv[3::2], strict=True):
    s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    s.bind((address, int(port)))
    selector.register(s, selectors.EVENT_READ)
print("ready", flush=True)
while True:
    for key, _ in selector.select():
        data, sender = key.fileobj.recvfrom(65536)
        key.fileobj.sendto(f"{name} {sender[0]} {sender[1]} ".encode() + data, sender)

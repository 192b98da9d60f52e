"""A member that speaks a little SCTP over a raw socket: INIT is answered with INIT ACK, or ABORT, DATA with its name.

Arguments: NAME ADDRESS PORT FILE. While the file exists it refuses.
"""

import pathlib
import socket
import struct
import sys

from colonnade.agent.probes import packet, read_packet

name, address, port, refusing = sys.argv[1], sys.argv[2], int(sys.argv[3]), pathlib.Path(sys.argv[4])
six = ":" in address
s = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_RAW, 132)
s.bind((address, 0))
print("ready", flush=True)
TAG = 0x01020304
while True:
    data, sender = s.recvfrom(2048)
    found = read_packet(data if six else data[(data[0] & 15) * 4 :])
    if found is None or found[1] != port:
        continue
    source, _, tag, kind, value = found
    if kind == 1:  # INIT
        theirs = struct.unpack(">I", value[:4])[0]
        if refusing.exists():
            answer = packet(port, source, theirs, struct.pack(">BBH", 6, 0, 4))
        else:
            cookie = struct.pack(">HH", 7, 4 + 8) + name.ljust(8).encode()
            body = struct.pack(">IIHHI", TAG, 65536, 1, 1, 1) + cookie
            answer = packet(port, source, theirs, struct.pack(">BBH", 2, 0, 4 + len(body)) + body)
        s.sendto(answer, (sender[0], 0))
    elif kind == 10 and tag == TAG:  # COOKIE ECHO, which holds the tag to answer with
        theirs = struct.unpack(">I", value[:4])[0]
        s.sendto(packet(port, source, theirs, struct.pack(">BBH", 11, 0, 4)), (sender[0], 0))
    elif kind == 0 and tag == TAG:  # DATA: TSN, stream, sequence, protocol, then the tag to answer with
        theirs = struct.unpack(">I", value[12:16])[0]
        said = name.encode()
        chunk = struct.pack(">BBHIHHI", 0, 3, 16 + len(said), 1, 0, 0, 0) + said
        s.sendto(packet(port, source, theirs, chunk), (sender[0], 0))

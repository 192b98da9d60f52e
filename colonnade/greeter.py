"""A demo server's second half: answers each UDP datagram with its name. A program of its own, standard library alone.

Arguments: ADDRESS PORT NAME.
"""

import socket
import sys


def main() -> None:
    """Until it is killed."""
    address, port, name = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    greeting = f"Hello from {name} at {address}\n".encode()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind((address, port))
        while True:
            try:
                _, sender = s.recvfrom(1)
                s.sendto(greeting, sender)
            except OSError:  # what a sender's ICMP says is no reason to stop
                continue


if __name__ == "__main__":
    main()

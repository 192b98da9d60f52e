"""What is asked of the kernel's connection tracking."""

import struct
from collections.abc import Iterator
from ipaddress import ip_address

from colonnade.agent.tracking import Drop, Tracking, drops_of

UDP, SCTP = 17, 132
GET, DELETE = 0x101, 0x102


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def flow(proto: int, port: int, mark: int) -> bytes:
    """As the kernel tells of a flow that was translated; each mark's comes from another address."""
    client = attribute(1, attribute(1, struct.pack(">I", mark)))
    of_proto = attribute(1, bytes([proto])) + attribute(3, struct.pack(">H", port))
    return (
        struct.pack(">BBH", 2, 0, 0)
        + attribute(1, client + attribute(2, of_proto))
        + attribute(8, struct.pack(">I", mark))
    )


class Kernel(Tracking):
    """Holds flows, and counts what it is asked."""

    def __init__(self, *flows: tuple[int, int, int]) -> None:
        super().__init__()
        self.held = {flow(*f)[4 : -len(attribute(8, b"0000"))]: f for f in flows}
        self.asked: list[int] = []

    def _each(self, kind: int, flags: int, body: bytes) -> Iterator[bytes]:
        self.asked.append(kind)
        if kind == GET:
            yield from [flow(*f) for f in self.held.values()]
        else:
            plain = struct.pack("HH", struct.unpack_from("H", body, 4)[0], 1) + body[8:]  # without the mark of nesting
            if self.held.pop(plain, None) is None:
                raise FileNotFoundError


def test_however_many_members_and_listeners_go_the_table_is_walked_once() -> None:
    flows = [(UDP, port, mark) for port in range(100, 150) for mark in range(1, 21)]
    kernel = Kernel(*flows)
    gone: set[Drop] = {(m, None) for m in range(1, 10)}
    gone |= {(None, (UDP, port)) for port in range(100, 120)}
    gone |= {(20, (UDP, port)) for port in range(120, 130)} | {(15, (SCTP, 149))}
    kernel.drop(gone, kernel.found(gone))
    assert set(kernel.held.values()) == {
        (p, port, m) for p, port, m in flows if m >= 10 and port >= 120 and not (m == 20 and port < 130)
    }
    assert kernel.asked.count(GET) == 1
    kernel.close()


def test_what_went_by_itself_is_no_error() -> None:
    kernel = Kernel((UDP, 1, 1), (UDP, 2, 2))
    each = kernel._each

    def late(kind: int, flags: int, body: bytes) -> Iterator[bytes]:
        yield from each(kind, flags, body)
        if kind == GET:
            kernel.held.clear()

    kernel._each = late  # type: ignore[method-assign]
    gone: set[Drop] = {(1, (UDP, 1)), (2, (UDP, 2))}
    kernel.drop(gone, kernel.found(gone))
    assert kernel.asked.count(DELETE) == 2
    kernel.close()


def test_nothing_to_forget_asks_nothing() -> None:
    kernel = Kernel((UDP, 1, 1))
    assert kernel.found(set()) == []
    assert (kernel.asked, len(kernel.held)) == ([], 1)
    assert drops_of((UDP, 1, 7)) == {(7, None), (None, (UDP, 1)), (7, (UDP, 1))}
    kernel.close()


class Sent(Tracking):
    """Flows that were sent to these addresses."""

    def __init__(self, *addresses: str) -> None:
        super().__init__()
        self.held = {self.told(a): a for a in addresses}

    @staticmethod
    def told(address: str) -> bytes:
        to = ip_address(address)
        ends = attribute(1 if to.version == 4 else 3, b"\1" * len(to.packed)) + attribute(
            2 if to.version == 4 else 4, to.packed
        )
        return struct.pack(">BBH", 2 if to.version == 4 else 10, 0, 0) + attribute(1, attribute(1, ends))

    def _each(self, kind: int, flags: int, body: bytes) -> Iterator[bytes]:
        if kind == GET:
            yield from list(self.held)
        else:
            del self.held[body[:4] + body[4:6] + b"\1\0" + body[8:]]  # without the mark of nesting


def test_flows_of_both_ip_versions_are_forgotten_by_the_address_that_they_were_sent_to() -> None:
    books = Sent("10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2", "1.1.1.1")
    books.drop_to(["10.0.0.2", "fd00:0::1", "10.0.0.9"])
    assert list(books.held.values()) == ["10.0.0.1", "fd00::2", "1.1.1.1"]
    books.close()

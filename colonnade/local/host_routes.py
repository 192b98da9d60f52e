"""What this machine reaches already: a subnet that overlaps it would take traffic that is not its own."""

from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path

Range = IPv4Network | IPv6Network
Routes = Callable[[], Iterable[Range]]
_PROC = Path("/proc/net")


def nothing() -> Iterable[Range]:
    """Where the networks are made on another machine, or nowhere."""
    return ()


def reader(slot: int, proc: Path = _PROC) -> Routes:
    """Reads the routes of the moment, but for default routes and those of the installation in ``slot`` itself."""
    own = f"cln{slot}up"

    def read() -> list[Range]:
        found = [*_four(proc / "route"), *_six(proc / "ipv6_route")]
        return [network for interface, network in found if network.prefixlen and interface not in (own, "lo")]

    return read


def _four(path: Path) -> Iterator[tuple[str, Range]]:
    for words in _lines(path):
        if words[0] != "Iface":
            target, mask = (IPv4Address(int.from_bytes(bytes.fromhex(words[n]), "little")) for n in (1, 7))
            yield words[0], IPv4Network(f"{target}/{mask}")


def _six(path: Path) -> Iterator[tuple[str, Range]]:
    for words in _lines(path):
        yield words[9], IPv6Network((IPv6Address(int(words[0], 16)), int(words[1], 16)))


def _lines(path: Path) -> list[list[str]]:
    try:
        return [line.split() for line in path.read_text().splitlines()]
    except FileNotFoundError:  # a kernel without this IP version
        return []

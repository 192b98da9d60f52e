"""Addresses: which ranges a subnet may have, and which address is given next.

An address is taken exactly when it has a row in ``local_address``; its primary key decides between two who want the
same. Allocation goes round a subnet's pools, starting after the last address given.
"""

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from itertools import islice, pairwise
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from colonnade.local.faults import (
    GatewayConflictWithAllocationPools,
    InvalidInput,
    IpAddressGenerationFailure,
    IpAddressInUse,
    OverlappingAllocationPools,
    PolicyNotAuthorized,
)  # fmt: skip
from colonnade.store.local_tables import local_address, local_subnet
from colonnade.types import Json

Address = IPv4Address | IPv6Address
Range = IPv4Network | IPv6Network
Row = Any  # a SQLAlchemy row: its attributes are the table's columns

_LONGEST_PREFIX = {4: 30, 6: 126}
_SHORTEST_PREFIX = {4: 8, 6: 16}
_FIRST_LOOK, _LONGEST_LOOK = 32, 512
_FORBIDDEN = {
    ip_network(cidr): why
    for cidr, why in {
        "0.0.0.0/8": "means this host itself",
        "127.0.0.0/8": "is for loopback",
        "169.254.0.0/16": "is link-local",
        "198.18.0.0/15": "carries the links between this host and its networks",
        "224.0.0.0/4": "is for multicast",
        "240.0.0.0/4": "is reserved",
        "::/8": "is reserved (loopback and IPv4-mapped addresses are in it)",
        "fd63:6f6c::/32": "carries the links between this host and its networks",
        "fe80::/10": "is link-local",
        "fec0::/10": "is deprecated (site-local)",
        "ff00::/8": "is for multicast",
    }.items()
}

# Of these, everybody may take some: private use and documentation. Others have owners elsewhere, whom the host and all
# projects would not reach any more.
_FREE = [
    ip_network(cidr)
    for cidr in ("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.0.2.0/24", "192.168.0.0/16", "198.51.100.0/24",
                 "203.0.113.0/24", "2001:db8::/32", "fc00::/7")
]  # fmt: skip
_FREE_PREFIX = {4: 16, 6: 48}


def check_free(found: Range) -> None:
    """Raise PolicyNotAuthorized for a range that only an admin may take: somebody else's, or a very large one."""
    if not any(found.version == free.version and found.subnet_of(free) for free in _FREE):  # type: ignore[arg-type]  # of one version
        raise PolicyNotAuthorized(
            f"cidr: {found} is a public range: only an admin may take it, for nobody here would reach its owner any "
            "more. Please choose a private one, such as 10.1.0.0/24."
        )
    if found.prefixlen < _FREE_PREFIX[found.version]:
        raise PolicyNotAuthorized(
            f"cidr: {found} is very large: only an admin may take more than a /{_FREE_PREFIX[found.version]}, for all "
            "projects share the private ranges."
        )


def check_unreached(found: Range, reached: Iterable[Range]) -> None:
    """Raise InvalidInput for a range of which the host reaches addresses elsewhere."""
    for other in reached:
        if other.version == found.version and other.overlaps(found):
            raise InvalidInput(
                f"cidr: {found} overlaps {other}, which this host reaches elsewhere: please choose another range."
            )


def parse_range(text: str, version: int | None = None) -> Range:
    """A CIDR that a subnet may have. Raises InvalidInput with what is wrong with it."""
    try:
        found = ip_network(text, strict=False)
        given = ip_address(text.partition("/")[0])
    except ValueError as e:
        raise InvalidInput(f"cidr: '{text}' is not a network in CIDR notation, such as 10.1.0.0/24.") from e
    if "/" not in text or given != found.network_address:
        raise InvalidInput(f"cidr: '{text}' is not a recognized IP subnet cidr, '{found}' is recommended.")
    if version is not None and found.version != version:
        raise InvalidInput(f"cidr: '{text}' does not match the ip_version '{version}'.")
    shortest, longest = _SHORTEST_PREFIX[found.version], _LONGEST_PREFIX[found.version]
    if not shortest <= found.prefixlen <= longest:
        raise InvalidInput(f"cidr: the prefix length of '{text}' must be between {shortest} and {longest}.")
    for bad, why in _FORBIDDEN.items():
        if bad.version == found.version and bad.overlaps(found):
            raise InvalidInput(f"cidr: '{text}' cannot be a subnet: {bad} {why}.")
    return found


def parse_address(name: str, text: object) -> Address:
    """An IP address. Raises InvalidInput with the attribute's name."""
    try:
        if not isinstance(text, str) or "%" in text:
            raise ValueError("no text, or with a zone")
        return ip_address(text)
    except ValueError as e:
        raise InvalidInput(f"{name}: '{text}' is not a valid IP address.") from e


def usable(subnet: Range, address: Address) -> bool:
    """Whether an interface can have the address: inside, and neither the network's own nor the broadcast's."""
    if address not in subnet or address == subnet.network_address:
        return False
    return subnet.version == 6 or address != subnet.broadcast_address


def default_gateway(subnet: Range) -> Address:
    """The first address."""
    return subnet.network_address + 1


def check_gateway(subnet: Range, gateway: Address) -> None:
    """Raise InvalidInput unless the fabric can hold this address."""
    if gateway.version != subnet.version or not usable(subnet, gateway):
        raise InvalidInput(f"gateway_ip: {gateway} is not an address of the subnet {subnet}.")


def default_pools(subnet: Range, gateway: Address | None) -> list[Json]:
    """All usable addresses but the gateway."""
    first = subnet.network_address + 1
    last = subnet.broadcast_address - (1 if subnet.version == 4 else 0)
    if gateway is None:
        return [_pool(first, last)]
    parts = ((first, gateway - 1), (gateway + 1, last))
    return [_pool(a, b) for a, b in parts if int(a) <= int(b)]


def parse_pools(subnet: Range, gateway: Address | None, given: Iterable[Json]) -> list[Json]:
    """Pools as a user gave them, ascending. Raises when one is not inside, holds the gateway or overlaps another."""
    spans = []
    for pool in given:
        start, end = (parse_address("allocation_pools", pool.get(k)) for k in ("start", "end"))
        if not (usable(subnet, start) and usable(subnet, end)) or int(start) > int(end):
            raise InvalidInput(f"allocation_pools: {start}-{end} is not a range of addresses of the subnet {subnet}.")
        if gateway is not None and int(start) <= int(gateway) <= int(end):
            raise GatewayConflictWithAllocationPools(
                f"Gateway ip {gateway} conflicts with allocation pool {start}-{end}."
            )
        spans.append((start, end))
    spans.sort(key=lambda s: int(s[0]))
    for (a, b), (c, d) in pairwise(spans):
        if int(b) >= int(c):
            raise OverlappingAllocationPools(f"Found overlapping allocation pools: {a}-{b}, {c}-{d}.")
    return [_pool(a, b) for a, b in spans]


def _pool(start: Address, end: Address) -> Json:
    return {"start": str(start), "end": str(end)}


def lock(conn: Connection, subnet_id: str) -> Row | None:
    """The subnet's row, held until the transaction ends: allocations in one subnet come one after the other."""
    return conn.execute(select(local_subnet).where(local_subnet.c.id == subnet_id).with_for_update()).one_or_none()


def take(conn: Connection, subnet: Row, address: Address, owner_id: str, position: int = 0) -> str:
    """Take this very address. Raises InvalidInput when it cannot be an interface's, IpAddressInUse when it is taken."""
    text, within = str(address), ip_network(subnet.cidr)
    if not usable(within, address):
        raise InvalidInput(f"IP address {text} is not a valid IP for the specified subnet {subnet.cidr}.")
    mine = (local_address.c.subnet_id == subnet.id) & (local_address.c.address == text)
    if text == subnet.gateway_ip or conn.execute(select(local_address.c.owner_id).where(mine)).first():
        raise IpAddressInUse(
            f"Unable to complete operation for network {subnet.network_id}. The IP address {text} is in use."
        )
    _write(conn, subnet.id, text, owner_id, position)
    return text


def take_next(conn: Connection, subnet: Row, owner_id: str, position: int = 0) -> str:
    """Take the next free address of the subnet's pools. Raises IpAddressGenerationFailure when none is free."""
    candidates = _round(subnet)
    look = _FIRST_LOOK
    while chunk := list(islice(candidates, look)):
        used = set(
            conn.scalars(
                select(local_address.c.address).where(
                    local_address.c.subnet_id == subnet.id, local_address.c.address.in_(chunk)
                )
            )
        )
        free = next((a for a in chunk if a not in used), None)
        if free is not None:
            _write(conn, subnet.id, free, owner_id, position)
            conn.execute(update(local_subnet).where(local_subnet.c.id == subnet.id).values(last_given=free))
            return free
        if look == _FIRST_LOOK and _full(conn, subnet):
            break
        look = min(look * 4, _LONGEST_LOOK)
    raise IpAddressGenerationFailure(f"No more IP addresses available on subnet {subnet.id} ({subnet.cidr}).")


def give_back(conn: Connection, owner_id: str, subnet_ids: Iterable[str] | None = None) -> None:
    """Free the owner's addresses: all, or those in these subnets."""
    statement = delete(local_address).where(local_address.c.owner_id == owner_id)
    if subnet_ids is not None:
        statement = statement.where(local_address.c.subnet_id.in_(list(subnet_ids)))
    conn.execute(statement)


def _round(subnet: Row) -> Iterator[str]:
    """Every address of the pools once, beginning after the last one given."""
    make = IPv4Address if subnet.ip_version == 4 else IPv6Address
    spans = [(int(ip_address(p["start"])), int(ip_address(p["end"]))) for p in subnet.allocation_pools]
    last = int(ip_address(subnet.last_given)) if subnet.last_given else -1
    after = [(max(a, last + 1), b) for a, b in spans if b > last]
    before = [(a, min(b, last)) for a, b in spans if a <= last]
    for start, end in after + before:
        yield from (str(make(number)) for number in range(start, end + 1))


def has_room(conn: Connection, subnet: Row) -> bool:
    """Whether the subnet's pools have a free address."""
    return not _full(conn, subnet)


def _full(conn: Connection, subnet: Row) -> bool:
    size = sum(int(ip_address(p["end"])) - int(ip_address(p["start"])) + 1 for p in subnet.allocation_pools)
    query = select(func.count()).select_from(local_address).where(local_address.c.subnet_id == subnet.id)
    taken = conn.execute(query).scalar_one()
    if taken < size:
        return False
    outside = [a for a in conn.scalars(select(local_address.c.address).where(local_address.c.subnet_id == subnet.id))
               if not in_pools(subnet, ip_address(a))]  # fmt: skip
    return taken - len(outside) >= size


def in_pools(subnet: Row, address: Address) -> bool:
    """Whether one of the subnet's pools holds the address."""
    return any(
        int(ip_address(p["start"])) <= int(address) <= int(ip_address(p["end"])) for p in subnet.allocation_pools
    )


def _write(conn: Connection, subnet_id: str, address: str, owner_id: str, position: int) -> None:
    conn.execute(
        insert(local_address).values(subnet_id=subnet_id, address=address, owner_id=owner_id, position=position)
    )

"""The nftables table that balances an amphora's UDP and SCTP; pure text.

A flow's first packet goes through ``pick_…`` of its listener, which chooses a member and leaves its number as the
flow's mark; the kernel's connection tracking keeps the flow there. Every packet goes through ``gate_…`` before. Answers
that are under way when their flow is forgotten are in ``late…`` (see ``late.py``). Names, numbers, addresses and quoted
words are made here and nowhere else: nothing from a bundle stands in the text as it came.

Sets that remember clients, counters and limits live on when rules change: their names tell all that they are.
"""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, collapse_addresses, ip_address, ip_network
from uuid import UUID

from colonnade.agent import shares
from colonnade.datagrams import Datagrams, Listener, Member, Pool

TABLE = "datagrams"
_FAMILIES = {4: "ip", 6: "ip6"}
_MOST_STUCK = 65536  # clients that one listener remembers for each IP version, and
_ALL_STUCK = 4 * _MOST_STUCK  # that all of them do: the kernel takes 136 bytes for each, of everybody's memory
# A count is a list that the kernel walks for new flows, 1.5 ms with 40,000 in it: whoever sends a thousand packets a
# second from ever new ports would keep a processor from everybody. So a high limit is shared out.
_MOST_COUNTED, _MOST_COUNTS = 256, 1024
_FOREVER = 2073600  # seconds: the longest idle time that the API takes
LATE_S = 5  # how long answers under way are let through: so long do resolvers wait (resolv.conf(5), timeout)
LATE_ZONE = 1  # the part of connection tracking that holds copies of their flows; else all is in zone 0
MOST_LATE = 8192  # flows that they are let through for, each time that some are forgotten
_BASES = {
    "raw": "{ type filter hook prerouting priority raw; }",
    "rawout": "{ type filter hook output priority raw; }",
    "gate": "{ type filter hook prerouting priority mangle; }",
    "pick": "{ type nat hook prerouting priority dstnat; }",
    "forward": "{ type filter hook forward priority filter; policy drop; }",
    "input": "{ type filter hook input priority filter; }",
    "output": "{ type filter hook output priority filter; }",
    "hide": "{ type nat hook postrouting priority srcnat; }",
    "out": "{ type filter hook postrouting priority 200; }",
}

End = tuple[bytes, bytes]  # an address and a port, as they are in packets


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """What is known of the members. ``down``: pool and member that failed their checks; ``slots``: of pools that go by
    load, how often each member comes; ``relays``: member -> the port where it is reached in the other IP version."""

    down: frozenset[tuple[str, str]] = frozenset()
    slots: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    relays: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ruleset:
    """``objects``: (kind, name) -> definition; ``chains``: name -> what makes it a base chain, and its rules."""

    objects: Mapping[tuple[str, str], str] = field(default_factory=dict)
    chains: Mapping[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)


def able(pool: Pool, down: Collection[tuple[str, str]]) -> list[Member]:
    """Members that get new flows: backups only when there is no other."""
    well = [m for m in pool.members if m.enabled and m.weight and (pool.id, m.id) not in down]
    return [m for m in well if not m.backup] or well


def numbers(want: Datagrams) -> dict[str, int]:
    """A number for each member, never 0. It depends on the member's id alone, but for a chance of one to 2^32."""
    found: dict[str, int] = {}
    taken: set[int] = {0}
    for member_id in sorted({m.id for pool in want.pools for m in pool.members}):
        number = int.from_bytes(hashlib.blake2s(member_id.encode(), digest_size=4).digest())
        while number in taken:
            number = (number + 1) % (1 << 32)
        taken.add(number)
        found[member_id] = number
    return found


def crossing(want: Datagrams) -> dict[str, tuple[Member, str]]:
    """Members that some client reaches through the relay only, each with the VIP of the other IP version. UDP alone: an
    SCTP association names its addresses itself."""
    used = {x.pool for x in want.listeners if x.protocol == "udp"}
    vips = {_ip(v).version: v for v in reversed(want.vips)}
    found = {}
    for pool in want.pools:
        for member in pool.members if pool.id in used else ():
            other = 10 - _ip(member.address).version
            if other in vips:
                found[member.id] = (member, vips[other])
    return found


def render(want: Datagrams, state: State) -> Ruleset:
    """The table; empty when there is no listener. Raises ValueError for what is not an address or a network."""
    if not want.listeners:
        return Ruleset()
    pools = {p.id: p for p in want.pools}
    number = numbers(want)
    vips = {v: list(dict.fromkeys(str(a) for a in map(_ip, want.vips) if a.version == v)) for v in _FAMILIES}
    vips = {v: found for v, found in vips.items() if found}
    most = _room(want)
    objects = {("set", _late(v)): _late_definition(v) for v in _FAMILIES}
    chains: dict[str, tuple[str, tuple[str, ...]]] = {}
    for listener in want.listeners:
        pool = pools.get(listener.pool or "")
        stuck = _stuck(listener, pool, most) if pool and pool.persistence else {}
        objects.update(_objects(listener, vips))
        objects.update({("map", stuck[v]): _memory(pool, v, most) for v in vips if pool and stuck})
        chains[_name("gate", listener)] = ("", tuple(_gate(listener, pool, vips, stuck)))
        chains[_name("pick", listener)] = ("", tuple(_pick(listener, pool, vips, number, state, stuck)))
    chains.update({name: (_BASES[name], tuple(rules)) for name, rules in _bases(want, vips).items()})
    return Ruleset(objects=objects, chains=chains)


def transaction(old: Ruleset | None, new: Ruleset, stale: Iterable[tuple[str, str]] = ()) -> str:
    """What leads from one to the other, in one piece; nothing when nothing changes. ``old`` None: it is not known, only
    what kinds of things are there by name (``stale``, chains among them)."""
    if old == new:
        return ""
    if not new.chains:
        return f"add table inet {TABLE}\ndelete table inet {TABLE}\n"
    had = {("chain", c) for c in old.chains} | set(old.objects) if old else set(stale)
    lines = [f"add table inet {TABLE}"] if had == set() or old is None else []
    lines += [f"flush table inet {TABLE}"] if old is None else []
    lines += [_line("add", *key, text) for key, text in new.objects.items() if old is None or key not in had]
    lines += [_line("add", "chain", c, base) for c, (base, _) in new.chains.items() if ("chain", c) not in had]
    before = old.chains if old else {}
    for chain, content in new.chains.items():
        if before.get(chain) != content:
            lines += [_line("flush", "chain", chain)] if chain in before else []
            lines += [_line("add", "rule", chain, rule) for rule in content[1]]
    gone = sorted(had - set(new.objects) - {("chain", c) for c in new.chains}, key=lambda k: k[0] != "chain")
    lines += [_line("flush", *key) for key in gone if key[0] == "chain"]
    lines += [_line("delete", *key) for key in gone]
    return "".join(f"{line}\n" for line in lines)


def late(answers: Iterable[tuple[End, End]]) -> str:
    """What has the table let answers through from there (the member) to there (us) for a while, though their flows are
    forgotten. Addresses and ports are bytes."""
    words: dict[int, list[str]] = {v: [] for v in _FAMILIES}
    for (member, port), (us, to_port) in answers:
        ports = f"{int.from_bytes(port)} . {int.from_bytes(to_port)}"
        words[4 if len(us) == 4 else 6].append(f"{ip_address(member)} . {ports} . {ip_address(us)}")
    return "".join(_line("add", "element", _late(v), _set(w)) + "\n" for v, w in words.items() if w)


def full_from(limit: int) -> int:
    """From how many flows on new ones may be dropped: of a limit that is shared out, some counts are full before others
    (measured with 2,000 to 262,144: from 85 % on)."""
    return limit if _counts(limit) == 1 else limit * 5 // 6


def counted(name: str) -> tuple[str, str] | None:
    """What a counter is of: in, out or new, and the listener's id. None: none of ours."""
    kind, _, rest = name.partition("_")
    return (kind, str(UUID(rest))) if kind in ("in", "out", "new") and len(rest) == 32 else None


def _ip(text: str) -> IPv4Address | IPv6Address:
    """An address, never with a zone: that may be any text. Raises ValueError."""
    if "%" in text:
        raise ValueError(f"{text!r} is not a plain address")
    return ip_address(text)


def _line(verb: str, kind: str, name: str, rest: str = "") -> str:
    return f"{verb} {kind} inet {TABLE} {name} {rest}".rstrip()


def _name(kind: str, listener: Listener) -> str:
    return f"{kind}_{UUID(listener.id).hex}"


def _objects(listener: Listener, vips: Mapping[int, list[str]]) -> Iterator[tuple[tuple[str, str], str]]:
    for kind in ("in", "out", "new"):
        yield ("counter", _name(kind, listener)), ""
    if listener.limit:
        yield ("set", _full(listener)), f"{{ type mark; flags dynamic; size {_counts(listener.limit)}; }}"
    for version in vips:
        if listener.protocol == "udp":
            seconds = listener.idle or _FOREVER
            layer3 = _FAMILIES[version]
            policy = f"policy = {{ unreplied : {seconds}, replied : {seconds} }}"
            yield ("ct timeout", _idle(listener, version)), f"{{ protocol udp; l3proto {layer3}; {policy}; }}"


def _late(version: int) -> str:
    return f"late{version}"


def _late_definition(version: int) -> str:
    address = f"ipv{version}_addr"
    key = f"{address} . inet_service . inet_service . {address}"
    return f"{{ type {key}; flags dynamic,timeout; timeout {LATE_S}s; size {8 * MOST_LATE}; }}"


def _late_rules() -> tuple[list[str], list[str]]:
    """For what comes before connection tracking, and for what goes to a member after all translation."""
    to_copies, anew = [], []
    for version, family in _FAMILIES.items():
        place = f"{family} saddr . udp sport . udp dport . {family} daddr"
        to_copies.append(f"{place} @{_late(version)} ct zone set {LATE_ZONE}")
        # A new flow with the addresses and ports of one that was forgotten gets its answers itself.
        back = f"{family} daddr . udp dport . udp sport . {family} saddr"
        anew.append(f"ct state new delete @{_late(version)} {{ {back} }}")
    return to_copies, anew


def _room(want: Datagrams) -> int:
    """How many clients each listener with persistence remembers. By powers of two: another listener seldom changes it,
    for those who are silent then are forgotten."""
    pools = {p.id for p in want.pools if p.persistence}
    listeners = sum(x.pool in pools for x in want.listeners)
    return min(_MOST_STUCK, _ALL_STUCK >> max(0, listeners - 1).bit_length())


def _memory(pool: Pool, version: int, most: int) -> str:
    timeout = pool.persistence.timeout if pool.persistence else 0
    return f"{{ type ipv{version}_addr : mark; flags dynamic,timeout; timeout {timeout}s; size {most}; }}"


def _counts(limit: int) -> int:
    """How many counts a limit is shared out to, each of flows from other addresses and ports."""
    return max(1, min(limit // _MOST_COUNTED, _MOST_COUNTS))


def _full(listener: Listener) -> str:
    return f"{_name('full', listener)}_{listener.limit}"


def _idle(listener: Listener, version: int) -> str:
    return f"idle{version}_{listener.idle or _FOREVER}"


def _stuck(listener: Listener, pool: Pool, most: int) -> dict[int, str]:
    """By IP version, what remembers clients. Whom depends on the pool and the mask, for how long on the timeout."""
    p = pool.persistence
    prefixes = {4: p.prefix4, 6: p.prefix6} if p else {}
    whose = f"{UUID(listener.id).hex}_{UUID(pool.id).hex}"
    return {v: f"stuck{v}_{whose}_{prefix}_{p.timeout if p else 0}_{most}" for v, prefix in prefixes.items()}


def _client(pool: Pool, version: int) -> str:
    """The client's address, as far as persistence tells clients apart."""
    p = pool.persistence
    prefix = (p.prefix4 if version == 4 else p.prefix6) if p else 0
    whole = "0.0.0.0/0" if version == 4 else "::/0"
    mask = ip_network(whole.replace("/0", f"/{prefix}")).netmask
    full = prefix == mask.max_prefixlen
    return f"{_FAMILIES[version]} saddr" + ("" if full else f" & {mask}")


def _gate(
    listener: Listener, pool: Pool | None, vips: Mapping[int, list[str]], stuck: Mapping[int, str]
) -> Iterator[str]:
    """For every packet of a client: whether it may come in, what it counts, how long its flow lasts."""
    for version, family in _FAMILIES.items() if listener.allowed is not None else ():
        inside = _inside(listener.allowed or (), version)
        yield f"{family} saddr != {inside} drop" if inside else f"meta nfproto ipv{version} drop"
    yield f'counter name "{_name("in", listener)}"'
    for version in vips:
        if listener.protocol == "udp":
            yield f'meta nfproto ipv{version} ct state new ct timeout set "{_idle(listener, version)}"'
        if pool and stuck:
            yield f"ct mark != 0 update @{stuck[version]} {{ {_client(pool, version)} : ct mark }}"


@lru_cache(maxsize=512)  # a thousand networks take 10 ms, and stay the same while members come and go
def _inside(allowed: tuple[str, ...], version: int) -> str:
    """The networks of one IP version as a set; nothing when there are none."""
    networks = [ip_network((_ip(a), int(bits)), strict=False) for a, _, bits in (n.partition("/") for n in allowed)]
    found = [str(n) for n in collapse_addresses(n for n in networks if n.version == version)]  # type: ignore[type-var]  # one version each
    return _set(found) if found else ""


def _pick(
    listener: Listener, pool: Pool | None, vips: Mapping[int, list[str]], number: Mapping[str, int], state: State,
    stuck: Mapping[int, str],
) -> Iterator[str]:  # fmt: skip
    """For a flow's first packet. Where no member is able nothing is translated, and ``input`` refuses the packet: it is
    not remembered as a flow, so the client's next one is looked at anew."""
    if listener.limit == 0:
        yield "drop"
        return
    for version in vips if pool else ():
        yield from _pick_for(version, listener, pool, vips[version][0], number, state, stuck.get(version))  # type: ignore[arg-type]


def _pick_for(
    version: int, listener: Listener, pool: Pool, vip: str, number: Mapping[str, int], state: State, stuck: str | None
) -> Iterator[str]:
    targets = {}
    for m in able(pool, state.down):
        if target := _target(m, version, listener, vip, state.relays):
            targets[m.id] = target
    slots = _slots(pool, targets, state)
    if not slots:
        return
    mine = f"meta nfproto ipv{version}"
    marks = _set(f"{number[m]:#010x}" for m in targets)
    client = _client(pool, version)
    if listener.limit:
        counts = _counts(listener.limit)
        share = f"jhash {_FAMILIES[version]} saddr . {listener.protocol} sport mod {counts} seed 0x636c6e"
        yield f"{mine} meta mark set {share}" if counts > 1 else f"{mine} meta mark set 0"
        yield f"{mine} add @{_full(listener)} {{ meta mark ct count over {listener.limit // counts} }} drop"
    if stuck:
        yield f"ct mark set {client} map @{stuck}"
        yield f"{mine} ct mark != 0 ct mark != {marks} delete @{stuck} {{ {client} : ct mark }}"
        yield f"{mine} ct mark != {marks} ct mark set 0"
    chosen = _set(f"{n} : {number[m]:#010x}" for n, m in enumerate(slots))
    source = _source(pool.algorithm, version, listener.protocol, len(slots))
    yield f"{mine} ct mark 0 ct mark set {source} map {chosen}"
    if stuck:
        yield f"{mine} update @{stuck} {{ {client} : ct mark }}"
    yield f'{mine} counter name "{_name("new", listener)}"'
    leads = _set(f"{number[m]:#010x} : {target}" for m, target in targets.items())
    yield f"{mine} meta l4proto {listener.protocol} dnat {_FAMILIES[version]} to ct mark map {leads}"


def _target(member: Member, version: int, listener: Listener, vip: str, relays: Mapping[str, int]) -> str | None:
    address = _ip(member.address)
    if address.version == version:
        return f"{address} . {int(member.port)}"
    port = relays.get(member.id) if listener.protocol == "udp" else None
    return None if port is None else f"{vip} . {int(port)}"


def _slots(pool: Pool, targets: Collection[str], state: State) -> list[str]:
    weights = {m.id: m.weight for m in pool.members if m.id in targets}
    if pool.algorithm in ("SOURCE_IP", "SOURCE_IP_PORT"):
        return shares.by_hash(weights)
    if pool.algorithm == "LEAST_CONNECTIONS":
        given = {m: n for m, n in state.slots.get(pool.id, {}).items() if m in targets}
        return shares.in_turn(given or weights)
    return shares.in_turn(weights)


def _source(algorithm: str, version: int, protocol: str, slots: int) -> str:
    family = _FAMILIES[version]
    # A seed of its own would move every client at each change of the rules.
    match algorithm:
        case "SOURCE_IP":
            return f"jhash {family} saddr mod {slots} seed 0x636c6e"
        case "SOURCE_IP_PORT":
            return f"jhash {family} saddr . {protocol} sport mod {slots} seed 0x636c6e"
        case _:
            return f"numgen inc mod {slots}"


def _bases(want: Datagrams, vips: Mapping[int, list[str]]) -> dict[str, list[str]]:
    ours = {v: _set(found) for v, found in vips.items()}

    def dispatch(kind: str) -> list[str]:
        to = _set(f"{x.protocol} . {int(x.port)} : jump {_name(kind, x)}" for x in want.listeners)
        return [f"{_FAMILIES[v]} daddr {ours[v]} meta l4proto . th dport vmap {to}" for v in vips]

    to_copies, anew = _late_rules()
    outward = _set(f'{x.protocol} . {int(x.port)} : "{_name("out", x)}"' for x in want.listeners)
    return {
        "raw": ["meta l4proto tcp notrack", *to_copies],  # HAProxy's connections need no tracking
        "rawout": ["meta l4proto tcp notrack", *to_copies],  # here the relay answers
        "gate": dispatch("gate"),
        "pick": dispatch("pick"),
        "forward": ["ct status dnat accept"],
        "input": [
            *anew,
            "ct status dnat accept",  # to the relay
            *(f"{_FAMILIES[v]} daddr {ours[v]} meta l4proto {{ udp, sctp }} reject with icmpx port-unreachable"
              for v in vips),
        ],
        # A router tells clients of the shorter way to a member that is on their own network.
        "output": ["icmpv6 type nd-redirect drop"],
        "hide": ["ct status dnat masquerade"],
        "out": [
            *anew,
            *(f"{_FAMILIES[v]} saddr {ours[v]} counter name meta l4proto . th sport map {outward}" for v in vips),
        ],
    }  # fmt: skip


def _set(words: Iterable[str]) -> str:
    return f"{{ {', '.join(words)} }}"

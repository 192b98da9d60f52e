"""What may reach an amphora's VIPs, and how fast: an nftables table of its own, and a queue on the VIPs' interface.

Each packet is judged by itself, before any translation: a flow that becomes forbidden ends with its next packet, and
what is balanced by translating is judged by the VIP that it was sent to. No connection is tracked for it.
"""

import logging
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import ip_interface
from pathlib import Path

from colonnade.agent import namespaces, rules
from colonnade.agent.refused import Refused
from colonnade.wire import ICMP, ICMP6, Admission, Interface, Limit, Traffic

log = logging.getLogger(__name__)
TABLE = "colonnade_guard"
_OPEN = Traffic()
# One packet within this host is as long as 64 KiB: with less, none would ever fit.
_LEAST_BURST = 2 * 65536
_LEAST_QUEUED_BURST = 16_000  # a queue lets a longer packet go, too, and then the next one wait
# What HTB may queue from one class before it asks the next one; there is one only.
_QUANTUM = 60_000
# After translation, for answers of balanced datagrams come from the VIP only then. 1:10 is the queue's class.
_LEAVING = """  chain leaving {
    type filter hook postrouting priority srcnat + 50;
    ip saddr @vips4 meta priority set 1:10
    ip6 saddr @vips6 meta priority set 1:10
  }
"""


class Guard:
    """The guard of one amphora. ``marker`` is a file that is there while the kernel may hold anything of ours."""

    def __init__(self, namespace: str, marker: Path) -> None:
        self._namespace = namespace
        self._marker = marker
        self._applied: tuple[list[tuple[str, tuple[str, ...]]], Traffic] | None = None

    def apply(self, interfaces: Sequence[tuple[str, Interface]], traffic: Traffic) -> None:
        """Guard the VIPs of these interfaces, each with its name, so and no other way. Raises Refused."""
        fronts = [(name, i.vips) for name, i in interfaces if i.vips]
        if self._applied == (fronts, traffic):
            return
        before, self._applied = self._applied, None
        if traffic != _OPEN or self._marker.exists():
            self._marker.touch()
            vips = [str(ip_interface(v).ip) for _, held in fronts for v in held]
            rules.load(table(vips, traffic), self._namespace)
            limited = before[1].egress if before else None
            for name, _ in fronts:
                self._slow(name, traffic.egress, known=limited is not None or before is None)
            if traffic == _OPEN:
                self._marker.unlink()
        self._applied = (fronts, traffic)

    def _slow(self, interface: str, limit: Limit | None, *, known: bool) -> None:
        """Have what leaves from VIPs wait its turn. All else passes by: health checks do not queue behind answers."""
        if limit is None:
            if known:
                self._tc(f"qdisc del dev {interface} root")
            return
        rate, burst = f"{limit.kilobits}kbit", f"{_queued_burst(limit)}b"
        change = (
            f"class replace dev {interface} parent 1: classid 1:10 htb rate {rate} ceil {rate} "
            f"burst {burst} cburst {burst} quantum {_QUANTUM}"
        )
        if known and not self._tc(change):
            return  # the queue stays, and what is in it
        self._tc(f"qdisc del dev {interface} root")
        if why := self._tc(f"qdisc add dev {interface} root handle 1: htb\n{change}"):
            raise Refused(
                422, f"This host's kernel cannot limit what leaves the VIPs (tc: {why})",
                "Clear vip_qos_policy_id, remove the policy's egress rule, or give the host the module sch_htb.",
            )  # fmt: skip

    def _tc(self, commands: str) -> str:
        """What tc complains of; nothing when it did all."""
        with namespaces.inside(self._namespace):
            done = subprocess.run(
                ["tc", "-batch", "-"], input=commands + "\n", text=True, capture_output=True, timeout=30, check=False
            )
        return (done.stderr.strip().splitlines() or ["failed without a word."])[0] if done.returncode else ""


def table(vips: Iterable[str], traffic: Traffic) -> str:
    """The table's text; pure. Everything in it was read as a number or an address."""
    start = f"table inet {TABLE}\ndelete table inet {TABLE}\n"
    if traffic == _OPEN:
        return start
    addresses = sorted(set(vips))
    four, six = ([a for a in addresses if (":" in a) == wanted] for wanted in (False, True))
    judging = "" if traffic.admitted is None else "".join(f"    {line}\n" for line in _judged(traffic.admitted))
    return f"""{start}table inet {TABLE} {{
  set vips4 {{ type ipv4_addr; {rules.elements(four)} }}
  set vips6 {{ type ipv6_addr; {rules.elements(six)} }}
  chain arriving {{
    type filter hook prerouting priority raw;
    iif "lo" accept
    ip daddr @vips4 goto judged
    ip6 daddr @vips6 goto judged
  }}
  chain judged {{
    icmp type {{ destination-unreachable, time-exceeded, parameter-problem }} accept
    icmpv6 type {{ destination-unreachable, packet-too-big, time-exceeded, parameter-problem }} accept
    icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
{judging}    goto admitted
  }}
  chain admitted {{
    {_policed(traffic.ingress)}accept
  }}
{_LEAVING if traffic.egress else ""}}}
"""


def _judged(admitted: Iterable[Admission]) -> Iterator[str]:
    # Only a packet's first fragment has ports; without it the others come to nothing.
    yield "ip frag-off & 0x1fff != 0 goto admitted"
    yield "frag frag-off != 0 goto admitted"
    for one in admitted:
        yield " ".join((*_words(one), "goto admitted"))
    yield "drop"


def _words(one: Admission) -> Iterator[str]:
    four = one.version == 4
    yield f"meta nfproto {'ipv4' if four else 'ipv6'}"
    if one.source is not None:
        yield f"{'ip' if four else 'ip6'} saddr {one.source}"
    if one.protocol is None:
        return
    yield f"meta l4proto {one.protocol}"
    if one.protocol in (ICMP, ICMP6):
        kind = "icmp" if one.protocol == ICMP else "icmpv6"
        yield from (f"{kind} {word} {n}" for word, n in (("type", one.first), ("code", one.last)) if n is not None)
    elif one.first is not None:
        yield f"th dport {one.first}-{one.last}"


def _policed(limit: Limit | None) -> str:
    if limit is None:
        return ""
    rate = limit.kilobits * 125
    # The kernel's bucket holds a second's worth, and beside that its burst, a number of 32 bits.
    more = min(max(_LEAST_BURST, limit.burst_kilobits * 125) - rate, (1 << 32) - 1)
    burst = f" burst {more} bytes" if more > 0 else ""
    return f"limit rate over {rate} bytes/second{burst} drop\n    "


def _queued_burst(limit: Limit) -> int:
    """Bytes. tc counts in ticks of 64 ns, 32 bits of them, how long a burst takes at the rate: 274 s at most."""
    longest = min(limit.kilobits * 125 * 200, (1 << 31) - 1)
    return min(max(_LEAST_QUEUED_BURST, limit.burst_kilobits * 125), longest)

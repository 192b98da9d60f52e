"""What a failed health check saw, and what would help, in one sentence or two for the member's owner.

Codes are HAProxy's check_status (management.txt §9.1, field 36): L4CON, L4TOUT, L6TOUT, L6RSP, L7TOUT, L7RSP, L7STS,
PROCERR, PROCTOUT, SOCKERR, INI, UNK.
"""

import re

from colonnade.core.haproxy import endpoint
from colonnade.model import HealthMonitor, Member
from colonnade.types import MonitorType
from colonnade.wire import MemberState

DOWN = "It is administratively down (admin_state_up is false)."
DRAINED = "Its weight is 0: it keeps the clients it has and gets no new ones."
_CODE = re.compile(r"([A-Z][A-Z0-9]+)\W*(\d+)?")
_REFUSED = re.compile(r"refused", re.IGNORECASE)
_NO_ROUTE = re.compile(r"network is unreachable", re.IGNORECASE)


def check(member: Member, monitor: HealthMonitor | None, state: MemberState) -> str:
    """Why the member's health check fails."""
    found = _CODE.search(state.check)
    code, number = (found[1], found[2]) if found else ("UNK", None)
    at = _place(member, monitor)
    patience = f"within {max(monitor.timeout, 1)} s" if monitor else "in time"
    said = f" ({state.text})" if state.text else ""
    match code:
        case "L4CON" if not state.text or _REFUSED.search(state.text):
            return f"The health check's connection to {at} was refused. Is the service running, and on that port?"
        case "L4CON" | "SOCKERR" if _NO_ROUTE.search(state.text):
            return (
                f"The load balancer has no route to {at}{said}. If no VIP of it is of that IP version, create the "
                "member anew with the subnet_id of a subnet that is: the load balancer gets an address there."
            )
        case "L4CON":
            return (
                f"The health check could not connect to {at}{said}. Is the member on, and is there a route to it from "
                "the load balancer?"
            )
        case "L4TOUT":
            return (
                f"The health check got no answer from {at} when connecting. Is the member on, reachable from the load "
                "balancer's networks, and does its firewall let the check in?"
            )
        case "L6TOUT":
            return f"The health check connected to {at}, but the TLS handshake did not end {patience}. Is it TLS?"
        case "L6RSP":
            return (
                f"The health check connected to {at}, but the TLS handshake failed{said}. Does it speak TLS, with a "
                "certificate that the pool's authority has signed and not revoked?"
            )
        case "L7TOUT":
            return f"The health check connected to {at}, but got no answer {patience}. Is the service overloaded?"
        case "L7STS":
            return f"The health check got {_status(number, state.text)} from {at}; expected {_expected(monitor)}."
        case "L7RSP":
            return f"The health check got an answer from {at} that is not HTTP{said}. Does that port speak HTTP?"
        case "PROCERR" | "PROCTOUT" | "PROCCHK" if monitor and monitor.type is MonitorType.PING:
            return f"{at} does not answer pings. Is the member on, and does its firewall let ICMP echo requests in?"
        case "SOCKERR":
            return f"The load balancer could not open a connection to check {at}{said}. It tries again."
        case "L4OK" | "L6OK" | "L7OK" | "L7OKC":
            needed = f" when {monitor.max_retries} in a row do" if monitor else ""
            return f"The last health check of {at} went well after earlier ones had failed; it counts again{needed}."
        case "INI" | "UNK":
            return f"The health check of {at} has not had a result yet."
        case _:
            return f"The health check of {at} failed: {code}{f' {number}' if number else ''}{said}."


def pool_down(failing: list[str], drained: int, off: int) -> str:
    """Why no member of a pool gets traffic; ``failing`` are the failed members' own reasons."""
    counts = ((len(failing), "failing"), (drained, "drained"), (off, "administratively down"))
    parts = ", ".join(f"{count} {what}" for count, what in counts if count)
    return _first(f"No member can take requests{': ' if parts else ''}{parts}.", failing)


def pool_degraded(failing: list[str], members: int) -> str:
    """Why a pool that serves is not well."""
    return _first(f"{len(failing)} of {members} member{'s' if members > 1 else ''} failing.", failing)


def listener_full(limit: int) -> str:
    """Why clients have to wait at a listener."""
    return (
        f"All of its {limit} connections are in use: more clients have to wait. Raise connection_limit, or add members "
        "that answer faster."
    )


def silent(amphora_id: str, seconds: float) -> str:
    """Why an amphora's state is not known."""
    return (
        f"Amphora {amphora_id} has sent no word for {seconds:.0f} s. It is looked after again; if it stays silent, a "
        "failover replaces it."
    )


def _first(sentence: str, failing: list[str]) -> str:
    return f"{sentence} The first: {failing[0]}" if failing else sentence


def _place(member: Member, monitor: HealthMonitor | None) -> str:
    address = member.monitor_address or member.address
    if monitor and monitor.type is MonitorType.PING:
        return address
    at = endpoint(address, member.monitor_port or member.protocol_port)
    http = monitor is not None and monitor.type in (MonitorType.HTTP, MonitorType.HTTPS)
    return f"{at}{monitor.url_path or '/'}" if monitor and http else at


def _expected(monitor: HealthMonitor | None) -> str:
    return (monitor.expected_codes if monitor else None) or "200"


def _status(number: str | None, said: str) -> str:
    seen = number or next(iter(re.findall(r"\b[1-5]\d\d\b", said)), None)
    return f"HTTP {seen}" if seen else "another HTTP status"

"""What may reach a load balancer's VIPs and how fast, from its security groups and its QoS policy. Pure."""

import re
from collections.abc import Iterable

from colonnade.core.bundle import vips
from colonnade.errors import Broken
from colonnade.model import LoadBalancer, QosPolicy, SecurityGroup
from colonnade.types import Json
from colonnade.wire import ICMP, ICMP6, Admission, Traffic


def traffic(balancer: LoadBalancer, groups: Iterable[SecurityGroup], policy: QosPolicy | None) -> Traffic:
    """Equal inputs give equal traffic, whatever the order of groups and rules. What concerns no VIP is left out.

    Raises Broken when a group or the policy is gone: nothing is opened by a loss.
    """
    found = {g.id: g for g in groups}
    for wanted in balancer.vip_sg_ids:
        if wanted not in found:
            raise Broken(f"The security group {wanted} does not exist any more.", "Set vip_sg_ids anew.")
    if balancer.vip_qos_policy_id and policy is None:
        raise Broken(
            f"The QoS policy {balancer.vip_qos_policy_id} does not exist any more.", "Set vip_qos_policy_id anew."
        )
    versions = {6 if ":" in v else 4 for v in vips(balancer)}
    admitted = {a for i in balancer.vip_sg_ids for a in found[i].admitted if a.version in versions}
    return Traffic(
        admitted=tuple(sorted(admitted, key=_order)) if balancer.vip_sg_ids else None,
        ingress=policy.ingress if policy else None,
        egress=policy.egress if policy else None,
    )


def _order(one: Admission) -> tuple[int, int, int, int, str]:
    numbers = (one.protocol, one.first, one.last)
    protocol, first, last = (-1 if n is None else n for n in numbers)
    return one.version, protocol, first, last, one.source or ""


PROTOCOLS = {
    "ah": 51, "dccp": 33, "egp": 8, "esp": 50, "gre": 47, "icmp": 1, "icmpv6": 58, "igmp": 2, "ipip": 4,
    "ipv6-encap": 41, "ipv6-frag": 44, "ipv6-icmp": 58, "ipv6-nonxt": 59, "ipv6-opts": 60, "ipv6-route": 43,
    "ospf": 89, "pgm": 113, "rsvp": 46, "sctp": 132, "tcp": 6, "udp": 17, "udplite": 136, "vrrp": 112,
}  # fmt: skip


def admission(rule: Json) -> Admission:
    """What an ingress rule of a security group admits, from its fields as Neutron has them. ``ethertype`` and the
    prefix agree; a prefix of everything is none."""
    version = 6 if rule["ethertype"] == "IPv6" else 4
    protocol, source = number(rule["protocol"]), rule["remote_ip_prefix"]
    return Admission(
        version=version,
        protocol=ICMP6 if protocol == ICMP and version == 6 else protocol,
        first=rule["port_range_min"],
        last=rule["port_range_max"],
        source=None if source in ("0.0.0.0/0", "::/0") else source,
    )


def number(protocol: str | None) -> int | None:
    """IANA's number of a protocol; None: any. Raises ValueError."""
    if protocol is None or protocol == "any":
        return None
    if (found := PROTOCOLS.get(protocol)) is not None:
        return found
    if (
        not re.fullmatch("[0-9]{1,3}", protocol) or int(protocol) > 255
    ):  # int() reads other scripts' digits and signs, too
        raise ValueError(protocol)
    return int(protocol)

"""What may reach the VIPs, from groups and policies."""

from dataclasses import replace

import pytest
from desired import tree

from colonnade.core.traffic import number, traffic
from colonnade.errors import Broken
from colonnade.model import AdditionalVip, QosPolicy, SecurityGroup
from colonnade.wire import Admission, Limit, Traffic

WEB = Admission(version=4, protocol=6, first=80, last=80)
WEB6 = replace(WEB, version=6)
PING = Admission(version=4, protocol=1)
A = SecurityGroup(id="a", project_id="p", admitted=(WEB, WEB6))
B = SecurityGroup(id="b", project_id="p", admitted=(PING, WEB))
SLOW = QosPolicy(id="q", project_id="p", egress=Limit(kilobits=8, burst_kilobits=1))


def balancer(**fields):
    return tree({"load_balancer": fields}).load_balancer


def test_without_groups_and_policy_all_is_open():
    assert traffic(balancer(), [], None) == Traffic()


def test_groups_are_joined_whatever_their_order():
    one = traffic(balancer(vip_sg_ids=("a", "b")), [A, B], None)
    assert one == traffic(balancer(vip_sg_ids=("b", "a")), [B, A], None)
    assert set(one.admitted) == {WEB, PING}
    assert len(one.admitted) == 2


def test_what_is_of_no_vips_ip_version_is_left_out():
    both = balancer(vip_sg_ids=("a",), additional_vips=(AdditionalVip(subnet_id="s", ip_address="fd00::1"),))
    assert traffic(both, [A], None).admitted == (WEB, WEB6)


def test_a_group_without_rules_admits_nobody():
    assert traffic(balancer(vip_sg_ids=("c",)), [SecurityGroup(id="c", project_id="p")], None).admitted == ()


def test_a_policys_limits_are_taken():
    found = traffic(balancer(vip_qos_policy_id="q"), [], SLOW)
    assert (found.admitted, found.ingress, found.egress) == (None, None, SLOW.egress)


def test_nothing_is_opened_by_a_loss():
    with pytest.raises(Broken, match="security group b"):
        traffic(balancer(vip_sg_ids=("a", "b")), [A], None)
    with pytest.raises(Broken, match="QoS policy q"):
        traffic(balancer(vip_qos_policy_id="q"), [], None)


@pytest.mark.parametrize("protocol", ["\N{DEVANAGARI DIGIT ONE}7", "+17", "1_7", " 17", "256", ""])
def test_a_protocol_has_one_way_to_be_written(protocol: str) -> None:
    with pytest.raises(ValueError):
        number(protocol)
    assert (number("17"), number("udp"), number("0"), number("any")) == (17, 17, 0, None)

"""The stock client's commands around VIPs: additional ones, security groups, QoS policies."""

from collections.abc import Callable
from typing import Any

import pytest
from test_stock_clients import Shell
from test_stock_l7 import openstack

__all__ = ["openstack"]
Run = Callable[..., Any]


@pytest.fixture
def run(openstack: Shell) -> Run:
    """One command of the user demo's; with ``json`` its parsed answer."""

    def call(command: str, *, fails: bool = False, json: bool = False) -> Any:
        return openstack("colonnade-demo", command + (" -f json" if json else ""), fails)

    return call


def test_additional_vips(run: Run) -> None:
    run("network create front")
    for name, version, cidr in (("four", 4, "10.90.0.0/24"), ("six", 6, "fd00:90::/64"), ("more", 4, "10.91.0.0/24")):
        run(f"subnet create --network front --ip-version {version} --subnet-range {cidr} --no-dhcp {name}")
    lb = run(
        "loadbalancer create --name lb --vip-subnet-id four --additional-vip subnet-id=six,ip-address=fd00:90::9 "
        "--additional-vip subnet-id=more",
        json=True,
    )
    subnets = {n: run(f"subnet show {n}", json=True)["id"] for n in ("six", "more")}
    shown = lb["additional_vips"]
    assert f"'subnet_id': '{subnets['six']}'" in str(shown)
    assert "fd00:90::9" in str(shown)
    assert subnets["more"] in str(shown)
    port = run(f"port show {lb['vip_port_id']}", json=True)
    assert len(port["fixed_ips"]) == 3
    assert "has a VIP already" in run(
        "loadbalancer create --vip-subnet-id four --additional-vip subnet-id=four", fails=True
    )
    assert "in use" in run("subnet delete six", fails=True)


def test_security_groups(run: Run) -> None:
    web = run("security group create web --description d --tag a", json=True)
    assert (web["name"], web["description"], web["tags"], web["stateful"]) == ("web", "d", ["a"], True)
    rule = run("security group rule create web --protocol tcp --dst-port 80:81 --remote-ip 10.0.0.0/8", json=True)
    assert (rule["direction"], rule["port_range_min"], rule["port_range_max"]) == ("ingress", 80, 81)
    run("security group rule create web --protocol icmp --icmp-type 8 --ingress")
    run("security group rule create web --protocol udp --dst-port 53 --ethertype IPv6")
    run("security group rule create web --protocol any")
    assert "cannot be had" in run("security group rule create web --egress", fails=True)
    assert "cannot be had" in run("security group rule create web --remote-group web --protocol tcp", fails=True)
    assert len(run("security group rule list web", json=True)) == 4
    assert [r["ID"] for r in run("security group rule list --protocol tcp", json=True)] == [rule["id"]]
    assert run(f"security group rule show {rule['id']}", json=True)["remote_ip_prefix"] == "10.0.0.0/8"
    run("security group set web --name www --description e --tag b")
    listed = run("security group list", json=True)
    assert [(g["Name"], sorted(g["Tags"])) for g in listed] == [("www", ["a", "b"])]
    assert len(run("security group show www", json=True)["rules"]) == 4
    run("security group create other")
    lb = run("loadbalancer create --name lb --vip-subnet-id private-subnet --vip-sg-id www", json=True)
    assert web["id"] in str(lb["vip_sg_ids"])
    assert "in use" in run("security group delete www", fails=True)
    run("loadbalancer set lb --vip-sg-id other")
    assert web["id"] not in str(run("loadbalancer show lb", json=True)["vip_sg_ids"])
    run("security group delete www")
    run("loadbalancer unset lb --vip-sg-id")
    assert not run("loadbalancer show lb", json=True)["vip_sg_ids"]
    run("security group delete other")
    assert "No SecurityGroup" in run("security group show other", fails=True)


def test_qos_policies(run: Run) -> None:
    slow = run("network qos policy create slow --description d", json=True)
    assert (slow["name"], slow["shared"], slow["is_default"]) == ("slow", False, False)
    words = "--type bandwidth-limit --max-kbps 1000 --max-burst-kbits 500"
    out = run(f"network qos rule create slow {words} --egress", json=True)
    assert (out["max_kbps"], out["max_burst_kbps"], out["direction"]) == (1000, 500, "egress")
    run(f"network qos rule create slow {words} --ingress")
    assert "already" in run(f"network qos rule create slow {words} --ingress", fails=True)
    run("network qos rule create slow --type dscp-marking --dscp-mark 8", fails=True)
    run(f"network qos rule set slow {out['id']} --max-kbps 2000")
    assert run(f"network qos rule show slow {out['id']}", json=True)["max_kbps"] == 2000
    assert len(run("network qos rule list slow", json=True)) == 2
    assert run("network qos rule type list", json=True) == [{"Type": "bandwidth_limit"}]
    run(f"network qos rule delete slow {out['id']}")
    run("network qos policy set slow --name slower --description e")
    assert [p["Name"] for p in run("network qos policy list", json=True)] == ["slower"]
    lb = run("loadbalancer create --name lb --vip-subnet-id private-subnet --vip-qos-policy-id slower", json=True)
    assert lb["vip_qos_policy_id"] == slow["id"]
    assert [v["id"] for v in run("loadbalancer list --vip-qos-policy-id slower", json=True)] == [lb["id"]]
    assert "is used by load balancer" in run("network qos policy delete slower", fails=True)
    run("loadbalancer set lb --vip-qos-policy-id none")
    assert run("loadbalancer show lb", json=True)["vip_qos_policy_id"] is None
    run("loadbalancer set lb --vip-qos-policy-id slower")
    run("loadbalancer unset lb --vip-qos-policy-id")
    assert run("loadbalancer show lb", json=True)["vip_qos_policy_id"] is None
    port = run("port create --network private --qos-policy slower mine", json=True)
    assert port["qos_policy_id"] == slow["id"]
    assert "is used by port" in run("network qos policy delete slower", fails=True)
    run("port unset --qos-policy mine")
    run("network qos policy delete slower")
    assert run("network qos policy show slower", json=False, fails=True)

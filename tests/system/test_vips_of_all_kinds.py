"""Several VIPs, security groups and QoS policies through the whole installation, by the stock client."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kernel import queue
from standalone import Api, Standalone, WebServer, fetch
from stock_client import Client
from support import eventually

pytestmark = [pytest.mark.system, pytest.mark.root]


@pytest.fixture
def network(api: Api) -> Any:
    """A network with two IPv4 subnets and an IPv6 one, by name."""
    made = api.post("/network/v2.0/networks", {"network": {"name": "front"}})["id"]
    subnets = {}
    for name, version, cidr in (("four", 4, "10.91.0.0/24"), ("six", 6, "fd00:91::/64"), ("more", 4, "10.92.0.0/24")):
        body = {"name": name, "network_id": made, "ip_version": version, "cidr": cidr, "enable_dhcp": False}
        subnets[name] = api.post("/network/v2.0/subnets", {"subnet": body})["id"]
    yield subnets
    eventually(lambda: api.ask("DELETE", f"/network/v2.0/networks/{made}").status in (204, 404))


@pytest.fixture
def stock(standalone: Standalone) -> Iterator[Client]:
    made = standalone.client(10)
    yield made
    made.close()


def test_vips_groups_and_limits_by_the_stock_client(
    standalone: Standalone, api: Api, stock: Client, web: Callable[[str], WebServer], network: dict[str, str]
) -> None:
    member = web("w").member()

    def client(*words: str) -> str:
        return str(stock.shown(*words)).strip()

    create = ["loadbalancer", "create", "--name", "lb", "--vip-subnet-id", network["four"]]
    extra = [f"--additional-vip=subnet-id={network['six']},ip-address=fd00:91::9",
             f"--additional-vip=subnet-id={network['more']}"]  # fmt: skip
    lb_id = client(*create, *extra, "-f", "value", "-c", "id")
    lb = api.loadbalancer(lb_id)
    vips = [lb["vip_address"], *(v["ip_address"] for v in lb["additional_vips"])]
    pool = {"name": "p", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "loadbalancer_id": lb_id}
    pool_id = api.post("lbaas/pools", {"pool": pool})["id"]
    api.post(f"lbaas/pools/{pool_id}/members", {"member": member})
    listener = {"protocol": "HTTP", "protocol_port": 80, "loadbalancer_id": lb_id, "default_pool_id": pool_id}
    api.post("lbaas/listeners", {"listener": listener})
    api.until_active(lb_id)

    def answering(patience: float = 10) -> list[str]:
        return [v for v in vips if fetch(v, timeout=patience) == "w"]

    assert eventually(lambda: answering() == vips)

    floating = client("floating", "ip", "create", "public", "-f", "value", "-c", "floating_ip_address")
    client("floating", "ip", "set", "--port", lb["vip_port_id"], "--fixed-ip-address", vips[2], floating)
    assert eventually(lambda: fetch(floating) == "w")

    client("security", "group", "create", "web")
    client("loadbalancer", "set", lb_id, "--vip-sg-id", "web", "--wait")
    assert answering(1) == []
    assert fetch(floating, timeout=1) is None
    rule = ["security", "group", "rule", "create", "web", "--protocol", "tcp", "--dst-port", "80"]
    client(*rule)
    assert eventually(lambda: answering(1) == [vips[0], vips[2]])
    client(*rule, "--ethertype", "IPv6")
    assert eventually(lambda: answering() == vips)
    assert fetch(floating) == "w"

    client("network", "qos", "policy", "create", "slow")
    client("network", "qos", "rule", "create", "slow", "--type", "bandwidth-limit", "--max-kbps", "1000", "--egress")
    client("loadbalancer", "set", lb_id, "--vip-qos-policy-id", "slow", "--wait")
    assert "rate 1Mbit" in _queue(standalone, api, lb_id)
    assert answering() == vips

    client("loadbalancer", "failover", lb_id, "--wait")
    assert "rate 1Mbit" in _queue(standalone, api, lb_id)
    assert eventually(lambda: answering() == vips)
    client("loadbalancer", "unset", lb_id, "--vip-qos-policy-id", "--vip-sg-id", "--wait")
    assert _queue(standalone, api, lb_id) == ""
    for kind in (("security", "group", "delete", "web"), ("network", "qos", "policy", "delete", "slow"),
                 ("floating", "ip", "delete", floating)):  # fmt: skip
        client(*kind)
    assert answering() == vips
    client("loadbalancer", "delete", "--cascade", lb_id)
    api.until_gone(lb_id)
    assert api.get(f"/network/v2.0/ports?id={lb['vip_port_id']}") == []
    eventually(standalone.nothing_left_over)


def _queue(standalone: Standalone, api: Api, lb_id: str) -> str:
    """Of the load balancer's one amphora."""
    (amphora,) = api.get(f"/load-balancer/v2/octavia/amphorae?loadbalancer_id={lb_id}")
    return queue(standalone, amphora["id"])

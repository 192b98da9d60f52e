"""The classic guide, typed with the stock client, and real answers at its end."""

import pytest
from standalone import Standalone, bodies
from support import eventually

pytestmark = [pytest.mark.system, pytest.mark.root]


def _follow_the_guide(s: Standalone, cloud: str, waiting: bool) -> None:
    def os(*words: str) -> str:
        return s.openstack(*words, cloud=cloud)

    def pause() -> None:
        if waiting:
            eventually(
                lambda: os("loadbalancer", "show", "lb1", "-f", "value", "-c", "provisioning_status") == "ACTIVE", 60
            )

    os("loadbalancer", "create", "--name", "lb1", "--vip-subnet-id", "private-subnet")
    pause()
    os(
        "loadbalancer",
        "listener",
        "create",
        "--name",
        "listener1",
        "--protocol",
        "HTTP",
        "--protocol-port",
        "80",
        "lb1",
    )
    pause()
    os("loadbalancer", "pool", "create", "--name", "pool1", "--lb-algorithm", "ROUND_ROBIN", "--listener", "listener1",
       "--protocol", "HTTP")  # fmt: skip
    pause()
    os("loadbalancer", "healthmonitor", "create", "--delay", "5", "--max-retries", "4", "--timeout", "10", "--type",
       "HTTP", "--url-path", "/healthcheck", "pool1")  # fmt: skip
    pause()
    for member in s.members:
        os("loadbalancer", "member", "create", "--subnet-id", "private-subnet", "--address", member, "--protocol-port",
           "80", "pool1")  # fmt: skip
        pause()
    vip, port, lb_id = (
        os("loadbalancer", "show", "lb1", "-f", "value", "-c", column)
        for column in ("vip_address", "vip_port_id", "id")
    )
    fip = os("floating", "ip", "create", "public", "-f", "value", "-c", "floating_ip_address")
    os("floating", "ip", "set", "--port", port, fip)
    _serves_two_members(vip)
    _serves_two_members(fip)
    assert vip in os("floating", "ip", "list")
    states = "loadbalancer", "member", "list", "pool1", "-f", "value", "-c", "operating_status"
    eventually(lambda: os(*states).split() == ["ONLINE", "ONLINE"])
    before = os("loadbalancer", "amphora", "list", "--loadbalancer", lb_id, "-f", "value", "-c", "id").split()
    assert before[0] in os("loadbalancer", "amphora", "show", before[0])
    assert f"amphora-{before[0]}" in os("server", "list", "--all")
    os("loadbalancer", "failover", lb_id)
    eventually(lambda: os("loadbalancer", "show", lb_id, "-f", "value", "-c", "provisioning_status") == "ACTIVE")

    def replaced() -> bool:
        after = os("loadbalancer", "amphora", "list", "--loadbalancer", lb_id, "-f", "value", "-c", "id").split()
        return len(after) == len(before) and not set(after) & set(before)

    eventually(replaced)
    _serves_two_members(vip)
    _serves_two_members(fip)
    os("floating", "ip", "delete", fip)
    os("loadbalancer", "delete", "--cascade", "lb1")
    eventually(lambda: "lb1" not in os("loadbalancer", "list"))


def _serves_two_members(address: str) -> None:
    eventually(lambda: len(bodies(address)) == 2 and None not in bodies(address))


@pytest.mark.parametrize("cloud", ["colonnade", "colonnade-noauth"])
def test_the_guide_works_step_by_step(standalone: Standalone, cloud: str) -> None:
    _follow_the_guide(standalone, cloud, waiting=True)
    eventually(standalone.nothing_left_over)


def test_the_guide_works_pasted_without_waiting(standalone: Standalone) -> None:
    _follow_the_guide(standalone, "colonnade", waiting=False)
    eventually(standalone.nothing_left_over)

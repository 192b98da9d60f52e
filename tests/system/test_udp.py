"""UDP from the API to the wire and back into the API."""

from collections.abc import Iterator

import pytest
from kernel import Echo, ask
from standalone import Api, Standalone
from support import eventually

pytestmark = [pytest.mark.system, pytest.mark.root]


@pytest.fixture
def echoes(standalone: Standalone) -> Iterator[list[Echo]]:
    made = [Echo(standalone.host_address, name) for name in ("one", "two")]
    yield made
    for echo in made:
        echo.close()


def test_a_udp_listener_serves_counts_and_tells_of_its_members(
    api: Api, standalone: Standalone, echoes: list[Echo]
) -> None:  # fmt: skip
    members = [{"address": standalone.host_address, "protocol_port": e.port, "name": str(e.port)} for e in echoes]
    pool = {
        "name": "echoes", "protocol": "UDP", "lb_algorithm": "ROUND_ROBIN", "members": members,
        "healthmonitor": {"type": "UDP-CONNECT", "delay": 3, "timeout": 1, "max_retries": 1, "max_retries_down": 1},
    }  # fmt: skip
    listener = {"protocol": "UDP", "protocol_port": 53, "default_pool": pool}
    lb = {"name": "dns", "vip_subnet_id": api.subnet(), "listeners": [listener]}
    lb_id = api.post("lbaas/loadbalancers", {"loadbalancer": lb})["id"]
    vip = api.until_active(lb_id)["vip_address"]
    eventually(lambda: {ask(vip) for _ in range(4)} == {"one", "two"})
    (made,) = api.get(f"lbaas/pools?loadbalancer_id={lb_id}")

    def statuses() -> dict[str, str]:
        return {m["name"]: m["operating_status"] for m in api.get(f"lbaas/pools/{made['id']}/members")}

    eventually(lambda: set(statuses().values()) == {"ONLINE"})

    def counted() -> bool:
        stats = api.get(f"lbaas/loadbalancers/{lb_id}/stats")
        return (stats["active_connections"] > 0 and stats["total_connections"] >= 4
                and stats["bytes_in"] >= 4 * 29 <= stats["bytes_out"])  # fmt: skip

    eventually(counted)
    echoes[0].close()
    eventually(lambda: statuses()[str(echoes[0].port)] == "ERROR")
    assert {ask(vip) for _ in range(4)} == {"two"}
    first = next(m for m in api.get(f"lbaas/pools/{made['id']}/members") if m["name"] == str(echoes[0].port))
    assert "was refused" in first["reason"]
    api.put(f"lbaas/pools/{made['id']}/members/{first['id']}", {"member": {"admin_state_up": False}})
    api.until_active(lb_id)
    eventually(lambda: api.loadbalancer(lb_id)["operating_status"] == "ONLINE")

"""Under a thousand requests a second, on kept and new connections, plain, TLS and UDP: no change fails one."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from faults import MONITOR
from kernel import Echo
from load import Share, load
from standalone import Api, Json, Standalone, WebServer, fetch
from support import eventually
from test_certificate_life import CA, keys, secret, served

pytestmark = [pytest.mark.system, pytest.mark.root]

Web = Callable[[str], WebServer]
Step = Callable[[], None]
# A machine of two processors that does nothing else does what is asked. A busy one does less, but still enough for each
# change to meet requests of each kind.
_FLOOR = 100


class Site:
    """A load balancer with a plain and a TLS listener on one pool of the demo's servers, and a UDP listener on two
    members of its own; and changes of it."""

    def __init__(self, api: Api, standalone: Standalone, extra: WebServer, echoes: list[Echo]) -> None:
        self.api, self.standalone, self.extra = api, standalone, extra
        self.members = [{"address": m, "protocol_port": 80} for m in standalone.members]
        lb = api.until_active(api.create("load", self.members)["id"])
        self.lb, self.vip = str(lb["id"]), str(lb["vip_address"])
        self.pool = str(lb["pools"][0]["id"])
        self.web = str(lb["listeners"][0]["id"])
        self.ref = secret(standalone, CA.issue("first", "www.test").p12())
        self.changes = 0
        self.secure = self.post(
            "listeners", "listener", loadbalancer_id=self.lb, protocol="TERMINATED_HTTPS", protocol_port=443,
            default_tls_container_ref=self.ref, default_pool_id=self.pool,
        )  # fmt: skip
        *answering, self.third = echoes
        self.dns = self.post("listeners", "listener", loadbalancer_id=self.lb, protocol="UDP", protocol_port=53)
        self.dns_pool = self.post("pools", "pool", listener_id=self.dns, protocol="UDP", lb_algorithm="ROUND_ROBIN")
        self.answering = {echo.port: self.answer_by(echo.port) for echo in answering}

    def post(self, path: str, root: str, **fields: Any) -> str:
        """Something new; answers its id when it is there."""
        made: Json = self.api.post(f"lbaas/{path}", {root: fields})
        self._settle()
        return str(made["id"])

    def answer_by(self, port: int) -> str:
        """A new UDP member; answers its id."""
        path = f"pools/{self.dns_pool}/members"
        return self.post(path, "member", address=self.standalone.host_address, protocol_port=port)

    def put(self, path: str, root: str, **fields: Any) -> None:
        """A change, and wait until it is done."""
        self.api.put(f"lbaas/{path}", {root: fields})
        self._settle()

    def delete(self, path: str) -> None:
        """A removal, and wait until it is done."""
        self.api.delete(f"lbaas/{path}")
        self._settle()

    def _settle(self) -> None:
        self.changes += 1
        self.api.until_active(self.lb)

    # --- the changes -------------------------------------------------------------------------------------------------

    def l7(self, round: int) -> None:
        """A policy and its rule come, change in every way, and go. It never matches what is asked for."""
        other = self.post("pools", "pool", loadbalancer_id=self.lb, protocol="HTTP", lb_algorithm="ROUND_ROBIN")
        policy = self.post("l7policies", "l7policy", listener_id=self.web, action="REJECT")
        path = f"l7policies/{policy}"
        rule = self.post(f"{path}/rules", "rule", type="PATH", compare_type="STARTS_WITH", value="/no")
        for value in ("/never", "/not%20even", "/nor;this<<"):
            self.put(f"{path}/rules/{rule}", "rule", value=value)
        self.put(path, "l7policy", redirect_url=f"http://www.test/{round}")
        self.put(path, "l7policy", redirect_url=f"http://www.test/{round}/again")
        self.put(path, "l7policy", admin_state_up=False)
        self.put(path, "l7policy", admin_state_up=True)
        self.put(path, "l7policy", redirect_pool_id=other)
        self.put(path, "l7policy", redirect_pool_id=self.pool)
        self.put(f"{path}/rules/{rule}", "rule", invert=False, compare_type="REGEX", value="^/n(o|ever)$")
        second = self.post("l7policies", "l7policy", listener_id=self.web, action="REJECT", position=1)
        self.post(f"l7policies/{second}/rules", "rule", type="HEADER", key="X-No", compare_type="EQUAL_TO", value="x")
        self.put(f"l7policies/{second}", "l7policy", position=2)
        self.delete(f"l7policies/{second}")
        self.delete(path)
        self.delete(f"pools/{other}")

    def tls(self, round: int) -> None:
        """The certificate is exchanged behind its reference, then the listener's strength changes."""
        name = f"round-{round}"
        keys(self.standalone, "PUT", self.ref, CA.issue(name, "www.test").p12(), "application/octet-stream")
        assert eventually(lambda: served(self.vip) == name)
        self.changes += 1
        for versions in (["TLSv1.2"], ["TLSv1.2", "TLSv1.3"]):
            self.put(f"listeners/{self.secure}", "listener", tls_versions=versions)
        ref = secret(self.standalone, CA.issue(f"other-{round}", "www.test").p12())
        self.put(f"listeners/{self.secure}", "listener", default_tls_container_ref=ref)
        assert served(self.vip) == f"other-{round}"
        self.put(f"listeners/{self.secure}", "listener", default_tls_container_ref=self.ref)

    def persistence(self, round: int) -> None:
        kinds: list[Json | None] = [
            {"type": "SOURCE_IP"}, {"type": "HTTP_COOKIE"}, {"type": "APP_COOKIE", "cookie_name": "sid"}, None,
        ]  # fmt: skip
        for kind in kinds:
            self.put(f"pools/{self.pool}", "pool", session_persistence=kind)
        for algorithm in ("LEAST_CONNECTIONS", "SOURCE_IP", "SOURCE_IP_PORT", "ROUND_ROBIN"):
            self.put(f"pools/{self.pool}", "pool", lb_algorithm=algorithm)

    def listeners(self, round: int) -> None:
        self.put(f"listeners/{self.web}", "listener", timeout_client_data=40000 + round, timeout_member_data=30000)
        self.put(f"listeners/{self.web}", "listener", insert_headers={"X-Real-IP": "true", "X-Forwarded-For": "true"})
        self.put(f"listeners/{self.web}", "listener", connection_limit=5000 + round)
        self.put(f"listeners/{self.web}", "listener", insert_headers={}, connection_limit=-1)
        numbers = self.post("listeners", "listener", loadbalancer_id=self.lb, protocol="PROMETHEUS", protocol_port=9100)
        self.delete(f"listeners/{numbers}")

    def members_and_monitor(self, round: int) -> None:
        path = f"pools/{self.pool}/members"
        added = self.post(path, "member", **self.extra.member())
        for weight in (3, 0, 1):
            self.put(f"{path}/{added}", "member", weight=weight)
        self.api.put(f"lbaas/{path}", {"members": [{**m, "weight": 1 + round} for m in self.members]})
        self._settle()
        monitor = self.post("healthmonitors", "healthmonitor", pool_id=self.pool, **MONITOR)
        self.put(f"healthmonitors/{monitor}", "healthmonitor", delay=2)
        self.delete(f"healthmonitors/{monitor}")

    def datagrams(self, round: int) -> None:
        """Members come, are checked and drained; they go, or are disabled, while they are answering."""
        path = f"pools/{self.dns_pool}"
        kinds: list[Json | None] = [
            {"type": "SOURCE_IP", "persistence_timeout": 60}, {"type": "SOURCE_IP", "persistence_timeout": 90}, None,
        ]  # fmt: skip
        for kind in kinds:
            self.put(path, "pool", session_persistence=kind)
        for algorithm in ("LEAST_CONNECTIONS", "SOURCE_IP", "SOURCE_IP_PORT", "ROUND_ROBIN"):
            self.put(path, "pool", lb_algorithm=algorithm)
        added = self.answer_by(self.third.port)
        for weight in (3, 0):
            self.put(f"{path}/members/{added}", "member", weight=weight)
        self.delete(f"{path}/members/{added}")
        for port, member in self.answering.items():
            for up in (False, True):
                self.put(f"{path}/members/{member}", "member", admin_state_up=up)
            self.delete(f"{path}/members/{member}")
            self.answering[port] = self.answer_by(port)
        monitor = self.post("healthmonitors", "healthmonitor", pool_id=self.dns_pool, type="UDP-CONNECT", delay=3,
                            timeout=1, max_retries=1)  # fmt: skip
        self.delete(f"healthmonitors/{monitor}")
        self.put(f"listeners/{self.dns}", "listener", connection_limit=9000 + round)
        self.put(f"listeners/{self.dns}", "listener", allowed_cidrs=["0.0.0.0/0"])
        self.put(f"listeners/{self.dns}", "listener", allowed_cidrs=None, connection_limit=-1)
        other = self.post("listeners", "listener", loadbalancer_id=self.lb, protocol="UDP", protocol_port=54)
        self.delete(f"listeners/{other}")

    def all(self, round: int) -> Iterator[Step]:
        for change in (
            self.l7, self.tls, self.persistence, self.listeners, self.members_and_monitor, self.datagrams,
        ):  # fmt: skip
            yield lambda change=change: change(round)  # type: ignore[misc]


@pytest.fixture
def echoes(standalone: Standalone) -> Iterator[list[Echo]]:
    made = [Echo(standalone.host_address, name="", late_s=0.02) for _ in range(3)]  # so that something is under way
    yield made
    for echo in made:
        echo.close()


def test_no_change_under_load_fails_a_request(
    api: Api, standalone: Standalone, web: Web, echoes: list[Echo]
) -> None:  # fmt: skip
    site = Site(api, standalone, web("extra"), echoes)
    assert eventually(lambda: served(site.vip)) == "first"
    eventually(lambda: all(map(fetch, [*standalone.members, site.vip])))
    ca = CA.pem.decode()
    shares = (
        Share("plain, kept", site.vip, 80, rate=400, kept=True, threads=6),
        Share("plain, new", site.vip, 80, rate=200, kept=False, threads=6),
        Share("TLS, kept", site.vip, 443, rate=250, kept=True, threads=6, ca=ca),
        Share("TLS, new", site.vip, 443, rate=50, kept=False, threads=4, ca=ca),
        Share("UDP, kept", site.vip, 53, rate=50, kept=True, threads=4, datagrams=True),
        Share("UDP, new", site.vip, 53, rate=50, kept=False, threads=4, datagrams=True),
    )
    with load(*shares) as outcomes:
        for round in (1, 2):
            for step in site.all(round):
                step()
    rate, wanted = sum(o.rate for o in outcomes), sum(s.rate for s in shares)
    parts = (f"{site.changes} changes, {rate:.0f} requests/s of {wanted:.0f} asked for", *map(str, outcomes))
    told = "; ".join(parts)
    print(told)
    assert sum(o.failures for o in outcomes) == 0, told
    assert rate >= _FLOOR, told
    assert all(o.answered >= site.changes for o in outcomes), told

"""PROMETHEUS listeners: what a scrape says after real requests, and what it does not."""

import http.client
import ssl
import subprocess
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from datagrams import Servers, ask
from rig import Rig, eventually, get

from colonnade.core import certificates, datagrams, haproxy
from colonnade.model import HealthMonitor, Listener, LoadBalancer, Material, Member, Pool, Tree
from colonnade.types import Algorithm, ListenerProtocol, MonitorType, PoolProtocol
from tests import pki
from tests.exposition import parse

CA = pki.authority()
COMMON: dict[str, Any] = {"project_id": "p", "created_at": datetime(2026, 1, 1), "loadbalancer_id": "lb"}
PORT = 9100


class Site:
    """Listener web with pool p1 of member m1, and a PROMETHEUS listener."""

    def __init__(self, rig: Rig, **listener: Any) -> None:
        self.rig, self.vip = rig, rig.address()
        self.vips = [self.vip]
        fields = {"id": "numbers", "protocol": ListenerProtocol.PROMETHEUS, "protocol_port": PORT, **listener}
        self.listeners = (
            Listener(id="web", protocol=ListenerProtocol.HTTP, protocol_port=80, default_pool_id="p1", **COMMON),
            Listener(**fields, **COMMON),
        )
        pool = Pool(id="p1", protocol=PoolProtocol.HTTP, lb_algorithm=Algorithm.ROUND_ROBIN, **COMMON)
        self.pools = (pool,)
        self.members = (self.member(1),)
        self.monitors: tuple[HealthMonitor, ...] = ()
        self.bundle = rig.bundle(rig.amphora(), self.vip, None)

    def member(self, n: int, port: int = 80) -> Member:
        address = f"{self.rig.net}.0.{9 + n}"
        return Member(id=f"m{n}", pool_id="p1", address=address, protocol_port=port, **COMMON)

    def push(self) -> None:
        balancer = LoadBalancer(id="lb", vip_address=self.vip, project_id="p", created_at=COMMON["created_at"])
        tree = Tree(
            load_balancer=balancer, listeners=self.listeners, pools=self.pools, members=self.members,
            health_monitors=self.monitors,
        )  # fmt: skip
        issued = Material(ref="cert", project_id="p", payloads={"": CA.issue("numbers.test", "numbers.test").p12()})
        gathered = certificates.gather(tree, {"cert": issued, "ca": replace(issued, payloads={"": CA.pem})}, ())
        files = haproxy.render(gathered.tree, self.vips, haproxy.Limits()) | datagrams.render(gathered.tree, self.vips)
        self.bundle = replace(self.bundle, files={**files, **gathered.files})
        self.rig.push(self.bundle)

    def ask(self, method: str = "GET", path: str = "/metrics", host: str = "") -> tuple[int, str, str]:
        """Status, type and body."""
        connection = http.client.HTTPConnection(host or self.vip, PORT, timeout=30)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.getheader("content-type", ""), answer.read().decode()
        finally:
            connection.close()

    def scrape(self) -> dict[str, dict[frozenset[tuple[str, str]], float]]:
        status, kind, text = self.ask()
        assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
        return parse(text)

    def value(self, name: str, **labels: str) -> float:
        return self.scrape()[name][frozenset(labels.items())]


WEB = {"listener": "web"}
POOL = {"pool": "p1", "listener": "web"}
MEMBER = {**POOL, "member": "m1"}


def test_what_the_kernel_balances_is_among_them(rig: Rig, servers: Servers) -> None:
    site = Site(rig)
    dns_id, pool_id, member_id = [str(uuid.uuid4()) for _ in range(3)]
    dns = Listener(id=dns_id, protocol=ListenerProtocol.UDP, protocol_port=53, default_pool_id=pool_id, **COMMON)
    pool = Pool(id=pool_id, protocol=PoolProtocol.UDP, lb_algorithm=Algorithm.ROUND_ROBIN, **COMMON)
    member = Member(id=member_id, pool_id=pool_id, address=servers.address("u1"), protocol_port=53, **COMMON)
    site.listeners, site.pools, site.members = (*site.listeners, dns), (*site.pools, pool), (*site.members, member)
    site.push()
    assert [ask(site.vip) for _ in range(3)] == ["u1"] * 3
    label, total = frozenset({"listener": dns_id}.items()), "octavia_listener_sessions_total"
    found = eventually(lambda: s if (s := site.scrape())[total].get(label) == 3 else None)
    beat = rig.beat(site.bundle.amphora_id, lambda b: b.listeners[dns_id].total_connections == 3).listeners[dns_id]
    assert found["octavia_listener_bytes_out_total"][label] == beat.bytes_out > 0
    assert found["octavia_loadbalancer_listeners"][frozenset()] == 3
    of_pool = {"pool": pool_id, "listener": dns_id}
    assert found["octavia_pool_status"][frozenset({**of_pool, "state": "UP"}.items())] == 1
    assert found["octavia_member_status"][frozenset({**of_pool, "member": member_id, "state": "UP"}.items())] == 1
    assert found[total][frozenset(WEB.items())] == 0
    site.listeners = site.listeners[:2]
    site.push()
    assert eventually(lambda: label not in site.scrape()[total])


def test_numbers_are_those_of_real_requests(rig: Rig) -> None:
    site = Site(rig)
    site.push()
    before = site.scrape()
    for _ in range(7):
        assert get(site.vip) == "m1"
    after = site.scrape()

    def grew(name: str, **labels: str) -> float:
        at = frozenset(labels.items())
        return after[name][at] - before[name][at]

    assert grew("octavia_listener_connections_total", **WEB) == 7
    assert grew("octavia_listener_http_requests_total", **WEB) == 7
    assert grew("octavia_listener_http_responses_total", **WEB, code="2xx") == 7
    assert grew("octavia_pool_http_responses_total", **POOL, code="2xx") == 7
    assert grew("octavia_member_http_responses_total", **MEMBER, code="2xx") == 7
    assert grew("octavia_member_sessions_total", **MEMBER) == 7
    assert grew("octavia_pool_loadbalanced_total", **POOL) == 7
    stats = rig.beat(site.bundle.amphora_id, lambda b: b.listeners["web"].total_connections == 7).listeners
    assert after["octavia_listener_bytes_in_total"][frozenset(WEB.items())] == stats["web"].bytes_in
    assert after["octavia_listener_bytes_out_total"][frozenset(WEB.items())] == stats["web"].bytes_out
    assert set(stats) == {"web", "numbers"}
    assert stats["numbers"].status == "OPEN"
    assert stats["numbers"].total_connections >= 2
    assert grew("octavia_listener_http_requests_total", listener="numbers") == 1
    assert after["octavia_loadbalancer_listeners"][frozenset()] == 2
    assert 0 <= after["octavia_loadbalancer_cpu"][frozenset()] <= 100
    assert 0 < after["octavia_loadbalancer_memory"][frozenset()] < 100
    assert grew("octavia_loadbalancer_requests_total") >= 8


def test_names_are_octavias_and_tell_nothing_else(rig: Rig) -> None:
    site = Site(rig)
    site.push()
    found = site.scrape()
    assert {name.split("_")[1] for name in found} == {"loadbalancer", "memory", "listener", "pool", "member"}
    assert all(name.startswith("octavia_") for name in found)
    labels = {pair for samples in found.values() for labels in samples for pair in labels}
    ids = {(k, v) for k, v in labels if k not in ("state", "code")}
    assert ids == {("listener", "web"), ("listener", "numbers"), ("pool", "p1"), ("member", "m1")}
    text = site.ask()[2]
    assert not any(word in text.lower() for word in ("haproxy", "/run/", "socket", rig.net))


def test_status_is_told_by_state(rig: Rig) -> None:
    site = Site(rig)
    site.members = (site.member(1), site.member(2, port=81))
    site.monitors = (
        HealthMonitor(id="h", pool_id="p1", type=MonitorType.TCP, delay=1, timeout=1, max_retries=1, **COMMON),
    )  # fmt: skip
    site.push()
    eventually(lambda: site.value("octavia_member_status", **POOL, member="m2", state="DOWN") == 1)
    states = {dict(k)["state"]: v for k, v in site.scrape()["octavia_member_status"].items() if ("member", "m2") in k}
    assert states == {"UP": 0, "DOWN": 1, "MAINT": 0, "DRAIN": 0, "NOLB": 0}
    assert site.value("octavia_member_status", **MEMBER, state="UP") == 1
    assert site.value("octavia_pool_status", **POOL, state="UP") == 1
    assert site.value("octavia_listener_status", **WEB, state="UP") == 1
    assert site.value("octavia_pool_active_members", **POOL) == 1


def test_members_that_come_and_go_while_it_runs_are_told(rig: Rig) -> None:
    site = Site(rig)
    site.push()
    (pid,) = rig.processes(site.bundle.amphora_id)
    site.members = (site.member(2),)
    site.push()
    eventually(lambda: not any(("member", "m1") in k for k in site.scrape()["octavia_member_weight"]))
    assert site.value("octavia_member_weight", **POOL, member="m2") == 1
    site.members = tuple(replace(site.member(2), id=f"n{n}", protocol_port=1000 + n) for n in range(100))
    site.push()
    eventually(lambda: len(site.scrape()["octavia_member_weight"]) == 100)
    assert rig.processes(site.bundle.amphora_id) == [pid]


def test_requests_pass_while_a_large_answer_is_made(rig: Rig) -> None:
    site = Site(rig)
    idle = replace(site.pools[0], id="p2")
    other = replace(site.listeners[0], id="idle", protocol_port=81, default_pool_id="p2")
    site.pools, site.listeners = (*site.pools, idle), (*site.listeners, other)
    many = [replace(site.member(2), id=str(uuid.uuid4()), pool_id="p2", protocol_port=n) for n in range(1, 1001)]
    site.members = (site.member(1), *many)
    site.push()
    passed = 0
    with ThreadPoolExecutor() as scraper:
        for _ in range(3):
            scrape = scraper.submit(site.ask)
            while not scrape.done():
                assert get(site.vip) == "m1"
                passed += 1
            assert len(parse(scrape.result()[2])["octavia_member_weight"]) == 1001
    # Some 120 in all; 15 where the program yields and does not sleep.
    assert passed >= 30


def test_members_may_change_while_an_answer_is_made(rig: Rig) -> None:
    site = Site(rig)
    generations = [
        tuple(replace(site.member(2), id=f"{name}{n}", protocol_port=1000 + n) for n in range(300)) for name in "ab"
    ]
    site.members = generations[0]
    site.push()
    pushed = threading.Event()

    def scrape() -> list[dict[str, dict[frozenset[tuple[str, str]], float]]]:
        found = [site.scrape()]
        while not pushed.is_set():
            found.append(site.scrape())
        return found

    with ThreadPoolExecutor() as scraper:
        scrapes = [scraper.submit(scrape) for _ in range(2)]
        try:
            for turn in range(6):
                site.members = (*generations[turn % 2][: 300 - turn], site.member(1))
                site.push()
        finally:
            pushed.set()
    whole = {m.id for those in generations for m in those} | {"m1"}
    for found in (f for s in scrapes for f in s.result()):
        assert {dict(k)["member"] for k in found["octavia_member_weight"]} <= whole
        assert found["octavia_member_weight"].keys() == found["octavia_member_sessions_total"].keys()
        assert POOL.items() <= dict(next(iter(found["octavia_pool_status"]))).items()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("GET", "/metrics/", 404), ("GET", "/metrics2", 404), ("POST", "/", 404), ("HEAD", "/x", 404),
     ("POST", "/metrics", 405), ("PUT", "/metrics", 405), ("GET", "/metrics?x=;show%20info", 200),
     ("GET", "/metrics;", 404), ("GET", "//metrics", 404)],
)  # fmt: skip
def test_only_metrics_can_be_got(rig: Rig, method: str, path: str, status: int) -> None:
    site = Site(rig)
    site.push()
    assert site.ask(method, path)[0] == status


def test_it_survives_a_reload_under_scrapes(rig: Rig) -> None:
    site = Site(rig)
    site.push()
    for n in range(10):
        site.pools = (replace(site.pools[0], lb_algorithm=list(Algorithm)[n % 2]),)
        site.push()
        assert site.scrape()


def test_every_vip_answers(rig: Rig) -> None:
    site = Site(rig)
    second, third = rig.address(), f"{rig.net6}:77"
    site.vips = [site.vip, second, third]
    port = site.bundle.interfaces[0]
    vips = (*port.vips, f"{second}/32", f"{third}/128")
    site.bundle = replace(site.bundle, interfaces=(replace(port, vips=vips),))
    site.push()
    for vip in site.vips:
        assert eventually(lambda vip=vip: site.ask(host=vip)[0]) == 200


def test_only_those_who_are_allowed_get_it(rig: Rig) -> None:
    site = Site(rig, allowed_cidrs=("192.0.2.0/24",))
    site.push()
    with pytest.raises(OSError):
        site.ask()
    assert get(site.vip) == "m1"


def test_a_limit_of_connections_holds(rig: Rig) -> None:
    site = Site(rig, connection_limit=1)
    site.push()
    connection = http.client.HTTPConnection(site.vip, PORT, timeout=30)
    connection.request("GET", "/metrics")
    assert connection.getresponse().read()
    with pytest.raises(TimeoutError):
        second = http.client.HTTPConnection(site.vip, PORT, timeout=0.5)
        second.request("GET", "/metrics")
        second.getresponse()
    connection.close()


def test_it_speaks_tls_and_http_2(rig: Rig) -> None:
    alpn: Any = ("h2", "http/1.1")
    site = Site(rig, default_tls_container_ref="cert", alpn_protocols=alpn)
    site.push()
    context = ssl.create_default_context(cadata=CA.pem.decode())
    context.check_hostname = False
    connection = http.client.HTTPSConnection(site.vip, PORT, timeout=30, context=context)
    connection.request("GET", "/metrics")
    assert parse(connection.getresponse().read().decode())["octavia_loadbalancer_ssl_connections_total"]
    connection.close()
    words = ["curl", "-sk", "--http2", "-w", "%{http_version}", f"https://{site.vip}:{PORT}/metrics"]
    told = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout
    text, _, version = told.rpartition("\n")
    assert version == "2"
    assert parse(text + "\n")

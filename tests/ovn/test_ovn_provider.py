"""ovn-octavia-provider, unmodified, as far as it goes with an empty northbound database and without a Neutron.

It is loaded, configured, constructed and called; what it refuses by itself is refused through our API, and what it
reports by itself is written. Whatever needs its back end must end in a clear error with nothing left over.
"""

import re
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.driver_agent.programs import ROOT, Programs, within
from tests.ovn.northbound import Northbound
from tests.support import free_port

pytestmark = pytest.mark.ovn

CONFIGURATION = """
[api_settings]
bind_port = {port}
auth_strategy = noauth
enabled_provider_drivers = amphora: ours,ovn: of the package index
[driver_agent]
call_limit_s = 20
[ovn]
ovn_nb_connection = unix:NORTHBOUND
ovsdb_connection_timeout = 5
"""
NEUTRON = """
[neutron]
auth_type = password
auth_url = {url}/identity/v3
username = admin
password = {password}
project_name = admin
user_domain_id = default
project_domain_id = default
endpoint_override = {url}/network
"""


class Ovn(Programs):
    """The programs in an environment with the provider, and its database."""

    northbound: Northbound

    def balancer(self) -> str:
        """A load balancer of this provider, at rest. It was never the provider's: made as ours, then given to it, for
        making one takes a Neutron."""
        lb = self.ask("POST", "loadbalancers", {"loadbalancer": {"vip_subnet_id": self.subnet()}}, expect=201)
        id: str = lb["loadbalancer"]["id"]
        with closing(sqlite3.connect(self.state / "db" / "colonnade.sqlite", timeout=30)) as db, db:
            db.execute("UPDATE load_balancer SET provider = 'ovn', provisioning_status = 'ACTIVE' WHERE id = ?", [id])
            db.execute("UPDATE work SET due_at = NULL, settled_generation = generation WHERE subject = ?", [id])
        return id

    def rows(self) -> list[tuple[Any, ...]]:
        """All objects of all load balancers, and who is at work on one."""
        with closing(sqlite3.connect(self.state / "db" / "colonnade.sqlite", timeout=30)) as db:
            tables = ("load_balancer", "listener", "pool", "member", "health_monitor", "l7policy", "l7rule")
            found = [row for t in tables for row in db.execute(f"SELECT * FROM {t} ORDER BY id")]  # noqa: S608
            return found + list(db.execute("SELECT subject, owner FROM work WHERE owner IS NOT NULL"))


@pytest.fixture(scope="module")
def ovn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ovn]:
    made = subprocess.run(
        ["bash", "-c", ". deploy/machine.sh; environment ovn requirements-ovn.txt"],
        cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    place = tmp_path_factory.mktemp("ovn")
    configuration = CONFIGURATION.replace("NORTHBOUND", str(place / "nb.sock"))
    programs = Ovn(place / "state", free_port(), configuration, str(Path(made.stdout.strip()) / "bin" / "python"))
    programs.northbound = Northbound(place / "nb.sock")
    passwords = (programs.state / "secrets" / "passwords.env").read_text()
    password = re.search(r"^ADMIN_PASSWORD=(.*)$", passwords, re.MULTILINE)
    assert password
    with programs.file.open("a") as file:  # the small cloud is its Neutron
        file.write(NEUTRON.format(url=programs.url, password=password[1]))
    try:
        programs.start("driver-agent", "api")
        yield programs
    finally:
        programs.stop()
        programs.northbound.close()


def fault(ovn: Ovn, method: str, path: str, body: Any, status: int) -> str:
    """What the API says to a request that is refused; nothing is left over."""
    before = ovn.rows()
    said: str = ovn.ask(method, path, body, expect=status)["faultstring"]
    assert ovn.rows() == before
    return said


def test_it_is_listed_and_has_no_capabilities(ovn: Ovn) -> None:
    listed = ovn.ask("GET", "providers", expect=200)["providers"]
    assert {"name": "ovn", "description": "of the package index"} in listed
    for what in ("flavor", "availability_zone"):
        said = fault(ovn, "GET", f"providers/ovn/{what}_capabilities", None, 501)
        assert said.startswith("Provider 'ovn' does not support a requested action:")
    profile = {"flavorprofile": {"name": "p", "provider_name": "ovn", "flavor_data": '{"size": 1}'}}
    fault(ovn, "POST", "flavorprofiles", profile, 501)


def test_what_it_refuses_is_refused_with_its_words(ovn: Ovn) -> None:
    lb = ovn.balancer()
    pool = {"loadbalancer_id": lb, "protocol": "TCP", "lb_algorithm": "SOURCE_IP_PORT"}
    listener = {"loadbalancer_id": lb, "protocol": "TCP", "protocol_port": 80}
    for path, body, words in (
        ("listeners", {"listener": {**listener, "protocol": "HTTP"}}, "does not support HTTP protocol"),
        ("listeners", {"listener": {**listener, "allowed_cidrs": ["10.0.0.0/8"]}}, "allowed_cidrs"),
        ("pools", {"pool": {**pool, "protocol": "HTTP"}}, "does not support HTTP protocol"),
        ("pools", {"pool": {**pool, "lb_algorithm": "ROUND_ROBIN"}}, "does not support ROUND_ROBIN algorithm"),
    ):  # fmt: skip
        said = fault(ovn, "POST", path, body, 501)
        assert said.startswith("Provider 'ovn' does not support a requested option:")
        assert words in said
    assert "does not support loadbalancer failover" in fault(ovn, "PUT", f"loadbalancers/{lb}/failover", None, 501)


def test_it_asks_and_reports_through_the_driver_agent(ovn: Ovn) -> None:
    """Its own thread does not find the load balancer in its database; asks the driver agent for the VIP's port, removes
    it by the network API if it is its own, and reports the load balancer as deleted."""
    lb = ovn.balancer()
    ovn.ask("DELETE", f"loadbalancers/{lb}", expect=204)
    ovn.gone(f"loadbalancers/{lb}")
    assert ports(ovn, f"octavia-lb-{lb}") == []


def test_it_makes_the_vip_and_fails_at_its_database(ovn: Ovn) -> None:
    body = {"loadbalancer": {"vip_subnet_id": ovn.subnet(), "provider": "ovn"}}
    lb = ovn.ask("POST", "loadbalancers", body, expect=201)["loadbalancer"]
    (port,) = ports(ovn, f"ovn-lb-vip-{lb['id']}")
    assert (port["id"], port["fixed_ips"][0]["ip_address"]) == (lb["vip_port_id"], lb["vip_address"])
    shown = ovn.settled(lb["id"], "ERROR")
    assert shown["reason"] == "Provider ovn reports that it failed."
    assert ports(ovn, f"ovn-lb-vip-{lb['id']}") == []  # it has taken its port back itself


def ports(ovn: Ovn, name: str) -> Any:
    return requests.get(f"{ovn.url}/network/v2.0/ports?name={name}", timeout=30).json()["ports"]


def test_without_its_database_it_is_not_waited_for(ovn: Ovn) -> None:
    lb = ovn.balancer()
    ovn.northbound.close()
    body = {"listener": {"loadbalancer_id": lb, "protocol": "TCP", "protocol_port": 81}}
    said = within(100, lambda: fault(ovn, "POST", "listeners", body, 500))
    assert said == "Provider 'ovn' reports error: it was not ready within 20 s."
    ovn.ask("GET", f"loadbalancers/{lb}", expect=200)

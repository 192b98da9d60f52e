"""Networks: floating IPs, isolation, refusals, and a clean end."""

import os
import subprocess
from contextlib import closing
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path

import pytest
from rig import Rig, config, eventually, get, new_id, running, snapshot

from colonnade.agent import namespaces, rules
from colonnade.agent.processes import start_time
from colonnade.errors import Broken, Later


@pytest.fixture
def vip(rig: Rig) -> str:
    address = rig.address()
    rig.push(rig.bundle(rig.amphora(), address, config(address, servers={"m1": f"{rig.net}.0.10:80"})))
    return address


def ask_from(rig: Rig, member: str, address: str, seconds: int = 20) -> str:
    """The answer that a member's namespace gets, empty when it gets none."""
    enter = f"--net={namespaces.path(rig.here.prefix + member)}"
    words = ["nsenter", enter, "curl", "-sS", "--max-time", str(seconds), f"http://{address}/"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout


def test_a_floating_ip_leads_to_the_vip_until_it_is_taken_away(rig: Rig, vip: str) -> None:
    floating = f"{rig.net}.255.7"
    rig.client.put_fabric(replace(rig.fabric, floating_ips={floating: vip}))
    assert get(floating) == "m1"
    assert ask_from(rig, "m2", floating) == "m1"  # hairpin: the client is on the VIP's own subnet
    rig.client.put_fabric(rig.fabric)
    with pytest.raises(OSError):
        get(floating, timeout=2)


def test_an_unknown_floating_address_is_refused_not_sent_in_circles(rig: Rig) -> None:
    with pytest.raises(OSError) as refused:
        get(f"{rig.net}.255.99")  # the kernel says so once a second to each host, and others may have used that up
    assert "unreachable" in str(refused.value).lower() or "no route" in str(refused.value).lower()


def test_open_connections_end_with_their_floating_ip_and_no_others(rig: Rig, vip: str) -> None:
    gone, staying = (f"{rig.net}.255.{n}" for n in (11, 12))
    rig.client.put_fabric(replace(rig.fabric, floating_ips={gone: vip, staying: vip}))
    with closing(HTTPConnection(gone, timeout=20)) as one, closing(HTTPConnection(staying, timeout=20)) as other:
        assert (kept(one), kept(other)) == ("m1", "m1")
        rig.client.put_fabric(replace(rig.fabric, floating_ips={staying: vip}))
        one.sock.settimeout(2)
        with pytest.raises(OSError):
            kept(one)
        assert kept(other) == "m1"


def kept(connection: HTTPConnection) -> str:
    """An answer on a connection that stays open."""
    connection.request("GET", "/")
    return connection.getresponse().read().decode()


def test_groups_do_not_reach_one_another_but_by_floating_ip(rig: Rig, vip: str) -> None:
    rig.member("b1", rig.other, f"{rig.net}.1.10/24")
    floating = f"{rig.net}.255.8"
    rig.client.put_fabric(replace(rig.fabric, floating_ips={floating: vip}))
    assert ask_from(rig, "b1", vip, 2) == ""
    assert ask_from(rig, "b1", floating) == "m1"
    shared = tuple(replace(n, group="*") if n.id == rig.other else n for n in rig.fabric.networks)
    rig.client.put_fabric(replace(rig.fabric, networks=shared))
    assert ask_from(rig, "b1", vip, 2) == ""  # anybody may have a load balancer there
    shared = tuple(replace(n, group="*") if n.id == rig.front else n for n in rig.fabric.networks)
    rig.client.put_fabric(replace(rig.fabric, networks=shared))
    assert ask_from(rig, "b1", vip) == "m1"
    rig.client.put_fabric(rig.fabric)
    assert ask_from(rig, "b1", vip, 2) == ""


def test_an_amphora_on_two_networks_is_no_way_between_them(rig: Rig) -> None:
    amphora = rig.amphora()
    rig.push(rig.bundle(amphora, rig.address(), None))
    with namespaces.inside(rig.here.namespace(amphora)):
        settings = ("ipv4/ip_forward", "ipv6/conf/all/forwarding")
        forwards = [Path(f"/proc/sys/net/{s}").read_text().strip() for s in settings]
    assert forwards == ["0", "0"]


def test_nothing_is_forwarded_between_installations() -> None:
    text = rules.host("colonnade_a", "cln1up", [], guard=False)
    assert 'iifname "cln1up" oifname != "cln1up" oifname "cln*" drop' in text


def test_a_network_in_use_stays_and_an_unused_one_goes(rig: Rig) -> None:
    extra = rig.network(new_id(), "green", f"{rig.net}.2.0/24")
    digest = rig.client.put_fabric(replace(rig.fabric, networks=(*rig.fabric.networks, extra)))
    assert digest != rig.client.put_fabric(rig.fabric)
    with pytest.raises(Later, match="in use"):
        rig.client.put_fabric(replace(rig.fabric, networks=rig.fabric.networks[1:]))


def test_a_subnet_that_the_host_reaches_elsewhere_does_not_take_its_traffic_nor_block_others(rig: Rig) -> None:
    other = f"{rig.net}.9"
    subprocess.run(["ip", "route", "add", "unreachable", f"{other}.0/25"], check=True)
    try:
        taken = rig.network(new_id(), "green", f"{other}.0/24")
        free = rig.network(new_id(), "green", f"{rig.net}.3.0/24")
        rig.client.put_fabric(replace(rig.fabric, networks=(*rig.fabric.networks, taken, free)))
        routes = subprocess.run(["ip", "route"], check=True, capture_output=True, text=True).stdout
        assert f"{other}.0/24" not in routes
        assert f"{rig.net}.3.0/24" in routes
    finally:
        subprocess.run(["ip", "route", "del", "unreachable", f"{other}.0/25"], check=True)
        rig.client.put_fabric(rig.fabric)


def test_subnets_that_overlap_or_mean_the_uplink_are_refused(rig: Rig) -> None:
    uplink = rig.network(new_id(), "green", f"198.18.{rig.here.slot}.0/29")
    with pytest.raises(Broken, match="meaning of their own"):
        rig.client.put_fabric(replace(rig.fabric, networks=(*rig.fabric.networks, uplink)))
    twice = rig.network(new_id(), "green", f"{rig.net}.0.0/25")
    with pytest.raises(Broken, match="overlap"):
        rig.client.put_fabric(replace(rig.fabric, networks=(*rig.fabric.networks, twice)))


def test_the_fabric_comes_back_with_the_agent(rig: Rig, vip: str) -> None:
    floating = f"{rig.net}.255.9"
    digest = rig.client.put_fabric(replace(rig.fabric, floating_ips={floating: vip}))
    rig.stop()
    rig.start()
    assert rig.client._call(rig.url, "GET", "/v1/fabric") == {"digest": digest}
    assert get(floating) == "m1"
    rig.client.put_fabric(rig.fabric)


def test_teardown_leaves_nothing_and_a_later_start_brings_all_back(tmp_path: Path) -> None:
    with running(tmp_path) as rig:
        vip = rig.address()
        rig.member("m1", rig.front, f"{rig.net}.0.10/24")
        rig.push(rig.bundle(rig.amphora(), vip, config(vip, servers={"m1": f"{rig.net}.0.10:80"})))
        assert get(vip) == "m1"
        for _ in range(2):
            rig.teardown()
            assert ours(rig) == []
            assert not rig.here.run.exists()
        rig.members.clear()
        rig.start()
        rig.member("m1", rig.front, f"{rig.net}.0.10/24")
        assert eventually(lambda: get(vip)) == "m1"
    assert ours(rig) == []


def ours(rig: Rig) -> list[str]:
    """Whatever in the kernel still bears this installation's names or users."""
    seen = snapshot()
    words = (rig.here.prefix, rig.here.uplink, rig.here.table, f"{rig.net}.", f"198.18.{rig.here.slot}.")
    found = [f"{kind}: {w}" for kind, text in seen.items() for w in words if w in text]
    first = rig.here.uid(0)
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            uid = os.stat(directory).st_uid
        except FileNotFoundError:
            continue
        if first <= uid < first + 10000 and start_time(int(directory.name)):  # else only its exit status is left
            found.append(f"process {directory.name}")
    return found

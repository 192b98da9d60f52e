"""Rows about load balancers themselves, and about what serves them."""

import sqlite3
import string
from typing import Any

from standalone import bodies
from stock_rows import Row, Step, World
from support import eventually

FLAVOR = (
    Row("loadbalancer flavorprofile create --name fp --provider amphora --flavor-data "
        """'{"compute_flavor": "amphora"}'"""),
    Row("loadbalancer flavor create --name gold --flavorprofile fp", keep="gold"),
)  # fmt: skip
ZONE = (
    Row("loadbalancer availabilityzoneprofile create --name zp --provider amphora --availability-zone-data "
        """'{"compute_zone": "nova"}'"""),
    Row("loadbalancer availabilityzone create --name north --availabilityzoneprofile zp"),
)  # fmt: skip


def filtered(column: str, value: str) -> Any:
    """A list with a filter has what the same list without it has of this value, no more and no less."""

    def test(world: World, out: list[dict[str, Any]]) -> bool:
        everything = world.shown("loadbalancer list")
        return out == [r for r in everything if r[column] == value]

    return test


def ordered(*names: str) -> Any:
    """A list in this order."""
    return lambda _world, out: [r["name"] for r in out] == list(names)


def _vip(world: World) -> None:
    world.names["vip"] = world.shown("loadbalancer show two")["vip_port_id"]


LOAD_BALANCERS: list[Step] = [
    *FLAVOR,
    *ZONE,
    Row("port create port1 --network private", keep="port1"),
    Row(
        "loadbalancer create --name one --description first --vip-subnet-id private-subnet --vip-address ${net}.77 "
        "--project demo --provider amphora --availability-zone north --flavor gold --disable --tag red --tag blue "
        "--wait",
        "loadbalancer show one",
        {"name": "one", "description": "first", "vip_address": "${net}.77", "project_id": "${demo}",
         "provider": "amphora", "availability_zone": "north", "flavor_id": "${gold}", "admin_state_up": False,
         "tags": ["blue", "red"], "provisioning_status": "ACTIVE", "vip_subnet_id": "${private_subnet}",
         "operating_status": "OFFLINE"},
        keep="one",
    ),
    Row("loadbalancer create --name two --vip-network-id private --enable --no-tag",
        "loadbalancer show two",
        {"vip_network_id": "${private}", "admin_state_up": True, "vip_subnet_id": "${private_subnet}",
         "provisioning_status": "ACTIVE", "operating_status": "ONLINE"}),
    Row("loadbalancer create --name three --vip-port-id port1 --tag blue", "loadbalancer show three",
        {"vip_port_id": "${port1}", "provisioning_status": "ACTIVE", "vip_vnic_type": "normal", "tags": ["blue"]},
        keep="three"),
    Row("loadbalancer show $three", shows={"name": "three"}),
    _vip,
    # Lists
    Row("loadbalancer list", shows=["one", "two", "three"]),
    Row("loadbalancer list --name one", shows=["one"]),
    Row("loadbalancer list --enable", shows=["two", "three"]),
    Row("loadbalancer list --disable", shows=["one"]),
    Row("loadbalancer list --project demo", shows=["one"]),
    Row("loadbalancer list --vip-network-id private", shows=["one", "two", "three"]),
    Row("loadbalancer list --vip-network-id public", shows=[]),
    Row("loadbalancer list --vip-subnet-id private-subnet", shows=["one", "two", "three"]),
    Row("loadbalancer list --vip-subnet-id public-subnet", shows=[]),
    Row("loadbalancer list --vip-port-id port1", shows=["three"]),
    Row("loadbalancer list --vip-port-id $vip", shows=["two"]),
    Row("loadbalancer list --provider amphora", shows=["one", "two", "three"]),
    Row("loadbalancer list --provider nosuch", shows=[]),
    Row("loadbalancer list --flavor gold", shows=["one"]),
    Row("loadbalancer list --availability-zone north", shows=["one"]),
    Row("loadbalancer list --tags red,blue", shows=["one"]),
    Row("loadbalancer list --any-tags red,blue", shows=["one", "three"]),
    Row("loadbalancer list --not-tags red,blue", shows=["two", "three"]),
    Row("loadbalancer list --not-any-tags red,blue", shows=["two"]),
    *(Row(f"loadbalancer list --provisioning-status {s}", shows=filtered("provisioning_status", s))
      for s in ("ACTIVE", "ERROR", "PENDING_CREATE", "PENDING_UPDATE", "PENDING_DELETE")),
    *(Row(f"loadbalancer list --operating-status {s}", shows=filtered("operating_status", s))
      for s in ("ONLINE", "DRAINING", "OFFLINE", "DEGRADED", "ERROR", "NO_MONITOR")),
    Row("loadbalancer list --sort-column name --sort-ascending", shows=ordered("one", "three", "two")),
    Row("loadbalancer list --sort-column name --sort-descending", shows=ordered("two", "three", "one")),
    # Changes
    Row("loadbalancer set one --name uno --description second --enable --tag green --wait", "loadbalancer show uno",
        {"id": "${one}", "description": "second", "admin_state_up": True, "tags": ["blue", "green", "red"],
         "provisioning_status": "ACTIVE"}),
    Row("loadbalancer set uno --tag black --no-tag", "loadbalancer show uno", {"tags": ["black"]}),
    Row("loadbalancer set uno --disable --vip-qos-policy-id none", "loadbalancer show uno",
        {"admin_state_up": False, "vip_qos_policy_id": None}),
    Row("loadbalancer unset uno --name --description --tag black --wait", "loadbalancer show $one",
        {"name": "", "description": "", "tags": [], "provisioning_status": "ACTIVE"}),
    Row("loadbalancer set $one --tag a --tag b", "loadbalancer show $one", {"tags": ["a", "b"]}),
    Row("loadbalancer unset $one --all-tag", "loadbalancer show $one", {"tags": []}),
    # Security groups, QoS policies, more addresses
    Row("network qos policy create q", keep="q"),
    Row("security group create sg", keep="sg"),
    Row("subnet create --network private --subnet-range 2001:db8:7777::/64 --ip-version 6 --no-dhcp six", keep="six"),
    Row("loadbalancer create --name four --vip-subnet-id private-subnet --vip-qos-policy-id q --wait",
        "loadbalancer show four", {"vip_qos_policy_id": "${q}"}),
    Row("loadbalancer create --name five --vip-subnet-id private-subnet --vip-sg-id sg --wait",
        "loadbalancer show five", {"vip_sg_ids": ["${sg}"]}),
    Row("loadbalancer create --name six --vip-subnet-id private-subnet --additional-vip subnet-id=six --wait",
        "loadbalancer show six", lambda w, out: [v["subnet_id"] for v in out["additional_vips"]] == [w.names["six"]]),
    Row("loadbalancer create --name seven --vip-subnet-id private-subnet --additional-vip "
        "subnet-id=six,ip-address=2001:db8:7777::99 --wait",
        "loadbalancer show seven", lambda _, out: out["additional_vips"][0]["ip_address"] == "2001:db8:7777::99"),
    Row("loadbalancer list --vip-qos-policy-id q", shows=["four"]),
    Row("loadbalancer set two --vip-qos-policy-id q", "loadbalancer show two", {"vip_qos_policy_id": "${q}"}),
    Row("loadbalancer set two --vip-sg-id sg", "loadbalancer show two", {"vip_sg_ids": ["${sg}"]}),
    Row("loadbalancer unset two --vip-qos-policy-id --vip-sg-id", "loadbalancer show two",
        {"vip_qos_policy_id": None, "vip_sg_ids": []}),
    # Refusals
    Row("loadbalancer create --name x", says="Missing required argument"),
    Row("loadbalancer create --name x --vip-subnet-id nosuch", says="Unable to locate nosuch in subnets"),
    Row("loadbalancer create --name x --vip-subnet-id private-subnet --provider nosuch",
        says="Provider 'nosuch' is not enabled."),
    Row("loadbalancer create --name x --vip-subnet-id private-subnet --flavor nosuch",
        says="Unable to locate nosuch in flavors"),
    Row("loadbalancer create --name x --vip-subnet-id private-subnet --vip-address 192.0.2.1", says="(HTTP 400)"),
    Row("loadbalancer show nosuch", says="Unable to locate nosuch in loadbalancers"),
    Row("loadbalancer create --name twin --vip-subnet-id private-subnet", keep="twin"),
    Row("loadbalancer create --name twin --vip-subnet-id private-subnet"),
    Row("loadbalancer show twin", says="2 loadbalancers found with name or ID of twin. Please try again with UUID"),
    Row("loadbalancer listener create --name l --protocol HTTP --protocol-port 80 three"),
    Row("loadbalancer delete three", says="(HTTP 400)"),
    Row("loadbalancer delete three --cascade --wait", "loadbalancer show three", gone=True),
    Row("loadbalancer listener list", shows=[]),
    Row("loadbalancer delete two", "loadbalancer show two", gone=True),
    Row("loadbalancer delete $one --wait", "loadbalancer show $one", gone=True),
    *(Row(f"loadbalancer delete {name} --cascade --wait", f"loadbalancer show {name}", gone=True)
      for name in ("four", "five", "six", "seven")),
    Row("network qos policy delete q"),
    Row("security group delete sg"),
    Row("subnet delete six"),
    Row("port show $port1", shows={"name": "port1", "device_id": ""}),
    Row("port delete port1"),
    Row("loadbalancer flavor delete gold"),
    Row("loadbalancer flavorprofile delete fp"),
    Row("loadbalancer availabilityzone delete north"),
    Row("loadbalancer availabilityzoneprofile delete zp"),
]  # fmt: skip


def _members(world: World) -> None:
    for n, address in enumerate(world.standalone.members):
        world.shown(f"loadbalancer member create --name m{n} --address {address} --protocol-port 80 pool --wait")
    world.names["address"] = world.shown("loadbalancer show lb")["vip_address"]
    eventually(lambda: len(bodies(world.names["address"])) == 2)


def _serves(world: World) -> None:
    eventually(lambda: None not in bodies(world.names["address"]))


def _amphora(world: World) -> None:
    """The load balancer's amphora, which is another one than before."""
    (row,) = eventually(lambda: _allocated(world))
    assert row["id"] != world.names.get("amphora")
    world.names["amphora"] = row["id"]


def _allocated(world: World) -> Any:
    found = world.shown("loadbalancer amphora list --loadbalancer lb --status ALLOCATED")
    return found if len(found) == 1 else None


def _broken(world: World) -> None:
    """Only an amphora that is broken may be deleted; ours do not break by themselves."""
    with sqlite3.connect(world.standalone.state / "db" / "colonnade.sqlite", timeout=10) as conn:
        conn.execute("UPDATE amphora SET status = 'ERROR' WHERE id = ?", (world.names["amphora"],))


def _counted(_world: World, out: dict[str, int]) -> bool:
    return out["total_connections"] > 0 and out["bytes_in"] > 0 and out["bytes_out"] > 0


def _nothing_counted(_world: World, out: dict[str, int]) -> bool:
    return set(out.values()) == {0}


def _whole_tree(world: World, out: dict[str, Any]) -> bool:
    lb = out["loadbalancer"]
    (listener, _idle) = sorted(lb["listeners"], key=lambda v: str(v["name"]), reverse=True)
    (pool,) = listener["pools"]
    assert (lb["name"], listener["name"], pool["name"]) == ("lb", "web", "pool")
    assert sorted(m["address"] for m in pool["members"]) == sorted(world.standalone.members)
    assert {m["operating_status"] for m in pool["members"]} == {"ONLINE"}
    return bool(pool["health_monitor"]["type"] == "HTTP")


def _served_amphora(world: World, out: dict[str, Any]) -> bool:
    (image,) = world.shown("image list")
    assert (out["image_id"], out["status"], out["role"]) == (image["ID"], "ALLOCATED", "STANDALONE")
    assert out["compute_id"] in {s["ID"] for s in world.shown("server list --all")}
    return bool(out["vrrp_ip"])


def amphorae(column: str, value: str) -> Any:
    """An amphora list with a filter."""

    def test(world: World, out: list[dict[str, Any]]) -> bool:
        everything, wanted = world.shown("loadbalancer amphora list --long"), string.Template(value)
        same = [r["id"] for r in everything if r[column] == wanted.substitute(world.names)]
        return [r["id"] for r in out] == same

    return test


SERVING: list[Step] = [
    Row("loadbalancer create --name lb --vip-subnet-id private-subnet --wait", keep="lb"),
    Row("loadbalancer listener create --name web --protocol HTTP --protocol-port 80 lb --wait"),
    Row("loadbalancer listener create --name idle --protocol TCP --protocol-port 81 lb --wait"),
    Row("loadbalancer pool create --name pool --protocol HTTP --lb-algorithm ROUND_ROBIN --listener web --wait"),
    _members,
    Row("loadbalancer healthmonitor create --type HTTP --delay 1 --timeout 1 --max-retries 1 "
        "--url-path /healthcheck pool --wait"),
    _serves,
    Row("loadbalancer status show lb", "loadbalancer status show lb", _whole_tree),
    Row("loadbalancer stats show lb", "loadbalancer stats show lb", _counted),
    Row("loadbalancer listener stats show web", "loadbalancer listener stats show web", _counted),
    Row("loadbalancer listener stats show idle", shows=_nothing_counted),
    _amphora,
    Row("loadbalancer amphora list", shows=amphorae("loadbalancer_id", "$lb")),
    Row("loadbalancer amphora stats show $amphora", shows=_counted),
    Row("loadbalancer amphora stats show $amphora --listener web", shows=_counted),
    Row("loadbalancer amphora stats show $amphora --listener idle", shows=_nothing_counted),
    Row("loadbalancer amphora show $amphora", shows=_served_amphora),
    Row("loadbalancer amphora show nosuch", says="not found"),
    Row("loadbalancer amphora configure $amphora --wait", "loadbalancer show lb", {"provisioning_status": "ACTIVE"}),
    _serves,
    Row("loadbalancer amphora failover $amphora --wait", "loadbalancer show lb", {"provisioning_status": "ACTIVE"}),
    _amphora,
    _serves,
    Row("loadbalancer failover lb --wait", "loadbalancer show lb", {"provisioning_status": "ACTIVE"}),
    _amphora,
    _serves,
    Row("loadbalancer amphora delete $amphora", says="immutable"),
    _broken,
    Row("loadbalancer amphora delete $amphora --wait", "loadbalancer amphora show $amphora", gone=True),
    _amphora,
    _serves,
    Row("loadbalancer create --name other --vip-subnet-id private-subnet --wait"),
    Row("loadbalancer amphora list --loadbalancer lb", shows=amphorae("id", "$amphora")),
    Row("loadbalancer amphora list --long --compute-id $amphora", shows=amphorae("compute_id", "$amphora")),
    Row("loadbalancer amphora list --image-id nosuch", shows=amphorae("image_id", "nosuch")),
    *(Row(f"loadbalancer amphora list --role {r}", shows=amphorae("role", r))
      for r in ("STANDALONE", "MASTER", "BACKUP")),
    *(Row(f"loadbalancer amphora list --status {s}", shows=amphorae("status", s))
      for s in ("ALLOCATED", "BOOTING", "DELETED", "ERROR", "FAILOVER_STOPPED", "PENDING_CREATE", "PENDING_DELETE",
                "READY")),
    Row("loadbalancer amphora list --provisioning-status ALLOCATED", shows=amphorae("status", "ALLOCATED")),
    Row("loadbalancer amphora list --long --sort-column id --sort-ascending",
        shows=lambda _, out: len(out) == 2 and [r["id"] for r in out] == sorted(r["id"] for r in out)),
    Row("loadbalancer amphora list --long --sort-column id --sort-descending",
        shows=lambda _, out: [r["id"] for r in out] == sorted((r["id"] for r in out), reverse=True)),
    Row("loadbalancer delete lb", says="(HTTP 400)"),
    Row("loadbalancer delete lb --cascade --wait", "loadbalancer show lb", gone=True),
]  # fmt: skip

"""Rows about quotas, providers, flavors, availability zones and their profiles."""

from typing import Any

from stock_balancers import ordered
from stock_rows import Row, Step, World

_KINDS = ("load_balancer", "listener", "pool", "health_monitor", "member", "l7policy", "l7rule")
_NONE = dict.fromkeys(_KINDS, -1)


def _numbers(first: int) -> dict[str, Any]:
    return {kind: first + n for n, kind in enumerate(_KINDS)}


def _quotas(*names: str) -> Any:
    """Quotas of these projects."""
    return lambda world, out: [r["project_id"] for r in out] == sorted(world.names[n] for n in names)


def _sorted_lists(command: str, column: str) -> list[Row]:
    """The list both ways."""
    return [
        Row(f"loadbalancer {command} --sort-column {column} --sort-{way}",
            shows=lambda _, out, way=way: len(out) > 1 and [r[column] for r in out]
            == sorted((r[column] for r in out), reverse=way == "descending"))
        for way in ("ascending", "descending")
    ]  # fmt: skip


def _called(*wanted: str) -> Any:
    return lambda _world, out: set(wanted) <= {r["name"] for r in out}


def _of_type(wanted: str) -> Any:
    return lambda _world, out: bool(out) and {r["type"] for r in out} == {wanted}


QUOTAS: list[Step] = [
    Row("project create red", keep="red"),
    Row("loadbalancer quota defaults show", shows=_NONE),
    Row("loadbalancer quota show red", shows=_NONE),
    Row("loadbalancer quota set red --loadbalancer 1 --listener 2 --pool 3 --healthmonitor 4 --member 5 --l7policy 6 "
        "--l7rule 7",
        "loadbalancer quota show $red", _numbers(1)),
    Row("loadbalancer quota set demo --pool 9", "loadbalancer quota show demo", {**_NONE, "pool": 9}),
    Row("loadbalancer quota list",
        shows=lambda w, out: {w.names["red"], w.names["demo"]} <= {r["project_id"] for r in out}),
    *_sorted_lists("quota list", "project_id"),
    Row("loadbalancer quota list --project red", shows=_quotas("red")),
    Row("loadbalancer quota list --project $demo", shows=_quotas("demo")),
    Row("loadbalancer create --name one --project red --vip-subnet-id private-subnet"),
    Row("loadbalancer create --name two --project red --vip-subnet-id private-subnet",
        says="Quota has been met for resources: Load Balancer (HTTP 403)"),
    Row("loadbalancer delete one --wait", "loadbalancer show one", gone=True),
    Row("loadbalancer quota unset red --loadbalancer --listener --pool --member", "loadbalancer quota show red",
        {**_numbers(1), "load_balancer": -1, "listener": -1, "pool": -1, "member": -1}),
    Row("loadbalancer quota unset red --healthmonitor --l7policy --l7rule", "loadbalancer quota show red", _NONE),
    Row("loadbalancer quota set red --pool many", says="many"),
    Row("loadbalancer quota set red", says="Missing required argument"),
    Row("loadbalancer quota set red --pool -2", says="(HTTP 400)"),
    Row("loadbalancer quota set red --pool 4"),
    Row("loadbalancer quota reset red", "loadbalancer quota show red", _NONE),
    Row("loadbalancer quota reset demo", "loadbalancer quota show demo", _NONE),
    Row("project delete red"),
]  # fmt: skip

PROVIDERS: list[Step] = [
    Row("loadbalancer provider list", shows=_called("amphora", "octavia")),
    *_sorted_lists("provider list", "name"),
    Row("loadbalancer provider capability list amphora", shows=_called("loadbalancer_topology", "compute_zone")),
    Row("loadbalancer provider capability list amphora --flavor", shows=_of_type("flavor")),
    Row("loadbalancer provider capability list amphora --availability-zone", shows=_of_type("availability_zone")),
    *_sorted_lists("provider capability list amphora", "name"),
    Row("loadbalancer provider capability list nosuch", says="Provider 'nosuch' is not enabled. (HTTP 400)"),
]  # fmt: skip


def _gold(world: World, out: dict[str, Any]) -> bool:
    """The amphora is of what the flavor and the zone say."""
    (amphora,) = world.shown("loadbalancer amphora list --loadbalancer lb")
    shown = world.shown(f"loadbalancer amphora show {amphora['id']}")
    assert (shown["compute_flavor"], shown["cached_zone"], shown["role"]) == ("amphora", "nova", "STANDALONE")
    return bool((out["flavor_id"], out["availability_zone"]) == (world.names["gold"], "north"))


_FLAVOR_DATA = '{"loadbalancer_topology": "SINGLE", "compute_flavor": "amphora", "amp_image_tag": "amphora"}'
_ZONE_DATA = '{"compute_zone": "nova"}'
FLAVORS: list[Step] = [
    Row("loadbalancer flavorprofile create --name fp --provider amphora --flavor-data '{}'",
        "loadbalancer flavorprofile show fp", {"name": "fp", "provider_name": "amphora", "flavor_data": "{}"},
        keep="fp"),
    Row("loadbalancer flavorprofile create --name fq --provider octavia --flavor-data '{}'", keep="fq"),
    Row(f"loadbalancer flavorprofile set fp --name fr --provider amphora --flavor-data '{_FLAVOR_DATA}'",
        "loadbalancer flavorprofile show $fp", {"name": "fr", "flavor_data": _FLAVOR_DATA}),
    Row("loadbalancer flavorprofile list", shows=["fr", "fq"]),
    Row("loadbalancer flavorprofile list --name fr", shows=["fr"]),
    Row("loadbalancer flavorprofile list --provider octavia", shows=["fq"]),
    Row("loadbalancer flavorprofile list --sort-column name --sort-ascending", shows=ordered("fq", "fr")),
    Row("loadbalancer flavorprofile list --sort-column name --sort-descending", shows=ordered("fr", "fq")),
    Row("loadbalancer flavor create --name gold --flavorprofile fr --description d --disable",
        "loadbalancer flavor show gold",
        {"description": "d", "enabled": False, "flavor_profile_id": "${fp}"}, keep="gold"),
    Row("loadbalancer flavor create --name lead --flavorprofile fq --enable", "loadbalancer flavor show lead",
        {"enabled": True, "description": ""}),
    Row("loadbalancer flavor list", shows=["gold", "lead"]),
    Row("loadbalancer flavor list --name gold", shows=["gold"]),
    Row("loadbalancer flavor list --flavorprofile fq", shows=["lead"]),
    Row("loadbalancer flavor list --enable", shows=["lead"]),
    Row("loadbalancer flavor list --disable", shows=["gold"]),
    Row("loadbalancer flavor list --sort-column name --sort-ascending", shows=ordered("gold", "lead")),
    Row("loadbalancer flavor list --sort-column name --sort-descending", shows=ordered("lead", "gold")),
    Row("loadbalancer flavor set gold --name aurum --description e --enable", "loadbalancer flavor show $gold",
        {"name": "aurum", "description": "e", "enabled": True}),
    Row("loadbalancer flavor unset aurum --description", "loadbalancer flavor show aurum", {"description": ""}),
    Row("loadbalancer flavor set lead --disable", "loadbalancer flavor show lead", {"enabled": False}),
    Row("loadbalancer create --name x --vip-subnet-id private-subnet --flavor lead", says="(HTTP 400)"),
    Row("loadbalancer flavorprofile create --name x --provider amphora --flavor-data '{\"compute_flavor\": \"huge\"}'",
        says="Compute flavor huge not found"),
    Row("loadbalancer flavorprofile create --name x --provider nosuch --flavor-data '{}'", says="(HTTP 400)"),
    # Zones
    Row("loadbalancer availabilityzoneprofile create --name zp --provider amphora --availability-zone-data '{}'",
        "loadbalancer availabilityzoneprofile show zp", {"provider_name": "amphora", "availability_zone_data": "{}"},
        keep="zp"),
    Row("loadbalancer availabilityzoneprofile create --name zq --provider octavia --availability-zone-data '{}'"),
    Row("loadbalancer availabilityzoneprofile set zp --name zr --provider amphora --availability-zone-data "
        f"'{_ZONE_DATA}'",
        "loadbalancer availabilityzoneprofile show $zp", {"name": "zr", "availability_zone_data": _ZONE_DATA}),
    Row("loadbalancer availabilityzoneprofile list", shows=["zr", "zq"]),
    Row("loadbalancer availabilityzoneprofile list --name zr", shows=["zr"]),
    Row("loadbalancer availabilityzoneprofile list --provider octavia", shows=["zq"]),
    Row("loadbalancer availabilityzoneprofile list --sort-column name --sort-ascending", shows=ordered("zq", "zr")),
    Row("loadbalancer availabilityzoneprofile list --sort-column name --sort-descending", shows=ordered("zr", "zq")),
    Row("loadbalancer availabilityzone create --name north --availabilityzoneprofile zr --description d --disable",
        "loadbalancer availabilityzone show north",
        {"description": "d", "enabled": False, "availability_zone_profile_id": "${zp}"}),
    Row("loadbalancer availabilityzone create --name south --availabilityzoneprofile zq --enable",
        "loadbalancer availabilityzone show south", {"enabled": True, "description": ""}),
    Row("loadbalancer availabilityzone list", shows=["north", "south"]),
    Row("loadbalancer availabilityzone list --name north", shows=["north"]),
    Row("loadbalancer availabilityzone list --availabilityzoneprofile zq", shows=["south"]),
    Row("loadbalancer availabilityzone list --enable", shows=["south"]),
    Row("loadbalancer availabilityzone list --disable", shows=["north"]),
    Row("loadbalancer availabilityzone list --sort-column name --sort-ascending", shows=ordered("north", "south")),
    Row("loadbalancer availabilityzone list --sort-column name --sort-descending", shows=ordered("south", "north")),
    Row("loadbalancer availabilityzone set north --description e --enable", "loadbalancer availabilityzone show north",
        {"description": "e", "enabled": True}),
    Row("loadbalancer availabilityzone unset north --description", "loadbalancer availabilityzone show north",
        {"description": ""}),
    Row("loadbalancer availabilityzone set south --disable", "loadbalancer availabilityzone show south",
        {"enabled": False}),
    # What they do
    Row("loadbalancer create --name lb --vip-subnet-id private-subnet --flavor aurum --availability-zone north --wait",
        "loadbalancer show lb", _gold),
    Row("loadbalancer flavor delete aurum", says="in use"),
    Row("loadbalancer flavorprofile delete fr", says="in use"),
    Row("loadbalancer availabilityzone delete north", says="in use"),
    Row("loadbalancer availabilityzoneprofile delete zr", says="in use"),
    Row("loadbalancer delete lb --wait", "loadbalancer show lb", gone=True),
    *(Row(f"loadbalancer {kind} delete {name}", f"loadbalancer {kind} show {name}", gone=True)
      for kind, names in (("flavor", "aurum lead"), ("flavorprofile", "fr fq"), ("availabilityzone", "north south"),
                          ("availabilityzoneprofile", "zr zq")) for name in names.split()),
]  # fmt: skip

"""nftables: what the fabric and the host let through and translate. Pure text, and one function that loads it."""

import json
import subprocess
from collections.abc import Iterable

from colonnade.agent import namespaces
from colonnade.agent.netlink import Subnet
from colonnade.agent.refused import Refused
from colonnade.wire import Fabric


def fabric(want: Fabric, bridges: dict[str, str], subnets: Iterable[Subnet]) -> str:
    """The fabric's table: floating IPs, hairpins, and who may reach whom. ``bridges``: network id -> bridge.

    A shared network is reached by all and reaches no project's own: every project may have load balancers on it.
    """
    inside = list(subnets)
    groups = sorted({n.group for n in want.networks if not n.external})
    group_of = {bridges[n.id]: groups.index(n.group) + 1 for n in want.networks if not n.external}
    everyone = [bridges[n.id] for n in want.networks if not n.external and n.group == "*"]
    four = {a: b for a, b in want.floating_ips.items() if ":" not in a}
    six = {a: b for a, b in want.floating_ips.items() if ":" in a}
    return f"""table inet colonnade
delete table inet colonnade
table inet colonnade {{
  map floating4 {{ type ipv4_addr : ipv4_addr; {elements(f"{a} : {b}" for a, b in four.items())} }}
  map floating6 {{ type ipv6_addr : ipv6_addr; {elements(f"{a} : {b}" for a, b in six.items())} }}
  set inside4 {{ type ipv4_addr; flags interval; {elements(str(s) for s in inside if s.version == 4)} }}
  set inside6 {{ type ipv6_addr; flags interval; {elements(str(s) for s in inside if s.version == 6)} }}
  map group_of {{ type ifname : mark; {elements(f'"{b}" : {g}' for b, g in group_of.items())} }}
  set same_group {{ type ifname . mark; {elements(f'"{b}" . {g}' for b, g in group_of.items())} }}
  set everyone {{ type ifname; {elements(f'"{b}"' for b in everyone)} }}
  chain prerouting {{
    type nat hook prerouting priority dstnat;
    dnat ip to ip daddr map @floating4
    dnat ip6 to ip6 daddr map @floating6
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat;
    ip saddr @inside4 ct status dnat masquerade
    ip6 saddr @inside6 ct status dnat masquerade
  }}
  chain forward {{
    type filter hook forward priority filter; policy drop;
    ct state established,related accept
    ct status dnat accept
    iifname "uplink" accept
    oifname "uplink" accept
    oifname @everyone accept
    meta mark set iifname map @group_of
    oifname . meta mark @same_group accept
    reject with icmpx admin-prohibited
  }}
}}
"""


def host(table: str, uplink: str, subnets: Iterable[Subnet], *, guard: bool) -> str:
    """The host's table: our subnets leave the machine with its address.

    ``guard``: this machine forwarded nothing before us, so it goes on forwarding nothing that is not ours. Between
    installations nothing is forwarded: their tenants have nothing to do with one another.
    """
    ours = list(subnets)
    guarding = 'iifname != "cln*" oifname != "cln*" drop' if guard else ""
    return f"""table inet {table}
delete table inet {table}
table inet {table} {{
  set inside4 {{ type ipv4_addr; flags interval; {elements(str(s) for s in ours if s.version == 4)} }}
  set inside6 {{ type ipv6_addr; flags interval; {elements(str(s) for s in ours if s.version == 6)} }}
  chain postrouting {{
    type nat hook postrouting priority srcnat;
    iifname "{uplink}" oifname != "cln*" ip saddr @inside4 masquerade
    iifname "{uplink}" oifname != "cln*" ip6 saddr @inside6 masquerade
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    iifname "{uplink}" oifname != "{uplink}" oifname "cln*" drop
    {guarding}
  }}
}}
"""


def load(text: str, namespace: str | None) -> None:
    """Load the rules in one transaction. Raises Refused with nft's own words."""
    with namespaces.inside(namespace):
        done = subprocess.run(["nft", "-f", "-"], input=text, text=True, capture_output=True, timeout=30, check=False)
    if done.returncode:
        raise Refused(500, f"nft refused the rules: {done.stderr.strip().splitlines()[0]}", "See the agent's log.")


def names(table: str, namespace: str) -> list[tuple[str, str]] | None:
    """Kind and name of all that is in the namespace's table, rules apart; None when there is no table."""
    with namespaces.inside(namespace):
        words = ["nft", "-j", "-t", "list", "table", "inet", table]
        done = subprocess.run(words, capture_output=True, timeout=30, check=False)
    if done.returncode:
        return None
    found = json.loads(done.stdout)["nftables"]
    kinds = ("chain", "set", "map", "counter", "ct timeout")
    return [(kind, item[kind]["name"]) for item in found for kind in kinds if kind in item]


def remove(table: str) -> None:
    """Remove the host's table; gone already is success."""
    load(f"table inet {table}\ndelete table inet {table}\n", None)


def dropping() -> list[str]:
    """Chains of the host, not ours, that drop what is forwarded unless a rule of theirs lets it through."""
    done = subprocess.run(["nft", "-j", "list", "chains"], capture_output=True, timeout=30, check=False)
    chains = [item["chain"] for item in json.loads(done.stdout or b"{}").get("nftables", []) if "chain" in item]
    return [
        f"{c['family']} {c['table']} {c['name']}"
        for c in chains
        if c.get("hook") == "forward" and c.get("policy") == "drop" and not c["table"].startswith("colonnade")
    ]


def elements(words: Iterable[str]) -> str:
    """The elements of a set or map; nothing when there are none."""
    text = ", ".join(words)
    return f"elements = {{ {text} }};" if text else ""

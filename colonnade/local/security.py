"""Security groups and their rules: who may reach the VIPs that are in a group. All rules let in; none keeps out."""

from ipaddress import ip_network
from typing import Any, ClassVar

from sqlalchemy import ColumnElement, Connection, String, cast, delete, insert, select

from colonnade.core.traffic import admission, number
from colonnade.local.attributes import COMMON, Attribute, integer, only, optional, tags, text
from colonnade.local.faults import (
    InvalidInput,
    SecurityGroupInUse,
    SecurityGroupNotFound,
    SecurityGroupRuleExists,
    SecurityGroupRuleNotFound,
)
from colonnade.local.kinds import Kind, change, find, may_change, new_row, shared_fields
from colonnade.local.listing import Collection, tests_of_tags
from colonnade.model import Caller, foreign
from colonnade.store import events, work
from colonnade.store.local_tables import local_security_group, local_security_rule
from colonnade.store.tables import load_balancer
from colonnade.types import Json
from colonnade.wire import ICMP, ICMP6, WITH_PORTS

_MOST_RULES = 500  # of one group
_COMMON_KEYS = frozenset(
    {"id", "project_id", "tenant_id", "description", "tags", "created_at", "updated_at", "revision_number"}
)


def users(conn: Connection, group_id: str) -> list[Any]:
    """Load balancers (id, project, provider) whose VIPs are in the group."""
    holds = cast(load_balancer.c.vip_sg_ids, String).contains(group_id)
    c = load_balancer.c
    return list(conn.execute(select(c.id, c.project_id, c.provider).where(holds)))


def tell(conn: Connection, found: list[Any], now: float, sentence: str) -> None:
    """Have these load balancers looked at, and their owners told why. Third parties' providers see to it themselves."""
    found = [lb for lb in found if not foreign(lb.provider)]
    for lb in found:
        work.touch(conn, lb.id, now)
    for lb in found:
        events.add(conn, lb.id, lb.project_id, now, "asked", ("loadbalancer", lb.id), sentence)


class SecurityGroups(Kind):
    """Neutron's security groups."""

    singular = "security_group"
    title = "Security group"
    path = "security-groups"
    table = local_security_group
    not_found = SecurityGroupNotFound
    attributes: ClassVar = {
        **{k: v for k, v in COMMON.items() if k != "admin_state_up"},
        "stateful": Attribute(only((True,), "answers to what is let in always pass.")),
        "tags": Attribute(tags, put=False),
    }
    collection = Collection(
        plural="security_groups",
        keys=_COMMON_KEYS | {"name", "stateful", "shared", "security_group_rules"},
        tests=tests_of_tags(),
    )

    def items(self, conn: Connection, caller: Caller, where: list[ColumnElement[bool]]) -> list[Json]:
        table = local_security_group
        mine = [] if caller.is_admin else [table.c.project_id == caller.project_id]
        rows = conn.execute(select(table).where(*mine, *where).order_by(table.c.created_at, table.c.id)).all()
        rules: dict[str, list[Json]] = {r.id: [] for r in rows}
        rule = local_security_rule
        of = select(rule).where(rule.c.security_group_id.in_(rules)).order_by(rule.c.created_at, rule.c.id)
        for row in conn.execute(of):
            rules[row.security_group_id].append(_rule(row))
        return [
            {**shared_fields(r), "name": r.name, "stateful": True, "shared": False, "security_group_rules": rules[r.id]}
            for r in rows
        ]

    def create(self, conn: Connection, caller: Caller, given: Json, now: float) -> str:
        row = new_row(given, now)
        conn.execute(insert(local_security_group).values(row))
        return str(row["id"])

    def update(self, conn: Connection, caller: Caller, item: Json, given: Json, now: float) -> None:
        values = {k: given[k] for k in ("name", "description") if k in given}
        change(conn, local_security_group, item["id"], now, **values)

    def delete(self, conn: Connection, caller: Caller, item: Json, now: float) -> None:
        _hold(conn, item["id"])
        if found := users(conn, item["id"]):
            raise SecurityGroupInUse(
                f"Security Group {item['id']} in use: the VIP of load balancer {found[0].id} is in it. Set that load "
                "balancer's vip_sg_ids first."
            )
        conn.execute(delete(local_security_rule).where(local_security_rule.c.security_group_id == item["id"]))
        conn.execute(delete(local_security_group).where(local_security_group.c.id == item["id"]))

    def concerned(self, conn: Connection, item: Json) -> list[str]:
        return []


def _hold(conn: Connection, group_id: object) -> None:
    """Have others who make a rule of the group, or remove it, wait until the transaction ends: nobody counts its rules,
    or looks for an equal one, or removes them, while another makes one."""
    if isinstance(group_id, str):
        c = local_security_group.c
        conn.execute(select(c.id).where(c.id == group_id).with_for_update())


_NO_GROUPS = "members of groups are VIPs here, which start no connections; name addresses by remote_ip_prefix."


class SecurityGroupRules(Kind):
    """Neutron's security group rules. A rule is made and removed, never changed."""

    singular = "security_group_rule"
    title = "Security group rule"
    path = "security-group-rules"
    table = local_security_rule
    not_found = SecurityGroupRuleNotFound
    attributes: ClassVar = {
        "project_id": COMMON["project_id"],
        "description": Attribute(optional(text(255))),
        "security_group_id": Attribute(text(36), put=False),
        "direction": Attribute(
            only(("ingress",), "a load balancer answers whom it lets in, and starts nothing from its VIPs."), put=False
        ),
        "ethertype": Attribute(text(8), put=False),
        "protocol": Attribute(optional(text(16)), put=False),
        "port_range_min": Attribute(optional(integer(0, 65535)), put=False),
        "port_range_max": Attribute(optional(integer(0, 65535)), put=False),
        "remote_ip_prefix": Attribute(optional(text(64)), put=False),
        "remote_group_id": Attribute(only((None,), _NO_GROUPS), put=False),
        "remote_address_group_id": Attribute(only((None,), "there are no address groups here."), put=False),
    }
    collection = Collection(
        plural="security_group_rules",
        keys=_COMMON_KEYS
        | {"security_group_id", "direction", "ethertype", "protocol", "port_range_min", "port_range_max",
           "remote_ip_prefix", "remote_group_id", "remote_address_group_id"},
        tests=tests_of_tags(),
        narrowed=("id", "security_group_id"),
    )  # fmt: skip

    def items(self, conn: Connection, caller: Caller, where: list[ColumnElement[bool]]) -> list[Json]:
        table = local_security_rule
        mine = [] if caller.is_admin else [table.c.project_id == caller.project_id]
        query = select(table).where(*mine, *where).order_by(table.c.created_at, table.c.id)
        return [_rule(r) for r in conn.execute(query)]

    def create(self, conn: Connection, caller: Caller, given: Json, now: float) -> str:
        _hold(conn, given.get("security_group_id"))
        group = find(conn, SecurityGroups(), caller, given.get("security_group_id"))
        may_change(SecurityGroups(), caller, group)
        fields = _understood(given)
        for other in group["security_group_rules"]:
            if admission(other) == admission(fields):
                raise SecurityGroupRuleExists(f"Security group rule already exists. Rule id is {other['id']}.")
        if len(group["security_group_rules"]) >= _MOST_RULES:
            raise InvalidInput(f"security_group_id: a group holds at most {_MOST_RULES} rules.")
        shared = new_row({**given, "description": given.get("description") or ""}, now)
        row = {k: v for k, v in shared.items() if k != "name"} | fields
        tell(conn, users(conn, group["id"]), now, f"Asked to add a rule to security group {_name(group)}.")
        row |= {"security_group_id": group["id"], "project_id": group["project_id"]}
        conn.execute(insert(local_security_rule).values(row))
        return str(row["id"])

    def update(self, conn: Connection, caller: Caller, item: Json, given: Json, now: float) -> None:
        change(conn, local_security_rule, item["id"], now, description=given.get("description") or "")

    def delete(self, conn: Connection, caller: Caller, item: Json, now: float) -> None:
        group = conn.execute(
            select(local_security_group).where(local_security_group.c.id == item["security_group_id"])
        ).mappings().one()  # fmt: skip
        tell(conn, users(conn, group["id"]), now, f"Asked to remove a rule of security group {_name(group)}.")
        conn.execute(delete(local_security_rule).where(local_security_rule.c.id == item["id"]))

    def concerned(self, conn: Connection, item: Json) -> list[str]:
        return [lb.id for lb in users(conn, item["security_group_id"])]


def _name(group: Any) -> str:  # noqa: ANN401 - an item or a row
    return str(group["name"] or group["id"])


def _rule(row: Any) -> Json:  # noqa: ANN401 - a SQLAlchemy row
    return {
        **shared_fields(row),
        "security_group_id": row.security_group_id,
        "direction": "ingress",
        "ethertype": row.ethertype,
        "protocol": row.protocol,
        "port_range_min": row.port_range_min,
        "port_range_max": row.port_range_max,
        "remote_ip_prefix": row.remote_ip_prefix,
        "remote_group_id": None,
        "remote_address_group_id": None,
    }


def _understood(given: Json) -> Json:
    """The columns of a rule. Raises InvalidInput for what would admit nothing, or something else than it says."""
    if "direction" not in given:
        raise InvalidInput("direction: is needed; ingress.")
    ethertype = given.get("ethertype", "IPv4")
    if ethertype not in ("IPv4", "IPv6"):
        raise InvalidInput(f"ethertype: '{ethertype}' is neither IPv4 nor IPv6.")
    protocol = (given.get("protocol") or "any").lower()
    try:
        its_number = number(protocol)
    except ValueError as e:
        raise InvalidInput(f"protocol: '{protocol}' is no protocol's name, nor a number from 0 to 255.") from e
    if its_number == ICMP6 and ethertype == "IPv4":
        raise InvalidInput(f"protocol: '{protocol}' goes with ethertype IPv6.")
    first, last = given.get("port_range_min"), given.get("port_range_max")
    _check_ports(its_number, protocol, first, last)
    return {
        "ethertype": ethertype,
        "protocol": None if its_number is None else protocol,
        "port_range_min": first,
        "port_range_max": last,
        "remote_ip_prefix": _prefix(given.get("remote_ip_prefix"), ethertype),
    }


def _check_ports(its_number: int | None, protocol: str, first: int | None, last: int | None) -> None:
    if first is None and last is None:
        return
    if its_number in (ICMP, ICMP6):
        if first is None or max(first, last or 0) > 255:
            raise InvalidInput("port_range_min: is the ICMP type, port_range_max the code, each from 0 to 255.")
        return
    if its_number not in WITH_PORTS:
        raise InvalidInput(f"port_range_min: ports do not go with protocol {protocol}.")
    if first is None or last is None or first > last:
        raise InvalidInput("port_range_min: and port_range_max must both be given, the smaller one first.")


def _prefix(prefix: str | None, ethertype: str) -> str | None:
    if prefix is None:
        return None
    try:
        if "%" in prefix:
            raise ValueError(prefix)
        found = ip_network(prefix, strict=False)
    except ValueError as e:
        raise InvalidInput(f"remote_ip_prefix: '{prefix}' is not a network in CIDR notation.") from e
    if f"IPv{found.version}" != ethertype:
        raise InvalidInput(f"remote_ip_prefix: {found} is not of ethertype {ethertype}.")
    return str(found)

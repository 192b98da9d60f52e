"""QoS policies and their rules: how much may come in to and leave from VIPs."""

import uuid
from typing import Any, ClassVar

from sqlalchemy import ColumnElement, Connection, delete, insert, or_, select, update

from colonnade.local.attributes import COMMON, Attribute, boolean, integer, only, tags
from colonnade.local.faults import (
    InvalidInput,
    InvalidSharedSetting,
    QosPolicyInUse,
    QosPolicyNotFound,
    QosRuleNotFound,
    QoSRuleParameterConflict,
)
from colonnade.local.kinds import Kind, change, new_row, shared_fields
from colonnade.local.listing import Collection, tests_of_tags
from colonnade.local.security import tell
from colonnade.model import Caller
from colonnade.store.local_tables import local_port, local_qos_policy, local_qos_rule
from colonnade.store.tables import load_balancer
from colonnade.types import Json
from colonnade.wire import MOST_KILOBITS

RULE: dict[str, Attribute] = {
    "max_kbps": Attribute(integer(1, MOST_KILOBITS)),
    "max_burst_kbps": Attribute(integer(0, MOST_KILOBITS)),
    "direction": Attribute(only(("egress", "ingress"), "egress or ingress is what a rule is about.")),
}


def users(conn: Connection, policy_id: str) -> list[Any]:
    """Load balancers (id, project) whose VIPs follow the policy."""
    follows = load_balancer.c.vip_qos_policy_id == policy_id
    return list(
        conn.execute(select(load_balancer.c.id, load_balancer.c.project_id, load_balancer.c.provider).where(follows))
    )


class QosPolicies(Kind):
    """Neutron's QoS policies."""

    singular = "policy"
    title = "QoS Policy"
    path = "qos/policies"
    table = local_qos_policy
    not_found = QosPolicyNotFound
    attributes: ClassVar = {
        **{k: v for k, v in COMMON.items() if k != "admin_state_up"},
        "shared": Attribute(boolean, admin=True),
        "is_default": Attribute(only((False,), "no policy applies unless it is named.")),
        "tags": Attribute(tags, put=False),
    }
    collection = Collection(
        plural="policies",
        keys=frozenset(
            {"id", "project_id", "tenant_id", "description", "tags", "created_at", "updated_at", "revision_number",
             "name", "shared", "is_default", "rules"}
        ),
        tests=tests_of_tags(),
    )  # fmt: skip

    def items(self, conn: Connection, caller: Caller, where: list[ColumnElement[bool]]) -> list[Json]:
        table = local_qos_policy
        mine = [] if caller.is_admin else [or_(table.c.project_id == caller.project_id, table.c.shared)]
        rows = conn.execute(select(table).where(*mine, *where).order_by(table.c.created_at, table.c.id)).all()
        rules: dict[str, list[Json]] = {r.id: [] for r in rows}
        of = select(local_qos_rule).where(local_qos_rule.c.policy_id.in_(rules)).order_by(local_qos_rule.c.direction)
        for row in conn.execute(of):
            rules[row.policy_id].append({**rule(row), "type": "bandwidth_limit", "qos_policy_id": row.policy_id})
        return [
            {**shared_fields(r), "name": r.name, "shared": r.shared, "is_default": False, "rules": rules[r.id]}
            for r in rows
        ]

    def create(self, conn: Connection, caller: Caller, given: Json, now: float) -> str:
        row = new_row(given, now) | {"shared": given.get("shared", False)}
        conn.execute(insert(local_qos_policy).values(row))
        return str(row["id"])

    def update(self, conn: Connection, caller: Caller, item: Json, given: Json, now: float) -> None:
        if item["shared"] and given.get("shared") is False:
            strangers = [lb.id for lb in users(conn, item["id"]) if lb.project_id != item["project_id"]]
            if strangers:
                raise InvalidSharedSetting(
                    f"QoS policy {item['id']} is used by other projects' load balancers, such as {strangers[0]}: it "
                    "must stay shared."
                )
        values = {k: given[k] for k in ("name", "description", "shared") if k in given}
        change(conn, local_qos_policy, item["id"], now, **values)

    def delete(self, conn: Connection, caller: Caller, item: Json, now: float) -> None:
        lbs = [f"load balancer {lb.id}" for lb in users(conn, item["id"])]
        of_port = select(local_port.c.id).where(local_port.c.qos_policy_id == item["id"]).limit(1)
        ports = [f"port {port_id}" for port_id in conn.execute(of_port).scalars()]
        if found := [*lbs, *ports]:
            raise QosPolicyInUse(f"QoS Policy {item['id']} is used by {found[0]}: take it off there first.")
        conn.execute(delete(local_qos_rule).where(local_qos_rule.c.policy_id == item["id"]))
        conn.execute(delete(local_qos_policy).where(local_qos_policy.c.id == item["id"]))

    def concerned(self, conn: Connection, item: Json) -> list[str]:
        return [lb.id for lb in users(conn, item["id"])]


def rule(row: Any) -> Json:  # noqa: ANN401 - a SQLAlchemy row
    """A rule as replies show it."""
    return {"id": row.id, "max_kbps": row.max_kbps, "max_burst_kbps": row.max_burst_kbps, "direction": row.direction}


def rules(conn: Connection, policy: Json) -> list[Json]:
    """The policy's rules."""
    query = select(local_qos_rule).where(local_qos_rule.c.policy_id == policy["id"])
    return [rule(r) for r in conn.execute(query.order_by(local_qos_rule.c.direction))]


def one(conn: Connection, policy: Json, rule_id: str) -> Json:
    """One rule of the policy. Raises QosRuleNotFound."""
    found = next((r for r in rules(conn, policy) if r["id"] == rule_id), None)
    if found is None:
        raise QosRuleNotFound(f"QoS rule {rule_id} for policy {policy['id']} could not be found.")
    return found


def add(conn: Connection, policy: Json, given: Json, now: float) -> Json:
    """One more rule."""
    if "max_kbps" not in given:
        raise InvalidInput("max_kbps: is needed (--max-kbps).")
    row: Json = {
        "max_burst_kbps": 0,
        "direction": "egress",
        **given,
        "id": str(uuid.uuid4()),
        "policy_id": policy["id"],
    }
    _alone(conn, policy, row["direction"], row["id"])
    conn.execute(insert(local_qos_rule).values(row))
    _tell(conn, policy, now)
    return one(conn, policy, row["id"])


def alter(conn: Connection, policy: Json, rule_id: str, given: Json, now: float) -> Json:
    """The rule with other values."""
    found = one(conn, policy, rule_id)
    _alone(conn, policy, str(given.get("direction", found["direction"])), rule_id)
    if given:
        conn.execute(update(local_qos_rule).where(local_qos_rule.c.id == rule_id).values(given))
    _tell(conn, policy, now)
    return one(conn, policy, rule_id)


def remove(conn: Connection, policy: Json, rule_id: str, now: float) -> None:
    """The policy without the rule."""
    one(conn, policy, rule_id)
    conn.execute(delete(local_qos_rule).where(local_qos_rule.c.id == rule_id))
    _tell(conn, policy, now)


def _alone(conn: Connection, policy: Json, direction: str, rule_id: str) -> None:
    other = next((r for r in rules(conn, policy) if r["direction"] == direction and r["id"] != rule_id), None)
    if other:
        raise QoSRuleParameterConflict(f"The policy has an {direction} rule already, {other['id']}: change that one.")


def _tell(conn: Connection, policy: Json, now: float) -> None:
    tell(conn, users(conn, policy["id"]), now, f"Asked to change QoS policy {policy['name'] or policy['id']}.")
    change(conn, local_qos_policy, policy["id"], now)

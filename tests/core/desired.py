"""Trees for tests, from the few words in which a test's case is told."""

from datetime import datetime

from colonnade.model import (
    Amphora,
    HealthMonitor,
    L7Policy,
    L7Rule,
    Listener,
    LoadBalancer,
    Member,
    Pool,
    SessionPersistence,
    Tree,
)  # fmt: skip
from colonnade.types import (
    Algorithm,
    AmphoraStatus,
    L7Action,
    L7CompareType,
    L7RuleType,
    ListenerProtocol,
    MonitorType,
    OperatingStatus,
    PersistenceType,
    PoolProtocol,
    ProvisioningStatus,
)  # fmt: skip

THEN = datetime(2026, 1, 1)
_COMMON = {"project_id": "p", "created_at": THEN, "provisioning_status": ProvisioningStatus.ACTIVE}


def tree(given: dict) -> Tree:
    """``given``: vip, load_balancer, listeners (policies inside, rules in those), pools (members and monitor inside);
    fields as in the API."""
    lb = LoadBalancer(
        id="lb", **{**_COMMON, **_enums(given.get("load_balancer", {}))}, vip_address=given.get("vip", "10.0.0.10")
    )
    pools, members, monitors = [], [], []
    for p in given.get("pools", []):
        p = dict(p)
        for n, m in enumerate(p.pop("members", [])):
            members.append(member(pool_id=p["id"], **{"id": f"{p['id']}-m{n + 1}", **m}))
        if monitor := p.pop("monitor", None):
            monitors.append(_monitor(p["id"], monitor))
        pools.append(_pool(p))
    listeners, policies, rules = [], [], []
    for x in given.get("listeners", []):
        x = dict(x)
        for n, p in enumerate(x.pop("policies", []), 1):
            p = {"id": f"{x['id']}-l{n}", "position": n, **p}
            rules += [_rule(p["id"], {"id": f"{p['id']}-r{k}", **r}) for k, r in enumerate(p.pop("rules", []), 1)]
            policies.append(_policy(x["id"], p))
        listeners.append(_listener(x))
    return Tree(
        load_balancer=lb, listeners=tuple(listeners), pools=tuple(pools), l7policies=tuple(policies),
        l7rules=tuple(rules),
        members=tuple(members), health_monitors=tuple(monitors),
        amphorae=tuple(amphora(**a) for a in given.get("amphorae", [{"id": "a1"}])), generation=1,
    )  # fmt: skip


def amphora(**given) -> Amphora:
    given = {"status": "ALLOCATED", **given}
    return Amphora(**{"loadbalancer_id": "lb", "created_at": THEN, **given, "status": AmphoraStatus(given["status"])})


def member(**given) -> Member:
    return Member(**{**_COMMON, "loadbalancer_id": "lb", "protocol_port": 80, **_enums(given)})


def _listener(given: dict) -> Listener:
    given = {"protocol": "HTTP", "protocol_port": 80, **given}
    cidrs = given.get("allowed_cidrs")
    return Listener(
        **{**_COMMON, "loadbalancer_id": "lb", **_enums(given)} | {
            "protocol": ListenerProtocol(given["protocol"]), "allowed_cidrs": tuple(cidrs) if cidrs else None
        }
    )  # fmt: skip


def _pool(given: dict) -> Pool:
    given = {"protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", **given}
    keep = given.get("session_persistence")
    return Pool(
        **{**_COMMON, "loadbalancer_id": "lb", **_enums(given)} | {
            "protocol": PoolProtocol(given["protocol"]), "lb_algorithm": Algorithm(given["lb_algorithm"]),
            "session_persistence": keep and SessionPersistence(**{**keep, "type": PersistenceType(keep["type"])}),
        }
    )  # fmt: skip


def _policy(listener_id: str, given: dict) -> L7Policy:
    fields = {**_COMMON, "loadbalancer_id": "lb", "listener_id": listener_id, **_enums(given)}
    return L7Policy(**fields | {"action": L7Action(given["action"])})


def _rule(policy_id: str, given: dict) -> L7Rule:
    """``given`` may say type, comparison and value in short, as {PATH: {EQUAL_TO: /x}}."""
    short = next((k for k in given if k in L7RuleType.__members__), None)
    if short:
        ((comparison, value),) = given.pop(short).items()
        given |= {"type": short, "compare_type": comparison, "value": value}
    fields = {**_COMMON, "loadbalancer_id": "lb", "l7policy_id": policy_id, **_enums(given)}
    kinds = {"type": L7RuleType(given["type"]), "compare_type": L7CompareType(given["compare_type"])}
    return L7Rule(**fields | kinds)


def _monitor(pool_id: str, given: dict) -> HealthMonitor:
    given = {"id": f"{pool_id}-hm", "delay": 5, "timeout": 3, "max_retries": 2, **given}
    return HealthMonitor(
        **{**_COMMON, "loadbalancer_id": "lb", "pool_id": pool_id, **_enums(given)}
        | {"type": MonitorType(given["type"])}
    )


def _enums(given: dict) -> dict:
    kinds = {"provisioning_status": ProvisioningStatus, "operating_status": OperatingStatus}
    return {k: kinds[k](v) if k in kinds else v for k, v in given.items()}

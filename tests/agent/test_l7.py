"""L7 policies come, change and go while an amphora serves."""

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from rig import Rig, Traffic, eventually, get

from colonnade.core import haproxy
from colonnade.model import L7Policy, L7Rule, Listener, LoadBalancer, Member, Pool, Tree
from colonnade.types import (
    Algorithm,
    L7Action,
    L7CompareType,
    L7RuleType,
    ListenerProtocol,
    PoolProtocol,
    ProvisioningStatus,
)  # fmt: skip

COMMON: dict[str, Any] = {
    "project_id": "p", "created_at": datetime(2026, 1, 1), "provisioning_status": ProvisioningStatus.ACTIVE,
}  # fmt: skip


def _files(rig: Rig, vip: str, *actions: L7Action) -> dict[str, str]:
    """Member m1 answers by default; each action is of a policy for what begins with /x, in this order."""
    own = {**COMMON, "loadbalancer_id": "b"}
    pools = tuple(
        Pool(id=f"p{n}", protocol=PoolProtocol.HTTP, lb_algorithm=Algorithm.ROUND_ROBIN, **own) for n in (1, 2)
    )
    members = tuple(
        Member(id=f"m{n}", pool_id=f"p{n}", address=f"{rig.net}.0.{9 + n}", protocol_port=80, **own) for n in (1, 2)
    )
    policies = tuple(
        L7Policy(id=f"l{n}", listener_id="web", action=a, position=n, redirect_pool_id="p2", **own)
        for n, a in enumerate(actions, 1)
    )
    rules = tuple(
        L7Rule(
            id=f"r-{p.id}", l7policy_id=p.id, type=L7RuleType.PATH, compare_type=L7CompareType.STARTS_WITH, value="/x",
            **own,
        )
        for p in policies
    )  # fmt: skip
    listener = Listener(id="web", protocol=ListenerProtocol.HTTP, protocol_port=80, default_pool_id="p1", **own)
    tree = Tree(
        load_balancer=LoadBalancer(id="b", **COMMON), listeners=(listener,), pools=pools, members=members,
        l7policies=policies, l7rules=rules,
    )  # fmt: skip
    return haproxy.render(tree, [vip], haproxy.Limits())


def test_changing_policies_under_traffic_fails_nothing(rig: Rig) -> None:
    vip, amphora = rig.address(), rig.amphora()
    bundle = rig.bundle(amphora, vip, None)
    to_pool, reject = L7Action.REDIRECT_TO_POOL, L7Action.REJECT

    def push(*actions: L7Action) -> None:
        rig.push(replace(bundle, files=_files(rig, vip, *actions)))

    push()
    assert get(vip, path="/x") == "m1"
    with Traffic(vip) as traffic:
        push(to_pool)
        eventually(lambda: get(vip, path="/x/y") == "m2")
        push(to_pool, reject)
        traffic.flow(30)
        assert get(vip, path="/x") == "m2"
        push(reject, to_pool)
        traffic.flow(30)
        with pytest.raises(ConnectionError, match="403"):
            get(vip, path="/x")
        push()
        eventually(lambda: get(vip, path="/x") == "m1")
        traffic.flow(30)
    assert traffic.failures == []
    assert set(traffic.answers) == {"m1"}

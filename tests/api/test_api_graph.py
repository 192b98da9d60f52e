"""Many objects in one request: the full tree, and a pool's members as a batch; and many requests at once."""

import threading
from typing import Any

import pytest
from lb_service import Service, nobody_has

POOL = {"name": "web", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN"}
LISTENER = {"protocol": "HTTP", "protocol_port": 80}
MONITOR = {"type": "HTTP", "delay": 1, "timeout": 1, "max_retries": 1}
MEMBERS = [{"address": f"10.2.0.{n}", "protocol_port": 80, "tags": ["t"]} for n in (1, 2)]


def test_a_full_tree_is_created_and_answered_nested(service: Service) -> None:
    pool = {**POOL, "members": MEMBERS, "healthmonitor": MONITOR}
    lb = service.load_balancer(
        listeners=[
            {**LISTENER, "name": "one", "default_pool": {"name": "web"}},
            {**LISTENER, "name": "two", "protocol_port": 81, "default_pool": {**POOL, "name": "own"}},
        ],
        pools=[pool],
    )
    one, two = lb["listeners"]
    web, own = lb["pools"]
    assert (one["default_pool_id"], two["default_pool_id"]) == (web["id"], own["id"])
    assert "loadbalancers" not in one
    assert "loadbalancers" not in web
    assert "healthmonitor_id" not in web
    assert (web["healthmonitor"]["type"], own["healthmonitor"]) == ("HTTP", None)
    assert [m["address"] for m in web["members"]] == ["10.2.0.1", "10.2.0.2"]
    assert {m["operating_status"] for m in web["members"]} == {"OFFLINE"}
    assert web["listeners"] == [{"id": one["id"]}]
    shown = service.get(f"loadbalancers/{lb['id']}")["loadbalancer"]
    assert {v["id"] for v in shown["pools"]} == {web["id"], own["id"]}
    assert len(service.get(f"pools/{web['id']}/members?tags=t")["members"]) == 2
    assert service.get(f"pools/{web['id']}")["pool"]["healthmonitor_id"] == web["healthmonitor"]["id"]
    assert service.doorbell.wait(0) == {lb["id"]}
    event = service.get(f"loadbalancers/{lb['id']}/events")["events"]
    assert [e["sentence"].partition(") ")[2] for e in event] == ["with 2 listeners, 2 pools, 2 members."]


WRONG: list[tuple[Any, int]] = [
    ({"listeners": [{**LISTENER, "default_pool": {"name": "unknown"}}]}, 400),
    ({"pools": [{k: v for k, v in POOL.items() if k != "name"}]}, 400),
    ({"pools": [POOL, POOL]}, 400),
    ({"pools": [POOL], "listeners": [{**LISTENER, "default_pool": POOL}]}, 400),
    ({"pools": [{"name": "x"}]}, 400),
    ({"pools": [{"name": "x", "protocol": "HTTP"}]}, 400),
    ({"listeners": [{**LISTENER, "default_pool": {}}]}, 400),
    (
        {
            "listeners": [{**LISTENER, "default_pool": {"name": "web"}, "default_pool_id": nobody_has()}],
            "pools": [POOL],
        },
        400,
    ),
    ({"listeners": [{**LISTENER, "default_pool_id": nobody_has()}]}, 404),
    ({"listeners": [LISTENER, LISTENER]}, 409),
    ({"listeners": [{**LISTENER, "loadbalancer_id": nobody_has()}]}, 400),
    ({"listeners": [{**LISTENER, "protocol": "UDP", "default_pool": {"name": "web"}}], "pools": [POOL]}, 400),
    ({"listeners": [{**LISTENER, "tls_ciphers": "x"}]}, 400),
    ({"listeners": [{**LISTENER, "l7policies": [{}]}]}, 400),
    ({"listeners": [{**LISTENER, "protocol": "HTTPS", "default_pool": {"name": "web"}}], "pools": [POOL]}, 400),
    ({"listeners": [{**LISTENER, "allowed_cidrs": ["fd00::/8"]}]}, 400),
    ({"pools": [{**POOL, "members": [MEMBERS[0], MEMBERS[0]]}]}, 409),
    ({"pools": [{**POOL, "members": [{"address": "169.254.169.254", "protocol_port": 1}]}]}, 400),
    ({"pools": [{**POOL, "members": [{**MEMBERS[0], "subnet_id": nobody_has()}]}]}, 400),
    ({"pools": [{**POOL, "members": [{**MEMBERS[0], "request_sriov": True}]}]}, 400),
    ({"pools": [{**POOL, "healthmonitor": {**MONITOR, "type": "SCTP"}}]}, 400),
    ({"pools": [{**POOL, "healthmonitor": {"type": "TCP"}}]}, 400),
    ({"pools": [{**POOL, "ca_tls_container_ref": "x"}]}, 400),
    ({"pools": [{**POOL, "session_persistence": {"type": "APP_COOKIE"}}]}, 400),
    ({"pools": "x"}, 400),
]


@pytest.mark.parametrize(("fields", "expect"), WRONG, ids=str)
def test_a_wrong_tree_leaves_nothing(service: Service, fields: dict[str, Any], expect: int) -> None:
    body = {"loadbalancer": {"vip_subnet_id": service.subnet.id, **fields}}
    service.post("loadbalancers", body, expect=expect)
    assert not service.cloud.ports
    assert service.get("pools")["pools"] == service.get("loadbalancers")["loadbalancers"] == []


@pytest.fixture
def pool(service: Service) -> Any:
    """A settled pool with members 10.2.0.1 and 10.2.0.2."""
    made = service.pool(service.load_balancer())
    for n in (1, 2):
        service.member(made, address=f"10.2.0.{n}", protocol_port=80, weight=5, name=f"m{n}")
    service.settle()
    return made


def _members(service: Service, pool: Any) -> dict[str, tuple[str, int, str]]:
    found = service.get(f"pools/{pool['id']}/members")["members"]
    return {m["address"]: (m["provisioning_status"].removeprefix("PENDING_"), m["weight"], m["name"]) for m in found}


def test_a_batch_creates_changes_and_removes(service: Service, pool: Any) -> None:
    new = {"address": "10.2.0.3", "protocol_port": 80}
    service.put(f"pools/{pool['id']}/members", {"members": [MEMBERS[0], new]}, expect=202)
    assert _members(service, pool) == {
        "10.2.0.1": ("UPDATE", 1, ""), "10.2.0.2": ("DELETE", 5, "m2"), "10.2.0.3": ("CREATE", 1, ""),
    }  # fmt: skip
    assert service.statuses(f"pools/{pool['id']}") == ["PENDING_UPDATE"]
    events = service.get(f"loadbalancers/{pool['loadbalancers'][0]['id']}/events")["events"]
    assert events[0]["sentence"].endswith(": 1 new, 1 changed, 1 removed.")


def test_an_additive_batch_removes_nothing(service: Service, pool: Any) -> None:
    new = {"address": "10.2.0.3", "protocol_port": 80}
    service.put(f"pools/{pool['id']}/members?additive_only=True", {"members": [new]}, expect=202)
    assert _members(service, pool) == {
        "10.2.0.1": ("ACTIVE", 5, "m1"), "10.2.0.2": ("ACTIVE", 5, "m2"), "10.2.0.3": ("CREATE", 1, ""),
    }  # fmt: skip


def test_a_batch_that_changes_nothing_marks_nothing(service: Service, pool: Any) -> None:
    same = [{"address": f"10.2.0.{n}", "protocol_port": 80, "weight": 5, "name": f"m{n}"} for n in (1, 2)]
    service.put(f"pools/{pool['id']}/members", {"members": same}, expect=202)
    assert {v[0] for v in _members(service, pool).values()} == {"ACTIVE"}
    assert service.statuses(f"pools/{pool['id']}") == ["ACTIVE"]


@pytest.mark.parametrize(
    ("members", "expect"),
    [
        ([MEMBERS[0], MEMBERS[0]], 400),
        ([{"address": "10.2.0.9", "protocol_port": 80}] * 2, 409),
        ([{"address": "x", "protocol_port": 80}], 400),
        ([{"protocol_port": 80}], 400),
        ([{**MEMBERS[0], "subnet_id": nobody_has()}], 400),
        (["x"], 400),
        ("x", 400),
        (None, 400),
    ],
)
def test_a_wrong_batch_changes_nothing(service: Service, pool: Any, members: Any, expect: int) -> None:
    before = _members(service, pool)
    service.put(f"pools/{pool['id']}/members", {"members": members}, expect=expect)
    assert _members(service, pool) == before


def test_a_batch_needs_its_pool(service: Service) -> None:
    reply = service.put(f"pools/{nobody_has()}/members", {"members": []}, expect=404)
    assert reply["description"] == f"Pool {nobody_has()} not found."


def test_of_many_equal_writes_at_once_one_wins(service: Service) -> None:
    """Two applications on one database, as two API processes are."""
    lb = service.load_balancer()
    pool = service.pool(lb)
    other = Service(service.store, cloud=service.cloud)
    bodies = [
        ("listeners", {"listener": {"loadbalancer_id": lb["id"], **LISTENER}}),
        (f"pools/{pool['id']}/members", {"member": MEMBERS[0]}),
        ("healthmonitors", {"healthmonitor": {"pool_id": pool["id"], **MONITOR}}),
    ]
    for path, body in bodies:
        answers: list[int] = []
        start = threading.Barrier(8)

        def send(app: Service, path: str, body: Any, start: threading.Barrier, answers: list[int]) -> None:
            start.wait()
            answers.append(app.send("POST", path, body).status_code)

        threads = [
            threading.Thread(target=send, args=(app, path, body, start, answers)) for app in (service, other) * 4
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(answers) == [201] + [409] * 7, path

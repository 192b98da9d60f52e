"""L7 policies and rules: their rules by table, their order, what they mark PENDING, and who shows them."""

from datetime import datetime
from typing import Any

import pytest
from lb_service import Service, nobody_has

from colonnade.api import l7policies, l7rules, rules
from colonnade.errors import Invalid, Unsupported
from colonnade.model import L7Policy, L7Rule
from colonnade.types import L7Action, L7CompareType, L7RuleType
from colonnade.types import ListenerProtocol as L

COMMON = {
    "id", "project_id", "tenant_id", "admin_state_up", "provisioning_status", "operating_status", "reason",
    "created_at", "updated_at", "tags",
}  # fmt: skip
POLICY_KEYS = COMMON | {
    "name", "description", "listener_id", "action", "redirect_pool_id", "redirect_url", "redirect_prefix",
    "redirect_http_code", "position", "rules",
}  # fmt: skip
RULE_KEYS = COMMON | {"type", "compare_type", "value", "key", "invert"}
URL, POOL = "https://x/", nobody_has("1")
REJECT, TO_URL, TO_POOL, PREFIX = (
    L7Action.REJECT,
    L7Action.REDIRECT_TO_URL,
    L7Action.REDIRECT_TO_POOL,
    "REDIRECT_PREFIX",
)


@pytest.fixture
def made(service: Service) -> Any:
    """One load balancer with a listener, its pool, and a pool that nothing uses; all ACTIVE."""
    service.lb = service.load_balancer(name="web")  # type: ignore[attr-defined]
    service.a_pool = service.pool(service.lb, name="p")  # type: ignore[attr-defined]
    service.b_pool = service.pool(service.lb, name="q")  # type: ignore[attr-defined]
    service.a_listener = service.listener(service.lb, name="l", default_pool_id=service.a_pool["id"])  # type: ignore[attr-defined]
    service.settle()
    service.doorbell.wait(0)
    return service


# Actions and their arguments


def _arguments(policy: dict[str, Any]) -> tuple[Any, ...]:
    names = ("action", "redirect_pool_id", "redirect_url", "redirect_prefix", "redirect_http_code")
    return tuple(policy[n] for n in names)


@pytest.mark.parametrize(
    ("given", "expect"),
    [
        ({"action": "REJECT"}, ("REJECT", None, None, None, None)),
        ({"action": "REJECT", "redirect_url": URL, "redirect_pool_id": POOL, "redirect_http_code": 301},
         ("REJECT", None, None, None, None)),
        ({"action": "REDIRECT_TO_URL", "redirect_url": URL}, ("REDIRECT_TO_URL", None, URL, None, 302)),
        ({"action": "REDIRECT_TO_URL", "redirect_url": URL, "redirect_pool_id": POOL, "redirect_http_code": 307},
         ("REDIRECT_TO_URL", None, URL, None, 307)),
        ({"action": "REDIRECT_PREFIX", "redirect_prefix": URL, "redirect_url": URL},
         ("REDIRECT_PREFIX", None, None, URL, 302)),
        ({"action": "REDIRECT_TO_POOL", "redirect_pool_id": POOL, "redirect_http_code": 301, "redirect_url": URL},
         ("REDIRECT_TO_POOL", POOL, None, None, None)),
        ({"action": "REDIRECT_TO_URL"}, None), ({"action": "REDIRECT_TO_URL", "redirect_prefix": URL}, None),
        ({"action": "REDIRECT_PREFIX"}, None), ({"action": "REDIRECT_PREFIX", "redirect_url": URL}, None),
        ({"action": "REDIRECT_TO_POOL"}, None), ({"action": "REDIRECT_TO_POOL", "redirect_pool_id": None}, None),
    ],
)  # fmt: skip
def test_an_action_takes_its_argument_and_no_other(given: dict[str, Any], expect: tuple[Any, ...] | None) -> None:
    action = L7Action(given["action"])
    if expect is None:
        with pytest.raises(Invalid, match="Invalid L7 Policy arguments: redirect_"):
            l7policies.arguments(action, given)
    else:
        assert _arguments({"action": action, **l7policies.arguments(action, given)}) == expect


def _policy(**fields: Any) -> L7Policy:
    return L7Policy(
        id="i", project_id="p", loadbalancer_id="b", listener_id="l", created_at=datetime(2026, 1, 1), **fields
    )  # fmt: skip


OLD_URL = {"action": TO_URL, "redirect_url": URL, "redirect_http_code": 301}
OLD_POOL = {"action": TO_POOL, "redirect_pool_id": POOL}


@pytest.mark.parametrize(
    ("old", "given", "expect"),
    [
        (OLD_URL, {"name": "x"}, ("REDIRECT_TO_URL", None, URL, None, 301)),
        (OLD_URL, {"redirect_http_code": None}, ("REDIRECT_TO_URL", None, URL, None, 302)),
        (OLD_URL, {"redirect_http_code": 308}, ("REDIRECT_TO_URL", None, URL, None, 308)),
        (OLD_URL, {"redirect_pool_id": POOL}, ("REDIRECT_TO_POOL", POOL, None, None, None)),
        (OLD_URL, {"redirect_prefix": URL}, ("REDIRECT_PREFIX", None, None, URL, 301)),
        (OLD_POOL, {"redirect_url": URL}, ("REDIRECT_TO_URL", None, URL, None, 302)),
        (OLD_POOL, {"redirect_url": URL, "redirect_pool_id": None}, ("REDIRECT_TO_URL", None, URL, None, 302)),
        (OLD_POOL, {"action": REJECT, "redirect_url": URL}, ("REJECT", None, None, None, None)),
        (OLD_POOL, {"action": TO_URL, "redirect_url": URL, "redirect_pool_id": POOL},
         ("REDIRECT_TO_URL", None, URL, None, 302)),
        (OLD_POOL, {"action": TO_URL}, None), (OLD_URL, {"action": TO_POOL}, None), (OLD_URL, {"action": TO_URL}, None),
        (OLD_POOL, {"redirect_pool_id": None}, None), (OLD_URL, {"redirect_url": None}, None),
        (OLD_POOL, {"redirect_url": URL, "redirect_prefix": URL}, None),
    ],
)  # fmt: skip
def test_what_a_change_makes_of_an_action(
    old: dict[str, Any], given: dict[str, Any], expect: tuple[Any, ...] | None
) -> None:
    if expect is None:
        with pytest.raises(Invalid, match="Invalid L7 Policy arguments: "):
            l7policies.changed_arguments(_policy(**old), given)
    else:
        assert _arguments(l7policies.changed_arguments(_policy(**old), given)) == expect


@pytest.mark.parametrize("protocol", list(L))
def test_policies_are_for_http(protocol: L) -> None:
    if protocol in (L.HTTP, L.TERMINATED_HTTPS):
        rules.listener_takes_policies(protocol)
    else:
        with pytest.raises(Invalid if protocol is L.PROMETHEUS else Unsupported):
            rules.listener_takes_policies(protocol)


POLICIES: list[tuple[Any, int]] = [
    ({}, 201), ({"action": None}, 400), ({"action": "DROP"}, 400), ({"listener_id": None}, 400),
    ({"listener_id": nobody_has()}, 404), ({"listener_id": "x"}, 400), ({"listener_id": "TCP"}, 501),
    ({"position": 0}, 400), ({"position": 2147483648}, 400), ({"position": "1"}, 201), ({"position": None}, 201),
    ({"redirect_http_code": 304}, 400), ({"redirect_http_code": "x"}, 400), ({"redirect_http_code": True}, 400),
    ({"redirect_url": "ftp://x/"}, 400), ({"redirect_url": "x"}, 400), ({"redirect_url": "http://x/ y"}, 400),
    ({"redirect_url": "http://x/\r\nSet-Cookie:x"}, 400), ({"redirect_url": "http://"}, 400),
    ({"redirect_url": "http:///x"}, 400), ({"redirect_prefix": "//x"}, 400), ({"redirect_url": "http://x/é"}, 400),
    ({"redirect_url": f"http://{'x' * 249}"}, 400), ({"redirect_pool_id": "x"}, 400), ({"name": "x" * 256}, 400),
    ({"rules": []}, 400), ({"redirect_pool": {"name": "p"}}, 400), ({"provisioning_status": "ACTIVE"}, 400),
    ({"action": "REDIRECT_TO_URL"}, 400), ({"action": "REDIRECT_TO_URL", "redirect_url": "HTTPS://x"}, 201),
    ({"action": "REDIRECT_TO_URL", "redirect_url": "http://x/", "redirect_http_code": "308"}, 201),
    ({"action": "REDIRECT_PREFIX", "redirect_prefix": "https://[fd00::1]:8443/a"}, 201),
    ({"action": "REDIRECT_TO_POOL", "redirect_pool_id": "POOL"}, 201),
    ({"action": "REDIRECT_TO_POOL", "redirect_pool_id": "PROXY"}, 201),
    ({"action": "REDIRECT_TO_POOL", "redirect_pool_id": "TCP-POOL"}, 400),
    ({"action": "REDIRECT_TO_POOL", "redirect_pool_id": "FOREIGN"}, 404),
    ({"action": "REDIRECT_TO_POOL", "redirect_pool_id": nobody_has()}, 404), ({"tags": ["a"], "project_id": "p"}, 201),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "expect"), POLICIES, ids=str)
def test_policy_creation(made: Any, fields: dict[str, Any], expect: int) -> None:
    words = {
        "TCP": made.listener(made.lb, protocol="TCP", protocol_port=81)["id"], "POOL": made.b_pool["id"],
        "PROXY": made.pool(made.lb, protocol="PROXY")["id"], "TCP-POOL": made.pool(made.lb, protocol="TCP")["id"],
        "FOREIGN": made.pool(made.load_balancer())["id"],
    }  # fmt: skip
    body = {"listener_id": made.a_listener["id"], "action": "REJECT", **fields}
    body = {k: words.get(v, v) if isinstance(v, str) else v for k, v in body.items()}
    made.post("l7policies", {"l7policy": body}, expect=expect)


@pytest.mark.parametrize(
    ("fields", "expect"),
    [
        ({}, 400), ({"action": None}, 400), ({"listener_id": nobody_has()}, 400), ({"position": 0}, 400),
        ({"redirect_pool_id": nobody_has()}, 404), ({"redirect_url": "x"}, 400), ({"redirect_url": URL}, 200),
        ({"name": None, "description": None, "tags": None}, 200), ({"tags": None}, 200), ({"rules": []}, 400),
        ({"action": "REDIRECT_PREFIX"}, 400), ({"action": "REJECT"}, 200), ({"redirect_http_code": 300}, 400),
    ],
    ids=str,
)  # fmt: skip
def test_policy_changes(made: Any, fields: dict[str, Any], expect: int) -> None:
    policy = made.policy(made.a_listener, action="REDIRECT_TO_POOL", redirect_pool_id=made.b_pool["id"])
    made.put(f"l7policies/{policy['id']}", {"l7policy": fields}, expect=expect)


# Positions


def _order(made: Any) -> str:
    """The names of the listener's policies by position, which is checked to be 1, 2, 3 ..."""
    found = made.get(f"l7policies?listener_id={made.a_listener['id']}&sort=position")["l7policies"]
    found = [p for p in found if p["provisioning_status"] != "PENDING_DELETE"]
    assert [p["position"] for p in found] == list(range(1, len(found) + 1))
    listed = made.get(f"listeners/{made.a_listener['id']}")["listener"]["l7policies"]
    assert [v["id"] for v in listed if v["id"] in {p["id"] for p in found}] == [p["id"] for p in found]
    return "".join(p["name"] for p in found)


def _abc(made: Any) -> dict[str, str]:
    found = {}
    for name in "abc":
        made.clock.time += 1  # created_at is whole seconds
        found[name] = made.policy(made.a_listener, name=name)["id"]
    return found


@pytest.mark.parametrize(
    ("position", "expect"), [(None, "abcn"), (1, "nabc"), (2, "anbc"), (4, "abcn"), (99, "abcn"), (2147483647, "abcn")]
)
def test_a_new_policy_is_put_at_its_position(made: Any, position: int | None, expect: str) -> None:
    _abc(made)
    new = made.policy(made.a_listener, name="n", position=position)
    assert _order(made) == expect
    assert new["position"] == expect.index("n") + 1


@pytest.mark.parametrize(
    ("name", "position", "expect"),
    [("a", 2, "bac"), ("a", 3, "bca"), ("a", 9, "bca"), ("c", 1, "cab"), ("c", 2, "acb"), ("b", 2, "abc"),
     ("b", None, "acb"), ("a", 1, "abc")],
)  # fmt: skip
def test_a_policy_moves(made: Any, name: str, position: int | None, expect: str) -> None:
    changed = made.put(f"l7policies/{_abc(made)[name]}", {"l7policy": {"position": position}})["l7policy"]
    assert _order(made) == expect
    assert changed["position"] == expect.index(name) + 1


def test_others_move_up_when_a_policy_goes(made: Any) -> None:
    made.delete(f"l7policies/{_abc(made)['a']}")
    assert _order(made) == "bc"
    made.policy(made.a_listener, name="n", position=2)
    assert _order(made) == "bnc"
    made.settle()
    assert _order(made) == "bnc"


def test_listeners_have_positions_of_their_own(made: Any) -> None:
    _abc(made)
    other = made.listener(made.lb, protocol_port=81)
    assert made.policy(other)["position"] == 1
    assert _order(made) == "abc"


# Rules

KEYED, UNKEYED = ("HEADER", "COOKIE", "SSL_DN_FIELD"), ("HOST_NAME", "PATH", "FILE_TYPE")
COMPARISONS = {
    **{t: set(L7CompareType) for t in ("HOST_NAME", "PATH", "HEADER", "COOKIE", "SSL_DN_FIELD")},
    "FILE_TYPE": {"REGEX", "EQUAL_TO"}, "SSL_CONN_HAS_CERT": {"EQUAL_TO"}, "SSL_VERIFY_RESULT": {"EQUAL_TO"},
}  # fmt: skip
FINE = {"SSL_CONN_HAS_CERT": "true", "SSL_VERIFY_RESULT": "0"}


def _rule(kind: str, comparison: str, value: str, key: str | None = None) -> L7Rule:
    return L7Rule(
        id="i", project_id="p", loadbalancer_id="b", l7policy_id="l", created_at=datetime(2026, 1, 1),
        type=L7RuleType(kind), compare_type=L7CompareType(comparison), value=value, key=key,
    )  # fmt: skip


def _fits(rule: L7Rule, fine: bool) -> None:
    if fine:
        l7rules.check(rule)
    else:
        with pytest.raises(Invalid, match=r"Error parsing L7Rule: .*\."):
            l7rules.check(rule)


@pytest.mark.parametrize("comparison", list(L7CompareType))
@pytest.mark.parametrize("kind", list(L7RuleType))
def test_types_have_their_comparisons(kind: L7RuleType, comparison: L7CompareType) -> None:
    key = "K" if kind in KEYED else None
    _fits(_rule(kind, comparison, FINE.get(kind, "x"), key), comparison in COMPARISONS[kind])


@pytest.mark.parametrize("key", [None, "", "X-K", "a b", "a:b", "a=b", 'a"b', "é", "1x", "!#$%&'*+-.^_`|~"])
@pytest.mark.parametrize("kind", list(L7RuleType))
def test_types_have_their_keys(kind: L7RuleType, key: str | None) -> None:
    fine = {
        **dict.fromkeys(("HEADER", "COOKIE"), key in ("X-K", "1x", "!#$%&'*+-.^_`|~")), "SSL_DN_FIELD": key == "X-K",
        **dict.fromkeys(UNKEYED, True), **dict.fromkeys(FINE, key is None),
    }  # fmt: skip
    _fits(_rule(kind, "EQUAL_TO", FINE.get(kind, "x"), key), fine[kind])


VALUES: list[tuple[str, str, str, bool]] = [
    *((k, "EQUAL_TO", v, fine) for k in ("HEADER", *UNKEYED) for v, fine in
      (("a", True), ("a b", False), ('"a b"', True), ('"a b', False), ("'a b'", False), ("é", False), ("", False),
       ("!~{}$", True), ('""', True), ('"é"', False))),
    *(("COOKIE", "EQUAL_TO", v, fine) for v, fine in
      (("a", True), ("a b", False), ('"a b"', False), ("a,b", False), ("a;b", False), ("a\\b", False), ("a=b/c", True),
       ("", False))),
    *((k, "REGEX", v, fine) for k in ("HEADER", "COOKIE", "SSL_DN_FIELD", *UNKEYED) for v, fine in
      (("^a b(c|d)+$", True), ("(", False), ("é", True), ("", False), (r"\u0041", False))),
    *(("SSL_DN_FIELD", "EQUAL_TO", v, fine) for v, fine in (("Alice é", True), ("", False))),
    *(("SSL_CONN_HAS_CERT", "EQUAL_TO", v, fine) for v, fine in
      (("true", True), ("True", True), ("TRUE", True), ("false", False), ("1", False), ("", False))),
    *(("SSL_VERIFY_RESULT", "EQUAL_TO", v, fine) for v, fine in
      (("0", True), ("18", True), ("-1", False), ("x", False), ("1.0", False), ("9" * 30, False), ("٣", False))),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "comparison", "value", "fine"), VALUES)
@pytest.mark.filterwarnings("ignore:Possible")
def test_types_have_their_values(kind: str, comparison: str, value: str, fine: bool) -> None:
    _fits(_rule(kind, comparison, value, "K" if kind in KEYED else None), fine)


@pytest.mark.parametrize(
    ("fields", "expect"),
    [
        ({}, 201), ({"type": None}, 400), ({"type": "BODY"}, 400), ({"compare_type": None}, 400),
        ({"value": None}, 400), ({"compare_type": "LIKE"}, 400), ({"value": "x" * 256}, 400),
        ({"value": "a\r\nb"}, 400), ({"value": 7}, 400),
        ({"type": "HEADER", "key": "a\nb"}, 400), ({"type": "HEADER", "key": "k" * 256}, 400),
        ({"type": "HEADER"}, 400),
        ({"type": "HEADER", "key": "k"}, 201), ({"invert": "x"}, 400), ({"invert": None}, 201), ({"name": "x"}, 400),
        ({"key": "kept as given"}, 201), ({"tags": ["a"], "admin_state_up": False, "tenant_id": "p"}, 201),
    ],
    ids=str,
)  # fmt: skip
def test_rule_creation(made: Any, fields: dict[str, Any], expect: int) -> None:
    policy = made.policy(made.a_listener)
    body = {"type": "PATH", "compare_type": "EQUAL_TO", "value": "/x", **fields}
    reply = made.post(f"l7policies/{policy['id']}/rules", {"rule": body}, expect=expect)
    if expect == 201:
        assert reply["rule"]["key"] == fields.get("key")
        assert reply["rule"]["invert"] is False


@pytest.mark.parametrize(
    ("fields", "expect"),
    [
        ({}, 200), ({"value": "v"}, 200), ({"value": "a b"}, 400), ({"key": None}, 400), ({"key": "a b"}, 400),
        ({"compare_type": "REGEX"}, 200), ({"compare_type": "REGEX", "value": "("}, 400), ({"value": None}, 400),
        ({"type": "SSL_DN_FIELD"}, 200), ({"type": "SSL_CONN_HAS_CERT"}, 400), ({"type": None}, 400),
        ({"type": "SSL_CONN_HAS_CERT", "key": None, "value": "true"}, 200), ({"type": "FILE_TYPE"}, 200),
        ({"type": "FILE_TYPE", "compare_type": "CONTAINS"}, 400), ({"invert": True}, 200),
    ],
    ids=str,
)  # fmt: skip
def test_a_changed_rule_is_checked_whole(made: Any, fields: dict[str, Any], expect: int) -> None:
    policy = made.policy(made.a_listener)
    rule = made.rule(policy, type="HEADER", key="k", compare_type="EQUAL_TO", value="x")
    made.put(f"l7policies/{policy['id']}/rules/{rule['id']}", {"rule": fields}, expect=expect)


def test_a_change_forgets_a_key_that_means_nothing_and_null_is_the_default(made: Any) -> None:
    policy = made.policy(made.a_listener)
    rule = made.rule(policy, type="HEADER", key="k", value="x", invert=True)
    path = f"l7policies/{policy['id']}/rules/{rule['id']}"
    changed = made.put(path, {"rule": {"type": "PATH", "value": "/x", "invert": None, "admin_state_up": None}})["rule"]
    assert (changed["type"], changed["key"], changed["invert"], changed["admin_state_up"]) == (
        "PATH",
        None,
        False,
        False,
    )


def test_a_policy_has_at_most_50_rules(made: Any) -> None:
    policy = made.policy(made.a_listener)
    made_rules = [made.rule(policy, value=f"/{n}") for n in range(50)]
    path = f"l7policies/{policy['id']}/rules"
    body = {"rule": {"type": "PATH", "compare_type": "EQUAL_TO", "value": "/"}}
    made.post(path, body, expect=409)
    made.delete(f"{path}/{made_rules[0]['id']}")
    made.post(path, body)


# What a write marks, and who shows what


def test_replies_have_exactly_their_keys(made: Any) -> None:
    policy = made.policy(made.a_listener, name="n", tags=["t"])
    rule = made.rule(policy, tags=["u"])
    shown = made.get(f"l7policies/{policy['id']}")["l7policy"]
    assert set(shown) == set(policy) == POLICY_KEYS
    assert (shown["rules"], shown["listener_id"]) == ([{"id": rule["id"]}], made.a_listener["id"])
    assert made.get(f"l7policies/{policy['id']}/rules/{rule['id']}")["rule"] == rule
    assert set(rule) == RULE_KEYS
    assert made.get("l7policies?tags=t&action=REJECT&name=n")["l7policies"] == [shown]
    assert made.get(f"l7policies/{policy['id']}/rules?tags=u&type=PATH") == {"rules": [rule], "rules_links": []}
    # openstacksdk sends the parent's id as a filter, too.
    assert made.get(f"l7policies/{policy['id']}/rules?l7policy_id={policy['id']}")["rules"] == [rule]
    assert made.get(f"l7policies/{policy['id']}/rules?rule_value={rule['value']}")["rules"] == [rule]
    assert made.get(f"l7policies/{policy['id']}/rules?rule_value=else")["rules"] == []
    assert made.get(f"l7policies/{policy['id']}/rules?l7policy_id={rule['id']}")["rules"] == []
    assert made.get(f"l7policies/{policy['id']}/rules?name=x")["rules"] == []  # as the stock client looks for a rule
    assert made.get("l7policies?not-tags=t")["l7policies"] == made.get("l7policies", by="bob")["l7policies"] == []
    assert made.get(f"l7policies/{policy['id']}?fields=id")["l7policy"] == {"id": policy["id"]}
    made.get("l7policies?rules=x", expect=400)


def test_lists_are_in_pages(made: Any) -> None:
    ids = list(_abc(made).values())
    first = made.get("l7policies?limit=2")
    assert [v["id"] for v in first["l7policies"]] == ids[:2]
    assert first["l7policies_links"][0]["rel"] == "next"
    assert [v["id"] for v in made.get(f"l7policies?limit=2&marker={ids[1]}")["l7policies"]] == ids[2:]
    of_one = [made.rule({"id": ids[0]}, value=f"/{n}")["id"] for n in range(3)]
    found = made.get(f"l7policies/{ids[0]}/rules?limit=2&marker={of_one[2]}&sort=value:desc")
    assert [v["id"] for v in found["rules"]] == of_one[1::-1]
    assert [v["id"] for v in made.get(f"l7policies/{ids[0]}/rules?sort=value:desc")["rules"]] == of_one[::-1]


def test_writes_mark_what_is_above_them(made: Any) -> None:
    paths = [f"loadbalancers/{made.lb['id']}", f"listeners/{made.a_listener['id']}", f"pools/{made.b_pool['id']}"]
    policy = made.policy(made.a_listener, action="REDIRECT_TO_POOL", redirect_pool_id=made.b_pool["id"])
    its_path = f"l7policies/{policy['id']}"
    create, update, active, delete = "PENDING_CREATE", "PENDING_UPDATE", "ACTIVE", "PENDING_DELETE"
    assert made.statuses(*paths, its_path) == [update, update, active, create]
    made.settle()
    rule = made.rule(policy)
    rule_path = f"{its_path}/rules/{rule['id']}"
    assert made.statuses(*paths, its_path, rule_path) == [update, update, active, update, create]
    for method, path, body, after in (
        ("PUT", rule_path, {"rule": {"value": "/y"}}, [update, update, active, update, update]),
        ("PUT", its_path, {"l7policy": {"name": "y"}}, [update, update, active, update, active]),
        ("PUT", paths[2], {"pool": {"name": "y"}}, [update, update, update, active, active]),
        ("DELETE", rule_path, None, [update, update, active, update, delete]),
    ):
        made.settle()
        made.send(method, path, body)
        assert made.statuses(*paths, its_path, rule_path) == after, (method, path)
    made.settle()
    made.rule(policy)
    made.settle()
    made.delete(its_path)
    assert made.statuses(*paths, its_path) == [update, update, active, delete]
    assert {v["provisioning_status"] for v in made.get(f"{its_path}/rules")["rules"]} == {delete}
    assert made.doorbell.wait(0) == {made.lb["id"]}


def test_what_goes_is_not_written_to(made: Any) -> None:
    policy = made.policy(made.a_listener)
    rule = made.rule(policy)
    other = made.policy(made.a_listener)
    made.delete(f"l7policies/{policy['id']}")
    body = {"rule": {"type": "PATH", "compare_type": "EQUAL_TO", "value": "/"}}
    refused = made.post(f"l7policies/{policy['id']}/rules", body, expect=409)
    assert refused["faultstring"] == f"L7Policy {policy['id']} is immutable and cannot be updated."
    made.put(f"l7policies/{policy['id']}/rules/{rule['id']}", {"rule": {"value": "/a"}}, expect=409)
    made.delete(f"listeners/{made.a_listener['id']}")
    made.put(f"l7policies/{other['id']}", {"l7policy": {"name": "x"}}, expect=409)
    assert made.statuses(f"l7policies/{other['id']}") == ["PENDING_DELETE"]
    body = {"l7policy": {"listener_id": made.a_listener["id"], "action": "REJECT"}}
    made.post("l7policies", body, expect=409)


def test_a_pool_that_a_policy_redirects_to_stays(made: Any) -> None:
    policy = made.policy(made.a_listener, action="REDIRECT_TO_POOL", redirect_pool_id=made.b_pool["id"])
    refused = made.delete(f"pools/{made.b_pool['id']}", expect=409)
    assert f"is in use by L7 policy {policy['id']}" in refused["faultstring"]
    made.put(f"l7policies/{policy['id']}", {"l7policy": {"redirect_pool_id": made.a_pool["id"]}})
    made.delete(f"pools/{made.b_pool['id']}")
    made.delete(f"pools/{made.a_pool['id']}", expect=409)
    made.delete(f"l7policies/{policy['id']}")
    made.delete(f"pools/{made.a_pool['id']}")
    assert made.get(f"listeners/{made.a_listener['id']}")["listener"]["default_pool_id"] is None


def test_a_pool_knows_the_listeners_whose_policies_use_it(made: Any) -> None:
    def users() -> list[str]:
        shown = made.get(f"pools/{made.b_pool['id']}")["pool"]
        written = made.put(f"pools/{made.b_pool['id']}", {"pool": {}})["pool"]
        assert written["listeners"] == shown["listeners"]
        for listener in (made.a_listener, other):
            found = made.get(f"pools?listener_id={listener['id']}")["pools"]
            assert (shown["id"] in [p["id"] for p in found]) == ({"id": listener["id"]} in shown["listeners"])
        tree = made.get(f"loadbalancers/{made.lb['id']}/status")["statuses"]["loadbalancer"]
        using = [v["id"] for v in tree["listeners"] if shown["id"] in [p["id"] for p in v["pools"]]]
        assert using == [v["id"] for v in shown["listeners"]]
        return [v["id"] for v in shown["listeners"]]

    made.clock.time += 1  # created_at is whole seconds
    other = made.listener(made.lb, protocol_port=81)
    policies = [
        made.policy(made.a_listener, action="REDIRECT_TO_POOL", redirect_pool_id=made.b_pool["id"]) for _ in range(2)
    ]
    assert users() == []
    for policy in policies:
        made.rule(policy)
    assert users() == [made.a_listener["id"]]
    made.put(f"listeners/{other['id']}", {"listener": {"default_pool_id": made.b_pool["id"]}})
    made.rule(made.policy(other, action="REDIRECT_TO_POOL", redirect_pool_id=made.b_pool["id"]))
    assert users() == [made.a_listener["id"], other["id"]]
    for policy in policies:
        made.put(f"l7policies/{policy['id']}", {"l7policy": {"admin_state_up": False}})
    assert users() == [other["id"]]


def test_what_is_not_there_is_404(made: Any) -> None:
    policy, other = made.policy(made.a_listener), made.policy(made.a_listener)
    rule = made.rule(policy)
    body = {"rule": {"type": "PATH", "compare_type": "EQUAL_TO", "value": "/"}}
    for method in ("GET", "PUT", "DELETE"):
        sent = {"rule": {}} if method == "PUT" else None
        for its_id in (nobody_has(), "x"):
            reply = made.send(method, f"l7policies/{policy['id']}/rules/{its_id}", sent)
            assert (reply.status_code, reply.json["faultstring"]) == (404, f"L7Rule {its_id} not found.")
            reply = made.send(method, f"l7policies/{its_id}/rules/{rule['id']}", sent)
            assert (reply.status_code, reply.json["title"]) == (404, "Bad Request")
        reply = made.send(method, f"l7policies/{other['id']}/rules/{rule['id']}", sent)
        assert reply.status_code == 404
    assert made.send("POST", f"l7policies/{nobody_has()}/rules", body).status_code == 404
    assert made.send("GET", f"l7policies/{nobody_has()}/rules").status_code == 404
    for path in ("l7policies", f"l7policies/{policy['id']}/rules"):
        for method in ("PUT", "DELETE"):
            assert made.send(method, path, {}).status_code == 400


def test_events_tell_of_policies_and_rules(made: Any) -> None:
    policy = made.policy(made.a_listener, name="n")
    rule = made.rule(policy, type="HEADER", key="X-K", invert=True)
    made.put(f"l7policies/{policy['id']}", {"l7policy": {"position": 1}})
    made.delete(f"l7policies/{policy['id']}/rules/{rule['id']}")
    events = made.get(f"loadbalancers/{made.lb['id']}/events?limit=4")["events"][::-1]
    words = f"L7 rule {rule['id']} (HEADER X-K not STARTS_WITH) of L7 policy n."
    assert [e["sentence"] for e in events] == [
        "Asked to create L7 policy n (REJECT) of listener l.", f"Asked to create {words}",
        "Asked to change L7 policy n (REJECT) of listener l.", f"Asked to delete {words}",
    ]  # fmt: skip
    assert [e["object_type"] for e in events] == ["l7policy", "l7rule", "l7policy", "l7rule"]


# A whole tree in one request

WEB = {"name": "web", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN"}
A_RULE = {"type": "PATH", "compare_type": "STARTS_WITH", "value": "/x"}


def _listener(*policies: Any, **fields: Any) -> dict[str, Any]:
    return {"protocol": "HTTP", "protocol_port": 80, "l7policies": list(policies), **fields}


def test_a_tree_comes_with_policies_and_rules(service: Service) -> None:
    lb = service.load_balancer(
        pools=[WEB],
        listeners=[
            _listener(
                {"action": "REJECT", "name": "c"},
                {"action": "REDIRECT_TO_POOL", "name": "b", "position": 2, "redirect_pool": {"name": "web"},
                 "rules": [A_RULE, {**A_RULE, "value": "/y", "tags": ["t"]}]},
                {"action": "REDIRECT_TO_POOL", "name": "a", "position": 1, "redirect_pool": {**WEB, "name": "own"},
                 "rules": [A_RULE]},
                default_pool={"name": "web"},
            )
        ],
    )  # fmt: skip
    (listener,) = lb["listeners"]
    policies = listener["l7policies"]
    pools = {p["name"]: p for p in lb["pools"]}
    assert [(p["name"], p["position"]) for p in policies] == [("a", 1), ("b", 2), ("c", 3)]
    assert [p["redirect_pool_id"] for p in policies] == [pools["own"]["id"], pools["web"]["id"], None]
    assert [len(p["rules"]) for p in policies] == [1, 2, 0]
    assert set(policies[0]) == POLICY_KEYS
    assert set(policies[0]["rules"][0]) == RULE_KEYS
    assert pools["own"]["listeners"] == [{"id": listener["id"]}]
    assert {p["provisioning_status"] for p in policies} == {"PENDING_CREATE"}
    shown = service.get(f"l7policies/{policies[1]['id']}")["l7policy"]
    assert sorted(r["id"] for r in shown["rules"]) == sorted(r["id"] for r in policies[1]["rules"])
    assert len(service.get(f"l7policies/{policies[1]['id']}/rules?tags=t")["rules"]) == 1
    (event,) = service.get(f"loadbalancers/{lb['id']}/events")["events"]
    assert event["sentence"].endswith("with 1 listener, 2 pools, 3 L7 policies.")


@pytest.mark.parametrize(
    ("listener", "expect"),
    [
        (_listener({}), 400),
        (_listener({"action": "REDIRECT_TO_POOL"}), 400),
        (_listener({"action": "REDIRECT_TO_POOL", "redirect_pool": {"name": "unknown"}}), 400),
        (_listener({"action": "REDIRECT_TO_POOL", "redirect_pool": WEB}), 400),
        (_listener({"action": "REDIRECT_TO_POOL", "redirect_pool": {"name": "web"}, "redirect_pool_id": POOL}), 400),
        (_listener({"action": "REDIRECT_TO_POOL", "redirect_pool": {}}), 400),
        (_listener({"action": "REDIRECT_TO_POOL", "redirect_pool_id": POOL}), 404),
        (_listener({"action": "REDIRECT_TO_POOL", "redirect_pool": {**WEB, "name": "t", "protocol": "TCP"}}), 400),
        (_listener({"action": "REJECT", "rules": [{}]}), 400),
        (_listener({"action": "REJECT", "rules": [{**A_RULE, "type": "HEADER"}]}), 400),
        (_listener({"action": "REJECT", "rules": [A_RULE] * 51}), 409),
        (_listener({"action": "REJECT", "listener_id": POOL}), 400),
        (_listener({"action": "REJECT"}, protocol="TCP"), 501),
    ],
    ids=str,
)
def test_a_wrong_tree_leaves_nothing(service: Service, listener: dict[str, Any], expect: int) -> None:
    body = {"vip_subnet_id": service.subnet.id, "pools": [WEB], "listeners": [listener]}
    service.post("loadbalancers", {"loadbalancer": body}, expect=expect)
    assert service.get("l7policies")["l7policies"] == service.get("loadbalancers")["loadbalancers"] == []


def test_policies_do_not_come_with_a_listener_alone(made: Any) -> None:
    body = {"loadbalancer_id": made.lb["id"], "protocol": "HTTP", "protocol_port": 81, "l7policies": [{}]}
    made.post("listeners", {"listener": body}, expect=501)

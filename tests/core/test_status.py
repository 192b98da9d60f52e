"""Operating statuses as tables: what is wanted, what was said, what follows."""

from dataclasses import replace

import pytest
from desired import tree
from hypothesis import given
from hypothesis import strategies as st

from colonnade.core.reasons import check
from colonnade.core.status import Verdict, judge
from colonnade.types import MonitorType, OperatingStatus
from colonnade.wire import Counters, Heartbeat, MemberState

MONITOR = {"type": "HTTP", "url_path": "/healthcheck", "delay": 5, "timeout": 3, "max_retries": 2}
UP = ("UP", "L7OK 200", "")
DOWN = ("DOWN", "L7STS 404", "HTTP status check returned code <404>")
REFUSED = ("DOWN", "L4CON", "Connection refused")


def seen(status, check="", text=""):
    return MemberState(status=status, check=check, text=text)


def lb(members=1, *, monitor=MONITOR, listeners=("web",), **more):
    """A load balancer with one pool; ``more`` are fields of one of its objects, named as ``kind={...}``."""
    people = [{"address": f"10.0.0.{5 + n}"} for n in range(members)]
    people[:1] = [{**p, **more.get("member", {})} for p in people[:1]]
    return tree({
        "load_balancer": more.get("load_balancer", {}),
        "listeners": [{"id": x, "default_pool_id": "p1", "protocol_port": 80 + n, **more.get("listener", {})}
                      for n, x in enumerate(listeners)],
        "pools": [{"id": "p1", "monitor": monitor, "members": people, **more.get("pool", {})}],
        "amphorae": more.get("amphorae", [{"id": "a1", "digest": "d"}]),
    })  # fmt: skip


def beat(amphora="a1", *, members=(UP,), pool="UP", status="OPEN", listeners=("web",), **more):
    names = [f"p1:{x}" for x in listeners]
    states = {f"p1-m{n + 1}": seen(*s) for n, s in enumerate(members)}
    said = {"digest": "d", "haproxy": "running", **more}
    return Heartbeat(
        amphora_id=amphora, sequence=1, time=1.0, epoch="e", pools=dict.fromkeys(names, pool) if pool else {},
        listeners={x: Counters(status=status, active_connections=7) for x in listeners if status},
        members=dict.fromkeys(names, states) if pool else {}, **said,
    )  # fmt: skip


def status(verdicts, *key):
    found = verdicts.get(key)
    return found and str(found.status)


LB, WEB, POOL, M1, HM = ("loadbalancer", "lb"), ("listener", "web"), ("pool", "p1"), ("member", "p1-m1"), (
    "healthmonitor", "p1-hm")  # fmt: skip

TABLE = [
    # what, tree, beats, expected
    ("all well", lb(), [beat()], {LB: "ONLINE", WEB: "ONLINE", POOL: "ONLINE", M1: "ONLINE", HM: "ONLINE"}),
    ("rising or falling, still up", lb(), [beat(members=[("UP 1/3", "L7STS 500", "")])],
     {M1: "ONLINE", POOL: "ONLINE"}),
    ("HAProxy does not run, which UDP does not need", lb(listener={"protocol": "UDP"}, pool={"protocol": "UDP"}),
     [beat(haproxy="failing")], {LB: "ONLINE", WEB: "ONLINE"}),
    ("HAProxy is not there, which UDP does not need", lb(listener={"protocol": "UDP"}, pool={"protocol": "UDP"}),
     [beat(haproxy="absent")], {LB: "ONLINE", WEB: "ONLINE", POOL: "ONLINE", M1: "ONLINE"}),
    ("a full UDP listener", lb(listener={"protocol": "UDP"}, pool={"protocol": "UDP"}), [beat(status="FULL")],
     {WEB: "DEGRADED", LB: "DEGRADED"}),
    ("the only member fails", lb(), [beat(members=[DOWN], pool="DOWN")],
     {LB: "ERROR", WEB: "ONLINE", POOL: "ERROR", M1: "ERROR"}),
    ("rising from down", lb(), [beat(members=[("DOWN 1/2", "L7OK 200", "")], pool="DOWN")], {M1: "ERROR"}),
    ("one of two fails", lb(2), [beat(members=[DOWN, UP])],
     {LB: "DEGRADED", POOL: "DEGRADED", M1: "ERROR", ("member", "p1-m2"): "ONLINE"}),
    ("no monitor", lb(monitor=None), [beat(members=[("no check",)])], {M1: "NO_MONITOR", POOL: "ONLINE", LB: "ONLINE"}),
    ("monitor down", lb(monitor={**MONITOR, "admin_state_up": False}), [beat(members=[("no check",)])],
     {M1: "NO_MONITOR", HM: "OFFLINE"}),
    ("weight 0", lb(2, member={"weight": 0}), [beat(members=[("DRAIN", "L7OK 200"), UP])],
     {M1: "DRAINING", POOL: "ONLINE", LB: "ONLINE"}),
    ("weight 0, said to be up", lb(2, member={"weight": 0}), [beat(members=[UP, UP])], {M1: "DRAINING"}),
    ("weight 0 and no monitor", lb(2, monitor=None, member={"weight": 0}), [beat(members=[("no check",)] * 2)],
     {M1: "DRAINING"}),
    ("weight 0 and failing", lb(2, member={"weight": 0}), [beat(members=[DOWN, UP])], {M1: "ERROR"}),
    ("member down", lb(2, member={"admin_state_up": False}), [beat(members=[("MAINT",), UP])],
     {M1: "OFFLINE", POOL: "ONLINE", LB: "ONLINE"}),
    ("all members down", lb(member={"admin_state_up": False}), [beat(members=[("MAINT",)], pool="DOWN")],
     {M1: "OFFLINE", POOL: "ERROR", LB: "ERROR"}),
    ("no members", lb(0), [beat(members=[])], {POOL: "ONLINE", LB: "ONLINE"}),
    ("no members, said to be down", lb(0), [beat(members=[], pool="DOWN")], {POOL: "ONLINE"}),
    ("listener full", lb(), [beat(status="FULL")], {WEB: "DEGRADED", LB: "DEGRADED"}),
    ("listener missing", lb(), [beat(status=None)], {WEB: "ERROR", LB: "ERROR"}),
    ("listener missing from an old word", lb(), [beat(status=None, digest="old")], {WEB: None, LB: "ONLINE"}),
    ("listener missing, not settled", lb(load_balancer={"provisioning_status": "PENDING_UPDATE"}),
     [beat(status=None)], {WEB: None, LB: "ONLINE"}),
    ("listener down", lb(listener={"admin_state_up": False}), [beat(status=None, pool=None)],
     {WEB: "OFFLINE", POOL: "OFFLINE", M1: "OFFLINE", LB: "ONLINE"}),
    ("listener down, no monitor", lb(monitor=None, listener={"admin_state_up": False}), [beat(status=None, pool=None)],
     {M1: "NO_MONITOR"}),
    ("pool down", lb(pool={"admin_state_up": False}), [beat(pool=None)],
     {WEB: "ONLINE", POOL: "OFFLINE", M1: "OFFLINE"}),
    ("pool missing", lb(), [beat(pool=None)], {WEB: "ONLINE", POOL: "OFFLINE", M1: None}),
    ("no listener", lb(listeners=()), [beat(status=None, pool=None)], {LB: "ONLINE", POOL: "OFFLINE", M1: "OFFLINE"}),
    ("load balancer down", lb(load_balancer={"admin_state_up": False}), [beat(status=None, pool=None)],
     {LB: "OFFLINE", WEB: "OFFLINE", POOL: "OFFLINE", M1: "OFFLINE", HM: "ONLINE"}),
    ("HAProxy does not run", lb(), [beat(status=None, pool=None, haproxy="failing", digest="x")],
     {WEB: "ERROR", LB: "ERROR"}),
    ("nothing said", lb(), [], {LB: None, WEB: None, POOL: None, M1: None, HM: "ONLINE"}),
    ("member just added", lb(2), [beat(members=[UP])], {M1: "ONLINE", ("member", "p1-m2"): None, POOL: "ONLINE"}),
    ("member going", lb(2, member={"provisioning_status": "PENDING_DELETE"}), [beat(members=[DOWN, UP])],
     {M1: None, POOL: "ONLINE"}),
    ("monitor just added, not checked yet", lb(), [beat(members=[("no check",)], digest="old")], {M1: None}),
    ("two amphorae disagree", lb(2, amphorae=[{"id": "a1", "digest": "d"}, {"id": "a2", "digest": "d"}]),
     [beat(members=[UP, UP]), beat("a2", members=[DOWN, UP])], {M1: "ERROR", POOL: "DEGRADED", LB: "DEGRADED"}),
    ("one that comes up does not count beside one that serves",
     lb(amphorae=[{"id": "a1", "digest": "d"}, {"id": "a2", "status": "BOOTING"}]),
     [beat(), beat("a2", members=[DOWN], pool="DOWN")], {M1: "ONLINE", LB: "ONLINE"}),
    ("the first one that comes up counts", lb(amphorae=[{"id": "a1", "status": "BOOTING"}]), [beat()], {LB: "ONLINE"}),
    ("one that goes does not count", lb(amphorae=[{"id": "a1", "status": "PENDING_DELETE"}]), [beat()], {LB: None}),
]  # fmt: skip


@pytest.mark.parametrize(("what", "wanted", "beats", "expected"), TABLE, ids=[row[0] for row in TABLE])
def test_status_follows_from_what_is_wanted_and_said(what, wanted, beats, expected):
    verdicts = judge(wanted, {b.amphora_id: b for b in beats}, {})
    assert {key: status(verdicts, *key) for key in expected} == expected


def test_two_listeners_of_one_pool_count_once_and_the_worst_word_counts():
    said = beat(listeners=("web", "raw"), members=[UP, UP])
    said.members["p1:raw"] = {"p1-m1": seen(*REFUSED), "p1-m2": seen(*UP)}
    verdicts = judge(lb(2, listeners=("web", "raw")), {"a1": said}, {})
    assert status(verdicts, *M1) == "ERROR"
    assert verdicts[POOL].reason.startswith("1 of 2 members failing.")


def test_a_silent_amphora_makes_the_load_balancer_error():
    verdicts = judge(lb(), {}, {"a1": 61.4})
    assert verdicts[LB].status is OperatingStatus.ERROR
    assert verdicts[LB].reason.startswith("Amphora a1 has sent no word for 61 s.")


def test_one_silent_amphora_of_two_degrades():
    wanted = lb(amphorae=[{"id": "a1", "digest": "d"}, {"id": "a2", "digest": "d"}])
    verdicts = judge(wanted, {"a1": beat()}, {"a2": 70})
    assert status(verdicts, *LB) == "DEGRADED"
    assert status(verdicts, *M1) == "ONLINE"


CHECKS = [
    ("L7STS 404", "", "The health check got HTTP 404 from 10.0.0.5:80/healthcheck; expected 200."),
    ("L7STS", "HTTP status check returned code <503>",
     "The health check got HTTP 503 from 10.0.0.5:80/healthcheck; expected 200."),
    ("* L7STS/500", "", "The health check got HTTP 500 from 10.0.0.5:80/healthcheck; expected 200."),
    ("L4CON", "Connection refused", "The health check's connection to 10.0.0.5:80/healthcheck was refused."),
    ("L4CON", "Layer4 connection problem: General socket error (Network is unreachable)",
     "If no VIP of it is of that IP version, create the member anew with the subnet_id of a subnet that is"),
    ("L4CON", "No route to host", "could not connect to 10.0.0.5:80/healthcheck (No route to host)."),
    ("L4TOUT", "", "got no answer from 10.0.0.5:80/healthcheck when connecting."),
    ("L6RSP", "SSL handshake failure", "the TLS handshake failed (SSL handshake failure)."),
    ("L6TOUT", "", "the TLS handshake did not end within 3 s."),
    ("L7TOUT", "", "got no answer within 3 s."),
    ("L7RSP", "", "is not HTTP."),
    ("SOCKERR", "", "could not open a connection"),
    ("INI", "", "has not had a result yet."),
    ("", "", "has not had a result yet."),
    ("PROCERR 1", "", "failed: PROCERR 1."),
    ("NEWCODE", "odd", "failed: NEWCODE (odd)."),
]  # fmt: skip


@pytest.mark.parametrize(("code", "text", "expected"), CHECKS)
def test_a_failed_check_is_told_in_a_sentence(code, text, expected):
    wanted = lb()
    (member,), (monitor,) = wanted.members, wanted.health_monitors
    assert expected in check(member, monitor, seen("DOWN", code, text))


def test_a_ping_that_fails_names_the_address_only():
    wanted = lb(member={"monitor_address": "fd00::5"})
    monitor = replace(wanted.health_monitors[0], type=MonitorType.PING)
    said = check(wanted.members[0], monitor, seen("DOWN", "PROCERR"))
    assert said.startswith("fd00::5 does not answer pings.")


words = st.sampled_from(["UP", "UP 1/2", "DOWN", "DOWN 1/2", "DRAIN", "MAINT", "no check", "NOLB", "odd"])
states = st.builds(seen, words, st.sampled_from(["", "L4CON", "L7STS 404", "* L7OK", "PROCERR"]), st.text(max_size=9))
wishes = st.builds(
    lambda count, monitor, listeners, member, pool, listener, balancer: lb(
        count, monitor=monitor, listeners=listeners, member=member, pool=pool, listener=listener,
        load_balancer=balancer,
    ),
    st.integers(0, 3), st.sampled_from([None, MONITOR, {"type": "PING"}]),
    st.sampled_from([(), ("web",), ("web", "raw")]),
    st.fixed_dictionaries({"admin_state_up": st.booleans(), "weight": st.integers(0, 2)}),
    st.fixed_dictionaries({"admin_state_up": st.booleans()}), st.fixed_dictionaries({"admin_state_up": st.booleans()}),
    st.fixed_dictionaries({"admin_state_up": st.booleans(),
                           "provisioning_status": st.sampled_from(["ACTIVE", "PENDING_UPDATE", "ERROR"])}),
)  # fmt: skip
said = st.builds(
    lambda members, pool, full, running, digest: replace(
        beat(pool=pool, status=full, haproxy=running, digest=digest),
        members={"p1:web": {f"p1-m{n + 1}": s for n, s in enumerate(members)}},
    ),
    st.lists(states, max_size=4), st.sampled_from(["UP", "DOWN", None]), st.sampled_from(["OPEN", "FULL", None]),
    st.sampled_from(["running", "failing"]), st.sampled_from(["d", "x", None]),
)  # fmt: skip


@given(wishes, said)
def test_whatever_is_not_well_has_a_reason_and_whatever_is_well_has_none(wanted, word):
    for verdict in judge(wanted, {"a1": word}, {}).values():
        assert isinstance(verdict, Verdict)
        assert (verdict.reason is None) == (verdict.status in (OperatingStatus.ONLINE, OperatingStatus.NO_MONITOR))


@given(wishes, said)
def test_what_is_administratively_down_is_offline(wanted, word):
    verdicts = judge(wanted, {"a1": word}, {})
    for kind, things in (("member", wanted.members), ("pool", wanted.pools), ("listener", wanted.listeners)):
        for thing in things:
            if not thing.admin_state_up:
                assert status(verdicts, kind, thing.id) == "OFFLINE"


@given(wishes, said)
def test_a_load_balancer_is_not_well_when_a_member_that_counts_is_not(wanted, word):
    verdicts = judge(wanted, {"a1": word}, {})
    failing = [k for k, v in verdicts.items() if k[0] == "pool" and v.status is OperatingStatus.ERROR]
    if failing:
        assert status(verdicts, *LB) == "ERROR"


@pytest.mark.parametrize(
    ("words", "policy", "rule", "pool"),
    [
        ([DOWN], True, True, "ERROR"), ([UP], True, True, "ONLINE"), ([UP], False, True, "OFFLINE"),
        ([UP], True, False, "OFFLINE"),
    ],
)  # fmt: skip
def test_a_pool_that_only_a_policy_uses_is_judged_too(words, policy, rule, pool):
    rules = [{"PATH": {"EQUAL_TO": "/"}, "admin_state_up": rule}]
    sends = {"action": "REDIRECT_TO_POOL", "redirect_pool_id": "p1", "admin_state_up": policy, "rules": rules}
    wanted = lb(listener={"default_pool_id": None, "policies": [sends]})
    used = policy and rule
    found = judge(wanted, {"a1": beat(members=words, pool=("DOWN" if words == [DOWN] else "UP") if used else None)}, {})
    assert status(found, *POOL) == pool
    assert status(found, *LB) == ("ERROR" if pool == "ERROR" else "ONLINE")
    assert status(found, "l7policy", "web-l1") == ("ONLINE" if policy else "OFFLINE")
    assert status(found, "l7rule", "web-l1-r1") == ("ONLINE" if rule else "OFFLINE")

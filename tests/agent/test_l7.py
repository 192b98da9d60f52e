"""L7 policies come, change and go while an amphora serves."""

import os
import signal
import socket
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rig import Rig, Traffic, eventually, get

from colonnade import wire
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
TO_POOL = {"action": L7Action.REDIRECT_TO_POOL, "redirect_pool_id": "p2"}
REJECT = {"action": L7Action.REJECT}
STARTS, CONTAINS = L7CompareType.STARTS_WITH, L7CompareType.CONTAINS


class Site:
    """A listener on an amphora: member m1 answers by default, m2 is pool p2's."""

    def __init__(self, rig: Rig) -> None:
        self.rig, self.vip = rig, rig.address()
        self.bundle = rig.bundle(rig.amphora(), self.vip, None)

    def push(self, *policies: dict[str, Any]) -> list[int]:
        """Policies in their order. ``rules`` are of what begins with /x unless given. The processes after it."""
        self.bundle = replace(self.bundle, files=_files(self.rig, self.vip, policies))
        self.rig.push(self.bundle)
        return self.pids

    @property
    def pids(self) -> list[int]:
        return sorted(self.rig.processes(self.bundle.amphora_id))

    def ask(self, path: str = "/x", header: str = "") -> tuple[int, str]:
        """Status, and the answer's body or the place that is redirected to. ``header`` is sent as X-K."""
        with socket.create_connection((self.vip, 80), 20) as s:
            s.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nX-K: {header}\r\nConnection: close\r\n\r\n".encode())
            head, _, body = b"".join(iter(lambda: s.recv(65536), b"")).decode().partition("\r\n\r\n")
        if not head:
            raise ConnectionError("the connection was closed")
        lines = head.split("\r\n")
        where = next((line.partition(": ")[2] for line in lines if line.lower().startswith("location: ")), body)
        status = int(lines[0].split()[1])
        return status, "" if status == 403 else where


def _files(rig: Rig, vip: str, policies: tuple[dict[str, Any], ...]) -> dict[str, str]:
    own = {**COMMON, "loadbalancer_id": "b"}
    pools = tuple(
        Pool(id=f"p{n}", protocol=PoolProtocol.HTTP, lb_algorithm=Algorithm.ROUND_ROBIN, **own) for n in (1, 2)
    )
    members = tuple(
        Member(id=f"m{n}", pool_id=f"p{n}", address=f"{rig.net}.0.{9 + n}", protocol_port=80, **own) for n in (1, 2)
    )
    begins = {"type": L7RuleType.PATH, "compare_type": STARTS, "value": "/x"}
    made, rules = [], []
    for n, policy in enumerate(policies, 1):
        fields = {**own, "id": f"l{n}", "listener_id": "web", "position": n, **policy}
        its_rules = fields.pop("rules", [begins])
        made.append(L7Policy(**fields))
        rules += [L7Rule(**{"id": f"l{n}-r{k}", "l7policy_id": f"l{n}", **own, **r}) for k, r in enumerate(its_rules)]
    listener = Listener(id="web", protocol=ListenerProtocol.HTTP, protocol_port=80, default_pool_id="p1", **own)
    tree = Tree(
        load_balancer=LoadBalancer(id="b", **COMMON), listeners=(listener,), pools=pools, members=members,
        l7policies=tuple(made), l7rules=tuple(rules),
    )  # fmt: skip
    return haproxy.render(tree, [vip], haproxy.Limits())


@pytest.fixture
def site(rig: Rig) -> Site:
    return Site(rig)


def test_changing_policies_under_traffic_fails_nothing(site: Site) -> None:
    site.push()
    assert get(site.vip, path="/x") == "m1"
    with Traffic(site.vip) as traffic:
        site.push(TO_POOL)
        eventually(lambda: get(site.vip, path="/x/y") == "m2")
        site.push(TO_POOL, REJECT)
        traffic.flow(30)
        assert get(site.vip, path="/x") == "m2"
        site.push(REJECT, TO_POOL)
        traffic.flow(30)
        with pytest.raises(ConnectionError, match="403"):
            get(site.vip, path="/x")
        site.push()
        eventually(lambda: get(site.vip, path="/x") == "m1")
        traffic.flow(30)
    assert traffic.failures == []
    assert set(traffic.answers) == {"m1"}


def _rule(value: str, **fields: Any) -> dict[str, Any]:
    return {"type": L7RuleType.PATH, "compare_type": STARTS, "value": value, **fields}


def _to(url: str, **fields: Any) -> dict[str, Any]:
    return {"action": L7Action.REDIRECT_TO_URL, "redirect_url": url, **fields}


Q2 = {**TO_POOL, "rules": [_rule("/q")]}  # so that pool p2 has its place
CHANGES = [  # before and after; what /x and /y are answered then
    ((REJECT,), ({**REJECT, "rules": [_rule("/y")]},), (200, "m1"), (403, "")),
    (({**REJECT, "rules": [_rule("/x"), _rule("/x", invert=True)]},),
     ({**REJECT, "rules": [_rule("/x"), _rule("/y", invert=True)]},), (403, ""), (200, "m1")),
    ((_to("http://old/"),), (_to("http://new/"),), (302, "http://new/"), (200, "m1")),
    (({"action": L7Action.REDIRECT_PREFIX, "redirect_prefix": "http://old"},),
     ({"action": L7Action.REDIRECT_PREFIX, "redirect_prefix": "http://new/"},), (302, "http://new//x"), (200, "m1")),
    ((Q2, TO_POOL), (Q2, {**TO_POOL, "redirect_pool_id": "p1"}), (200, "m1"), (200, "m1")),
    ((Q2, {**TO_POOL, "redirect_pool_id": "p1"}), (Q2, TO_POOL), (200, "m2"), (200, "m1")),
    ((Q2, {**TO_POOL, "admin_state_up": False}), (Q2, TO_POOL), (200, "m2"), (200, "m1")),
    ((Q2, TO_POOL), (Q2, {**TO_POOL, "admin_state_up": False}), (200, "m1"), (200, "m1")),
    (({**REJECT, "admin_state_up": False},), (REJECT,), (403, ""), (200, "m1")),
    ((REJECT,), ({**REJECT, "admin_state_up": False},), (200, "m1"), (200, "m1")),
    (({**REJECT, "admin_state_up": False}, _to("http://u/")), (REJECT, _to("http://u/")), (403, ""), (200, "m1")),
    ((REJECT, _to("http://u/")), ({**REJECT, "admin_state_up": False}, _to("http://u/")), (302, "http://u/"),
     (200, "m1")),
    ((_to("http://a/"), {**REJECT, "admin_state_up": False}), (_to("http://a/"), REJECT), (302, "http://a/"),
     (200, "m1")),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after", "x", "y"), CHANGES)
def test_these_change_while_haproxy_runs(
    site: Site, before: tuple[dict[str, Any]], after: tuple[dict[str, Any]], x: tuple[int, str], y: tuple[int, str]
) -> None:
    """And a HAProxy that is started on the files does the same."""
    was = site.push(*before)
    with Traffic(site.vip) as traffic:
        assert site.push(*after) == was
        assert (site.ask("/x"), site.ask("/y")) == (x, y)
        traffic.flow(20)
    assert traffic.failures == []
    (pid,) = was
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: site.ask("/") == (200, "m1") and site.pids != was)
    assert (site.ask("/x"), site.ask("/y")) == (x, y)


RELOADS = [
    ((REJECT,), ({**REJECT, "rules": [_rule("/y"), _rule("/y")]},)),
    ((REJECT,), ({**REJECT, "rules": [_rule("/x", invert=True)]},)),
    ((REJECT,), ({**REJECT, "rules": [_rule("/x", compare_type=CONTAINS)]},)),
    ((REJECT, _to("http://x/")), (_to("http://x/"), REJECT)),
    ((TO_POOL,), ({**TO_POOL, "admin_state_up": False},)),  # with the only one that sends there, the backend goes
    (({**REJECT, "rules": [_rule("/a"), _rule("/b")]},), ({**REJECT, "rules": [_rule("/c"), _rule("/d")]},)),
    ((REJECT,), ({**REJECT, "admin_state_up": False, "rules": [_rule("/y")]},)),
]


@pytest.mark.parametrize(("before", "after"), RELOADS)
def test_all_else_is_a_reload(site: Site, before: tuple[dict[str, Any]], after: tuple[dict[str, Any]]) -> None:
    """Two rules at once, too: between the two, requests would be met by what nobody asked for."""
    was = site.push(*before)
    assert site.push(*after) != was


def _holds(value: str) -> dict[str, Any]:
    header = {"type": L7RuleType.HEADER, "key": "X-K", "compare_type": CONTAINS, "value": value}
    return {**REJECT, "rules": [header]}


HOSTILE = (
    "<<", "a <<", ";", "a;show info", "\\", "\\\\", "a\\", "\\;", "#", "#a", "# a", "-i", "--", "-f", "@1", "a b  c",
    "a ", "'", '"', "\"a b\"", "$HOME${HOME}", "%[src]%%", "é\u2028\u3000", "\u3000", "prompt", "{}()|&!*?~`^",
)  # fmt: skip


def test_hostile_values_come_through_while_haproxy_runs(site: Site) -> None:
    _come_through(site, *HOSTILE)


words = st.text(st.characters(min_codepoint=32, exclude_categories=("Cc", "Cs")), min_size=1, max_size=60)


@given(st.lists(words.filter(lambda v: v.strip("\t ") and v[0] != " "), min_size=3, max_size=3))
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_a_user_may_set_comes_through_while_haproxy_runs(rig: Rig, values: list[str]) -> None:
    _come_through(Site(rig), *values)
    rig.forget()


def _come_through(site: Site, *values: str) -> None:
    was = site.push(_holds("nothing"))
    for value in values:
        assert site.push(_holds(value)) == was, value
        assert site.ask("/", f"x{value}x") == (403, ""), value
        if not value[0] == value[-1] == '"':  # then it counts without them, too
            assert site.ask("/", value[:-1])[0] == 200, value


def test_hostile_places_come_through_while_haproxy_runs(site: Site) -> None:
    was = site.push(_to("http://old/"))
    for end in HOSTILE:
        url = f"http://x/{end}".replace(" ", "")
        assert site.push(_to(url)) == was
        assert site.ask() == (302, url)


def test_what_the_runtime_socket_would_not_carry_is_a_reload(site: Site) -> None:
    was = site.push(_holds("a"))
    now = site.push(_holds(" leading"))
    assert now != was
    assert site.ask("/", "x leadingx") == (403, "")
    assert site.ask("/", "xleading")[0] == 200


def test_a_regular_expression_that_haproxy_refuses_changes_nothing(site: Site) -> None:
    def expression(value: str) -> dict[str, Any]:
        return {**REJECT, "rules": [_rule(value, compare_type=L7CompareType.REGEX)]}

    was = site.push(expression("^/x$"))
    with pytest.raises(Exception, match="refuses"):
        site.push(expression("[[:nothing:]]"))
    assert site.ask("/x") == (403, "")
    assert site.push(expression("^/y$")) == was
    assert (site.ask("/x"), site.ask("/y")) == ((200, "m1"), (403, ""))


def test_a_change_at_run_time_is_in_the_files(site: Site) -> None:
    site.push(REJECT)
    (pid,) = site.push({**REJECT, "rules": [_rule("/new")]})
    assert Path(f"/proc/{pid}/cwd/l1-r0.acl").read_text() == "/new\n"
    assert (site.rig.client.observe(site.rig.url, site.bundle.amphora_id) or {})["digest"] == wire.digest(site.bundle)

"""Each target of the policy with each role, under the default rules and under the files that we ship."""

import os
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from lb_service import Service, Ticking

from colonnade.api import access, policies
from colonnade.configuration import load
from colonnade.model import Caller
from colonnade.settings import OsloPolicy, Settings, WrongSetting

pytestmark = pytest.mark.any_database

FILES = Path(__file__).parents[2] / "etc" / "policy"
READ = ("get_all", "get_one")
WRITE = ("post", "put", "delete")

# The contract: target -> R read, RG read in every project, W write, A administrators, and the same of quotas.
TARGETS = {
    **{f"{k}:{v}": "R" for k in ("loadbalancer", "listener", "pool", "healthmonitor", "l7policy", "member", "l7rule")
       for v in READ},
    **{f"{k}:get_all-global": "RG" for k in ("loadbalancer", "listener", "pool", "healthmonitor", "l7policy")},
    **{f"{k}:{v}": "W" for k in ("loadbalancer", "listener", "pool", "healthmonitor", "l7policy", "member", "l7rule")
       for v in WRITE},
    "loadbalancer:post:vip_sg_ids": "W", "loadbalancer:put:vip_sg_ids": "W",
    "loadbalancer:get_stats": "R", "loadbalancer:get_status": "R", "loadbalancer:put_failover": "A",
    "listener:get_stats": "R",
    "quota:get_all": "QR", "quota:get_one": "QR", "quota:get_defaults": "QR", "quota:get_all-global": "QRG",
    "quota:put": "QW", "quota:delete": "QW",
    "provider:get_all": "R", "provider-flavor:get_all": "A", "provider-availability-zone:get_all": "A",
    **{f"{k}:{v}": "R" for k in ("flavor", "availability-zone") for v in READ},
    **{f"{k}:{v}": "A" for k in ("flavor", "availability-zone") for v in WRITE},
    **{f"{k}:{v}": "A" for k in ("flavor-profile", "availability-zone-profile") for v in (*READ, *WRITE)},
    **{f"amphora:{v}": "A" for v in (*READ, "get_stats", "put_config", "put_failover", "delete")},
}  # fmt: skip

ALL = frozenset({"R", "RG", "W", "A", "QR", "QRG", "QW"})
OWN = frozenset({"R", "W", "QR"})
SEE = frozenset({"R", "QR"})
NONE: frozenset[str] = frozenset()

# file (None: the defaults) -> roles of a caller -> (allowed in their project, allowed in another)
GRANTS: dict[str | None, dict[str, tuple[frozenset[str], frozenset[str]]]] = {
    None: {
        "admin member reader": (ALL, ALL), "admin": (ALL, ALL),
        "member reader": (OWN, NONE), "member": (OWN, NONE), "reader": (SEE, NONE), "": (NONE, NONE),
        "load-balancer_admin": (NONE, NONE), "load-balancer_member": (NONE, NONE),
        "load-balancer_observer": (NONE, NONE), "load-balancer_global_observer": (NONE, NONE),
        "load-balancer_quota_admin": (NONE, NONE), "somebody": (NONE, NONE),
    },
    "octavia-advanced-rbac-policy.yaml": {
        "admin": (ALL, ALL), "load-balancer_admin": (ALL, ALL),
        "member reader": (NONE, NONE), "reader": (NONE, NONE), "": (NONE, NONE),
        "member reader load-balancer_member": (OWN, NONE), "load-balancer_member": (OWN, NONE),
        "load-balancer_observer": (SEE, NONE),
        "load-balancer_global_observer": (SEE | {"RG", "QRG"}, SEE | {"RG", "QRG"}),
        "load-balancer_quota_admin": (frozenset({"QR", "QRG", "QW"}), frozenset({"QR", "QRG", "QW"})),
    },
    "admin_or_owner-policy.yaml": {
        "admin": (ALL, ALL), "load-balancer_admin": (ALL, ALL),
        "member reader": (OWN, NONE), "reader": (OWN, NONE), "": (OWN, NONE),
    },
    "keystone_default_roles-policy.yaml": {
        "admin member reader": (ALL, ALL), "admin": (ALL, ALL), "load-balancer_admin": (ALL, ALL),
        "member reader": (OWN, NONE), "reader": (SEE, NONE), "": (NONE, NONE), "load-balancer_member": (NONE, NONE),
    },
    "keystone_default_roles_scoped-policy.yaml": {
        "admin member reader": (OWN, NONE), "admin": (NONE, NONE), "load-balancer_admin": (frozenset("A"),) * 2,
        "member reader": (OWN, NONE), "reader": (SEE, NONE), "": (NONE, NONE),
    },
}  # fmt: skip
SYSTEM = {  # tokens of the system, likewise; they own nothing
    None: {"admin member reader": NONE, "reader": NONE},
    "keystone_default_roles-policy.yaml": {"admin member reader": NONE},
    "keystone_default_roles_scoped-policy.yaml": {
        "admin member reader": ALL, "reader": SEE | {"RG", "QRG"}, "member": NONE, "": NONE,
    },
}  # fmt: skip


def rules_of(file: str | Path | None, **more: Any) -> access.Policy:
    given = OsloPolicy(policy_file=str(FILES / file) if file else "policy.yaml", **more)
    return access.Policy(Settings(oslo_policy=given), Ticking())


def someone(rules: access.Policy, roles: str, **more: Any) -> Caller:
    given = {"user_id": "u", "project_id": "p", "roles": frozenset(roles.split()), **more}
    return Caller(**given, rules=rules)


def test_there_are_these_81_targets() -> None:
    assert len(TARGETS) == 81
    assert {t.name for t in policies.TARGETS} == set(TARGETS)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("file", GRANTS)
def test_each_target_with_each_role(file: str | None, target: str, rules: dict[str | None, access.Policy]) -> None:
    for roles, (own, foreign) in GRANTS[file].items():
        who = someone(rules[file], roles)
        assert access.allows(target, who, "p") is (TARGETS[target] in own), roles
        assert access.allows(target, who, "another") is (TARGETS[target] in foreign), roles
        nobodys = someone(rules[file], roles, project_id=None)
        assert access.allows(target, nobodys, None) is (TARGETS[target] in foreign), roles
    for roles, granted in SYSTEM.get(file, {}).items():
        of_all = someone(rules[file], roles, project_id=None, system_scope="all")
        assert access.allows(target, of_all, "p") is (TARGETS[target] in granted), roles
    assert not access.allows(target, someone(rules[file], "admin", project_id=None, domain_id="d"), "p")


@pytest.fixture(scope="module")
def rules() -> dict[str | None, access.Policy]:
    return {file: rules_of(file) for file in GRANTS}


def test_another_service_lists_members_and_no_more() -> None:
    service = someone(rules_of(None), "service")
    assert [t for t in TARGETS if access.allows(t, service, "another")] == ["member:get_all"]


def test_whoever_has_no_rules_may_do_nothing() -> None:
    who = Caller(user_id="u", project_id="p", roles=frozenset({"admin"}))
    assert not any(access.allows(target, who, "p") for target in TARGETS)


def test_requests_without_a_token_are_an_administrators_under_all_rules() -> None:
    for file in GRANTS:
        who = someone(rules_of(file), "admin member reader", trusted=True)
        assert all(access.allows(target, who, "another") for target in TARGETS), file


def test_the_roles_of_old_defaults_can_be_let_in_beside_the_new() -> None:
    both = rules_of(None, enforce_new_defaults=False)
    allowed = {
        "load-balancer_member": OWN, "load-balancer_observer": SEE, "load-balancer_admin": ALL, "member": OWN,
        "load-balancer_quota_admin": {"QR", "QRG", "QW"},
    }  # fmt: skip
    for roles, granted in allowed.items():
        who = someone(both, roles)
        assert {TARGETS[t] for t in TARGETS if access.allows(t, who, "p")} == granted, roles


@pytest.fixture
def beside(tmp_path: Path) -> Settings:
    """Settings whose file is in a directory of its own."""
    (tmp_path / "colonnade.conf").touch()
    return load([str(tmp_path / "colonnade.conf")])


def test_a_changed_file_counts_within_a_second(beside: Settings, tmp_path: Path) -> None:
    clock, file = Ticking(), tmp_path / "policy.yaml"
    rules = access.Policy(beside, clock)
    reader = someone(rules, "reader")

    def may(target: str) -> bool:
        clock.sleep(1)
        return access.allows(target, reader, "p")

    assert not may("loadbalancer:post")
    file.write_text('"os_load-balancer_api:loadbalancer:post": "role:reader"\n')
    assert may("loadbalancer:post")
    file.write_text('"os_load-balancer_api:loadbalancer:post": "role:editor"\n')
    os.utime(file, ns=(0, 0))  # older than before: what an unpacked archive has
    assert not may("loadbalancer:post")
    (tmp_path / "policy.d").mkdir()
    (tmp_path / "policy.d" / "10-more.yaml").write_text('"os_load-balancer_api:loadbalancer:post": "@"\n')
    assert may("loadbalancer:post")
    (tmp_path / "policy.d" / "10-more.yaml").unlink()
    assert not may("loadbalancer:post")
    file.unlink()
    assert not may("loadbalancer:post")
    assert may("loadbalancer:get_one")


WRONG = [
    '"a": "role:x or"',
    '"a": 1',
    "- a",
    '"a": "rule:nowhere"',
    '"a": "rule:b"\n"b": "rule:a"',
    "a: b: c",
    '"a": "x"',
]


@pytest.mark.parametrize("text", WRONG)
def test_a_file_that_is_wrong_stops_the_start_and_changes_nothing_later(
    beside: Settings, tmp_path: Path, text: str
) -> None:
    clock, file = Ticking(), tmp_path / "policy.yaml"
    file.write_text('"load-balancer:write": "role:writer"\n')
    rules = access.Policy(beside, clock)
    file.write_text(text)
    clock.sleep(1)
    assert access.allows("listener:put", someone(rules, "writer"), "p")
    with pytest.raises(WrongSetting, match="policy_file"):
        access.Policy(beside, clock)


def test_json_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "policy.json").write_text("{}")
    with pytest.raises(WrongSetting, match="oslopolicy-convert-json-to-yaml"):
        rules_of(tmp_path / "policy.json")


def test_rules_that_look_at_more_than_roles_are_not_answered_for_others(beside: Settings, tmp_path: Path) -> None:
    lines = ['"load-balancer:read": "user_id:u1 or project_id:special"', '"load-balancer:write": "user_id:u2"']
    (tmp_path / "policy.yaml").write_text("\n".join(lines))
    rules = access.Policy(beside, Ticking())
    for _ in range(2):
        for user, project, target, fine in (
            ("u1", "p", "pool:get_one", True), ("u2", "p", "pool:get_one", False), ("u1", "p", "pool:put", False),
            ("u2", "p", "pool:put", True), ("u3", "special", "pool:get_one", True), ("u3", "p", "pool:get_one", False),
        ):  # fmt: skip
            who = someone(rules, "member", user_id=user, project_id=project)
            assert access.allows(target, who, "any") is fine, (user, project, target)


def test_a_rule_may_ask_a_server_and_asks_it_each_time(beside: Settings, tmp_path: Path) -> None:
    answers = [b"True", b"False", b"True"]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answers.pop(0))

        def log_message(self, *_args: Any) -> None:
            """Keep quiet."""

    served = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=served.serve_forever, daemon=True).start()
    (tmp_path / "policy.yaml").write_text(f'"load-balancer:read": "http://127.0.0.1:{served.server_port}/ask"')
    rules = access.Policy(beside, Ticking())
    assert [access.allows("pool:get_one", someone(rules, "member"), "p") for _ in range(3)] == [True, False, True]
    served.shutdown()
    served.server_close()


def test_the_shipped_files_say_nothing_that_is_so_anyway() -> None:
    standard = rules_of(None).effective()
    for file in FILES.iterdir():
        named = {line.split('"')[1] for line in file.read_text().splitlines() if line.startswith('"')}
        found = rules_of(file).effective()
        assert not [name for name in named if found[name] == standard.get(name)], file


def test_the_reference_page_agrees_with_the_code() -> None:
    page = Path(__file__).parents[2] / "docs" / "policies.md"
    assert page.read_text() == policies.markdown(), "run: python -m colonnade policy markdown > docs/policies.md"


def test_the_sample_with_its_comments_taken_off_is_the_defaults(tmp_path: Path) -> None:
    lines = [line.removeprefix("#") for line in policies.sample().splitlines() if line.startswith('#"')]
    (tmp_path / "policy.yaml").write_text("\n".join(lines))
    assert rules_of(tmp_path / "policy.yaml").effective() == rules_of(None).effective()


def test_a_policy_file_counts_for_requests(service: Service, beside: Settings, tmp_path: Path) -> None:
    lb = service.load_balancer()
    (tmp_path / "policy.yaml").write_text('"os_load-balancer_api:loadbalancer:get_one": "role:admin"\n')
    service.configured_by(beside.files)
    service.get(f"loadbalancers/{lb['id']}", expect=403)
    service.get(f"loadbalancers/{lb['id']}", by="admin")
    service.get("loadbalancers")

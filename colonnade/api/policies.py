"""The policy's targets and rules, each said once, with Octavia's names and defaults.

What enforces them is ``api.access``; ``docs/policies.md`` and the sample file are made from here.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from oslo_policy.policy import DeprecatedRule, DocumentedRuleDefault, RuleDefault

PREFIX = "os_load-balancer_api:"
IS_ADMIN = "context_is_admin"  # decides what is_admin:True means in the other rules
_SINCE = "2025.1"
_WHY = "Keystone's default roles are enough; roles of load balancing alone need an override file."


@dataclass(frozen=True, slots=True)
class Target:
    """One thing that can be done, the rule that it takes, and the requests that do it."""

    name: str  # without the prefix
    rule: str
    description: str
    operations: tuple[str, ...]  # "GET /v2/lbaas/..."
    also: tuple[str, ...] = ()  # rules that will do, too

    @property
    def check(self) -> str:
        """In oslo.policy's language."""
        return " or ".join(f"rule:{rule}" for rule in (self.rule, *self.also))

    @property
    def full_name(self) -> str:
        """As a policy file writes it."""
        return PREFIX + self.name


def defaults() -> list[RuleDefault]:
    """Everything to register with an enforcer, rules before targets."""
    return [*_rules(), *map(_documented, TARGETS)]


def sample() -> str:
    """A policy file in which everything stands as a comment."""
    lines = ["# Every rule and target with its default. Uncomment what you change.", ""]
    for rule in _rules():
        lines += [f"# {rule.description}", f'#"{rule.name}": "{rule.check_str}"', ""]
    for target in TARGETS:
        lines += [f"# {target.description}", *(f"# {operation}" for operation in target.operations)]
        lines += [f'#"{target.full_name}": "{target.check}"', ""]
    return "\n".join(lines)


def markdown() -> str:
    """docs/policies.md."""
    lines = [_HEAD, "| rule | default | before 2025.1 |", "|---|---|---|"]
    for rule in _rules():
        old = f"`{rule.deprecated_rule.check_str}`" if rule.deprecated_rule else ""
        lines.append(f"| `{rule.name}` | `{rule.check_str}` | {old} |")
    lines += [_TARGETS_HEAD, "| target | rule | requests |", "|---|---|---|"]
    for target in TARGETS:
        requests = ", ".join(f"`{operation}`" for operation in target.operations)
        lines.append(f"| `{target.name}` | `{target.check}` | {requests} |")
    return "\n".join(lines) + "\n"


def _rule(name: str, check: str, description: str, old: str | None = None) -> RuleDefault:
    deprecated = DeprecatedRule(name, old, deprecated_reason=_WHY, deprecated_since=_SINCE) if old else None
    return RuleDefault(name, check, description, deprecated_rule=deprecated)


def _rules() -> list[RuleDefault]:
    return [
        _rule(IS_ADMIN, "role:admin", "Who is_admin:True stands for.", "role:admin or role:load-balancer_admin"),
        _rule("load-balancer:owner", "project_id:%(project_id)s", "The object is of the caller's project."),
        _rule("project-member", "role:member and project_id:%(project_id)s", "May write in their project."),
        _rule("project-reader", "role:reader and project_id:%(project_id)s", "May read in their project."),
        _rule("service", "role:service", "Another service of the cloud."),
        _rule("load-balancer:admin", "is_admin:True or role:admin", "May do everything in every project.",
              "is_admin:True or role:admin or role:load-balancer_admin"),
        _rule("load-balancer:global_observer", "role:admin", "May read in every project.",
              "role:load-balancer_global_observer"),
        _rule("load-balancer:member_and_owner", "rule:project-member", "May write in their project.",
              "role:load-balancer_member and rule:load-balancer:owner"),
        _rule("load-balancer:observer_and_owner", "rule:project-reader", "May read in their project.",
              "role:load-balancer_observer and rule:load-balancer:owner"),
        _rule("load-balancer:quota-admin", "role:admin", "May change quotas of every project.",
              "role:load-balancer_quota_admin"),
        _rule("load-balancer:read", "rule:load-balancer:observer_and_owner or rule:load-balancer:global_observer or "
              "rule:load-balancer:member_and_owner or rule:load-balancer:admin", "Read."),
        _rule("load-balancer:read-global", "rule:load-balancer:global_observer or rule:load-balancer:admin",
              "Read in every project."),
        _rule("load-balancer:write", "rule:load-balancer:member_and_owner or rule:load-balancer:admin", "Write."),
        _rule("load-balancer:read-quota", "rule:load-balancer:observer_and_owner or "
              "rule:load-balancer:global_observer or rule:load-balancer:member_and_owner or "
              "rule:load-balancer:quota-admin or rule:load-balancer:admin", "Read quotas."),
        _rule("load-balancer:read-quota-global", "rule:load-balancer:global_observer or "
              "rule:load-balancer:quota-admin or rule:load-balancer:admin", "Read quotas of every project."),
        _rule("load-balancer:write-quota", "rule:load-balancer:quota-admin or rule:load-balancer:admin",
              "Change quotas."),
    ]  # fmt: skip


def _documented(target: Target) -> RuleDefault:
    operations = [{"method": m, "path": p} for m, _, p in (o.partition(" ") for o in target.operations)]
    return DocumentedRuleDefault(target.full_name, target.check, target.description, operations)


_VERBS = {  # verb -> (rule, method, whether on one object, what it is for)
    "get_all": ("load-balancer:read", "GET", False, "List {many}"),
    "get_one": ("load-balancer:read", "GET", True, "Show {one}"),
    "post": ("load-balancer:write", "POST", False, "Create {one}"),
    "put": ("load-balancer:write", "PUT", True, "Change {one}"),
    "delete": ("load-balancer:write", "DELETE", True, "Delete {one}"),
}


def _usual(name: str, path: str, title: str, rule: str | None = None) -> Iterator[Target]:
    for verb, (usual, method, single, purpose) in _VERBS.items():
        request = f"{method} /v2/lbaas/{path}" + ("/{id}" if single else "")
        yield Target(
            f"{name}:{verb}", rule or usual, f"{purpose.format(one=_one(title), many=_many(title))}.", (request,)
        )


def _one(title: str) -> str:
    return f"{'an' if title[0] in 'aeL' else 'a'} {title}"


def _many(title: str) -> str:
    return f"{title[:-1]}ies" if title.endswith("y") else f"{title}s"


def _global(name: str, path: str, title: str) -> Target:
    purpose, request = f"List {_many(title)} of every project.", f"GET /v2/lbaas/{path}"
    return Target(f"{name}:get_all-global", "load-balancer:read-global", purpose, (request,))


def _definitions(name: str, path: str, title: str) -> Iterator[Target]:
    """Flavors and availability zones: everybody reads them, administrators define them."""
    for target in _usual(name, path, title):
        writes = target.rule == "load-balancer:write"
        rule = "load-balancer:admin" if writes else target.rule
        yield replace(target, rule=rule)


def _targets() -> Iterator[Target]:
    read, write, admin = "load-balancer:read", "load-balancer:write", "load-balancer:admin"
    lb, one = "/v2/lbaas/loadbalancers", "/v2/lbaas/loadbalancers/{id}"
    yield from _usual("loadbalancer", "loadbalancers", "load balancer")
    yield _global("loadbalancer", "loadbalancers", "load balancer")
    yield Target("loadbalancer:post:vip_sg_ids", write, "Name the VIP's security groups.", (f"POST {lb}",))
    yield Target("loadbalancer:put:vip_sg_ids", write, "Change the VIP's security groups.", (f"PUT {one}",))
    yield Target("loadbalancer:get_stats", read, "Show a load balancer's statistics.", (f"GET {one}/stats",))
    status = (f"GET {one}/status", f"GET {one}/statuses", f"GET {one}/events")
    yield Target("loadbalancer:get_status", read, "Show a load balancer's status tree and its events.", status)
    yield Target("loadbalancer:put_failover", admin, "Fail a load balancer over.", (f"PUT {one}/failover",))
    yield from _usual("listener", "listeners", "listener")
    yield _global("listener", "listeners", "listener")
    stats = ("GET /v2/lbaas/listeners/{id}/stats",)
    yield Target("listener:get_stats", read, "Show a listener's statistics.", stats)
    yield from _usual("pool", "pools", "pool")
    yield _global("pool", "pools", "pool")
    for target in _usual("member", "pools/{pool_id}/members", "member"):
        yield replace(target, also=("service",)) if target.name == "member:get_all" else target
    yield from _usual("healthmonitor", "healthmonitors", "health monitor")
    yield _global("healthmonitor", "healthmonitors", "health monitor")
    yield from _usual("l7policy", "l7policies", "L7 policy")
    yield _global("l7policy", "l7policies", "L7 policy")
    yield from _usual("l7rule", "l7policies/{l7policy_id}/rules", "L7 rule")
    yield from _quotas()
    yield from _providers()
    yield from _definitions("flavor", "flavors", "flavor")
    yield from _usual("flavor-profile", "flavorprofiles", "flavor profile", admin)
    yield from _definitions("availability-zone", "availabilityzones", "availability zone")
    yield from _usual("availability-zone-profile", "availabilityzoneprofiles", "availability zone profile", admin)
    yield from _amphorae()


def _quotas() -> Iterator[Target]:
    read, write = "load-balancer:read-quota", "load-balancer:write-quota"
    path, one = "/v2/lbaas/quotas", "/v2/lbaas/quotas/{project_id}"
    yield Target("quota:get_all", read, "List quotas.", (f"GET {path}",))
    everything = "load-balancer:read-quota-global"
    yield Target("quota:get_all-global", everything, "List quotas of every project.", (f"GET {path}",))
    yield Target("quota:get_one", read, "Show a project's quotas.", (f"GET {one}",))
    standard = (f"GET {one}/default", f"GET {path}/defaults")
    yield Target("quota:get_defaults", read, "Show the default quotas.", standard)
    yield Target("quota:put", write, "Change a project's quotas.", (f"PUT {one}",))
    yield Target("quota:delete", write, "Give a project the default quotas again.", (f"DELETE {one}",))


def _providers() -> Iterator[Target]:
    admin, path = "load-balancer:admin", "/v2/lbaas/providers"
    yield Target("provider:get_all", "load-balancer:read", "List providers.", (f"GET {path}",))
    flavors, zones = f"GET {path}/{{id}}/flavor_capabilities", f"GET {path}/{{id}}/availability_zone_capabilities"
    yield Target("provider-flavor:get_all", admin, "List what a provider's flavors can say.", (flavors,))
    yield Target("provider-availability-zone:get_all", admin, "List what a provider's zones can say.", (zones,))


def _amphorae() -> Iterator[Target]:
    admin, path, one = "load-balancer:admin", "/v2/octavia/amphorae", "/v2/octavia/amphorae/{id}"
    yield Target("amphora:get_all", admin, "List amphorae.", (f"GET {path}",))
    yield Target("amphora:get_one", admin, "Show an amphora.", (f"GET {one}",))
    yield Target("amphora:get_stats", admin, "Show an amphora's statistics.", (f"GET {one}/stats",))
    yield Target("amphora:put_config", admin, "Configure an amphora's agent anew.", (f"PUT {one}/config",))
    yield Target("amphora:put_failover", admin, "Replace an amphora.", (f"PUT {one}/failover",))
    yield Target("amphora:delete", admin, "Delete an amphora.", (f"DELETE {one}",))


TARGETS = tuple(_targets())

_HEAD = """# Who may do what

Made from the code by `colonnade policy markdown`. These are Octavia's names and defaults, in oslo.policy's language:
what an operator has for Octavia works here.

Rules of your own stand in `policy.yaml` beside the configuration file (`[oslo_policy] policy_file`), and in the
directory `policy.d` beside it. They are read again within a second of a change; a change that cannot be understood is
logged and leaves the rules as they were, and at a program's start it stops the program.
`colonnade policy list` prints the rules in force, `colonnade policy sample` a file to begin with.

Some files are ready in `etc/policy/`; copy one to `policy.yaml`:

| file | for whom |
|---|---|
| `octavia-advanced-rbac-policy.yaml` | clouds with the roles `load-balancer_member`, … (Octavia before 2025.1) |
| `admin_or_owner-policy.yaml` | everybody in a project may do everything in it, without a role |
| `keystone_default_roles-policy.yaml` | the roles admin, member and reader, and `load-balancer_admin` |
| `keystone_default_roles_scoped-policy.yaml` | the same, where administrators have tokens of the system |

Only the object's `project_id` is given to a rule. Targets are for tokens of a project; one takes a token of the system
as well if its rule speaks of `system_scope`.

## Rules

With `[oslo_policy] enforce_new_defaults = false` what stood before 2025.1 is allowed, too.
"""

_TARGETS_HEAD = """
## Targets

A policy file writes each with `os_load-balancer_api:` before it. Every path is also served below `/v2.0`. A PUT of all
members of a pool asks for `member:post` and `member:put`, and for `member:delete` unless `additive_only` is given.
"""

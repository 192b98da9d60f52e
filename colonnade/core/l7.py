"""What a listener's L7 policies say to HAProxy.

The first policy whose rules all match decides, whatever its action. HAProxy itself asks its http-request rules before
any use_backend: so a policy that sends to a pool only notes the backend, in txn.pool, and no later one is asked then.
A rule is an ACL of its id; lines of one ACL are alternatives.
"""

from collections.abc import Iterator

from colonnade.core.words import Line, argument, log_format
from colonnade.model import L7Policy, L7Rule, Listener, Resource, Tree
from colonnade.types import L7Action, L7CompareType, L7RuleType, ProvisioningStatus

_METHODS: dict[L7CompareType, str] = {
    L7CompareType.REGEX: "reg", L7CompareType.STARTS_WITH: "beg", L7CompareType.ENDS_WITH: "end",
    L7CompareType.CONTAINS: "sub", L7CompareType.EQUAL_TO: "str",
}  # fmt: skip
_QUOTABLE = (L7RuleType.HOST_NAME, L7RuleType.PATH, L7RuleType.FILE_TYPE, L7RuleType.HEADER)


def effective(tree: Tree, listener: Listener) -> list[tuple[L7Policy, list[L7Rule]]]:
    """The policies that have an effect, in their order, each with its rules that have one.

    Without a rule a policy has none, nor when the pool that it sends to is down: then the next one is asked.
    """
    policies = [p for p in tree.l7policies if p.listener_id == listener.id and _works(p)]
    if not policies:
        return []
    pools = {p.id for p in tree.pools if _works(p)}
    rules: dict[str, list[L7Rule]] = {}
    for rule in filter(_works, tree.l7rules):
        rules.setdefault(rule.l7policy_id, []).append(rule)
    return [
        (p, rules[p.id])
        for p in sorted(policies, key=lambda p: (p.position, p.created_at, p.id))
        if p.id in rules and (p.action is not L7Action.REDIRECT_TO_POOL or p.redirect_pool_id in pools)
    ]


def deciding(tree: Tree, listener: Listener) -> Iterator[Line]:
    """The lines that find the policy, and do what it says unless that is sending to a pool."""
    routes = False
    for policy, rules in effective(tree, listener):
        for rule in rules:
            yield from (("acl", rule.id, *alternative) for alternative in _alternatives(rule))
        matches = (*(("!routed",) if routes else ()), *(f"!{r.id}" if r.invert else r.id for r in rules))
        if policy.action is L7Action.REDIRECT_TO_POOL and not routes:
            routes = True
            yield ("acl", "routed", "var(txn.pool)", "-m", "found")
        yield ("http-request", *_deed(policy), "if", *matches)


def sending(tree: Tree, listener: Listener) -> list[Line]:
    """The line that sends to the pool a policy has found; none when no policy does that."""
    if all(p.action is not L7Action.REDIRECT_TO_POOL for p, _ in effective(tree, listener)):
        return []
    return [("use_backend", "%[var(txn.pool)]", "if", "routed")]


def _deed(policy: L7Policy) -> Line:
    match policy.action:
        case L7Action.REJECT:
            return ("deny", "deny_status", "403")
        case L7Action.REDIRECT_TO_POOL:
            return ("set-var(txn.pool)", f"str({policy.redirect_pool_id}:{policy.listener_id})")
        case L7Action.REDIRECT_TO_URL:
            return ("redirect", "location", log_format(policy.redirect_url or ""), *_code(policy))
        case L7Action.REDIRECT_PREFIX:
            return ("redirect", "prefix", log_format(policy.redirect_prefix or ""), *_code(policy))


def _code(policy: L7Policy) -> Line:
    return ("code", str(policy.redirect_http_code or 302))


def _alternatives(rule: L7Rule) -> Iterator[Line]:
    """What is looked at, how, and for what. ``--`` ends the flags: no value is taken for one."""
    how: Line = ("-m", _METHODS[rule.compare_type], "--", *_values(rule))
    key = argument(rule.key or "")
    match rule.type:
        case L7RuleType.HOST_NAME:
            yield ("req.hdr(host)", "-i", *how)
            if rule.compare_type in (L7CompareType.EQUAL_TO, L7CompareType.ENDS_WITH, L7CompareType.REGEX):
                yield ("req.hdr(host),host_only", "-i", *how)  # a browser adds a port that is not the scheme's own
        case L7RuleType.PATH:
            yield ("path", *how)
        case L7RuleType.FILE_TYPE if rule.compare_type is L7CompareType.REGEX:
            yield ("path", *how)
        case L7RuleType.FILE_TYPE:
            yield ("path", "-m", "end", "--", *(f".{v.removeprefix('.')}" for v in _values(rule)))
        case L7RuleType.HEADER:
            yield (f"req.hdr({key})", *how)  # each part of a list
            yield (f"req.fhdr({key})", *how)  # and the whole: not every comma is a list's
        case L7RuleType.COOKIE:
            yield (f"req.cook({key})", *how)
        case L7RuleType.SSL_CONN_HAS_CERT:
            yield ("ssl_c_used",)
        case L7RuleType.SSL_VERIFY_RESULT:
            yield ("ssl_c_verify", str(int(rule.value)))
        case L7RuleType.SSL_DN_FIELD:
            yield (f"ssl_c_s_dn({key})", *how)


def _values(rule: L7Rule) -> Line:
    """The value; one in double quotes, as it must be to hold a space, with and without them."""
    quoted = len(rule.value) > 2 and rule.value[0] == rule.value[-1] == '"'
    if quoted and rule.type in _QUOTABLE and rule.compare_type is not L7CompareType.REGEX:
        return (rule.value[1:-1], rule.value)
    return (rule.value,)


def _works(thing: Resource) -> bool:
    return thing.admin_state_up and thing.provisioning_status is not ProvisioningStatus.PENDING_DELETE

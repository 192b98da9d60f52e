"""What a listener's L7 policies say to HAProxy.

The first policy whose rules all match decides, whatever its action: it notes its deed in txn.deed, no later one is
asked then, and the deed is done after all of them. A rule is an ACL of its id; lines of one ACL are alternatives.

What may change while HAProxy runs stands in files of their own: what a rule is compared with in ``<rule id>.acl``, what
each policy does in ``<listener id>.map``. A policy that is not there does nothing.
"""

from collections.abc import Iterator

from colonnade.core.words import Line, argument, entry, pattern
from colonnade.model import L7Policy, L7Rule, Listener, Resource, Tree
from colonnade.types import L7Action, L7CompareType, L7RuleType

_METHODS: dict[L7CompareType, str] = {
    L7CompareType.REGEX: "reg", L7CompareType.STARTS_WITH: "beg", L7CompareType.ENDS_WITH: "end",
    L7CompareType.CONTAINS: "sub", L7CompareType.EQUAL_TO: "str",
}  # fmt: skip
_QUOTABLE = (L7RuleType.HOST_NAME, L7RuleType.PATH, L7RuleType.FILE_TYPE, L7RuleType.HEADER)
_REDIRECTS = {L7Action.REDIRECT_TO_URL: "location", L7Action.REDIRECT_PREFIX: "prefix"}


def effective(tree: Tree, listener: Listener) -> list[L7Policy]:
    """The policies that have an effect, in their order.

    Without a rule a policy has none, nor when the pool that it sends to is down: then the next one is asked.
    """
    pools = {p.id for p in tree.pools if _works(p)}
    return [
        p for p, _ in _present(tree, listener)
        if p.admin_state_up and (p.action is not L7Action.REDIRECT_TO_POOL or p.redirect_pool_id in pools)
    ]  # fmt: skip


def deciding(tree: Tree, listener: Listener) -> Iterator[Line]:
    """The lines that find the policy, and do what it says unless that is sending to a pool."""
    present = _present(tree, listener)
    for n, (policy, rules) in enumerate(present):
        for rule in rules:
            yield from (("acl", rule.id, *alternative) for alternative in _alternatives(rule))
        if n == 1:
            yield ("acl", "decided", "var(txn.deed)", "-m", "found")
        matches = (*(("!decided",) if n else ()), *(f"!{r.id}" if r.invert else r.id for r in rules))
        yield ("http-request", "set-var(txn.deed)", f"str({policy.id}),map({_map(listener)})", "if", *matches)
    for kind in dict.fromkeys(_kind(p) for p, _ in present):
        yield ("acl", kind, "var(txn.deed),field(1,|)", "-m", "str", kind)
    for kind, policy in {_kind(p): p for p, _ in present}.items():
        if policy.action is not L7Action.REDIRECT_TO_POOL:
            yield ("http-request", *_doing(policy), "if", kind)


def sending(tree: Tree, listener: Listener) -> list[Line]:
    """The line that sends to the pool a policy has found; none when no policy does that."""
    if all(p.action is not L7Action.REDIRECT_TO_POOL for p, _ in _present(tree, listener)):
        return []
    return [("use_backend", "%[var(txn.deed),field(2,|)]", "if", "pool")]


def files(tree: Tree, listener: Listener) -> dict[str, str]:
    """The files that the lines name."""
    present = _present(tree, listener)
    if not present:
        return {}
    deeds = "".join(entry(p.id, _deed(p)) for p in effective(tree, listener))
    values = {_file(r): "".join(map(pattern, _values(r))) for _, rules in present for r in rules if _in_a_file(r)}
    return {_map(listener): deeds, **values}


def _present(tree: Tree, listener: Listener) -> list[tuple[L7Policy, list[L7Rule]]]:
    """The policies that have a rule, in their order, each with its rules that are up. Those that are down are here,
    too, so that they can be switched on while HAProxy runs."""
    policies = [p for p in tree.l7policies if p.listener_id == listener.id and not p.going]
    if not policies:
        return []
    rules: dict[str, list[L7Rule]] = {}
    for rule in filter(_works, tree.l7rules):
        rules.setdefault(rule.l7policy_id, []).append(rule)
    ordered = sorted(policies, key=lambda p: (p.position, p.created_at, p.id))
    return [(p, rules[p.id]) for p in ordered if p.id in rules]


def _kind(policy: L7Policy) -> str:
    match policy.action:
        case L7Action.REJECT:
            return "reject"
        case L7Action.REDIRECT_TO_POOL:
            return "pool"
        case L7Action.REDIRECT_TO_URL | L7Action.REDIRECT_PREFIX:
            return f"{_REDIRECTS[policy.action]}-{_code(policy)}"


def _deed(policy: L7Policy) -> str:
    """Its kind, and its object after a bar."""
    match policy.action:
        case L7Action.REJECT:
            return _kind(policy)
        case L7Action.REDIRECT_TO_POOL:
            return f"{_kind(policy)}|{policy.redirect_pool_id}:{policy.listener_id}"
        case L7Action.REDIRECT_TO_URL:
            return f"{_kind(policy)}|{policy.redirect_url or ''}"
        case L7Action.REDIRECT_PREFIX:
            return f"{_kind(policy)}|{policy.redirect_prefix or ''}"


def _doing(policy: L7Policy) -> Line:
    if policy.action is L7Action.REJECT:
        return ("deny", "deny_status", "403")
    return ("redirect", _REDIRECTS[policy.action], "%[var(txn.deed),field(2,|,0)]", "code", _code(policy))


def _code(policy: L7Policy) -> str:
    return str(policy.redirect_http_code or 302)


def _alternatives(rule: L7Rule) -> Iterator[Line]:
    """What is looked at, how, and for what. ``--`` ends the flags: no value is taken for one."""
    what: Line = ("-f", _file(rule)) if _in_a_file(rule) else ("--", *_values(rule))
    how: Line = ("-m", _METHODS[rule.compare_type], *what)
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
            yield ("path", "-m", "end", *what)
        case L7RuleType.HEADER:
            yield (f"req.hdr({key})", *how)  # each part of a list
            yield (f"req.fhdr({key})", *how)  # and the whole: not every comma is a list's
        case L7RuleType.COOKIE:
            yield (f"req.cook({key})", *how)
        case L7RuleType.SSL_CONN_HAS_CERT:
            yield ("ssl_c_used",)
        case L7RuleType.SSL_VERIFY_RESULT:
            yield ("ssl_c_verify", "-m", "int", *what)
        case L7RuleType.SSL_DN_FIELD:
            yield (f"ssl_c_s_dn({key})", *how)


def _values(rule: L7Rule) -> Line:
    """What to compare with; a value in double quotes, as it must be to hold a space, with and without them."""
    value = rule.value
    quoted = len(value) > 2 and value[0] == value[-1] == '"'
    values: Line = (value,)
    if quoted and rule.type in _QUOTABLE and rule.compare_type is not L7CompareType.REGEX:
        values = (value[1:-1], value)
    if rule.type is L7RuleType.SSL_VERIFY_RESULT:
        return (str(int(value)),)
    if rule.type is L7RuleType.FILE_TYPE and rule.compare_type is not L7CompareType.REGEX:
        return tuple(f".{v.removeprefix('.')}" for v in values)
    return values


def _in_a_file(rule: L7Rule) -> bool:
    """HAProxy strips what a line of a file begins with; the configuration carries all."""
    return rule.type is not L7RuleType.SSL_CONN_HAS_CERT and not any(v[:1] in ("", " ") for v in _values(rule))


def _file(rule: L7Rule) -> str:
    return f"{rule.id}.acl"


def _map(listener: Listener) -> str:
    return f"{listener.id}.map"


def _works(thing: Resource) -> bool:
    return thing.admin_state_up and not thing.going

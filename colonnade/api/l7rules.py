"""L7 rules: what may be asked of them. They live below their policy, in paths too."""

import re
from collections.abc import Mapping

import falcon
from sqlalchemy import bindparam, select

from colonnade.api import access, listing, replies, resources, shapes, trees, writing
from colonnade.api.listing import Listed
from colonnade.api.resources import Kind
from colonnade.api.transport import ParentNotFound, answer, caller, read_body
from colonnade.api.trees import Change
from colonnade.clock import utc
from colonnade.core import regex
from colonnade.errors import Conflict, Invalid, NotFound
from colonnade.model import Caller, L7Policy, L7Rule, LoadBalancer, Tree
from colonnade.store import query, tables
from colonnade.types import UUID, Json
from colonnade.types import L7CompareType as C
from colonnade.types import L7RuleType as T

_MOST = 50  # rules of one policy
_LISTED = Listed(cls=L7Rule, plural="rules", also=("l7policy_id", "name"))
_COMPARISONS: Mapping[T, frozenset[C]] = {
    **dict.fromkeys(T, frozenset(C)),
    T.FILE_TYPE: frozenset({C.REGEX, C.EQUAL_TO}),
    T.SSL_CONN_HAS_CERT: frozenset({C.EQUAL_TO}),
    T.SSL_VERIFY_RESULT: frozenset({C.EQUAL_TO}),
}
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110
_FIELD = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
_VALUE = re.compile(r'[!-~]+|"[ -~]+"')
_COOKIE_VALUE = re.compile(r"[!#-+\--:<-\[\]-~]+")  # RFC 6265
_NUMBER = re.compile(r"[0-9]{1,9}")


class L7Rules(Kind[L7Rule]):
    """The kind. ``given`` holds the policy's id, from the path."""

    cls = L7Rule
    body = shapes.L7_RULE
    listed = _LISTED
    policy = "l7rule"

    def creation(self, who: Caller, given: Json) -> tuple[Tree, str]:
        policy_id = given.pop("l7policy_id")
        lb_id = self.parent(policy_id, who, "l7rule:post")
        its_id = writing.new_id()

        def decide(tree: Tree) -> Change:
            policy = trees.find_mutable(tree, L7Policy, policy_id)
            rule = self.made(tree.load_balancer, policy, {**given, "id": its_id})
            one_more_fits(tree, policy)
            return _change(tree, rule, "create")

        return writing.change(self.api, lb_id, decide), its_id

    def parent(self, policy_id: str, who: Caller, *targets: str) -> str:
        """The load balancer of the policy in the path. Raises ParentNotFound, Forbidden."""
        found = None
        if UUID.fullmatch(policy_id):
            with self.api.store.read() as conn:
                found = query.owner(conn, tables.l7policy, policy_id)
        if found is None:
            raise ParentNotFound(f"L7Policy {policy_id} not found.")
        for target in targets:
            access.check(target, who, found[1])
        return found[0]

    def made(self, lb: LoadBalancer, policy: L7Policy, given: Json) -> L7Rule:
        """A new rule of the policy, its own fields checked."""
        fields = {k: v for k, v in given.items() if k not in ("project_id", "tenant_id")}
        rule = L7Rule(**writing.new_fields(self.api, lb, fields), l7policy_id=policy.id)
        check(rule)
        return rule

    def update(self, tree: Tree, old: L7Rule, given: Json) -> Change:
        if given.get("type", old.type) in (T.HOST_NAME, T.PATH, T.FILE_TYPE):
            given = {**given, "key": None}
        new = trees.changed(old, given, utc(self.api.clock.now()))
        check(new)
        return _change(tree, new, "change")

    def delete(self, tree: Tree, old: L7Rule) -> Change:
        return _change(tree, trees.leaving(old, utc(self.api.clock.now())), "delete")


def check(rule: L7Rule) -> None:
    """400 unless key, comparison and value fit the rule's type."""
    if rule.compare_type not in _COMPARISONS[rule.type]:
        raise _wrong(f"{rule.compare_type} is not a comparison for rules of type {rule.type}")
    match rule.type:
        case T.HEADER | T.COOKIE if not _TOKEN.fullmatch(rule.key or ""):
            raise _wrong(f"a rule of type {rule.type} needs a key that is a token (RFC 9110)")
        case T.SSL_DN_FIELD if not _FIELD.fullmatch(rule.key or ""):
            raise _wrong("a rule of type SSL_DN_FIELD needs a key that is a name like CN")
        case T.SSL_CONN_HAS_CERT | T.SSL_VERIFY_RESULT if rule.key is not None:
            raise _wrong(f"a rule of type {rule.type} has no key")
    if not rule.value:
        raise _wrong("the value must not be empty")
    problem = regex.problem(rule.value) if rule.compare_type is C.REGEX else _value_problem(rule)
    if problem:
        raise _wrong(f"the value does not fit: {problem}")


def _value_problem(rule: L7Rule) -> str | None:
    match rule.type:
        case T.SSL_CONN_HAS_CERT if rule.value.lower() != "true":
            return "for SSL_CONN_HAS_CERT it is true"
        case T.SSL_VERIFY_RESULT if not _NUMBER.fullmatch(rule.value):
            return "for SSL_VERIFY_RESULT it is a number, 0 or greater"
        case T.COOKIE if not _COOKIE_VALUE.fullmatch(rule.value):
            return "a cookie can not have it (RFC 6265)"
        case T.HOST_NAME | T.PATH | T.FILE_TYPE | T.HEADER if not _VALUE.fullmatch(rule.value):
            return "it holds a space or a letter beyond ASCII; put one with spaces in double quotes"
    return None


def _wrong(why: str) -> Invalid:
    return Invalid(f"Error parsing L7Rule: {why}.")


def one_more_fits(tree: Tree, policy: L7Policy) -> None:
    """409 when the policy has as many rules as it can have."""
    if sum(r.l7policy_id == policy.id for r in trees.staying(tree.l7rules)) >= _MOST:
        raise Conflict(f"Too many rules on L7 policy {policy.id}: it can have {_MOST}.")


def _change(tree: Tree, rule: L7Rule, verb: str) -> Change:
    policy = trees.find_mutable(tree, L7Policy, rule.l7policy_id)
    tree = trees.mark(trees.put(tree, rule, trees.pending(policy)), listener_id=policy.listener_id)
    sentence = f"Asked to {verb} {name(rule)} of L7 policy {policy.name or policy.id}."
    return Change(tree=tree, about=("l7rule", rule.id), sentence=sentence)


def name(rule: L7Rule) -> str:
    """The rule in words."""
    key = f" {rule.key}" if rule.key else ""
    return f"L7 rule {rule.id} ({rule.type}{key} {'not ' if rule.invert else ''}{rule.compare_type})"


class Collection:
    """All rules of a policy; ``object_id`` is the policy's."""

    def __init__(self, kind: L7Rules) -> None:
        self.kind, self.api = kind, kind.api

    def on_get(self, req: falcon.Request, resp: falcon.Response, object_id: str) -> None:
        self.kind.parent(object_id, caller(req), "l7rule:get_all")
        with self.api.store.read() as conn:
            where = [tables.l7rule.c.l7policy_id == object_id]
            answer(resp, listing.reply(self.api, req, _LISTED, where, conn))

    def on_post(self, req: falcon.Request, resp: falcon.Response, object_id: str) -> None:
        document = read_body(req, self.api.settings.api_settings.max_request_body_size)
        given = {**self.kind.body.creation(document), "l7policy_id": object_id}
        tree, its_id = self.kind.creation(caller(req), given)
        answer(resp, {"rule": self.kind.document(tree, its_id)}, 201)

    def on_put(self, req: falcon.Request, resp: falcon.Response, object_id: str) -> None:
        raise Invalid(resources.MISSING_ID)

    on_delete = on_put


class Item:
    """One rule of a policy; ``object_id`` is the policy's."""

    def __init__(self, kind: L7Rules) -> None:
        self.kind, self.api = kind, kind.api
        self.show = select(*replies.COLUMNS[L7Rule]).where(
            tables.l7rule.c.id == bindparam("id"), tables.l7rule.c.l7policy_id == bindparam("l7policy_id")
        )

    def on_get(self, req: falcon.Request, resp: falcon.Response, object_id: str, rule_id: str) -> None:
        fields = listing.fields(self.api, req)
        document = self._existing(object_id, rule_id, caller(req), "l7rule:get_one")
        answer(resp, {"rule": replies.choose([document], fields)[0]})

    def on_put(self, req: falcon.Request, resp: falcon.Response, object_id: str, rule_id: str) -> None:
        document = read_body(req, self.api.settings.api_settings.max_request_body_size)
        given = self.kind.body.change(document)
        self._existing(object_id, rule_id, caller(req), "l7rule:put")
        lb_id = self.kind.parent(object_id, caller(req))
        answer(resp, resources.updated(self.api, self.kind, lb_id, rule_id, given))

    def on_delete(self, req: falcon.Request, resp: falcon.Response, object_id: str, rule_id: str) -> None:
        self._existing(object_id, rule_id, caller(req), "l7rule:delete")
        lb_id = self.kind.parent(object_id, caller(req))
        resources.deleted(self.api, self.kind, lb_id, rule_id)
        resp.status = 204

    def _existing(self, policy_id: str, rule_id: str, who: Caller, target: str) -> Json:
        documents: list[Json] = []
        if UUID.fullmatch(policy_id) and UUID.fullmatch(rule_id):
            with self.api.store.read() as conn:
                found = conn.execute(self.show, {"id": rule_id, "l7policy_id": policy_id}).all()
                documents = replies.documents(conn, L7Rule, found)
        if not documents:
            self.kind.parent(policy_id, who)
            raise NotFound(f"L7Rule {rule_id} not found.")
        access.check(target, who, documents[0]["project_id"])
        return documents[0]

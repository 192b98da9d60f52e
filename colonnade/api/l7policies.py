"""L7 policies: what may be asked of them. Within their listener they stand at positions 1, 2, 3 ..."""

import dataclasses

from colonnade.api import access, rules, shapes, trees, writing
from colonnade.api.listing import Listed
from colonnade.api.resources import Kind
from colonnade.api.trees import Change
from colonnade.clock import utc
from colonnade.errors import Invalid
from colonnade.model import Caller, L7Policy, Listener, Pool, Tree
from colonnade.store import query, tables
from colonnade.types import Json, L7Action

_ARGUMENT = {
    L7Action.REDIRECT_TO_POOL: "redirect_pool_id", L7Action.REDIRECT_TO_URL: "redirect_url",
    L7Action.REDIRECT_PREFIX: "redirect_prefix",
}  # fmt: skip
_WITH_CODE = (L7Action.REDIRECT_TO_URL, L7Action.REDIRECT_PREFIX)


class L7Policies(Kind[L7Policy]):
    """The kind."""

    cls = L7Policy
    body = shapes.L7_POLICY
    listed = Listed(cls=L7Policy, plural="l7policies", scoped=True)
    policy = "l7policy"

    def creation(self, who: Caller, given: Json) -> tuple[Tree, str]:
        listener_id = given["listener_id"]
        with self.api.store.read() as conn:
            found = query.owner(conn, tables.listener, listener_id)
        lb_id, project_id = trees.existing(found, Listener, listener_id)
        access.check("l7policy:post", who, project_id)
        its_id = writing.new_id()

        def decide(tree: Tree) -> Change:
            listener = trees.find_mutable(tree, Listener, listener_id)
            new = self.made(tree, listener, {**given, "id": its_id})
            return _change(place(tree, new), new, "create")

        return writing.change(self.api, lb_id, decide), its_id

    def made(self, tree: Tree, listener: Listener, given: Json) -> L7Policy:
        """A new policy that the listener may have; still to be placed."""
        fields = {k: v for k, v in given.items() if k not in ("project_id", "tenant_id")}
        fields |= arguments(fields["action"], fields)
        new = L7Policy(**{**writing.new_fields(self.api, tree.load_balancer, fields), "listener_id": listener.id})
        _check(tree, listener, new)
        return new

    def update(self, tree: Tree, old: L7Policy, given: Json) -> Change:
        fields = {**given, **changed_arguments(old, given)}
        new = trees.changed(old, fields, utc(self.api.clock.now()))
        _check(tree, trees.find_mutable(tree, Listener, old.listener_id), new)
        tree = trees.put(tree, new) if new.position == old.position else place(tree, new)
        return _change(tree, new, "change")

    def resolved(self, old: L7Policy, given: Json) -> Json:
        if not given:
            raise Invalid("Validation failure: A change of an L7 policy needs at least one field.")
        return super().resolved(old, given)

    def delete(self, tree: Tree, old: L7Policy) -> Change:
        now = utc(self.api.clock.now())
        gone = trees.leaving(old, now)
        below = (trees.leaving(r, now) for r in tree.l7rules if r.l7policy_id == old.id)
        return _change(_compact(trees.put(tree, gone, *below), old.listener_id), gone, "delete")


def arguments(action: L7Action, given: Json) -> Json:
    """The arguments as the action takes them: its own as given, no other. Raises Invalid when its own is missing."""
    needed = _ARGUMENT.get(action)
    if needed is not None and not given.get(needed):
        raise Invalid(f"Invalid L7 Policy arguments: {needed} must be given when the action is {action}.")
    code = given.get("redirect_http_code") or 302
    return {
        **{name: given[name] if name == needed else None for name in _ARGUMENT.values()},
        "redirect_http_code": code if action in _WITH_CODE else None,
    }


def changed_arguments(old: L7Policy, given: Json) -> Json:
    """Action and arguments after a change. An action that is given needs its argument with it; without one, the
    argument that is given decides. Raises Invalid."""
    if "action" in given:
        action = given["action"]
        kept = {"redirect_http_code": old.redirect_http_code}
    else:
        named = [a for a, name in _ARGUMENT.items() if given.get(name) is not None]
        if len(named) > 1:
            names = " and ".join(_ARGUMENT[a] for a in named)
            raise Invalid(f"Invalid L7 Policy arguments: {names} exclude each other; say which action is meant.")
        action = named[0] if named else old.action
        kept = {n: getattr(old, n) for n in (*_ARGUMENT.values(), "redirect_http_code")}
    return {"action": action, **arguments(action, {**kept, **given})}


def place(tree: Tree, policy: L7Policy) -> Tree:
    """The tree with the policy at its position; those behind it move on, and no position stays empty."""
    others = [p for p in _on(tree, policy.listener_id) if p.id != policy.id]
    at = policy.position - 1
    return _numbered(trees.put(tree, policy), [*others[:at], policy, *others[at:]])


def _compact(tree: Tree, listener_id: str) -> Tree:
    return _numbered(tree, _on(tree, listener_id))


def _on(tree: Tree, listener_id: str) -> list[L7Policy]:
    """The listener's policies in their order."""
    mine = [p for p in trees.staying(tree.l7policies) if p.listener_id == listener_id]
    return sorted(mine, key=lambda p: (p.position, p.created_at, p.id))


def _numbered(tree: Tree, policies: list[L7Policy]) -> Tree:
    moved = [dataclasses.replace(p, position=n) for n, p in enumerate(policies, 1) if p.position != n]
    return trees.put(tree, *moved)


def _check(tree: Tree, listener: Listener, policy: L7Policy) -> None:
    rules.listener_takes_policies(listener.protocol, own=not tree.load_balancer.foreign)
    if policy.redirect_pool_id is not None:
        pool = trees.find_mutable(tree, Pool, policy.redirect_pool_id)
        rules.listener_takes_pool(listener.protocol, pool.protocol)


def _change(tree: Tree, policy: L7Policy, verb: str) -> Change:
    listener = trees.find(tree, Listener, policy.listener_id)
    sentence = f"Asked to {verb} {name(policy)} of listener {listener.name or listener.id}."
    return Change(
        tree=trees.mark(tree, listener_id=listener.id), about=("l7policy", policy.id), sentence=sentence
    )  # fmt: skip


def name(policy: L7Policy) -> str:
    """The policy in words."""
    return f"L7 policy {policy.name or policy.id} ({policy.action})"

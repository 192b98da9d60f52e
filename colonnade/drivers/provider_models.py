"""Load balancers in octavia-lib's words: the model's objects as the data models that providers take.

The fields have the API's names on both sides, so they are copied by name; what differs is said here. Statuses, times
and tags are never passed: octavia-lib has no fields for them.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

from octavia_lib.api.drivers import data_models as lib

from colonnade import model
from colonnade.core import certificates, tls
from colonnade.core.tls import Role
from colonnade.errors import Broken, Invalid, Later
from colonnade.model import Material, Resource, Tree
from colonnade.types import Json

_CLASSES: dict[type[Resource], type[Any]] = {
    model.LoadBalancer: lib.LoadBalancer, model.Listener: lib.Listener, model.Pool: lib.Pool,
    model.Member: lib.Member, model.HealthMonitor: lib.HealthMonitor, model.L7Policy: lib.L7Policy,
    model.L7Rule: lib.L7Rule,
}  # fmt: skip
_FIELDS = {cls: frozenset(inspect.signature(cls).parameters) for cls in _CLASSES.values()}
_IDS: dict[type[Resource], str] = {cls: f"{theirs.__name__.lower()}_id" for cls, theirs in _CLASSES.items()}
_ELSEWHERE = frozenset({"flavor", "availability_zone"})  # theirs is the metadata, ours a name
_DATA: dict[str, tuple[str, Role]] = {  # reference -> where its content goes, and what it is
    "default_tls_container_ref": ("default_tls_container_data", "certificate"),
    "sni_container_refs": ("sni_container_data", "certificate"),
    "client_ca_tls_container_ref": ("client_ca_tls_container_data", "authority"),
    "client_crl_container_ref": ("client_crl_container_data", "revocations"),
    "tls_container_ref": ("tls_container_data", "certificate"),
    "ca_tls_container_ref": ("ca_tls_container_data", "authority"),
    "crl_container_ref": ("crl_container_data", "revocations"),
}

Fetch = Callable[[str], Material]  # raises Broken or Later


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Translator:
    """Makes data models of one tree. ``flavor`` and ``zone`` are the metadata of its profiles; None: it has none.

    ``strict``: a secret that cannot be read is Invalid; otherwise its data is None. ``leaving``: what is on its way out
    is shown, too.
    """

    tree: Tree
    fetch: Fetch
    flavor: Json | None = None
    zone: Json | None = None
    strict: bool = True
    leaving: bool = False

    def of(self, value: Resource) -> Any:  # noqa: ANN401 - octavia-lib carries no types
        """The object with all that is below it; every field is set but those that octavia-lib leaves to chance."""
        cls = type(value)
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return _CLASSES[cls](**{**self._own(cls, value.id, fields), **self._below(value)})

    def change(self, old: Resource, new: Resource) -> Any:  # noqa: ANN401
        """The object's id and the fields that a user changed; all others are Unset."""
        cls = type(new)
        differing = {
            f.name: getattr(new, f.name)
            for f in dataclasses.fields(new)
            if getattr(new, f.name) != getattr(old, f.name)
        }
        return _CLASSES[cls](**self._own(cls, new.id, differing))

    def _own(self, cls: type[Resource], id: str, fields: Mapping[str, Any]) -> Json:
        theirs = _FIELDS[_CLASSES[cls]] - _ELSEWHERE
        found = {name: plain(value) for name, value in fields.items() if name in theirs}
        for name, (data, role) in _DATA.items():
            if name in found and data in theirs:
                found[data] = self._data(fields[name], role)
        return {**found, _IDS[cls]: id}

    def _data(self, refs: str | tuple[str, ...] | None, role: Role) -> Any:  # noqa: ANN401
        if refs is None or refs == ():
            return None
        return self._content(refs, role) if isinstance(refs, str) else [self._content(ref, role) for ref in refs]

    def _content(self, ref: str, role: Role) -> Any:  # noqa: ANN401
        try:
            material = self.fetch(ref)
            return (
                certificates.parts(material) if role == "certificate" else certificates.interpret(material, role).text
            )
        except (Broken, Later) as e:
            if self.strict:
                raise Invalid(f"Could not retrieve certificate: {[ref]}") from e
            return None

    def _below(self, value: Resource) -> Json:
        tree, id = self.tree, value.id
        match value:
            case model.LoadBalancer():
                more = [{**plain(v), "network_id": value.vip_network_id} for v in value.additional_vips]
                return {
                    "additional_vips": more, "listeners": self._all(tree.listeners), "pools": self._all(tree.pools),
                    **({} if self.flavor is None else {"flavor": self.flavor}),
                    **({} if self.zone is None else {"availability_zone": self.zone}),
                }  # fmt: skip
            case model.Listener():
                pool = next((p for p in tree.pools if p.id == value.default_pool_id), None)
                policies = sorted((p for p in tree.l7policies if p.listener_id == id), key=lambda p: p.position)
                return {"default_pool": pool and self.of(pool), "l7policies": self._all(policies)}
            case model.Pool():
                user = next((x.id for x in tree.listeners if x.default_pool_id == id), None)
                monitor = next((h for h in self._seen(tree.health_monitors) if h.pool_id == id), None)
                members = [m for m in tree.members if m.pool_id == id]
                return {
                    "listener_id": user,
                    "healthmonitor": monitor and self.of(monitor),
                    "members": self._all(members),
                }
            case model.L7Policy():
                return {"rules": self._all([r for r in tree.l7rules if r.l7policy_id == id])}
        return {}

    def _all(self, values: Any) -> list[Any]:  # noqa: ANN401 - a sequence of any kind of objects
        return [self.of(v) for v in self._seen(values)]

    def _seen(self, values: Any) -> list[Any]:  # noqa: ANN401
        seen = (v for v in values if self.leaving or not v.going)
        return sorted(seen, key=lambda v: v.going)  # a monitor's successor comes before it


def references(tree: Tree) -> set[str]:
    """What the tree uses of the key manager."""
    return {use.ref for use in tls.uses(tree)}


def plain(value: Any) -> Any:  # noqa: ANN401 - any field
    """A field's value as JSON has it."""
    if isinstance(value, Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [plain(v) for v in value]
    return value

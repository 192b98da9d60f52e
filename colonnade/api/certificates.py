"""References into the key manager, looked at when they are given: with the rights of whoever gives them."""

from collections.abc import Iterator, Mapping

from colonnade.api.writing import Api
from colonnade.clock import utc
from colonnade.core import certificates
from colonnade.core.tls import Role
from colonnade.errors import Broken, Busy, Forbidden, Invalid, Later, NotFound
from colonnade.model import Caller, Listener, Material, Pool
from colonnade.types import Json

_LISTENER: Mapping[str, Role] = {
    "default_tls_container_ref": "certificate", "sni_container_refs": "certificate",
    "client_ca_tls_container_ref": "authority", "client_crl_container_ref": "revocations",
}  # fmt: skip
_POOL: Mapping[str, Role] = {
    "tls_container_ref": "certificate", "ca_tls_container_ref": "authority", "crl_container_ref": "revocations",
}  # fmt: skip
_SAID: Mapping[Role, str] = {
    "certificate": "The certificate is invalid",
    "authority": "The client authentication CA certificate is invalid. It must be a valid x509 PEM format certificate",
    "revocations": "The client authentication certificate revocation list is invalid. It must be a valid x509 PEM "
    "format certificate revocation list",
}
FIELDS = frozenset({*_LISTENER, *_POOL})


def check_listener(api: Api, who: Caller, project_id: str, given: Json, stored: Listener | None = None) -> None:
    """400 unless what the given fields refer to can be read by the caller and used by a listener of the project.
    Effects on the key manager only; not to be called inside a transaction."""
    _check(api, who, project_id, _LISTENER, given, stored)


def check_pool(api: Api, who: Caller, project_id: str, given: Json, stored: Pool | None = None) -> None:
    """The same for a pool."""
    _check(api, who, project_id, _POOL, given, stored)


def _check(
    api: Api, who: Caller, project_id: str, roles: Mapping[str, Role], given: Json, stored: Listener | Pool | None
) -> None:  # fmt: skip
    wanted = dict.fromkeys(_wanted(roles, given, stored))
    if not wanted:
        return
    found = _read(api, who, [ref for ref, _ in wanted])
    for ref, role in wanted:
        try:
            readable = certificates.interpret(found[ref], role)
        except Broken as e:
            raise Invalid(f"{_SAID[role]}. Error: {e}") from e
        if readable.until and readable.until <= utc(api.clock.now()):
            raise Invalid(f"{_SAID[role]}. Error: {ref} expired on {readable.until:%Y-%m-%d}.")
    _signed(found, [ref for ref, role in wanted if role == "authority"], [r for r, o in wanted if o == "revocations"])
    for ref, material in found.items():
        if material.project_id != project_id and api.secrets is not None:
            api.secrets.grant(ref, who)


def _wanted(roles: Mapping[str, Role], given: Json, stored: Listener | Pool | None) -> Iterator[tuple[str, Role]]:
    """What is given; and of an authority and its revocation list the other one too."""
    named = {name for name in roles if given.get(name)}
    pair = {name for name, role in roles.items() if role != "certificate"}
    if named & pair:
        named |= pair
    for name in roles:
        if name in named:
            value = given[name] if name in given else getattr(stored, name, None)
            yield from ((ref, roles[name]) for ref in (value if isinstance(value, tuple) else (value,)) if ref)


def _read(api: Api, who: Caller, refs: list[str]) -> dict[str, Material]:
    found: dict[str, Material] = {}
    failed = []
    for ref in dict.fromkeys(refs):
        try:
            if api.secrets is None:
                raise NotFound(f"There is no key manager to ask for {ref}.")
            found[ref] = api.secrets.read(ref, who)
        except (NotFound, Forbidden, Invalid, Broken):
            failed.append(ref)
        except Later as e:
            raise Busy(f"{e} Please try again.") from e
    if failed:
        raise Invalid(f"Could not retrieve certificate: {failed}. There is none, or you may not read it.")
    return found


def _signed(found: Mapping[str, Material], authorities: list[str], lists: list[str]) -> None:
    for authority, listed in zip(authorities, lists, strict=False):
        try:
            certificates.revocations(found[listed], found[authority])
        except Broken as e:
            said = "The CRL specified is not valid for client certificate authority reference supplied."
            raise Invalid(f"Validation failure: {said}") from e

"""The small cloud's key manager: secrets and containers in the database, encrypted by a key that is only in a file.

Who may read what: people of the owning project, unless its ACL keeps the project out; the creator; users that the ACL
names; admins. The service reads what belongs to the load balancer's own project, or names it in the ACL.
"""

import secrets as random
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import ColumnElement, Connection, delete, insert, or_, select, update
from sqlalchemy.exc import SQLAlchemyError

from colonnade.clock import Clock, utc
from colonnade.errors import Broken, Forbidden, Invalid, Later, NotFound
from colonnade.local import secrets
from colonnade.model import Caller, Material
from colonnade.store.local_tables import local_consumer, local_container, local_secret
from colonnade.store.store import Store
from colonnade.types import UUID

Kind = Literal["secret", "container"]
TABLES = {"secret": local_secret, "container": local_container}
SERVICE = "colonnade"  # who reads secrets when load balancers are made so: its name in ACLs and among consumers
_BALANCER = "load-balancer"
_NONCE_BYTES = 12
_HELP = "Give another reference, or take it away."


def parse_ref(ref: str) -> tuple[Kind | None, str]:
    """What a reference names; the kind is None for a bare id. Raises Invalid."""
    *before, last = ref.rstrip("/").split("/")
    if not UUID.fullmatch(last):
        raise Invalid(f"{ref[:255]} is not a reference to a secret or a container.")
    match before[-1:]:
        case ["secrets"]:
            return "secret", last.lower()
        case ["containers"]:
            return "container", last.lower()
        case []:
            return None, last.lower()
    raise Invalid(f"{ref[:255]} is not a reference to a secret or a container.")


class Seal:
    """Encrypts what is at rest: AES-256-GCM, bound to the secret's id. The key is made at first use."""

    def __init__(self, directory: Path) -> None:
        text = secrets.ensure(directory / "key-manager.key", random.token_hex(32))
        self._cipher = AESGCM(bytes.fromhex(text))

    def close(self, secret_id: str, payload: bytes) -> bytes:
        """The payload as it is stored."""
        nonce = random.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, payload, secret_id.encode())

    def open(self, secret_id: str, stored: bytes) -> bytes:
        """The payload. Raises Broken when the key is not the one that closed it."""
        try:
            return self._cipher.decrypt(stored[:_NONCE_BYTES], stored[_NONCE_BYTES:], secret_id.encode())
        except (InvalidTag, ValueError):
            raise Broken(
                f"Secret {secret_id} cannot be decrypted: it was stored under another key file.",
                "Put the right key-manager.key back into the state directory's secrets, or store the secret again.",
            ) from None


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalSecrets:
    """drivers.SecretStore on the small cloud's own tables."""

    store: Store
    seal: Seal
    clock: Clock

    def read(self, ref: str, who: Caller) -> Material:
        """With the caller's rights."""
        with self.store.read() as conn:
            return self._material(conn, ref, lambda row: may_read(row, who))

    def grant(self, ref: str, who: Caller) -> None:
        """The service is named in the ACL."""
        with self.store.write() as conn:
            kind, row = self._row(conn, ref)
            for table, one in ((TABLES[kind], row), *((local_secret, s) for s in self._inside(conn, row))):
                if may_read(one, who) and SERVICE not in one.read_users:
                    now = utc(self.clock.now())
                    given = {"read_users": [*one.read_users, SERVICE], "acl_updated_at": now}
                    given |= {} if one.acl_created_at else {"acl_created_at": now}
                    conn.execute(update(table).where(table.c.id == one.id).values(given))

    def fetch(self, ref: str, project_id: str) -> Material:
        """With the service's rights."""
        try:
            with self.store.read() as conn:
                return self._material(conn, ref, lambda r: r.project_id == project_id or SERVICE in r.read_users)
        except NotFound:
            raise Broken(f"{ref} {self._why_gone(ref)}.", _HELP) from None
        except Forbidden:
            raise Broken(
                f"{ref} belongs to another project, which does not let load balancers read it.", _HELP
            ) from None
        except Invalid as e:
            raise Broken(e.sentence, _HELP) from None
        except SQLAlchemyError as e:
            raise Later(f"The key manager does not answer ({type(e).__name__}).") from e

    def _why_gone(self, ref: str) -> str:
        kind, its_id = parse_ref(ref)
        with self.store.read() as conn:
            row = find(conn, "secret", its_id, 0) if kind != "container" else None
        if row is None:
            return "does not exist any more" if kind != "container" else "or a secret in it does not exist any more"
        return f"expired on {row.expiration:%Y-%m-%d %H:%M} UTC" if row.payload else "has no payload yet"

    def used(self, lb_id: str, refs: Collection[str]) -> None:
        """Consumers are exactly these."""
        wanted = {parse_ref(ref)[1] for ref in refs if _is_ref(ref)}
        of_it = (local_consumer.c.service == SERVICE, local_consumer.c.resource_id == lb_id)
        with self.store.read() as conn:
            have = set(conn.execute(select(local_consumer.c.owner_id).where(*of_it)).scalars())
        if have == wanted:
            return
        with self.store.write() as conn:
            gone = have - wanted
            if gone:
                conn.execute(delete(local_consumer).where(*of_it, local_consumer.c.owner_id.in_(sorted(gone))))
            for owner_id in sorted(wanted - have):
                register(conn, owner_id, (SERVICE, _BALANCER, lb_id), self.clock.now())

    def users(self) -> set[str]:
        """Load balancers among the consumers."""
        with self.store.read() as conn:
            query = select(local_consumer.c.resource_id).where(local_consumer.c.service == SERVICE)
            return set(conn.execute(query.distinct()).scalars())

    def payload(self, row: Any) -> bytes:  # noqa: ANN401 - a row of local_secret
        """A secret's payload in the clear. Raises NotFound when it has none, Broken when it cannot be decrypted."""
        if row.payload is None:
            raise NotFound("Secret payload not found.")
        return self.seal.open(row.id, row.payload)

    def _material(self, conn: Connection, ref: str, allowed: Any) -> Material:  # noqa: ANN401 - a test of a row
        _, row = self._row(conn, ref)
        if not allowed(row):
            raise Forbidden(f"{ref} may not be read.")
        if row._mapping.get("secret_refs") is None:
            return Material(ref=ref, project_id=row.project_id, payloads={"": self.payload(row)})
        names = {r["secret_id"]: r["name"] for r in row.secret_refs}
        inside = self._inside(conn, row)
        if len(inside) < len(names):
            raise NotFound(f"A secret of {ref} does not exist.")
        if not all(allowed(s) for s in inside):
            raise Forbidden(f"A secret of {ref} may not be read.")
        payloads = {names[s.id]: self.payload(s) for s in inside}
        return Material(ref=ref, project_id=row.project_id, payloads=payloads)

    def _row(self, conn: Connection, ref: str) -> tuple[Kind, Any]:
        kind, its_id = parse_ref(ref)
        kinds: Sequence[Kind] = ("secret", "container") if kind is None else (kind,)
        for one in kinds:
            row = find(conn, one, its_id, self.clock.now())
            if row is not None:
                return one, row
        raise NotFound(f"{ref} not found.")

    def _inside(self, conn: Connection, row: Any) -> Sequence[Any]:  # noqa: ANN401 - a row
        refs = row._mapping.get("secret_refs") or []
        ids = [r["secret_id"] for r in refs]
        return conn.execute(select(local_secret).where(local_secret.c.id.in_(ids), lives(self.clock.now()))).all()


def find(conn: Connection, kind: Kind, its_id: str, now: float) -> Any:  # noqa: ANN401 - a row, or None
    """The secret or container; an expired secret is none."""
    table = TABLES[kind]
    alive = [lives(now)] if kind == "secret" else []
    return conn.execute(select(table).where(table.c.id == its_id, *alive)).first()


def may_read(row: Any, who: Caller) -> bool:  # noqa: ANN401 - a row of either table
    """Whether the caller may see what it holds."""
    if who.is_admin or who.user_id in row.read_users:
        return True
    if row.project_id != who.project_id or "member" not in who.roles:
        return False
    return bool(row.project_access) or row.creator_id == who.user_id


def register(conn: Connection, owner_id: str, consumer: tuple[str, str, str], now: float) -> None:
    """Note a consumer (service, kind of resource, resource); once is enough."""
    its_id = str(uuid.uuid5(uuid.NAMESPACE_OID, "\0".join((owner_id, *consumer))))
    if conn.execute(select(local_consumer.c.id).where(local_consumer.c.id == its_id)).first():
        return
    service, resource_type, resource_id = consumer
    conn.execute(
        insert(local_consumer).values(
            id=its_id, owner_id=owner_id, service=service, resource_type=resource_type, resource_id=resource_id,
            created_at=utc(now),
        )
    )  # fmt: skip


def unregister(conn: Connection, owner_id: str, consumer: tuple[str, str, str]) -> int:
    """Forget a consumer; how many there were."""
    c = local_consumer.c
    same = (c.owner_id == owner_id, c.service == consumer[0], c.resource_type == consumer[1])
    return conn.execute(delete(local_consumer).where(*same, c.resource_id == consumer[2])).rowcount


def balancers_of(conn: Connection, secret_id: str) -> set[str]:
    """Load balancers that use the secret, itself or by a container."""
    containers = conn.execute(select(local_container.c.id, local_container.c.secret_refs)).all()
    owners = [secret_id, *(c.id for c in containers if any(r["secret_id"] == secret_id for r in c.secret_refs))]
    query = select(local_consumer.c.resource_id).where(
        local_consumer.c.service == SERVICE, local_consumer.c.owner_id.in_(owners)
    )
    return set(conn.execute(query).scalars())


def lives(now: float) -> ColumnElement[bool]:
    """Secrets that have not expired."""
    return or_(local_secret.c.expiration.is_(None), local_secret.c.expiration > utc(now))


def _is_ref(ref: str) -> bool:
    try:
        parse_ref(ref)
    except Invalid:
        return False
    return True

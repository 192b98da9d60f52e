"""The part of Barbican's API v1 that certificates need: secrets, containers, their ACLs and consumers.

One thing is ours: PUT replaces a payload that is there already (Barbican answers 409), and every load balancer that
uses the secret takes the new one at once. A secret that is in use is not removed unless ``force`` says so, whatever
the microversion.
"""

import uuid
from collections.abc import Callable, Iterable
from typing import Any

import falcon
from sqlalchemy import Connection, Table, delete, insert, select, update

from colonnade.clock import Clock, utc
from colonnade.drivers import Doorbell
from colonnade.errors import ApiError, Broken, Conflict, Forbidden, Invalid, NotFound
from colonnade.local import bodies_of_secrets as bodies
from colonnade.local import documents_of_secrets as documents
from colonnade.local import vault, web
from colonnade.local.vault import SERVICE, TABLES, Kind, LocalSecrets
from colonnade.model import Caller
from colonnade.store import work
from colonnade.store.local_tables import local_consumer, local_container, local_secret
from colonnade.types import UUID, Json

OPEN_PATHS = frozenset({""})
_LEAST, _MOST = (1, 0), (1, 2)
_CONTAINERS = {
    "generic": (None, frozenset[str]()),
    "certificate": (
        {"certificate", "private_key", "intermediates", "private_key_passphrase"}, frozenset({"certificate"}),
    ),
    "rsa": ({"public_key", "private_key", "private_key_passphrase"}, frozenset({"public_key", "private_key"})),
}  # fmt: skip


class NotAcceptable(ApiError):
    """A microversion, or a form of the payload, that is not served."""

    status = 406


class Room:
    """What every resource here needs. ``changed`` has load balancers looked at that use a secret."""

    def __init__(self, secrets: LocalSecrets, doorbell: Doorbell, clock: Clock) -> None:
        self.secrets, self.store, self.clock, self._doorbell = secrets, secrets.store, clock, doorbell

    def find(self, conn: Connection, kind: Kind, item_id: str) -> Any:  # noqa: ANN401 - a row
        """The row. Raises NotFound."""
        row = vault.find(conn, kind, item_id.lower(), self.clock.now()) if UUID.fullmatch(item_id) else None
        if row is None:
            raise NotFound(f"{kind.capitalize()} not found.")
        return row

    def changed(self, conn: Connection, secret_id: str) -> set[str]:
        """Inside the transaction that changes the secret; what to ring for after it."""
        balancers = vault.balancers_of(conn, secret_id)
        for lb_id in balancers:
            work.disturb(conn, lb_id, self.clock.now())
        return balancers

    def ring(self, subjects: Iterable[str]) -> None:
        """After the commit."""
        for subject in subjects:
            self._doorbell.ring(subject)


def routes(secrets: LocalSecrets, doorbell: Doorbell, clock: Clock) -> list[tuple[str, object]]:
    """Every path of the service."""
    room = Room(secrets, doorbell, clock)
    paths: list[tuple[str, object]] = [
        ("/", _Versions()),
        ("/v1", web.Document(lambda r: {"version": _version(web.root(r))})),
        ("/v1/secrets", _Secrets(room)),
        ("/v1/secrets/{item_id}", _Secret(room)),
        ("/v1/secrets/{item_id}/payload", _Payload(room)),
        ("/v1/containers", _Containers(room)),
        ("/v1/containers/{item_id}", _Container(room)),
    ]
    kinds: tuple[Kind, ...] = ("secret", "container")
    for kind in kinds:
        paths.append((f"/v1/{kind}s/{{item_id}}/acl", _Acl(room, kind)))
        paths.append((f"/v1/{kind}s/{{item_id}}/consumers", _Consumers(room, kind)))
    return paths


def barbican_shape(status: int, _kind: str, sentence: str) -> Json:
    """Errors of the key manager; a missing token is answered by keystonemiddleware in front of Barbican."""
    if status == 401:
        return web.keystone_shape(status, _kind, sentence)
    titles = {400: "Bad Request", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed", 409: "Conflict"}
    return {"code": status, "title": titles.get(status, "Error"), "description": sentence}


class _Versions:
    """/"""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """What is served. Clients ask for a microversion here first."""
        service, _, asked = (req.get_header("OpenStack-API-Version") or "").strip().partition(" ")
        if service == "key-manager" and asked != "latest":
            major, _, minor = asked.partition(".")
            number = (int(major), int(minor)) if major.isdecimal() and minor.isdecimal() and len(asked) < 9 else (0, 0)
            if not _LEAST <= number <= _MOST:
                raise NotAcceptable(f"Version {asked} is not supported. Minimum is 1.0 and maximum is 1.2.")
        resp.set_header("Vary", "OpenStack-API-Version")
        web.answer(resp, {"versions": [_version(web.root(req))]})


def _version(root: str) -> Json:
    return {
        "id": "v1", "status": "CURRENT", "updated": "2023-03-22T00:00:00Z",
        "min_version": f"{_LEAST[0]}.{_LEAST[1]}", "max_version": f"{_MOST[0]}.{_MOST[1]}",
        "links": [{"rel": "self", "href": f"{root}/v1/"}],
        "media-types": [{"base": "application/json", "type": "application/vnd.openstack.key-manager-v1+json"}],
    }  # fmt: skip


class _Resource:
    def __init__(self, room: Room) -> None:
        self.room = room


class _Secrets(_Resource):
    """/v1/secrets"""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Secrets of the project that the caller may read."""
        who = _member(req, "reader")
        now = self.room.clock.now()
        with self.room.store.read() as conn:
            where = [local_secret.c.project_id == who.project_id, vault.lives(now)]
            rows = conn.execute(select(local_secret).where(*where)).all()
            consumers = documents.consumers(conn, [r.id for r in rows])
        shown = [documents.secret(r, web.root(req), consumers) for r in rows if r.project_access or _owns(r, who)]
        web.answer(resp, documents.page(req, "secrets", shown))

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Store one, with its payload or without."""
        who, given = _member(req, "member"), web.document(req)
        now, its_id = self.room.clock.now(), str(uuid.uuid4())
        row = bodies.meta(given, now)
        payload = bodies.given_payload(given)
        row["content_type"] = None if payload is None else payload[0]
        row["payload"] = None if payload is None else self.room.secrets.seal.close(its_id, payload[1])
        with self.room.store.write() as conn:
            conn.execute(insert(local_secret).values(**row, **bodies.owned(its_id, who, now)))
        ref = f"{web.root(req)}/v1/secrets/{its_id}"
        resp.set_header("Location", ref)
        web.answer(resp, {"secret_ref": ref}, 201)


class _Secret(_Resource):
    """/v1/secrets/{id}"""

    def on_get(self, req: falcon.Request, resp: falcon.Response, item_id: str) -> None:
        """What is known of it; with another Accept than JSON, its payload, as old clients have it."""
        if not req.client_accepts_json:
            _Payload(self.room).on_get(req, resp, item_id)
            return
        with self.room.store.read() as conn:
            row = self.room.find(conn, "secret", item_id)
            _allow_read(row, req, payload=False)
            document = documents.secret(row, web.root(req), documents.consumers(conn, [row.id]))
        web.answer(resp, document)

    def on_put(self, req: falcon.Request, resp: falcon.Response, item_id: str) -> None:
        """Give it its payload, or another one."""
        who = _member(req, "member")
        kind = bodies.content_type(req.content_type or "")
        data = req.bounded_stream.read(bodies.LONGEST_PAYLOAD * 2)
        if (req.get_header("Content-Encoding") or "").lower() == "base64":
            data = bodies.decoded(data)
        bodies.check_payload(data)
        with self.room.store.write() as conn:
            row = self.room.find(conn, "secret", item_id)
            _allow_write(row, who)
            values = {
                "content_type": kind, "payload": self.room.secrets.seal.close(row.id, data),
                "updated_at": utc(self.room.clock.now()),
            }  # fmt: skip
            conn.execute(update(local_secret).where(local_secret.c.id == row.id).values(values))
            subjects = self.room.changed(conn, row.id)
        self.room.ring(subjects)
        resp.status = 204

    def on_delete(self, req: falcon.Request, resp: falcon.Response, item_id: str) -> None:
        """Remove it."""
        who = _member(req, "member")
        with self.room.store.write() as conn:
            row = self.room.find(conn, "secret", item_id)
            _allow_write(row, who)
            if not _forced(req) and documents.consumers(conn, [row.id]):
                raise Conflict(
                    "Secret has one or more unregistered consumers. Remove them first, or delete it with --force."
                )
            subjects = self.room.changed(conn, row.id)
            conn.execute(delete(local_consumer).where(local_consumer.c.owner_id == row.id))
            conn.execute(delete(local_secret).where(local_secret.c.id == row.id))
        self.room.ring(subjects)
        resp.status = 204


class _Payload(_Resource):
    """/v1/secrets/{id}/payload"""

    def on_get(self, req: falcon.Request, resp: falcon.Response, item_id: str) -> None:
        """The payload as it was given."""
        with self.room.store.read() as conn:
            row = self.room.find(conn, "secret", item_id)
        _allow_read(row, req, payload=True)
        try:
            data = self.room.secrets.payload(row)
        except Broken as e:
            raise Unreadable(f"{e} {e.help}") from e
        kind = req.client_prefers((row.content_type, *bodies._CONTENT_TYPES))
        if kind is None or (kind == bodies.TEXT and not _is_text(data)):
            raise NotAcceptable(f"The secret's payload is {row.content_type}.")
        resp.content_type = f"{bodies.TEXT}; charset=utf-8" if kind == bodies.TEXT else kind
        resp.data = data


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


class Unreadable(ApiError):
    """A secret that is there and cannot be decrypted."""

    status = 500


class _Containers(_Resource):
    """/v1/containers"""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Containers of the project."""
        who = _member(req, "reader")
        with self.room.store.read() as conn:
            rows = conn.execute(select(local_container).where(local_container.c.project_id == who.project_id)).all()
            consumers = documents.consumers(conn, [r.id for r in rows])
        shown = [documents.container(r, web.root(req), consumers) for r in rows if r.project_access or _owns(r, who)]
        web.answer(resp, documents.page(req, "containers", shown))

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Make one of secrets that the caller may read."""
        who, given = _member(req, "member"), web.document(req)
        kind, parts = given.get("type"), given.get("secret_refs", [])
        if kind not in _CONTAINERS:
            raise Invalid(f"type: one of {', '.join(_CONTAINERS)} is needed.")
        names, needed = _CONTAINERS[kind]
        found = [bodies.part(p) for p in parts] if isinstance(parts, list) else []
        given_names = {name for name, _ in found}
        if len(given_names) < len(found):
            raise Invalid("secret_refs: each name may stand once.")
        if names is not None and not (needed <= given_names <= names):
            raise Invalid(f"secret_refs: a container of type {kind} takes {', '.join(sorted(names))}, "
                          f"and needs {', '.join(sorted(needed))}.")  # fmt: skip
        now, its_id = self.room.clock.now(), str(uuid.uuid4())
        with self.room.store.write() as conn:
            for _, secret_id in found:
                if not vault.may_read(self.room.find(conn, "secret", secret_id), who):
                    raise Forbidden("A secret of the container may not be read.")
            refs = [{"name": name, "secret_id": secret_id} for name, secret_id in found]
            values = {"name": bodies.text(given, "name"), "type": kind, "secret_refs": refs}
            conn.execute(insert(local_container).values(**values, **bodies.owned(its_id, who, now)))
        ref = f"{web.root(req)}/v1/containers/{its_id}"
        resp.set_header("Location", ref)
        web.answer(resp, {"container_ref": ref}, 201)


class _Container(_Resource):
    """/v1/containers/{id}"""

    def on_get(self, req: falcon.Request, resp: falcon.Response, item_id: str) -> None:
        """What it is made of."""
        with self.room.store.read() as conn:
            row = self.room.find(conn, "container", item_id)
            _allow_read(row, req, payload=False)
            document = documents.container(row, web.root(req), documents.consumers(conn, [row.id]))
        web.answer(resp, document)

    def on_delete(self, req: falcon.Request, resp: falcon.Response, item_id: str) -> None:
        """Remove it; its secrets stay."""
        who = _member(req, "member")
        with self.room.store.write() as conn:
            row = self.room.find(conn, "container", item_id)
            _allow_write(row, who)
            conn.execute(delete(local_consumer).where(local_consumer.c.owner_id == row.id))
            conn.execute(delete(local_container).where(local_container.c.id == row.id))
        resp.status = 204


class _Acl(_Resource):
    """/v1/{secrets,containers}/{id}/acl"""

    def __init__(self, room: Room, kind: Kind) -> None:
        super().__init__(room)
        self.kind: Kind = kind
        self.table: Table = TABLES[kind]

    def on_get(self, req: falcon.Request, resp: falcon.Response, item_id: str) -> None:
        """Who may read it."""
        with self.room.store.read() as conn:
            row = self.room.find(conn, self.kind, item_id)
        _allow_read(row, req, payload=False)
        read: Json = {"project-access": row.project_access}
        if row.acl_created_at:
            read |= {
                "users": row.read_users,
                "created": documents.iso(row.acl_created_at),
                "updated": documents.iso(row.acl_updated_at),
            }
        web.answer(resp, {"read": read})

    def on_put(self, req: falcon.Request, resp: falcon.Response, item_id: str) -> None:
        """Set it: what is not given is as at the beginning."""
        self._write(req, resp, item_id, {"read_users": [], "project_access": True})

    def on_patch(self, req: falcon.Request, resp: falcon.Response, item_id: str) -> None:
        """Change what is given."""
        self._write(req, resp, item_id, {})

    def on_delete(self, req: falcon.Request, resp: falcon.Response, item_id: str) -> None:
        """As at the beginning: the project reads, and nobody else."""
        who = _member(req, "member")
        with self.room.store.write() as conn:
            row = self.room.find(conn, self.kind, item_id)
            _allow_write(row, who)
            none = {"read_users": [], "project_access": True, "acl_created_at": None, "acl_updated_at": None}
            conn.execute(update(self.table).where(self.table.c.id == row.id).values(none))
        resp.status = 200

    def _write(self, req: falcon.Request, resp: falcon.Response, item_id: str, values: Json) -> None:
        who, given = _member(req, "member"), web.document(req).get("read")
        if not isinstance(given, dict):
            raise Invalid("read: an object with users, project-access or both is needed.")
        values = dict(values)
        if given.get("users") is not None:
            users = given["users"]
            if not isinstance(users, list) or not all(isinstance(u, str) and 0 < len(u) <= 255 for u in users):
                raise Invalid("read.users: a list of user ids is needed.")
            values["read_users"] = list(dict.fromkeys(users))
        if given.get("project-access") is not None:
            if not isinstance(given["project-access"], bool):
                raise Invalid("read.project-access: true or false is needed.")
            values["project_access"] = given["project-access"]
        now = utc(self.room.clock.now())
        with self.room.store.write() as conn:
            row = self.room.find(conn, self.kind, item_id)
            _allow_write(row, who)
            values |= {"acl_created_at": row.acl_created_at or now, "acl_updated_at": now}
            conn.execute(update(self.table).where(self.table.c.id == row.id).values(values))
        web.answer(resp, {"acl_ref": f"{web.root(req)}/v1/{self.kind}s/{row.id}/acl"})


class _Consumers(_Resource):
    """/v1/{secrets,containers}/{id}/consumers"""

    def __init__(self, room: Room, kind: Kind) -> None:
        super().__init__(room)
        self.kind: Kind = kind

    def on_get(self, req: falcon.Request, resp: falcon.Response, item_id: str) -> None:
        """Who uses it."""
        with self.room.store.read() as conn:
            row = self.room.find(conn, self.kind, item_id)
            _allow_read(row, req, payload=False)
            found = documents.consumers(conn, [row.id]).get(row.id, [])
        web.answer(resp, documents.page(req, "consumers", [documents.consumer(c, self.kind) for c in found]))

    def on_post(self, req: falcon.Request, resp: falcon.Response, item_id: str) -> None:
        """Note one more."""
        self._change(req, resp, item_id, add=True)

    def on_delete(self, req: falcon.Request, resp: falcon.Response, item_id: str) -> None:
        """Forget one."""
        self._change(req, resp, item_id, add=False)

    def _change(self, req: falcon.Request, resp: falcon.Response, item_id: str, *, add: bool) -> None:
        _member(req, "member")
        given = web.document(req)
        if self.kind == "secret":
            service, kind, resource = (bodies.needed(given, n) for n in ("service", "resource_type", "resource_id"))
        else:
            service, kind, resource = bodies.needed(given, "name"), "", bodies.needed(given, "URL")
        if service == SERVICE:
            raise Forbidden("Load balancers are noted by the load-balancing service itself.")
        with self.room.store.write() as conn:
            row = self.room.find(conn, self.kind, item_id)
            _allow_read(row, req, payload=False)
            if add:
                vault.register(conn, row.id, (service, kind, resource), self.room.clock.now())
            elif vault.unregister(conn, row.id, (service, kind, resource)) == 0:
                raise NotFound("Consumer not found.")
            consumers = documents.consumers(conn, [row.id])
        render: Callable[[Any, str, dict[str, list[Any]]], Json] = (
            documents.secret if self.kind == "secret" else documents.container
        )
        web.answer(resp, render(row, web.root(req), consumers))


# --- who may -------------------------------------------------------------------------------------------------------


def _member(req: falcon.Request, role: str) -> Caller:
    who = web.caller(req)
    if who.project_id is None:
        raise Forbidden("A token of a project is needed.")
    if not who.is_admin and role not in who.roles and "member" not in who.roles:
        raise Forbidden("Your roles in this project do not allow it.")
    return who


def _owns(row: Any, who: Caller) -> bool:  # noqa: ANN401 - a row
    return who.is_admin or row.creator_id == who.user_id or who.user_id in row.read_users


def _allow_read(row: Any, req: falcon.Request, *, payload: bool) -> None:  # noqa: ANN401 - a row
    who = web.caller(req)
    own = who.project_id == row.project_id and row.project_access and "reader" in who.roles
    if not (vault.may_read(row, who) or (own and not payload)):
        raise Forbidden("Secret retrieval attempt not allowed - please review your user/project privileges")


def _allow_write(row: Any, who: Caller) -> None:  # noqa: ANN401 - a row
    own = row.project_id == who.project_id and (row.project_access or row.creator_id == who.user_id)
    if not own and not who.is_admin:
        raise Forbidden("Secret change attempt not allowed - please review your user/project privileges")


def _forced(req: falcon.Request) -> bool:
    return (req.get_param("force") or "").lower() in ("1", "true", "yes")

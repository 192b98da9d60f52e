"""The built-in identity: logs users in, says who is behind a token.

Tokens are signed and stateless; users, roles and revocations are kept in memory and read again when their generation in
the database changes, which is looked at once a second at most. So a revocation holds at once in the process that
took it and within a second in every other.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection

from colonnade import loopback
from colonnade.clock import Clock
from colonnade.errors import Conflict, Forbidden, Invalid, NotFound, Unauthorized
from colonnade.local import directory, secrets, tokens
from colonnade.local.directory import Directory, Project, User
from colonnade.local.passwords import Doorman
from colonnade.local.tokens import Token
from colonnade.model import Caller
from colonnade.settings import Settings
from colonnade.store.store import Store
from colonnade.types import Json

Changed = TypeVar("Changed")
_LOOK_AGAIN_S = 1.0
_UNAUTHORIZED = "The request you have made requires authentication."


@dataclass(frozen=True, slots=True)
class Login:
    """A token that was given out."""

    text: str
    token: Token


class Identity:
    """Users, passwords and tokens. Safe to use from many threads."""

    def __init__(self, settings: Settings, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._lifetime_s = settings.api_settings.token_lifetime_s
        self._noauth = settings.api_settings.auth_strategy == "noauth"
        self._key = secrets.token_key(settings.state / "secrets")
        self._doorman = Doorman(clock)
        self._directory = Directory()
        self._looked_at = float("-inf")

    def authenticate(self, token: str) -> Caller:
        """Who is behind the token. Raises Unauthorized."""
        found = self.inspect(token)
        if found is None:
            raise Unauthorized(_UNAUTHORIZED)
        roles = self.directory().roles(found.user_id, found.project_id) if found.project_id else frozenset[str]()
        return Caller(user_id=found.user_id, project_id=found.project_id, roles=roles)

    def default_caller(self) -> Caller:
        """Who a request without a token comes from, where those are taken: the user admin in the project admin."""
        known = self.directory()
        user, project = known.user_named("admin"), known.project_named("admin")
        if user is None or project is None:
            raise Unauthorized("There is no user admin in a project admin to act for requests without a token.")
        return Caller(user_id=user.id, project_id=project.id, roles=known.roles(user.id, project.id))

    def admit(self, token: str | None, environ: Mapping[str, Any]) -> Caller:
        """Who sends a request with this X-Auth-Token; ``environ`` is WSGI's. Raises Unauthorized."""
        if token and token != "notused":  # noqa: S105 - what keystoneauth's auth_type "none" sends
            return self.authenticate(token)
        if self._noauth and loopback.is_own(environ):
            return self.default_caller()
        raise Unauthorized(_UNAUTHORIZED)

    def directory(self, *, fresh: bool = False) -> Directory:
        """Everybody there is, at most a second old; with ``fresh`` as it is now."""
        now = self._clock.monotonic()
        if fresh or now - self._looked_at >= _LOOK_AGAIN_S:
            with self._store.read() as conn:
                if directory.generation(conn) != self._directory.generation:
                    self._directory = directory.read(conn)
            self._looked_at = now
        return self._directory

    def inspect(self, text: str) -> Token | None:
        """What the token says, if it is good: signed here, not expired, not revoked, of an enabled user and project."""
        token = tokens.verify(text, self._key)
        known = self.directory()
        if token is None or token.expires_at <= self._clock.now() or token.audit_id in known.revoked:
            return None
        user = known.users.get(token.user_id)
        if user is None or not user.enabled or token.issued_at < user.tokens_from:
            return None
        if token.project_id is None:
            return token
        if not known.roles(user.id, token.project_id) or token.issued_at < known.projects[token.project_id].tokens_from:
            return None
        return token

    def revoke(self, token: Token) -> None:
        """Make the token worthless."""
        with self._store.write() as conn:
            directory.revoke(conn, token.audit_id, token.expires_at, self._clock.now())
        self.directory(fresh=True)

    def change(self, do: Callable[[Connection, float], Changed]) -> Changed:
        """Change who there is, in one transaction; holds here at once. Raises Conflict, and what ``do`` raises."""
        with self._store.write() as conn:
            found = do(conn, self._clock.now())
            directory.changed(conn)
            if not directory.read(conn).has_administrator():
                raise Conflict("Nobody could administer this installation any more: there must be another admin first.")
        self.directory(fresh=True)
        return found

    def check_password(self, user: User, password: str) -> None:
        """Raises Unauthorized, TooManyAttempts."""
        if not self._doorman.admits(user.name, password, user.password or None):
            raise Unauthorized(_UNAUTHORIZED)

    def login(self, auth: Json) -> Login:
        """A token for the ``auth`` object of POST /v3/auth/tokens. Raises Unauthorized, Invalid, TooManyAttempts."""
        self.directory(fresh=True)
        method, proof = _method(auth)
        now = int(self._clock.now())
        methods: tuple[str, ...]
        if method == "password":
            user = self._by_password(proof)
            expires_at, methods = now + self._lifetime_s, ("password",)
        else:
            given = self.inspect(_text(proof, "id", "auth.identity.token"))
            if given is None:
                raise Unauthorized(_UNAUTHORIZED)
            user = self.directory().users[given.user_id]
            expires_at, methods = given.expires_at, tuple(dict.fromkeys((*given.methods, "token")))
        project_id = self._scope(auth.get("scope"), user)
        project = self.directory().projects[project_id] if project_id else None
        token = Token(
            user_id=user.id,
            project_id=project_id,
            # What ended earlier tokens ended those of the rest of its second, too; this one comes after it.
            issued_at=max(now, user.tokens_from, project.tokens_from if project else 0),
            expires_at=expires_at,
            methods=methods,
            audit_id=tokens.fresh_id(),
        )
        return Login(tokens.sign(token, self._key), token)

    def _by_password(self, proof: Json) -> User:
        given = proof.get("user")
        if not isinstance(given, dict):
            raise Invalid("auth.identity.password.user: an object with id or name, and password, is needed.")
        password = _text(given, "password", "auth.identity.password.user")
        known = self.directory()
        if "id" in given:
            name = _text(given, "id", "auth.identity.password.user")
            user = known.users.get(name)
        else:
            name = _text(given, "name", "auth.identity.password.user")
            user = known.user_named(name) if _in_default_domain(given, "auth.identity.password.user") else None
        right = self._doorman.admits(user.name if user else name, password, (user.password or None) if user else None)
        if user is None or not right or not user.enabled:
            raise Unauthorized(_UNAUTHORIZED)
        return user

    def _scope(self, scope: object, user: User) -> str | None:
        known = self.directory()
        if scope is None:
            default = user.default_project_id
            return default if default and known.roles(user.id, default) else None
        if scope == "unscoped" or scope == {"unscoped": {}}:
            return None
        if not isinstance(scope, dict) or not scope.keys() <= {"project", "domain", "system", "OS-TRUST:trust"}:
            raise Invalid('auth.scope: {"project": {"id": …}}, {"project": {"name": …, "domain": …}} or "unscoped".')
        wanted = scope.get("project")
        if not isinstance(wanted, dict):
            raise Unauthorized("Users have roles in projects only here: ask for a token of a project.")
        project = _find_project(known, wanted)
        if project is None or not known.roles(user.id, project.id):
            raise Unauthorized(_UNAUTHORIZED)
        return project.id

    def subject(self, caller: Caller, text: str | None) -> Token:
        """The token that X-Subject-Token holds, for its own user or an admin. Raises NotFound, Forbidden, Invalid."""
        if not text:
            raise Invalid("X-Subject-Token: the token to look at is needed.")
        token = self.inspect(text)
        if token is None:
            raise NotFound("Could not find token.")
        if token.user_id != caller.user_id and not caller.is_admin:
            raise Forbidden("You are not authorized to perform the requested action.")
        return token


def _find_project(known: Directory, wanted: Json) -> Project | None:
    if "id" in wanted:
        return known.projects.get(_text(wanted, "id", "auth.scope.project"))
    name = _text(wanted, "name", "auth.scope.project")
    return known.project_named(name) if _in_default_domain(wanted, "auth.scope.project") else None


def _method(auth: Json) -> tuple[str, Json]:
    identity = auth.get("identity")
    methods = identity.get("methods") if isinstance(identity, dict) else None
    if not isinstance(identity, dict) or not isinstance(methods, list) or not methods:
        raise Invalid("auth.identity.methods: a list with one of password, token is needed.")
    if len(methods) != 1 or methods[0] not in ("password", "token"):
        raise Unauthorized("Only one of the methods password and token can be used here.")
    proof = identity.get(methods[0])
    if not isinstance(proof, dict):
        raise Invalid(f"auth.identity.{methods[0]}: an object is needed.")
    return methods[0], proof


def _text(given: Json, key: str, where: str) -> str:
    value = given.get(key)
    if not isinstance(value, str) or "\0" in value or len(value) > 4096:
        raise Invalid(f"{where}.{key}: a text is needed.")
    return value


def _in_default_domain(given: Json, where: str) -> bool:
    domain = given.get("domain")
    if not isinstance(domain, dict) or not ("id" in domain or "name" in domain):
        raise Invalid(f"{where}.domain: an object with id or name is needed beside a name.")
    return domain.get("id") == directory.DEFAULT_DOMAIN or domain.get("name") == directory.DEFAULT_DOMAIN_NAME

"""HTTP around the resources: who calls, what is accepted, bodies in, replies and the two error shapes out."""

import http
import json
import logging
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import falcon
import orjson
from sqlalchemy import exc

from colonnade import loopback
from colonnade.errors import ApiError, Busy, Invalid, NotFound, Unauthorized
from colonnade.model import Caller, Rules
from colonnade.types import Json

if TYPE_CHECKING:
    from colonnade.drivers.keystone import Keystone

log = logging.getLogger(__name__)

OPEN_PATHS = frozenset({"/", "", "/healthcheck", "/openapi.json"})
_DEEPEST = 64  # a full tree needs 8


class Identity(Protocol):
    """Who is behind a token."""

    def authenticate(self, token: str) -> Caller:
        """Raises Unauthorized."""
        ...

    def default_caller(self) -> Caller:
        """Who a request without a token comes from, where those are taken."""
        ...


class ParentNotFound(NotFound):
    """The object that the path goes through is not there: upstream answers this in form B."""


@dataclass(frozen=True, slots=True)
class Gate:
    """Falcon middleware: gives each request its id, and lets in who may come in."""

    admit: Callable[[falcon.Request], Caller]  # raises Unauthorized
    rules: Rules

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Raises Unauthorized, or 406."""
        req.context.id = f"req-{uuid.uuid4()}"
        resp.set_header("x-openstack-request-id", req.context.id)
        if is_open(req.path) or req.method == "OPTIONS":
            return
        req.context.caller = replace(self.admit(req), rules=self.rules)
        accept = req.get_header("Accept")
        if accept and not any(kind in accept for kind in ("*/*", "application/json", "application/*")):
            raise falcon.HTTPNotAcceptable(description="Only application/json is served.")


def is_open(path: str) -> bool:
    """Whether anybody may read it."""
    return path in OPEN_PATHS


def by_keystone(keystone: "Keystone") -> Callable[[falcon.Request], Caller]:
    """Callers as keystonemiddleware in front of us found them."""
    return lambda req: keystone.caller(req.env)


def by_token(identity: Identity | None, *, noauth: bool) -> Callable[[falcon.Request], Caller]:
    """Callers by the built-in identity's tokens; with ``noauth`` an administrator without one, from this machine."""

    def admit(req: falcon.Request) -> Caller:
        if identity is None:
            raise Unauthorized("Nobody can log in here.")
        token = req.get_header("X-Auth-Token")
        if token and token != "notused":  # noqa: S105 - what keystoneauth's auth_type "none" sends
            return identity.authenticate(token)
        if noauth and loopback.is_own(req.env):
            return replace(identity.default_caller(), trusted=True)
        raise Unauthorized("The request you have made requires authentication.")

    return admit


def caller(req: falcon.Request) -> Caller:
    """Who sent the request."""
    who: Caller = req.context.caller
    return who


def read_body(req: falcon.Request, longest: int) -> Any:  # noqa: ANN401 - whatever JSON the sender wrote
    """The JSON body. Raises 413, 415 and Invalid."""
    kind = (req.content_type or "application/json").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise falcon.HTTPUnsupportedMediaType(description="Only application/json bodies are accepted.")
    if (req.content_length or 0) > longest:
        raise falcon.HTTPContentTooLarge(description=f"The body may have {longest} bytes.")
    data = req.bounded_stream.read(longest + 1)
    if len(data) > longest:
        raise falcon.HTTPContentTooLarge(description=f"The body may have {longest} bytes.")
    return parse(data)


def parse(data: bytes) -> Any:  # noqa: ANN401 - as above
    """JSON, strictly: no NaN, no lone surrogate, no duplicate key, no number that is not one, not too deep."""
    try:
        orjson.loads(data)
        value = json.loads(data, object_pairs_hook=_object)
        _measure(value, _DEEPEST)
    except (ValueError, RecursionError) as e:
        raise Invalid(f"Request is not in valid JSON format: {e}") from e
    return value


def _object(pairs: list[tuple[str, Any]]) -> Json:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"the key {twice[:64]!r} is given twice")
    return found


def _measure(value: Any, left: int) -> None:  # noqa: ANN401 - as above
    if left == 0:
        raise ValueError(f"more than {_DEEPEST} levels deep")
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _measure(child, left - 1)


def answer(resp: falcon.Response, document: Any, status: int = 200) -> None:  # noqa: ANN401 - any JSON
    """Reply with a JSON document."""
    resp.status = status
    resp.data = orjson.dumps(document)


def form_a(resp: falcon.Response, status: int, sentence: str) -> None:
    """The shape of errors raised by resources."""
    side = "Client" if status < 500 else "Server"
    answer(resp, {"faultcode": side, "faultstring": sentence, "debuginfo": None}, status)


def form_b(resp: falcon.Response, status: int, title: str, description: str) -> None:
    """The shape of errors raised before a resource is reached."""
    answer(resp, {"code": status, "title": title, "description": description}, status)


def add_error_handlers(app: "falcon.App[Any, Any]") -> None:
    """Every exception ends as a reply in one of the shapes."""
    handlers: list[tuple[Any, Callable[..., None]]] = [
        (Exception, _on_bug),
        (falcon.HTTPError, _on_http_error),
        (ApiError, _on_api_error),
        ((exc.OperationalError, exc.InterfaceError, exc.TimeoutError), _on_database_away),
        (ParentNotFound, _on_parent_not_found),
        (Unauthorized, _on_unauthorized),
    ]
    for kind, handler in handlers:
        app.add_error_handler(kind, handler)


def _on_api_error(_req: falcon.Request, resp: falcon.Response, ex: ApiError, _params: Json) -> None:
    form_a(resp, ex.status, ex.sentence)


def _on_parent_not_found(_req: falcon.Request, resp: falcon.Response, ex: ApiError, _params: Json) -> None:
    form_b(resp, 404, "Bad Request", ex.sentence)  # upstream's title; clients look at the status


def _on_unauthorized(_req: falcon.Request, resp: falcon.Response, ex: ApiError, _params: Json) -> None:
    resp.set_header("WWW-Authenticate", 'Keystone uri="/identity"')
    answer(resp, {"error": {"code": 401, "title": "Unauthorized", "message": ex.sentence}}, 401)


def _on_http_error(_req: falcon.Request, resp: falcon.Response, ex: falcon.HTTPError, _params: Json) -> None:
    status = http.HTTPStatus(ex.status_code)
    if ex.headers:
        resp.set_headers(ex.headers)
    form_b(resp, ex.status_code, status.phrase, ex.description or status.description or status.phrase)


def _on_database_away(req: falcon.Request, resp: falcon.Response, ex: Exception, params: Json) -> None:
    log.warning("database away", extra={"request": req.context.id, "error": str(ex)})
    _on_api_error(req, resp, Busy("The database does not answer. Please try again."), params)


def _on_bug(req: falcon.Request, resp: falcon.Response, _ex: Exception, _params: Json) -> None:
    request_id = getattr(req.context, "id", "unknown")
    log.exception("unexpected", extra={"request": request_id, "path": req.path})
    form_a(resp, 500, f"The server failed to answer; its log says why under {request_id}.")

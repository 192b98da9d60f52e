"""HTTP around the small cloud's services: who calls, bodies in, replies and each service's own error shape out."""

import http
import logging
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import falcon
import orjson
from sqlalchemy import exc

from colonnade.errors import ApiError, Busy, Invalid, NotFound
from colonnade.local.faults import MethodNotAllowed, TooManyAttempts
from colonnade.model import Caller
from colonnade.types import Json

log = logging.getLogger(__name__)

WSGIApp = Callable[[dict[str, Any], Any], Iterable[bytes]]
Shape = Callable[[int, str, str], Json]  # (status, kind of error, sentence) -> body
App = falcon.App[falcon.Request, falcon.Response]


@dataclass(frozen=True, slots=True)
class Service:
    """What a service's requests have in common."""

    prefix: str  # where it is mounted: "/network"
    admit: Callable[[falcon.Request], Caller]  # raises Unauthorized
    base_uri: str  # settings.api_settings.api_base_uri
    longest_body: int
    page_limit: int | None  # None: none
    shape: Shape
    open_paths: frozenset[str]  # answered without a token; without the trailing slash

    def is_open(self, path: str) -> bool:
        """Whether anybody may read it."""
        return path.rstrip("/") in self.open_paths


class _Gate:
    """Gives each request its id, and lets in who may come in."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Raises Unauthorized."""
        req.context.id = f"req-{uuid.uuid4()}"
        resp.set_header("x-openstack-request-id", req.context.id)
        service = self._service
        req.context.service = service
        outside = req.prefix.removesuffix(service.prefix)
        req.context.base = service.base_uri.rstrip("/") or outside
        req.context.root = req.context.base + service.prefix
        if "\0" in req.path:
            raise NotFound("There is nothing of that name.")
        if not service.is_open(req.path):
            req.context.caller = service.admit(req)


def make(service: Service, routes: Iterable[tuple[str, object]]) -> App:
    """A service as a WSGI app: its routes, its error shape. Paths answer with and without a trailing slash."""
    app: App = falcon.App(middleware=[_Gate(service)])
    app.req_options.strip_url_path_trailing_slash = True
    app.req_options.auto_parse_qs_csv = False
    app.resp_options.default_media_type = falcon.MEDIA_JSON
    for path, resource in routes:
        app.add_route(path, resource)

    def on_api_error(_req: falcon.Request, resp: falcon.Response, ex: ApiError, _params: Json) -> None:
        if isinstance(ex, TooManyAttempts):
            resp.set_header("Retry-After", str(ex.retry_after))
        if ex.status == 401:
            resp.set_header("WWW-Authenticate", f'Keystone uri="{_req.context.base}/identity"')
        answer(resp, service.shape(ex.status, type(ex).__name__, ex.sentence), ex.status)

    def on_http_error(req: falcon.Request, resp: falcon.Response, ex: falcon.HTTPError, _params: Json) -> None:
        status = http.HTTPStatus(ex.status_code)
        if ex.headers:
            resp.set_headers(ex.headers)
        sentence = ex.description or f"{status.phrase}: {req.method} {service.prefix}{req.path}"
        answer(resp, service.shape(ex.status_code, f"HTTP{status.phrase.replace(' ', '')}", sentence), ex.status_code)

    def on_database_away(req: falcon.Request, resp: falcon.Response, ex: Exception, params: Json) -> None:
        log.warning("database away", extra={"request": req.context.id, "error": str(ex)})
        on_api_error(req, resp, Busy("The database does not answer. Please try again."), params)

    def on_bug(req: falcon.Request, resp: falcon.Response, _ex: Exception, _params: Json) -> None:
        request_id = getattr(req.context, "id", "unknown")
        log.exception("unexpected", extra={"request": request_id, "path": req.path})
        sentence = f"The server failed to answer; its log says why under {request_id}."
        answer(resp, service.shape(500, "HTTPInternalServerError", sentence), 500)

    app.add_error_handler(Exception, on_bug)
    app.add_error_handler(falcon.HTTPError, on_http_error)
    for away in (exc.OperationalError, exc.InterfaceError, exc.TimeoutError):
        app.add_error_handler(away, on_database_away)
    app.add_error_handler(ApiError, on_api_error)
    return app


def caller(req: falcon.Request) -> Caller:
    """Who sent the request."""
    who: Caller = req.context.caller
    return who


def root(req: falcon.Request) -> str:
    """The service's own URL, for links."""
    found: str = req.context.root
    return found


def base(req: falcon.Request) -> str:
    """The URL that all services are under."""
    found: str = req.context.base
    return found


def answer(resp: falcon.Response, document: Any, status: int = 200) -> None:  # noqa: ANN401 - any JSON
    """Reply with a JSON document."""
    resp.status = status
    resp.data = orjson.dumps(document)


def document(req: falcon.Request) -> Json:
    """The object that the JSON body is. Raises 413, 415 and Invalid."""
    longest = req.context.service.longest_body
    kind = (req.content_type or falcon.MEDIA_JSON).partition(";")[0].strip().lower()
    if kind != falcon.MEDIA_JSON:  # also keeps out forms that a browser sends without asking first
        raise falcon.HTTPUnsupportedMediaType(description="Only application/json bodies are accepted.")
    data = req.bounded_stream.read(longest + 1)
    if len(data) > longest:
        raise falcon.HTTPContentTooLarge(description=f"The body may have {longest} bytes.")
    try:
        found = orjson.loads(data)
    except ValueError as e:
        raise Invalid(f"Request is not in valid JSON format: {e}") from e
    if not isinstance(found, dict):
        raise Invalid("The body must be a JSON object.")
    return found


def body(req: falcon.Request, key: str) -> Json:
    """The object under ``key`` of the JSON body."""
    found = document(req).get(key)
    if not isinstance(found, dict):
        raise Invalid(f"The body must be an object with one object '{key}' in it.")
    return found


class Document:
    """A resource that always answers the same: version documents and the like."""

    def __init__(self, render: Callable[[falcon.Request], Json], status: int = 200) -> None:
        self._render = render
        self._status = status

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """The document."""
        answer(resp, self._render(req), self._status)

    def on_head(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Its status."""
        resp.status = self._status


class ReadOnly:
    """Mixed into resources that answer reads: writes get a sentence instead of a bare 405."""

    why = "This is read-only here."

    def on_post(self, _req: falcon.Request, _resp: falcon.Response, **_path: str) -> None:
        """Refuse."""
        raise MethodNotAllowed(self.why)

    on_put = on_patch = on_delete = on_post


def keystone_shape(status: int, _kind: str, sentence: str) -> Json:
    """Identity's errors."""
    return {"error": {"code": status, "message": sentence, "title": http.HTTPStatus(status).phrase}}


def neutron_shape(status: int, kind: str, sentence: str) -> Json:
    """Network's errors; a missing token is answered by keystonemiddleware in front of Neutron."""
    if status == 401:
        return keystone_shape(status, kind, sentence)
    known = {"Invalid": "InvalidInput", "Forbidden": "PolicyNotAuthorized", "NotFound": "HTTPNotFound"}
    return {"NeutronError": {"type": known.get(kind, kind), "message": sentence, "detail": ""}}


def nova_shape(status: int, kind: str, sentence: str) -> Json:
    """Compute's errors."""
    if status == 401:
        return keystone_shape(status, kind, sentence)
    names = {400: "badRequest", 403: "forbidden", 404: "itemNotFound", 405: "badMethod", 409: "conflictingRequest",
             503: "serviceUnavailable"}  # fmt: skip
    return {names.get(status, "computeFault"): {"code": status, "message": sentence}}

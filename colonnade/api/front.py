"""What stands before the applications: a proxy's word of where a request came from, and browsers' questions (CORS).

Both are off until the operator says whom to believe. Names and meanings are oslo.middleware's.
"""

import re
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from colonnade.settings import Cors, Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_HOST = re.compile(r"[A-Za-z0-9.-]{1,255}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?")
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]{1,64}){1,8}/?")
_METHODS = "GET, PUT, POST, DELETE, PATCH"
_HEADERS = "X-Auth-Token, X-Subject-Token, X-OpenStack-Request-ID, OpenStack-API-Version, Content-Type, Accept"


def before(app: "WSGIApplication", settings: Settings) -> "WSGIApplication":
    """The application behind what the settings switch on."""
    if settings.cors.allowed_origin:
        app = Browsers(app, settings.cors)
    if settings.oslo_middleware.enable_proxy_headers_parsing:
        app = _behind_proxy(app)
    return app


def _behind_proxy(app: "WSGIApplication") -> "WSGIApplication":
    def serve(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        environ.update(_told(environ))
        return app(environ, start_response)

    return serve


def _told(environ: "WSGIEnvironment") -> dict[str, Any]:
    """What the proxy's headers change. Of a list the first counts, as the outermost proxy wrote it; what is no scheme,
    host, path or address changes nothing."""

    def first(name: str) -> str:
        return str(environ.get(f"HTTP_X_FORWARDED_{name}", "")).partition(",")[0].strip()

    found: dict[str, Any] = {}
    if (scheme := first("PROTO").lower()) in ("http", "https"):
        found["wsgi.url_scheme"] = scheme
    if _HOST.fullmatch(host := first("HOST")):
        found["HTTP_HOST"] = host
    if _PREFIX.fullmatch(prefix := first("PREFIX")):
        found["SCRIPT_NAME"] = prefix.rstrip("/") + environ.get("SCRIPT_NAME", "")
    with suppress(ValueError):
        found["REMOTE_ADDR"] = str(ip_address(first("FOR")))
    return found


class Browsers:
    """Answers preflight requests of the pages that may use the API, and tells browsers so in every reply."""

    def __init__(self, app: "WSGIApplication", settings: Cors) -> None:
        self.app, self.settings = app, settings

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        said = self._said(environ.get("HTTP_ORIGIN", ""))
        if not said:
            return self.app(environ, start_response)
        if environ["REQUEST_METHOD"] == "OPTIONS" and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in environ:
            asked = [
                *said, ("Access-Control-Allow-Methods", _METHODS), ("Access-Control-Allow-Headers", _HEADERS),
                ("Access-Control-Max-Age", str(self.settings.max_age)), ("Content-Length", "0"),
                ("Content-Type", "text/plain"),
            ]  # fmt: skip
            start_response("200 OK", asked)
            return [b""]

        def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:  # noqa: ANN401 - WSGI's own
            return start_response(status, [*headers, *said], *more)

        return self.app(environ, start)

    def _said(self, origin: str) -> list[tuple[str, str]]:
        """What every reply to a page of this origin says; nothing when it may not use the API."""
        allowed = self.settings.allowed_origin
        shown = [("Access-Control-Expose-Headers", "X-OpenStack-Request-ID, X-Subject-Token"), ("Vary", "Origin")]
        if origin and origin in allowed:
            credentials = [("Access-Control-Allow-Credentials", "true")] if self.settings.allow_credentials else []
            return [("Access-Control-Allow-Origin", origin), *credentials, *shown]
        return [("Access-Control-Allow-Origin", "*"), *shown] if origin and "*" in allowed else []

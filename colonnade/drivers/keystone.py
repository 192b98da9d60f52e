"""Tokens of a real Keystone: keystonemiddleware in front of our applications, and who it says is calling.

Its options are its own, in [keystone_authtoken]. It keeps what a token says for ``token_cache_time`` seconds, in
memcached or in this process. A request is answered 401 for a bad token and 503 while Keystone is away, before it
reaches us.
"""

import json
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from keystoneauth1.exceptions import AuthPluginException, ClientException
from keystonemiddleware import auth_token
from oslo_config import cfg

from colonnade.clock import Clock
from colonnade.errors import Unauthorized
from colonnade.model import Caller
from colonnade.settings import Settings, WrongSetting

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger(__name__)

_BEHIND = "colonnade.behind"
_CACHE = "colonnade.tokens"
_MOST_TOKENS = 2000  # some 5 KB each
_CONFIRMED = "keystone.token_info"  # set by keystonemiddleware alone; headers could come from anybody


class Keystone:
    """One Keystone, asked by all applications of this process."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        """Raises WrongSetting."""
        self._tokens = _Tokens(clock)
        conf = cfg.ConfigOpts()
        conf([], project="colonnade", default_config_files=list(settings.files), default_config_dirs=[])
        # Who comes in without a token is our own applications' question only for paths that are open.
        options = {
            "oslo_config_config": conf, "oslo_config_project": "colonnade", "delay_auth_decision": False,
            "cache": _CACHE,
        }  # fmt: skip
        try:
            self._guard: WSGIApplication = auth_token.AuthProtocol(_behind, options)
            group = conf.keystone_authtoken
            missing = [name for name in ("auth_type", "auth_url") if not getattr(group, name, None)]
            self._own_cache = not group.memcached_servers
        except (cfg.Error, AuthPluginException, ValueError) as e:
            raise WrongSetting(f"[keystone_authtoken]: {e}") from e
        if missing:
            raise WrongSetting(f"[keystone_authtoken] {missing[0]}: auth_strategy = keystone needs it.")

    def before(self, app: "WSGIApplication", is_open: Callable[[str], bool]) -> "WSGIApplication":
        """The application where everything but the open paths needs a good token."""

        def serve(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
            environ.pop(_CONFIRMED, None)
            if environ["REQUEST_METHOD"] == "OPTIONS" or is_open(environ.get("PATH_INFO", "")):
                return app(environ, start_response)
            environ[_BEHIND] = app
            if self._own_cache:
                environ[_CACHE] = self._tokens
            try:
                return self._guard(environ, start_response)
            except ClientException as e:  # what keystonemiddleware leaves to others
                log.error("Keystone does not answer as it should", extra={"error": str(e)})
                return _away(start_response)

        return serve

    def caller(self, environ: "WSGIEnvironment") -> Caller:
        """Who sent a request that came through. Raises Unauthorized for one that did not."""
        if _CONFIRMED not in environ:
            raise Unauthorized("The request you have made requires authentication.")
        return Caller(
            user_id=environ.get("HTTP_X_USER_ID", ""),
            project_id=environ.get("HTTP_X_PROJECT_ID") or None,
            roles=frozenset(role for role in environ.get("HTTP_X_ROLES", "").split(",") if role),
            system_scope=environ.get("HTTP_OPENSTACK_SYSTEM_SCOPE") or None,
            domain_id=environ.get("HTTP_X_DOMAIN_ID") or None,
        )


def _behind(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    app: WSGIApplication = environ[_BEHIND]
    return app(environ, start_response)


def _away(start_response: "StartResponse") -> Iterable[bytes]:
    sentence = "The Keystone service is temporarily unavailable. Please try again."
    start_response("503 Service Unavailable", [("Content-Type", "application/json"), ("Retry-After", "1")])
    return [json.dumps({"error": {"code": 503, "title": "Service Unavailable", "message": sentence}}).encode()]


class _Tokens:
    """What tokens say, for a while. keystonemiddleware's own memory looks at all it holds, at each request."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str) -> bytes | None:
        """What was kept, if it is still good."""
        with self._lock:
            until, value = self._known.get(key, (0.0, b""))
            return value if until > self._clock.monotonic() else None

    def set(self, key: str, value: bytes, time: float = 0) -> None:
        """Keep it for so many seconds; the oldest goes when there are too many."""
        with self._lock:
            self._known[key] = (self._clock.monotonic() + time, value)
            self._known.move_to_end(key)
            if len(self._known) > _MOST_TOKENS:
                self._known.popitem(last=False)

"""Whether a request comes from this machine's own user: what may be done without a token hangs on it.

That the peer is a loopback address does not say it alone: a browser here sends what any web page tells it to. But it
says in Host which name it was led by (a name of somebody else's may lead to 127.0.0.1), and in Origin whose page it is.
"""

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit


def is_own(environ: Mapping[str, Any]) -> bool:
    """Whether peer, Host and Origin, as far as they are there, all mean loopback."""
    if not means_loopback(environ.get("REMOTE_ADDR", "")):
        return False
    host, origin = environ.get("HTTP_HOST"), environ.get("HTTP_ORIGIN")
    return (not host or _host_means(f"//{host}")) and (not origin or _host_means(origin))


def means_loopback(host: str) -> bool:
    """Whether the address is a loopback one, or the name ``localhost``."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _host_means(url: str) -> bool:
    try:
        return means_loopback(urlsplit(url).hostname or "")
    except ValueError:
        return False

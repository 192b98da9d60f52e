"""Version discovery, and whether the service is well."""

import falcon
from sqlalchemy import exc, text

from colonnade.api import listing
from colonnade.api.transport import answer
from colonnade.api.writing import Api

_VERSIONS = (
    ("v2.0", "2016-12-11"), ("v2.1", "2018-04-20"), ("v2.2", "2018-07-31"), ("v2.3", "2018-12-18"),
    ("v2.4", "2018-12-19"), ("v2.5", "2019-01-21"), ("v2.6", "2019-01-25"), ("v2.7", "2018-01-25T12:00:00Z"),
    ("v2.8", "2019-02-12"), ("v2.9", "2019-03-04"), ("v2.10", "2019-03-05"), ("v2.11", "2019-06-24"),
    ("v2.12", "2019-09-11"), ("v2.13", "2019-09-13"), ("v2.14", "2019-11-10"), ("v2.15", "2020-03-10"),
    ("v2.16", "2020-03-15"), ("v2.17", "2020-04-29"), ("v2.18", "2020-04-29T01:00:00Z"), ("v2.19", "2020-05-12"),
    ("v2.20", "2020-08-02"), ("v2.21", "2020-09-03"), ("v2.22", "2020-09-04"), ("v2.23", "2020-09-07"),
    ("v2.24", "2020-10-15"), ("v2.25", "2021-10-02"), ("v2.26", "2022-08-29"), ("v2.27", "2023-05-05"),
    ("v2.28", "2023-11-08"), ("v2.29", "2024-10-15"), ("v2.30", "2025-02-26"),
)  # fmt: skip


class Root:
    """GET /"""

    def __init__(self, api: Api) -> None:
        self.api = api

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        links = [{"href": f"{listing.base_uri(self.api, req)}/v2", "rel": "self"}]
        versions = [
            {
                "id": its_id,
                "status": "CURRENT" if its_id == _VERSIONS[-1][0] else "SUPPORTED",
                "updated": updated if "T" in updated else f"{updated}T00:00:00Z",
                "links": links,
            }
            for its_id, updated in _VERSIONS
        ]
        answer(resp, {"versions": versions})


class Version:
    """GET /v2 and the roots of its trees."""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        answer(resp, "v2")


class Health:
    """GET /healthcheck: 200 while the database answers."""

    def __init__(self, api: Api) -> None:
        self.api = api

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        if not self.api.settings.api_settings.healthcheck_enabled:
            _plain(resp, 404, "The health check is disabled.")
            return
        try:
            with self.api.store.read() as conn:
                conn.execute(text("SELECT 1"))
        except (exc.OperationalError, exc.InterfaceError, exc.TimeoutError):
            status, word = 503, "The database does not answer."
        else:
            status, word = 200, "OK"
        kind = req.client_prefers(("text/plain", "text/html", "application/json"))
        if kind == "application/json":
            answer(resp, {"detailed": False, "reasons": [word]}, status)
        elif kind == "text/html":
            _plain(resp, status, f"<!DOCTYPE html><title>Healthcheck Status</title><p>{word}</p>", "text/html")
        else:
            _plain(resp, status, word)

    on_head = on_get


def _plain(resp: falcon.Response, status: int, words: str, kind: str = "text/plain") -> None:
    resp.status, resp.text, resp.content_type = status, words, kind

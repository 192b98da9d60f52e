"""The small cloud on whatever database: what only requests at the same moment break."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from databases import DATABASES

from colonnade.local import setup
from colonnade.settings import Database, Default, Settings
from tests.local.small_cloud import Client, Clock, Cloud

V2 = "/network/v2.0"


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Client]:
    with DATABASES.fresh() as url:
        settings = Settings(default=Default(state_path=str(tmp_path)), database=Database(connection=url))
        (tmp_path / "db").mkdir()
        cloud = Cloud(settings)
        setup.ensure(settings, cloud.store, Clock())
        yield cloud.client("demo")
        cloud.store.close()


def group(demo: Client) -> str:
    made: str = demo.post(f"{V2}/security-groups", {"security_group": {"name": "g"}}).json["security_group"]["id"]
    return made


def together(*requests: Any) -> list[int]:
    """The statuses of requests that are sent at the same moment."""
    start = threading.Barrier(len(requests))

    def send(request: Any) -> int:
        start.wait(60)
        return int(request().status_code)

    with ThreadPoolExecutor(len(requests)) as pool:
        return sorted(pool.map(send, requests))


def rule_of(demo: Client, group_id: str, first: int) -> Any:
    body = {"security_group_id": group_id, "direction": "ingress", "protocol": "tcp"}
    rule = {"security_group_rule": {**body, "port_range_min": first, "port_range_max": 99}}
    return lambda: demo._http.simulate_post(
        f"{V2}/security-group-rules", json=rule, headers={"X-Auth-Token": demo.token}, remote_addr="127.0.0.1"
    )


def test_a_group_has_a_rule_once(demo: Client) -> None:
    for _ in range(3):
        made = group(demo)
        assert together(*[rule_of(demo, made, 1)] * 6) == [201, *[409] * 5]


def test_no_rule_outlives_its_group(demo: Client) -> None:
    for _ in range(5):
        made = group(demo)

        def gone(path: str = f"{V2}/security-groups/{made}") -> Any:
            return demo._http.simulate_delete(path, headers={"X-Auth-Token": demo.token}, remote_addr="127.0.0.1")

        statuses = together(gone, *(rule_of(demo, made, n) for n in range(1, 6)))
        assert set(statuses) <= {201, 204, 404}
        assert 204 in statuses
    assert demo.get(f"{V2}/security-group-rules")["security_group_rules"] == []

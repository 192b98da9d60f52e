"""A driver agent on sockets of its own, and load balancers of a provider to report of."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from octavia_lib.api.drivers.driver_lib import DriverLibrary
from sqlalchemy import insert, select

from colonnade.clock import SystemClock, utc
from colonnade.driver_agent.answer import Answers
from colonnade.driver_agent.run import DriverAgent
from colonnade.drivers.fake import Cloud, Vault
from colonnade.model import HealthMonitor, L7Policy, L7Rule, Listener, LoadBalancer, Member, Pool, Resource
from colonnade.settings import DriverAgent as Section
from colonnade.settings import Settings
from colonnade.store import rows, tables, work
from colonnade.store.store import Store
from colonnade.types import (
    Algorithm,
    L7Action,
    L7CompareType,
    L7RuleType,
    ListenerProtocol,
    MonitorType,
    OperatingStatus,
    PoolProtocol,
    ProvisioningStatus,
)
from tests.support import eventually


@dataclass
class Scene:
    """A database with load balancers in it, and what is around it."""

    store: Store
    settings: Settings
    cloud: Cloud = field(default_factory=Cloud)
    vault: Vault = field(default_factory=Vault)

    @property
    def answers(self) -> Answers:
        return Answers(store=self.store, network=self.cloud, secrets=self.vault, clock=SystemClock())

    def tree(self, provider: str = "acme") -> dict[str, str]:
        """A load balancer with one of each, all PENDING_CREATE; their ids by the names of the collections."""
        n = len(self.cloud.known_subnets)
        subnet = self.cloud.add_subnet(f"10.{n}.0.0/24")
        id = dict(zip(
            ("loadbalancers", "listeners", "pools", "members", "healthmonitors", "l7policies", "l7rules"),
            (f"{i}{n:07}-0000-4000-8000-000000000000" for i in range(1, 8)), strict=True,
        ))  # fmt: skip
        lb = id["loadbalancers"]
        port = self.cloud.ensure_vip(lb, "p", subnet, None)
        own: Any = {"project_id": "p", "created_at": utc(1), "provisioning_status": ProvisioningStatus.PENDING_CREATE}
        below: Any = {**own, "loadbalancer_id": lb}
        values: list[Resource] = [
            LoadBalancer(id=lb, name="lb", provider=provider, vip_port_id=port.id, vip_subnet_id=subnet.id,
                         vip_network_id=subnet.network_id, vip_address=port.fixed_ips[0].address, **own),
            Pool(id=id["pools"], protocol=PoolProtocol.HTTP, lb_algorithm=Algorithm.ROUND_ROBIN, **below),
            Listener(id=id["listeners"], protocol=ListenerProtocol.HTTP, protocol_port=80,
                     default_pool_id=id["pools"], **below),
            Member(id=id["members"], pool_id=id["pools"], address="10.2.0.1", protocol_port=80, tags=("t",), **below),
            HealthMonitor(id=id["healthmonitors"], pool_id=id["pools"], type=MonitorType.TCP, delay=1, timeout=1,
                          max_retries=1, **below),
            L7Policy(id=id["l7policies"], listener_id=id["listeners"], action=L7Action.REJECT, position=1, **below),
            L7Rule(id=id["l7rules"], l7policy_id=id["l7policies"], type=L7RuleType.PATH,
                   compare_type=L7CompareType.EQUAL_TO, value="/", **below),
        ]  # fmt: skip
        with self.store.write() as conn:
            for value in values:
                conn.execute(insert(tables.OF[type(value)]).values(rows.to_row(value)))
            conn.execute(insert(tables.tag).values(object_id=id["members"], value="t"))
            work.touch(conn, lb, 1.0)
        return id

    def row(self, kind: str, id: str) -> Any:
        """What is stored of the object; None: nothing."""
        from colonnade.store.reports import KINDS

        table = tables.OF[KINDS[kind]]
        with self.store.read() as conn:
            return conn.execute(select(table).where(table.c.id == id)).mappings().first()

    def status(self, kind: str, id: str) -> Any:
        found = self.row(kind, id)
        return found and (found["provisioning_status"], found["operating_status"])


PENDING = (ProvisioningStatus.PENDING_CREATE, OperatingStatus.OFFLINE)


@pytest.fixture
def scene(store: Store, tmp_path: Path) -> Scene:
    names = ("status", "stats", "get")
    paths: Any = {f"{name}_socket_path": str(tmp_path / f"{name}.sock") for name in names}
    section = Section(**paths, status_request_timeout=60, status_max_processes=4)
    return Scene(store, replace(Settings(), driver_agent=section))


@pytest.fixture
def hurried(scene: Scene) -> None:
    """The driver agent gives a report a second to come."""
    section = replace(scene.settings.driver_agent, status_request_timeout=1)
    scene.settings = replace(scene.settings, driver_agent=section)


@pytest.fixture
def sockets(scene: Scene) -> Iterator[tuple[str, str, str]]:
    """The paths of a running driver agent's sockets: statuses, statistics, get."""
    agent = DriverAgent(
        settings=scene.settings, store=scene.store, network=scene.cloud, secrets=scene.vault, clock=SystemClock()
    )
    stop = threading.Event()
    thread = threading.Thread(target=agent.run, args=(stop,), daemon=True)
    thread.start()
    eventually(lambda: all(Path(path).exists() for path in scene.settings.provider_sockets), 60)
    yield scene.settings.provider_sockets
    stop.set()
    thread.join(60)
    assert not thread.is_alive()
    assert not any(Path(path).exists() for path in scene.settings.provider_sockets)


@pytest.fixture
def library(sockets: tuple[str, str, str]) -> DriverLibrary:
    """octavia-lib's own side of the sockets."""
    return DriverLibrary(*sockets)

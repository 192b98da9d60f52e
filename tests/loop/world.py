"""A small world for tests of the loop: a real database, a cloud in memory, a clock that is turned by hand."""

import dataclasses
import random
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from databases import DATABASES
from sqlalchemy import Connection, insert, select, update

from colonnade import wire
from colonnade.clock import utc
from colonnade.core.bundle import vips
from colonnade.core.plan import plan
from colonnade.drivers.doorbell import MemoryDoorbell
from colonnade.drivers.fake import Cloud, Vault
from colonnade.housekeeping.keep import HouseKeeper
from colonnade.model import (
    AdditionalVip,
    Amphora,
    Listener,
    LoadBalancer,
    Member,
    NetworkPort,
    Pool,
    Resource,
    Subnet,
    Tree,
)
from colonnade.settings import ControllerWorker, HouseKeeping, Settings
from colonnade.store import rows, tables, work
from colonnade.store.store import Store
from colonnade.types import Algorithm, ListenerProtocol, PoolProtocol, ProvisioningStatus
from colonnade.worker.loop import Worker
from colonnade.worker.observe import look

PROJECT = "p1"
SETTINGS = Settings(
    controller_worker=ControllerWorker(lease_s=30, pending_limit_s=60, retry_longest_s=60),
    house_keeping=HouseKeeping(orphan_age_s=60),
)


class HandClock:
    """Time that passes only when told."""

    def __init__(self) -> None:
        self.at = 1_700_000_000.0

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += seconds


class TroubledStore(Store):
    """A database whose transactions can be met by trouble: before they begin, and after they are committed."""

    trouble: Callable[[str, str], None] = staticmethod(lambda _effect, _moment: None)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        self.trouble("write", "before")
        with super().write() as conn:
            yield conn
        self.trouble("write", "after")


def render(tree: Tree, amphora: Amphora, ports: Any, vip: NetworkPort) -> wire.Bundle:
    """A bundle in which every wish can be seen; small, for the loop's tests do not look into haproxy.cfg."""
    words = [f"{tree.load_balancer.name} {tree.load_balancer.admin_state_up}"]
    words += [f"listener {x.id} {x.name} {x.default_pool_id}" for x in tree.listeners]
    words += [f"member {m.id} {m.weight}" for m in tree.members]
    return wire.Bundle(
        amphora_id=amphora.id,
        loadbalancer_id=tree.load_balancer.id,
        serving=True,
        interfaces=tuple(
            wire.Interface(
                port_id=p.id, network_id=p.network_id, mac=p.mac_address, mtu=p.mtu,
                addresses=tuple(f.address for f in p.fixed_ips),
                vips=tuple(f"{v}/32" for v in vips(tree.load_balancer)) if p.network_id == vip.network_id else (),
            )
            for p in sorted(ports, key=lambda p: p.network_id)
        ),
        files={"haproxy.cfg": "\n".join(words)} if tree.listeners else {},
        heartbeat_targets=(),
    )  # fmt: skip


@dataclass
class World:
    """Everything a history needs. Wishes are written as the API writes them: the ledger first, one transaction."""

    store: TroubledStore
    settings: Settings = SETTINGS
    cloud: Cloud = field(default_factory=Cloud)
    clock: HandClock = field(default_factory=HandClock)
    doorbell: MemoryDoorbell = field(default_factory=MemoryDoorbell)
    vault: Vault = field(default_factory=Vault)

    def __post_init__(self) -> None:
        self.vip_subnet = self.cloud.add_subnet("10.0.0.0/16")
        self.far_subnets = [self.cloud.add_subnet(f"10.{n}.0.0/16") for n in (1, 2)]

    def worker(self, fabric: Any = None, seed: int = 0) -> Worker:
        return Worker(
            settings=self.settings, store=self.store, network=self.cloud, compute=self.cloud, link=self.cloud,
            doorbell=self.doorbell, clock=self.clock, fabric=fabric, render=render, rng=random.Random(seed),
            secrets=self.vault,
        )  # fmt: skip

    def keeper(self) -> HouseKeeper:
        return HouseKeeper(
            settings=self.settings, store=self.store, network=self.cloud, compute=self.cloud, doorbell=self.doorbell,
            clock=self.clock, secrets=self.vault,
        )  # fmt: skip

    # Wishes

    def create(self, name: str = "lb", listeners: int = 1, more: tuple[Subnet, ...] = (), **fields: Any) -> str:
        """A load balancer; ``more``: subnets of additional VIPs."""
        id = str(uuid.uuid4())
        vip = self.cloud.ensure_vip(id, PROJECT, self.vip_subnet, None, [(s, None) for s in more])
        balancer = LoadBalancer(
            id=id, project_id=PROJECT, name=name, created_at=utc(self.clock.now()), vip_port_id=vip.id,
            vip_address=vip.fixed_ips[0].address, vip_subnet_id=self.vip_subnet.id, provider="amphora",
            vip_network_id=self.vip_subnet.network_id,
            additional_vips=tuple(
                AdditionalVip(subnet_id=f.subnet_id, ip_address=f.address, port_id=vip.id) for f in vip.fixed_ips[1:]
            ),
            **fields,
        )  # fmt: skip
        with self.wish(id) as conn:
            self.insert(conn, balancer)
            for n in range(listeners):
                self.insert(conn, self.new_listener(id, 80 + n))
        return id

    def new_listener(self, lb_id: str, port: int) -> Listener:
        return Listener(
            id=str(uuid.uuid4()), project_id=PROJECT, created_at=utc(self.clock.now()), loadbalancer_id=lb_id,
            protocol=ListenerProtocol.HTTP, protocol_port=port,
        )  # fmt: skip

    def add_listener(self, lb_id: str, port: int = 8080) -> str:
        made = self.new_listener(lb_id, port)
        with self.wish(lb_id) as conn:
            self.insert(conn, made)
            self._pending(conn, lb_id)
        return made.id

    def add_pool(self, lb_id: str) -> str:
        made = Pool(
            id=str(uuid.uuid4()), project_id=PROJECT, created_at=utc(self.clock.now()), loadbalancer_id=lb_id,
            protocol=PoolProtocol.HTTP, lb_algorithm=Algorithm.ROUND_ROBIN,
        )  # fmt: skip
        with self.wish(lb_id) as conn:
            self.insert(conn, made)
            self._pending(conn, lb_id)
        return made.id

    def add_member(self, lb_id: str, pool_id: str, subnet_id: str | None = None) -> str:
        made = Member(
            id=str(uuid.uuid4()), project_id=PROJECT, created_at=utc(self.clock.now()), loadbalancer_id=lb_id,
            pool_id=pool_id, address="10.1.0.9", protocol_port=80, subnet_id=subnet_id,
        )  # fmt: skip
        with self.wish(lb_id) as conn:
            self.insert(conn, made)
            self._pending(conn, lb_id)
        return made.id

    def change(self, lb_id: str, **values: Any) -> None:
        with self.wish(lb_id) as conn:
            self._pending(conn, lb_id, **values)

    def drop(self, lb_id: str, cls: type[Resource], id: str) -> None:
        with self.wish(lb_id) as conn:
            table = tables.OF[cls]
            doomed = {"provisioning_status": ProvisioningStatus.PENDING_DELETE}
            conn.execute(update(table).where(table.c.id == id).values(doomed))
            self._pending(conn, lb_id)

    def failover(self, lb_id: str) -> None:
        self.change(lb_id, incarnation=tables.load_balancer.c.incarnation + 1)

    def delete(self, lb_id: str) -> None:
        with self.wish(lb_id, delete=True) as conn:
            doomed = {"provisioning_status": ProvisioningStatus.PENDING_DELETE}
            conn.execute(update(tables.load_balancer).where(tables.load_balancer.c.id == lb_id).values(doomed))

    @contextmanager
    def wish(self, lb_id: str, *, delete: bool = False) -> Iterator[Connection]:
        """One write of the API. Not met by trouble: that is about the loop."""
        with Store.write(self.store) as conn:
            work.touch(conn, lb_id, self.clock.now(), delete=delete)
            yield conn
        self.doorbell.ring(lb_id)

    def insert(self, conn: Connection, made: Resource) -> None:
        conn.execute(insert(tables.OF[type(made)]).values(rows.to_row(made)))

    def _pending(self, conn: Connection, lb_id: str, **values: Any) -> None:
        table = tables.load_balancer
        conn.execute(update(table).where(table.c.id == lb_id).values({"name": table.c.name, **values}))
        asked = table.c.provisioning_status != ProvisioningStatus.PENDING_CREATE
        pending = {"provisioning_status": ProvisioningStatus.PENDING_UPDATE}
        conn.execute(update(table).where(table.c.id == lb_id, asked).values(pending))

    # Looking

    def tree(self, lb_id: str) -> Tree | None:
        with self.store.read() as conn:
            return rows.tree(conn, lb_id)

    def balancer(self, lb_id: str) -> LoadBalancer:
        tree = self.tree(lb_id)
        assert tree is not None
        return tree.load_balancer

    def trees(self) -> list[Tree]:
        with self.store.read() as conn:
            ids = list(conn.execute(select(tables.load_balancer.c.id)).scalars())
            return list(rows.trees(conn, ids).values())

    def vips(self) -> list[Any]:
        """(id, VIP, whether it is to be deleted) of every load balancer."""
        balancer, ledger = tables.load_balancer, tables.work
        query = select(balancer.c.id, balancer.c.vip_address, ledger.c.delete_wanted)
        with self.store.read() as conn:
            return list(conn.execute(query.join(ledger, ledger.c.subject == balancer.c.id)))

    def ledger(self, subject: str) -> Any:
        with self.store.read() as conn:
            return conn.execute(select(tables.work).where(tables.work.c.subject == subject)).one()

    def story(self, lb_id: str) -> list[tuple[str, str]]:
        """The load balancer's events, oldest first."""
        with self.store.read() as conn:
            table = tables.event
            query = select(table.c.kind, table.c.sentence).where(table.c.loadbalancer_id == lb_id).order_by(table.c.id)
            return [(r.kind, r.sentence) for r in conn.execute(query)]

    def count(self, table: Any) -> int:
        with self.store.read() as conn:
            return len(conn.execute(select(table)).all())

    # Time

    def settle(self, *workers: Worker, turns: int = 200, keepers: tuple[HouseKeeper, ...] = ()) -> None:
        """Let time pass, and the workers work in turn, until nothing is due any more."""
        for n in range(turns):
            with self.store.read() as conn:
                due = [r.due_at for r in conn.execute(select(tables.work).where(tables.work.c.due_at.is_not(None)))]
            if not due:
                return
            self.clock.at = max(self.clock.at, min(due))
            worker = workers[n % len(workers)]
            subjects = worker.sweep()
            for subject in subjects:
                worker.turn(subject)
            if not subjects:
                self.clock.at += 5  # someone's lease has to run out
            for keeper in keepers:
                keeper.sweep()
        raise AssertionError(
            f"not settled after {turns} turns: {[self.story(t.load_balancer.id) for t in self.trees()]}"
        )

    def heartbeats(self) -> None:
        """What the health manager does: has a load balancer looked at that runs another bundle than it should."""
        for tree in self.trees():
            for amphora in tree.amphorae:
                place = self.cloud.places.get(amphora.id)
                if place is None or place.digest != amphora.digest:
                    with Store.write(self.store) as conn:
                        work.nudge(conn, tree.load_balancer.id, self.clock.now())

    def assert_matches(self) -> None:
        """The world is what the database says, all of it ACTIVE, and there is nothing else in it."""
        ports, places = set(), set()
        for tree in self.trees():
            balancer = tree.load_balancer
            assert not tree.delete_wanted
            parts = (balancer, *tree.listeners, *tree.pools, *tree.members, *tree.l7policies, *tree.l7rules)
            assert {p.provisioning_status for p in parts} == {ProvisioningStatus.ACTIVE}, self.story(balancer.id)
            assert {p.reason for p in parts} == {None}
            sight = look(tree, self.cloud, self.cloud)
            assert plan(sight.desired(render), sight.observed()) == []
            (amphora,) = tree.amphorae
            assert amphora.incarnation == balancer.incarnation
            assert amphora.status == "ALLOCATED"
            assert amphora.digest == self.cloud.places[amphora.id].digest
            assert amphora.ha_ip == balancer.vip_address
            assert amphora.vrrp_port_id in self.cloud.ports
            assert self.cloud.held[balancer.vip_address] == amphora.id
            places.add(amphora.id)
            ports |= {balancer.vip_port_id, *(p.id for p in self.cloud.plugged(amphora.id))}
        assert set(self.cloud.places) == places
        assert set(self.cloud.ports) == ports
        assert self.count(tables.amphora) == len(places)
        assert self.count(tables.work) == len(places)


@contextmanager
def a_world(settings: Settings = SETTINGS) -> Iterator[World]:
    """A world with an empty database of its own."""
    with DATABASES.fresh() as url:
        store = TroubledStore(url)
        try:
            yield World(store, settings)
        finally:
            store.close()


def with_settings(**changes: Any) -> Settings:
    """SETTINGS with other values for the worker."""
    return dataclasses.replace(SETTINGS, controller_worker=dataclasses.replace(SETTINGS.controller_worker, **changes))


def fails(kind: type[Exception], *effects: str) -> object:
    """Trouble that meets these effects, and no others."""

    def trouble(effect: str, moment: str) -> None:
        if effect in effects and moment == "before":
            raise kind(f"No {effect} today.")

    return trouble

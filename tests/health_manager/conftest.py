import uuid
from dataclasses import dataclass, field, replace

import pytest
from sqlalchemy import insert, select, update

from colonnade import model, wire
from colonnade.clock import utc
from colonnade.health_manager.receive import HealthManager
from colonnade.settings import Settings
from colonnade.store import rows, tables
from colonnade.store.store import Store
from colonnade.types import Algorithm, AmphoraStatus, ListenerProtocol, MonitorType, PoolProtocol, ProvisioningStatus

START = 1_800_000_000.0
KEY = "ab" * 32


class HandClock:
    """Time that moves when it is told to."""

    def __init__(self):
        self.time = START

    def now(self):
        return self.time

    def monotonic(self):
        return self.time

    def sleep(self, seconds):
        self.time += seconds


@dataclass
class Bell:
    """Remembers who rang."""

    rung: list = field(default_factory=list)

    def ring(self, subject):
        self.rung.append(subject)

    def wait(self, seconds):
        return set()


class World:
    """A database with load balancers, and a health manager in front of it that is turned by hand."""

    def __init__(self, url):
        self.store = Store(url)
        tables.metadata.create_all(self.store.engine)
        self.clock = HandClock()
        self.bell = Bell()
        self.sequence = 0
        self.manager = self.start()

    def start(self, **more):
        options = replace(Settings().health_manager, bind_port=0)
        settings = replace(Settings(), health_manager=options, **more)
        return HealthManager(settings=settings, store=self.store, doorbell=self.bell, clock=self.clock)

    def add(self, *, monitor=True, member_name="one", amphora_status=AmphoraStatus.ALLOCATED):
        """A load balancer with listener, pool, member and monitor, and its amphora; its ids by kind."""
        ids = {k: str(uuid.uuid4()) for k in ("lb", "listener", "pool", "member", "monitor", "amphora")}
        common = {"project_id": "p", "created_at": utc(START), "provisioning_status": ProvisioningStatus.ACTIVE}
        own = {**common, "loadbalancer_id": ids["lb"]}
        things = [
            model.LoadBalancer(id=ids["lb"], vip_address="10.0.0.10", **common),
            model.Listener(id=ids["listener"], name="web", protocol=ListenerProtocol.HTTP, protocol_port=80,
                           default_pool_id=ids["pool"], **own),
            model.Pool(id=ids["pool"], protocol=PoolProtocol.HTTP, lb_algorithm=Algorithm.ROUND_ROBIN, **own),
            model.Member(id=ids["member"], name=member_name, pool_id=ids["pool"], address="10.0.0.5", protocol_port=80,
                         **own),
            model.Amphora(id=ids["amphora"], loadbalancer_id=ids["lb"], status=amphora_status, heartbeat_key=KEY,
                          digest="d", created_at=utc(START)),
        ]  # fmt: skip
        if monitor:
            hm = {"type": MonitorType.HTTP, "delay": 5, "timeout": 3, "max_retries": 2}
            things.append(model.HealthMonitor(id=ids["monitor"], pool_id=ids["pool"], **hm, **own))
        with self.store.write() as conn:
            conn.execute(insert(tables.work).values(subject=ids["lb"], generation=1, delete_wanted=False))
            for thing in things:
                conn.execute(insert(tables.OF[type(thing)]).values(rows.to_row(thing)))
        return ids

    def beat(self, ids, *, member="UP", check="", pool="UP", counters=None, epoch="e1", digest="d", **more):
        """A heartbeat of the load balancer's amphora, with the next sequence number."""
        self.sequence += 1
        backend = f"{ids['pool']}:{ids['listener']}"
        state = wire.MemberState(status=member, check=check)
        said = {"sequence": self.sequence, "time": self.clock.now(), "haproxy": "running", **more}
        return wire.Heartbeat(
            amphora_id=ids["amphora"], epoch=epoch, digest=digest,
            listeners={ids["listener"]: wire.Counters(status="OPEN", **(counters or {}))},
            pools={backend: pool}, members={backend: {ids["member"]: state}}, **said,
        )  # fmt: skip

    def hear(self, beat, key=KEY):
        """As if it came over the network, then a turn for the key (if it is new) and one for the news."""
        self.manager._inbox.hear(wire.pack(beat, bytes.fromhex(key)), self.clock.now())
        self.manager.turn()

    def row(self, table, id):
        with self.store.read() as conn:
            return conn.execute(select(table).where(table.c.id == id)).one()

    def row_of_work(self, lb_id):
        with self.store.read() as conn:
            return conn.execute(select(tables.work).where(tables.work.c.subject == lb_id)).one()

    def events(self):
        with self.store.read() as conn:
            return [r.sentence for r in conn.execute(select(tables.event).order_by(tables.event.c.id))]

    def statistics(self):
        with self.store.read() as conn:
            return list(conn.execute(select(tables.listener_statistics)).mappings())

    def change(self, table, id, **values):
        column = table.c.subject if table is tables.work else table.c.id
        with self.store.write() as conn:
            conn.execute(update(table).where(column == id).values(values))


@pytest.fixture
def world(tmp_path):
    world = World(f"sqlite:///{tmp_path / 'db.sqlite'}")
    yield world
    world.manager._socket.close()
    world.store.close()

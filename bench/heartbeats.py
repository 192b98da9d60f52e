"""CPU that the health manager spends on one heartbeat.

    python bench/heartbeats.py [amphorae] [seconds]

Amphorae with one listener, one pool, two members and a monitor each beat every 3 s for that many simulated seconds; all
their counters change with every beat. The database is SQLite in a temporary file, as in a stand-alone installation. The
datagrams are packed before the clock starts; the kernel's part of receiving them is not measured.
"""

import sys
import tempfile
import time
import uuid
from dataclasses import replace

from sqlalchemy import insert

from colonnade import model, wire
from colonnade.clock import utc
from colonnade.health_manager.receive import HealthManager
from colonnade.settings import Settings
from colonnade.store import rows, tables
from colonnade.store.store import Store
from colonnade.types import Algorithm, AmphoraStatus, ListenerProtocol, MonitorType, PoolProtocol, ProvisioningStatus

START = 1_800_000_000.0
KEY = "cd" * 32
INTERVAL_S = 3.0


class Hand:
    """A clock moved by hand."""

    time = START

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds


class Deaf:
    """A doorbell that nobody hears."""

    def ring(self, subject: str) -> None:
        pass

    def wait(self, seconds: float) -> set[str]:
        return set()


def main(amphorae: int = 200, seconds: int = 60) -> None:
    """Print one line."""
    with tempfile.TemporaryDirectory() as place:
        store = Store(f"sqlite:///{place}/db.sqlite")
        tables.metadata.create_all(store.engine)
        clock = Hand()
        options = replace(Settings().health_manager, bind_port=0)
        manager = HealthManager(
            settings=replace(Settings(), health_manager=options), store=store, doorbell=Deaf(), clock=clock
        )
        everyone = [_add(store) for _ in range(amphorae)]
        turns = int(seconds / options.flush_interval_s)
        per_turn = [_datagrams(everyone, turn, options.flush_interval_s) for turn in range(turns)]
        sent = sum(map(len, per_turn))
        began = time.process_time()
        for datagrams in per_turn:
            for datagram in datagrams:
                manager._inbox.hear(datagram, clock.now())
            manager.turn()
            clock.time += options.flush_interval_s
        spent = time.process_time() - began
        size = sum(map(len, per_turn[0])) // max(len(per_turn[0]), 1)
        print(f"{amphorae} amphorae, {sent} heartbeats of {size} bytes: {spent / sent * 1000:.3f} ms CPU each")
        manager._socket.close()
        store.close()


def _datagrams(everyone: list[dict[str, str]], turn: int, flush_s: float) -> list[bytes]:
    """Those that arrive during this turn: amphorae are spread evenly over the interval."""
    slots = round(INTERVAL_S / flush_s)
    return [_beat(ids, turn, flush_s) for n, ids in enumerate(everyone) if n % slots == turn % slots]


def _beat(ids: dict[str, str], turn: int, flush_s: float) -> bytes:
    backend = f"{ids['pool']}:{ids['listener']}"
    up = wire.MemberState(status="UP", check="L7OK 200", text="OK")
    counters = wire.Counters(status="OPEN", bytes_in=turn * 1000, bytes_out=turn * 9000, total_connections=turn * 7)
    beat = wire.Heartbeat(
        amphora_id=ids["amphora"], sequence=turn + 1, time=START + turn * flush_s, epoch="e", digest="d",
        haproxy="running", listeners={ids["listener"]: counters}, pools={backend: "UP"},
        members={backend: {ids["m1"]: up, ids["m2"]: up}},
    )  # fmt: skip
    return wire.pack(beat, bytes.fromhex(KEY))


def _add(store: Store) -> dict[str, str]:
    ids = {k: str(uuid.uuid4()) for k in ("lb", "listener", "pool", "m1", "m2", "monitor", "amphora")}
    common = {"project_id": "p", "created_at": utc(START), "provisioning_status": ProvisioningStatus.ACTIVE}
    own = {**common, "loadbalancer_id": ids["lb"]}
    inside = {**own, "pool_id": ids["pool"]}
    things = [
        model.LoadBalancer(id=ids["lb"], **common),
        model.Listener(id=ids["listener"], protocol=ListenerProtocol.HTTP, protocol_port=80,
                       default_pool_id=ids["pool"], **own),
        model.Pool(id=ids["pool"], protocol=PoolProtocol.HTTP, lb_algorithm=Algorithm.ROUND_ROBIN, **own),
        model.Member(id=ids["m1"], address="10.0.0.5", protocol_port=80, **inside),
        model.Member(id=ids["m2"], address="10.0.0.6", protocol_port=80, **inside),
        model.HealthMonitor(id=ids["monitor"], type=MonitorType.HTTP, delay=5, timeout=3, max_retries=2, **inside),
        model.Amphora(id=ids["amphora"], loadbalancer_id=ids["lb"], status=AmphoraStatus.ALLOCATED, heartbeat_key=KEY,
                      digest="d", created_at=utc(START)),
    ]  # fmt: skip
    with store.write() as conn:
        conn.execute(insert(tables.work).values(subject=ids["lb"], generation=1, delete_wanted=False))
        for thing in things:
            conn.execute(insert(tables.OF[type(thing)]).values(rows.to_row(thing)))
    return ids


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

"""Real threads, a real database, a real clock: workers and writers all at once, for a few seconds."""

import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import select

from colonnade.clock import SystemClock
from colonnade.model import Listener
from colonnade.store.tables import work
from colonnade.worker.inbox import Inbox
from colonnade.worker.loop import Worker
from tests.loop.world import HandClock, World, a_world, with_settings
from tests.support import PATIENCE_S, eventually

SOON = with_settings(sweep_interval_s=0.05, retry_longest_s=0.2, lease_s=30)


@contextmanager
def running(*workers: Worker) -> Iterator[None]:
    stop = threading.Event()
    threads = [threading.Thread(target=w.run, args=(stop,)) for w in workers]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(PATIENCE_S)
    assert not any(t.is_alive() for t in threads)


def settled(world: World) -> bool:
    with world.store.read() as conn:
        return conn.execute(select(work.c.subject).where(work.c.due_at.is_not(None))).first() is None


def test_workers_and_writers_at_once_lose_nothing() -> None:
    with a_world(SOON) as world:
        world.clock = SystemClock()  # type: ignore[assignment]
        working: Counter[str] = Counter()
        together: list[str] = []
        guard, fate = threading.Lock(), random.Random(0)

        def watch(effect: str, moment: str) -> None:
            if fate.random() < 0.01:
                raise ConnectionError("now and then")

        def pushing(amphora: str, count: int) -> None:
            with guard:
                working[amphora] += count
                if working[amphora] > 1:
                    together.append(amphora)

        push = world.cloud.push

        def watched_push(url: str, amphora: str, bundle: dict[str, object]) -> dict[str, object]:
            pushing(amphora, 1)
            try:
                return push(url, amphora, bundle)
            finally:
                pushing(amphora, -1)

        world.cloud.push = watched_push  # type: ignore[method-assign]
        lbs = [world.create(f"lb {n}") for n in range(6)]
        doomed = lbs.pop()

        def write(n: int) -> None:
            dice = random.Random(n)
            for k in range(15):
                lb = dice.choice(lbs)
                match dice.randrange(4):
                    case 0:
                        world.change(lb, name=f"{n}.{k}")
                    case 1:
                        world.add_listener(lb, 1000 + 100 * n + k)
                    case 2:
                        world.failover(lb)
                    case 3:
                        for listener in world.tree(lb).listeners[:1]:
                            world.drop(lb, Listener, listener.id)

        with running(world.worker(seed=1), world.worker(seed=2)):
            world.cloud.trouble = watch
            writers = [threading.Thread(target=write, args=(n,)) for n in range(3)]
            for writer in writers:
                writer.start()
            world.delete(doomed)
            for writer in writers:
                writer.join(PATIENCE_S)
            world.cloud.trouble = lambda effect, moment: None
            eventually(lambda: settled(world) and world.tree(doomed) is None)
        assert together == []
        world.assert_matches()


def test_a_ring_is_answered_at_once_without_waiting_for_the_sweep() -> None:
    with a_world(with_settings(sweep_interval_s=60)) as world:
        world.clock = SystemClock()  # type: ignore[assignment]
        with running(world.worker()):
            lb = world.create()
            eventually(lambda: world.balancer(lb).provisioning_status == "ACTIVE")


def test_the_sweep_finds_what_nobody_rang_for() -> None:
    with a_world(SOON) as world:
        world.clock = SystemClock()  # type: ignore[assignment]
        lb = world.create()
        assert world.doorbell.wait(1) == {lb}
        with running(world.worker()):
            eventually(lambda: world.balancer(lb).provisioning_status == "ACTIVE")


def test_a_database_that_comes_back_is_used_again() -> None:
    with a_world(SOON) as world:
        world.clock = SystemClock()  # type: ignore[assignment]
        lb = world.create()
        failures: list[str] = []

        def away(effect: str, moment: str) -> None:
            failures.append(effect)
            raise ConnectionError("The database is away.")

        world.store.trouble = away
        with running(world.worker()):
            eventually(lambda: len(failures) > 3)
            world.store.trouble = lambda effect, moment: None
            eventually(lambda: world.balancer(lb).provisioning_status == "ACTIVE")


def test_an_inbox_gives_each_subject_to_one_thread_at_a_time() -> None:
    inbox = Inbox(HandClock())
    inbox.offer("a")
    inbox.offer("a")
    assert inbox.take(1) == "a"
    inbox.offer("a")
    inbox.offer("b")
    assert inbox.take(1) == "b"
    inbox.done("a")
    assert inbox.take(1) == "a"


def test_an_inbox_keeps_what_is_for_later() -> None:
    clock = HandClock()
    inbox = Inbox(clock)
    inbox.offer("later", clock.at + 10)
    inbox.offer("now")
    assert inbox.take(1) == "now"
    clock.at += 11
    assert inbox.take(1) == "later"


def test_an_inbox_takes_the_sooner_of_two_times() -> None:
    clock = HandClock()
    inbox = Inbox(clock)
    inbox.offer("a", clock.at + 10)
    inbox.offer("a")
    inbox.offer("a", clock.at + 5)
    assert inbox.take(1) == "a"
    inbox.done("a")
    clock.at += 20
    inbox.offer("b")
    assert inbox.take(1) == "b"

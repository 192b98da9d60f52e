"""UDP through a real amphora: the kernel balances, the agent looks after it."""

from collections import Counter

import pytest
from datagrams import Client, Datagrams, Servers, ask, bundle, listener, member, pool
from rig import Rig


@pytest.fixture(scope="module")
def servers(host: Rig) -> Servers:
    return Servers(host)


def vips(rig: Rig) -> tuple[str, str]:
    four = rig.address()
    return four, f"{rig.net6}:{int(four.split('.')[3]) + 0x1000:x}"


def test_round_robin_by_weight_on_both_vips_with_no_haproxy(rig: Rig, servers: Servers) -> None:
    amphora, both = rig.amphora(), vips(rig)
    to = pool(member(servers, "u1", weight=3), member(servers, "u2"), member(servers, "u3", version=6))
    front = listener(to)
    rig.push(bundle(rig, amphora, Datagrams(vips=both, listeners=(front,), pools=(to,))))
    assert Counter(ask(both[0]) for _ in range(10)) == {"u1": 6, "u2": 2, "u3": 2}
    assert Counter(ask(both[1]) for _ in range(5)) == {"u1": 3, "u2": 1, "u3": 1}
    client = Client(both[0])
    assert len({client.ask()[0] for _ in range(5)}) == 1
    beat = rig.beat(amphora, lambda b: b.listeners and b.listeners[front.id].total_connections == 16)
    assert beat.listeners[front.id].bytes_in > 16 * 29
    assert beat.pools == {f"{to.id}:{front.id}": "UP"}

"""The table's text: what leads to it, what it holds, and that nothing from a bundle gets into it as it came."""

import json
import subprocess
import uuid
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from colonnade import datagrams
from colonnade.agent import rules, ruleset
from colonnade.agent.ruleset import Ruleset, State, render, transaction
from colonnade.datagrams import Datagrams, Listener, Member, Persistence, Pool

VIPS = ("10.9.0.1", "fd09::1")


def named(n: int) -> str:
    return str(uuid.UUID(int=n))


ALGORITHMS = st.sampled_from(["ROUND_ROBIN", "LEAST_CONNECTIONS", "SOURCE_IP", "SOURCE_IP_PORT"])
MEMBERS = st.builds(
    Member, id=st.integers(1, 6).map(named), address=st.sampled_from(["10.8.0.1", "10.8.0.2", "fd08::1", "fd08::2"]),
    port=st.integers(1, 65535), weight=st.sampled_from([0, 1, 3, 256]), backup=st.booleans(), enabled=st.booleans(),
    monitor_address=st.just("10.8.0.1"), monitor_port=st.just(1),
)  # fmt: skip
POOLS = st.builds(
    Pool, id=st.integers(100, 102).map(named), algorithm=ALGORITHMS, monitor=st.none(),
    persistence=st.none() | st.builds(
        Persistence, timeout=st.integers(1, 2**31 // 1000), prefix4=st.integers(0, 32), prefix6=st.integers(0, 128)
    ),
    members=st.lists(MEMBERS, max_size=4, unique_by=lambda m: m.id).map(tuple),
)  # fmt: skip
LISTENERS = st.builds(
    Listener, id=st.integers(200, 203).map(named), protocol=st.sampled_from(["udp", "sctp"]),
    port=st.integers(1, 65535), limit=st.none() | st.integers(0, 2**32 - 1),
    allowed=st.none() | st.lists(
        st.sampled_from(["10.0.0.0/8", "10.1.0.0/16", "0.0.0.0/0", "fd00::/8", "::/0", "10.0.0.1/32"]), max_size=4
    ).map(tuple),
    idle=st.sampled_from([0, 1, 50, 2073600]), pool=st.none() | st.integers(100, 102).map(named),
)  # fmt: skip
WANTS = st.builds(
    Datagrams, vips=st.sampled_from([VIPS, VIPS[:1], VIPS[1:]]),
    listeners=st.lists(LISTENERS, max_size=3, unique_by=(lambda x: x.id, lambda x: (x.protocol, x.port))).map(tuple),
    pools=st.lists(POOLS, max_size=3, unique_by=lambda p: p.id).map(tuple),
)  # fmt: skip
STATES = st.builds(
    State, relays=st.dictionaries(st.integers(1, 6).map(named), st.integers(1024, 9999)),
    down=st.frozensets(st.tuples(st.integers(100, 102).map(named), st.integers(1, 6).map(named))),
    slots=st.just({}),
)  # fmt: skip


@given(WANTS)
def test_the_file_says_what_was_meant(want: Datagrams) -> None:
    assert datagrams.from_text(datagrams.to_text(want)) == want


@given(WANTS, STATES)
def test_nothing_leads_from_a_table_to_itself(want: Datagrams, state: State) -> None:
    made = render(want, state)
    assert transaction(made, made) == ""


@given(WANTS, STATES)
def test_only_words_that_are_ours_are_in_the_text(want: Datagrams, state: State) -> None:
    text = transaction(None, render(want, state))
    assert set(text) <= set('abcdefghijklmnopqrstuvwxyzABCDEF0123456789_ .,:;{}@&!=/"\n-')
    assert all(line.split()[0] in ("add", "flush", "delete") for line in text.splitlines())


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("vips", '["10.0.0.1; flush ruleset"]'), ("vips", '["10.0.0.1\\nflush ruleset"]'), ("vips", "[7]"),
        ("vips", '"10.0.0.1"'), ("listeners", "[{}]"), ("listeners", '"x"'), ("pools", "[[]]"), ("pools", "null"),
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused(where: str, value: str) -> None:
    listening = Listener(id=named(1), protocol="udp", port=1, limit=None, allowed=None, idle=1, pool=None)
    whole = json.loads(datagrams.to_text(Datagrams(vips=VIPS, listeners=(listening,), pools=())))
    with pytest.raises(ValueError):
        render(datagrams.from_text(json.dumps({**whole, where: json.loads(value)})), State())


@pytest.mark.parametrize("address", ["1.2.3.4 }", "x", "fe80::1%eth0; flush ruleset", ""])
def test_a_member_without_a_proper_address_is_refused(address: str) -> None:
    wrong = Member(id=named(1), address=address, port=1, monitor_address=address, monitor_port=1)
    made = Pool(id=named(2), algorithm="ROUND_ROBIN", persistence=None, monitor=None, members=(wrong,))
    listening = Listener(id=named(3), protocol="udp", port=1, limit=None, allowed=None, idle=1, pool=made.id)
    with pytest.raises(ValueError):
        render(Datagrams(vips=VIPS, listeners=(listening,), pools=(made,)), State())


def test_numbers_are_never_nothing_and_never_the_same() -> None:
    members = tuple(
        Member(id=named(n), address="10.0.0.1", port=n, monitor_address="10.0.0.1", monitor_port=n)
        for n in range(1, 2000)
    )
    made = Pool(id=named(5000), algorithm="ROUND_ROBIN", persistence=None, monitor=None, members=members)
    found = ruleset.numbers(Datagrams(vips=VIPS, listeners=(), pools=(made,)))
    assert len(set(found.values())) == 1999
    assert 0 not in found.values()
    fewer = ruleset.numbers(Datagrams(vips=VIPS, listeners=(), pools=(replace(made, members=members[:7]),)))
    assert fewer.items() <= found.items()


@pytest.mark.parametrize(("listeners", "each"), [(1, 65536), (4, 65536), (5, 32768), (8, 32768), (366, 512)])
def test_all_listeners_together_remember_only_so_many_clients(listeners: int, each: int) -> None:
    made = Pool(id=named(5000), algorithm="ROUND_ROBIN", persistence=Persistence(timeout=9), monitor=None, members=())
    alone = replace(made, id=named(5001), persistence=None)
    udp = Listener(id=named(1), protocol="udp", port=1, limit=None, allowed=None, idle=1, pool=made.id)
    want = Datagrams(
        vips=VIPS, pools=(made, alone),
        listeners=(*(replace(udp, id=named(n), port=n) for n in range(1, listeners + 1)),
                   replace(udp, id=named(6000), port=6000, pool=alone.id)),
    )  # fmt: skip
    maps = [text for (kind, _), text in render(want, State()).objects.items() if kind == "map"]
    assert len(maps) == 2 * listeners
    assert all(f"size {each};" in text for text in maps)
    assert listeners * each <= 262144


def test_sctp_never_crosses_ip_versions_and_udp_does() -> None:
    far = Member(id=named(1), address="fd08::1", port=1, monitor_address="fd08::1", monitor_port=1)
    made = Pool(id=named(2), algorithm="ROUND_ROBIN", persistence=None, monitor=None, members=(far,))
    udp = Listener(id=named(3), protocol="udp", port=1, limit=None, allowed=None, idle=1, pool=made.id)
    for protocol, expect in (("udp", {far.id: (far, VIPS[0])}), ("sctp", {})):
        want = Datagrams(vips=VIPS[:1], listeners=(replace(udp, protocol=protocol),), pools=(made,))
        assert ruleset.crossing(want) == expect
        text = transaction(None, render(want, State(relays={far.id: 1024})))
        assert ("dnat" in text.replace("ct status dnat", "")) is (protocol == "udp")


@pytest.mark.root
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(WANTS, min_size=3, max_size=5))
def test_the_kernel_takes_every_step_from_one_table_to_another(namespace: str, wants: list[Datagrams]) -> None:
    """As if it had been made anew; also when it is not known what was there."""

    def listed() -> list[str]:
        words = ["ip", "netns", "exec", namespace, "nft", "list", "table", "inet", ruleset.TABLE]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        return [] if done.returncode else sorted(line.strip() for line in done.stdout.splitlines())

    have = Ruleset()
    rules.load(f"add table inet {ruleset.TABLE}\ndelete table inet {ruleset.TABLE}\n", namespace)
    for number, want in enumerate(wants):
        new = render(want, State())
        known = have if number % 3 else None
        stale = rules.names(ruleset.TABLE, namespace) or () if known is None else ()
        text = transaction(known, new, stale)
        if text:
            rules.load(text, namespace)
        stepped = listed()
        rules.load(f"add table inet {ruleset.TABLE}\ndelete table inet {ruleset.TABLE}\n", namespace)
        if new.chains:
            rules.load(transaction(None, new), namespace)
        assert stepped == listed()
        have = new

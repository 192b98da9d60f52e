"""What changes while HAProxy runs, and what needs a reload."""

import pytest
from rig import config

from colonnade.agent import difference as differences
from colonnade.agent.difference import Add, Change, Disable, Drop, Enable, Refill, Renew, Weigh

A, B = "10.0.0.1:80", "10.0.0.2:80"


def difference(before: str, after: str) -> list[Change] | None:
    return differences.difference({"haproxy.cfg": before}, {"haproxy.cfg": after})


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        ({"a": f"{A} weight 1"}, {"a": f"{A} weight 1"}, []),
        ({"a": f"{A} weight 1"}, {"a": f"{A} weight 0"}, [Weigh(server="pool:listener/a", weight="0")]),
        ({"a": f"{A}"}, {"a": f"{A} weight 5"}, [Weigh(server="pool:listener/a", weight="5")]),
        ({"a": A}, {"a": f"{A} disabled"}, [Disable(server="pool:listener/a")]),
        ({"a": f"{A} disabled"}, {"a": A}, [Enable(server="pool:listener/a")]),
        (
            {"a": f"{A} weight 1"},
            {"b": f"{B} weight 2 check inter 1s"},
            [
                Add(
                    server="pool:listener/b",
                    words=(B, "check", "inter", "1s", "weight", "2"),
                    checked=True,
                    disabled=False,
                ),
                Drop(server="pool:listener/a"),
            ],
        ),
        ({"a": f"{A} weight 1"}, {"a": f"{A} weight 1 backup"}, None),
        ({"a": f"{A} check-sni 'x disabled'"}, {"a": f"{A} check-sni 'x'"}, None),
        ({}, {"a": f"{A} check-sni 'a;b'"}, None),
    ],
)
def test_server_lines(before: dict[str, str], after: dict[str, str], changes: list[Change] | None) -> None:
    assert difference(config(servers=before), config(servers=after)) == changes


@pytest.mark.parametrize(
    "extra", ["    cookie SRV insert\n", "    option external-check\n", "    default-server check\n"]
)
def test_backends_whose_servers_are_more_than_their_lines_are_reloaded(extra: str) -> None:
    before, after = (
        config(servers={"a": f"{A} weight 1"}, extra=extra),
        config(servers={"a": f"{A} weight 2"}, extra=extra),
    )
    assert difference(before, after) is None
    assert difference(before, before) == []


def test_anything_else_is_reloaded() -> None:
    before = config("10.0.0.9", servers={"a": A})
    assert difference(before, config("10.0.0.8", servers={"a": A})) is None
    assert difference(before, config("10.0.0.9", servers={"a": A}, name="other:listener")) is None
    assert difference(before, config("10.0.0.9", servers={"a": A}, extra="    timeout queue 1s\n")) is None


def test_a_line_separator_within_a_value_starts_no_line() -> None:
    hidden = "    http-check send hdr Host 'x\u2028server b 10.0.0.3:80'\n"
    before, after = config(servers={"a": A}), config(servers={"a": A}, extra=hidden)
    assert difference(before, after) is None


OLD = {
    "haproxy.cfg": config(servers={"a": A}), "r.acl": "/old\n", "s.acl": "/s\n", "l.map": "p reject\n",
    "l.pem": "old\n", "l.list": "l.pem\n",
}  # fmt: skip


@pytest.mark.parametrize(
    ("new", "changes"),
    [
        ({"r.acl": "/new x\n #y \n\n#z\n"}, [Refill(file="r.acl", kind="acl", lines=("/new x", "#y "))]),
        ({"r.acl": "\u3000\n\u2028b\n"}, [Refill(file="r.acl", kind="acl", lines=("\u3000", "\u2028b"))]),
        ({"l.map": "p location-302|http://x/#;a b \n"},
         [Refill(file="l.map", kind="map", lines=("p location-302|http://x/#;a b",))]),
        ({"l.map": ""}, [Refill(file="l.map", kind="map", lines=())]),
        ({"l.pem": "new\n\n", "r.acl": "/new\n"},
         [Renew(file="l.pem", kind="cert", text="new\n"), Refill(file="r.acl", kind="acl", lines=("/new",))]),
        ({"r.acl": "/new\n", "s.acl": "/new\n"}, None),
        ({"r.acl": "/new\n", "l.map": ""}, None),
        ({"r.acl": "/new\n", "haproxy.cfg": config(servers={"a": B})}, None),
        ({"r.acl": "/new\n", "haproxy.cfg": config(servers={"b": B})}, None),
        ({"r.acl": "/new\n" * 301}, None),
        ({"l.list": "m.pem\n"}, None),
        ({"t.acl": "/t\n"}, None),
    ],
)  # fmt: skip
def test_files_beside_the_configuration(new: dict[str, str], changes: list[Change] | None) -> None:
    assert differences.difference(OLD, {**OLD, **new}) == changes

"""The stock client's commands for L7 policies and rules, over HTTP."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_cloud import serving, settings_of
from test_stock_clients import Shell

from colonnade.api.app import make_wsgi
from colonnade.clock import SystemClock
from colonnade.drivers.doorbell import MemoryDoorbell
from colonnade.local import setup
from colonnade.local.network import LocalNetwork
from colonnade.store import schema
from colonnade.store.store import Store


@pytest.fixture
def openstack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    """The stock client, and the whole API of one installation without a worker."""
    (tmp_path / "db").mkdir()
    settings = settings_of(tmp_path, auth_strategy="noauth")
    schema.upgrade(settings.database_url)
    store = Store(settings.database_url)
    clock = SystemClock()
    app = make_wsgi(
        settings=settings, store=store, network=LocalNetwork(store, clock), doorbell=MemoryDoorbell(), clock=clock
    )
    with serving(app) as port:  # type: ignore[arg-type]  # any WSGI application will do
        setup.ensure(settings_of(tmp_path, bind_port=port, auth_strategy="noauth"), store, clock)
        for name in [n for n in os.environ if n.startswith("OS_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(tmp_path / "secrets" / "clouds.yaml"))
        shell = Shell()
        yield shell
        shell.client.close()
    store.close()


def test_every_command_of_policies_and_rules(openstack: Shell) -> None:
    def run(command: str, fails: bool = False) -> object:
        return openstack("colonnade-demo", f"loadbalancer {command}", fails)

    run("create --name lb --vip-subnet-id private-subnet")
    run("listener create --name web --protocol HTTP --protocol-port 80 lb")
    run("pool create --name p --protocol HTTP --lb-algorithm ROUND_ROBIN --loadbalancer lb")
    made = run(
        "l7policy create web --name one --description d --action REDIRECT_TO_POOL --redirect-pool p --position 1 "
        "--disable --tag a --tag b -f json"
    )
    assert isinstance(made, dict)
    assert (made["action"], made["position"], made["description"]) == ("REDIRECT_TO_POOL", 1, "d")
    assert (made["admin_state_up"], made["tags"]) == (False, ["a", "b"])
    run("l7policy create web --name two --action REDIRECT_TO_URL --redirect-url https://x/ --redirect-http-code 301")
    run("l7policy create web --name three --action REDIRECT_PREFIX --redirect-prefix https://x --position 1")
    run("l7policy create web --name four --action REJECT --enable")
    listed = run("l7policy list --listener web --sort-column position -f json")
    assert isinstance(listed, list)
    assert [v["name"] for v in listed] == ["three", "one", "two", "four"]
    assert run("l7policy list --tags a -f value -c name") == "one\n"
    run("l7policy set one --name uno --description e --position 4 --enable --tag c")
    run("l7policy set two --action REDIRECT_TO_POOL --redirect-pool p")
    run("l7policy set three --redirect-url https://y/ --redirect-http-code 308")
    run("l7policy set four --redirect-prefix https://z")
    shown = {n: run(f"l7policy show {n} -f json") for n in ("uno", "two", "three", "four")}
    assert [(v["action"], v["position"]) for v in shown.values() if isinstance(v, dict)] == [
        ("REDIRECT_TO_POOL", 4), ("REDIRECT_TO_POOL", 2), ("REDIRECT_TO_URL", 1), ("REDIRECT_PREFIX", 3),
    ]  # fmt: skip
    run("l7policy unset three --redirect-http-code --name --description --all-tag")
    (unnamed,) = [v for v in run("l7policy list -f json") if not v["name"]]  # type: ignore[attr-defined]
    unset = run(f"l7policy show {unnamed['id']} -f json")
    assert isinstance(unset, dict)
    assert unset["redirect_http_code"] == 302

    rule = run("l7rule create uno --type HEADER --key X-K --compare-type EQUAL_TO --value v --invert --tag t -f json")
    assert isinstance(rule, dict)
    assert (rule["key"], rule["invert"], rule["tags"]) == ("X-K", True, ["t"])
    run("l7rule create uno --type PATH --compare-type STARTS_WITH --value /x --disable")
    assert "Error parsing L7Rule" in str(
        run("l7rule create uno --type COOKIE --compare-type REGEX --value ( --key k", fails=True)
    )
    run(f"l7rule set uno {rule['id']} --type COOKIE --compare-type REGEX --value ^w$ --key k --disable")
    run(f"l7rule unset uno {rule['id']} --invert --all-tag")
    changed = run(f"l7rule show uno {rule['id']} -f json")
    assert isinstance(changed, dict)
    names = ("type", "compare_type", "value", "key", "invert", "admin_state_up", "tags")
    assert [changed[n] for n in names] == ["COOKIE", "REGEX", "^w$", "k", False, False, []]
    assert len(run("l7rule list uno -f json")) == 2  # type: ignore[arg-type]
    assert "in use by L7 policy" in str(run("pool delete p", fails=True))
    run(f"l7rule delete uno {rule['id']}")
    assert "PENDING_DELETE" in str(run(f"l7rule show uno {rule['id']} -f value -c provisioning_status"))
    run("l7policy delete uno")
    assert "PENDING_DELETE" in str(run("l7policy show uno -f value -c provisioning_status"))

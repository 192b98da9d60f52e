"""The first start, and all others."""

import threading
from pathlib import Path

import pytest
from small_cloud import Clock, Cloud, settings_of
from sqlalchemy import func, select

from colonnade.local import setup
from colonnade.settings import Default, Local, Settings, WrongSetting
from colonnade.store import local_tables
from colonnade.store.local_tables import local_network, local_user
from colonnade.store.store import Store


@pytest.fixture
def bare(tmp_path: Path) -> Store:
    """An empty database."""
    state = tmp_path / "bare"
    (state / "db").mkdir(parents=True)
    store = Store(settings_of(state).database_url)
    local_tables.metadata.create_all(store.engine)
    return store


def test_again_changes_nothing(cloud: Cloud) -> None:
    secrets = cloud.settings.state / "secrets"
    before = {p.name: (p.read_text(), p.stat().st_ino) for p in secrets.iterdir()}
    setup.ensure(cloud.settings, cloud.store, Clock())
    assert {p.name: (p.read_text(), p.stat().st_ino) for p in secrets.iterdir()} | before == before
    cloud.client("admin")


def test_clouds_follow_the_settings(cloud: Cloud) -> None:
    state = cloud.settings.state
    setup.ensure(settings_of(state, bind_host="0.0.0.0", bind_port=1234, auth_strategy="noauth"), cloud.store, Clock())
    text = (state / "secrets" / "clouds.yaml").read_text()
    assert "auth_url: http://127.0.0.1:1234/identity" in text
    assert "colonnade-noauth:" in text
    assert "compute_endpoint_override: http://127.0.0.1:1234/compute/v2.1" in text
    setup.ensure(settings_of(state, bind_host="::"), cloud.store, Clock())
    text = (state / "secrets" / "clouds.yaml").read_text()
    assert "auth_url: http://[::1]:9876/identity" in text
    assert "noauth" not in text


def test_the_oldest_subnet_is_one_for_vips(cloud: Cloud) -> None:
    subnets = cloud.client("admin").get("/network/v2.0/subnets")["subnets"]
    assert [s["name"] for s in subnets] == ["private-subnet", "public-subnet"]
    assert subnets[0]["created_at"] < subnets[1]["created_at"]


def test_what_was_deleted_is_not_made_again(cloud: Cloud) -> None:
    admin = cloud.client("admin")
    admin.delete(f"/network/v2.0/networks/{admin.network('private')['id']}")
    setup.ensure(cloud.settings, cloud.store, Clock())
    assert admin.get("/network/v2.0/networks?name=private")["networks"] == []


def test_lost_passwords_are_not_invented(cloud: Cloud) -> None:
    secrets = cloud.settings.state / "secrets"
    (secrets / "passwords.env").unlink()
    before = (secrets / "clouds.yaml").read_text()
    setup.ensure(cloud.settings, cloud.store, Clock())
    assert not (secrets / "passwords.env").exists()
    assert (secrets / "clouds.yaml").read_text() == before


def test_several_processes_may_start_at_once(bare: Store, tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "bare")
    problems: list[Exception] = []

    def start() -> None:
        try:
            setup.ensure(settings, Store(settings.database_url), Clock())
        except Exception as e:  # told to the main thread
            problems.append(e)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    with bare.read() as conn:
        assert conn.execute(select(func.count()).select_from(local_user)).scalar_one() == 2
        assert conn.execute(select(func.count()).select_from(local_network)).scalar_one() == 2
    Cloud(settings).client("admin")


@pytest.mark.parametrize(
    ("local", "option"),
    [(Local(private_cidr="10.1.0.1/24"), "private_cidr"), (Local(public_cidr="ten"), "public_cidr"),
     (Local(private_cidr="10.1.0.0/16", public_cidr="10.1.2.0/24"), "public_cidr")],
)  # fmt: skip
def test_wrong_ranges_stop_the_start(bare: Store, tmp_path: Path, local: Local, option: str) -> None:
    settings = Settings(default=Default(state_path=str(tmp_path / "bare")), local=local)
    with pytest.raises(WrongSetting, match=option):
        setup.ensure(settings, bare, Clock())

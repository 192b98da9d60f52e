"""A provider that is enabled and not installed: the start and the status say so, and what to do."""

import sys
from pathlib import Path

import pytest

from colonnade import cli
from colonnade.configuration import load
from colonnade.drivers import provider

PACKAGES = Path(__file__).parents[1] / "provider_package"


@pytest.fixture(autouse=True)
def _own_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "colonnade.conf"
    made.write_text(
        f"[DEFAULT]\nstate_path = {tmp_path}\n"
        "[api_settings]\nenabled_provider_drivers = amphora: ours,octavia: old,absent: a,mute: of the tests\n"
        f"[driver_agent]\nprovider_path = {PACKAGES}\nenabled_provider_agents = away,diligent\n"
    )
    return made


def test_those_that_no_package_offers_are_told_with_what_to_do(file: Path) -> None:
    absent, away = provider.missing(load([str(file)]))
    assert absent.startswith("[api_settings] enabled_provider_drivers names absent, which no installed package offers")
    assert away.startswith("[driver_agent] enabled_provider_agents names away, which no installed package offers")
    for sentence in (absent, away):
        assert f"Install its package beside Colonnade's own or in {PACKAGES} (docs/providers.md)" in sentence


def test_who_only_asks_imports_nothing_from_there_later(file: Path) -> None:
    before = [*sys.path]
    provider.missing(load([str(file)]))
    assert sys.path == before


def test_the_start_says_so(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["facts", "--config-file", str(file)]) == 0
    said = capsys.readouterr().err.splitlines()
    assert [line.partition(", which")[0].rpartition(" ")[2] for line in said] == ["absent", "away"]


def test_the_status_says_so(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["status", "--config-file", str(file)])
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("provider ")]
    assert [" names absent, " in said[0], " names away, " in said[1]] == [True, True]
    assert len(said) == 2


def test_a_package_that_cannot_be_read_keeps_nobody_from_starting(tmp_path: Path, file: Path) -> None:
    broken = tmp_path / "broken-1.0.dist-info"
    broken.mkdir()
    (broken / "METADATA").write_text("Name: broken\nVersion: 1.0\n")
    (broken / "entry_points.txt").write_text("[octavia.api.drivers]\nnonsense\n")
    file.write_text(file.read_text().replace(str(PACKAGES), str(tmp_path)))
    with pytest.raises(TypeError):
        provider.Packages.of(load([str(file)])).load(provider.DRIVERS, "absent")
    assert provider.missing(load([str(file)])) == []

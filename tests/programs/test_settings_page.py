"""The reference of all settings is made from the code."""

from pathlib import Path

import pytest

from colonnade import report
from colonnade.cli import main
from colonnade.configuration import ignored, load
from colonnade.settings import Settings

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_page_is_what_the_code_says() -> None:
    assert PAGE.read_text() == report.markdown(Settings()), (
        "run: python -m colonnade config --markdown > docs/configuration.md"
    )


def test_the_printed_configuration_can_be_read_again(tmp_path: Path) -> None:
    own = tmp_path / "own.conf"
    own.write_text("[agent]\nslot = 7\n[networking]\nreserved_ips = 10.0.0.1,10.0.0.2\n")
    settings = load([str(own)])
    again = tmp_path / "again.conf"
    again.write_text(report.configuration(settings))
    assert load([str(again)]) == settings


@pytest.mark.parametrize(
    ("text", "option"),
    [
        ("[api_settings]\nbind_port = 99999\n", "bind_port"),
        ("[api_settings]\nauth_strategy = guess\n", "auth_strategy"),
        ("[api_settings]\nauth_strategy = noauth\nbind_host = 0.0.0.0\n", "auth_strategy"),
        ("[controller_worker]\nlease_s = soon\n", "lease_s"),
        ("[DEFAULT]\ndebug = perhaps\n", "debug"),
        ("[drivers]\ncompute = nowhere\n", "compute"),
        ("[drivers]\nnetwork = agent\n", "network"),
        ("[drivers]\namphora = none\n", "amphora"),
    ],
)
def test_a_wrong_value_stops_a_program_with_its_name(
    text: str, option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own.conf"
    own.write_text(text)
    assert main(["config", "--config-file", str(own)]) == 2
    assert option in capsys.readouterr().err


def test_a_missing_file_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--config-file", "/nonexistent/own.conf"]) == 2
    assert "/nonexistent/own.conf" in capsys.readouterr().err


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--config-file", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert str(tmp_path) in said
    assert "cannot be read" in said


def test_a_misspelt_option_is_told(tmp_path: Path) -> None:
    own = tmp_path / "own.conf"
    own.write_text(
        "[api_settings]\nbind_port = 99\nbind_prot = 99\n[DEFAULT]\ntransport_url = x\n[a_provider]\nits = own\n"
    )
    assert ignored([str(own)]) == [
        f"{own}: there is no option bind_prot in [api_settings]; it is ignored. Is bind_port meant?"
    ]
    every = tmp_path / "every.conf"
    every.write_text(report.configuration(Settings()))
    assert ignored([str(every)]) == []

"""``colonnade policy``."""

from pathlib import Path

import pytest

from colonnade.cli import main


def test_the_rules_in_force_are_those_of_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "colonnade.conf"
    file.write_text("[oslo_policy]\npolicy_file = rules.yaml\n")
    (tmp_path / "rules.yaml").write_text('"load-balancer:write": "role:editor"\n')
    assert main(["policy", "list", "--config-file", str(file)]) == 0
    printed = capsys.readouterr().out
    assert '"load-balancer:write": "role:editor"\n' in printed
    assert printed.count('"os_load-balancer_api:') == 81
    (tmp_path / "rules.yaml").write_text(printed)
    assert main(["policy", "list", "--config-file", str(file)]) == 0
    assert capsys.readouterr().out == printed


def test_rules_that_are_wrong_are_told_with_their_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "colonnade.conf"
    file.touch()
    (tmp_path / "policy.yaml").write_text('"load-balancer:write": "editor"\n')
    assert main(["policy", "list", "--config-file", str(file)]) == 2
    said = capsys.readouterr().err
    assert "policy.yaml" in said
    assert "load-balancer:write" in said


def test_a_sample_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "sample"]) == 0
    assert '#"context_is_admin": "role:admin"' in capsys.readouterr().out

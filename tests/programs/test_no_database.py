"""What the command line says when it cannot read the database."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("words", [("events", "lb1"), ("db", "check"), ("db", "upgrade"), ("prepare",)])
def test_a_database_that_cannot_be_read_is_one_sentence(tmp_path: Path, words: tuple[str, ...]) -> None:
    own = tmp_path / "own.conf"
    own.write_text(f"[database]\nconnection = sqlite:///{tmp_path}/nowhere/x.sqlite\n")
    command = [sys.executable, "-m", "colonnade", *words, "--config-file", str(own)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "unable to open database file" in done.stderr

import os
import subprocess
from pathlib import Path

import pytest


@pytest.fixture
def haproxy_says(tmp_path):
    """Gives files to a real ``haproxy -c``; answers its complaints, "" when it takes them without one."""

    def check(files: dict[str, str]) -> str:
        for name, content in files.items():
            (tmp_path / name).write_text(content)
        (tmp_path / "state").write_text("1\n")  # the version line of an empty state file
        paths = {"COLONNADE_SOCKET": "s.sock", "COLONNADE_STATE": "state", "COLONNADE_LOG": "log.sock"}
        env = {
            **os.environ, "COLONNADE_MAXCONN": "100",
            **{name: str(Path(tmp_path) / value) for name, value in paths.items()},
        }  # fmt: skip
        done = subprocess.run(
            ["haproxy", "-c", "-f", "haproxy.cfg"], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )
        lines = done.stderr.splitlines()
        bad = [line for line in lines if "[WARNING]" in line or "[ALERT]" in line]
        return "\n".join(bad) if bad or done.returncode == 0 else done.stderr

    return check

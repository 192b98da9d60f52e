"""The stock ``openstack`` client, kept running for many commands."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_SHELL = Path(__file__).with_name("openstack_shell.py")


class Client:
    """``environment`` None: our own. ``faster``: how many times shorter it sleeps between two looks of --wait."""

    def __init__(self, environment: Mapping[str, str] | None = None, faster: int = 1) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(_SHELL), str(faster)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=environment,
        )  # fmt: skip

    def close(self) -> None:
        """End it."""
        self._process.communicate()

    def run(self, words: Sequence[str]) -> tuple[int, Any, str]:
        """One command: its exit code, what it shows (parsed where it is JSON), what it complains of."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps([*words]), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        assert line, f"The client died of: {words}"
        done = json.loads(line)
        out = done["out"]
        return done["code"], json.loads(out) if out.startswith(("{", "[")) else out, done["err"]

    def shown(self, *words: str, fails: bool = False) -> Any:
        """What a command shows that must succeed, or what it says when it must fail."""
        code, out, err = self.run(words)
        assert (code != 0) == fails, (words, code, out, err)
        return err if fails else out

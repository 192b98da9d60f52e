"""What the documents tell to type works as it stands, from top to bottom."""

import re
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from standalone import ROOT, Standalone, installation

pytestmark = [pytest.mark.system, pytest.mark.root]
_PATIENT = """
again() {
  local typed n
  typed=$(cat; echo .)
  for n in {1..60}; do
    printf %s "${typed%.}" | command "$@" && return
    sleep 1
  done
  return 1
}
curl() { again curl -sS --fail --max-time 10 "$@"; }
timeout() { again timeout "$@"; }
"""  # who asks the load balancer itself may be sooner than it is ready: a person would ask again
_OURS = f"fd{secrets.randbelow(256):02x}:{secrets.choice(range(0x1000, 0x10000)):x}:"  # RFC 4193
_ELSEWHERE = ("./try", "./test", "VIP_PORT")  # other tests' matter; words to be replaced


@pytest.fixture(scope="module")
def fresh() -> Iterator[Standalone]:
    with installation("--demo") as made:
        yield made


@pytest.mark.parametrize(("document", "shows"), [
    ("README.md", r"Hello from demo-[12] at .*\n.*Hello from demo-[12] at"),
    ("docs/tls.md", r"Hello from demo-[12] .*Hello from demo-[12] at"),
    ("docs/udp.md", r"Hello from demo-[12] at"),
    ("docs/metrics.md", r"octavia_listener_"),
    ("docs/l7.md", r"STARTS_WITH"),
    ("docs/vips.md", r"fd00:10::2"),
])  # fmt: skip
def test_its_commands_work_when_pasted(fresh: Standalone, document: str, shows: str, tmp_path: Path) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)
    typed = [b for b in blocks if not any(w in b for w in _ELSEWHERE)]
    script = "\n".join(typed).replace("/var/lib/colonnade/default", str(fresh.state)).replace("sudo ", "")
    script = script.replace("fd00:10:", _OURS)  # another installation on this machine may follow the documents, too
    before = f"export OS_CLIENT_CONFIG_FILE={fresh.state}/clouds.yaml OS_CLOUD=colonnade PATH={fresh.state}/bin:$PATH"
    done = subprocess.run(
        ["bash", "-euc", f"{before}\n{_PATIENT}\n. {fresh.state}/demo.env\n{script}"], cwd=tmp_path, text=True,
        stdin=subprocess.DEVNULL, capture_output=True,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": str(tmp_path)}, check=False, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-1500:]
    assert re.search(shows.replace("fd00:10:", _OURS), done.stdout, re.DOTALL), done.stdout[-3000:]

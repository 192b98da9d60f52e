"""Each folder of tests/golden: what is wanted, and the files that an amphora gets for it."""

from pathlib import Path

import pytest
import yaml
from desired import tree

from colonnade.core import datagrams, haproxy, prometheus, tls
from tests import pki

CASES = sorted(p.parent for p in (Path(__file__).parent.parent / "golden").glob("*/desired.yaml"))


@pytest.mark.parametrize("case", CASES, ids=lambda p: p.name)
def test_the_files_are_as_before(case, request):
    given = yaml.safe_load((case / "desired.yaml").read_text())
    vips = given.get("vips", [given.get("vip", "10.0.0.10")])
    files = haproxy.render(tree(given), vips, haproxy.Limits()) | datagrams.render(tree(given), vips)
    assert files.pop(prometheus.SCRIPT, prometheus.PROGRAM) == prometheus.PROGRAM  # the same wherever it is
    if request.config.getoption("--update-golden"):
        for old in {p.name for p in case.iterdir()} - {"desired.yaml"}:
            (case / old).unlink()
        for name, content in files.items():
            (case / name).write_text(content)
    assert files == {p.name: p.read_text() for p in case.iterdir() if p.name != "desired.yaml"}


@pytest.mark.parametrize("case", CASES, ids=lambda p: p.name)
def test_haproxy_takes_the_file(case, haproxy_says):
    files = {p.name: p.read_text() for p in case.iterdir()}
    files[prometheus.SCRIPT] = prometheus.PROGRAM
    files |= secrets(yaml.safe_load(files["desired.yaml"]))
    if "haproxy.cfg" in files:
        complaints = haproxy_says(files)
        if case.name == "timeouts-never":
            complaints = "\n".join(c for c in complaints.splitlines() if "missing timeouts" not in c)
        assert complaints == ""


def secrets(given):
    """Real certificates for everything that refers to one."""
    ca = pki.authority()
    texts = {"certificate": ca.issue("www.example.org").bundle_pem, "authority": ca.pem, "revocations": ca.revoke()}
    return {use.file: texts[use.role].decode() for use in tls.uses(tree(given))}

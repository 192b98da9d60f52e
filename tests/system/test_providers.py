"""A third party's provider in an installation that ./try starts."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from standalone import ROOT, Standalone, installation
from support import eventually

pytestmark = [pytest.mark.system, pytest.mark.root]


@pytest.fixture(scope="module")
def provided() -> Iterator[Standalone]:
    """An installation with the tests' provider, whose package stands where its programs may read it."""
    place = Path(tempfile.mkdtemp(prefix="colonnade-providers-"))
    shutil.copytree(ROOT / "tests" / "provider_package", place / "packages")
    for path in (place, *place.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    file = place / "providers.conf"
    file.write_text(
        "[api_settings]\nenabled_provider_drivers = amphora: ours,example: theirs\n"
        f"[driver_agent]\nprovider_path = {place / 'packages'}\n"
    )
    try:
        with installation("--noauth", "--config", str(file)) as made:
            yield made
    finally:
        shutil.rmtree(place)


def test_it_serves_beside_our_own(provided: Standalone) -> None:
    api = provided.admin()
    subnet = api.subnet()
    ours = api.post("lbaas/loadbalancers", {"loadbalancer": {"name": "ours", "vip_subnet_id": subnet}})
    words = f"loadbalancer create --name theirs --provider example --vip-subnet-id {subnet} -f value -c id"
    theirs = provided.openstack(*words.split())
    api.until_active(ours["id"])
    api.until_active(theirs)
    assert {a["loadbalancer_id"] for a in api.get("/load-balancer/v2/octavia/amphorae")} == {ours["id"]}
    sockets = list((provided.state / "run" / "providers").glob("*.sock"))
    assert len(sockets) == 3
    assert all(os.stat(s).st_uid == os.stat(provided.state / "db").st_uid for s in sockets)

    old = provided.pid("driver-agent")
    provided.kill("driver-agent")
    eventually(lambda: provided.pid("driver-agent") != old)
    provided.openstack(*f"loadbalancer set --name changed {theirs}".split())  # reported to the new one
    api.until_active(theirs)
    for lb_id in (ours["id"], theirs):
        api.delete(f"lbaas/loadbalancers/{lb_id}")
    for lb_id in (ours["id"], theirs):
        api.until_gone(lb_id)

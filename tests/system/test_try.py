"""./try itself: again, beside another, with wrong words, and what --stop leaves."""

import contextlib
import os
import signal
import socket
import stat
import subprocess
from pathlib import Path

import pytest
from standalone import ROOT, Api, Standalone, bodies, fetch, free_port, installation, run
from support import eventually

from colonnade import supervisor

pytestmark = [pytest.mark.system, pytest.mark.root]


def test_stop_leaves_nothing_and_start_brings_all_back() -> None:
    with installation("--demo") as made:
        api = made.admin()
        members = [{"address": m, "protocol_port": 80} for m in made.members]
        vip = api.until_active(api.create("stays", members)["id"])["vip_address"]
        eventually(lambda: _both_serve(vip))
        assert made.traces() != []
        made.stop()
        assert made.traces() == []
        made.start()
        assert all(map(fetch, made.members))  # what it says is ready answers
        eventually(lambda: _both_serve(vip))
        made.stop()
        made.stop()  # again: no harm
        assert made.traces() == []


def test_two_installations_side_by_side(standalone: Standalone) -> None:
    with installation("--demo") as second:
        seen = {}
        for s in (standalone, second):
            api = s.admin()
            members = [{"address": m, "protocol_port": 80} for m in s.members]
            lb = api.create("beside", members)
            vip = api.until_active(lb["id"])["vip_address"]
            eventually(lambda vip=vip: _both_serve(vip))
            seen[vip] = lb["id"]
        assert len(seen) == 2
        for name in ("slot", "tag", "private_cidr", "public_cidr"):
            assert standalone.setting(name) != second.setting(name)
        first_vip = next(iter(seen))
        second.stop()
        assert fetch(first_vip) is not None
    api = standalone.admin()
    api.delete(f"lbaas/loadbalancers/{seen[first_vip]}?cascade=true")
    api.until_gone(seen[first_vip])


def test_try_again_changes_nothing(standalone: Standalone) -> None:
    programs = {p: standalone.pid(p) for p in ("keeper", "up", "api", "agent")}
    assert "Already running" in standalone.start()
    assert {p: standalone.pid(p) for p in programs} == programs


def test_try_again_brings_a_dead_keeper_back(standalone: Standalone) -> None:
    api = standalone.admin()
    lb = api.create("kept", [{"address": m, "protocol_port": 80} for m in standalone.members])
    vip = api.until_active(lb["id"])["vip_address"]
    eventually(lambda: _both_serve(vip))
    served = standalone.haproxies()
    standalone.kill("keeper")
    assert "The keeper was gone" in standalone.start()
    assert standalone.pid("keeper")
    assert standalone.haproxies() == served
    assert fetch(vip) is not None
    api.delete(f"lbaas/loadbalancers/{lb['id']}?cascade=true")
    api.until_gone(lb["id"])


def test_the_demo_answers_udp_again_after_its_end(standalone: Standalone) -> None:
    def greetings() -> list[str]:
        said = []
        for address in standalone.members:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                s.settimeout(1)
                s.connect((address, 53))
                s.send(b"who?")
                said.append(s.recv(100).decode())
        return said

    expected = [f"Hello from demo-{n} at {address}\n" for n, address in enumerate(standalone.members, 1)]
    eventually(lambda: greetings() == expected)
    for words in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if f"{standalone.state}/lib/colonnade/greeter.py" in words.read_text():
                os.kill(int(words.parent.name), signal.SIGKILL)
    standalone.kill("demo")
    eventually(lambda: greetings() == expected)


def _both_serve(vip: str) -> bool:
    found = bodies(vip)
    return len(found) == 2 and None not in found


def test_only_the_agent_and_the_supervisor_run_as_root(standalone: Standalone) -> None:
    for program in ("api", "worker", "health-manager", "housekeeping"):
        status = Path(f"/proc/{standalone.pid(program)}/status").read_text()
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert "0" not in fields["Uid"].split(), program
        assert int(fields["CapEff"], 16) == 0, program
        assert fields["NoNewPrivs"] == "1", program


def test_secrets_are_for_their_owner_only(standalone: Standalone) -> None:
    state = standalone.state
    assert stat.S_IMODE((state / "clouds.yaml").stat().st_mode) == 0o600
    assert stat.S_IMODE((state / "secrets").stat().st_mode) == 0o700
    logs = standalone.logs()
    assert standalone.secrets["ADMIN_PASSWORD"] not in logs


def test_the_api_listens_on_loopback_only(standalone: Standalone) -> None:
    listening = [line.split()[3] for line in run("ss", "-Hlnt").stdout.splitlines()]
    assert [a for a in listening if a.endswith(f":{standalone.port}")] == [f"127.0.0.1:{standalone.port}"]


def test_own_settings_reach_the_programs_and_stay_out_when_left_out(tmp_path: Path) -> None:
    own = tmp_path / "own.conf"
    own.write_text("[api_settings]\npagination_max_limit = 2\n")
    with installation("--noauth", "--config", str(own)) as made:
        api = made.admin()
        for n in range(3):
            api.create(f"own-{n}", [])
        assert len(api.get("lbaas/loadbalancers")) == 2
        made.stop()
        made.options = ()
        made.start()
        assert len(made.admin().get("lbaas/loadbalancers")) == 3
        assert api.ask("GET", "lbaas/loadbalancers").status == 200
        assert Api(made.port).ask("GET", "lbaas/loadbalancers").status == 401  # --noauth was left out, too


def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    state = Path("/tmp/cln-wrong")
    own = tmp_path / "own.conf"
    own.write_text("[health_manager]\nheartbeat_interval_s = soon\n")
    done = run(str(ROOT / "try"), "--state", str(state), "--config", str(own), "--port", str(free_port()), check=False)
    run(str(ROOT / "try"), "--stop", "--purge", "--state", str(state))
    assert done.returncode == 2
    assert "heartbeat_interval_s" in done.stderr


@pytest.mark.parametrize("words", [("--prot", "1"), ("--port",), ("--port", "x"), ("--port", "70000"), ("--purge",)])
def test_wrong_words_are_refused_in_a_sentence(words: tuple[str, ...]) -> None:
    done = run(str(ROOT / "try"), "--state", "/tmp/cln-words", *words, check=False)
    assert done.returncode != 0
    assert 0 < len(done.stderr.splitlines()) <= 3
    assert "Traceback" not in done.stderr
    assert not Path("/tmp/cln-words").exists()


def test_a_directory_that_holds_something_else_is_left_alone() -> None:
    home = Path("/tmp/cln-home")
    home.mkdir(exist_ok=True)
    (home / "letter.txt").write_text("dear")
    before = home.stat()
    try:
        done = run(str(ROOT / "try"), "--state", str(home), "--port", str(free_port()), check=False)
        assert done.returncode == 1
        assert "something else" in done.stderr
        assert "no installation" in run(str(ROOT / "try"), "--stop", "--purge", "--state", str(home)).stdout
        assert (home / "letter.txt").read_text() == "dear"
        assert home.stat().st_mode == before.st_mode
    finally:
        (home / "letter.txt").unlink()
        home.rmdir()


def test_two_starts_at_once_make_one_installation() -> None:
    with installation() as made:
        made.stop()
        words = [str(ROOT / "try"), "--state", str(made.state), "--port", str(made.port)]
        starts = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
        said = [p.communicate()[0] for p in starts]
        assert [p.returncode for p in starts] == [0, 0]
        assert sorted("Already running" in s for s in said) == [False, True]


def test_a_used_port_is_refused_in_a_sentence(standalone: Standalone) -> None:
    words = "--state", "/tmp/cln-port", "--port", str(standalone.port)
    done = run(str(ROOT / "try"), *words, check=False)
    assert done.returncode == 1
    assert str(standalone.port) in done.stderr
    assert "--port" in done.stderr


def test_without_root_it_says_so() -> None:
    done = run("setpriv", "--reuid=65534", "--clear-groups", str(ROOT / "try"), check=False)
    assert done.returncode == 1
    assert "root" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_without_the_capability_it_says_so() -> None:
    done = run("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", str(ROOT / "try"), check=False)
    assert done.returncode == 1
    assert "CAP_NET_ADMIN" in done.stderr


def test_operators_see_what_runs(standalone: Standalone) -> None:
    def said() -> str:
        return run(str(standalone.state / "bin" / "colonnade"), "status").stdout

    assert "worker" in said()
    eventually(lambda: "NOT RUNNING" not in said())
    assert supervisor.running(standalone.state / "run" / "up.pid")

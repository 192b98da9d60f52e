"""An amphora serves, and goes on serving through changes, crashes and restarts."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rig import Rig, Traffic, config, eventually, get, new_id

from colonnade import wire
from colonnade.agent import namespaces
from colonnade.agent.runtime import Runtime
from colonnade.core.haproxy import _PING, PING_SCRIPT
from colonnade.drivers.agent import HostAgent
from colonnade.errors import Broken, Later


def servers(rig: Rig, **weights: int) -> dict[str, str]:
    """Server lines of m1 and m2 by weight."""
    return {m: f"{rig.net}.0.{9 + int(m[1:])}:80 weight {w}" for m, w in weights.items()}


def serve(rig: Rig, **weights: int) -> tuple[str, wire.Bundle]:
    vip = rig.address()
    bundle = rig.bundle(rig.amphora(), vip, config(vip, servers=servers(rig, **(weights or {"m1": 1, "m2": 1}))))
    rig.push(bundle)
    return vip, bundle


def changed(bundle: wire.Bundle, text: str) -> wire.Bundle:
    return replace(bundle, files={**bundle.files, "haproxy.cfg": text})


def pids(rig: Rig, bundle: wire.Bundle) -> list[int]:
    return sorted(rig.processes(bundle.amphora_id))


def test_a_pushed_bundle_serves_at_once_to_the_host(rig: Rig) -> None:
    vip, bundle = serve(rig)
    assert {get(vip) for _ in range(4)} == {"m1", "m2"}
    assert rig.client.observe(rig.url, bundle.amphora_id) == wire.to_json(
        wire.Observed(amphora_id=bundle.amphora_id, digest=wire.digest(bundle), haproxy="running")
    )


def test_the_same_bundle_again_changes_nothing(rig: Rig) -> None:
    _, bundle = serve(rig)
    before = pids(rig, bundle)
    rig.push(bundle)
    assert pids(rig, bundle) == before


def test_haproxy_has_no_privilege_at_all(rig: Rig) -> None:
    _, bundle = serve(rig)
    (pid,) = pids(rig, bundle)
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line
    )
    assert {status[k] for k in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
    assert status["Groups"].strip() == ""
    uids = set(status["Uid"].split()) | set(status["Gid"].split())
    assert len(uids) == 1
    assert int(uids.pop()) // 10000 == 100 + rig.here.slot


def test_two_amphorae_run_as_different_users(rig: Rig) -> None:
    owners = {os.stat(f"/proc/{pids(rig, bundle)[0]}").st_uid for _, bundle in (serve(rig), serve(rig))}
    assert len(owners) == 2


def test_members_come_go_and_weigh_without_a_new_process(rig: Rig) -> None:
    vip, bundle = serve(rig)

    def push(**weights: int) -> None:
        # A member that comes back while HAProxy keeps a connection to it costs a reload: here none is kept.
        extra = "    option http-server-close\n"
        rig.push(changed(bundle, config(vip, servers=servers(rig, **weights), extra=extra)))

    push(m1=1)
    before = eventually(lambda: p if len(p := pids(rig, bundle)) == 1 else None)
    with Traffic(vip) as traffic:
        push(m1=1, m2=1)
        eventually(lambda: get(vip) == "m2")
        push(m1=0, m2=7)
        assert {get(vip) for _ in range(6)} == {"m2"}
        push(m2=7)
        eventually(lambda: ",m1," not in rig.ask(bundle.amphora_id, "show stat"))
        traffic.flow(50)
        push(m1=3, m2=7)
        eventually(lambda: get(vip) == "m1")
    assert traffic.failures == []
    assert pids(rig, bundle) == before


def test_a_disabled_member_gets_nothing_until_it_is_enabled(rig: Rig) -> None:
    vip, bundle = serve(rig)
    lines = servers(rig, m1=1, m2=1)
    rig.push(changed(bundle, config(vip, servers={**lines, "m1": lines["m1"] + " disabled"})))
    assert {get(vip) for _ in range(4)} == {"m2"}
    rig.push(bundle)
    assert {get(vip) for _ in range(4)} == {"m1", "m2"}


def test_reloads_under_traffic_fail_nothing(rig: Rig) -> None:
    vip, bundle = serve(rig)
    before = pids(rig, bundle)
    with Traffic(vip) as traffic:
        for seconds in range(11, 16):
            rig.push(
                changed(bundle, config(vip, servers=servers(rig, m1=1, m2=1), extra=f"    timeout queue {seconds}s\n"))
            )
            traffic.flow(20)
    assert traffic.failures == []
    after = eventually(lambda: p if len(p := pids(rig, bundle)) == 1 else None)
    assert after != before


def test_who_keeps_connections_and_reloads_does_not_fill_the_host_with_processes(rig: Rig) -> None:
    amphora, vip, own = rig.amphora(), rig.address(), rig.address()
    held: list[socket.socket] = []
    with contextlib.ExitStack() as stack:
        for n in range(30):
            text = config(vip, servers={"m1": f"{rig.net}.0.10:80"}, extra=f"    timeout queue {n + 1}s\n")
            text = text.replace(" 20s", " 600s")  # no process ends by itself, however long this takes
            rig.push(rig.bundle(amphora, vip, text, own=own))
            held.append(stack.enter_context(socket.create_connection((vip, 80), 20)))
            held[-1].sendall(b"GET / HTTP/1.1\r\n")  # not whole: it goes on as long as its process does
        eventually(lambda: len(rig.processes(amphora)) == 25)
        for s in held[-20:]:
            s.settimeout(20)
            s.sendall(b"Host: x\r\n\r\n")
            assert s.recv(15) == b"HTTP/1.1 200 OK"


def test_a_reload_believes_the_configuration_not_what_was_set_at_run_time(rig: Rig) -> None:
    vip, amphora = rig.address(), rig.amphora()
    check = " check inter 100ms fall 1 rise 1"

    def push(weights: dict[str, int], words: str, extra: str = "") -> None:
        lines = {m: line + check + words * (m == "m1") for m, line in servers(rig, **weights).items()}
        rig.push(rig.bundle(amphora, vip, config(vip, servers=lines, extra=extra)))

    push({"m1": 1, "m2": 1}, "")
    push({"m1": 0, "m2": 1}, "")
    push({"m1": 1, "m2": 1}, "", extra="    timeout queue 11s\n")
    eventually(lambda: {get(vip) for _ in range(4)} == {"m1", "m2"})  # a check that is late takes one away for a moment
    push({"m1": 1, "m2": 1}, " port 1")
    eventually(lambda: {get(vip) for _ in range(4)} == {"m2"})
    push({"m1": 1, "m2": 1}, "")
    eventually(lambda: {get(vip) for _ in range(4)} == {"m1", "m2"})
    push({"m1": 1, "m2": 1}, f" addr {rig.net}.0.9")
    eventually(lambda: {get(vip) for _ in range(4)} == {"m2"})
    push({"m1": 1, "m2": 1}, "")
    eventually(lambda: {get(vip) for _ in range(4)} == {"m1", "m2"})


def test_a_bundle_that_haproxy_refuses_changes_nothing_and_says_why(rig: Rig) -> None:
    vip, bundle = serve(rig)
    before = pids(rig, bundle)
    with pytest.raises(Broken, match="unknown keyword 'balanec'") as refused:
        rig.push(changed(bundle, config(vip, servers=servers(rig, m1=1), extra="    balanec source\n")))
    assert refused.value.help
    assert {get(vip) for _ in range(4)} == {"m1", "m2"}
    assert pids(rig, bundle) == before
    assert (rig.client.observe(rig.url, bundle.amphora_id) or {})["digest"] == wire.digest(bundle)


def test_a_first_bundle_that_is_refused_leaves_an_empty_place(rig: Rig) -> None:
    vip, amphora = rig.address(), rig.amphora()
    with pytest.raises(Broken):
        rig.push(rig.bundle(amphora, vip, config(vip, servers={"m1": "nonsense:port"})))
    assert (rig.client.observe(rig.url, amphora) or {})["digest"] is None
    assert rig.processes(amphora) == []


def test_a_network_that_is_not_there_yet_is_a_matter_of_time(rig: Rig) -> None:
    vip = rig.address()
    with pytest.raises(Later, match="not on this host yet"):
        rig.push(rig.bundle(rig.amphora(), vip, config(vip, servers={}), network=new_id()))


def test_nothing_to_serve_needs_no_process_and_the_vip_stays(rig: Rig) -> None:
    vip, bundle = serve(rig)
    rig.push(replace(bundle, files={}))
    eventually(lambda: pids(rig, bundle) == [])
    with pytest.raises(ConnectionRefusedError):
        get(vip)
    rig.push(bundle)
    assert get(vip)


def test_a_killed_haproxy_is_back(rig: Rig) -> None:
    vip, bundle = serve(rig)
    for _ in range(3):
        (pid,) = pids(rig, bundle)
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: get(vip))
    assert len(pids(rig, bundle)) == 1


def test_an_agent_that_is_killed_and_started_again_disturbs_nothing(rig: Rig) -> None:
    vip, bundle = serve(rig)
    before = pids(rig, bundle)
    old = rig.beat(bundle.amphora_id, lambda b: b.listeners)
    with Traffic(vip) as traffic:
        rig.stop(signal.SIGKILL)
        traffic.flow(40)
        rig.start()
        traffic.flow(20)
    assert traffic.failures == []
    assert pids(rig, bundle) == before
    rig.drain_beats()
    new = rig.beat(bundle.amphora_id, lambda b: b.listeners)
    assert new.epoch == old.epoch
    assert new.sequence > old.sequence
    os.kill(before[0], signal.SIGKILL)  # the new agent watches what it adopted
    eventually(lambda: get(vip) and pids(rig, bundle) != before)


def _begin(rig: Rig, bundle: wire.Bundle, *words: str) -> "subprocess.Popen[bytes]":
    """What an agent leaves that was killed while it started a process: the intent, and the process."""
    rig.stop(signal.SIGKILL)
    number = json.loads((rig.here.amphorae / bundle.amphora_id / "place.json").read_text())["number"]
    run, uid = rig.here.run / str(number), rig.here.uid(number)
    record = json.loads((run / "process.json").read_text())
    record["begun"] = {"number": record["number"] + 1, "digest": "of other files"}
    (run / "process.json").write_text(json.dumps(record))
    shutil.copytree(run / "files", run / "files.new")
    for path in (run / "files.new", *(run / "files.new").iterdir()):
        os.chown(path, 0, uid)
    own = run / "own"
    known = {"OLD": str(own / f"s{record['number']}"), "PID": str(record["pid"])}
    environment = {
        "COLONNADE_SOCKET": str(own / f"s{record['number'] + 1}"), "COLONNADE_STATE": str(run / "state"),
        "COLONNADE_LOG": str(run / "log"), "COLONNADE_MAXCONN": "100",
    }  # fmt: skip
    namespace = namespaces.path(rig.here.namespace(bundle.amphora_id))
    enter = ["nsenter", f"--net={namespace}", "setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups",
             "--inh-caps=-all", "--bounding-set=-all"]  # fmt: skip
    return subprocess.Popen([*enter, *(w.format(**known) for w in words)], cwd=run / "files.new", env=environment)


def test_a_process_that_a_killed_agent_had_just_started_goes_on(rig: Rig) -> None:
    vip, bundle = serve(rig)
    (old,) = pids(rig, bundle)
    with Traffic(vip) as traffic:
        begun = _begin(rig, bundle, "/usr/sbin/haproxy", "-db", "-f", "haproxy.cfg", "-x", "{OLD}", "-sf", "{PID}")
        eventually(lambda: _listens(rig, bundle, begun.pid))
        rig.start()
        traffic.flow(40)
    assert traffic.failures == []
    after = eventually(lambda: p if len(p := pids(rig, bundle)) == 1 else None)
    assert after != [old]
    assert begun.wait(60) == 0  # it ran other files: it was asked to finish, not killed
    eventually(lambda: len(_sockets(rig, bundle)) == 1)


def test_a_process_that_a_killed_agent_had_begun_to_start_is_ended(rig: Rig) -> None:
    vip, bundle = serve(rig)
    before = pids(rig, bundle)
    with Traffic(vip) as traffic:
        begun = _begin(rig, bundle, "sleep", "60")
        eventually(lambda: begun.pid in pids(rig, bundle))
        rig.start()
        traffic.flow(20)
    assert traffic.failures == []
    assert begun.wait(60) == -signal.SIGKILL
    assert pids(rig, bundle) == before


def test_sockets_of_processes_that_ended_unseen_are_removed(rig: Rig) -> None:
    _, bundle = serve(rig)
    rig.stop(signal.SIGKILL)
    (socket,) = _sockets(rig, bundle)
    socket.with_name("s0").touch()
    rig.start()
    assert _sockets(rig, bundle) == [socket]


def test_a_first_process_that_was_begun_without_a_bundle_is_ended(rig: Rig) -> None:
    vip, bundle = serve(rig)
    rig.stop(signal.SIGKILL)
    (rig.here.amphorae / bundle.amphora_id / "bundle.json").unlink()
    rig.start()
    assert pids(rig, bundle) == []
    rig.push(bundle)
    assert get(vip)
    assert len(pids(rig, bundle)) == 1


def _listens(rig: Rig, bundle: wire.Bundle, pid: int) -> bool:
    return f"Pid: {pid}\n" in rig.ask(bundle.amphora_id, "show info")


def _sockets(rig: Rig, bundle: wire.Bundle) -> list[Path]:
    number = json.loads((rig.here.amphorae / bundle.amphora_id / "place.json").read_text())["number"]
    return list((rig.here.run / str(number) / "own").glob("s*"))


def test_after_a_reboot_all_comes_back_without_the_control_plane(rig: Rig) -> None:
    vip, bundle = serve(rig)
    amphora = rig.here.namespace(bundle.amphora_id)
    rig.stop(signal.SIGKILL)
    for pid in namespaces.processes(amphora):
        os.kill(pid, signal.SIGKILL)
    namespaces.remove(amphora)
    for path in sorted(rig.here.run.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    rig.start()
    assert {eventually(lambda: get(vip)) for _ in range(4)} == {"m1", "m2"}


def test_what_belongs_to_no_amphora_is_removed_at_start(rig: Rig) -> None:
    stray = rig.here.namespace(new_id())
    rig.stop()
    namespaces.create(stray)
    rig.start()
    assert not namespaces.exists(stray)


def test_a_vip_moves_to_another_amphora_without_waiting_for_caches(rig: Rig) -> None:
    vip, old = serve(rig, m1=1)
    assert get(vip) == "m1"
    new = rig.bundle(rig.amphora(), vip, config(vip, servers=servers(rig, m2=1)), serving=False)
    rig.push(new)
    assert get(vip) == "m1"
    rig.push(replace(new, serving=True))
    rig.client.remove(old.amphora_id, None)
    socket.create_connection((vip, 80), 0.9).close()  # the kernel asks for the second time after a second
    assert get(vip) == "m2"


def test_a_vip_may_be_ipv6(rig: Rig) -> None:
    vip = f"{rig.net6}:77"
    amphora = rig.amphora()
    text = config(vip, servers={"m1": f"{rig.net6}:a:80 weight 1"})
    bundle = rig.bundle(amphora, rig.address(), text, vips=(f"{vip}/128",))
    rig.push(bundle)
    assert get(vip) == "m1"
    assert get(vip, path="/client").startswith("fd00:c1")
    assert get(vip, path="/client") != vip  # the VIP is no source address


def test_removing_an_amphora_removes_all_of_it_twice(rig: Rig) -> None:
    _, bundle = serve(rig)
    for _ in range(2):
        rig.client.remove(bundle.amphora_id, None)
        assert bundle.amphora_id not in rig.client.names()
        assert not namespaces.exists(rig.here.namespace(bundle.amphora_id))
        assert not (rig.here.amphorae / bundle.amphora_id).exists()
    assert rig.client.observe(rig.url, bundle.amphora_id) is None


def test_an_amphora_is_made_again_under_the_same_id(rig: Rig) -> None:
    vip, bundle = serve(rig)
    rig.client.remove(bundle.amphora_id, None)
    rig.client.ensure(bundle.amphora_id, "77" * 32)
    rig.push(bundle)
    assert get(vip)


def test_a_member_is_pinged_without_privileges(rig: Rig) -> None:
    vip, amphora = rig.address(), rig.amphora()
    extra = "    option external-check\n    external-check path /usr/bin:/bin\n    external-check command /bin/sh\n"
    text = config(
        vip,
        servers={"m1": f"{rig.net}.0.10:80 check inter 2s", "m9": f"{rig.net}.0.9:80 check inter 300ms fall 1"},
        extra=extra,
    )
    text = text.replace("    nbthread 1\n", "    nbthread 1\n    external-check\n    insecure-fork-wanted\n")
    rig.push(rig.bundle(amphora, vip, text, files={"haproxy.cfg": text, PING_SCRIPT: _PING}))

    def both_known(beat: wire.Heartbeat) -> bool:
        found = beat.members["pool:listener"]
        return found["m1"].check.startswith("PROCOK") and found["m9"].status == "DOWN"

    assert rig.beat(amphora, both_known).members["pool:listener"]["m1"].status == "UP"


def test_an_amphora_that_hangs_does_not_keep_the_others_waiting(rig: Rig) -> None:
    vip = rig.address()
    bundle = rig.bundle(rig.amphora(), vip, config(vip, servers=servers(rig, m1=1)))
    rig.push(bundle)
    (stopped,) = namespaces.processes(rig.here.namespace(bundle.amphora_id))
    changed = rig.bundle(bundle.amphora_id, vip, config(vip, servers=servers(rig, m1=2)))
    path = f"/v1/amphorae/{bundle.amphora_id}/bundle"
    os.kill(stopped, signal.SIGSTOP)

    def insist() -> None:
        with contextlib.suppress(Later, Broken):
            HostAgent(rig.url)._call(rig.url, "PUT", path, wire.to_json(changed))

    threads = [threading.Thread(target=insist) for _ in range(7)]
    try:
        for thread in threads:
            thread.start()
        began = time.monotonic()
        HostAgent(rig.url).names()
        assert time.monotonic() - began < 25  # each waits 2 s for the amphora, then its thread is free
    finally:
        os.kill(stopped, signal.SIGCONT)
        for thread in threads:
            thread.join()
    assert rig.push(changed)["digest"] == wire.digest(changed)


def test_very_many_changes_are_one_reload(rig: Rig) -> None:
    vip = rig.address()
    amphora = rig.amphora()
    rig.push(rig.bundle(amphora, vip, config(vip, servers=servers(rig, m1=1))))
    before = namespaces.processes(rig.here.namespace(amphora))
    many = servers(rig, m1=1) | {f"x{n}": f"{rig.net}.9.{n % 250}:{80 + n // 250} weight 1" for n in range(600)}
    rig.push(rig.bundle(amphora, vip, config(vip, servers=many)))
    assert get(vip) is not None
    assert set(namespaces.processes(rig.here.namespace(amphora))) - set(before)


def test_the_agent_talks_to_an_amphoras_own_haproxy_only(tmp_path: Path) -> None:
    path = tmp_path / "s1"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as somebody:
        somebody.bind(str(path))
        somebody.listen(1)
        with pytest.raises(PermissionError, match="somebody else"):
            Runtime(path, os.getuid() + 1)

"""Third parties' providers: which there are, what they offer, and when they do not answer."""

import _thread
import dataclasses
import functools
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from lb_provider import ENABLED, a_tree, everything
from lb_service import Service
from support import eventually

from colonnade.configuration import load
from colonnade.settings import Settings, WrongSetting


@pytest.fixture
def service(provided: Service) -> Service:
    return provided


def test_providers_are_those_that_are_enabled(service: Service) -> None:
    listed = service.get("providers")["providers"]
    assert [p["name"] for p in listed] == ["amphora", "octavia", "mute", "bare", "unloadable", "absent"]
    assert listed[2]["description"] == "of the tests"
    assert service.get("providers?name=mute&fields=name") == {"providers": [{"name": "mute"}]}


@pytest.mark.parametrize("line", [
    "enabled_provider_drivers = amphora: ours,nameless", "enabled_provider_drivers = a name: x,amphora: y",
    "default_provider_driver = ovn", "enabled_provider_drivers = ovn: theirs",
])  # fmt: skip
def test_settings_that_make_no_sense_stop_a_program(tmp_path: Path, line: str) -> None:
    file = tmp_path / "colonnade.conf"
    file.write_text(f"[api_settings]\n{line}\n")
    with pytest.raises(WrongSetting, match="provider_driver"):
        load([str(file)])


def test_settings_are_read_as_octavia_reads_them(tmp_path: Path) -> None:
    file = tmp_path / "colonnade.conf"
    file.write_text("[api_settings]\nenabled_provider_drivers = amphora: The old: one.,ovn:\n")
    assert load([str(file)]).providers == {"amphora": "The old: one.", "ovn": ""}
    assert load([str(file)]).reports
    assert not Settings().reports


def test_one_that_is_not_enabled_is_refused(service: Service) -> None:
    body = {"loadbalancer": {"vip_subnet_id": service.subnet.id, "provider": "example"}}
    fault = service.post("loadbalancers", body, expect=400)
    assert fault["faultstring"] == "Provider 'example' is not enabled."
    assert service.get("providers/example/flavor_capabilities", by="admin", expect=400)["faultcode"] == "Client"


@pytest.mark.parametrize("provider", ["unloadable", "absent"])
def test_one_that_cannot_be_loaded_is_501_and_leaves_nothing(service: Service, provider: str) -> None:
    before = everything(service)
    body = {"loadbalancer": {"vip_subnet_id": service.subnet.id, "provider": provider}}
    fault = service.post("loadbalancers", body, expect=501)
    assert fault["faultstring"] == f"Provider '{provider}' was not found."
    assert everything(service) == before
    assert service.cloud.ours() == []


def test_the_start_tells_of_one_that_is_not_installed(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    service.reset(enabled_provider_drivers=ENABLED)
    (said,) = [r.message for r in caplog.records if r.levelname == "WARNING"]
    assert "enabled_provider_drivers names absent, which no installed package offers" in said
    assert len(service.get("providers")["providers"]) == len(ENABLED)


def test_the_default_provider_may_be_a_third_partys(service: Service, calls: Any) -> None:
    service.reset(default_provider_driver="mute")
    assert service.load_balancer()["provider"] == "mute"
    assert [method for method, _ in calls()] == ["create_vip_port", "loadbalancer_create"]


def test_capabilities_are_what_the_driver_says(service: Service) -> None:
    flavors = service.get("providers/mute/flavor_capabilities", by="admin")
    assert flavors == {
        "flavor_capabilities": [
            {"name": "size", "description": "small or large"}, {"name": "colour", "description": "any"},
        ]
    }  # fmt: skip
    assert len(service.get("providers/mute/flavor_capabilities?name=size", by="admin")["flavor_capabilities"]) == 1
    zones = service.get("providers/mute/availability_zone_capabilities", by="admin")
    assert zones == {"availability_zone_capabilities": []}
    for what in ("flavor", "availability_zone"):
        fault = service.get(f"providers/bare/{what}_capabilities", by="admin", expect=501)
        assert fault["faultstring"].startswith("Provider 'bare' does not support a requested action:")


def profile(service: Service, data: Any, expect: int = 201, provider: str = "mute") -> Any:
    body = {"name": "p", "provider_name": provider, "flavor_data": json.dumps(data)}
    return service.post("flavorprofiles", {"flavorprofile": body}, by="admin", expect=expect)


def zone_profile(service: Service, data: Any, expect: int = 201) -> Any:
    body = {"name": "p", "provider_name": "mute", "availability_zone_data": json.dumps(data)}
    return service.post(
        "availabilityzoneprofiles", {"availability_zone_profile": body}, by="admin", expect=expect
    )  # fmt: skip


def test_profiles_are_validated_by_the_driver(service: Service) -> None:
    profile(service, {"size": "large"})
    fault = profile(service, {"speed": 9}, expect=501)
    assert fault["faultstring"] == "Provider 'mute' does not support a requested option: no speed here"
    assert profile(service, {}, expect=501, provider="bare")["faultcode"] == "Server"
    zone_profile(service, {"place": "cellar", "valid_vip_networks": 5})
    assert zone_profile(service, {}, expect=500)["faultstring"] == "Provider 'mute' reports error: no place"


def test_a_flavor_and_a_zone_reach_the_driver_as_their_metadata(service: Service, calls: Any) -> None:
    made = profile(service, {"size": "large"})["flavorprofile"]
    flavor = service.post(
        "flavors", {"flavor": {"name": "f", "flavor_profile_id": made["id"]}}, by="admin"
    )["flavor"]  # fmt: skip
    made = zone_profile(service, {"place": "cellar"})["availability_zone_profile"]
    zone = {"name": "z", "availability_zone_profile_id": made["id"]}
    service.post("availabilityzones", {"availability_zone": zone}, by="admin")
    calls()
    lb = service.load_balancer(flavor_id=flavor["id"], availability_zone="z")
    assert (lb["provider"], lb["flavor_id"]) == ("mute", flavor["id"])
    given = calls()[-1][1][0]
    assert (given.flavor, given.availability_zone) == ({"size": "large"}, {"place": "cellar"})
    body = {"loadbalancer": {"vip_subnet_id": service.subnet.id, "flavor_id": flavor["id"], "provider": "amphora"}}
    service.post("loadbalancers", body, expect=400)


def test_networks_of_a_zone_hold_for_every_provider(service: Service) -> None:
    made = zone_profile(service, {"place": "x", "valid_vip_networks": [service.subnet.network_id.upper()]})
    other = service.cloud.add_subnet("10.9.0.0/24", project_id="alice-project")
    zone = {"name": "z", "availability_zone_profile_id": made["availability_zone_profile"]["id"]}
    service.post("availabilityzones", {"availability_zone": zone}, by="admin")
    service.load_balancer(availability_zone="z")
    body = {"loadbalancer": {"vip_subnet_id": other.id, "availability_zone": "z"}}
    service.post("loadbalancers", body, expect=400)


@contextmanager
def hurried(service: Service) -> Iterator[None]:
    """Calls are waited for not long, but long enough for a driver that has been loaded to be asked."""
    patient = service.settings
    section = dataclasses.replace(patient.driver_agent, call_limit_s=1)
    service.settings = dataclasses.replace(patient, driver_agent=section)
    service.reset()
    eventually(lambda: service.send("GET", "providers/mute/flavor_capabilities", by="admin").status_code == 200)
    yield
    service.settings = patient
    service.reset()


def asking() -> list[threading.Thread]:
    """The threads that are at work for the provider mute."""
    return [t for t in threading.enumerate() if t.name == "provider-mute"]


def test_a_provider_that_does_not_answer_leaves_an_error_that_its_report_settles(
    service: Service, calls: Any, tmp_path: Path
) -> None:
    lb, *_ = a_tree(service)
    path = f"loadbalancers/{lb['id']}"
    with hurried(service):
        fault = service.put(path, {"loadbalancer": {"name": f"wait {tmp_path / 'go'}"}}, expect=500)
    assert "has not answered within 1 s" in fault["faultstring"]
    shown = service.get(path)["loadbalancer"]
    assert (shown["provisioning_status"], shown["reason"]) == ("ERROR", fault["faultstring"])
    assert shown["name"].startswith("wait")
    (tmp_path / "go").touch()
    service.put(path, {"loadbalancer": {"name": "again"}})  # nobody holds it
    assert [method for method, _ in calls()][-2:] == ["loadbalancer_update", "loadbalancer_update"]


def test_a_creation_that_is_not_answered_keeps_its_vip(service: Service, tmp_path: Path) -> None:
    body = {"vip_subnet_id": service.subnet.id, "provider": "mute", "name": f"wait {tmp_path / 'go'}"}
    with hurried(service):
        service.post("loadbalancers", {"loadbalancer": body}, expect=500)
    (lb,) = service.get("loadbalancers")["loadbalancers"]
    assert lb["provisioning_status"] == "ERROR"
    assert [p.id for p in service.cloud.ours()] == [lb["vip_port_id"]]
    (tmp_path / "go").touch()
    service.delete(f"loadbalancers/{lb['id']}")


def test_a_provider_that_hangs_leaves_half_of_the_threads_to_others(
    service: Service, calls: Any, tmp_path: Path
) -> None:
    import example_provider

    asked = functools.partial(service.send, "GET", "providers/mute/flavor_capabilities", by="admin")
    assert service.settings.api_settings.threads == 8
    eventually(lambda: not asking())  # an earlier test's end by themselves
    example_provider.READY = str(tmp_path / "go")
    try:
        with ThreadPoolExecutor(4) as pool:
            waiting = [pool.submit(asked) for _ in range(4)]
            eventually(lambda: len(asking()) == 4)
            refused = asked()
            assert (refused.status_code, refused.json["faultstring"]) == (
                503, "Provider 'mute' is asked too much at a time. Please try again."
            )  # fmt: skip
            (tmp_path / "go").touch()
            assert [w.result().status_code for w in waiting] == [200] * 4
    finally:
        (tmp_path / "go").touch()
        example_provider.READY = None
    assert asked().status_code == 200


def test_a_driver_that_does_not_get_ready_is_never_called(service: Service, calls: Any, tmp_path: Path) -> None:
    import example_provider

    lb, *_ = a_tree(service)
    before = everything(service)
    with hurried(service):
        calls()
        example_provider.READY = str(tmp_path / "go")
        try:
            fault = service.put(f"loadbalancers/{lb['id']}", {"loadbalancer": {"name": "n"}}, expect=500)
        finally:
            (tmp_path / "go").touch()
            example_provider.READY = None
    assert "was not ready within 1 s" in fault["faultstring"]
    assert everything(service) == before
    eventually(lambda: not asking())
    assert calls() == []


@pytest.mark.skipif(not hasattr(_thread, "_set_sentinel"), reason="this Python tells of a thread's end in another way")
def test_a_call_that_is_answered_is_waited_for_no_longer(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its package does to its thread: one that imports eventlet has Python read ``threading`` anew there."""
    service.get("providers/mute/flavor_capabilities", by="admin")
    import example_provider

    taken = []

    def take(self: Any) -> dict[str, str]:
        taken.append(_thread._set_sentinel())  # type: ignore[attr-defined]  # what reading it anew comes to
        return {"size": "how large"}

    monkeypatch.setattr(example_provider.Mute, "get_supported_flavor_metadata", take)
    began = time.monotonic()
    shown = service.get("providers/mute/flavor_capabilities", by="admin")["flavor_capabilities"]
    assert (len(taken), shown[0]["name"]) == (1, "size")
    assert time.monotonic() - began < service.settings.driver_agent.call_limit_s / 2

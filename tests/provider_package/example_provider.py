"""Providers for tests, written as a third party would write them: nothing is imported but octavia-lib."""

import os
import threading
import time

from octavia_lib.api.drivers import data_models, driver_lib, exceptions, provider_base
from octavia_lib.common import constants

READY = None  # a file without which no driver gets ready
CALLS = []  # (provider, method, arguments), of this process
_IDS = {
    "loadbalancers": "loadbalancer_id", "listeners": "listener_id", "pools": "pool_id", "members": "member_id",
    "healthmonitors": "healthmonitor_id", "l7policies": "l7policy_id", "l7rules": "l7rule_id",
}  # fmt: skip
_KINDS = {
    data_models.LoadBalancer: "loadbalancers", data_models.Listener: "listeners", data_models.Pool: "pools",
    data_models.Member: "members", data_models.HealthMonitor: "healthmonitors",
    data_models.L7Policy: "l7policies", data_models.L7Rule: "l7rules",
}  # fmt: skip


class Mute(provider_base.ProviderDriver):
    """Accepts everything, remembers it, reports nothing. A name may be an order: ``raise ...``, ``wait ...``."""

    def __init__(self):
        super().__init__()
        while READY and not os.path.exists(READY):
            time.sleep(0.02)

    def create_vip_port(self, the_load_balancer, the_project, vip, others):
        self._take("create_vip_port", the_load_balancer, the_project, vip, others)
        if os.environ.get("EXAMPLE_VIP") != "own":
            raise exceptions.NotImplementedError()
        return {**vip, "vip_address": "10.1.0.77", "vip_port_id": the_load_balancer, "octavia_owned": False}, [
            {**other, "port_id": the_load_balancer} for other in others
        ]

    def loadbalancer_create(self, a):
        self._take("loadbalancer_create", a)

    def loadbalancer_delete(self, a, everything=False):
        self._take("loadbalancer_delete", a, everything)

    def loadbalancer_failover(self, an_id):
        self._take("loadbalancer_failover", an_id)

    def loadbalancer_update(self, a, b):
        self._take("loadbalancer_update", a, b)

    def member_batch_update(self, an_id, members):
        self._take("member_batch_update", an_id, members)

    def get_supported_flavor_metadata(self):
        return {"size": "small or large", "colour": "any"}

    def validate_flavor(self, metadata):
        for key, value in metadata.items():
            if key not in self.get_supported_flavor_metadata():
                raise exceptions.UnsupportedOptionError(user_fault_string=f"no {key} here")
            if key == "size" and value not in ("small", "large"):
                raise exceptions.UnsupportedOptionError(user_fault_string=f"{value} is no size")

    def get_supported_availability_zone_metadata(self):
        return None

    def validate_availability_zone(self, metadata):
        if "place" not in metadata:
            raise exceptions.DriverError(user_fault_string="no place", operator_fault_string="for operators only")

    def _take(self, method, *arguments):
        CALLS.append((self.name, method, arguments))
        orders = [argument.name for argument in arguments if hasattr(argument, "name")]
        _obey(orders[-1] if orders else None)  # of old and new the new one


def _method(name):
    return lambda self, *arguments: self._take(name, *arguments)


for _kind in ("listener", "pool", "member", "health_monitor", "l7policy", "l7rule"):
    for _verb in ("create", "delete", "update"):
        setattr(Mute, f"{_kind}_{_verb}", _method(f"{_kind}_{_verb}"))


def _obey(order):
    word, _, rest = (order or "").partition(" ") if isinstance(order, str) else ("", "", "")
    if word == "raise":
        if rest == "SystemExit":
            raise SystemExit("of the whole program")
        kind = getattr(exceptions, rest, None)
        if kind is None:
            raise ValueError(f"a mistake in the driver: {rest}")
        raise kind(user_fault_string="said to users", operator_fault_string="said to operators")
    if word == "wait":
        while not os.path.exists(rest):
            time.sleep(0.02)


class Example(Mute):
    """Also reports what became of it, from a thread of its own, like a provider whose back end takes its time."""

    def _take(self, method, *arguments):
        super()._take(method, *arguments)
        if method not in ("create_vip_port",):
            self._begin(lambda: _report(method, arguments))

    def _begin(self, report):
        threading.Thread(target=report, daemon=True).start()


class Hasty(Example):
    """Reports, and asks, before its method returns."""

    def _begin(self, report):
        report()


class Bare(provider_base.ProviderDriver):
    """Implements nothing but what must be, and nothing else."""

    def loadbalancer_create(self, loadbalancer):
        CALLS.append((self.name, "loadbalancer_create", (loadbalancer,)))


def _report(method, arguments):
    library = driver_lib.DriverLibrary()
    subject, verb = arguments[0], method.rpartition("_")[2]
    if method == "loadbalancer_failover":
        whole = library.get_loadbalancer(subject)
        library.update_loadbalancer_status(_statuses([whole], "ACTIVE"))
        return
    if method == "member_batch_update":
        pool = library.get_pool(subject)
        wanted = {m.member_id for m in arguments[1]}
        gone = [m for m in pool.members if m["member_id"] not in wanted]
        report = _statuses([*arguments[1], pool], "ACTIVE")
        report["members"] += [{"id": m["member_id"], "provisioning_status": "DELETED"} for m in gone]
        library.update_loadbalancer_status({**report, **_above(library, pool)})
        return
    if verb == "delete" and isinstance(subject, data_models.LoadBalancer):
        library.update_loadbalancer_status(_statuses([subject], "DELETED"))
        return
    if verb == "delete":
        kind = _KINDS[type(subject)]
        report = {kind: [{"id": getattr(subject, _IDS[kind]), "provisioning_status": "DELETED"}]}
        above = _above(library, subject)
        library.update_loadbalancer_status({**above, **{k: v + above.get(k, []) for k, v in report.items()}})
        return
    known = {
        data_models.LoadBalancer: library.get_loadbalancer, data_models.Listener: library.get_listener,
        data_models.Pool: library.get_pool, data_models.Member: library.get_member,
        data_models.HealthMonitor: library.get_healthmonitor, data_models.L7Policy: library.get_l7policy,
        data_models.L7Rule: library.get_l7rule,
    }[type(subject)](getattr(subject, _IDS[_KINDS[type(subject)]]))  # fmt: skip
    assert known is not None, "the object that the driver is asked for is not to be seen"
    report, above = _statuses([known], "ACTIVE"), _above(library, known)
    library.update_loadbalancer_status({k: report.get(k, []) + above.get(k, []) for k in {*report, *above}})
    listeners = [i["id"] for i in report.get("listeners", [])]
    if listeners:
        numbers = {"active_connections": 1, "bytes_in": 20, "bytes_out": 300, "request_errors": 4}
        library.update_listener_statistics(
            {"listeners": [{"id": id, "total_connections": 5, **numbers} for id in listeners]}
        )


def _above(library, value):
    """ACTIVE for what a write below it has made PENDING."""
    report, pool, listener = {}, getattr(value, "pool_id", None), getattr(value, "listener_id", None)
    if isinstance(value, data_models.L7Rule):
        policy = library.get_l7policy(value.l7policy_id)
        listener = policy.listener_id
        report["l7policies"] = [{"id": policy.l7policy_id, "provisioning_status": "ACTIVE"}]
    if pool:
        found = library.get_pool(pool)
        if not isinstance(value, data_models.Pool):
            report["pools"] = [{"id": pool, "provisioning_status": "ACTIVE"}]
        listener = found and found.listener_id
        lb = value.loadbalancer_id if isinstance(value, data_models.Pool) else found.loadbalancer_id
    elif isinstance(value, data_models.LoadBalancer):
        return {}
    else:
        lb = value.loadbalancer_id if isinstance(value, data_models.Listener) else None
    if listener:
        lb = lb or library.get_listener(listener).loadbalancer_id
        if not isinstance(value, data_models.Listener):
            report["listeners"] = [{"id": listener, "provisioning_status": "ACTIVE"}]
    report["loadbalancers"] = [{"id": lb, "provisioning_status": "ACTIVE"}]
    return report


def _statuses(values, status):
    """A report that says ``status`` of these objects and of all below them."""
    report, seen = {}, set()

    def note(kind, found):
        id = found[_IDS[kind]]
        if id not in seen:
            seen.add(id)
            more = {} if status == "DELETED" else {"operating_status": constants.ONLINE}
            report.setdefault(kind, []).append({"id": id, "provisioning_status": status, **more})
        for key in ("listeners", "pools", "members", "l7policies", "rules"):
            for child in found.get(key) or ():
                note("l7rules" if key == "rules" else key, child)
        for key, child_kind in (("default_pool", "pools"), ("healthmonitor", "healthmonitors")):
            if found.get(key):
                note(child_kind, found[key])

    for value in values:
        note(_KINDS[type(value)], value.to_dict(recurse=True))
    return report

"""What the driver agent answers on its three sockets, as values: a request's JSON in, the answer's JSON out."""

import logging
from collections.abc import Callable

from sqlalchemy import Connection

from colonnade.clock import Clock
from colonnade.drivers import Network, SecretStore
from colonnade.errors import Broken, Later
from colonnade.model import Material
from colonnade.store import reports
from colonnade.store.reports import Refused
from colonnade.store.store import Store
from colonnade.types import Json

log = logging.getLogger("colonnade.driver_agent")

OK: Json = {"status_code": 200}
Answer = Callable[[object], Json]


def fault(sentence: str, **told: object) -> Json:
    """The answer to a request that was not, or not wholly, carried out."""
    return {"status_code": 500, "fault_string": sentence, **told}


class Answers:
    """The three answers. None raises what a request can cause; what the database raises goes through."""

    def __init__(self, *, store: Store, network: Network, secrets: SecretStore | None, clock: Clock) -> None:
        self._store, self._network, self._secrets, self._clock = store, network, secrets, clock

    def status(self, request: object) -> Json:
        """Apply a status report, children before their parents. Items before the first bad one stay applied."""
        if not isinstance(request, dict):
            return fault("A status report is an object with collections of items.")
        unknown = [str(key)[:64] for key in request if key not in reports.KINDS]
        if unknown:
            return fault(f"A status report has no collections {', '.join(unknown)}.")
        try:
            for kind in reports.KINDS:
                items = request.get(kind) or []
                if not isinstance(items, list):
                    raise Refused(f"{kind} is not a list.", status_object=kind)
                if kind == "loadbalancers":
                    self._apply_each(items)
                else:
                    self._apply(kind, items)
        except Refused as e:
            log.warning("A status report was refused: %s", e)
            return fault(str(e), **e.told)
        return OK

    def _apply(self, kind: str, items: list[object]) -> None:
        def write(conn: Connection) -> Refused | None:
            report = reports.Report(conn, self._clock.now())
            for item in items:
                try:
                    report.apply(kind, item)
                except Refused as e:
                    return e
            return None

        if refused := self._store.written(write):
            raise refused

    def _apply_each(self, items: list[object]) -> None:
        """Load balancers one by one: the VIP port of one goes before its row, so that none is forgotten."""
        for item in items:
            with self._store.read() as conn:
                port_id = reports.vip_port(conn, "loadbalancers", item)
            if port_id is not None:
                try:
                    self._network.release(port_id)
                except (Later, Broken) as e:
                    why = f"The VIP port {port_id} could not be removed: {e}"
                    raise Refused(why, status_object="loadbalancers", status_record=item) from e
            self._apply("loadbalancers", [item])

    def statistics(self, request: object) -> Json:
        """Write counters of listeners. Items before the first bad one stay written."""
        items = request.get("listeners") if isinstance(request, dict) else None
        if not isinstance(items, list):
            return fault("Statistics are an object with the list listeners.", stats_object="listeners")

        def write(conn: Connection) -> Refused | None:
            for item in items:
                try:
                    reports.count(conn, item)
                except Refused as e:
                    return e
            return None

        refused = self._store.written(write)
        return fault(str(refused), **refused.told) if refused else OK

    def get(self, request: object) -> Json:
        """One object in octavia-lib's words, with all that is below it; empty when there is none."""
        kind, id = (request.get("object"), request.get("id")) if isinstance(request, dict) else (None, None)
        if not isinstance(id, str) or not isinstance(kind, str) or kind not in reports.KINDS:
            return fault("A request for an object has object, one of the collections' names, and id.")
        with self._store.read() as conn:
            found = reports.described(conn, kind, id.lower())
        if found is None:
            return {}
        from colonnade.drivers.provider_models import Translator

        tree, value, flavor, zone = found
        project_id = tree.load_balancer.project_id
        translator = Translator(
            tree=tree,
            fetch=lambda ref: self._fetch(ref, project_id),
            flavor=flavor,
            zone=zone,
            strict=False,
            leaving=True,
        )
        made: Json = translator.of(value).to_dict(recurse=True, render_unsets=True)
        return made

    def _fetch(self, ref: str, project_id: str) -> Material:
        if self._secrets is None:
            raise Broken(f"There is no key manager to ask for {ref}.")
        return self._secrets.fetch(ref, project_id)

"""Requests made by chance from the served OpenAPI document: nothing the API answers is a server error, it is what the
document says, and a request that breaks the document is refused. Bounded to about a minute."""

import os
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from hypothesis.strategies import booleans
from lb_service import Service
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)  # fmt: skip

from colonnade.api import openapi
from colonnade.store import schema as tables_of
from colonnade.store.store import Store
from colonnade.types import UUID

pytestmark = pytest.mark.any_database

EXAMPLES = int(os.environ.get("COLONNADE_EXAMPLES", "10"))
_CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance,
           unsupported_method, negative_data_rejection]  # fmt: skip


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One service for all requests."""
    url = f"sqlite:///{Path(tmp_path_factory.mktemp('fuzzed')) / 'db.sqlite'}"
    tables_of.upgrade(url)
    store = Store(url)
    service = Service(store)
    yield service
    store.close()


class Made:
    """A load balancer with one of each, for requests to meet."""

    def __init__(self, service: Service) -> None:
        lb = service.load_balancer(by="admin", project_id="alice-project", name="one")
        pool = service.pool(lb)
        listener = service.listener(lb, default_pool_id=pool["id"])
        policy = service.policy(listener, action="REDIRECT_TO_POOL", redirect_pool_id=pool["id"])
        self.ids = {
            "redirect_pool_id": pool["id"], "l7policies": policy["id"], "rules": service.rule(policy)["id"],
            "loadbalancer_id": lb["id"], "pool_id": pool["id"], "default_pool_id": pool["id"],
            "listener_id": listener["id"], "vip_subnet_id": service.subnet.id, "subnet_id": service.subnet.id,
            "loadbalancers": lb["id"], "listeners": listener["id"], "pools": pool["id"],
            "members": service.member(pool)["id"], "healthmonitors": service.monitor(pool)["id"],
        }  # fmt: skip

    def name_in(self, case: Any) -> None:
        """Put real ids where the request has good ids of nothing."""
        parameters = case.path_parameters if isinstance(case.path_parameters, dict) else {}
        parts = case.operation.path.split("/")
        for name, value in parameters.items():
            if _good(value):
                parameters[name] = self.ids.get(parts[parts.index(f"{{{name}}}") - 1], value)
        for inner in case.body.values() if isinstance(case.body, dict) else ():
            if isinstance(inner, dict):
                inner.update({k: v for k, v in self.ids.items() if _good(inner.get(k))})
                for name in ("vip_port_id", "vip_network_id"):
                    if _good(inner.get(name)):
                        inner[name] = None


def _good(value: Any) -> bool:
    return isinstance(value, str) and UUID.fullmatch(value) is not None


def _operations() -> list[Any]:
    schema = schemathesis.openapi.from_dict(openapi.document())
    return [result.ok() for result in schema.get_all_operations()]


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=lambda m: m.value)
@pytest.mark.parametrize("operation", _operations(), ids=lambda o: o.label)
def test_no_request_breaks_the_server(operation: Any, mode: Any, fuzzed: Service) -> None:
    schema = schemathesis.openapi.from_wsgi("/load-balancer/openapi.json", fuzzed.wsgi)
    schema.config.generation.update(with_security_parameters=False)
    made = Made(fuzzed)

    @settings(
        max_examples=EXAMPLES, deadline=None, derandomize=True, phases=(Phase.explicit, Phase.generate),
        database=None, suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=schema[operation.path][operation.method].as_strategy(generation_mode=mode), real=booleans())
    def run(case: Any, real: bool) -> None:
        if real:
            made.name_in(case)
        response = case.call(headers={"X-Auth-Token": "admin"})
        case.validate_response(response, checks=_CHECKS)

    try:
        run()
    except Unsatisfiable:
        assert mode is schemathesis.GenerationMode.NEGATIVE, "no request fits the document"

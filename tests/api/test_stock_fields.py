"""Every field that the stock client shows is one of ours: it prints what is missing as an empty cell."""

import pytest
from lb_service import Service
from octaviaclient.osc.v2 import constants

from colonnade.store import amphorae
from colonnade.types import Role

pytestmark = pytest.mark.any_database


@pytest.fixture
def filled(service: Service) -> Service:
    """One of everything."""
    lb = service.load_balancer()
    listener, pool = service.listener(lb), service.pool(lb)
    service.member(pool)
    service.monitor(pool)
    service.rule(service.policy(listener))
    profile = {"name": "fp", "provider_name": "amphora", "flavor_data": "{}"}
    made = service.post("flavorprofiles", {"flavorprofile": profile}, by="admin")["flavorprofile"]
    service.post("flavors", {"flavor": {"name": "f", "flavor_profile_id": made["id"]}}, by="admin")
    zone = {"name": "zp", "provider_name": "amphora", "availability_zone_data": "{}"}
    path = "availabilityzoneprofiles"
    made = service.post(path, {"availability_zone_profile": zone}, by="admin")["availability_zone_profile"]
    zone = {"name": "z", "availability_zone_profile_id": made["id"]}
    service.post("availabilityzones", {"availability_zone": zone}, by="admin")
    with service.store.write() as conn:
        amphorae.add(conn, lb["id"], Role.STANDALONE, 1, service.clock.now())
    service.put("quotas/alice-project", {"quota": {"pool": 5}}, by="admin", expect=202)
    return service


@pytest.mark.parametrize(
    ("path", "fields"),
    [("loadbalancers", constants.LOAD_BALANCER_ROWS), ("listeners", constants.LISTENER_ROWS),
     ("pools", constants.POOL_ROWS), ("pools/{pools}/members", constants.MEMBER_ROWS),
     ("healthmonitors", constants.MONITOR_ROWS), ("l7policies", constants.L7POLICY_ROWS),
     ("l7policies/{l7policies}/rules", constants.L7RULE_ROWS),
     ("/v2/octavia/amphorae", constants.AMPHORA_ROWS), ("quotas", constants.QUOTA_COLUMNS),
     ("providers", constants.PROVIDER_COLUMNS), ("flavors", constants.FLAVOR_ROWS),
     ("flavorprofiles", constants.FLAVORPROFILE_ROWS), ("availabilityzones", constants.AVAILABILITYZONE_ROWS),
     ("availabilityzoneprofiles", constants.AVAILABILITYZONEPROFILE_ROWS)],
)  # fmt: skip
def test_what_the_client_shows_is_served(filled: Service, path: str, fields: tuple[str, ...]) -> None:
    ids = {kind: filled.get(kind)[kind][0]["id"] for kind in ("pools", "l7policies")}
    documents = next(iter(filled.get(path.format(**ids), by="admin").values()))
    assert documents
    assert all(set(fields) - set(document) == set() for document in documents), set(fields) - set(documents[0])

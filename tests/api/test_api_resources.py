"""Each kind of object: created, shown, listed, changed, deleted; what a reply holds; what a write marks PENDING."""

from lb_service import Service, nobody_has


def test_a_load_balancer_lives_and_dies(service: Service) -> None:
    lb = service.load_balancer(name="web", description="two\nlines", tags=["a", "b", "a"])
    assert lb["provisioning_status"] == "PENDING_CREATE"
    assert lb["tags"] == ["a", "b"]
    shown = service.get(f"loadbalancers/{lb['id']}")["loadbalancer"]
    assert shown == lb
    service.settle()
    changed = service.put(f"loadbalancers/{lb['id']}", {"loadbalancer": {"name": "www", "admin_state_up": None}})
    assert (changed["loadbalancer"]["name"], changed["loadbalancer"]["admin_state_up"]) == ("www", False)
    assert changed["loadbalancer"]["provisioning_status"] == "PENDING_UPDATE"
    service.delete(f"loadbalancers/{lb['id']}")
    assert service.statuses(f"loadbalancers/{lb['id']}") == ["PENDING_DELETE"]
    service.settle()
    service.get(f"loadbalancers/{nobody_has()}", expect=404)
    service.get(f"loadbalancers/{lb['id']}", expect=404)

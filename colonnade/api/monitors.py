"""Health monitors: what may be asked of them."""

from colonnade.api import access, rules, shapes, trees, writing
from colonnade.api.listing import Listed
from colonnade.api.resources import Kind
from colonnade.api.trees import Change
from colonnade.clock import utc
from colonnade.model import Caller, HealthMonitor, LoadBalancer, Pool, Tree
from colonnade.store import query, tables
from colonnade.types import HttpMethod, Json, MonitorType

_HTTP_DEFAULTS: Json = {"http_method": HttpMethod.GET, "url_path": "/", "expected_codes": "200"}


class HealthMonitors(Kind[HealthMonitor]):
    """The kind."""

    cls = HealthMonitor
    body = shapes.HEALTH_MONITOR
    listed = Listed(cls=HealthMonitor, plural="healthmonitors", also=("pool_id",), scoped=True)
    policy = "healthmonitor"

    def creation(self, who: Caller, given: Json) -> tuple[Tree, str]:
        pool_id = given["pool_id"]
        with self.api.store.read() as conn:
            lb_id, project_id = trees.existing(query.owner(conn, tables.pool, pool_id), Pool, pool_id)
        access.check("healthmonitor:post", who, project_id)
        its_id = writing.new_id()

        def decide(tree: Tree) -> Change:
            pool = trees.find_mutable(tree, Pool, pool_id)
            monitor = self.made(tree.load_balancer, pool, {**given, "id": its_id})
            rules.monitor_is_alone(tree, pool_id)
            tree = trees.mark(trees.put(tree, monitor), pool_id=pool_id, pool_itself=True)
            return Change(
                tree=tree, about=("healthmonitor", its_id), sentence=f"Asked to create {name(monitor)} of {_of(pool)}."
            )

        return writing.change(self.api, lb_id, decide), its_id

    def made(self, lb: LoadBalancer, pool: Pool, given: Json) -> HealthMonitor:
        """A new monitor that may check the pool."""
        fields = {k: v for k, v in given.items() if k not in ("project_id", "tenant_id") and v is not None}
        if fields["type"] in (MonitorType.HTTP, MonitorType.HTTPS):
            fields = {**_HTTP_DEFAULTS, **fields}
        monitor = HealthMonitor(**writing.new_fields(self.api, lb, {**fields, "pool_id": pool.id}))
        rules.monitor_allowed(monitor.type, ping=self.api.settings.api_settings.allow_ping_health_monitors)
        rules.pool_takes_monitor(pool.protocol, monitor.type)
        rules.monitor(monitor, fields)
        rules.monitor_interval(monitor, self.api.settings.api_settings.udp_connect_min_interval_health_monitor)
        return monitor

    def resolved(self, old: HealthMonitor, given: Json) -> Json:
        found = super().resolved(old, given)
        return {k: _HTTP_DEFAULTS[k] if v is None and k in _HTTP_DEFAULTS else v for k, v in found.items()}

    def update(self, tree: Tree, old: HealthMonitor, given: Json) -> Change:
        new = trees.changed(old, given, utc(self.api.clock.now()))
        rules.monitor(new, given)
        rules.monitor_interval(new, self.api.settings.api_settings.udp_connect_min_interval_health_monitor)
        return self._change(tree, new, f"Asked to change {name(new)}")

    def delete(self, tree: Tree, old: HealthMonitor) -> Change:
        return self._change(tree, trees.leaving(old, utc(self.api.clock.now())), f"Asked to delete {name(old)}")

    def _change(self, tree: Tree, new: HealthMonitor, sentence: str) -> Change:
        pool = trees.find_mutable(tree, Pool, new.pool_id)
        tree = trees.mark(trees.put(tree, new), pool_id=pool.id, pool_itself=True)
        return Change(tree=tree, about=("healthmonitor", new.id), sentence=f"{sentence} of {_of(pool)}.")


def _of(pool: Pool) -> str:
    return f"pool {pool.name or pool.id}"


def name(monitor: HealthMonitor) -> str:
    """The monitor in words."""
    return f"health monitor {monitor.name or monitor.id} ({monitor.type} every {monitor.delay} s)"

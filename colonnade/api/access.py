"""Who may do what: rules named as oslo.policy targets, so that a policy file can take this table's place."""

from typing import Literal

from colonnade.errors import Forbidden
from colonnade.model import Caller

Rule = Literal["read", "read-global", "write", "admin"]

_USER = ("loadbalancer", "listener", "pool", "healthmonitor", "l7policy")

RULES: dict[str, Rule] = {
    **{f"{r}:{verb}": "read" for r in (*_USER, "member", "l7rule", "quota") for verb in ("get_all", "get_one")},
    **{f"{r}:get_all-global": "read-global" for r in (*_USER, "quota")},
    **{f"{r}:{verb}": "write" for r in (*_USER, "member", "l7rule") for verb in ("post", "put", "delete")},
    "loadbalancer:post:vip_sg_ids": "write",
    "loadbalancer:put:vip_sg_ids": "write",
    "loadbalancer:get_stats": "read",
    "loadbalancer:get_status": "read",
    "loadbalancer:put_failover": "admin",
    "listener:get_stats": "read",
    "quota:get_defaults": "read",
    **{f"quota:{verb}": "admin" for verb in ("put", "delete")},
    "provider:get_all": "read",
    "provider-flavor:get_all": "admin",
    "provider-availability-zone:get_all": "admin",
    **{f"{r}:{verb}": "read" for r in ("flavor", "availability-zone") for verb in ("get_all", "get_one")},
    **{f"{r}:{verb}": "admin" for r in ("flavor", "availability-zone") for verb in ("post", "put", "delete")},
    **{
        f"{r}:{verb}": "admin"
        for r in ("flavor-profile", "availability-zone-profile")
        for verb in ("get_all", "get_one", "post", "put", "delete")
    },
    **{f"amphora:{verb}": "admin" for verb in ("get_all", "get_one", "get_stats", "put_config", "put_failover")},
    "amphora:delete": "admin",
}


def allows(target: str, caller: Caller, project_id: str | None) -> bool:
    """Whether the caller may do ``target`` (without its ``os_load-balancer_api:``) to an object of this project."""
    if caller.is_admin:
        return True
    own = project_id is not None and project_id == caller.project_id
    match RULES[target]:
        case "write":
            return own and "member" in caller.roles
        case "read":
            return own and not caller.roles.isdisjoint(("reader", "member"))
        case _:
            return False


def check(target: str, caller: Caller, project_id: str | None) -> None:
    """Raise Forbidden unless ``allows``."""
    if not allows(target, caller, project_id):
        raise Forbidden("Policy does not allow this request to be performed.")


def listed_project(resource: str, caller: Caller, asked: str | None) -> str | None:
    """The project a list is limited to; None: all of them."""
    if allows(f"{resource}:get_all-global", caller, asked):
        return asked
    project_id = asked or caller.project_id
    check(f"{resource}:get_all", caller, project_id)
    return project_id

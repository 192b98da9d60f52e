"""Doing a step: the only place that changes the world. Effects stand outside transactions; intents are rows first."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from sqlalchemy import Connection, update

from colonnade import wire
from colonnade.clock import Clock
from colonnade.core.steps import Await, Boot, Plug, Push, ReleaseVip, Remove, Step, TakeVip, Unplug
from colonnade.drivers import AmphoraLink, Compute, Network, SecretStore
from colonnade.errors import ApiError, Broken, Later
from colonnade.model import Subnet
from colonnade.store import amphorae, work
from colonnade.store.rows import to_row
from colonnade.store.store import Store
from colonnade.store.tables import load_balancer
from colonnade.types import AmphoraStatus
from colonnade.worker.observe import Seen, Sight, address_on


@dataclass(kw_only=True)
class Hands:
    """What one turn works with. ``fabric_first`` brings a stand-alone host's networks up to date; whether it did."""

    store: Store
    network: Network
    compute: Compute
    link: AmphoraLink
    clock: Clock
    lease: work.Lease
    lease_s: float
    fabric_first: Callable[[], bool]
    secrets: SecretStore | None = None  # None: an installation without a key manager

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that counts only while the lease is ours; it renews it. Raises work.Lost."""
        with self.store.write() as conn:
            now = self.clock.now()
            work.renew(conn, self.lease, now, self.lease_s)
            yield conn
        self.lease = replace(self.lease, expires_at=now + self.lease_s)

    def hold(self) -> None:
        """Renew the lease when half of it is gone: before each effect, for the one before may have taken long.
        Raises work.Lost."""
        if self.clock.now() > self.lease.expires_at - self.lease_s / 2:
            with self.write():
                pass


def apply(step: Step, sight: Sight, hands: Hands) -> str:
    """Do the step, note in ``sight`` what came of it, and say it in words. Raises Later, Broken, work.Lost."""
    hands.hold()
    try:
        match step:
            case TakeVip():
                return _take_vip(sight, hands)
            case ReleaseVip():
                return _release_vip(sight, hands)
            case Boot():
                return _boot(step, sight, hands)
            case Plug(amphora=id, network=network):
                return _plug(sight.amphorae[id], network, sight, hands)
            case Push(amphora=id, bundle=bundle):
                return _push(sight.amphorae[id], bundle, sight, hands)
            case Unplug(amphora=id, network=network):
                return _unplug(sight.amphorae[id], network, hands)
            case Await(why=why):
                raise Later(why)
            case Remove(amphora=id):
                return _remove(sight.amphorae[id], sight, hands)
    except ApiError as e:  # a driver that would answer a user so: no use in trying the same again
        raise Broken(e.sentence, "Change the load balancer, or delete it.") from e


def _take_vip(sight: Sight, hands: Hands) -> str:
    balancer = sight.balancer
    if not balancer.vip_owned:
        raise Broken(
            f"The VIP's port {balancer.vip_port_id} does not exist any more.",
            "It was not made by the load balancer: delete the load balancer and create it anew on another port.",
        )
    subnet = _vip_subnet(hands, balancer.vip_subnet_id or "")
    more = [(_vip_subnet(hands, v.subnet_id), v.ip_address) for v in balancer.additional_vips]
    vip = hands.network.ensure_vip(balancer.id, balancer.project_id, subnet, balancer.vip_address, more)
    address = address_on(vip, subnet.id)
    found = replace(
        balancer, vip_port_id=vip.id, vip_network_id=vip.network_id, vip_address=address,
        additional_vips=tuple(
            replace(v, port_id=vip.id, ip_address=address_on(vip, v.subnet_id)) for v in balancer.additional_vips
        ),
    )  # fmt: skip
    row = {k: v for k, v in to_row(found).items() if k in _OF_PORT}
    with hands.write() as conn:
        conn.execute(update(load_balancer).where(load_balancer.c.id == balancer.id).values(row))
    sight.took_vip(vip, found)
    return f"took the VIP {address}"


# What follows from the port. Users change other columns of the row meanwhile.
_OF_PORT = frozenset({"vip_port_id", "vip_network_id", "vip_address", "additional_vips"})


def _vip_subnet(hands: Hands, subnet_id: str) -> Subnet:
    subnet = hands.network.subnet(subnet_id)
    if subnet is None:
        raise Broken(f"The VIP's subnet {subnet_id} does not exist.", "Delete the load balancer.")
    return subnet


def _release_vip(sight: Sight, hands: Hands) -> str:
    vip, sight.vip = sight.vip, None
    if vip is not None:
        hands.network.release(vip.id)
    return "released the VIP"


def _boot(step: Boot, sight: Sight, hands: Hands) -> str:
    if step.amphora is None:
        with hands.write() as conn:
            lb, seat = sight.balancer, step.seat
            made_of = {"compute_flavor": lb.compute_flavor, "zone": lb.compute_zone}
            row = amphorae.add(conn, lb.id, seat.role, seat.incarnation, hands.clock.now(), **made_of)
        seen = sight.amphorae[row.id] = Seen(stored=row, row=row)
    else:
        seen = sight.amphorae[step.amphora]
    hands.hold()
    agent_url = hands.compute.ensure(seen.row.id, seen.row.heartbeat_key)
    starting = AmphoraStatus.BOOTING if seen.row.status == AmphoraStatus.PENDING_CREATE else seen.row.status
    seen.row = replace(
        seen.row, agent_url=agent_url, compute_id=seen.row.id, image_id=hands.compute.image_id, status=starting,
        digest=None,
    )  # fmt: skip
    seen.there, seen.silent, seen.failing = True, None, None
    return f"{'booted' if step.amphora is None else 'made again'} amphora {seen.row.id}"


def _plug(seen: Seen, network: str, sight: Sight, hands: Hands) -> str:
    port = hands.network.ensure_plugged(seen.row.id, sight.subnets[network])
    seen.ports[network], seen.bundle = port, None
    return f"plugged amphora {seen.row.id} into network {network}"


def _push(seen: Seen, digest: str, sight: Sight, hands: Hands) -> str:
    agent_url, bundle = seen.row.agent_url, seen.bundle
    if agent_url is None or bundle is None:
        raise Later(f"Amphora {seen.row.id} is not known well enough yet.")
    body = wire.to_json(bundle)
    try:
        answer = hands.link.push(agent_url, seen.row.id, body)
    except Later:
        if not hands.fabric_first():
            raise
        hands.hold()
        answer = hands.link.push(agent_url, seen.row.id, body)
    seen.answered(answer)
    if seen.row.digest != digest:
        raise Later(f"Amphora {seen.row.id} was given bundle {digest[:12]} and runs another.")
    return f"gave amphora {seen.row.id} bundle {digest[:12]}"


def _unplug(seen: Seen, network: str, hands: Hands) -> str:
    hands.network.release(seen.ports[network].id)
    del seen.ports[network]
    return f"unplugged amphora {seen.row.id} from network {network}"


def _remove(seen: Seen, sight: Sight, hands: Hands) -> str:
    """The place first: a port must not be given to another while something still uses its address."""
    id = seen.row.id
    leaving = replace(seen.stored, status=AmphoraStatus.PENDING_DELETE)
    if seen.stored != leaving:
        with hands.write() as conn:
            amphorae.change(conn, seen.stored, leaving, hands.clock.now())
        seen.stored = leaving
        seen.row = replace(seen.row, status=AmphoraStatus.PENDING_DELETE)
    hands.hold()
    hands.compute.remove(id, seen.row.agent_url)
    for port in hands.network.plugged(id):
        hands.hold()
        hands.network.release(port.id)
    with hands.write() as conn:
        amphorae.drop(conn, id)
    del sight.amphorae[id]
    return f"removed amphora {id}"

"""Looking at one load balancer: its tree in the database, and what drivers and agents say of the world."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from colonnade import wire
from colonnade.core import certificates, haproxy, tls, traffic
from colonnade.core.certificates import Found, Gathered
from colonnade.core.plan import Desired, Observed, Place
from colonnade.core.steps import Seat
from colonnade.drivers import AmphoraLink, Network, SecretStore
from colonnade.errors import Broken, Later
from colonnade.model import Amphora, LoadBalancer, NetworkPort, Subnet, Tree
from colonnade.types import AmphoraStatus, Json, Role

Render = Callable[[Tree, Amphora, Sequence[NetworkPort], NetworkPort], wire.Bundle]


@dataclass(kw_only=True, slots=True)
class Seen:
    """An amphora during one turn: its row as stored, its row as it should be stored, and what is known of it."""

    stored: Amphora
    row: Amphora
    there: bool = False
    silent: str | None = None
    failing: str | None = None
    ports: dict[str, NetworkPort] = field(default_factory=dict)  # by network
    bundle: wire.Bundle | None = None  # the one rendered for these ports
    secrets: tuple[str, ...] = ()  # certificates' files that it has

    def answered(self, answer: Json | None) -> None:
        """Take in what its agent says (wire.Observed); None: the agent has no such amphora."""
        self.silent = None
        self.there = answer is not None
        found = answer or {}
        self.row = dataclasses.replace(self.row, digest=found.get("digest"))
        self.secrets = tuple(found.get("secrets") or ())
        ending = found.get("haproxy") == "failing"
        why = found.get("error") or ("it ends as soon as it is started" if ending else None)
        what = "HAProxy does not run in amphora" if ending else "Its agent cannot have as wanted amphora"
        self.failing = f"{what} {self.row.id}: {why}" if why else None

    def truthful(self, vip: NetworkPort | None, balancer: LoadBalancer) -> Amphora:
        """Its row with the addresses it has, and ALLOCATED once it runs a bundle."""
        port = self.ports.get(vip.network_id) if vip else None
        row = self.row
        if vip and port:
            own = address_on(port, balancer.vip_subnet_id)
            row = dataclasses.replace(
                row, lb_network_ip=own, vrrp_ip=own, vrrp_port_id=port.id, ha_ip=balancer.vip_address, ha_port_id=vip.id
            )
        starting = row.status in (AmphoraStatus.PENDING_CREATE, AmphoraStatus.BOOTING)
        return dataclasses.replace(row, status=AmphoraStatus.ALLOCATED) if starting and row.digest else row

    def place(self) -> Place:
        """What the plan needs to know of it."""
        return Place(
            id=self.row.id,
            seat=Seat(role=self.row.role or Role.STANDALONE, incarnation=self.row.incarnation),
            there=self.there,
            silent=self.silent,
            leaving=self.row.status == AmphoraStatus.PENDING_DELETE,
            networks={n: frozenset(f.subnet_id for f in p.fixed_ips) for n, p in self.ports.items()},
            bundle=self.row.digest,
            failing=self.failing,
        )


@dataclass(kw_only=True, slots=True)
class Sight:
    """One load balancer as it was found, kept up to date by the steps of the turn. ``live`` is the tree without what
    is to go; ``subnets`` are those that amphorae are needed on, by network."""

    tree: Tree
    live: Tree
    vip: NetworkPort | None
    subnets: dict[str, list[Subnet]] = field(default_factory=dict)
    amphorae: dict[str, Seen] = field(default_factory=dict)
    traffic: wire.Traffic = field(default_factory=wire.Traffic)  # what may reach the VIPs, and how fast
    found: Mapping[str, Found] = field(default_factory=dict)  # what references into the key manager lead to
    problems: dict[str, str] = field(default_factory=dict)  # listener or pool -> what is wrong with its certificates
    waiting: tuple[str, ...] = ()  # why something is left out that may come yet

    @property
    def balancer(self) -> LoadBalancer:
        return self.tree.load_balancer

    def took_vip(self, vip: NetworkPort, found: LoadBalancer) -> None:
        """The VIP's port is this one now, and the load balancer knows."""
        self.vip = vip
        self.tree = dataclasses.replace(self.tree, load_balancer=found)
        self.live = dataclasses.replace(self.live, load_balancer=found)
        for seen in self.amphorae.values():
            seen.bundle = None

    def desired(self, render: Render) -> Desired | None:
        """What is wanted. Bundles are rendered for amphorae that have all their ports."""
        if self.tree.delete_wanted:
            return None
        networks = {n: frozenset(s.id for s in subnets) for n, subnets in self.subnets.items()}
        digests = {}
        for id, seen in self.amphorae.items():
            plugged = seen.place().networks
            if self.vip and all(subnets == plugged.get(n) for n, subnets in networks.items()):
                if seen.bundle is None:
                    ports = [p for n, p in seen.ports.items() if n in networks]
                    seen.bundle = self._rendered(render, seen, ports, self.vip)
                digests[id] = wire.digest(seen.bundle)
        return Desired(seats=_seats(self.balancer), networks=networks, bundles=digests)

    def _rendered(
        self, render: Render, seen: Seen, ports: Sequence[NetworkPort], vip: NetworkPort
    ) -> wire.Bundle:  # fmt: skip
        """The bundle, with the certificates that it needs and what may reach its VIPs."""
        return dataclasses.replace(self._with_certificates(render, seen, ports, vip), traffic=self.traffic)

    def _with_certificates(
        self, render: Render, seen: Seen, ports: Sequence[NetworkPort], vip: NetworkPort
    ) -> wire.Bundle:  # fmt: skip
        if not self.found:
            return render(self.live, seen.row, ports, vip)
        gathered: Gathered = certificates.gather(self.live, self.found, seen.secrets)
        self.problems, self.waiting = gathered.problems, gathered.waiting
        bundle = render(gathered.tree, seen.row, ports, vip)
        needed = set(served_files(gathered.tree)) if bundle.files else set()
        return dataclasses.replace(
            bundle,
            files=bundle.files | {n: text for n, text in gathered.files.items() if n in needed},
            keep=tuple(n for n in gathered.keep if n in needed),
        )

    def observed(self) -> Observed:
        """What is there."""
        places = tuple(seen.place() for seen in self.amphorae.values())
        return Observed(vip=self.vip is not None, vip_owned=self.balancer.vip_owned, amphorae=places)


def look(tree: Tree, network: Network, link: AmphoraLink, secrets: SecretStore | None = None) -> Sight:
    """What is there for this load balancer now. Raises Later or Broken when that cannot be known."""
    vip_port = tree.load_balancer.vip_port_id
    sight = Sight(tree=tree, live=live(tree), vip=network.port(vip_port) if vip_port else None)
    if not tree.delete_wanted:
        sight.subnets = _subnets(sight.live, network)
        sight.traffic = _traffic(sight.balancer, network)
        sight.found = {use.ref: fetch(use.ref, tree, secrets) for use in tls.uses(sight.live)}
    for row in tree.amphorae:
        seen = sight.amphorae[row.id] = Seen(stored=row, row=row)
        if tree.delete_wanted:
            continue  # it goes, whatever it says
        seen.ports = {p.network_id: p for p in network.plugged(row.id)}
        if row.agent_url:
            _ask(seen, row.agent_url, link)
    return sight


def fetch(ref: str, tree: Tree, secrets: SecretStore | None) -> Found:
    """What the reference leads to, or why it leads nowhere."""
    if secrets is None:
        return Broken("This installation has no key manager.", "Configure one, or delete what needs it.")
    try:
        return secrets.fetch(ref, tree.load_balancer.project_id)
    except (Later, Broken) as e:
        return e


def served_files(tree: Tree) -> list[str]:
    """Files of what is up: an amphora gets no key that it does not need."""
    up = {x.id for x, _ in haproxy.served(tree)} | {p.id for _, p in haproxy.used(tree)}
    return [use.file for use in tls.uses(tree) if use.owner in up]


def live(tree: Tree) -> Tree:
    """The tree without what is to be deleted, and without what lives in that or points at it."""
    pools = tuple(p for p in tree.pools if not p.going)
    kept = {p.id for p in pools}
    listeners = [x for x in tree.listeners if not x.going]
    heard = {x.id for x in listeners}
    policies = tuple(p for p in tree.l7policies if p.listener_id in heard and not p.going)
    obeyed = {p.id for p in policies}
    return dataclasses.replace(
        tree,
        listeners=tuple(
            x if x.default_pool_id in kept else dataclasses.replace(x, default_pool_id=None) for x in listeners
        ),
        pools=pools,
        members=tuple(m for m in tree.members if m.pool_id in kept and not m.going),
        health_monitors=tuple(h for h in tree.health_monitors if h.pool_id in kept and not h.going),
        l7policies=policies,
        l7rules=tuple(r for r in tree.l7rules if r.l7policy_id in obeyed and not r.going),
    )


def address_on(port: NetworkPort, subnet_id: str | None) -> str | None:
    """The port's address on the subnet; its first one when it has none there."""
    on_it = [f.address for f in port.fixed_ips if f.subnet_id == subnet_id] or [f.address for f in port.fixed_ips]
    return on_it[0] if on_it else None


def _seats(balancer: LoadBalancer) -> tuple[Seat, ...]:
    """Who is wanted, by topology. ACTIVE_STANDBY will be two roles here."""
    if balancer.topology != "SINGLE":
        raise Broken(f"Topology {balancer.topology} is not known here.", "Delete the load balancer.")
    return (Seat(role=Role.STANDALONE, incarnation=balancer.incarnation),)


def _subnets(tree: Tree, network: Network) -> dict[str, list[Subnet]]:
    """The VIPs' subnets and those of members, by network, the VIPs' first."""
    balancer = tree.load_balancer
    vips = (balancer.vip_subnet_id, *(v.subnet_id for v in balancer.additional_vips))
    wanted = dict.fromkeys(vips, f"Load balancer {balancer.id}")
    for member in tree.members:
        wanted.setdefault(member.subnet_id, f"Member {member.id}")
    found: dict[str, list[Subnet]] = {}
    for subnet_id, who in wanted.items():
        if subnet_id is None:
            continue
        subnet = network.subnet(subnet_id)
        if subnet is None:
            raise Broken(f"{who} is on subnet {subnet_id}, which does not exist any more.", f"Delete {_lower(who)}.")
        found.setdefault(subnet.network_id, []).append(subnet)
    return found


def _traffic(balancer: LoadBalancer, network: Network) -> wire.Traffic:
    groups = network.security_groups(balancer.vip_sg_ids) if balancer.vip_sg_ids else []
    policy = network.qos_policy(balancer.vip_qos_policy_id) if balancer.vip_qos_policy_id else None
    return traffic.traffic(balancer, groups, policy)


def _lower(who: str) -> str:
    return who[0].lower() + who[1:]


def _ask(seen: Seen, agent_url: str, link: AmphoraLink) -> None:
    try:
        seen.answered(link.observe(agent_url, seen.row.id))
    except Later as e:  # an amphora that does not answer is an observation: the plan decides what follows
        seen.there, seen.silent = True, str(e)

"""What the loop can do to the world. Each step is safe to repeat; ``about`` names the one thing that it is done to."""

from dataclasses import dataclass

from colonnade.types import Role


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Seat:
    """A place that one amphora of a load balancer is wanted for."""

    role: Role
    incarnation: int

    def __str__(self) -> str:
        return f"{self.role}/{self.incarnation}"


@dataclass(frozen=True, slots=True)
class TakeVip:
    """Make the VIP's port, which is gone or was never there."""

    @property
    def about(self) -> str:
        return "vip"


@dataclass(frozen=True, slots=True)
class ReleaseVip:
    """Remove the VIP's port."""

    @property
    def about(self) -> str:
        return "vip"


@dataclass(frozen=True, slots=True)
class Boot:
    """Make an amphora for the seat: a new one, or the place of one that has its row already."""

    seat: Seat
    amphora: str | None = None

    @property
    def about(self) -> str:
        return self.amphora or str(self.seat)


@dataclass(frozen=True, slots=True)
class Plug:
    """Give the amphora a port on the network, with an address on each of the wanted subnets and on no other."""

    amphora: str
    network: str

    @property
    def about(self) -> str:
        return self.amphora


@dataclass(frozen=True, slots=True)
class Push:
    """Make the amphora be as its bundle says; ``bundle`` is the digest."""

    amphora: str
    bundle: str

    @property
    def about(self) -> str:
        return self.amphora


@dataclass(frozen=True, slots=True)
class Unplug:
    """Remove the amphora's port on the network, which its bundle names no more."""

    amphora: str
    network: str

    @property
    def about(self) -> str:
        return self.amphora


@dataclass(frozen=True, slots=True)
class Await:
    """Nothing can be done but look again later; ``why`` is for the load balancer's owner."""

    amphora: str
    why: str

    @property
    def about(self) -> str:
        return self.amphora


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove the amphora, its ports and its row."""

    amphora: str

    @property
    def about(self) -> str:
        return self.amphora


Step = TakeVip | ReleaseVip | Boot | Plug | Push | Unplug | Await | Remove

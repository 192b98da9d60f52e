"""What the loop can do to the world. Each step is safe to repeat."""

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


@dataclass(frozen=True, slots=True)
class ReleaseVip:
    """Remove the VIP's port."""


@dataclass(frozen=True, slots=True)
class Boot:
    """Make an amphora for the seat: a new one, or the place of one that has its row already."""

    seat: Seat
    amphora: str | None = None


@dataclass(frozen=True, slots=True)
class Plug:
    """Give the amphora a port on the network, with an address on each of the wanted subnets and on no other."""

    amphora: str
    network: str


@dataclass(frozen=True, slots=True)
class Push:
    """Make the amphora be as its bundle says; ``bundle`` is the digest."""

    amphora: str
    bundle: str


@dataclass(frozen=True, slots=True)
class Unplug:
    """Remove the amphora's port on the network, which its bundle names no more."""

    amphora: str
    network: str


@dataclass(frozen=True, slots=True)
class Await:
    """Nothing can be done but look again later; ``why`` is for the load balancer's owner."""

    amphora: str
    why: str


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove the amphora, its ports and its row."""

    amphora: str


Step = TakeVip | ReleaseVip | Boot | Plug | Push | Unplug | Await | Remove


def about(step: Step) -> str:
    """The one thing that the step is done to."""
    match step:
        case TakeVip() | ReleaseVip():
            return "vip"
        case Boot(seat, amphora):
            return amphora or str(seat)
        case Plug() | Push() | Unplug() | Await() | Remove():
            return step.amphora

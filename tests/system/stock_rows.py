"""What a table of the stock client's commands is made of, and what the installed client has that no row uses."""

import argparse
import functools
import shlex
import string
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any

from cliff.command import Command
from cliff.lister import Lister
from cliff.show import ShowOne
from standalone import Standalone
from support import eventually

_FORMATTING = frozenset(  # how the client's own output looks
    {"--help", "--format", "--column", "--quote", "--noindent", "--max-width", "--fit-width", "--print-empty",
     "--prefix", "--variable"}
)  # fmt: skip
_FASTER = 10


@dataclass
class World:
    """What the rows of a chapter share: names for ids, and the client, kept running."""

    standalone: Standalone
    names: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # It waits as often as it would, but a tenth as long each time: 3 s for each --wait are no finding.
        self._client = self.standalone.client(_FASTER)

    def close(self) -> None:
        self._client.close()

    def run(self, text: str, form: bool = False) -> tuple[int, Any, str]:
        """One command of the client: its exit code, what it shows (parsed JSON where it is), what it complains."""
        words = [string.Template(w).substitute(self.names) for w in shlex.split(text)]
        return self._client.run([*words, *(["-f", "json"] if form else [])])

    def shown(self, text: str) -> Any:
        """What a command shows that must succeed."""
        code, out, err = self.run(text, form=_forms(text))
        assert code == 0, f"{text}: {err}"
        return out


Shows = Mapping[str, Any] | list[str] | Callable[[World, Any], object]


@dataclass(frozen=True, slots=True)
class Row:
    """One command (what follows ``openstack``), the command that reads its effect back, and what that one shows.

    ``reads`` empty: the command's own output. ``shows``: the fields of an object that matter; or the names in a list;
    or a predicate. ``says``: the command must fail and say this. ``gone``: reading it back must fail, for want of it.
    ``keep``: the id in its output goes by this name ($name) from now on.
    """

    command: str
    reads: str = ""
    shows: Shows | None = None
    says: str = ""
    gone: bool = False
    keep: str = ""

    def __call__(self, world: World) -> None:
        """Run it. Raises AssertionError."""
        code, out, err = world.run(self.command, form=_forms(self.command))
        if self.says:
            said = string.Template(self.says).substitute(world.names)
            assert code != 0, f"It succeeds, and was to say: {said}"
            assert said in err, err
            return
        assert code == 0, err or out
        if self.keep:
            world.names[self.keep] = out["id"]
        if self.reads and "--wait" not in self.command:
            eventually(lambda: self._read_back(world))
        elif self.reads:
            self._read_back(world)  # what was waited for is there
        else:
            _compare(world, self.shows, out)

    def _read_back(self, world: World) -> bool:
        if self.gone:
            code, out, err = world.run(self.reads, form=_forms(self.reads))
            assert code != 0, out
            assert "Unable to locate" in err or "not found" in err, err
        else:
            _compare(world, self.shows, world.shown(self.reads))
        return True


Step = Callable[[World], None]  # a row, or something that happens outside the client


def _compare(world: World, shows: Shows | None, out: Any) -> None:
    if isinstance(shows, Mapping):
        wanted = {k: _filled(world, v) for k, v in shows.items()}
        found = {k: _ordered(out.get(k, "no such field")) for k in wanted}
        assert found == wanted, {k: (found[k], wanted[k]) for k in wanted if found[k] != wanted[k]}
    elif isinstance(shows, list):
        names = sorted(r["name"] for r in out)
        assert names == sorted(shows), names
    elif shows is not None:
        assert shows(world, out), out


def _filled(world: World, value: Any) -> Any:
    """With names replaced by what they stand for."""
    match value:
        case str():
            return string.Template(value).substitute(world.names)
        case list():
            return _ordered([_filled(world, v) for v in value])
    return value


def _ordered(value: Any) -> Any:
    """Lists of words are sets to the client, whose order is any."""
    return sorted(value, key=str) if isinstance(value, list) else value


@functools.cache
def commands() -> dict[str, type[Command]]:
    """The load-balancing commands of the installed client, as they are typed."""
    found = entry_points(group="openstack.load_balancer.v2")
    return {e.name.replace("_", " "): e.load() for e in found}


def command_of(text: str) -> str | None:
    """The command that a row runs; None when it is none of load balancing."""
    words = shlex.split(text)
    for n in range(len(words), 0, -1):
        if " ".join(words[:n]) in commands():
            return " ".join(words[:n])
    return None


def _forms(text: str) -> bool:
    name = command_of(text)
    if name is None:
        return any(verb in text.split() for verb in ("create", "show", "list"))
    return issubclass(commands()[name], ShowOne | Lister)


def options(name: str) -> Iterator[argparse.Action]:
    """What a command can be told, its output's form aside."""
    parser = commands()[name](None, None).get_parser(name)  # type: ignore[arg-type]  # not asked for its parser
    for action in parser._actions:
        if action.option_strings and not _FORMATTING & set(action.option_strings):
            yield action


def used(rows: list[Row]) -> set[tuple[str, ...]]:
    """(command), (command, option) and (command, option, choice) of the rows that are to succeed."""
    found: set[tuple[str, ...]] = set()
    for row in rows:
        for text in (row.command, row.reads):
            name = command_of(text)
            if row.says or name is None:
                continue
            found.add((name,))
            words = shlex.split(text)
            for word, after in zip(words, [*words[1:], ""], strict=True):
                if word.startswith("--"):
                    found |= {(name, word), (name, word, after)}
    return found


def known() -> Iterator[tuple[str, ...]]:
    """The same of the installed client. Choices are those that are words; numbers are the API's to judge."""
    for name in commands():
        yield (name,)
        for action in options(name):
            for option in action.option_strings:
                yield (name, option)
            for choice in action.choices or ():
                if isinstance(choice, str) and action.option_strings != ["--sort-column"]:
                    yield (name, action.option_strings[0], choice)

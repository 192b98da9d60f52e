"""Text for HAProxy, built from words. ``text`` quotes every word; nothing else quotes.

Rules of HAProxy 2.6 (configuration.txt §2.2): within single quotes nothing is special, and adjacent quoted parts make
one word. Control characters are refused, so no value can start a line of its own.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence

from colonnade.errors import Broken

Line = tuple[str, ...]
Section = Sequence[Line]

_PLAIN = re.compile(r"[A-Za-z0-9_.:,/@+=%()\[\]-]+")


class _Reference(str):
    """The name of an environment variable that HAProxy puts in place of the word."""

    __slots__ = ()


def environment(name: str) -> str:
    """A word that HAProxy takes from its environment when it starts."""
    return _Reference(name)


def word(value: str) -> str:
    """One word as HAProxy reads it back unchanged. Raises Broken for control characters and lone surrogates."""
    if isinstance(value, _Reference):
        return '"${' + value + '}"'
    _refuse_control(value)
    if _PLAIN.fullmatch(value):
        return value
    return "'" + value.replace("'", "'\\''") + "'"


def log_format(value: str) -> str:
    """``value`` for a place where HAProxy reads a log-format: header values, set-var-fmt. Still to be a word."""
    return value.replace("%", "%%")


def argument(value: str) -> str:
    """``value`` as an argument of a sample fetch, where commas and brackets would end it. Still to be (in) a word."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def pattern(value: str) -> str:
    """A line of a file of patterns, which HAProxy reads back unchanged unless it begins with a space. Raises Broken
    for control characters and lone surrogates."""
    _refuse_control(value)
    return f" {value}\n" if value.startswith("#") else f"{value}\n"  # at the very beginning # would be a comment


def entry(key: str, value: str) -> str:
    """A line of a map. HAProxy leaves out spaces around both; a key holds none, nor begins with #. Raises Broken."""
    _refuse_control(key + value)
    return f"{key} {value}\n"


def text(sections: Iterable[Section]) -> str:
    """The file: each section's first line at the margin, the others indented, a blank line between sections."""
    return "\n".join("".join(_lines(section)) for section in sections)


def _refuse_control(value: str) -> None:
    for character in value:
        if unicodedata.category(character) in ("Cc", "Cs"):
            raise Broken(
                f"A value holds the control character U+{ord(character):04X}, which no configuration may hold.",
                "Set the value again without it.",
            )


def _lines(section: Section) -> Iterable[str]:
    for number, line in enumerate(section):
        yield ("    " if number else "") + " ".join(word(w) for w in line) + "\n"

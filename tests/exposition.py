"""Prometheus's text format 0.0.4, read strictly: every line must be as the format's description says."""

import re

_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_HELP = re.compile(rf"# HELP ({_NAME}) (\S.*)")
_TYPE = re.compile(rf"# TYPE ({_NAME}) (counter|gauge)")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)')
_SAMPLE = re.compile(rf"({_NAME})(?:\{{(.*)\}})? (-?[0-9]+(?:\.[0-9]+)?)")

Labels = frozenset[tuple[str, str]]


def parse(text: str) -> dict[str, dict[Labels, float]]:
    """Values by name and labels. Each name has its HELP, its TYPE, then all its samples, each once. Counters end in
    ``_total`` and are not negative. Raises AssertionError."""
    assert text.endswith("\n")
    found: dict[str, dict[Labels, float]] = {}
    state, name, kind = "sample", "", ""
    for line in text[:-1].split("\n"):
        if match := _HELP.fullmatch(line):
            assert state == "sample", line
            state, name = "help", match[1]
            assert name not in found, line
            found[name] = {}
        elif match := _TYPE.fullmatch(line):
            assert (state, match[1]) == ("help", name), line
            state, kind = "type", match[2]
            assert (kind == "counter") == name.endswith("_total"), line
        else:
            match = _SAMPLE.fullmatch(line)
            assert match, line
            assert match[1] == name, line
            assert state in ("type", "sample"), line
            state = "sample"
            labels = _labels(match[2] or "")
            assert labels not in found[name], line
            found[name][labels] = float(match[3])
            assert kind == "gauge" or found[name][labels] >= 0, line
    assert all(found.values())
    return found


def _labels(text: str) -> Labels:
    pairs = []
    at = 0
    while at < len(text):
        match = _LABEL.match(text, at)
        assert match, text
        pairs.append((match[1], match[2]))
        at = match.end()
    assert len({name for name, _ in pairs}) == len(pairs), text
    return frozenset(pairs)

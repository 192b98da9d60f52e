"""Hostile strings go through a real HAProxy and come back unchanged, or are refused."""

import socket
import subprocess
import time
import unicodedata
from contextlib import contextmanager

import pytest
from desired import tree
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from colonnade.core import haproxy
from colonnade.core.words import argument, environment, log_format, text, word
from colonnade.errors import Broken

NASTY = [
    "plain", "two words", "", "'", '"', "\\", "\\'", "a'b\"c", "#no comment", "$HOME", "${HOME}", '"${HOME}"',
    "%", "%%", "%[src]", "%ci", "100%", "a,b", "a)b", "(", "[x]", "{ a }", "a;b", "\\n", "\\x41", "é", "日本語", "🦄",
    "a" * 2000, " ",    "'\\''", "' '", "!", "*", "-f", "\u2028", "\u202e",
]  # fmt: skip
hostile = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=120) | st.text(
    st.sampled_from("'\"\\%$#{}[]() ,ab"), min_size=1, max_size=40
)


@pytest.mark.parametrize("bad", ["a\nb", "\r", "\0", "\x1b", "\x7f", "\x85", "\ud800"])
def test_a_control_character_is_refused(bad):
    with pytest.raises(Broken, match="control character U\\+"):
        word(bad)


def test_a_plain_word_is_left_alone():
    assert word("10.0.0.1:80") == "10.0.0.1:80"


def test_an_environment_variable_is_a_reference():
    assert word(environment("COLONNADE_STATE")) == '"${COLONNADE_STATE}"'


def test_a_value_that_looks_like_a_reference_is_data():
    assert word("${COLONNADE_STATE}") == "'${COLONNADE_STATE}'"


def test_sections_are_indented_and_apart():
    assert text([[("global",), ("a", "b c")], [("frontend", "x")]]) == "global\n    a 'b c'\n\nfrontend x\n"


@pytest.mark.parametrize("place", ["string", "log-format", "argument"])
def test_nasty_strings_come_back_unchanged(place, tmp_path):
    values = [v for v in NASTY if v]
    assert _echoed(values, place, tmp_path) == values


@given(st.lists(hostile, min_size=1, max_size=25))
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@pytest.mark.parametrize("place", ["string", "log-format", "argument"])
def test_any_string_comes_back_unchanged(place, tmp_path, values):
    assert _echoed(values, place, tmp_path) == values


printable = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=60)
cookie_names = st.text(st.sampled_from("!#$%&'*+-.^_`|~0aZ"), min_size=1, max_size=40)


@given(printable, printable, cookie_names)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_haproxy_takes_whatever_a_user_may_set(haproxy_says, path, domain, cookie):
    given = {
        "listeners": [{"id": "web", "default_pool_id": "p1"}],
        "pools": [{
            "id": "p1", "session_persistence": {"type": "APP_COOKIE", "cookie_name": cookie},
            "monitor": {"type": "HTTPS", "url_path": f"/{path}", "domain_name": domain, "http_version": 1.1},
            "members": [{"address": "10.0.0.5"}],
        }],
    }  # fmt: skip
    assert haproxy_says(haproxy.render(tree(given), ["10.0.0.10"], haproxy.Limits())) == ""


@given(st.text(max_size=40))
def test_words_never_start_a_line_of_their_own(value):
    if any(unicodedata.category(c) in ("Cc", "Cs") for c in value):
        with pytest.raises(Broken):
            word(value)
    else:
        assert "\n" not in word(value)


def _echoed(values: list[str], place: str, tmp_path) -> list[str]:
    """What a running HAProxy makes of the values in that place."""
    lines = []
    for n, value in enumerate(values):
        here = ("if", "{", "path", f"/{n}", "}")
        back = ("http-request", "return", "status", "200", "content-type", "text/plain")
        if place == "string":
            lines.append((*back, "string", value, *here))
        elif place == "log-format":
            lines.append((*back, "lf-string", log_format(value), *here))
        else:
            lines.append(("http-request", "set-var(txn.v)", f"str({argument(value)})", *here))
            lines.append((*back, "lf-string", "%[var(txn.v)]", *here))
    door = str(tmp_path / "door")
    head = [("defaults",), ("mode", "http"), ("timeout", "client", "60s")]
    config = text([[("global",), ("maxconn", "50"), ("httpclient.ssl.verify", "none")], head,
                   [("frontend", "f"), ("bind", door), *lines]])  # fmt: skip
    (tmp_path / "haproxy.cfg").write_text(config)
    with _running(tmp_path / "haproxy.cfg", door):
        return [_body(door, n) for n in range(len(values))]


@contextmanager
def _running(config, door):
    process = subprocess.Popen(["haproxy", "-db", "-f", str(config)], stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 60
        while not _answers(door):
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
        yield
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def _answers(door: str) -> bool:
    with socket.socket(socket.AF_UNIX) as s:
        return s.connect_ex(door) == 0


def _body(door: str, n: int) -> str:
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(door)
        s.sendall(f"GET /{n} HTTP/1.0\r\n\r\n".encode())
        answer = b"".join(iter(lambda: s.recv(65536), b""))
    return answer.split(b"\r\n\r\n", 1)[1].decode()

"""What the API takes as a regular expression is one for the library that HAProxy is built with."""

import ctypes
import warnings

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from colonnade.core import regex

pytestmark = pytest.mark.filterwarnings("ignore:Possible")
_pcre2 = ctypes.CDLL("libpcre2-8.so.0")
_pcre2.pcre2_compile_8.restype = ctypes.c_void_p
_pcre2.pcre2_code_free_8.argtypes = [ctypes.c_void_p]
_NO_AUTO_CAPTURE = 0x2000  # as HAProxy compiles what ACLs match

_parts = st.sampled_from([
    "a", "b", "é", ".", "|", "(", ")", "[", "]", "[^", "-", "^", "$", "*", "+", "?", "{", "}", "{2}", "{2,}", "{,3}",
    "{2,3}", "{999}", "{70000}", "\\", "\\d", "\\w", "\\b", "\\Z", "\\A", "\\1", "\\x41", "\\u0041", "\\N{DIGIT ONE}",
    "\\0", "(?:", "(?=", "(?!", "(?<=", "(?<!", "(?P<n>", "(?P=n)", "(?P<é>", "(?i)", "(?u)", "(?a:", "(?i:", "(?-i:",
    "(?(1)", "(?>", "*+", "(?#", ":", "[:", ":]", "[:alpha:]", "[:x:]", "[.", ".]", "[=", "=]", "alpha", " ", "#", "/",
])  # fmt: skip


def _compiles(pattern: str) -> bool:
    text = pattern.encode()
    number, at = ctypes.c_int(), ctypes.c_size_t()
    wrong = ctypes.byref(number), ctypes.byref(at)
    made = _pcre2.pcre2_compile_8(text, ctypes.c_size_t(len(text)), _NO_AUTO_CAPTURE, *wrong, None)
    if made:
        _pcre2.pcre2_code_free_8(made)
    return bool(made)


@given(st.lists(_parts, max_size=12).map("".join).filter(lambda p: len(p) <= 255))
@example("[]a]")
@example("[^][:alpha:]-]+")
@example("a{,3}")
@example("(?P<" + "n" * 33 + ">a)")
@example("(a)\\1")
@example("(a)(?(1)b|c)")
@example("(?a)(?u)")
@example("(?x)#)")
@example("(?P<n>a){65535}")
@example("([é]){2000}")
@example("(((a){20}){20}){20}")
@example("(" * 100 + "a" + "){9}" * 100)
@example("[[:x:]]")
@example("[:alpha:]")
@example("[.[:alpha:]")
@example(r"(a)\1")
@example("(a)(?(1)b|c)")
@example(r"(a)\101[\1]")
def test_what_is_taken_compiles(pattern: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if regex.problem(pattern) is None:
            assert _compiles(pattern)


@pytest.mark.parametrize(
    "pattern",
    [r"^/(api|v[0-9]+)/", r"\.(?:jpe?g|png)$", "[[:alnum:]_]+", r"(?i)^bot", r"\d{1,3}\.\d{1,3}",
     r"\101", "([a-z0-9]{1,63}\\.){1,100}", r"(/[^/]{0,255}){3,20}", "a{65535}",
     "[a-f0-9]{8}-[a-f0-9]{4}", r"[\]\[]", r"\\u", "a{x}", "(?P<n>a)(?P=n)",
     "(?P<n>a)(?(n)b|c)", r"(a)\101\0[\1]", r"^(?!.*\.php)", ".*"],
)  # fmt: skip
def test_what_people_write_is_taken(pattern: str) -> None:
    assert regex.problem(pattern) is None
    assert _compiles(pattern)


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(", "missing )"), ("[a", "unterminated"), ("*", "nothing to repeat"), (r"\u0041", "PCRE2"),
        ("(?u)a", "flags"), ("a{,2}", "{0,...}"), ("(a{999}){999}", "repeats too much"), ("[[:x:]]", "[:x:]"),
        ("[:alpha:]", "brackets"), ("(?P<é>a)", "name"), (r"(a)\1", "by name"), ("(a)(?(1)b|c)", "by name"),
        (r"(?P<x>a)\1", "by name"), ("(?P<n>a){65535}", "too much"),
    ],
)  # fmt: skip
def test_what_is_none_is_told(pattern: str, why: str) -> None:
    assert why in (regex.problem(pattern) or "")

"""Regular expressions as HAProxy's library (PCRE2 10.42, not in UTF mode) reads them; groups without a name are
not counted there.

Most of the language is Python's too, so Python's own parser finds most mistakes; what it takes and PCRE2 does not, or
takes in another sense, is found here.
"""

import re
import warnings

_POSIX = re.compile(
    r"\[:\^?(alpha|lower|upper|alnum|ascii|blank|cntrl|digit|graph|print|punct|space|word|xdigit):\]"
)  # fmt: skip
_POSIX_LIKE = re.compile(r"\[([:.=])[^\]]*\1\]")
_FLAGS = re.compile(r"\(\?[imsx-]*[aLu]")
_BY_NUMBER = re.compile(r"\\(?![1-7][0-7]{2})[1-9]|\(\?\([0-9]")  # three octal digits are a letter
_NAME = re.compile(r"\(\?P<([^>]*)>")
_REPEAT = re.compile(r"\{(\d*)(?:(,)(\d*))?\}")
_MOST_REPEATS = 65535
# PCRE2 writes a group out as often as it is repeated, and has room for so many bytes. Measured: at most 12 for a
# letter, as in [é], and 12 for each group.
_ROOM, _LETTER, _GROUP = 65535, 12, 12
_LONGEST_NAME = 32
# Python thinks of what [[ may mean to it one day; to PCRE2 it means something now, and that is looked at.
warnings.filterwarnings("ignore", "Possible (nested )?set", FutureWarning, __name__)


def problem(pattern: str) -> str | None:
    """Why the pattern is no expression for HAProxy; None when it is one."""
    try:
        re.compile(pattern)
    except (re.error, ValueError, OverflowError, RecursionError) as e:
        return f"it is not a regular expression: {e}"
    at, sizes, closed = 0, [0], 0  # what the groups take that are open, and what the one did that has just closed
    while at < len(pattern):
        letter, begun = pattern[at], at
        wrong, at, times = _next(pattern, at)
        if wrong:
            return wrong
        if letter == "(":
            sizes.append(0)
        ends = letter == ")" and len(sizes) > 1  # one in a comment, after (?x), ends none
        closed = closed * (times - 1) if times > 1 else sizes.pop() + _GROUP if ends else 0
        sizes[-1] += closed + _LETTER * (at - begun)
        if times > _MOST_REPEATS or sizes[-1] > _ROOM:
            return "it repeats too much"
    return None


def _next(pattern: str, at: int) -> tuple[str | None, int, int]:
    """What is wrong with the next part outside a class, where the one after it begins, how often the part says to
    repeat something."""
    match pattern[at]:
        case "\\" | "(" if _BY_NUMBER.match(pattern, at):
            return "groups are referred to by name: write (?P<x>...) and (?P=x), not (...) and \\1", at + 1, 1
        case "\\":
            return _escape(pattern, at), at + 2, 1
        case "[":
            return *_class(pattern, at), 1
        case "(" if _FLAGS.match(pattern, at):
            return "its flags (?a), (?L) and (?u) are not PCRE2's", at + 1, 1
        case "(" if (name := _NAME.match(pattern, at)) and (len(name[1]) > _LONGEST_NAME or not name[1].isascii()):
            return f"the name of a group has at most {_LONGEST_NAME} letters, all of ASCII", at + 1, 1
        case "{" if found := _REPEAT.match(pattern, at):
            few, comma, many = found.groups()
            if comma and not few:
                return "a repetition begins with a number: write {0,...} instead of {,...}", at + 1, 1
            return None, found.end(), max(int((few or "1")[:9]), int((many or "1")[:9]), 1)
    return None, at + 1, 1


def _escape(pattern: str, at: int) -> str | None:
    letter = pattern[at + 1]
    return f"\\{letter} is not PCRE2's" if letter in "uUN" else None


def _class(pattern: str, at: int) -> tuple[str | None, int]:
    """What is wrong with a class in brackets, and where it ends."""
    if _POSIX_LIKE.match(pattern, at):
        return "a class like [:alpha:] stands within brackets: [[:alpha:]]", at + 1
    at += 2 if pattern.startswith("[^", at) else 1
    at += pattern.startswith("]", at)
    while not pattern.startswith("]", at):
        if at >= len(pattern):
            return "brackets do not end", at
        if known := _POSIX.match(pattern, at):
            at = known.end()
        elif unknown := _POSIX_LIKE.match(pattern, at):
            return f"{unknown[0]} is not a class", at
        elif pattern[at] == "\\":
            if wrong := _escape(pattern, at):
                return wrong, at
            at += 2
        else:
            at += 1
    return None, at + 1

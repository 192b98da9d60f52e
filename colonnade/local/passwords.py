"""Passwords: scrypt in the database, a short memory of what was right, and patience with what was wrong.

scrypt costs some 50 ms on purpose; a command-line client logs in with every command. So a verified password is
remembered, as a digest under a key that lives only in this process, and costs microseconds from then on.
"""

import functools
import hashlib
import hmac
import math
import secrets
import threading
from collections import OrderedDict

from colonnade.clock import Clock
from colonnade.local.faults import TooManyAttempts

_N, _R, _P = 2**14, 8, 1
_MEMORY_BYTES = 64 * 1024 * 1024
_REMEMBERED = 1024
_FREE_FAILURES = 5  # wrong tries without a pause
_LONGEST_PAUSE_S = 30.0
_FORGIVEN_AFTER_S = 600.0


def conceal(password: str) -> str:
    """The password as it is stored: scrypt$N$r$p$salt$hash."""
    salt = secrets.token_bytes(16)
    return f"scrypt${_N}${_R}${_P}${salt.hex()}${_scrypt(password, salt, _N, _R, _P).hex()}"


def _scrypt(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, maxmem=_MEMORY_BYTES, dklen=32)


def _matches(password: str, stored: str) -> bool:
    _, n, r, p, salt, digest = stored.split("$")
    found = _scrypt(password, bytes.fromhex(salt), int(n), int(r), int(p))
    return hmac.compare_digest(found, bytes.fromhex(digest))


@functools.cache
def _nobodys() -> str:
    """A password that nobody knows, to compare with when there is no such user."""
    return conceal(secrets.token_hex(16))


class Doorman:
    """Checks passwords. Safe to use from many threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._right: OrderedDict[bytes, None] = OrderedDict()
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()  # user's name -> (how often, until when)
        self._lock = threading.Lock()
        self._nobody = _nobodys()

    def admits(self, name: str, password: str, stored: str | None) -> bool:
        """Whether the password is right; ``stored`` is None for a user that does not exist, which takes as long.

        Raises TooManyAttempts after repeated failures. A password that was right lately passes even then, so that
        nobody can lock out whoever is at work.
        """
        digest = hmac.digest(self._key, f"{stored}\0{password}".encode(), "sha256")
        with self._lock:
            if stored is not None and digest in self._right:
                self._right.move_to_end(digest)
                return True
            self._check_pause(name)
        good = _matches(password, stored or self._nobody) and stored is not None
        with self._lock:
            if good:
                self._failures.pop(name, None)
                self._right[digest] = None
                if len(self._right) > _REMEMBERED:
                    self._right.popitem(last=False)
            else:
                self._count_failure(name)
        return good

    def _check_pause(self, name: str) -> None:
        left = self._failures.get(name, (0, 0.0))[1] - self._clock.monotonic()
        if left > 0:
            seconds = math.ceil(left)
            raise TooManyAttempts(
                f"Too many failed attempts for this user. Please try again in {seconds} s.", retry_after=seconds
            )

    def _count_failure(self, name: str) -> None:
        now = self._clock.monotonic()
        times, until = self._failures.pop(name, (0, now))
        times = 1 if now - until > _FORGIVEN_AFTER_S else times + 1
        over = times - _FREE_FAILURES
        pause = min(2.0 ** min(over, 10), _LONGEST_PAUSE_S) if over >= 0 else 0.0
        self._failures[name] = (times, now + pause)
        if len(self._failures) > _REMEMBERED:
            self._failures.popitem(last=False)

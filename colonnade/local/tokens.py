"""Tokens: who, in which project, until when, under HMAC-SHA256. Nothing about one is stored unless it is revoked."""

import base64
import binascii
import hmac
import secrets
import struct
from dataclasses import dataclass
from typing import Final

_LAYOUT: Final = struct.Struct(">BBII16s16s16s")  # version, methods, issued, expires, user, project, audit id
_VERSION = 1
_MAC_BYTES = 32
_NOBODY = bytes(16)
_METHODS = {"password": 1, "token": 2}


@dataclass(frozen=True, slots=True)
class Token:
    """What a token says. Times are whole seconds since the epoch; ids are 32 hexadecimal digits."""

    user_id: str
    project_id: str | None
    issued_at: int
    expires_at: int
    methods: tuple[str, ...]
    audit_id: str


def fresh_id() -> str:
    """An id for a user, a project or a token."""
    return secrets.token_hex(16)


def sign(token: Token, key: bytes) -> str:
    """The token as text for a header: 120 characters."""
    body = _LAYOUT.pack(
        _VERSION,
        sum(_METHODS[m] for m in token.methods),
        token.issued_at,
        token.expires_at,
        bytes.fromhex(token.user_id),
        bytes.fromhex(token.project_id) if token.project_id else _NOBODY,
        bytes.fromhex(token.audit_id),
    )
    return base64.urlsafe_b64encode(body + hmac.digest(key, body, "sha256")).decode()


def verify(text: str, key: bytes) -> Token | None:
    """What the text says if this key signed it; None otherwise. Whether it is still good is for the caller to ask."""
    try:
        data = base64.b64decode(text, altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        return None
    body, mac = data[:-_MAC_BYTES], data[-_MAC_BYTES:]
    if len(body) != _LAYOUT.size or not hmac.compare_digest(hmac.digest(key, body, "sha256"), mac):
        return None
    version, methods, issued, expires, user, project, audit = _LAYOUT.unpack(body)
    if version != _VERSION:
        return None
    return Token(
        user_id=user.hex(),
        project_id=None if project == _NOBODY else project.hex(),
        issued_at=issued,
        expires_at=expires,
        methods=tuple(m for m, bit in _METHODS.items() if methods & bit),
        audit_id=audit.hex(),
    )

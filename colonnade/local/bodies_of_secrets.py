"""What requests of the key manager say, understood. Each function raises Invalid with what is wrong."""

import base64
import binascii
from datetime import UTC, datetime
from typing import Any

import falcon

from colonnade.clock import utc
from colonnade.errors import Invalid
from colonnade.local import vault
from colonnade.model import Caller
from colonnade.types import Json

LONGEST_PAYLOAD = 65536  # bytes
_TYPES = ("symmetric", "public", "private", "passphrase", "certificate", "opaque")
TEXT, OCTETS = "text/plain", "application/octet-stream"
_CONTENT_TYPES = (TEXT, OCTETS, "application/pkcs8", "application/pkix-cert")


def meta(given: Json, now: float) -> Json:
    """A secret's fields but for its payload."""
    kind = given.get("secret_type") or "opaque"
    if kind not in _TYPES:
        raise Invalid(f"secret_type: one of {', '.join(_TYPES)} is needed.")
    bits = given.get("bit_length")
    if bits is not None and (isinstance(bits, bool) or not isinstance(bits, int) or not 0 < bits <= 32767):
        raise Invalid("bit_length: a whole number from 1 to 32767 is needed.")
    expiration = None
    if given.get("expiration"):
        expiration = moment(text(given, "expiration") or "", "expiration")
        if expiration <= utc(now):
            raise Invalid("expiration: it lies in the past.")
    return {
        "name": text(given, "name"), "secret_type": kind, "algorithm": text(given, "algorithm"),
        "mode": text(given, "mode"), "bit_length": bits, "expiration": expiration,
    }  # fmt: skip


def given_payload(given: Json) -> tuple[str, bytes] | None:
    """Content type and bytes of the payload that comes with a secret; None: there is none."""
    said, kind, encoding = (given.get(n) for n in ("payload", "payload_content_type", "payload_content_encoding"))
    if said is None:
        if encoding:
            raise Invalid("payload_content_encoding: there is no payload.")
        return None
    if not isinstance(said, str):
        raise Invalid("payload: a text is needed; encode bytes in base64.")
    if not isinstance(kind, str):
        raise Invalid("payload_content_type: it is needed beside a payload.")
    kind = content_type(kind)
    if encoding not in (None, "base64") or (kind == TEXT and encoding):
        raise Invalid("payload_content_encoding: base64, and none for text.")
    if kind != TEXT and encoding is None:
        raise Invalid(f"payload_content_encoding: base64 is needed for {kind}.")
    data = decoded(said.encode()) if encoding else said.encode(errors="surrogatepass")
    check_payload(data)
    return kind, data


def content_type(text: str) -> str:
    """One that is served, without its parameters. Raises 415."""
    kind = text.partition(";")[0].strip().lower()
    if kind not in _CONTENT_TYPES:
        raise falcon.HTTPUnsupportedMediaType(description=f"A payload may be {', '.join(_CONTENT_TYPES)}.")
    return kind


def decoded(data: bytes) -> bytes:
    """Bytes of base64, white space within it or not."""
    try:
        return base64.b64decode(b"".join(data.split()), validate=True)
    except (binascii.Error, ValueError):
        raise Invalid("payload: it is not base64.") from None


def check_payload(data: bytes) -> None:
    """Raise 413 for one that is too long, and Invalid for one that is empty."""
    if not data:
        raise Invalid("payload: it is empty.")
    if len(data) > LONGEST_PAYLOAD:
        raise falcon.HTTPContentTooLarge(description=f"A payload may have {LONGEST_PAYLOAD} bytes.")


def part(given: Any) -> tuple[str, str]:  # noqa: ANN401 - a part of a body
    """Name and secret's id of one part of a container."""
    if not isinstance(given, dict):
        raise Invalid("secret_refs: objects with name and secret_ref are needed.")
    kind, its_id = vault.parse_ref(needed(given, "secret_ref"))
    if kind == "container":
        raise Invalid("secret_refs: a container holds secrets, not containers.")
    return text(given, "name") or "", its_id


def text(given: Json, name: str) -> str | None:
    """A text that may be left out."""
    value = given.get(name)
    if value is not None and (not isinstance(value, str) or len(value) > 255 or "\0" in value):
        raise Invalid(f"{name}: a text of 255 letters at most is needed.")
    return value


def needed(given: Json, name: str) -> str:
    """A text that may not."""
    value = text(given, name)
    if not value:
        raise Invalid(f"{name}: it is needed.")
    return value


def owned(its_id: str, who: Caller, now: float) -> Json:
    """What every new object has."""
    moment = utc(now)
    return {
        "id": its_id, "project_id": who.project_id, "creator_id": who.user_id, "created_at": moment,
        "updated_at": moment, "read_users": [], "project_access": True,
    }  # fmt: skip


def moment(text: str, name: str) -> datetime:
    """A time in ISO 8601, in UTC and without zone."""
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
    except (ValueError, OverflowError):
        raise Invalid(f"{name}: a time in ISO 8601 is needed, as 2027-01-31T12:00:00.") from None

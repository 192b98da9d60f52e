"""Files that nobody else may read: made whole or not at all, and only once when two processes want to make them."""

import os
import secrets
from pathlib import Path

_KEY_BYTES = 32


def ensure(path: Path, content: str) -> str:
    """The file's content; ``content`` is written first when there is no file. All callers get the same answer."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        fresh = _write_beside(path, content)
        try:
            os.link(fresh, path)
        except FileExistsError:
            pass  # another process was quicker: what it wrote counts
        finally:
            fresh.unlink()
    return path.read_text()


def replace(path: Path, content: str) -> None:
    """Write the file, unless it says so already: an owner or a mode given to it later stays then."""
    if path.exists() and path.read_text() == content:
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _write_beside(path, content).replace(path)


def token_key(directory: Path) -> bytes:
    """The key that signs tokens, made at first use."""
    return bytes.fromhex(ensure(directory / "token.key", secrets.token_hex(_KEY_BYTES)))


def _write_beside(path: Path, content: str) -> Path:
    fresh = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return fresh

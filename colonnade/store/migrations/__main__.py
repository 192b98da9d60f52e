"""Write a migration from the difference between the newest one and the tables as described now."""

import sys
import tempfile
from pathlib import Path

from colonnade.store import schema

if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit('usage: python -m colonnade.store.migrations "what it adds"')
    with tempfile.TemporaryDirectory() as scratch:
        url = f"sqlite:///{Path(scratch) / 'scratch.sqlite'}"
        schema.upgrade(url)
        schema.revision(url, sys.argv[1])

"""``python -m colonnade``."""

import sys

from colonnade.cli import main

if __name__ == "__main__":  # a child process of the driver agent reads this module, too
    sys.exit(main())

"""Agents of a provider, for tests: each tells its process's number in the directory that EXAMPLE_AGENTS names."""

import os
import signal
import time


def _tell(name):
    with open(os.path.join(os.environ["EXAMPLE_AGENTS"], name), "a") as file:
        file.write(f"{os.getpid()}\n")


def diligent(exit_event):
    """Runs until it is told to stop, and says that it has."""
    _tell("diligent")
    exit_event.wait()
    _tell("diligent.stopped")


def failing(exit_event):
    """Fails at once."""
    _tell("failing")
    raise ValueError("an agent's own mistake")


def stubborn(exit_event):
    """Does not stop, whatever it is told."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _tell("stubborn")
    while True:
        time.sleep(1)

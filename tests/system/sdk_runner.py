"""Runs openstacksdk's own functional tests, unmodified, many at a time: nearly all of their time is the SDK's waiting.

    sdk_runner.py MODULE.CLASS DIRECTORY CLOUD... < names of tests, one a line

Each test runs in a forked process (the SDK is imported once) as one of the clouds, which no other test uses meanwhile:
the tests set and remove their project's quota. Its outcome is written to DIRECTORY/<name>: nothing when it passed.
Their names end with "!" when they change other projects, too: such a test runs when nothing else does.
"""

import importlib
import os
import sys
import traceback
import unittest
from pathlib import Path


def run(case: type[unittest.TestCase], name: str, cloud: str, answer: Path) -> None:
    """One test, in this process."""
    os.environ["OPENSTACKSDK_OPERATOR_CLOUD"] = cloud
    try:
        result = unittest.TestResult()
        case(name).run(result)
        said = [text for _, text in [*result.failures, *result.errors, *result.skipped]]
        answer.write_text("\n".join(said) if said or result.testsRun == 1 else "It did not run.")
    except BaseException:
        answer.write_text(traceback.format_exc())


def main(target: str, directory: str, *clouds: str) -> None:
    module, _, name = target.rpartition(".")
    case = getattr(importlib.import_module(module), name)
    waiting, running, free = sys.stdin.read().split(), dict[int, str](), list(clouds)
    waiting.sort(key=lambda n: n.endswith("!"))
    while waiting or running:
        alone = bool(waiting) and waiting[0].endswith("!")
        if waiting and free and not (alone and running):
            test, cloud = waiting.pop(0).rstrip("!"), free.pop()
            pid = os.fork()
            if pid == 0:
                run(case, test, cloud, Path(directory, test))
                os._exit(0)
            running[pid] = cloud
        else:
            free.append(running.pop(os.wait()[0]))


if __name__ == "__main__":
    main(*sys.argv[1:])

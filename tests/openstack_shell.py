"""Runs stock client commands in one process, because nine tenths of a command's time is the client's own start.

Reads one JSON list of arguments a line; answers one JSON object a line: {"code", "out", "err"}. Its own argument, if
any, says how many times shorter than asked it sleeps between two looks of --wait.
"""

import io
import json
import logging
import sys
import time
from contextlib import redirect_stderr, redirect_stdout

from openstackclient.shell import main


def run(argv: list[str]) -> dict[str, object]:
    out, err = io.StringIO(), io.StringIO()
    logging.getLogger().handlers.clear()  # each run adds its own
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = main(argv)
        except SystemExit as e:
            code = e.code
    return {"code": code, "out": out.getvalue(), "err": err.getvalue()}


if __name__ == "__main__":
    if len(sys.argv) > 1:
        faster, sleep = int(sys.argv[1]), time.sleep
        time.sleep = lambda seconds: sleep(seconds / faster)
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)

"""Log lines: one per record, ``time level name message key=value ...``, to stderr. Secrets are never written."""

import json
import logging
import sys
import time

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_SECRET = ("password", "secret", "token", "key", "authorization", "cookie")


def begin(debug: bool) -> None:
    """Send this process's log to stderr; the supervisor leads it to a file."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Line())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if debug else logging.INFO)
    logging.getLogger("alembic").setLevel(logging.WARNING)  # what an upgrade did, store.schema says
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # it says WARNING for each request that waits a moment


class Line(logging.Formatter):
    """A record as one line; what was passed as ``extra`` follows as key=value. A traceback follows on own lines."""

    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        words = [f"{at}.{int(record.msecs):03d}Z", record.levelname, record.name, _one_line(record.getMessage())]
        words += [f"{k}={_value(k, v)}" for k, v in vars(record).items() if k not in _STANDARD]
        line = " ".join(words)
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _value(key: str, value: object) -> str:
    if any(s in key.lower() for s in _SECRET):
        return "***"
    text = str(value)
    plain = text.isprintable() and text and not any(c in text for c in ' "=')
    return text if plain else json.dumps(text, ensure_ascii=False)


def _one_line(text: str) -> str:
    return text if text.isprintable() else json.dumps(text, ensure_ascii=False)[1:-1]

"""Log lines."""

import logging

from colonnade.logs import Line


def _line(message: str, **extra: object) -> str:
    record = logging.makeLogRecord({"name": "colonnade.x", "levelname": "INFO", "msg": message, **extra})
    return Line().format(record)


def test_extras_follow_the_message() -> None:
    assert _line("pushed", lb="a", steps=3).endswith("INFO colonnade.x pushed lb=a steps=3")


def test_a_record_is_one_line_whatever_it_says() -> None:
    assert _line("two\nlines", name_="a b\nc").count("\n") == 0


def test_secrets_are_not_written() -> None:
    assert "hunter2" not in _line(
        "x", password="hunter2", admin_password="hunter2", token="hunter2", heartbeat_key="hunter2"
    )

"""Logs for machines: one JSON object a line."""

import logging
import sys

import msgspec

from rocmforge.logs import JSONFormatter


def record(**extra: object) -> logging.LogRecord:
    made = logging.makeLogRecord(
        {
            "name": "rocmforge.api",
            "levelno": 20,
            "levelname": "INFO",
            "msg": "%d rows",
            "args": (3,),
        }
    )
    vars(made).update(extra)
    return made


def test_a_record_is_an_object_with_its_extra_fields() -> None:
    fields = msgspec.json.decode(JSONFormatter().format(record(request_id=7)))
    assert fields.pop("time").endswith("Z")
    assert fields == {
        "level": "info",
        "logger": "rocmforge.api",
        "message": "3 rows",
        "request_id": 7,
    }


def test_an_error_with_its_lines_stays_on_one_line() -> None:
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        line = JSONFormatter().format(record(exc_info=sys.exc_info()))
    assert "\n" not in line
    assert "ValueError: first\nsecond" in msgspec.json.decode(line)["error"]

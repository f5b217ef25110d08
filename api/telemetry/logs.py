"""The server's log: one JSON object a line."""

import json
import logging
import time
from datetime import UTC, datetime

import msgspec

from runtime.generation import Generation, Timings
from runtime.settings import Settings

ROOT = "rocmforge"
NANOSECONDS = 1e9

access_log = logging.getLogger("rocmforge.api.access")


class JsonFormatter(logging.Formatter):
    """Writes a record as one JSON line; `extra={"fields": {...}}` adds keys."""

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON, without the newline."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update(getattr(record, "fields", {}))
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        try:
            return msgspec.json.encode(line, enc_hook=str).decode()
        except UnicodeEncodeError:  # of a path that is not UTF-8
            return json.dumps(line, default=str)


def configure(settings: Settings) -> None:
    """Send the log of ROCmForge, Waitress and OpenTelemetry to standard error, in JSON lines."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    levels = {ROOT: settings.log_level.upper(), "waitress": "WARNING", "opentelemetry": "WARNING"}
    for name, level in levels.items():
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False
    # Its only news is that requests wait for a thread, which /metrics says better.
    logging.getLogger("waitress.queue").setLevel("ERROR")


class AccessEntry:
    """The log entry of one HTTP request. Owned by the thread that answers it."""

    def __init__(self, method: str, path: str, x_request_id: str) -> None:
        self.method = method
        self.path = path
        self.x_request_id = x_request_id
        self.generations: tuple[Generation, ...] = ()
        """Its requests to the engine: for several the line has the first, and sums."""
        self.key: str | None = None
        """Name of the API key, where keys are on."""
        self.handle: str | None = None
        """Name of its first request to the engine that nobody guesses."""
        self.prompt: str | None = None
        """Set only if the settings allow prompts in the log."""
        self.ignored_fields: tuple[str, ...] = ()
        """Unknown fields of the body."""
        self.outlives_responder = False
        """Whether a stream writes the line at its own end."""
        self._started = time.perf_counter()

    def write(self, status: int) -> None:
        """Write the line."""
        fields: dict[str, object] = {
            "method": self.method,
            "path": self.path,
            "status": status,
            "x_request_id": self.x_request_id,
            "seconds": round(time.perf_counter() - self._started, 6),
        }
        if self.key is not None:
            fields["key"] = self.key
        if self.generations:
            first = self.generations[0]
            prompts = [each for each in self.generations if each.leader is None]
            fields |= {
                "request_id": first.request_id,
                "finish_reason": first.finish_reason,
                "prompt_tokens": sum(len(each.prompt_tokens) for each in prompts),
                "tokens": sum(each.token_count for each in self.generations),
                **_durations(first.timings),
            }
            if len(self.generations) > 1:
                fields["request_ids"] = [each.request_id for each in self.generations]
            errors = [each.error for each in self.generations if each.error is not None]
            if errors:
                fields["error"] = errors[0]
        if self.ignored_fields:
            fields["ignored_fields"] = self.ignored_fields
        if self.prompt is not None:
            fields["prompt"] = self.prompt
        access_log.info("request", extra={"fields": fields})


def _durations(timings: Timings) -> dict[str, float | None]:
    """Return the seconds of each phase; None for one that did not happen."""
    return {
        "queue_seconds": _seconds(timings.submitted_ns, timings.started_ns),
        "prefill_seconds": _seconds(timings.started_ns, timings.first_token_ns),
        "decode_seconds": _seconds(timings.first_token_ns, timings.finished_ns),
    }


def _seconds(start_ns: int | None, end_ns: int | None) -> float | None:
    if start_ns is None or end_ns is None:
        return None
    return round((end_ns - start_ns) / NANOSECONDS, 6)

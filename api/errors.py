"""The errors of requests: their codes, and the HTTP status that each is reported with."""

from typing import NamedTuple

from runtime.errors import RocmForgeError

RETRY_AFTER_SECONDS = 1
INTERNAL_ERROR = "the server failed to answer this request; its log says why"


class RequestNotFound(RocmForgeError):
    """No request has this id, or it ended too long ago."""

    code = "request_not_found"


class ResponseNotFound(RocmForgeError):
    """No response of the Responses API has this id, or it ended too long ago."""

    code = "response_not_found"


class StreamNotFound(RocmForgeError):
    """No stream has this handle, or what is left of it is no longer kept."""

    code = "stream_not_found"


class UnknownModel(RocmForgeError):
    """The requested model is not the served one."""

    code = "unknown_model"


class KeyRefused(RocmForgeError):
    """The server needs an API key, and the request has none that it knows."""

    code = "invalid_api_key"


class ScopeMissing(RocmForgeError):
    """The request's API key may be used for other routes only."""

    code = "permission_denied"


class RateLimited(RocmForgeError):
    """The request's API key has used what its limits allow for now."""

    code = "rate_limit_exceeded"

    def __init__(self, message: str, retry_after: int) -> None:
        """retry_after: seconds until another request may begin."""
        super().__init__(message)
        self.retry_after = retry_after


class OriginRefused(RocmForgeError):
    """A browser's page sends the request that may not use the server."""

    code = "origin_refused"


class GenerationFailed(RocmForgeError):
    """A submitted request failed."""

    code = "generation_failed"


class ClientGone(RocmForgeError):
    """The client has disconnected, so the answer was not made; only the log shows it."""

    code = "client_gone"


class NoModel(RocmForgeError):
    """The server was started without a model, or its model could not be loaded."""

    code = "no_model"


class InfillUnsupported(RocmForgeError):
    """The model's file has no tokens for a text with a gap."""

    code = "infill_unsupported"


class ModelInUse(RocmForgeError):
    """A model cannot be unloaded, since requests run on it."""

    code = "model_in_use"


class Answer(NamedTuple):
    """An error as it is reported: HTTP status, and the `code` and `param` of OpenAI's API."""

    status: int
    openai_code: str | None = None
    openai_param: str | None = None
    """The field at fault, if the error itself does not name it."""

    @property
    def openai_type(self) -> str:
        """OpenAI's `type`. Source: its guide to error codes."""
        return "invalid_request_error" if self.status < 500 else "server_error"


ANSWERS: dict[str, Answer] = {
    "invalid_request": Answer(400),
    "context_length_exceeded": Answer(400, "context_length_exceeded"),
    "invalid_api_key": Answer(401, "invalid_api_key"),
    "permission_denied": Answer(403, "permission_denied"),
    "origin_refused": Answer(403, "origin_refused"),
    "not_found": Answer(404),
    "request_not_found": Answer(404, "request_not_found"),
    "response_not_found": Answer(404, "response_not_found"),
    "stream_not_found": Answer(404, "stream_not_found"),
    "unknown_model": Answer(404, "model_not_found", "model"),
    "method_not_allowed": Answer(405),
    "request_timeout": Answer(408, "request_timeout"),
    "model_in_use": Answer(409, "model_in_use"),
    "body_too_large": Answer(413, "request_too_large"),
    "unsupported_media_type": Answer(415, "unsupported_media_type"),
    "rate_limit_exceeded": Answer(429, "rate_limit_exceeded"),
    "headers_too_large": Answer(431, "request_too_large"),
    "client_gone": Answer(499),
    "internal_error": Answer(500),
    "generation_failed": Answer(500),
    "no_model": Answer(500),
    "not_implemented": Answer(501),
    "infill_unsupported": Answer(501),
    "version_not_supported": Answer(505),
    "queue_full": Answer(503, "queue_full"),
    "engine_unavailable": Answer(503, "engine_unavailable"),
    "weights_changed": Answer(503, "engine_unavailable"),
    "bodies_full": Answer(503, "queue_full"),
}
"""Every code that an answer may have. A code that is not here is the server's own: 500."""

CODE_OF_STATUS = {answer.status: code for code, answer in reversed(ANSWERS.items())}
"""Errors of Falcon or Waitress have only a status: the first code with it is used."""


def answer_of(code: str) -> Answer:
    """The status, code and parameter that an error is reported with."""
    return ANSWERS.get(code, ANSWERS["internal_error"])


def code_of_status(status: int) -> str:
    """The code of an error that has a status only."""
    return CODE_OF_STATUS.get(status, "invalid_request" if status < 500 else "internal_error")

"""From exceptions to the documented error body: `{"error": "...", "status": "error"}`.

Paths under /v1 have OpenAI's instead: `{"error": {"message", "type", "param", "code"}}`.
"""

import logging
from typing import Any, NamedTuple

import falcon
import msgspec

from runtime.errors import InvalidRequest, RocmForgeError
from runtime.finite_json import finite_json

RETRY_AFTER_SECONDS = 1
OPENAI_NAMES = ("v1", "chat", "completions", "responses", "embeddings")
"""Path prefixes that clients of OpenAI's API use, also with a wrong base URL."""
OPENAI_ROUTES = "/v1/chat/completions, /v1/completions and /v1/models"
INTERNAL_ERROR = "the server failed to answer this request; its log says why"

log = logging.getLogger("rocmforge.api")

Application = falcon.App[falcon.Request, falcon.Response]


class RequestNotFound(RocmForgeError):
    """No request has this id, or it ended too long ago."""

    code = "request_not_found"


class UnknownModel(RocmForgeError):
    """The requested model is not the served one."""

    code = "unknown_model"


class GenerationFailed(RocmForgeError):
    """A submitted request failed."""

    code = "generation_failed"


class ClientGone(RocmForgeError):
    """The client has disconnected, so the answer was not made; only the log shows it."""

    code = "client_gone"


class NoModel(RocmForgeError):
    """The server was started without a model, or its model could not be loaded."""

    code = "no_model"


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
    "not_found": Answer(404),
    "request_not_found": Answer(404, "request_not_found"),
    "unknown_model": Answer(404, "model_not_found", "model"),
    "method_not_allowed": Answer(405),
    "request_timeout": Answer(408, "request_timeout"),
    "body_too_large": Answer(413, "request_too_large"),
    "unsupported_media_type": Answer(415, "unsupported_media_type"),
    "headers_too_large": Answer(431, "request_too_large"),
    "client_gone": Answer(499),
    "internal_error": Answer(500),
    "generation_failed": Answer(500),
    "no_model": Answer(500),
    "not_implemented": Answer(501),
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


class OpenAIError(msgspec.Struct, frozen=True):
    """An error as OpenAI's clients read it."""

    message: str
    type: str
    param: str | None
    code: str | None

    @classmethod
    def of(cls, code: str, message: str, field: str | None = None) -> "OpenAIError":
        """The error of a code; `field` is the one at fault."""
        answer = answer_of(code)
        param = answer.openai_param if field is None else field
        return cls(message, answer.openai_type, param, answer.openai_code)


class OpenAIErrorBody(msgspec.Struct, frozen=True):
    """An answer, or an event of a stream, that is an error."""

    error: OpenAIError


def error_body(path: str, code: str, message: str, field: str | None = None) -> bytes:
    """The JSON of an error, in the form that the path's clients know."""
    if (path + "/").startswith("/v1/"):
        return finite_json(OpenAIErrorBody(OpenAIError.of(code, message, field)))
    return finite_json({"error": message, "status": "error"})


def answer_error(
    request: falcon.Request,
    response: falcon.Response,
    code: str,
    message: str,
    field: str | None = None,
) -> None:
    """Make the response an error; a 503 says when to try again."""
    response.status = answer_of(code).status
    response.content_type = falcon.MEDIA_JSON
    response.data = error_body(request.path, code, message, field)
    if response.status_code == 503:
        response.set_header("Retry-After", str(RETRY_AFTER_SECONDS))


def on_known_error(
    request: falcon.Request,
    response: falcon.Response,
    error: RocmForgeError,
    parameters: dict[str, Any],
) -> None:
    """Answer an error that a user can cause or fix with its own sentence."""
    field = error.field if isinstance(error, InvalidRequest) else None
    answer_error(request, response, error.code, str(error), field)


def on_http_error(
    request: falcon.Request,
    response: falcon.Response,
    error: falcon.HTTPError,
    parameters: dict[str, Any],
) -> None:
    """Answer errors of Falcon itself: unknown paths, wrong methods."""
    if isinstance(error, falcon.HTTPNotFound):
        message = f"there is nothing at {request.path}"
        if any(name in request.path.split("/") for name in OPENAI_NAMES):
            message += f"; of OpenAI's API there are {OPENAI_ROUTES}"
    elif isinstance(error, falcon.HTTPMethodNotAllowed):
        message = f"{request.path} does not answer {request.method}"
    else:
        message = error.description or error.title
    response.set_headers(error.headers or {})
    answer_error(request, response, code_of_status(error.status_code), message)


def code_of_status(status: int) -> str:
    """The code of an error that has a status only."""
    return CODE_OF_STATUS.get(status, "invalid_request" if status < 500 else "internal_error")


def on_unknown_error(
    request: falcon.Request,
    response: falcon.Response,
    error: Exception,
    parameters: dict[str, Any],
) -> None:
    """Answer a bug with a general message, and log the exception."""
    log.error("unhandled error at %s %s", request.method, request.path, exc_info=error)
    answer_error(request, response, "internal_error", INTERNAL_ERROR)


def install(app: Application) -> None:
    """Register the handlers, the most general first."""
    app.add_error_handler(Exception, on_unknown_error)
    app.add_error_handler(falcon.HTTPError, on_http_error)
    app.add_error_handler(RocmForgeError, on_known_error)

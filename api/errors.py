"""From exceptions to the documented error body: `{"error": "...", "status": "error"}`.

Paths under /v1 have OpenAI's instead: `{"error": {"message", "type", "param", "code"}}`.
"""

import logging
from typing import Any

import falcon
import msgspec

from runtime.errors import EngineUnavailable, InvalidRequest, QueueFull, RocmForgeError

RETRY_AFTER_SECONDS = 1
INTERNAL_ERROR = "the server failed to answer this request; its log says why"

log = logging.getLogger("rocmforge.api")

Application = falcon.App[falcon.Request, falcon.Response]


class RequestNotFound(RocmForgeError):
    """No request has this id, or it ended too long ago."""


class UnknownModel(RocmForgeError):
    """The model that was asked for is not the one that is served."""


class GenerationFailed(RocmForgeError):
    """A request was taken in and failed."""


class NoModel(RocmForgeError):
    """The server was started without a model, or its model could not be loaded."""


STATUS_OF_ERROR: dict[type[RocmForgeError], int] = {
    InvalidRequest: 400,
    RequestNotFound: 404,
    UnknownModel: 404,
    QueueFull: 503,
    EngineUnavailable: 503,
}
"""Every other error is the server's own: 500."""


class OpenAIError(msgspec.Struct, frozen=True):
    """An error as OpenAI's clients read it."""

    message: str
    type: str
    param: str | None
    code: str | None

    @classmethod
    def of(cls, status: int, message: str, *, unknown_model: bool = False) -> "OpenAIError":
        """The error of an HTTP status. Source of the types: OpenAI's guide to error codes."""
        kind = "invalid_request_error" if status < 500 else "server_error"
        if unknown_model:
            return cls(message, kind, "model", "model_not_found")
        return cls(message, kind, None, None)


class OpenAIErrorBody(msgspec.Struct, frozen=True):
    """An answer, or an event of a stream, that is an error."""

    error: OpenAIError


def error_body(path: str, status: int, message: str, *, unknown_model: bool = False) -> bytes:
    """The JSON of an error, in the form that the path's clients know."""
    if (path + "/").startswith("/v1/"):
        error = OpenAIError.of(status, message, unknown_model=unknown_model)
        return msgspec.json.encode(OpenAIErrorBody(error))
    return msgspec.json.encode({"error": message, "status": "error"})


def answer_error(
    request: falcon.Request,
    response: falcon.Response,
    status: int,
    message: str,
    *,
    unknown_model: bool = False,
) -> None:
    """Make the response an error; a 503 says when to try again."""
    response.status = status
    response.content_type = falcon.MEDIA_JSON
    response.data = error_body(request.path, status, message, unknown_model=unknown_model)
    if status == 503:
        response.set_header("Retry-After", str(RETRY_AFTER_SECONDS))


def on_known_error(
    request: falcon.Request,
    response: falcon.Response,
    error: RocmForgeError,
    parameters: dict[str, Any],
) -> None:
    """Answer an error that a user can cause or mend with its own sentence."""
    status = STATUS_OF_ERROR.get(type(error), 500)
    unknown_model = isinstance(error, UnknownModel)
    answer_error(request, response, status, str(error), unknown_model=unknown_model)


def on_http_error(
    request: falcon.Request,
    response: falcon.Response,
    error: falcon.HTTPError,
    parameters: dict[str, Any],
) -> None:
    """Answer what Falcon itself refuses: unknown paths, wrong methods."""
    if isinstance(error, falcon.HTTPNotFound):
        message = f"there is nothing at {request.path}"
    elif isinstance(error, falcon.HTTPMethodNotAllowed):
        message = f"{request.path} does not answer {request.method}"
    else:
        message = error.description or error.title
    response.set_headers(error.headers or {})
    answer_error(request, response, error.status_code, message)


def on_unknown_error(
    request: falcon.Request,
    response: falcon.Response,
    error: Exception,
    parameters: dict[str, Any],
) -> None:
    """Answer a bug with a sentence that gives nothing away, and log it whole."""
    log.error("unhandled error at %s %s", request.method, request.path, exc_info=error)
    answer_error(request, response, 500, INTERNAL_ERROR)


def install(app: Application) -> None:
    """Register the handlers, the most general first."""
    app.add_error_handler(Exception, on_unknown_error)
    app.add_error_handler(falcon.HTTPError, on_http_error)
    app.add_error_handler(RocmForgeError, on_known_error)

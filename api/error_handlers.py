"""Answers a request that failed: exceptions become the error bodies that clients know."""

import logging
from typing import Any

import falcon

from api.error_bodies import error_body
from api.errors import INTERNAL_ERROR, RETRY_AFTER_SECONDS, RateLimited, answer_of, code_of_status
from runtime.errors import InvalidRequest, RocmForgeError

OPENAI_NAMES = ("v1", "chat", "completions", "responses", "embeddings")
"""Path prefixes that clients of OpenAI's API use, also with a wrong base URL."""
OPENAI_ROUTES = (
    "/v1/chat/completions, /v1/completions, /v1/responses, /v1/embeddings and /v1/models"
)

log = logging.getLogger("rocmforge.api")

Application = falcon.App[falcon.Request, falcon.Response]


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
    if response.status_code == 401:
        response.set_header("WWW-Authenticate", "Bearer")
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
    if isinstance(error, RateLimited):
        response.set_header("Retry-After", str(error.retry_after))


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

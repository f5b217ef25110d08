"""The bodies of errors, in the form that the clients of each path know.

Documented routes have `{"error": "...", "status": "error"}`. Sources of the others: OpenAI's guide
to error codes, Anthropic's page on errors, docs/api.md of Ollama, tools/server of llama.cpp.
"""

from collections.abc import Callable

import msgspec

from api.errors import answer_of
from runtime.errors import ContextLengthExceeded
from runtime.finite_json import finite_json

ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}
"""Anthropic's `type` of an error by its status; of others it depends on whose fault it is."""


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


class AnthropicError(msgspec.Struct, frozen=True):
    """An error as Anthropic's clients read it."""

    type: str
    message: str

    @classmethod
    def of(cls, code: str, message: str) -> "AnthropicError":
        """The error of a code."""
        status = answer_of(code).status
        other = "invalid_request_error" if status < 500 else "api_error"
        return cls(ANTHROPIC_TYPES.get(status, other), message)


class AnthropicErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    """An answer, or an event of a stream, that is an error."""

    type: str = "error"
    error: AnthropicError


LLAMA_CPP_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    501: "not_supported_error",
    503: "unavailable_error",
}
"""llama.cpp's `type` of an error by its status, likewise."""


class LlamaCppError(msgspec.Struct, frozen=True):
    """An error as llama.cpp's clients read it."""

    code: int
    """HTTP status."""
    message: str
    type: str

    @classmethod
    def of(cls, code: str, message: str) -> "LlamaCppError":
        """The error of a code."""
        status = answer_of(code).status
        kind = "invalid_request_error" if status < 500 else "server_error"
        if code == ContextLengthExceeded.code:
            kind = "exceed_context_size_error"
        return cls(status, message, LLAMA_CPP_TYPES.get(status, kind))


class LlamaCppErrorBody(msgspec.Struct, frozen=True):
    """An answer, or an event of a stream, that is an error."""

    error: LlamaCppError


Form = Callable[[str, str, str | None], object]
"""Makes an error of a code, a message and the field at fault."""


def _openai(code: str, message: str, field: str | None) -> object:
    return OpenAIErrorBody(OpenAIError.of(code, message, field))


def _anthropic(code: str, message: str, field: str | None) -> object:
    return AnthropicErrorBody(error=AnthropicError.of(code, message))


def _ollama(code: str, message: str, field: str | None) -> object:
    return {"error": message}


def _llama_cpp(code: str, message: str, field: str | None) -> object:
    return LlamaCppErrorBody(LlamaCppError.of(code, message))


def _documented(code: str, message: str, field: str | None) -> object:
    return {"error": message, "status": "error"}


BODIES: tuple[tuple[str, Form], ...] = (
    ("/v1/messages/", _anthropic),
    ("/v1/", _openai),
    ("/api/", _ollama),
    ("/completion/", _llama_cpp),
    ("/infill/", _llama_cpp),
    ("/props/", _llama_cpp),
    ("/slots/", _llama_cpp),
    ("/", _documented),
)
"""The form of errors below each path, the deepest first."""


def error_body(path: str, code: str, message: str, field: str | None = None) -> bytes:
    """Return the JSON of an error, in the form that the path's clients know."""
    return finite_json(_form(path)(code, message, field))


def form_of(path: str) -> str:
    """Return the name of the form of a path's errors: openai, anthropic and so on."""
    return _form(path).__name__.removeprefix("_")


def _form(path: str) -> Form:
    return next((form for prefix, form in BODIES if (path + "/").startswith(prefix)), _documented)

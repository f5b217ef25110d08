"""Bodies of llama.cpp's /completion and /infill.

Source of names, meanings and defaults: tools/server/README.md of llama.cpp.
"""

from typing import Any, ClassVar, Self

import msgspec

from api.completions import WHOLE_CONTEXT, OpenAIBody, OpenAIRequest
from api.known_fields import unknown_fields
from api.request_body import decode
from api.schemas import FillIn, Number, Parts, Prompt
from runtime.errors import InvalidRequest

Text = str | list[str | int]
"""A text, or texts and token ids in order."""
DEFAULTS: dict[str, Number] = {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05}
"""Sampling where a body does not say otherwise."""


class LlamaCppBody(OpenAIBody, frozen=True, kw_only=True):
    """Common fields of the bodies; null means the default."""

    not_served: ClassVar[frozenset[str]] = frozenset(
        {"stream_options", "prompt_logprobs", "return_tokens_as_token_ids"}
    )
    """Fields of OpenAI's bodies that no answer here has a place for."""

    return_tokens: bool | None = None
    """Whether an answer that is not streamed has its token ids, too."""
    timings_per_token: bool | None = None
    """Whether every event of a stream has timings, rather than the last alone."""
    response_fields: list[str] | None = None
    """The fields of a whole answer, where not all; `a/b` for field b of object a."""

    def with_defaults(self) -> Self:
        """Return the body with llama.cpp's defaults of the sampling fields that are not given."""
        missing = {name: value for name, value in DEFAULTS.items() if getattr(self, name) is None}
        return msgspec.structs.replace(self, **missing)


class LlamaCppCompletionBody(LlamaCppBody, frozen=True, kw_only=True):
    """JSON body of POST /completion."""

    prompt: str | list[str | int | list[str | int]]
    """A text, texts and token ids in order, or several of these."""

    def prompts(self) -> tuple[Prompt, ...]:
        """Return each prompt. An array with token ids is one; without any it holds prompts.

        Raises InvalidRequest for an empty array.
        """
        if isinstance(self.prompt, str):
            return (self.prompt,)
        if not self.prompt:
            raise InvalidRequest("prompt must hold at least one text or token", field="prompt")
        parts = tuple(part for part in self.prompt if not isinstance(part, list))
        if len(parts) == len(self.prompt) and any(isinstance(part, int) for part in parts):
            return (parts,)
        return tuple(
            (each,) if isinstance(each, int) else tuple(each) if isinstance(each, list) else each
            for each in self.prompt
        )


class ExtraFile(msgspec.Struct, frozen=True):
    """A file that is shown before the text with a gap."""

    text: str
    filename: str = "tmp"


class InfillBody(LlamaCppBody, frozen=True, kw_only=True):
    """JSON body of POST /infill."""

    input_prefix: Text
    """Before the gap."""
    input_suffix: Text
    """After the gap."""
    input_extra: list[ExtraFile] | None = None
    prompt: str | None = None
    """The beginning of what fills the gap."""

    def gap(self) -> FillIn:
        """Return the prompt."""
        return FillIn(
            prefix=_parts(self.input_prefix),
            suffix=_parts(self.input_suffix),
            begun=_parts(self.prompt or ""),
            files=tuple((extra.filename, extra.text) for extra in self.input_extra or ()),
        )


class LlamaCppRequest(OpenAIRequest, frozen=True, kw_only=True):
    """A checked request of /completion or /infill."""

    return_tokens: bool = False
    timings_per_token: bool = False
    response_fields: tuple[str, ...] = ()

    @classmethod
    def parse_completion(cls, body: bytes) -> Self:
        """Read a body of /completion. Raises InvalidRequest naming the field that does not fit."""
        given = decode(body, LlamaCppCompletionBody)
        return cls._of(given, body, given.prompts())

    @classmethod
    def parse_infill(cls, body: bytes) -> Self:
        """Read a body of /infill likewise."""
        given = decode(body, InfillBody)
        return cls._of(given, body, (given.gap(),))

    @classmethod
    def _of(cls, given: LlamaCppBody, body: bytes, prompts: tuple[Prompt, ...]) -> Self:
        served = set(given.__struct_fields__) - given.not_served
        unknown = unknown_fields(body, served)
        made = cls.of(given.with_defaults(), unknown, prompts, given.limit(WHOLE_CONTEXT))
        fields: dict[str, Any] = {
            "return_tokens": bool(given.return_tokens),
            "timings_per_token": bool(given.timings_per_token),
            "response_fields": tuple(given.response_fields or ()),
        }
        return msgspec.structs.replace(made, **fields)


def _parts(given: Text) -> Parts:
    return (given,) if isinstance(given, str) else tuple(given)

"""Bodies of OpenAI's completions API, as far as it is served here.

Source of names, defaults and ranges: OpenAI's API reference, "Create completion". `top_k`,
`ignore_eos` and `n_predict` are extensions that other servers have too.
"""

from typing import Self

import msgspec

from api.known_fields import unknown_fields
from api.request_body import decode
from api.schemas import (
    SEEDS,
    GenerateRequest,
    Number,
    Prompt,
    one_of,
    sampling,
    stop_strings,
    whole,
)
from api.structured_output import StructuredBody
from runtime.errors import InvalidRequest
from runtime.sampling import COUNTS

DEFAULT_MAX_TOKENS = 16
NO_LIMIT = -1
"""A top_k that keeps every token, as 0 does; a max_tokens that the context alone ends."""
WHOLE_CONTEXT = 2**31 - 1
"""max_tokens of a request without a limit: what the context leaves."""


class StreamOptions(msgspec.Struct, frozen=True):
    """How a stream ends."""

    include_usage: bool | None = None


class OpenAIBody(StructuredBody, frozen=True, kw_only=True):
    """What the bodies of completions have in common; null means the default."""

    model: str | None = None
    max_tokens: Number | None = None
    stop: str | list[str] | None = None
    ignore_eos: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n_predict: Number | None = None
    """llama.cpp's name of max_tokens."""
    max_completion_tokens: Number | None = None
    """OpenAI's newer one."""
    n: Number | None = None
    """Answers to each prompt."""
    n_cmpl: Number | None = None
    """llama.cpp's name of n."""

    def check(self) -> None:
        """Raise InvalidRequest for fields that exclude each other."""
        if self.stream_options is not None and not self.stream:
            raise InvalidRequest("stream_options is only for a stream; send stream: true with it")

    def choices(self) -> int:
        """How many answers there are to each prompt. Raises InvalidRequest."""
        told = one_of(self, "n", "n_cmpl")
        return 1 if told is None else int(COUNTS["n"].checked(*told))

    def limit(self, default: int) -> int:
        """The most tokens of an answer, by any name. Raises InvalidRequest."""
        told = one_of(self, "max_completion_tokens", "max_tokens", "n_predict")
        if told is None:
            return default
        return WHOLE_CONTEXT if told[1] == NO_LIMIT else whole(*told, 1)


class CompletionBody(OpenAIBody, frozen=True, kw_only=True):
    """JSON body of POST /v1/completions. What nobody knows is ignored."""

    prompt: str | list[str | int | list[int]]
    parse_special: bool | None = None
    """llama.cpp's: whether the prompt may name control tokens; by default so."""


class OpenAIRequest(msgspec.Struct, frozen=True):
    """What a client asked for, checked and with the defaults filled in."""

    generate: GenerateRequest
    stream: bool
    """Whether the answer comes token by token."""
    include_usage: bool
    """Whether a stream ends with the token counts."""

    @classmethod
    def of(
        cls,
        given: OpenAIBody,
        body: bytes,
        prompts: tuple[Prompt, ...],
        max_tokens: int,
        *,
        parse_special: bool = True,
    ) -> Self:
        """The request of a body. Raises InvalidRequest naming the field that does not fit."""
        given.check()
        unknown = unknown_fields(body, given.__struct_fields__)
        seed, top_k = given.seed, given.top_k
        given = msgspec.structs.replace(
            given,
            seed=None if seed is None else seed_of(seed),
            top_k=None if top_k is None else max(0, whole("top_k", top_k, NO_LIMIT)),
        )
        return cls(
            GenerateRequest(
                prompts,
                max_tokens,
                sampling(given, top_k=0, top_p=1.0),
                choices=given.choices(),
                ignore_eos=bool(given.ignore_eos),
                parse_special=parse_special,
                stops=stop_strings(given.stop),
                model=given.model or None,
                unknown=unknown,
                grammar=given.grammar_of_answer(),
            ),
            bool(given.stream),
            bool(given.stream_options and given.stream_options.include_usage),
        )


class CompletionRequest(OpenAIRequest, frozen=True):
    """A checked request of POST /v1/completions."""

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Read a request body. Raises InvalidRequest naming the field that does not fit."""
        given = decode(body, CompletionBody)
        return cls.of(
            given,
            body,
            _prompts(given.prompt),
            given.limit(DEFAULT_MAX_TOKENS),
            parse_special=given.parse_special is not False,
        )


class TokenDetails(msgspec.Struct, frozen=True):
    """What is known of a prompt's tokens."""

    cached_tokens: int
    """Those that were not computed again because their pages were known."""


class AnswerTokenDetails(msgspec.Struct, frozen=True):
    """What is known of an answer's tokens."""

    reasoning_tokens: int
    """Those of what was thought, with the marks around it."""


class Usage(msgspec.Struct, frozen=True):
    """Token counts of a completion."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: TokenDetails
    completion_tokens_details: AnswerTokenDetails | msgspec.UnsetType = msgspec.UNSET
    """Of a chat's answer."""


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """A text of a completion, or what a chunk adds to it."""

    text: str
    index: int = 0
    logprobs: None = None
    finish_reason: str | None


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of POST /v1/completions, and each chunk of a stream."""

    id: str
    object: str = "text_completion"
    created: int
    """Seconds since 1970."""
    model: str
    choices: tuple[Choice, ...]
    usage: Usage | msgspec.UnsetType | None = msgspec.UNSET
    """Left out of a stream that was not asked for it; null in all but its last chunk otherwise."""


class ModelFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What llama.cpp's server tells of a model."""

    n_ctx: int
    """Most tokens of a request, as `max_model_len`."""
    n_ctx_train: int
    """The model's own limit, which may be above that of the KV cache."""
    n_vocab: int


class ModelObject(msgspec.Struct, frozen=True, kw_only=True):
    """A model, as GET /v1/models lists it."""

    id: str
    object: str = "model"
    created: int
    owned_by: str = "rocmforge"
    max_model_len: int
    """Most tokens of a request, prompt and answer together; vLLM's name."""
    meta: ModelFigures


class ModelList(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of GET /v1/models."""

    object: str = "list"
    data: tuple[ModelObject, ...]


def _prompts(given: str | list[str | int | list[int]]) -> tuple[Prompt, ...]:
    """The prompts: each a text or token ids. An array of token ids is one prompt."""
    if isinstance(given, str):
        return (given,)
    tokens = tuple(token for token in given if isinstance(token, int))
    if len(tokens) == len(given):
        return (tokens,)
    if tokens:
        raise InvalidRequest(
            "prompt mixes token ids with prompts; send those of each prompt in an array of its own",
            field="prompt",
        )
    prompts = (each for each in given if not isinstance(each, int))
    return tuple(tuple(each) if isinstance(each, list) else each for each in prompts)


def seed_of(given: Number) -> int:
    """OpenAI's seeds may be negative: 64 bits, signed or not."""
    return whole("seed", given, -SEEDS // 2, SEEDS - 1) % SEEDS

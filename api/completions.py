"""Bodies of OpenAI's completions API, as far as it is served here.

Source of names, defaults and ranges: OpenAI's API reference, "Create completion". `top_k`,
`ignore_eos` and `n_predict` are extensions that other servers have too.
"""

from typing import Self

import msgspec

from api.keep_alive import seconds_of
from api.known_fields import unknown_fields
from api.logprobs import ShownLogprobs
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
    """Options of a stream."""

    include_usage: bool | None = None


class OpenAIBody(StructuredBody, frozen=True, kw_only=True):
    """Common fields of the bodies of completions; null means the default."""

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
    best_of: Number | None = None
    """Answers that are made to each prompt, of which the n likeliest are given."""
    n_probs: Number | None = None
    """llama.cpp's name: logprobs, with this number of most likely tokens."""
    prompt_logprobs: Number | None = None
    """vLLM's name: logprobs of the prompt, with this number of most likely tokens."""
    return_tokens_as_token_ids: bool | None = None
    """vLLM's: whether logprobs have tokens by their ids."""
    keep_alive: Number | str | None = None
    """Ollama's: how long the model stays loaded after its last request."""
    cache_salt: str | None = None
    """vLLM's: only requests with the same one share known pages."""

    def check(self) -> None:
        """Raise InvalidRequest for fields that exclude each other."""
        if self.stream_options is not None and not self.stream:
            raise InvalidRequest("stream_options is only for a stream; send stream: true with it")
        if self.prompt_logprobs is not None and self.stream:
            raise InvalidRequest(
                "prompt_logprobs are not given in a stream; leave stream out", field="stream"
            )

    def choices(self) -> tuple[int, int]:
        """Return the number of answers given to each prompt, and of those made for it."""
        named = one_of(self, "n", "n_cmpl")
        given = 1 if named is None else int(COUNTS["n"].checked(*named))
        if self.best_of is None:
            return given, given
        made = int(COUNTS["best_of"].checked("best_of", self.best_of))
        if made < given:
            raise InvalidRequest("best_of must not be below n", field="best_of")
        if made > given and self.stream:
            raise InvalidRequest(
                "which answers are the best is known at their end; leave stream or best_of out",
                field="best_of",
            )
        return given, made

    def shown(self) -> ShownLogprobs:
        """Return the options of logprobs. Raises InvalidRequest."""
        prompt = self.prompt_logprobs
        return ShownLogprobs(
            self._answer_logprobs(),
            None if prompt is None else _count("prompt_logprobs", prompt),
            token_ids=bool(self.return_tokens_as_token_ids),
        )

    def _answer_logprobs(self) -> int | None:
        """Number of most likely tokens returned with each token; None without logprobs."""
        return _count("n_probs", self.n_probs) if self.n_probs else None

    def limit(self, default: int) -> int:
        """Return the maximum number of tokens, by any name. Raises InvalidRequest."""
        named = one_of(self, "max_completion_tokens", "max_tokens", "n_predict")
        if named is None:
            return default
        return WHOLE_CONTEXT if named[1] == NO_LIMIT else whole(*named, 0)


class CompletionBody(OpenAIBody, frozen=True, kw_only=True):
    """JSON body of POST /v1/completions. Unknown fields are ignored."""

    prompt: str | list[str | int | list[int]]
    parse_special: bool | None = None
    """llama.cpp's: whether the prompt may name control tokens; by default so."""
    add_special_tokens: bool | None = None
    """vLLM's: whether the prompt gets BOS and EOS where the model wants them; by default so."""
    logprobs: Number | bool | None = None
    """Logprobs, with this number of most likely tokens; false for none."""
    echo: bool | None = None
    """Whether the text begins with the prompt."""

    def shown(self) -> ShownLogprobs:
        """Return the options of logprobs, and whether the prompt has any. Raises InvalidRequest."""
        return msgspec.structs.replace(super().shown(), echo=bool(self.echo))

    def _answer_logprobs(self) -> int | None:
        if self.logprobs is True:
            raise InvalidRequest("logprobs must be a number", field="logprobs")
        asked = msgspec.structs.replace(
            self,
            logprobs=None if self.logprobs is False else self.logprobs,
            n_probs=self.n_probs or None,
        )
        named = one_of(asked, "logprobs", "n_probs")
        return None if named is None else _count(*named)


class OpenAIRequest(msgspec.Struct, frozen=True):
    """A client's request, validated and with defaults."""

    generate: GenerateRequest
    stream: bool
    """Whether the answer is streamed."""
    include_usage: bool
    """Whether a stream ends with the token counts."""
    n: int = 1
    """Answers that are given to each prompt: the likeliest, where more are made."""
    shown: ShownLogprobs = ShownLogprobs()

    @classmethod
    def of(
        cls,
        given: OpenAIBody,
        unknown: tuple[str, ...],
        prompts: tuple[Prompt, ...],
        max_tokens: int,
        *,
        parse_special: bool = True,
    ) -> Self:
        """The request of a body, of which `unknown` fields were ignored.

        Raises InvalidRequest naming the field that does not fit.
        """
        given.check()
        shown = given.shown()
        n, made = given.choices()
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
                choices=made,
                top_logprobs=0 if made > n and shown.answer is None else shown.answer,
                prompt_top_logprobs=shown.of_prompt,
                ignore_eos=bool(given.ignore_eos),
                parse_special=parse_special,
                stops=stop_strings(given.stop),
                model=given.model or None,
                unknown=unknown,
                grammar=given.grammar_of_answer(),
                cache_salt=given.cache_salt or "",
                keep_alive=seconds_of(given.keep_alive),
            ),
            bool(given.stream),
            bool(given.stream_options and given.stream_options.include_usage),
            n,
            shown,
        )


class CompletionRequest(OpenAIRequest, frozen=True):
    """A checked request of POST /v1/completions."""

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Read a request body. Raises InvalidRequest naming the field that does not fit."""
        given = decode(body, CompletionBody)
        made = cls.of(
            given,
            unknown_fields(body, given.__struct_fields__),
            _prompts(given.prompt),
            given.limit(DEFAULT_MAX_TOKENS),
            parse_special=given.parse_special is not False,
        )
        if given.add_special_tokens is not False:
            return made
        generate = msgspec.structs.replace(made.generate, add_special=False)
        return msgspec.structs.replace(made, generate=generate)


class TokenDetails(msgspec.Struct, frozen=True):
    """Details of a prompt's tokens."""

    cached_tokens: int
    """Those that were not computed again because their pages were known."""


class AnswerTokenDetails(msgspec.Struct, frozen=True):
    """Details of an answer's tokens."""

    reasoning_tokens: int
    """Reasoning tokens, including the marks around them."""


class Usage(msgspec.Struct, frozen=True):
    """Token counts of a completion."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: TokenDetails
    completion_tokens_details: AnswerTokenDetails | msgspec.UnsetType = msgspec.UNSET
    """Of a chat's answer."""


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """A text of a completion, or the addition of a chunk."""

    text: str
    index: int = 0
    logprobs: msgspec.Raw | None = None
    finish_reason: str | None
    prompt_logprobs: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of POST /v1/completions, and each chunk of a stream."""

    id: str
    object: str = "text_completion"
    created: int
    """Seconds since 1970."""
    model: str
    choices: tuple[Choice, ...]
    usage: Usage | msgspec.UnsetType | None = msgspec.UNSET
    """Omitted in a stream that did not request it; otherwise null in all but its last chunk."""


def _prompts(given: str | list[str | int | list[int]]) -> tuple[Prompt, ...]:
    """Return the prompts, each a text or token ids. An array of token ids is one prompt."""
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


def _count(name: str, value: Number) -> int:
    """A number of likeliest tokens. Raises InvalidRequest."""
    return int(COUNTS["top_logprobs"].checked(name, value))


def seed_of(given: Number) -> int:
    """Return an OpenAI seed, 64 bits signed or not, as an unsigned one."""
    return whole("seed", given, -SEEDS // 2, SEEDS - 1) % SEEDS

"""Bodies of requests and answers, as the API document gives them."""

from collections.abc import Mapping
from typing import Any

import msgspec

from api.answer_options import AnswerOptions
from api.keep_alive import seconds_of
from api.known_fields import unknown_fields
from api.request_body import decode
from runtime.errors import InvalidRequest
from runtime.generation import FinishReason
from runtime.grammar import Grammar
from runtime.sampling import BIASES, MAX_INTEGER, RANGES, Range, SamplingParameters

Number = int | float
SEEDS = 2**64
MAX_ID_DIGITS = 9
OTHER_NAMES: Mapping[str, tuple[str, ...]] = {
    "repetition_penalty": ("repeat_penalty",),
    "typical_p": ("typ_p",),
}
"""Names that other servers have for the parameters of RANGES."""
SAMPLER_LETTERS: Mapping[str, str] = {
    "e": "penalties",
    "d": "dry",
    "s": "top_n_sigma",
    "k": "top_k",
    "y": "typ_p",
    "p": "top_p",
    "m": "min_p",
    "x": "xtc",
    "t": "temperature",
}
"""llama.cpp's letters of the samplers."""
MAX_STOP_CHARACTERS = 1 << 14
"""Of all stop strings of a request: each takes some memory for as long as it runs."""


def whole(name: str, value: Number, least: int, most: int = MAX_INTEGER) -> int:
    """Return a whole number from `least` to `most`; 10.0 is one, 10.5 is not.

    Raises InvalidRequest.
    """
    return int(Range(least, most, whole=True).checked(name, value))


def stop_strings(given: str | list[str] | None) -> tuple[str, ...]:
    """Return the stop strings of a request; an empty one has no effect, as in llama.cpp.

    Raises InvalidRequest where they are too long together.
    """
    stops = (given,) if isinstance(given, str) else tuple(given or ())
    if sum(map(len, stops)) > MAX_STOP_CHARACTERS:
        raise InvalidRequest(
            f"stop must have at most {MAX_STOP_CHARACTERS} characters in all", field="stop"
        )
    return tuple(filter(None, stops))


def one_of(given: msgspec.Struct, *names: str) -> tuple[str, Any] | None:
    """Return the name and value of a field with several names; None if it is not given.

    Raises InvalidRequest if it is given under two names with different values.
    """
    named = [(name, value) for name in names if (value := getattr(given, name)) is not None]
    if not named:
        return None
    first, value = named[0]
    for name, other in named[1:]:
        if other != value:
            raise InvalidRequest(
                f"{first} and {name} are one field and have different values; send one of them",
                field=name,
            )
    return first, value


class SamplingFields(msgspec.Struct, frozen=True, kw_only=True):
    """The sampling fields of every route that generates; null means the default."""

    temperature: Number | None = None
    top_k: Number | None = None
    top_p: Number | None = None
    min_p: Number | None = None
    repetition_penalty: Number | None = None
    repeat_penalty: Number | None = None
    """llama.cpp's name of repetition_penalty."""
    presence_penalty: Number | None = None
    frequency_penalty: Number | None = None
    repeat_last_n: Number | None = None
    min_tokens: Number | None = None
    seed: Number | None = None
    typical_p: Number | None = None
    typ_p: Number | None = None
    """llama.cpp's name of typical_p."""
    top_n_sigma: Number | None = None
    xtc_probability: Number | None = None
    xtc_threshold: Number | None = None
    dry_multiplier: Number | None = None
    dry_base: Number | None = None
    dry_allowed_length: Number | None = None
    dry_penalty_last_n: Number | None = None
    dry_sequence_breakers: list[str] | None = None
    """Texts beyond which DRY's repetitions do not reach."""
    dynatemp_range: Number | None = None
    dynatemp_exponent: Number | None = None
    samplers: list[str] | str | None = None
    """The samplers that act, in their order: llama.cpp's names of them, or a letter for each."""
    logit_bias: dict[str, Number] | None = None
    """Values added to the logits of tokens, by id."""
    stop_token_ids: list[int] | None = None
    """Tokens that end the text and add nothing to it."""


class GenerateBody(SamplingFields, frozen=True, kw_only=True):
    """JSON body of both generate routes. null means the default; unknown fields are ignored."""

    prompt: str
    max_tokens: Number | None = None
    stop: str | list[str] | None = None
    """Our extension: strings before which the text ends."""
    ignore_eos: bool | None = None
    """Our extension, as on the other routes: whether to continue after an end token."""
    parse_special: bool | None = None
    """Our extension, as in llama.cpp: whether the prompt may name control tokens; by default so."""
    stream: bool | None = None
    """Ignored; the route decides."""
    model: str | None = None
    """Our extension, as on the other routes: None for whichever is served."""
    keep_alive: Number | str | None = None
    """Ollama's: how long the model stays loaded after its last request."""
    cache_salt: str | None = None
    """vLLM's: only requests with the same one share known pages."""


class Conversation(msgspec.Struct, frozen=True):
    """Messages that the model's own template makes a prompt."""

    messages: tuple[dict[str, Any], ...]
    variables: dict[str, Any]
    """Further variables of the template."""
    add_generation_prompt: bool = True
    """Whether the assistant speaks next."""
    continue_final: bool = False
    """Whether the answer continues the last message."""


Parts = tuple[int | str, ...]
"""Tokens, and texts between them."""


class FillIn(msgspec.Struct, frozen=True):
    """A text with a gap, which the answer fills."""

    prefix: Parts
    suffix: Parts
    begun: Parts = ()
    """The beginning of what fills the gap, behind the prefix."""
    files: tuple[tuple[str, str], ...] = ()
    """Names and texts of other files."""


Prompt = str | Parts | Conversation | FillIn
"""A text, its tokens or parts, a conversation, or a text with a gap."""


class GenerateRequest(msgspec.Struct, frozen=True):
    """A client's request, validated and with defaults."""

    prompts: tuple[Prompt, ...]
    max_tokens: int
    sampling: SamplingParameters
    choices: int = 1
    """Answers to each prompt."""
    top_logprobs: int | None = None
    """Number of likeliest tokens recorded with each token; None for no logprobs."""
    prompt_top_logprobs: int | None = None
    """The same for each token of a prompt."""
    ignore_eos: bool = False
    """Whether to continue after a token that ends the generation."""
    parse_special: bool = True
    """Whether a text prompt may name control tokens."""
    add_special: bool = True
    """Whether a text prompt gets BOS and EOS where the model wants them."""
    stops: tuple[str, ...] = ()
    """Strings before which the text ends."""
    model: str | None = None
    """None for whichever is served."""
    keep_alive: float | None = None
    """Seconds that the model stays loaded afterwards, if that is to change."""
    cache_salt: str = ""
    """Only requests with the same one share known pages."""
    unknown: tuple[str, ...] = ()
    """Unknown fields, which were ignored."""
    grammar: Grammar | None = None
    """The grammar of the answer, after any reasoning."""
    options: AnswerOptions | None = None
    """Options for reading a chat's answer."""

    @property
    def prompt(self) -> Prompt:
        """The prompt, or the first of several."""
        return self.prompts[0]

    @classmethod
    def parse(cls, body: bytes) -> "GenerateRequest":
        """Read a request body.

        Raises InvalidRequest naming the field that does not fit.
        """
        given = decode(body, GenerateBody)
        unknown = unknown_fields(body, GenerateBody.__struct_fields__)
        if given.top_k is not None:
            whole("top_k", given.top_k, 1)
        return cls(
            (given.prompt,),
            100 if given.max_tokens is None else whole("max_tokens", given.max_tokens, 1),
            sampling(given),
            ignore_eos=bool(given.ignore_eos),
            parse_special=given.parse_special is not False,
            stops=stop_strings(given.stop),
            model=given.model or None,
            unknown=unknown,
            cache_salt=given.cache_salt or "",
            keep_alive=seconds_of(given.keep_alive),
        )


def sampling(given: SamplingFields, **defaults: Number | None) -> SamplingParameters:
    """The parameters that a body names, or their defaults.

    Raises InvalidRequest naming the field that is out of range.
    """
    values: dict[str, Any] = {}
    for name, allowed in RANGES.items():
        if (named := one_of(given, name, *OTHER_NAMES.get(name, ()))) is not None:
            values[name] = allowed.checked(*named)
        elif name in defaults:
            values[name] = defaults[name]
    if given.dry_sequence_breakers is not None:
        values["dry_sequence_breakers"] = tuple(given.dry_sequence_breakers)
    if given.samplers:
        values["samplers"] = tuple(map(_sampler, given.samplers))
    return SamplingParameters(
        **values,
        logit_bias=tuple(map(_bias, (given.logit_bias or {}).items())),
        stop_token_ids=frozenset(given.stop_token_ids or ()),
    )


def _sampler(given: str) -> str:
    """The name of a sampler that is named in another way, too."""
    return SAMPLER_LETTERS.get(given) or given.replace("typical_p", "typ_p")


def _bias(given: tuple[str, Number]) -> tuple[int, float]:
    """A token and its bias. Raises InvalidRequest."""
    token, bias = given
    if not (token.isascii() and token.isdigit() and len(token) <= MAX_ID_DIGITS):
        raise InvalidRequest("logit_bias names tokens by their ids", field="logit_bias")
    return int(token), BIASES.checked("logit_bias", bias)


class GenerateAnswer(msgspec.Struct, frozen=True):
    """State of a request, as /generate, /status and /cancel give it."""

    request_id: int
    text: str
    tokens: tuple[int, ...]
    finished: bool
    finish_reason: FinishReason | None


class RunningRequest(msgspec.Struct, frozen=True):
    """One line of GET /requests."""

    request_id: int
    x_request_id: str
    """The X-Request-Id header of the HTTP request that started it."""
    state: str
    """queued or active."""
    prompt_tokens: int
    generated_tokens: int
    seconds: float
    """Since it was submitted."""


class DiscoveredModel(msgspec.Struct, frozen=True):
    """One entry of GET /models."""

    path: str
    size: int
    metadata: dict[str, Any]
    """Raw GGUF scalars; empty for a file that cannot be read."""
    name: str
    """Its published name."""
    version: int
    """The current version, which a running server loads within a second."""

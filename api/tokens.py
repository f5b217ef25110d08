"""Bodies of the routes that look inside: tokens of texts, texts of tokens, prompts as rendered.

Sources: tools/server/README.md of llama.cpp for /tokenize, /detokenize and /apply-template;
vllm/entrypoints/serve of vLLM for the routes that end with /render, /tokenizer_info, and for other
names of /tokenize's fields.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from api.completions import OpenAIRequest
from api.schemas import one_of


class TokenizeBody(msgspec.Struct, frozen=True):
    """JSON body of POST /tokenize; null means the default."""

    content: str | list[str | int] | None = None
    """A text, or texts and token ids in order."""
    prompt: str | None = None
    """vLLM's name of content."""
    add_special: bool | None = None
    """Whether BOS and EOS are added if the model wants them; default false."""
    add_special_tokens: bool | None = None
    """vLLM's name of add_special; default true with `prompt`."""
    parse_special: bool | None = None
    """Whether a text may name control tokens; default true."""
    with_pieces: bool | None = None
    """Whether each token is returned with its text."""

    def parts(self) -> list[str | int]:
        """The texts and token ids. Raises InvalidRequest."""
        named = one_of(self, "content", "prompt")
        given = [] if named is None else named[1]
        return [given] if isinstance(given, str) else given

    def adds_special(self) -> bool:
        """Whether BOS and EOS are added where the model wants them. Raises InvalidRequest."""
        named = one_of(self, "add_special", "add_special_tokens")
        return self.prompt is not None if named is None else named[1]


class Piece(msgspec.Struct, frozen=True):
    """A token and its text, or its bytes if they are not whole characters."""

    id: int
    piece: str | list[int]

    @classmethod
    def of(cls, token: int, text: bytes) -> "Piece":
        """The piece of a token with these bytes."""
        try:
            return cls(token, text.decode())
        except UnicodeDecodeError:
            return cls(token, list(text))


class TokenizeAnswer(msgspec.Struct, frozen=True):
    """Answer of POST /tokenize."""

    tokens: Sequence[int | Piece]


class DetokenizeBody(msgspec.Struct, frozen=True):
    """JSON body of POST /detokenize."""

    tokens: list[int] | None = None


class DetokenizeAnswer(msgspec.Struct, frozen=True):
    """Answer of POST /detokenize."""

    content: str
    prompt: str
    """The same, in vLLM's words."""


class TokenizerInfo(msgspec.Struct, frozen=True):
    """Answer of GET /tokenizer_info: what a client needs to make prompts of its own."""

    bos_token: str | None
    eos_token: str | None
    chat_template: str | None


class TemplateAnswer(msgspec.Struct, frozen=True):
    """Answer of POST /apply-template."""

    prompt: str


class RenderedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The engine's request for a body of a completion, in vLLM's form."""

    request_id: str
    token_ids: tuple[int, ...]
    features: None = None
    """vLLM's place for images; there are none here."""
    sampling_params: dict[str, Any]
    model: str
    stream: bool
    stream_options: dict[str, Any] | None
    cache_salt: None = None
    priority: int = 0

    @classmethod
    def of(
        cls, wanted: OpenAIRequest, tokens: tuple[int, ...], *, model: str, name: str, room: int
    ) -> "RenderedRequest":
        """A checked request with the tokens of its prompt; `room` are those left for the answer."""
        sampling = wanted.generate.sampling
        return cls(
            request_id=name,
            token_ids=tokens,
            sampling_params={
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                "top_k": sampling.top_k,
                "seed": sampling.seed,
                "stop": list(wanted.generate.stops),
                "ignore_eos": wanted.generate.ignore_eos,
                "max_tokens": min(wanted.generate.max_tokens, room),
            },
            model=model,
            stream=wanted.stream,
            stream_options={"include_usage": wanted.include_usage} if wanted.stream else None,
        )

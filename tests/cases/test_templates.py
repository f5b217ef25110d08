"""Conversations from public bug reports: the prompt and the tokens that they have elsewhere.

`right.text` is what Jinja gives with transformers' environment; of `right.tokens` those that the
template wrote as control tokens are single ones, and those that a user typed are not.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from gguf import GGUFWriter, TokenType

from api.chat import ChatRequest
from api.schemas import Conversation
from runtime.chat import ChatTemplate
from runtime.gguf import GGUFFile
from runtime.tokenizer import Tokenizer
from tests.models import Vocabulary, byte_level_vocabulary, write_tiny_llama

CASES: list[dict[str, Any]] = json.loads((Path(__file__).parent / "templates.json").read_text())


@dataclass(frozen=True)
class Extended(Vocabulary):
    """A vocabulary whose GGUF has further keys that name tokens, given by their texts."""

    arrays: Mapping[str, Sequence[str]] = field(default_factory=dict)
    scalars: Mapping[str, str] = field(default_factory=dict)

    def write(self, writer: GGUFWriter) -> None:
        super().write(writer)
        for key, texts in self.arrays.items():
            writer.add_array(key, [self.tokens.index(text) for text in texts])
        for key, text in self.scalars.items():
            writer.add_uint32(key, self.tokens.index(text))


def tokenizer_of(case: dict[str, Any], folder: Path) -> Tokenizer:
    base = byte_level_vocabulary()
    kinds = dict(zip(base.tokens, base.types, strict=True))
    kinds |= {text: TokenType.CONTROL for text in case.get("control", ())}
    kinds |= {text: TokenType.USER_DEFINED for text in case.get("shown", ())}
    tokens = list(kinds)
    vocabulary = Extended(
        model=base.model,
        pre=base.pre,
        tokens=tokens,
        types=list(kinds.values()),
        merges=base.merges,
        unknown=base.unknown,
        chat_template=case.get("template", base.chat_template),
        add_bos="bos" in case,
        bos=tokens.index(case["bos"]) if "bos" in case else base.bos,
        eos=tokens.index(case["eos"]) if "eos" in case else base.eos,
        arrays=case.get("arrays", {}),
        scalars=case.get("scalars", {}),
    )
    path = folder / "tiny.gguf"
    write_tiny_llama(path, vocabulary=vocabulary, layers=1)
    return Tokenizer.from_gguf(GGUFFile.open(path))


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_a_reported_case_is_right(case: dict[str, Any], tmp_path: Path) -> None:
    tokenizer = tokenizer_of(case, tmp_path)
    right = case["right"]
    assert right.keys() & {"text", "tokens", "ends_have"}
    if "ends_have" in right:
        ends = {tokenizer.token_text(token) for token in tokenizer.end_of_generation}
        assert set(right["ends_have"]) <= ends
        return
    body = msgspec.json.encode({"messages": case["messages"]})
    told = ChatRequest.parse(body).generate.prompt
    assert isinstance(told, Conversation)
    template = ChatTemplate(tokenizer)
    if "text" in right:
        text = template.render(told.messages, variables=told.variables)
        assert str.__str__(text) == right["text"]
    if "tokens" in right:
        tokens = template.encode(told.messages, variables=told.variables)
        assert [tokenizer.token_text(token) for token in tokens] == right["tokens"]

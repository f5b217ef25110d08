"""Tokens that mark turns: only templates can write them, whatever their type."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from gguf import TokenType
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.chat import ChatTemplate
from runtime.gguf import GGUFFile
from runtime.tokenizer import Tokenizer
from runtime.tokenizer.special import marks_a_turn
from tests.models import (
    Vocabulary,
    byte_level_vocabulary,
    sentencepiece_vocabulary,
    write_tiny_llama,
)
from tests.tokenizer_cases import text_level, unigram, word_piece

HARMONY = (
    *("<|start|>", "<|message|>", "<|channel|>", "<|constrain|>"),
    *("<|end|>", "<|return|>", "<|call|>"),
)
CHATML = ("<|im_start|>", "<|im_end|>")
GEMMA = ("<start_of_turn>", "<end_of_turn>")
LLAMA_2 = ("[INST]", "[/INST]")
ODD = ("### Human:", "### Bot:")
ROLES = ("<|user|>", "<|assistant|>", "<|system|>")
"""A template makes them of a role, so that they stand whole in none of its literals."""
UNKNOWN = ("<unk>", "[UNK]")
"""What stands for text that some kinds of tokenizers have no token for; anybody may type that."""
SAID = ("<think>", "</think>", "<tool_call>", "</tool_call>")

TEMPLATES = {
    "harmony": (HARMONY, "<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>"),
    "chatml": (CHATML, "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"),
    "gemma": (GEMMA, "<start_of_turn>{{ m.role }}\n{{ m.content | trim }}<end_of_turn>\n"),
    "llama 2": (LLAMA_2, "[INST] {{ m.content }} [/INST]"),
    "odd": (ODD, "### Human: {{ m.content }}\n### Bot:"),
    "roles": (ROLES, "{{ '<|' + m.role + '|>' + m.content }}"),
}
KINDS: dict[str, Callable[[], Vocabulary]] = {
    "byte level": byte_level_vocabulary,
    "whole words": lambda: byte_level_vocabulary(pre="llama-bpe"),
    "lines": lambda: replace(text_level(), pre="gemma4"),
    "SentencePiece": sentencepiece_vocabulary,
    "WordPiece": word_piece,
    "Unigram": unigram,
}
TYPES = (TokenType.CONTROL, TokenType.USER_DEFINED)


def with_tokens(
    vocabulary: Vocabulary, kind: TokenType, names: tuple[str, ...], body: str
) -> Vocabulary:
    """The vocabulary with these tokens, those that models say, and a template of each message.

    Beside each token stand its beginnings, so that merges could make it of typed text.
    """
    known = dict(zip(vocabulary.tokens, vocabulary.types, strict=True))
    known.pop("<|im_start|>", None)
    known.pop("<|im_end|>", None)
    if vocabulary.model in ("gpt2", "llama"):
        for name in names:
            for end in range(1, len(name)):
                known.setdefault(name[:end].replace(" ", "▁"), TokenType.NORMAL)
                known.setdefault(name[end - 1].replace(" ", "▁"), TokenType.NORMAL)
    known |= dict.fromkeys(names, kind) | dict.fromkeys(SAID, TokenType.USER_DEFINED)
    pairs = ((name[:end], name[end]) for name in names for end in range(1, len(name)))
    merges = [f"{a} {b}" for a, b in pairs if " " not in a + b]
    scores = [*vocabulary.scores, *[-1.0] * len(known)][: len(known)] if vocabulary.scores else ()
    return replace(
        vocabulary,
        tokens=list(known),
        types=list(known.values()),
        merges=[*vocabulary.merges, *merges] if vocabulary.merges else (),
        scores=scores,
        bos=0,
        eos=0,
        add_bos=False,
        add_eos=False,
        chat_template="{% for m in messages %}" + body + "{% endfor %}",
    )


def combinations() -> Iterator[tuple[str, str, TokenType]]:
    return ((kind, family, type_) for kind in KINDS for family in TEMPLATES for type_ in TYPES)


@pytest.fixture(scope="module", params=combinations(), ids=lambda p: f"{p[0]}, {p[1]}, {p[2].name}")
def case(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Tokenizer, tuple[str, ...]]:
    kind, family, type_ = request.param
    names, body = TEMPLATES[family]
    path = tmp_path_factory.mktemp("turns") / "tiny.gguf"
    vocabulary = with_tokens(KINDS[kind](), type_, names, body)
    write_tiny_llama(path, vocabulary=vocabulary, layers=1)
    return Tokenizer.from_gguf(GGUFFile.open(path)), names


def test_what_is_typed_never_becomes_a_turn(case: tuple[Tokenizer, tuple[str, ...]]) -> None:
    tokenizer, names = case
    template = ChatTemplate(tokenizer)
    markers = {
        token
        for token in range(tokenizer.vocabulary_size)
        if tokenizer.token_text(token) in names
        or (not tokenizer.token_bytes(token) and tokenizer.token_text(token) not in UNKNOWN)
    }
    pieces = st.sampled_from([*names, *(n[:-1] for n in names), *"<|>[]# \na", *SAID, "user"])

    def written(content: str) -> list[int]:
        messages = [{"role": role, "content": content} for role in ("user", "assistant", "user")]
        return [token for token in template.encode(messages) if token in markers]

    benign = written("a")

    @settings(max_examples=25)
    @given(typed=st.lists(pieces, max_size=6).map("".join))
    def check(typed: str) -> None:
        assert written(typed or "a") == benign

    check()


def test_what_models_say_stays_a_token(case: tuple[Tokenizer, tuple[str, ...]]) -> None:
    tokenizer, _ = case
    message = {"role": "assistant", "content": "<think>a</think><tool_call>"}
    texts = [tokenizer.token_text(t) for t in ChatTemplate(tokenizer).encode([message])]
    assert [text for text in texts if text in SAID] == ["<think>", "</think>", "<tool_call>"]


def test_a_raw_prompt_may_name_them(case: tuple[Tokenizer, tuple[str, ...]]) -> None:
    tokenizer, names = case
    parsed = tokenizer.encode("".join(names), add_special=False, parse_special=True)
    assert [tokenizer.token_text(token) for token in parsed] == list(names)
    typed = tokenizer.encode("a".join(names), add_special=False)
    assert not {tokenizer.token_text(token) for token in typed} & set(names)


def test_they_are_shown_as_the_file_s_type_says(tmp_path: Path) -> None:
    vocabulary = with_tokens(byte_level_vocabulary(), TokenType.CONTROL, HARMONY, "")
    write_tiny_llama(tmp_path / "tiny.gguf", vocabulary=vocabulary, layers=1)
    tokenizer = Tokenizer.from_gguf(GGUFFile.open(tmp_path / "tiny.gguf"))
    tokens = tokenizer.encode("".join(HARMONY), add_special=False, parse_special=True)
    assert tokenizer.decode(tokens) == "".join(HARMONY[:5])


@pytest.mark.parametrize(
    "text",
    # Of type USER_DEFINED in files of Command R, DeepSeek Coder and Gemma 4.
    ["<|USER_TOKEN|>", "<|START_OF_TURN_TOKEN|>", "<|User|>", "<|Assistant|>", "<|channel>"],
)
def test_markers_of_known_files_may_not_be_typed(text: str) -> None:
    assert marks_a_turn(text, "{{ bos_token }}<|channel>")


@pytest.mark.parametrize(
    "text", ["\n\n", "▁▁", "  ", "the", "user", "<b>", "<think>", "<|tool_call|>", "<seed:think>"]
)
def test_other_tokens_may_be_typed(text: str) -> None:
    assert not marks_a_turn(text, "\n\n{{ user }} <think> the <|tool_call|>  ▁▁ <seed:think>")


@pytest.mark.parametrize("kind", KINDS)
def test_another_template_reserves_its_own(tmp_path: Path, kind: str) -> None:
    vocabulary = with_tokens(KINDS[kind](), TokenType.USER_DEFINED, ODD, "{{ m.content }}")
    write_tiny_llama(tmp_path / "tiny.gguf", vocabulary=vocabulary, layers=1)
    tokenizer = Tokenizer.from_gguf(GGUFFile.open(tmp_path / "tiny.gguf"))
    messages = [{"role": "user", "content": "".join(ODD)}]

    def marks(template: ChatTemplate) -> list[str]:
        texts = map(tokenizer.token_text, template.encode(messages))
        return [text for text in texts if text in ODD]

    assert marks(ChatTemplate(tokenizer)) == list(ODD)  # which were typed
    other = "{% for m in messages %}### Human: {{ m.content }}### Bot:{% endfor %}"
    assert marks(ChatTemplate(tokenizer, source=other)) == list(ODD)  # which it wrote itself

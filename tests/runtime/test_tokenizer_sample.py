"""The sample model's tokenizer against tokens that llama.cpp (0.3.36 of its Python package) gave.

`special` was encoded with BOS where the model wants it and with control tokens parsed.
"""

import json
from pathlib import Path

import pytest

from runtime.chat import ChatTemplate
from runtime.gguf import GGUFFile
from runtime.tokenizer import Tokenizer

pytestmark = pytest.mark.sample

GOLDEN = Path(__file__).parents[1] / "golden"
CONVERSATIONS = json.loads((GOLDEN / "chat.json").read_text())
"""Written by tests/golden/make_chat.py."""
CASES = json.loads(Path(__file__).with_name("sample_model_tokens.json").read_text())


@pytest.fixture(scope="module")
def tokenizer(sample_model: Path) -> Tokenizer:
    return Tokenizer.from_gguf(GGUFFile.open(sample_model))


@pytest.mark.parametrize("case", CASES, ids=[ascii(case["text"]) for case in CASES])
def test_gives_the_tokens_of_llama_cpp(tokenizer: Tokenizer, case: dict) -> None:
    assert tokenizer.encode(case["text"], add_special=False) == case["plain"]
    assert tokenizer.encode(case["text"], parse_special=True) == case["special"]
    assert tokenizer.decode(case["plain"]) == case["text"]


def test_knows_its_special_tokens(tokenizer: Tokenizer) -> None:
    assert tokenizer.vocabulary_size == 49152
    assert (tokenizer.bos, tokenizer.eos) == (1, 2)
    # <|endoftext|>, <|im_end|>, <reponame>: what llama.cpp calls end of generation
    assert tokenizer.end_of_generation == {0, 2, 4}
    assert tokenizer.chat_template is not None


@pytest.mark.parametrize("case", CONVERSATIONS, ids=["one question", "a conversation"])
def test_makes_of_messages_what_llama_cpp_makes(tokenizer: Tokenizer, case: dict) -> None:
    template = ChatTemplate(tokenizer)
    assert template.render(case["messages"]) == case["prompt"]
    assert template.encode(case["messages"]) == case["tokens"]

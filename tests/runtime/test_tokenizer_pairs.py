"""A query and a document as a model reads them that scores pairs."""

from dataclasses import replace
from pathlib import Path

from gguf import GGUFWriter, TokenType

from runtime.gguf import GGUFFile
from runtime.tokenizer import Tokenizer
from tests.models import Vocabulary, byte_level_vocabulary

TEMPLATE = "<|im_start|>find: {query}\nin: {document}<|im_end|>"
WORDS = ("[CLS]", "[SEP]", "[UNK]", "▁where", "▁here")


def tokenizer(folder: Path, vocabulary: Vocabulary, **keys: str | int) -> Tokenizer:
    path = folder / "vocabulary.gguf"
    writer = GGUFWriter(path, "bert")
    vocabulary.write(writer)
    for key, value in keys.items():
        add = writer.add_string if isinstance(value, str) else writer.add_uint32
        add(f"tokenizer.{key.replace('__', '.')}", value)  # type: ignore[arg-type]
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return Tokenizer.from_gguf(GGUFFile.open(path))


def test_an_encoder_reads_one_after_the_other_with_ends(tmp_path: Path) -> None:
    types = [TokenType.CONTROL] * 3 + [TokenType.NORMAL] * 2
    words = Vocabulary("bert", "default", WORDS, types, bos=0, eos=1, unknown=2)
    model = tokenizer(tmp_path, words, ggml__seperator_token_id=1)
    assert model.encode_pair("where", "here") == [0, 3, 1, 4, 1]


def test_a_template_is_filled_without_reading_markers_in_texts(tmp_path: Path) -> None:
    vocabulary = replace(byte_level_vocabulary(), add_bos=False)
    model = tokenizer(tmp_path, vocabulary, chat_template__rerank=TEMPLATE)
    plain = model.encode_pair("a query", "a text")
    assert model.decode(plain) == "find: a query\nin: a text"
    names = [model.token_text(token) for token in model.encode_pair("<|im_end|>", "{query}")]
    assert names.count("<|im_end|>") == 1
    assert names[-1] == "<|im_end|>"

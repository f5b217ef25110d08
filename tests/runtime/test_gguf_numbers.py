"""The numbers of the GGUF format that are written down here are those of the gguf package."""

import gguf

from runtime.gguf.block_formats import FORMAT_OF_NAME, FORMAT_OF_NUMBER
from runtime.tokenizer.token_type import TokenType


def test_every_block_format_has_its_number_name_and_sizes() -> None:
    known = {int(kind): (kind.name, *sizes) for kind, sizes in gguf.GGML_QUANT_SIZES.items()}
    assert {number: tuple(each) for number, each in FORMAT_OF_NUMBER.items()} == known
    assert FORMAT_OF_NAME["Q4_1"] is FORMAT_OF_NUMBER[3]


def test_every_type_of_a_token_has_its_number() -> None:
    assert {each.name: int(each) for each in TokenType} == {
        each.name: int(each) for each in gguf.TokenType
    }

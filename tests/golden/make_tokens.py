"""Write tokens.json: how llama.cpp cuts some texts with every kind of tokenizer and split.

Run by hand from the root of the repository, where `pip install llama-cpp-python gguf` was done:

    PYTHONPATH=. python tests/golden/make_tokens.py

Vocabularies that give the same tokens share one entry: their names and, for each text, its tokens
with control tokens parsed and BOS and EOS added as the vocabulary wants them.
"""

import json
import tempfile
from pathlib import Path

from llama_cpp import Llama

from tests.models import write_tiny_llama
from tests.tokenizer_cases import TEXTS, vocabularies


def main() -> None:
    """Write tokens.json beside this file."""
    golden: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tiny.gguf"
        for name, vocabulary in vocabularies():
            write_tiny_llama(path, vocabulary=vocabulary, layers=1)
            model = Llama(str(path), vocab_only=True, verbose=False)
            tokens = [model.tokenize(text.encode(), special=True) for text in TEXTS]
            golden.setdefault(json.dumps(tokens), []).append(name)
    entries = [
        f'{{"names": {json.dumps(names)},\n"tokens": {tokens}}}' for tokens, names in golden.items()
    ]
    Path(__file__).with_name("tokens.json").write_text("[\n" + ",\n".join(entries) + "\n]\n")


if __name__ == "__main__":
    main()

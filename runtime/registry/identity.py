"""Whether two GGUF files are the same model, perhaps with other weights or in another format."""

from runtime.gguf import GGUFFile, StringArray

NAME_KEY = "general.name"
TOKENS_KEY = "tokenizer.ggml.tokens"


def is_same_model(one: GGUFFile, other: GGUFFile) -> bool:
    """Whether both files state the same architecture, name and vocabulary.

    A file without a name is never the same model.
    """
    names = one.metadata.get(NAME_KEY), other.metadata.get(NAME_KEY)
    return (
        one.architecture == other.architecture
        and isinstance(names[0], str)
        and names[0] != ""
        and names[0] == names[1]
        and _tokens(one) == _tokens(other)
    )


def _tokens(file: GGUFFile) -> object:
    tokens = file.metadata.get(TOKENS_KEY)
    return tokens.raw if isinstance(tokens, StringArray) else tokens

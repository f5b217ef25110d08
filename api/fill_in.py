"""The prompt of a text with a gap, for models trained to fill it.

Source of the layout: tools/server of llama.cpp, whose plugins for editors rely on it.
"""

from collections.abc import Sequence

from api.errors import InfillUnsupported
from api.schemas import FillIn, Parts
from api.served_models import ServedModel
from runtime.tokenizer import Tokenizer, Watch

MAX_AROUND_GAP = 2048
"""Tokens next to the gap that are used, three quarters of them before it."""
MARKS = 4
"""BOS and the three tokens around the texts, at most."""
REPOSITORY = "myproject\n"
FILE = "filename\n"
"""llama.cpp's names of what is filled, since requests name neither."""
BETWEEN_FILES = "\n\n--- snippet ---\n\n"
"""Before each file, of a model without a token for this."""


def fill_in_tokens(prompt: FillIn, max_tokens: int, model: ServedModel, watch: Watch) -> list[int]:
    """Return the tokens of a text with a gap, and of other files before it, as far as they fit.

    Cut are the beginning of the text before the gap, the end of the text after it, and the
    beginning of the files. Raises InfillUnsupported.
    """
    tokenizer = model.tokenizer
    fill_in = tokenizer.fill_in
    if fill_in.missing:
        raise InfillUnsupported(
            f"{model.name} cannot fill a gap: its file has no token for "
            f"{', '.join(fill_in.missing)}; serve a code model whose file has them"
        )
    assert fill_in.prefix is not None
    assert fill_in.suffix is not None
    assert fill_in.middle is not None
    context = model.engine.limits.context_length
    around = min(MAX_AROUND_GAP, context * 3 // 4)
    begun = _tokens(prompt.begun, tokenizer, parse_special=True)
    before = _tokens(prompt.prefix, tokenizer)[-(around * 3 // 4) :]
    after = _tokens(prompt.suffix, tokenizer)[: max(0, around // 4 - len(begun) - MARKS // 2)]
    room = max(0, context - around - MARKS - min(max_tokens, context // 4))
    files = _files(prompt, tokenizer)[-room:] if room else []
    begin = [tokenizer.bos] if tokenizer.adds_bos and tokenizer.bos is not None else []
    tokens = [*files, *begin, fill_in.prefix, *before, *begun, fill_in.suffix, *after]
    tokens.append(fill_in.middle)
    watch(len(tokens))
    return tokens


def _files(prompt: FillIn, tokenizer: Tokenizer) -> list[int]:
    """Return the tokens before the text itself: the repository, other files, its own name."""
    fill_in, tokens = tokenizer.fill_in, list[int]()
    if fill_in.repository is not None:
        tokens += [fill_in.repository, *_tokens((REPOSITORY,), tokenizer)]
    for name, text in prompt.files:
        if fill_in.file is not None:
            tokens += [fill_in.file, *_tokens((f"{name}\n",), tokenizer)]
        else:
            tokens += _tokens((BETWEEN_FILES,), tokenizer)
        tokens += _tokens((text,), tokenizer)
    if fill_in.file is not None:
        tokens += [fill_in.file, *_tokens((FILE,), tokenizer)]
    return tokens


def _tokens(parts: Parts, tokenizer: Tokenizer, *, parse_special: bool = False) -> Sequence[int]:
    """Return the tokens of parts; only with `parse_special` can texts name control tokens."""
    tokens: list[int] = []
    for part in parts:
        if isinstance(part, int):
            tokens.append(part)
        else:
            tokens += tokenizer.encode(part, add_special=False, parse_special=parse_special)
    return tokens

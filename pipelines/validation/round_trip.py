"""The tokenizer check: a text in every script survives encoding and decoding."""

from pipelines.validation.outcome import CheckFailed, Outcome
from pipelines.validation.subject import Subject, text
from runtime.detokenizer import StreamDecoder


def check_tokenizer(subject: Subject) -> Outcome:
    """Check that each line of a text in many languages survives, at once and token by token."""
    tokenizer = subject.tokenizer
    lines = text("languages.txt").splitlines()
    tokens, characters = 0, 0
    for number, line in enumerate(lines, 1):
        encoded = tokenizer.encode(line, add_special=False)
        back = tokenizer.decode(encoded)
        if back != line:
            raise CheckFailed(f"line {number} comes back as {_around(line, back)}")
        outside = [token for token in encoded if not 0 <= token < subject.spec.vocabulary_size]
        if outside:
            raise CheckFailed(f"line {number} has token {outside[0]}, which the model lacks")
        decoder = StreamDecoder(tokenizer)
        streamed = "".join(map(decoder.feed, encoded)) + decoder.flush()
        if streamed != line:
            raise CheckFailed(f"line {number}, token by token, is {_around(line, streamed)}")
        tokens += len(encoded)
        characters += len(line)
    return Outcome(
        f"{len(lines)} lines in as many scripts come back whole from {tokens} tokens",
        {"tokens": tokens, "characters": characters, "characters_per_token": characters / tokens},
    )


def _around(expected: str, found: str) -> str:
    """Return both texts around the first character that differs."""
    pairs = zip(expected, found, strict=False)
    length = min(len(expected), len(found))
    at = next((i for i, (left, right) in enumerate(pairs) if left != right), length)
    some = slice(max(0, at - 5), at + 10)
    return f"{found[some]!r} instead of {expected[some]!r} at character {at + 1}"

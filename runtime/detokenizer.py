"""Turns a stream of tokens into text, as soon as its characters are complete."""

import codecs

from runtime.tokenizer import Tokenizer


class StreamDecoder:
    """Incremental `Tokenizer.decode` of one request. Owned by one thread."""

    def __init__(self, tokenizer: Tokenizer, *, continues: bool = False) -> None:
        """Start a text, or with `continues` go on in one, whose first space then is kept."""
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._drops_space = tokenizer.adds_space_prefix and not continues

    def feed(self, token: int) -> str:
        """Text that the token completes, "" while its last character lacks bytes.

        Bytes that are not UTF-8 become U+FFFD. All texts joined are `decode` of all tokens.
        """
        added = self._tokenizer.token_bytes(token)
        if self._drops_space and added:
            added = added.removeprefix(b" ")
            self._drops_space = False
        return self._decoder.decode(added)

    def flush(self) -> str:
        """What is left at the end: U+FFFD for a character that was never completed, or ""."""
        return self._decoder.decode(b"", final=True)

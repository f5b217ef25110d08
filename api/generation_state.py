"""The text of a request and the answer that shows its state."""

from collections.abc import Iterable, Sequence

from api.request_log import FinishedRequest
from api.schemas import GenerateAnswer
from runtime.detokenizer import StreamDecoder
from runtime.generation import Generation
from runtime.tokenizer import Tokenizer


def text_decoder(tokenizer: Tokenizer, stops: Sequence[str] = ()) -> StreamDecoder:
    """A decoder of generated tokens: they go on in the prompt's text, so a first space is kept."""
    return StreamDecoder(tokenizer, continues=True, stops=stops)


def text_of(tokens: Iterable[int], tokenizer: Tokenizer, *, ended: bool) -> str:
    """The text that a stream of these tokens sends: equal to its events' texts joined.

    Until the end, a character whose bytes are not all there is left out.
    """
    decoder = text_decoder(tokenizer)
    text = "".join(map(decoder.feed, tokens))
    return text + decoder.flush() if ended else text


def answer(found: Generation | FinishedRequest, tokenizer: Tokenizer) -> GenerateAnswer:
    """State of a request as /generate, /status and /cancel give it."""
    # The reason is read before the tokens, so that a request shown as ended shows all of them.
    reason = found.finish_reason
    tokens = found.tokens
    ended = reason is not None
    text = text_of(tokens, tokenizer, ended=ended)
    return GenerateAnswer(found.request_id, text, tokens, ended, reason)

"""The text of a request and the answer that shows its state."""

from collections.abc import Iterable, Sequence

from api.request_log import FinishedRequest, RunningEntry
from api.schemas import GenerateAnswer
from runtime.detokenizer import StreamDecoder
from runtime.generation import FinishReason
from runtime.tokenizer import Tokenizer


def text_decoder(
    tokenizer: Tokenizer, stops: Sequence[str] = (), shown: Iterable[str] = ()
) -> StreamDecoder:
    """Return a decoder of generated tokens: they continue the prompt, so a first space is kept."""
    return StreamDecoder(tokenizer, continues=True, stops=stops, shown=shown)


def answer(found: RunningEntry | FinishedRequest) -> GenerateAnswer:
    """State of a request as /generate, /status and /cancel give it.

    Its text is that of the events so far: until the end a character whose bytes are not all there
    is left out, and so is text that may begin a stop. Tokens that the engine computed after a stop,
    before it was ended, are not shown.
    """
    state = found.generation if isinstance(found, RunningEntry) else found
    # The reason is read before the tokens, so that a request shown as ended shows all of them.
    reason = state.finish_reason
    tokens = state.tokens
    assert found.tokenizer is not None, "RequestLog.find gives none without"
    decoder = text_decoder(found.tokenizer, found.stops)
    texts: list[str] = []
    for token in tokens:
        texts.append(decoder.feed(token))
        if decoder.stopped:
            break
    tokens = tokens[: len(texts)]
    if reason is not None:
        texts.append(decoder.flush())
        reason = FinishReason.STOP if decoder.stopped else reason
    return GenerateAnswer(state.request_id, "".join(texts), tokens, reason is not None, reason)

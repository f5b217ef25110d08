"""The text of a request's answer, built from its outputs as they arrive."""

from collections.abc import Callable, Iterator

from api.errors import GenerationFailed
from runtime.detokenizer import StreamDecoder
from runtime.generation import FinishReason, Generation, TokenOutput


class AnswerText:
    """The text of one request, which ends before its first stop. Owned by one thread."""

    def __init__(
        self, generation: Generation, decoder: StreamDecoder, on_stop: Callable[[], None]
    ) -> None:
        """Take a request and its decoder; `on_stop` is called once, at a stop of the decoder's."""
        self._generation = generation
        self._decoder = decoder
        self._on_stop = on_stop
        self.token_count = 0
        """Number of tokens up to the end token, or to the one that completed a stop string."""

    @property
    def stopped(self) -> bool:
        """Whether a stop string was found."""
        return self._decoder.stopped

    @property
    def found_stop(self) -> str | None:
        """The stop string that was found."""
        return self._decoder.found_stop

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why the text ends: at its stop, whatever ended the generation."""
        return FinishReason.STOP if self.stopped else self._generation.finish_reason

    @property
    def failure(self) -> str | None:
        """Why the text is incomplete, if it is."""
        if self.finish_reason is FinishReason.FAILED:
            return f"the generation failed: {self._generation.error}"
        return None

    def add(self, output: TokenOutput) -> str:
        """Return the text that an output adds. Nothing after a stop."""
        text = ""
        if output.token is not None and not self.stopped:
            self.token_count += 1
            # A token that stops the request adds no text; a stop of the client's has no token.
            if output.finish_reason is not FinishReason.STOP:
                text = self._decoder.feed(output.token)
            if self.stopped:
                self._on_stop()
        if output.finish_reason is not None:
            text += self._decoder.flush()
        return text

    def whole(self) -> str:
        """Wait for the end and return the whole text. Raises GenerationFailed."""
        if not self._decoder.stops:
            # Nothing is to be decided before the end, so this thread need not wake for each token.
            self._generation.wait()
        text = "".join(map(self.add, _outputs(self._generation)))
        if self.failure is not None:
            raise GenerationFailed(self.failure)
        return text


def _outputs(generation: Generation) -> Iterator[TokenOutput]:
    """Every output of a request, to its last."""
    while (output := generation.next_output()) is not None:
        yield output
        if output.finish_reason is not None:
            return

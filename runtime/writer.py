"""A model that runs in this process and generates text, for commands on the terminal."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from runtime.detokenizer import StreamDecoder
from runtime.engine import Engine
from runtime.errors import RocmForgeError
from runtime.generation import FinishReason
from runtime.loading import load, tokenizer_cache
from runtime.sampling import BreakerTable, SamplingParameters
from runtime.settings import Settings
from runtime.tokenizer import Tokenizer

LOOK_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Writer:
    """A started engine, its tokenizer and the breakers in its vocabulary. Immutable."""

    engine: Engine
    tokenizer: Tokenizer
    breakers: BreakerTable

    def write(
        self, prompt: Sequence[int], sampling: SamplingParameters, max_tokens: int
    ) -> Iterator[str]:
        """Yield the text that follows a prompt, piece by piece; closing the iterator ends it.

        Raises RocmForgeError if the generation failed.
        """
        decoder = StreamDecoder(self.tokenizer, continues=True)
        sampling = sampling.with_breakers(self.breakers)
        generation = self.engine.submit(prompt, sampling, max_tokens)
        try:
            while True:
                # In a loop, since a signal does not always wake the thread that waits.
                output = generation.next_output(LOOK_SECONDS)
                if output is None:
                    continue
                if output.token is not None:
                    yield decoder.feed(output.token)
                if output.finish_reason is not None:
                    break
            yield decoder.flush()
        finally:
            if not generation.finished:
                self.engine.abort(generation.request_id)
        if generation.finish_reason is FinishReason.FAILED:
            raise RocmForgeError(f"the generation failed: {generation.error}")


@contextmanager
def writing(folder: Path, settings: Settings) -> Iterator[Writer]:
    """Yield a running prepared model."""
    session, tokenizer = load(folder, settings, tokenizer_cache(settings))
    session.manifest.expect_text()
    engine = Engine(
        session,
        end_of_generation=tokenizer.end_of_generation,
        settings=settings,
        tiers=session.page_tiers(settings),
    )
    engine.start()
    try:
        yield Writer(engine, tokenizer, BreakerTable(tokenizer))
    finally:
        engine.stop()

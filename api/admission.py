"""The place of one request among those that are answered at once."""

from types import TracebackType

from api.keys import Key
from api.quotas import Quotas
from api.slots import GenerationSlots


class Admission:
    """A slot of the server and a request of its API key, until `release`. Owned by one thread."""

    def __init__(self, slots: GenerationSlots, quotas: Quotas, key: Key | None) -> None:
        """Take both. Raises RateLimited or QueueFull, having taken neither."""
        self._slots, self._quotas, self._key = slots, quotas, key
        self.tokens = 0
        """Those of prompt and answer, which count for the key at the end."""
        self._released = False
        if key is not None:
            quotas.enter(key)
        try:
            slots.take()
        except BaseException:
            if key is not None:
                quotas.leave(key, 0)
            raise

    def release(self) -> None:
        """Give both back, once."""
        if self._released:
            return
        self._released = True
        self._slots.release()
        if self._key is not None:
            self._quotas.leave(self._key, self.tokens)

    def __enter__(self) -> "Admission":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

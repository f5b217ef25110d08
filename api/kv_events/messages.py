"""The messages of KV events, as vLLM's subscribers and llm-d's router read them.

A message has three frames: a topic `kv@<server>@<model>`, its number in 8 bytes, big-endian, and
MessagePack of [seconds, events, rank]. Source: vLLM, "KV Events", and llm-d's vLLM adapter.
"""

from array import array
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias

import msgspec

from runtime.page_changes import TOKEN, FoundPage
from runtime.pages import PageHash

POOL = "GPU"
"""What both call the memory that attention reads, whichever device computes it."""
NUMBER_BYTES = 8
NO_RANK = 0
"""A server's engines are no ranks of one model."""


class BlockStored(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Pages that can be found from now on, each the next of the one before it. Immutable."""

    block_hashes: tuple[PageHash, ...]
    parent_block_hash: PageHash | None
    token_ids: list[int]
    block_size: int
    lora_id: None = None
    medium: str | None = POOL
    lora_name: None = None
    extra_keys: tuple[tuple[str, ...] | None, ...] | None = None
    """Of each page what besides its tokens distinguishes it."""


class BlockRemoved(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Pages that can no longer be found. Immutable."""

    block_hashes: tuple[PageHash, ...]
    medium: str | None = POOL


class AllBlocksCleared(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """No page can be found, whatever was said before. Immutable."""


Event: TypeAlias = BlockStored | BlockRemoved | AllBlocksCleared


class Batch(msgspec.Struct, frozen=True, array_like=True):
    """The payload of a message. Immutable."""

    seconds: float
    """Since 1970."""
    events: tuple[Event, ...]
    data_parallel_rank: int | None = NO_RANK


class Message(NamedTuple):
    """A message as it is sent. Immutable."""

    topic: bytes
    number: int
    payload: bytes

    @property
    def frames(self) -> tuple[bytes, bytes, bytes]:
        """Its three frames."""
        return self.topic, self.number.to_bytes(NUMBER_BYTES, "big"), self.payload


def topic_of(server: str, model: str) -> bytes:
    """Return the topic of a server's model; neither name has an @."""
    return f"kv@{server}@{model}".encode()


def stored(pages: Iterable[tuple[PageHash, FoundPage]], page_size: int) -> list[Event]:
    """Return the events of pages that can be found, one for pages that follow each other."""
    runs: list[list[tuple[PageHash, FoundPage]]] = []
    for page_hash, page in pages:
        if not runs or page.parent is None or page.parent != runs[-1][-1][0]:
            runs.append([])
        runs[-1].append((page_hash, page))
    return [_stored(run, page_size) for run in runs]


def _stored(run: Sequence[tuple[PageHash, FoundPage]], page_size: int) -> BlockStored:
    first = run[0][1]
    return BlockStored(
        tuple(page_hash for page_hash, _ in run),
        first.parent,
        array(TOKEN, b"".join(page.tokens for _, page in run)).tolist(),
        page_size,
        extra_keys=((first.salt.hex(),), *[None] * (len(run) - 1)) if first.salt else None,
    )

"""A subscriber of KV events, and the index that a router keeps of them.

They do what llm-d's router does, and read plain MessagePack, so they depend on no code of ours.
Source: llm-d-router, pkg/kvevents and pkg/kvcache/kvblock.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec
import zmq

from tests.waiting import SECONDS

Frames = tuple[bytes, int, bytes]
"""Topic, number and payload."""


class Page(NamedTuple):
    """What an event says of a page."""

    parent: bytes | None
    tokens: tuple[int, ...]
    extra: tuple[str, ...]


class Mirror:
    """The pages that a server's model says can be found."""

    def __init__(self) -> None:
        self.pages: dict[bytes, Page] = {}

    def take(self, payload: bytes) -> None:
        """Apply a message. Raises KeyError for the removal of a page that was not there."""
        _, events, _ = msgspec.msgpack.decode(payload)
        for tag, *fields in events:
            if tag == "BlockStored":
                for page_hash, page in stored_pages(fields):
                    assert page_hash not in self.pages, "a page is stored twice"
                    self.pages[page_hash] = page
            elif tag == "BlockRemoved":
                for page_hash in fields[0]:
                    del self.pages[page_hash]
            else:
                assert (tag, fields) == ("AllBlocksCleared", [])
                self.pages.clear()


def stored_pages(fields: Sequence) -> Iterator[tuple[bytes, Page]]:
    """Each page of a BlockStored."""
    hashes, parent, tokens, size, lora, medium, lora_name, extra = fields
    assert (lora, medium, lora_name) == (None, "GPU", None)
    assert len(tokens) == size * len(hashes)
    for index, page_hash in enumerate(hashes):
        of_page = tuple(tokens[index * size : (index + 1) * size])
        yield page_hash, Page(parent, of_page, tuple((extra and extra[index]) or ()))
        parent = page_hash


class RouterIndex:
    """Which server holds which pages, by keys that the router computes from tokens."""

    def __init__(self, block_size: int) -> None:
        self._block_size = block_size
        self._key_of_page: dict[int, bytes] = {}
        """By the last 8 bytes of the server's own hash."""
        self._servers: defaultdict[bytes, set[str]] = defaultdict(set)

    def take(self, topic: bytes, payload: bytes) -> None:
        """Apply a message."""
        _, server, model = topic.decode().split("@")
        _, events, _ = msgspec.msgpack.decode(payload)
        for tag, *fields in events:
            if tag == "BlockStored":
                for page_hash, page in stored_pages(fields):
                    parent = self._key_of_page[_short(page.parent)] if page.parent else None
                    key = self._key(model, parent, page.tokens, page.extra)
                    self._key_of_page[_short(page_hash)] = key
                    self._servers[key].add(server)
            elif tag == "BlockRemoved":
                for page_hash in fields[0]:
                    self._servers[self._key_of_page[_short(page_hash)]].discard(server)
            else:
                for servers in self._servers.values():
                    servers.discard(server)

    def held(self, model: str, tokens: Sequence[int], salt: str = "") -> dict[str, int]:
        """Number of pages of a prompt's beginning by server; none of those without any."""
        found: dict[str, int] = {}
        key, extra = None, (salt,) if salt else ()
        servers: set[str] | None = None
        for start in range(0, len(tokens) - self._block_size + 1, self._block_size):
            key = self._key(model, key, tokens[start : start + self._block_size], extra)
            servers = self._servers[key] if servers is None else servers & self._servers[key]
            found |= dict.fromkeys(servers, start // self._block_size + 1)
            extra = ()
        return found

    def _key(
        self, model: str, parent: bytes | None, tokens: Sequence[int], extra: Sequence[str]
    ) -> bytes:
        content = repr((parent or model, tuple(tokens), tuple(extra)))
        return hashlib.sha256(content.encode()).digest()


class Subscriber:
    """Hears a server's messages, and asks for those that it has missed."""

    def __init__(self, address: str, replay_address: str) -> None:
        self._context = zmq.Context()
        self._replay_address = replay_address
        self._heard = self._context.socket(zmq.SUB)
        self._heard.set(zmq.RCVTIMEO, int(SECONDS * 1000))
        self._heard.set(zmq.SUBSCRIBE, b"kv@")
        self._heard.connect(address)

    def hears(self, milliseconds: int = 0) -> bool:
        """Whether there is a message now."""
        return bool(self._heard.poll(milliseconds))

    def hear(self) -> Frames:
        """Return the next message."""
        topic, number, payload = self._heard.recv_multipart()
        assert len(number) == 8
        return topic, int.from_bytes(number, "big"), payload

    def missed(self, first: int, *, request: Sequence[bytes] | None = None) -> list[Frames]:
        """Return all messages from a number on, as a replay sends them.

        request: other frames that are sent before.
        """
        with self._context.socket(zmq.DEALER) as asking:
            asking.set(zmq.RCVTIMEO, int(SECONDS * 1000))
            asking.connect(self._replay_address)
            if request is not None:
                asking.send_multipart(request)
            asking.send_multipart([b"", first.to_bytes(8, "big")])
            found: list[Frames] = []
            while True:
                delimiter, topic, number, payload = asking.recv_multipart()
                assert delimiter == b""
                if not payload:
                    assert (topic, number) == (b"", b"\xff" * 8)
                    return found
                found.append((topic, int.from_bytes(number, "big"), payload))

    def close(self) -> None:
        """Let go of the sockets."""
        self._context.destroy(linger=0)


def _short(page_hash: bytes) -> int:
    return int.from_bytes(page_hash[-8:], "big")

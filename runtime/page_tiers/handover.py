"""Asks another process to compute a prompt, whose pages then come by the folder that both share.

A connection to a Unix socket carries one prompt, as MessagePack with its length in front, and one
byte back: whether its pages are written. The socket is named by what the bits of a page depend on,
so both processes compute the same.
"""

import socket
import struct
from contextlib import suppress
from pathlib import Path

import msgspec

from runtime.files import make_private_folder

LENGTH = struct.Struct(">I")
MOST_BYTES = 64 << 20
MOST_PATH = 107
"""Bytes of the path of a Unix socket."""
DONE, FAILED = b"\1", b"\0"


class Prompt(msgspec.Struct, frozen=True):
    """What is to be computed. Immutable."""

    tokens: tuple[int, ...]
    salt: bytes
    """Only prompts with the same one share pages."""


def listening(path: Path) -> socket.socket:
    """Return a socket that listens at a path, in the place of an earlier one. Raises OSError."""
    make_private_folder(path.parent)
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        listener.listen(128)
    except BaseException:
        listener.close()
        raise
    return listener


def send(connection: socket.socket, prompt: Prompt) -> None:
    """Send a prompt. Raises OSError."""
    encoded = msgspec.msgpack.encode(prompt)
    connection.sendall(LENGTH.pack(len(encoded)) + encoded)


def receive(connection: socket.socket) -> Prompt | None:
    """Return the prompt that is sent; None for anything else. Raises OSError."""
    head = _exactly(connection, LENGTH.size)
    if head is None or (length := LENGTH.unpack(head)[0]) > MOST_BYTES:
        return None
    body = _exactly(connection, length)
    with suppress(msgspec.MsgspecError):
        return None if body is None else msgspec.msgpack.decode(body, type=Prompt)
    return None


def has_left(connection: socket.socket) -> bool:
    """Whether the other side has closed a connection on which it sends no more."""
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def _exactly(connection: socket.socket, count: int) -> bytes | None:
    content = bytearray()
    while len(content) < count:
        piece = connection.recv(min(count - len(content), 1 << 20))
        if not piece:
            return None
        content += piece
    return bytes(content)

"""Runs a function in a child process: its order goes there, its progress and its answer come back.

The memory that it takes goes back to the system with the process, and what kills the process does
not kill its parent. Orders, progress and answers are msgspec structs, written as MessagePack with
their length in front: the order to the child's standard input, the others to a pipe of its own.
"""

import os
import select
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, TypeVar, get_type_hints

import msgspec

from runtime.errors import ChildDied, RocmForgeError
from runtime.processes import end_with_parent, leave_on_sigterm

Progress = TypeVar("Progress")
Answer = TypeVar("Answer")

LENGTH = struct.Struct(">Q")
GRACE_SECONDS = 3.0
"""In which a child may end what it has started and remove what it began, when its parent leaves."""
NO_VARIABLES: Mapping[str, str] = MappingProxyType({})

# The child runs the parent's code, never a package of the same name in its working folder (-P).
ROOT = str(Path(__file__).parents[1])
PROGRAM = f"""
import sys
if {ROOT!r} not in sys.path:
    sys.path.insert(0, {ROOT!r})
from {__name__} import main
main(*sys.argv[1:])
"""


class _Progress(msgspec.Struct, frozen=True, tag=True):
    progress: msgspec.Raw


class _Answer(msgspec.Struct, frozen=True, tag=True):
    answer: msgspec.Raw


class _Failure(msgspec.Struct, frozen=True, tag=True):
    """An error of runtime.errors: its attributes are keyword arguments of its constructor."""

    code: str
    message: bytes
    attributes: dict[str, Any]


def run_in_child(
    function: str,
    order: msgspec.Struct,
    report: Callable[[Progress], None],
    *,
    progress: type[Progress],
    answer: type[Answer],
    environment: Mapping[str, str] = NO_VARIABLES,
) -> Answer:
    """Run a function in a child process and return its answer.

    function: as "package.module:name"; only the child imports the module. It is called with the
    order, whose type is that of its first annotation, and with a function that takes its progress.
    `report` is called here with each progress, of the type `progress`, in their order. environment:
    variables of the child, in addition to those of this process.

    An error of runtime.errors that the function raises is raised here. Where the child ends in any
    other way without an answer, or with a status other than 0, ChildDied says how. What it printed
    is on standard error then. It ends with the thread that calls this, and with whatever is raised
    here, by a signal for one: all of its process group does.
    """
    encoded = _encode(order)
    answered: msgspec.Raw | None = None
    error: RocmForgeError | None = None
    with tempfile.TemporaryFile() as output:
        with _child(function, output, environment) as (process, messages):
            assert process.stdin is not None
            with suppress(BrokenPipeError), process.stdin as orders:  # how it died is known below
                orders.write(encoded)
            while (frame := _read(messages)) is not None:
                match msgspec.msgpack.decode(frame, type=_Progress | _Answer | _Failure):
                    case _Progress(said):
                        report(_decode(said, progress))
                    case _Answer(said):
                        answered = said
                    case failure:
                        error = _error(failure)
        printed = _printed(output)
    with suppress(OSError):  # a full disk under a log must not end the work
        print(printed, end="", file=sys.stderr, flush=True)
    if error is not None:
        raise error
    if answered is None or process.returncode:
        raise ChildDied(f"the process {_ending(process.returncode, printed)}")
    return _decode(answered, answer)


def main(function: str, descriptor: str, parent: str) -> None:
    """Call a function with the order of standard input, in a child of the process `parent`.

    descriptor: where progress, answer and error are written.
    """
    end_with_parent(parent=int(parent))
    leave_on_sigterm()
    os.set_inheritable(int(descriptor), False)
    with open(int(descriptor), "wb") as messages:

        def write(message: _Progress | _Answer | _Failure) -> None:
            encoded = _encode(message)
            messages.write(LENGTH.pack(len(encoded)) + encoded)
            messages.flush()

        module, _, name = function.partition(":")
        called = getattr(import_module(module), name)
        order = _decode(sys.stdin.buffer.read(), next(iter(get_type_hints(called).values())))
        try:
            answer = called(order, lambda said: write(_Progress(msgspec.Raw(_encode(said)))))
        except RocmForgeError as error:
            message = str(error).encode(errors="surrogateescape")
            attributes = {key: value for key, value in vars(error).items() if key[0] != "_"}
            write(_Failure(error.code, message, attributes))
        else:
            write(_Answer(msgspec.Raw(_encode(answer))))


@contextmanager
def _child(
    function: str, output: IO[bytes], environment: Mapping[str, str]
) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    """Start a child in its own process group; yield it and its output. It ends with the block.

    It waits for its order. output: what it prints goes there. Where the block is left by an
    exception the group is given time to end by itself.
    """
    reading, writing = os.pipe()
    with open(reading, "rb") as messages:
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", PROGRAM, function, str(writing), str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                pass_fds=(writing,),
                process_group=0,
            )
        finally:
            os.close(writing)
        try:
            yield process, messages
            _wait(process)
        except BaseException:
            os.killpg(process.pid, signal.SIGTERM)
            _wait(process, GRACE_SECONDS)
            raise
        finally:
            # Before its status is collected: until then no other process has its id.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(process: subprocess.Popen[bytes], seconds: float | None = None) -> None:
    """Wait until a process has ended, at most so long; its status is left for others to ask."""
    descriptor = os.pidfd_open(process.pid)
    try:
        ending = select.poll()
        ending.register(descriptor, select.POLLIN)
        ending.poll(None if seconds is None else 1000 * seconds)
    finally:
        os.close(descriptor)


def _read(messages: IO[bytes]) -> bytes | None:
    """Return the next message; None if the child has ended, even within one."""
    head = messages.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    message = messages.read(length)
    return message if len(message) == length else None


def _error(failure: _Failure) -> RocmForgeError:
    """Return the error that a child raised, by its code."""
    message = failure.message.decode(errors="surrogateescape")
    return _classes(RocmForgeError)[failure.code](message, **failure.attributes)


def _classes(base: type[RocmForgeError]) -> dict[str, type[RocmForgeError]]:
    """Return an error class and its subclasses by their codes."""
    found = {base.code: base}
    for each in base.__subclasses__():
        found |= _classes(each)
    return found


def _printed(output: IO[bytes]) -> str:
    output.seek(0)
    return output.read().decode(errors="replace")


def _ending(status: int, printed: str) -> str:
    """Return how a child ended, as the end of a sentence, with its last printed line."""
    if status == -signal.SIGKILL:
        ending = "was killed by SIGKILL (memory may have run out)"
    elif status < 0:
        ending = f"was killed by {signal.strsignal(-status) or 'a signal'} (signal {-status})"
    else:
        ending = f"ended with status {status}" if status else "ended without an answer"
    return ": ".join([ending, *printed.strip().splitlines()[-1:]])


def _encode(value: object) -> bytes:
    return msgspec.msgpack.encode(value, enc_hook=_bytes_of)


def _decode(value: bytes | msgspec.Raw, kind: type[Answer]) -> Answer:
    return msgspec.msgpack.decode(value, type=kind, dec_hook=_path_of)


def _bytes_of(value: object) -> bytes:
    """Return a path's bytes, which need not be UTF-8."""
    if isinstance(value, Path):
        return os.fsencode(value)
    raise NotImplementedError(f"{type(value).__name__} cannot be sent to another process")


def _path_of(kind: type, value: object) -> Path:
    assert issubclass(kind, Path)
    assert isinstance(value, bytes)
    return Path(os.fsdecode(value))

"""`rocmforge COMMAND ...`: one file a command under rocmforge/commands."""

import argparse
import os
import sys
from collections.abc import Sequence

from rocmforge.commands import (
    bench,
    chat,
    generate,
    inspect,
    models,
    prepare,
    remove,
    rollback,
    sample,
    score,
    serve,
)
from runtime.errors import RocmForgeError, SettingsError

COMMANDS = (
    serve,
    prepare,
    inspect,
    models,
    rollback,
    remove,
    chat,
    generate,
    score,
    bench,
    sample,
)

FAILURE, USAGE, INTERRUPTED = 1, 2, 130


def build_parser() -> argparse.ArgumentParser:
    """The parser of every command. It imports nothing heavy: `--help` must be there at once."""
    parser = argparse.ArgumentParser(
        prog="rocmforge", description="Prepares GGUF models and serves them."
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        summary = (command.__doc__ or "").splitlines()[0].removesuffix(".")
        subparser = commands.add_parser(
            command.__name__.rpartition(".")[2],
            help=summary,
            description=command.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 1 for a failure, 2 for wrong usage."""
    options = build_parser().parse_args(arguments)
    try:
        options.run(options)
        sys.stdout.flush()
    except RocmForgeError as error:
        print(f"rocmforge: {error}", file=sys.stderr)
        return USAGE if isinstance(error, SettingsError) else FAILURE
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has gone (`| head`); Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILURE
    except OSError as error:
        # A full disk, a folder that may not be written: the system's words name the file.
        print(f"rocmforge: {error}", file=sys.stderr)
        return FAILURE
    return 0


if __name__ == "__main__":
    sys.exit(main())

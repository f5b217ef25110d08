"""`rocmforge COMMAND ...`: each command is a file in rocmforge/commands."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from rocmforge.commands import (
    bench,
    chat,
    completion,
    doctor,
    embed,
    generate,
    inspect,
    keys,
    models,
    prepare,
    pull,
    push,
    remove,
    rollback,
    run,
    sample,
    score,
    serve,
    settings,
    simulate,
    verify,
)
from rocmforge.streams import open_standard_streams, output_failure
from runtime.errors import RocmForgeError, SettingsError
from runtime.extras import EXTRA_OF, missing_package

COMMANDS = (
    run,
    serve,
    keys,
    pull,
    push,
    prepare,
    inspect,
    models,
    verify,
    rollback,
    remove,
    chat,
    generate,
    embed,
    score,
    bench,
    simulate,
    sample,
    settings,
    completion,
    doctor,
)

FAILURE, USAGE, INTERRUPTED = 1, 2, 130
UNWRITABLE = "standard output cannot be written"


class _Version(argparse.Action):
    """Prints the installed version; reads its metadata only when asked."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__(nargs=0, **keywords)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"rocmforge {version('rocmforge')}")
        parser.exit()


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of every command. Imports nothing slow, so that `--help` is quick."""
    parser = argparse.ArgumentParser(
        prog="rocmforge", description="Prepares GGUF models and serves them."
    )
    parser.add_argument("--version", action=_Version, help="show the version and exit")
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
        subparser.set_defaults(run=command.run, parser=parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 1 for a failure, 2 for wrong usage."""
    open_standard_streams()
    try:
        options = build_parser().parse_args(arguments)
    except SystemExit as leaving:  # after --help, --version or wrong usage
        return int(leaving.code or 0) or _ended()
    try:
        options.run(options)
    except KeyboardInterrupt:
        return INTERRUPTED
    except SettingsError as error:
        return _ended(str(error), USAGE)
    except RocmForgeError as error:
        return _ended(str(error))
    except ModuleNotFoundError as error:
        if error.name not in EXTRA_OF:
            raise
        return _ended(str(missing_package(error.name)))
    except BrokenPipeError:
        # The reader has gone (`| head`), which is no error to report.
        output_failure()
        return FAILURE
    except OSError as error:
        # An unwritable folder is named; a full output stream has no name.
        named = error.filename is not None
        return _ended(str(error) if named else f"{UNWRITABLE}: {error.strerror}")
    return _ended()


def _ended(problem: str | None = None, status: int = FAILURE) -> int:
    """Flush the output and print the problem, if any; return the exit status."""
    lost = output_failure()
    if isinstance(lost, BrokenPipeError):
        return FAILURE
    if lost is not None:
        problem, status = f"{UNWRITABLE}: {lost.strerror}", FAILURE
    if problem is None:
        return 0
    print(f"rocmforge: {problem}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())

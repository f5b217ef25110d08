"""Talk with a model on the terminal.

Ctrl-C ends an answer, Ctrl-D or Ctrl-C at the prompt ends the conversation.
"""

import argparse
import sys
from typing import TYPE_CHECKING

from rocmforge.options import (
    MODEL,
    SESSION,
    add_sampling,
    add_settings,
    sampling_of,
    settings_of,
)

if TYPE_CHECKING:
    from runtime.chat import ChatTemplate
    from runtime.sampling import SamplingParameters
    from runtime.writer import Writer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    add_options(parser)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a conversation."""
    parser.add_argument("--system", metavar="TEXT", help="the system message")
    add_sampling(parser, temperature=0.7, max_tokens=2**31 - 1, of="of each answer")
    add_settings(parser, *SESSION, "cache_tokens", "chat_template")


def run(options: argparse.Namespace) -> None:
    from rocmforge.model import prepared
    from runtime.chat import ChatTemplate, source_of
    from runtime.writer import writing

    settings = settings_of(options)
    sampling = sampling_of(options)
    source = source_of(settings.chat_template)
    with writing(prepared(options.model, settings), settings) as writer:
        template = ChatTemplate(writer.tokenizer, source=source)
        _converse(writer, template, options.system, sampling, options.max_tokens)


def _converse(
    writer: "Writer",
    template: "ChatTemplate",
    system: str | None,
    sampling: "SamplingParameters",
    max_tokens: int,
) -> None:
    """Question and answer until the input ends. Raises RocmForgeError if a question fails."""
    messages = [] if system is None else [{"role": "system", "content": system}]
    while (question := _question()) is not None:
        if not question.strip():
            continue
        messages.append({"role": "user", "content": question})
        answer = ""
        try:
            for text in writer.write(template.encode(messages), sampling, max_tokens):
                answer += text
                print(text, end="", flush=True)
        except KeyboardInterrupt:
            pass  # the answer ends here; the text so far stays in the conversation
        print()
        messages.append({"role": "assistant", "content": answer})


def _question() -> str | None:
    """Return the next line; None at the end of the input."""
    prompt = ""
    if sys.stdin.isatty():
        import readline  # noqa: F401, since input() edits lines with it

        prompt = "> "
    try:
        return input(prompt)
    except (EOFError, KeyboardInterrupt):
        if prompt:
            print()
        return None

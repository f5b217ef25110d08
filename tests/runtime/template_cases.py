"""Compare chat templates of many models with transformers' rendering: `make templates`.

The templates stand in llama.cpp's source, which pip downloads once into the cache folder. Ours must
give what transformers gives, but for differences of which the reason is known. `--document FILE`
writes the table of them. Tool calls that a template writes must be read again.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from runtime.chat import ChatTemplate
from runtime.chat.generic_tools import WORDS
from runtime.errors import InvalidRequest
from runtime.settings import Settings
from tests.llama_cpp_source import REQUIREMENT, fetch
from tests.runtime.chat_attacks import TokenizerOf
from tests.runtime.conversations import CONVERSATIONS, Conversation
from tests.runtime.template_calls import LEFT_OUT, LOST, READ, REFUSED, RoundTrip, round_trips
from tests.runtime.transformers_chat import NOW, rendered

TEMPLATES = "vendor/llama.cpp/models/templates/"

EQUAL = "equal"
BOTH_FAIL = "both refuse or fail"
OURS_RENDERS = "only ours renders"
OURS_FAILS = "only ours fails"
UNKNOWN = "different, for a reason that is not known"
LISTED = "transformers prints the list of parts; ours their text"
DROPPED = "transformers leaves out the text of parts; ours has it"
NOTHING = "transformers prints None or null for a content of null; ours nothing"
ESCAPED = "transformers escapes text for HTML, a slip of the template; ours does not"
KINDS = (READ, REFUSED, LEFT_OUT, LOST)
"""Of tool calls."""
DESCRIBED = "the template knows no tools; ours describes them in words"
WRONG = (OURS_FAILS, UNKNOWN)


@dataclass(frozen=True)
class Outcome:
    """What came of one conversation in one template."""

    template: str
    conversation: str
    kind: str
    """One of the words above."""
    ours: str
    theirs: str


def outcomes(folder: Path) -> Iterator[Outcome]:
    """Render every conversation by every template."""
    for path in sorted(folder.glob("*.jinja")):
        source = path.read_text()
        template = ChatTemplate(TokenizerOf(source), lambda: NOW)  # type: ignore[arg-type]
        for name, conversation in CONVERSATIONS.items():
            yield Outcome(path.stem, name, *_compared(template, source, name, conversation))


def _compared(
    template: ChatTemplate, source: str, name: str, conversation: Conversation
) -> tuple[str, str, str]:
    ours = theirs = reason = None
    try:
        text = template.render(conversation.messages, variables=conversation.variables)
        ours = str.__str__(text)
    except InvalidRequest as error:
        reason = str(error)
    try:
        theirs = rendered(source, conversation.messages, conversation.variables)
    except Exception:  # a template may fail in any way
        return BOTH_FAIL if ours is None else OURS_RENDERS, ours or "", ""
    if ours is None:
        return OURS_FAILS, reason or "", theirs
    return _kind(name, ours, theirs), ours, theirs


def _kind(conversation: str, ours: str, theirs: str) -> str:
    """How the two prompts differ."""
    if ours == theirs:
        return EQUAL
    if WORDS.partition("\n")[0] in ours:
        return DESCRIBED
    if "&lt;" in theirs and "&lt;" not in ours:
        return ESCAPED
    if conversation == "parts" and "Hithere" in ours:
        return LISTED if "'type'" in theirs or '"type"' in theirs else DROPPED
    if conversation == "call" and theirs.replace("None", "").replace("null", "") == ours:
        return NOTHING
    if conversation == "call" and theirs.replace("\nNone", "") == ours:
        return NOTHING
    return UNKNOWN


def document(found: list[Outcome], calls: list[RoundTrip]) -> str:
    """The page of the outcomes."""
    counts = Counter(outcome.kind for outcome in found)
    templates = len({outcome.template for outcome in found})
    differing = [each for each in found if each.kind not in (EQUAL, BOTH_FAIL, OURS_RENDERS)]
    return "\n".join(
        [
            "# Chat templates compared with transformers",
            "",
            f"{len(differing)} of {len(found)} prompts differ from those of Hugging Face "
            "transformers; each is listed",
            "with the reason. To compare again and rewrite this page:",
            "",
            "    make templates ARGS='--document docs/templates.md'",
            "",
            f"It renders {len(CONVERSATIONS)} conversations (`tests/runtime/conversations.py`)",
            f"with the {templates} chat templates of llama.cpp's source (`{REQUIREMENT}`).",
            "",
            "| Prompts | Count |",
            "|---|---:|",
            f"| equal | {counts[EQUAL]} |",
            f"| different, for the reasons below | {len(differing)} |",
            f"| ours renders where transformers fails | {counts[OURS_RENDERS]} |",
            f"| both refuse, as the template demands | {counts[BOTH_FAIL]} |",
            f"| all | {len(found)} |",
            "",
            "transformers fails when a template expects a string and gets a list of content",
            "parts or null; ours passes the parts' text or an empty string.",
            "",
            "| Template | Conversation | Difference |",
            "|---|---|---|",
            *(f"| {one.template} | {one.conversation} | {one.kind} |" for one in differing),
            "",
            "## Tool calls",
            "",
            "One and two calls in the history are written by each template and read again by the",
            "parser of answers:",
            "",
            "| Histories | Count |",
            "|---|---:|",
            *(f"| {kind} | {sum(one.kind == kind for one in calls)} |" for kind in KINDS),
            "",
            "| Template | Format | Calls | Not read, because |",
            "|---|---|---:|---|",
            *(
                f"| {one.template} | {one.format} | {one.calls} | {one.kind} |"
                for one in calls
                if one.kind != READ
            ),
            "",
        ]
    )


def main() -> None:
    """Print what was found.

    The exit status is 1 where a prompt differs without a known reason, or a call is not read.
    """
    parser = argparse.ArgumentParser(prog="make templates")
    parser.add_argument("--document", type=Path, metavar="FILE", help="write the page of it")
    options = parser.parse_args()
    folder = Settings.from_environment().cache_folder / "chat-templates"
    templates = fetch(folder, TEMPLATES)
    found, calls = list(outcomes(templates)), list(round_trips(templates))
    table = Table("prompts", "", show_edge=False)
    for kind, count in Counter(outcome.kind for outcome in found).most_common():
        table.add_row(kind, str(count))
    for kind, count in Counter(f"calls: {one.kind}" for one in calls).most_common():
        table.add_row(kind, str(count))
    Console(width=100).print(table)
    lost = [one for one in calls if one.kind == LOST]
    for each in lost:
        print(f"{each.template}, {each.calls} calls: {each.answer!r}", file=sys.stderr)
    for one in found:
        if one.kind in WRONG:
            told = f"{one.template}, {one.conversation}: {one.kind}"
            print(f"{told}\n  ours:   {one.ours!r}\n  theirs: {one.theirs!r}", file=sys.stderr)
    if options.document is not None:
        options.document.write_text(document(found, calls))
    sys.exit(bool(lost) or any(one.kind in WRONG for one in found))


if __name__ == "__main__":
    main()

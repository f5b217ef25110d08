"""Tokens recognized by their name, since GGUF files do not mark them reliably.

The names are those by which llama.cpp finds the ends of a generation.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

END_OF_GENERATION = frozenset(
    {
        "<|eot_id|>",
        "<|im_end|>",
        "<|end|>",
        "<|return|>",
        "<|call|>",
        "<|flush|>",
        "<|calls|>",
        "<end_of_turn>",
        "<|endoftext|>",
        "</s>",
        "<|eom_id|>",
        "<EOT>",
        "_<EOT>",
        "[EOT]",
        "[EOS]",
        "<|end_of_text|>",
        "<end_of_utterance>",
        "<eos>",
        "<turn|>",
        "<|tool_response>",
        "<\uff5cend▁of▁sentence\uff5c>",
        "[e~[",
    }
)
"""A model that writes one of these has ended its turn."""

ENDS_UNLESS_KEYED = {
    "fim_pad": frozenset({"<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"}),
    "fim_rep": frozenset({"<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"}),
    "fim_sep": frozenset({"<|file_sep|>"}),
}
"""Padding and file separators of code models, which start another file: an end by their name
if the file has no `tokenizer.ggml.<key>_token_id`."""

END_OF_FILE = frozenset().union(*ENDS_UNLESS_KEYED.values())

FILL_IN_THE_MIDDLE: Mapping[str, tuple[str, ...]] = {
    "fim_pre": (
        "<|fim_prefix|>",
        "<fim-prefix>",
        "<fim_prefix>",
        "<\uff5cfim▁begin\uff5c>",
        "<PRE>",
        "▁<PRE>",
        "<|code_prefix|>",
        "<|prefix|>",
    ),
    "fim_suf": (
        "<|fim_suffix|>",
        "<fim-suffix>",
        "<fim_suffix>",
        "<\uff5cfim▁hole\uff5c>",
        "<SUF>",
        "▁<SUF>",
        "<|code_suffix|>",
        "<|suffix|>",
    ),
    "fim_mid": (
        "<|fim_middle|>",
        "<fim-middle>",
        "<fim_middle>",
        "<\uff5cfim▁end\uff5c>",
        "<MID>",
        "▁<MID>",
        "<|code_middle|>",
        "<|middle|>",
    ),
}
"""Names of the tokens before a text with a gap, before what follows the gap, and before what fills
it."""

CONTROL = END_OF_GENERATION | END_OF_FILE.union(*FILL_IN_THE_MIDDLE.values())
"""Control tokens, whatever type the file gives them."""

SHOWN = frozenset({"<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"})
"""Parts of a reply's structure that a reader of the text needs (gpt-oss)."""

TURN_MARKERS = frozenset(
    {
        *(
            "<s>",
            "</s>",
            "<bos>",
            "<eos>",
            "<start_of_turn>",
            "<end_of_turn>",
            "<|turn>",
            "<turn|>",
        ),
        *("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"),
        *("[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]"),
        *("[gMASK]", "<sop>", "<eop>", "]~b]", "]~!b[", "[e~[", "<role>", "</role>"),
        *("<tool_response>", "</tool_response>"),
    }
)
"""Names without bars that begin or end a turn; see `marks_a_turn`."""

BARRED = re.compile(r"[<\[][|\uff5c].+[|\uff5c][>\]]", re.DOTALL)
"""The usual shape of tokens of a conversation's structure, as in <|user|>."""

SAID_BY_MODELS = re.compile(r"think|thought|tool[_▁]?call|arg_key|arg_value|answer", re.IGNORECASE)
"""Parts of the names of tokens that a model writes inside its turn."""

ID_KEYS = ("eos", "eot", "eom", "fim_pad", "fim_rep", "fim_sep")
"""`tokenizer.ggml.<key>_token_id` names one more end of generation."""


def marks_a_turn(text: str, templates: str) -> bool:
    """Whether a token with this text, which is no control token, may only be written by templates.

    That is the case for known names, for the shape <|...|>, and for signs in the `templates` of
    the model; but not for what a model itself writes, such as <think>: it must stay a token when
    it comes back in a conversation.
    """
    if text in TURN_MARKERS:
        return True
    if SAID_BY_MODELS.search(text):
        return False
    is_sign = len(text) > 2 and not text.isspace() and not text.isalnum()
    return BARRED.fullmatch(text) is not None or (is_sign and text in templates)


def ends_of_generation(
    tokens: Sequence[str],
    named: Mapping[str, int],
    keyed: Mapping[str, int],
    listed: Iterable[int] = (),
) -> frozenset[int]:
    """Return the end-of-generation ids of a vocabulary.

    `named` has its tokens with a name that is known here, `keyed` the ids under its ID_KEYS,
    `listed` those under `tokenizer.ggml.eos_token_ids`.
    """
    ends = {name: named[name] for name in named if name in END_OF_GENERATION}
    for key, names in ENDS_UNLESS_KEYED.items():
        if key not in keyed:
            ends |= {name: named[name] for name in named if name in names}
    ends |= {tokens[token]: token for token in (*keyed.values(), *listed)}
    structured = {"<|return|>", "<|call|>"} <= ends.keys() or (
        "<|flush|>" in ends and not ends.keys().isdisjoint({"<|call|>", "<|calls|>"})
    )
    if structured:  # here <|end|> only ends a message inside the turn
        ends.pop("<|end|>", None)
    if "<|tool_response>" in ends or "<|plamo:eos|>" in ends:  # here </s> is a word like any other
        ends.pop("</s>", None)
    return frozenset(ends.values())

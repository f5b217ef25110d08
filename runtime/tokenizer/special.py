"""Tokens that mean something by their name, since GGUF files do not mark them reliably.

The names are those by which llama.cpp finds the ends of a generation.
"""

from collections.abc import Mapping, Sequence

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
"""Padding and file separators of code models, after which comes another file: an end by their name
where the file has no `tokenizer.ggml.<key>_token_id`."""

END_OF_FILE = frozenset().union(*ENDS_UNLESS_KEYED.values())

FILL_IN_THE_MIDDLE = frozenset(
    {
        "<|fim_prefix|>",
        "<fim-prefix>",
        "<fim_prefix>",
        "<\uff5cfim▁begin\uff5c>",
        "<PRE>",
        "▁<PRE>",
        "<|code_prefix|>",
        "<|prefix|>",
        "<|fim_suffix|>",
        "<fim-suffix>",
        "<fim_suffix>",
        "<\uff5cfim▁hole\uff5c>",
        "<SUF>",
        "▁<SUF>",
        "<|code_suffix|>",
        "<|suffix|>",
        "<|fim_middle|>",
        "<fim-middle>",
        "<fim_middle>",
        "<\uff5cfim▁end\uff5c>",
        "<MID>",
        "▁<MID>",
        "<|code_middle|>",
        "<|middle|>",
    }
)

CONTROL = END_OF_GENERATION | END_OF_FILE | FILL_IN_THE_MIDDLE
"""Control tokens whatever type the file gives them."""

SHOWN = frozenset({"<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"})
"""Parts of a reply's structure that a reader of the text needs (gpt-oss)."""

ID_KEYS = ("eos", "eot", "eom", "fim_pad", "fim_rep", "fim_sep")
"""`tokenizer.ggml.<key>_token_id` names one more end of generation."""


def ends_of_generation(
    tokens: Sequence[str], named: Mapping[str, int], keyed: Mapping[str, int]
) -> frozenset[int]:
    """End-of-generation ids of a vocabulary.

    `named` has its tokens with a name that is known here, `keyed` the ids under its ID_KEYS.
    """
    ends = {name: named[name] for name in named if name in END_OF_GENERATION}
    for key, names in ENDS_UNLESS_KEYED.items():
        if key not in keyed:
            ends |= {name: named[name] for name in named if name in names}
    ends |= {tokens[token]: token for token in keyed.values()}
    structured = {"<|return|>", "<|call|>"} <= ends.keys() or (
        "<|flush|>" in ends and not ends.keys().isdisjoint({"<|call|>", "<|calls|>"})
    )
    if structured:  # here <|end|> only ends a message inside the turn
        ends.pop("<|end|>", None)
    if "<|tool_response>" in ends or "<|plamo:eos|>" in ends:  # here </s> is a word like any other
        ends.pop("</s>", None)
    return frozenset(ends.values())

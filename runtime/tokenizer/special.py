"""Tokens that mean something by their name, since GGUF files do not mark them reliably.

The names are those by which llama.cpp finds the ends of a generation.
"""

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

END_OF_FILE = frozenset(
    {
        "<|fim_pad|>",
        "<fim-pad>",
        "<fim_pad>",
        "<PAD>",
        "[PAD]",
        "<|fim_repo|>",
        "<|repo_name|>",
        "<fim-repo>",
        "<REPO>",
        "<reponame>",
        "<|file_sep|>",
    }
)
"""Padding and file separators of code models: what comes after is another file."""

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


def ends_of_generation(named: dict[str, int], keyed: set[int]) -> frozenset[int]:
    """End-of-generation ids from the known names that a vocabulary has and the ids of its keys."""
    ends = {name: named[name] for name in named if name in END_OF_GENERATION | END_OF_FILE}
    structured = {"<|return|>", "<|call|>"} <= ends.keys() or (
        "<|flush|>" in ends and not ends.keys().isdisjoint({"<|call|>", "<|calls|>"})
    )
    if structured:  # here <|end|> only ends a message inside the turn
        ends.pop("<|end|>", None)
    if "<|tool_response>" in ends:  # here </s> is a word like any other
        ends.pop("</s>", None)
    return frozenset(ends.values()) | keyed

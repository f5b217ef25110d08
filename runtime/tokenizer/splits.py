"""How byte-level BPE cuts text into words before it merges: one row for each name in a GGUF.

The names are the values of `tokenizer.ggml.pre`; the expressions are those of the tokenizer.json
of the models. A row's expressions are applied one after the other, each to what the ones before
left apart. A name without a row is refused: another split gives other tokens without any error.
"""

from dataclasses import dataclass

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
SPACES = r"\s+(?!\S)|\s+"
WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|" + SPACES
"""GPT-2's own expression."""
DIGIT = r"\p{N}"
DIGITS_BY_3 = r"\p{N}{1,3}"


def words_and_digits(
    digits: str, letters: str = r"\p{L}+", contractions: str = CONTRACTIONS
) -> str:
    """The expression of GPT-4's line: digits apart, one sign may lead a word, lines end a piece."""
    return (
        rf"{contractions}|[^\r\n\p{{L}}\p{{N}}]?{letters}|{digits}"
        rf"| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|" + SPACES
    )


def cased_words_and_digits(digits: str, ending: str = "") -> str:
    """As above with a word cut where a lower-case letter meets an upper-case one (GPT-4o)."""
    upper, lower = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
    lead = r"[^\r\n\p{L}\p{N}]?"
    return (
        rf"{lead}{upper}*{lower}+{ending}|{lead}{upper}+{lower}*{ending}|{digits}"
        rf"| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|\s*[\r\n]+|" + SPACES
    )


LLAMA_3 = words_and_digits(DIGITS_BY_3)
QWEN_2 = words_and_digits(DIGIT)
QWEN_35 = (
    rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|{DIGIT}"
    rf"| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|" + SPACES
)
TEKKEN = cased_words_and_digits(DIGIT)
GPT_4O = cased_words_and_digits(DIGITS_BY_3, CONTRACTIONS + "?")
PUNCTUATION = r"[\p{P}\$\+<=>\^~\|`]+"
DEEPSEEK_3_WORDS = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|" + SPACES
)


@dataclass(frozen=True, slots=True)
class SplitRule:
    """What a name in `tokenizer.ggml.pre` stands for."""

    expressions: tuple[str, ...]
    ignore_merges: bool = False
    """A word that is a token as a whole is not built up from merges."""
    add_bos: bool = False
    """Whether encoding begins with BOS where the file does not say."""


GPT_2_RULE = SplitRule((WORDS,))
DIGIT_RULE = SplitRule((DIGIT, WORDS))
LLAMA_3_RULE = SplitRule((LLAMA_3,), ignore_merges=True, add_bos=True)
LLAMA_3_MERGED_RULE = SplitRule((LLAMA_3,))
QWEN_2_RULE = SplitRule((QWEN_2,))
GPT_4O_RULE = SplitRule((GPT_4O,))
DEEPSEEK_3_RULE = SplitRule((DIGITS_BY_3, "[一-龥\u3040-ゟ\u30a0-ヿ]+", DEEPSEEK_3_WORDS))

SPLIT_RULES: dict[str, SplitRule] = {
    "default": SplitRule((r"[\p{P}\$\+<=>\^~\|]+", WORDS, r"\p{N}+", "[0-9][0-9][0-9]")),
    "gpt-2": GPT_2_RULE,
    "phi-2": GPT_2_RULE,
    "mpt": GPT_2_RULE,
    "olmo": GPT_2_RULE,
    "jais": GPT_2_RULE,
    "exaone4": GPT_2_RULE,
    "gigachat": GPT_2_RULE,
    "mellum": GPT_2_RULE,
    "a.x-4.0": GPT_2_RULE,
    "trillion": GPT_2_RULE,
    "granite-docling": GPT_2_RULE,
    "smollm": DIGIT_RULE,
    "starcoder": DIGIT_RULE,
    "refact": DIGIT_RULE,
    "command-r": DIGIT_RULE,
    "codeshell": DIGIT_RULE,
    "exaone": DIGIT_RULE,
    "minerva-7b": DIGIT_RULE,
    "mellum2": DIGIT_RULE,
    "falcon": SplitRule((PUNCTUATION, WORDS, "[0-9][0-9][0-9]")),
    "llama3": LLAMA_3_RULE,
    "llama-v3": LLAMA_3_RULE,
    "llama-bpe": LLAMA_3_RULE,
    "falcon3": LLAMA_3_RULE,
    "falcon-h1": LLAMA_3_RULE,
    "pixtral": LLAMA_3_RULE,
    "midm-2.0": LLAMA_3_RULE,
    "lfm2": LLAMA_3_RULE,
    "dbrx": LLAMA_3_MERGED_RULE,
    "smaug-bpe": LLAMA_3_MERGED_RULE,
    "chatglm-bpe": LLAMA_3_MERGED_RULE,
    "glm4": SplitRule((LLAMA_3,), ignore_merges=True),
    "glm5": SplitRule((LLAMA_3,), ignore_merges=True),
    "qwen2": QWEN_2_RULE,
    "deepseek-r1-qwen": QWEN_2_RULE,
    "stablelm2": QWEN_2_RULE,
    "megrez": QWEN_2_RULE,
    "hunyuan": QWEN_2_RULE,
    "grok-2": QWEN_2_RULE,
    "solar-open": QWEN_2_RULE,
    "qwen35": SplitRule((QWEN_35,)),
    "tekken": SplitRule((TEKKEN,), ignore_merges=True, add_bos=True),
    "gpt-4o": GPT_4O_RULE,
    "llama4": GPT_4O_RULE,
    "deepseek-coder": SplitRule(
        (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥\u0800-一가-\ud7ff]+", DIGIT)
    ),
    "deepseek-v3": DEEPSEEK_3_RULE,
    "hunyuan-dense": DEEPSEEK_3_RULE,
}

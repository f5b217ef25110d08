"""Splits text into words before byte-level BPE merges: one row per name in a GGUF.

The names are the values of `tokenizer.ggml.pre`: all that llama.cpp knows, except those of
tokenizers that are no byte-pair encoders. The expressions are those of the models'
tokenizer.json. A row's expressions are applied in turn, each to the pieces of the ones before. A
name without a row is refused: another split gives other tokens without any error.

No expression may look ahead over the same text repeatedly: a prompt may be a million digits.
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
    """Return the expression of GPT-4's line: separate digits, a sign may lead a word, lines end."""
    return (
        rf"{contractions}|[^\r\n\p{{L}}\p{{N}}]?{letters}|{digits}"
        rf"| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|" + SPACES
    )


def cased_words_and_digits(digits: str, ending: str = "", but: str = "") -> str:
    r"""As above with a word cut where a lower-case letter meets an upper-case one (GPT-4o).

    `but` takes letters away: a class to intersect with, as `&&[^\p{Han}]`.
    """
    upper = rf"[\p{{Lu}}\p{{Lt}}\p{{Lm}}\p{{Lo}}\p{{M}}{but}]"
    lower = rf"[\p{{Ll}}\p{{Lm}}\p{{Lo}}\p{{M}}{but}]"
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
SEED_CODER = (
    rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{DIGIT}"
    rf"| ?[^\s\p{{L}}\p{{N}}\r\n]+|\s*[\r\n]+|" + SPACES
)
UFAKZEKA = (
    rf"[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{DIGIT}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|" + SPACES
)
"""Qwen 2's without contractions, since Turkish writes its suffixes after an apostrophe."""
BAILING = (
    rf"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{DIGIT}"
    rf"| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]|" + SPACES
)
EXAONE_MOE = (
    rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?(?:\p{{L}}\p{{M}}*(?: \p{{L}}\p{{M}}*)*)+|{DIGIT}"
    rf"| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]?|\s*[\r\n]|" + SPACES
)
JAIS_2 = words_and_digits(DIGITS_BY_3).removesuffix(SPACES).replace(
    # White space that was split before contains no line end: it is not searched again.
    r"|\s*[\r\n]+|",
    r"|(?<![^\S\r\n])\s*[\r\n]+|",
) + "|".join([*(rf"\s{{{2**power}}}(?!\S)" for power in range(9, 1, -1)), r"\s{1,2}(?!\S)", r"\s"])
"""White space in powers of two."""
TEKKEN = cased_words_and_digits(DIGIT)
GPT_4O = cased_words_and_digits(DIGITS_BY_3, CONTRACTIONS + "?")
KIMI_K2 = r"\p{Han}+|" + cased_words_and_digits(
    DIGITS_BY_3, CONTRACTIONS + "?", r"&&[^\p{Han}]"
).replace(r"[\r\n/]*", r"[\r\n]*")
PUNCTUATION = r"[\p{P}\$\+<=>\^~\|`]+"
ASCII_PUNCTUATION = r"!-/:-@\[-`{-~"
HAN_AND_KANA = "[一-龥\u3040-ゟ\u30a0-ヿ]+"
WORDS_AFTER_SIGNS = (
    rf"[{ASCII_PUNCTUATION}][A-Za-z]+|[^\r\n\p{{L}}\p{{P}}\p{{S}}]?[\p{{L}}\p{{M}}]+"
)
DEEPSEEK_3_WORDS = WORDS_AFTER_SIGNS + r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|" + SPACES
SPARK_WORDS = WORDS_AFTER_SIGNS + r"| ?[\p{P}\p{S}]+|[\r\n]|" + SPACES
CASED_LETTERS = (
    r"[\p{Lu}\p{Ll}\p{Lt}"
    "&&[^\u0560-\u0588\u10c7-\u10ff\u1c80-\u1c8f\u2d00-\u2d2f\ua790-\ua7ff\uab30-\uab6f"
    "\U00010570-\U000105bf\U00010d50-\U00010d8f\U00016e40-\U00016e7f\U0001d400-\U0001d7ff"
    "\U0001df00-\U0001dfff]]"
)
"""Cased letters of the scripts that DeepSeek's first tokenizer lists."""
CJK_AND_BEYOND = "[一-龥\u0800-一가-\ud7ff]+"
BLOOM_WORDS = r" ?[^(\s|.,!?…。，、।۔،)]+"
SOUTH_EAST_ASIA = (
    "[一-鿿㐀-䶿豈-\ufaff\u3040-ゟ\u30a0-ヿ･-ﾟ⼀-\u2fdfเ-\u0e7f\u0e80-\u0effក-\u17ffက-႟"
    "ꩠ-\uaa7fꧠ-\ua9ff가-\ud7afᄀ-ᇿ]+"
)
"""Scripts without spaces between words, and Hangul."""
DIGITS_FROM_RIGHT = r"(?<!{0}){0}{{1,2}}(?=(?>{0}{{3}})*+(?!{0}))|{0}{{1,3}}"
"""Digits of a class in groups of three from the right: the first group may have one or two."""
YOUTU_SCRIPTS = "[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-\u303f︰-﹏]+|[ㄅ-ㄯ]+|[一-龥\u3040-ゟ\u30a0-ヿ]+"
LINES = r"[^\n]+|\n+"


@dataclass(frozen=True, slots=True)
class SplitRule:
    """The meaning of a name in `tokenizer.ggml.pre`."""

    expressions: tuple[str, ...]
    ignore_merges: bool = False
    """Whether a word that is a token as a whole is not built from merges."""
    add_bos: bool = False
    """Whether encoding adds BOS if the file does not say."""
    always_add_bos: bool = False
    """Whether it does even if the file says no."""
    byte_level: bool = True
    """Whether tokens are bytes in GPT-2's alphabet; else they are text, in which ▁ is a space."""


GPT_2_RULE = SplitRule((WORDS,))
DIGIT_RULE = SplitRule((DIGIT, WORDS))
LLAMA_3_RULE = SplitRule((LLAMA_3,), ignore_merges=True, add_bos=True)
LLAMA_3_MERGED_RULE = SplitRule((LLAMA_3,))
GLM_4_RULE = SplitRule((LLAMA_3,), ignore_merges=True)
QWEN_2_RULE = SplitRule((QWEN_2,))
QWEN_35_RULE = SplitRule((QWEN_35,))
GPT_4O_RULE = SplitRule((GPT_4O,))
BAILING_RULE = SplitRule((BAILING,))
BLOOM_RULE = SplitRule((BLOOM_WORDS,))
TINY_AYA_RULE = SplitRule((r"(?<!\d)\d++\b", r"\A\d{1,2}(?=(?>\d{3})++\z)", GPT_4O))
DEEPSEEK_3_RULE = SplitRule((DIGITS_BY_3, HAN_AND_KANA, DEEPSEEK_3_WORDS))
GEMMA_4_RULE = SplitRule((LINES,), always_add_bos=True, byte_level=False)

SPLIT_RULES: dict[str, SplitRule] = {
    "default": SplitRule((r"[\p{P}\$\+<=>\^~\|]+", WORDS, r"\p{N}+", "[0-9][0-9][0-9]")),
    **dict.fromkeys(
        (
            *("gpt-2", "phi-2", "mpt", "olmo", "jais", "exaone4", "gigachat", "mellum", "a.x-4.0"),
            *("trillion", "granite-docling", "modern-bert", "roberta-bpe", "jina-es", "jina-de"),
            *("jina-v1-en", "jina-v2-es", "jina-v2-de", "jina-v2-code"),
        ),
        GPT_2_RULE,
    ),
    **dict.fromkeys(
        (
            *("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"),
            "mellum2",
        ),
        DIGIT_RULE,
    ),
    "falcon": SplitRule((PUNCTUATION, WORDS, "[0-9][0-9][0-9]")),
    **dict.fromkeys(
        (
            *("llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0"),
            *("lfm2", "jina-v5-nano"),
        ),
        LLAMA_3_RULE,
    ),
    **dict.fromkeys(("dbrx", "smaug-bpe", "chatglm-bpe"), LLAMA_3_MERGED_RULE),
    **dict.fromkeys(("glm4", "glm5"), GLM_4_RULE),
    "minicpm5": SplitRule((DIGITS_BY_3, words_and_digits(r"\p{N}+")), ignore_merges=True),
    "jais-2": SplitRule((JAIS_2,)),
    **dict.fromkeys(
        (
            *("qwen2", "deepseek-r1-qwen", "stablelm2", "megrez", "hunyuan", "grok-2"),
            *("solar-open", "kormo", "f2llmv2"),
        ),
        QWEN_2_RULE,
    ),
    "qwen35": QWEN_35_RULE,
    "laguna": SplitRule((LINES, QWEN_2)),
    "seed-coder": SplitRule((SEED_CODER,)),
    "ufakzeka": SplitRule((UFAKZEKA,)),
    "exaone-moe": SplitRule((EXAONE_MOE,)),
    **dict.fromkeys(("bailingmoe", "bailingmoe2", "llada-moe"), BAILING_RULE),
    "tekken": SplitRule((TEKKEN,), ignore_merges=True, add_bos=True),
    **dict.fromkeys(("gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"), GPT_4O_RULE),
    "granite-embed-multi-97m": SplitRule((GPT_4O,), ignore_merges=True),
    **dict.fromkeys(("tiny_aya", "cohere2moe"), TINY_AYA_RULE),
    "youtu": SplitRule(
        (YOUTU_SCRIPTS, cased_words_and_digits(DIGIT, CONTRACTIONS + "?")), ignore_merges=True
    ),
    "kimi-k2": SplitRule((KIMI_K2,)),
    "deepseek-llm": SplitRule(
        (
            r"[\r\n]",
            rf"\s?{CASED_LETTERS}+",
            r"\s?[!-/:-~！-／：-～‘-‟\u3000-。]+",
            r"(?<!\s)\s++\z",
            CJK_AND_BEYOND,
            r"\p{N}+",
        )
    ),
    "deepseek-coder": SplitRule((r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", CJK_AND_BEYOND, DIGIT)),
    **dict.fromkeys(("deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"), DEEPSEEK_3_RULE),
    "spark2_5": SplitRule((DIGITS_BY_3, HAN_AND_KANA, SPARK_WORDS, DIGIT)),
    "afmoe": SplitRule((DIGITS_FROM_RIGHT.format(DIGIT), SOUTH_EAST_ASIA, DEEPSEEK_3_WORDS)),
    "superbpe": SplitRule((r"\p{N}+", DIGITS_FROM_RIGHT.format(r"\d"))),
    **dict.fromkeys(("poro-chat", "bloom", "gpt3-finnish"), BLOOM_RULE),
    "viking": SplitRule((BLOOM_WORDS, DIGIT)),
    "chameleon": SplitRule(
        (
            "<sentinel:[0-9]+>",
            "IMGIMG[A-I]{1,4}Z",
            r"[\t\n]|    |  ",
            DIGIT,
            rf"[\p{{P}}{ASCII_PUNCTUATION}]",
            WORDS,
        ),
        add_bos=True,
    ),
    **dict.fromkeys(("gemma4", "granite-embed-multi-311m"), GEMMA_4_RULE),
    "sarvam-moe": SplitRule((LINES,), byte_level=False),
}

"""The tokens of one request, and how far they are computed."""

from runtime.drafts import PromptLookup
from runtime.grammar import Matcher
from runtime.pages import PageHash


class Sequence:
    """Tokens of one request and how far they are computed. Owned by the engine thread."""

    __slots__ = (
        "computed",
        "drafts",
        "hashes",
        "matcher",
        "pages",
        "prefix_hits",
        "prompt_length",
        "published",
        "request_id",
        "running",
        "tokens",
    )

    def __init__(
        self,
        request_id: int,
        tokens: list[int],
        drafts: PromptLookup | None = None,
        matcher: Matcher | None = None,
    ) -> None:
        self.request_id = request_id
        self.tokens = tokens
        self.prompt_length = len(tokens)
        """How many of the tokens were given; those behind them were generated."""
        self.drafts = drafts
        """Who guesses at the next tokens, if anyone does."""
        self.matcher = matcher
        """The grammar of what is generated, if there is one, behind the last token."""
        self.computed = 0
        self.running = False
        self.pages: list[int] = []
        self.hashes: list[PageHash] = []
        self.published = 0
        """Pages, from the first on, that others may find."""
        self.prefix_hits = 0
        """Tokens whose keys and values were found in known pages at the last start."""

    @property
    def has_computed_prompt(self) -> bool:
        """Whether the keys and values of its whole prompt are in its pages."""
        return self.computed >= self.prompt_length

    @property
    def remaining(self) -> int:
        """Tokens that are not computed yet."""
        return len(self.tokens) - self.computed

"""The tokens of one request, and how many of them are computed."""

from runtime.drafts import PromptLookup
from runtime.grammar import Matcher
from runtime.pages import PageHash


class Sequence:
    """Tokens of one request and how many are computed. Owned by the engine thread."""

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
        """Number of prompt tokens; the tokens after them were generated."""
        self.drafts = drafts
        """Makes drafts of the next tokens, if given."""
        self.matcher = matcher
        """The grammar of the answer, if there is one, after the last token."""
        self.computed = 0
        self.running = False
        self.pages: list[int] = []
        self.hashes: list[PageHash] = []
        self.published = 0
        """Number of pages, from the first on, that other sequences may find."""
        self.prefix_hits = 0
        """Tokens found in cached pages at the last start."""

    @property
    def has_computed_prompt(self) -> bool:
        """Whether the keys and values of its whole prompt are in its pages."""
        return self.computed >= self.prompt_length

    @property
    def remaining(self) -> int:
        """Number of tokens that are not computed yet."""
        return len(self.tokens) - self.computed

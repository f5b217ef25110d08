"""The tokens of one request, and how many of them are computed."""

import logging

from runtime.drafts import PromptLookup
from runtime.grammar import Matcher
from runtime.pages import PageHash, chain_hash, salted_root

log = logging.getLogger("rocmforge.engine")


class Sequence:
    """Tokens of one request and how many are computed. Owned by the engine thread."""

    __slots__ = (
        "computed",
        "drafts",
        "generates",
        "hashes",
        "matcher",
        "pages",
        "prefix_hits",
        "prompt_length",
        "published",
        "request_id",
        "root",
        "running",
        "salt",
        "scored",
        "shared_until",
        "sought",
        "states",
        "tail",
        "to_score",
        "tokens",
    )

    def __init__(
        self,
        request_id: int,
        tokens: list[int],
        drafts: PromptLookup | None = None,
        matcher: Matcher | None = None,
        *,
        generates: bool = True,
        scores_prompt: bool = False,
        salt: bytes = b"",
    ) -> None:
        self.request_id = request_id
        self.tokens = tokens
        self.prompt_length = len(tokens)
        """Number of prompt tokens; the tokens after them were generated."""
        self.drafts = drafts
        """Makes drafts of the next tokens, if given."""
        self.matcher = matcher
        """The grammar of the answer, if there is one, after the last token."""
        self.generates = generates
        """Whether tokens are sampled after the prompt; otherwise it ends there."""
        self.to_score = self.prompt_length - 1 if scores_prompt else 0
        """Number of first tokens whose logits are needed in addition to the sampled ones."""
        self.scored = 0
        """Number of them whose logits have been used."""
        self.salt = salt
        self.root = salted_root(salt)
        """The hash before its first page: sequences with another one share none of its pages."""
        self.computed = 0
        self.running = False
        self.pages: list[int] = []
        self.hashes: list[PageHash] = []
        self.published = 0
        """Number of pages, from the first on, that other sequences may find."""
        self.sought = False
        """Whether its prefix was looked for beyond the pool since it waits."""
        self.prefix_hits = 0
        """Tokens found in cached pages at the last start."""
        self.states: dict[int, int] = {}
        """Slots of the pool of states that it holds, by the number of tokens before."""
        self.shared_until = 0
        """Tokens at its beginning that were found in cached pages at the last start."""
        self.tail: PageHash | None = None
        """Hash of the snapshot at the end of its generated tokens, if there is one."""

    def hash_pages(self, count: int, page_size: int) -> None:
        """Extend the hashes to the first `count` pages, which its tokens must fill."""
        for index in range(len(self.hashes), count):
            parent = self.hashes[-1] if self.hashes else self.root
            filled = self.tokens[index * page_size : (index + 1) * page_size]
            self.hashes.append(chain_hash(parent, filled))

    def draft(self, most: int, most_forced: int) -> tuple[int, ...]:
        """Return drafted tokens that the grammar allows: those that it forces, or guesses.

        At most `most_forced` of the former, or `most` of the latter. Empty if drafting raises.
        """
        if self.drafts is None:
            return ()
        try:
            matcher = self.matcher
            if matcher is not None and (forced := matcher.forced()):
                return forced[:most_forced]
            guesses = self.drafts.propose(self.tokens, most) if most > 0 else ()
            return guesses if matcher is None else guesses[: matcher.allowed_of(guesses)]
        except BaseException:
            log.exception("drafting failed; request %d continues without", self.request_id)
            self.drafts = None
            return ()

    @property
    def has_computed_prompt(self) -> bool:
        """Whether the keys and values of its whole prompt are in its pages."""
        return self.computed >= self.prompt_length

    @property
    def remaining(self) -> int:
        """Number of tokens that are not computed yet."""
        return len(self.tokens) - self.computed

"""A place in JSON text that arrives in pieces: inside which brackets, and whether in a string."""

import re

STRUCTURE = re.compile(r'["\\{}\[\]]')
NOWHERE = -1


class JsonPlace:
    """The place behind the text so far. Owned by its parser."""

    def __init__(self) -> None:
        self.in_text = False
        """Whether it is inside a string."""
        self.depth = 0
        """Brackets that are open."""
        self._escaped = NOWHERE

    def value_end(self, text: str) -> int:
        """Return where the outermost value ends in the text that follows, or its length."""
        return self._walk(text, moves=False)

    def move(self, text: str) -> None:
        """Go behind the text that follows."""
        self._walk(text, moves=True)

    def _walk(self, text: str, *, moves: bool) -> int:
        in_text, escaped, depth = self.in_text, self._escaped, self.depth
        end = len(text)
        for match in STRUCTURE.finditer(text):
            place, sign = match.start(), match.group()
            if escaped != NOWHERE:
                # The character after a backslash, which may be in the previous piece.
                is_escaped, escaped = escaped == place, NOWHERE
                if is_escaped:
                    continue
            if in_text:
                if sign == "\\":
                    escaped = place + 1
                elif sign == '"':
                    in_text = False
            elif sign == '"':
                in_text = True
            elif sign in "{[":
                depth += 1
            elif sign in "}]":
                depth -= 1
                if depth <= 0 and not moves:
                    end = place + 1
                    break
        if moves:
            self.in_text, self.depth = in_text, depth
            self._escaped = 0 if escaped == len(text) else NOWHERE
        return end

"""Text that knows which of its characters a template wrote: it is text, and it keeps track."""

from itertools import chain, pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from runtime.chat.text import NoText, TemplateText, joined

LETTERS = st.text(alphabet="ab \n<|", max_size=8)
PIECES = st.lists(st.tuples(st.booleans(), LETTERS), max_size=6)


def made(pieces: list[tuple[bool, str]]) -> TemplateText:
    return joined(TemplateText.wholly_own(text) if own else text for own, text in pieces)


def owners(text: str) -> list[bool]:
    """Whether each character is the template's own."""
    spans = text.own if isinstance(text, TemplateText) else ()
    return [any(start <= place < end for start, end in spans) for place in range(len(text))]


def marked(text: TemplateText) -> list[tuple[str, bool]]:
    return list(zip(str.__str__(text), owners(text), strict=True))


@given(pieces=PIECES)
def test_joining_keeps_whose_each_character_is(pieces: list[tuple[bool, str]]) -> None:
    text = made(pieces)
    assert text == "".join(part for _, part in pieces)
    assert owners(text) == [own for own, part in pieces for _ in part]
    assert all(start < end for start, end in text.own)
    assert all(end < start for (_, end), (start, _) in pairwise(text.own))


@given(pieces=PIECES, other=LETTERS, start=st.integers(-9, 9), end=st.integers(-9, 9))
def test_cutting_gives_the_same_text_and_keeps_track(
    pieces: list[tuple[bool, str]], other: str, start: int, end: int
) -> None:
    text = made(pieces)
    plain, signs = str.__str__(text)[:], owners(text)
    assert (text[start:end], owners(text[start:end])) == (plain[start:end], signs[start:end])
    for name in ("strip", "lstrip", "rstrip"):
        for characters in (None, "a<"):
            assert getattr(text, name)(characters) == getattr(plain, name)(characters)
    before = len(plain) - len(plain.lstrip())
    assert owners(text.lstrip()) == signs[before:]
    assert owners(text.rstrip()) == signs[: len(plain.rstrip())]
    assert (text + other, owners(text + other)) == (plain + other, signs + [False] * len(other))
    assert (other + text, owners(other + text)) == (other + plain, [False] * len(other) + signs)
    assert owners(text * 2) == signs * 2


@given(pieces=PIECES, separator=st.sampled_from(["a", "<|", " ", "\n"]), most=st.integers(-1, 3))
@example(pieces=[(False, "\n"), (True, "\n")], separator="\n", most=1)
def test_splitting_and_replacing_keep_track(
    pieces: list[tuple[bool, str]], separator: str, most: int
) -> None:
    text = made(pieces)
    plain = str(bytes(text, "utf-8"), "utf-8")
    for name in ("split", "rsplit"):
        for by in (separator, None):
            parts = getattr(text, name)(by, most)
            assert parts == getattr(plain, name)(by, most)
            assert list(chain(*map(owners, parts))) == [
                own
                for part, place in zip(parts, places(plain, parts, by), strict=True)
                for own in owners(text)[place : place + len(part)]
            ]
    assert text.splitlines() == plain.splitlines()
    assert text.partition(separator) == plain.partition(separator)
    assert text.rpartition(separator) == plain.rpartition(separator)
    assert list(chain(*map(owners, text.partition(separator)))) == owners(text)
    assert text.removeprefix(separator) == plain.removeprefix(separator)
    assert text.removesuffix(separator) == plain.removesuffix(separator)
    replaced = text.replace(separator, "XY", most)
    assert replaced == plain.replace(separator, "XY", most)
    assert not any(
        own for letter, own in zip(replaced, owners(replaced), strict=True) if letter in "XY"
    )


def places(plain: str, parts: list[str], separator: str | None) -> list[int]:
    """Where the parts of a split stand: each behind a separator, or as far left as it can."""
    found: list[int] = []
    place = 0
    for part in parts:
        place = plain.index(part, place)
        found.append(place)
        place += len(part) + len(separator or "")
    return found


@given(pieces=PIECES, letters=st.sampled_from(["aB", "<|End|>", "é", "ß", "İ", "ΑΣ"]))
def test_another_case_keeps_track_unless_a_letter_becomes_two(
    pieces: list[tuple[bool, str]], letters: str
) -> None:
    text = made([*pieces, (True, letters)])
    plain = str.__str__(text)[:]
    for name in ("upper", "lower", "title", "capitalize", "swapcase", "casefold"):
        spelled = getattr(text, name)()
        assert spelled == getattr(plain, name)()
        assert owners(spelled) == (
            owners(text) if len(spelled) == len(text) else [False] * len(spelled)
        )


def test_what_puts_letters_elsewhere_forgets() -> None:
    text = TemplateText.wholly_own("<|END|>")
    assert not any(owners(text.center(9)))
    assert owners(TemplateText.wholly_own(", ").join(["a", "b"])) == [False, True, True, False]


def test_no_text_is_empty_and_none() -> None:
    text: object = NoText()
    assert text == ""
    assert text == None  # noqa: E711, as a template asks it
    assert text != "a"
    assert hash(text) == hash("")

"""Pages with a part that a run writes, between two comments."""

from pathlib import Path


def write_between(path: Path, begin: str, text: str, end: str) -> None:
    """Put the text between the marks of a page. Raises ValueError where there are none."""
    page = path.read_text()
    before, has_begin, rest = page.partition(begin)
    _, has_end, after = rest.partition(end)
    if not (has_begin and has_end):
        raise ValueError(f"{path} has no {begin} and {end}")
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}")

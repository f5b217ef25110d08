"""A pytest plugin (-p tests.sanitize.plugin): every test of the run loads the sanitized library."""

from tests.sanitize.library import load_instead

load_instead()

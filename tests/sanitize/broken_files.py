"""`tests.fuzz.run` in a process that loads the sanitized library."""

from tests.fuzz.run import main
from tests.sanitize.library import load_instead

if __name__ == "__main__":
    load_instead()
    main()

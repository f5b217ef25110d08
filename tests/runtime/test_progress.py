"""How far a step is, in words and in tenths."""

from runtime.progress import Progress


def test_the_time_left_follows_from_what_is_done() -> None:
    now = [100.0]
    progress = Progress(lambda: now[0])
    assert progress.words(0, 4_700_000_000) == "0.0 of 4.7 GB"
    now[0] = 110.0
    assert progress.words(1_175_000_000, 4_700_000_000) == "1.2 of 4.7 GB, 30 s left"
    assert progress.words(4_700_000_000, 4_700_000_000) == "4.7 of 4.7 GB"
    progress.begin()
    now[0] = 111.0
    assert progress.words(1_000_000_000, 2_000_000_000) == "1.0 of 2.0 GB, 1 s left"


def test_a_log_gets_each_tenth_once_and_not_the_end() -> None:
    progress = Progress()
    assert [at for at in range(101) if progress.is_next_tenth(at, 100)] == list(range(10, 100, 10))
    assert not progress.is_next_tenth(50, 100)
    progress.begin()
    assert progress.is_next_tenth(50, 100)
    assert not progress.is_next_tenth(0, 0)

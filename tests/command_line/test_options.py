"""Options are settings; the command line wins over the environment."""

import argparse

import pytest

from rocmforge.options import HELP, add_settings, settings_of
from runtime.errors import SettingsError
from runtime.settings import Settings


def parse(*arguments: str) -> Settings:
    parser = argparse.ArgumentParser()
    add_settings(parser, *HELP)
    return settings_of(parser.parse_args(arguments))


def test_every_option_is_a_setting() -> None:
    assert set(HELP) <= set(Settings.__struct_fields__)


def test_an_option_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROCMFORGE_PORT", "1234")
    monkeypatch.setenv("ROCMFORGE_THREADS", "3")
    settings = parse("--port", "4321")
    assert (settings.port, settings.threads) == (4321, 3)


def test_home_is_absolute_whatever_was_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert str(parse("--home", "~/models").home) == "/home/someone/models"


@pytest.mark.parametrize(
    ("option", "value"),
    [("--port", "-1"), ("--port", "65536"), ("--device", "cuda"), ("--cache-tokens", "-1")],
)
def test_values_out_of_range_are_refused_by_name(option: str, value: str) -> None:
    with pytest.raises(SettingsError, match=option.removeprefix("--").replace("-", "_")):
        parse(option, value)

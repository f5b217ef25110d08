"""Options are settings; the command line wins over the environment."""

import argparse
import contextlib
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.inspect import Field

from rocmforge.commands.settings import markdown
from rocmforge.options import SERVER, SESSION, add_settings, settings_of
from runtime.errors import SettingsError
from runtime.settings import Settings, setting_fields


def parse(*arguments: str) -> Settings:
    parser = argparse.ArgumentParser()
    add_settings(parser, *SERVER)
    return settings_of(parser.parse_args(arguments))


def test_every_option_is_a_setting() -> None:
    assert {*SERVER, *SESSION} <= set(Settings.__struct_fields__)


def test_an_option_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROCMFORGE_PORT", "1234")
    monkeypatch.setenv("ROCMFORGE_THREADS", "3")
    settings = parse("--port", "4321")
    assert (settings.port, settings.threads) == (4321, 3)


def test_home_is_absolute_whatever_was_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert str(parse("--home", "~/models").home) == "/home/someone/models"


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--port", "abc", "--port takes a whole number from 0 to 65535, not abc"),
        ("--port", "65536", "--port takes a whole number from 0 to 65535, not 65536"),
        ("--device", "cuda", "--device takes auto, cpu or rocm, not cuda"),
        (
            "--cache-tokens",
            "-1",
            "takes a whole number from 0 to 2147483647, not -1",
        ),
        ("--home", "", "--home takes a path, not empty text"),
        ("--longest-pause", "inf", "--longest-pause takes a number from 0 to 31536000, not inf"),
        (
            "--request-timeout",
            "nan",
            "takes a number from 0 to 31536000, not nan",
        ),
        ("--drain-timeout", "1e308", "takes a number from 0 to 31536000, not 1e308"),
        ("--page-size", "7", "a whole number from 8 to 1024 that is a multiple of 8, not 7"),
        ("--cache-tokens", "16", "--cache-tokens 16 is too few"),
        ("--threads", "100000", "--threads 100000 is too many"),
    ],
)
def test_a_value_that_does_not_fit_is_told_with_what_the_option_takes(
    option: str, value: str, told: str
) -> None:
    with pytest.raises(SettingsError, match=re.escape(told)):
        parse(option, value)


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("LOG_PROMPTS", "yes", "ROCMFORGE_LOG_PROMPTS takes true or false, not yes"),
        ("HOME", "", "ROCMFORGE_HOME takes a path, not empty text"),
        ("THREADS", "\udcff", "ROCMFORGE_THREADS takes a whole number from 0"),
        ("BENCHMARK_ALLOWED", "1.05", "takes a JSON object of numbers above 1, not 1.05"),
    ],
)
def test_a_variable_that_does_not_fit_is_told_by_its_name(
    variable: str, value: str, told: str
) -> None:
    with pytest.raises(SettingsError, match=re.escape(told)):
        Settings.from_environment({f"ROCMFORGE_{variable}": value})


def test_a_misspelled_variable_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    Settings.from_environment({"ROCMFORGE_PROT": "9", "ROCMFORGE_PORT": "8000", "PORT": "1"})
    assert caplog.messages == [
        "the variable ROCMFORGE_PROT is no setting and is ignored; did you mean ROCMFORGE_PORT?"
    ]


@given(st.sampled_from(setting_fields()), st.text() | st.floats().map(str) | st.integers().map(str))
def test_whatever_is_given_is_taken_in_its_range_or_refused(field: Field, value: str) -> None:
    try:
        settings = Settings.from_environment({}, **{field.name: value})
    except SettingsError:
        return
    for duration in (settings.longest_pause, settings.request_timeout, settings.drain_timeout):
        assert int(duration * 1e9) >= 0


def test_the_page_of_settings_has_what_the_command_prints() -> None:
    page = Path(__file__).parents[2] / "docs" / "settings.md"
    assert "\n".join(markdown()) in page.read_text()


def test_a_file_sets_what_neither_options_nor_variables_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('port = 9000\nthreads = 1\nhome = "~/models"\naccept_check = {logits = 0.2}\n')
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("ROCMFORGE_THREADS", "2")
    monkeypatch.setenv("ROCMFORGE_CONFIG", str(tmp_path / "another.toml"))
    monkeypatch.delenv("ROCMFORGE_HOME", raising=False)
    settings = parse("--config", str(file), "--host", "::1")
    assert (settings.port, settings.threads, settings.host) == (9000, 2, "::1")
    assert settings.home == Path("/home/someone/models")
    assert settings.accept_check == {"logits": 0.2}
    assert settings.config == file


def test_the_usual_file_is_read_where_it_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert Settings.from_environment({}).port == 8080
    (tmp_path / "rocmforge").mkdir()
    (tmp_path / "rocmforge" / "rocmforge.toml").write_text("port = 9001\n")
    assert Settings.from_environment({}).port == 9001
    assert Settings.from_environment({"ROCMFORGE_PORT": "9002"}).port == 9002


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("prot = 9\n", "prot in {file} is no setting; did you mean port?"),
        ('port = "many"\n', "port in {file} takes a whole number from 0 to 65535, not many"),
        ("port = 2020-01-01\n", "port in {file} takes a whole number from 0 to 65535, not 2020"),
        ("port 9\n", "the settings file {file} is no TOML"),
        ("[server]\nport = 9\n", "server in {file} is no setting"),
        ('config = "other.toml"\n', "config in {file} is no setting"),
        (None, "the settings file {file} does not exist"),
    ],
)
def test_a_file_that_does_not_fit_is_told_by_its_name(
    tmp_path: Path, text: str | None, told: str
) -> None:
    file = tmp_path / "mine.toml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(SettingsError, match=re.escape(told.format(file=file))):
        Settings.from_environment({"ROCMFORGE_CONFIG": str(file)})


@given(st.binary() | st.text().map(str.encode))
def test_whatever_a_file_holds_is_settings_or_refused(content: bytes) -> None:
    with tempfile.NamedTemporaryFile(suffix=".toml") as file:
        file.write(content)
        file.flush()
        with contextlib.suppress(SettingsError):
            Settings.from_environment({}, config=file.name)

"""Show every setting, its value and its range.

A setting is an option of the commands that use it, an environment variable and a name in a file.
"""

import argparse

from msgspec import NODEFAULT

from rocmforge.options import SERVER, SESSION, add_settings, settings_of
from runtime.setting_fields import description, takes
from runtime.settings import CONFIG, PREFIX, SECRETS, setting_fields


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--markdown", action="store_true", help="print the table of docs/settings.md, with defaults"
    )
    add_settings(parser, "home")


def run(options: argparse.Namespace) -> None:
    if options.markdown:
        print("\n".join(markdown()))
        return
    settings = settings_of(options)
    for field in setting_fields():
        value = getattr(settings, field.name)
        shown = "(not shown)" if value and field.name in SECRETS else value
        print(f"{PREFIX}{field.name.upper()}={shown}")
        print(f"    {description(field)}; takes {takes(field)}")


def markdown() -> list[str]:
    """Return the lines of a table: variable, option, default, meaning, range."""
    lines = ["| Variable | Option | Default | Meaning | Values |", "|---|---|---|---|---|"]
    for field in setting_fields():
        has_option = field.name in {CONFIG, *SERVER, *SESSION}
        option = f"`--{field.name.replace('_', '-')}`" if has_option else ""
        default = "" if field.default in (None, NODEFAULT) else f"`{field.default}`"
        default = "`~/.local/share/rocmforge`" if field.name == "home" else default
        lines.append(
            f"| `{PREFIX}{field.name.upper()}` | {option} | {default} "
            f"| {description(field)} | {takes(field)} |"
        )
    return lines

"""Scripts that complete the command line in a shell, made of its parser."""

import argparse
from collections.abc import Mapping

MODELS = '"${ROCMFORGE_HOME:-$HOME/.local/share/rocmforge}/models"'
"""Folder whose entries are the published names, as a shell finds it."""

BASH = """\
_rocmforge() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" words=""
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "{commands}" -- "$word"))
        return
    fi
    case "$word" in
        -*)
            case "${{COMP_WORDS[1]}}" in
{options}
            esac
            COMPREPLY=($(compgen -W "$words" -- "$word")) ;;
        *)
            COMPREPLY=($(compgen -W "$(ls {models} 2>/dev/null)" -- "$word")
                       $(compgen -f -- "$word")) ;;
    esac
}}
complete -o filenames -F _rocmforge rocmforge
"""


def script(shell: str, parser: argparse.ArgumentParser) -> str:
    """Return the script of bash, zsh or fish."""
    commands = _commands(parser)
    if shell == "fish":
        return _fish(commands)
    options = "\n".join(
        f'                {name}) words="{" ".join(_options(command))}" ;;'
        for name, (_, command) in commands.items()
    )
    made = BASH.format(commands=" ".join(commands), options=options, models=MODELS)
    before = "autoload -Uz +X compinit bashcompinit && compinit && bashcompinit\n"
    return before + made if shell == "zsh" else made


def _fish(commands: Mapping[str, tuple[str, argparse.ArgumentParser]]) -> str:
    lines = []
    for name, (summary, command) in commands.items():
        first = f"complete -c rocmforge -n __fish_use_subcommand -f -a {name} -d {_quoted(summary)}"
        lines.append(first)
        here = f"complete -c rocmforge -n '__fish_seen_subcommand_from {name}'"
        lines += [f"{here} -l {option.removeprefix('--')}" for option in _options(command)]
        lines.append(f"{here} -a '(ls {MODELS.replace(chr(34), '')} 2>/dev/null)'")
    return "\n".join(lines) + "\n"


def _commands(
    parser: argparse.ArgumentParser,
) -> dict[str, tuple[str, argparse.ArgumentParser]]:
    """Return each command's summary and parser, by its name."""
    (found,) = (each for each in parser._actions if isinstance(each, argparse._SubParsersAction))
    summaries = {each.dest: each.help or "" for each in found._choices_actions}
    return {name: (summaries[name], command) for name, command in found.choices.items()}


def _options(parser: argparse.ArgumentParser) -> list[str]:
    return [
        option
        for action in parser._actions
        for option in action.option_strings
        if option.startswith("--")
    ]


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"

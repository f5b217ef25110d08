"""Print the completion of a shell: commands, their options, and names of published models.

For bash: `source <(rocmforge completion bash)`, in ~/.bashrc to keep it. zsh takes the same with
zsh, fish takes `rocmforge completion fish | source`.
"""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh", "fish"))


def run(options: argparse.Namespace) -> None:
    from rocmforge.completion import script

    print(script(options.shell, options.parser), end="")

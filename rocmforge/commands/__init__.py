"""The commands. A module's docstring is its `--help` text.

A module has `add_arguments(parser)` and `run(options)`; slow imports are inside `run`.
"""

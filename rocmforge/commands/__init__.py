"""The commands. The first line of a module's docstring is what `--help` says of it.

A module has `add_arguments(parser)` and `run(options)`; what is heavy is imported inside `run`.
"""

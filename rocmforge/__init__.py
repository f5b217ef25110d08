"""The command line: the door to the three houses."""

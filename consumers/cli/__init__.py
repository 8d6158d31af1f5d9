"""The command line: a file per command, each saying what it does in its help."""

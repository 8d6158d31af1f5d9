"""The command line: a file per command, or per group of commands."""

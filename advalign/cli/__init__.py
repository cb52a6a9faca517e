"""The command line: one file per command group; every command is a few lines that call one function."""

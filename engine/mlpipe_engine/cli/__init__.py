"""The command line: a table of commands, a small parser, and one module for each group of verbs."""

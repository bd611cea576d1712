"""The terminal application of mlpipe-tui, and the entry point of its command line."""

"""Pure decisions: graph checks, effective parameters, fingerprints, reuse, causes, scheduling.

Functions from values to values; no I/O, no clock, no library. Called by `runner`, `engine` and `definitions`.
"""

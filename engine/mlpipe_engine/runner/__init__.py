"""Drives one pipeline: resolves, decides, stages, starts, follows, collects, records.

`resolve` and `decisions` are shared by `plan`, which writes nothing; `loop` is a run. Called by `engine` only.
"""

"""The project's store: one SQLite file for what happened, folders of read-only files for what was made.

No dict and no sqlite3 object leaves this package. Wired by `engine`; `runner` writes through `recorder`.
"""

"""DuckDB by itself: SUMMARIZE of a file, or its first 100 rows."""

import sys

import duckdb

way, file = sys.argv[1:]
if way == "summarize":
    print(duckdb.sql(f"SUMMARIZE SELECT * FROM '{file}'").fetchall())
else:
    print(duckdb.sql(f"SELECT * FROM '{file}' LIMIT 100").fetchall())

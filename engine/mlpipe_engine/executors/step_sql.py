"""Runs the SELECT of a SqlStep: python step_sql.py parquet|csv OUTPUT --text SQL | --file PATH.

Copied into the project beside mlpipe_run.py and started as a step's process; imports DuckDB and nothing of ours. DuckDB is in
memory and locked before it sees the query: it reads the inputs of the step, writes its output, and nothing else.
"""

import json
import os
import re
import sys

U_SQL = re.compile(r"\bUSING\s+(Extractors|Outputters)\b")
PLACEHOLDER = re.compile(r"@@(\w+)@@")


def main(words):
    kind, output, how, given = words
    with open(os.environ["MLPIPE_STEP_FILE"], encoding="utf-8") as file:
        step = json.load(file)
    if how == "--file":
        try:
            with open(given, encoding="utf-8-sig") as file:
                given = file.read()
        except UnicodeDecodeError as error:
            stop("%s is no UTF-8 text: %s" % (os.path.basename(given), error))
    try:
        import duckdb
    except ImportError:
        stop("this step needs DuckDB, which %s does not have: %s -m pip install duckdb" % (sys.executable, sys.executable))
    try:
        count = run(duckdb, step, kind, output, given)
    except duckdb.Error as error:
        if U_SQL.search(given):
            stop("the script is U-SQL; expected one SELECT in DuckDB's SQL, in which @@name@@ of an input is a view")
        stop(str(error))
    print("%d rows" % count)


def run(duckdb, step, kind, output, text):
    """The number of rows written to `output`."""
    inputs = {name: table_of(name, item) for name, item in step["inputs"].items()}
    connection = duckdb.connect(config={"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"})
    lock(connection, step, [path for _, files in inputs.values() for path in files], output)
    for name, (reader, files) in inputs.items():
        listed = ", ".join(pattern(path) for path in files)
        connection.execute("CREATE VIEW %s AS SELECT * FROM %s([%s])" % (identifier(name), reader, listed))
    statement, query = one_select(connection, duckdb, filled_in(text, step))
    options = "FORMAT csv, HEADER true" if kind == "csv" else "FORMAT parquet, COMPRESSION zstd"
    values = bound(statement, step["params"])
    done = connection.execute("COPY (\n%s\n) TO %s (%s)" % (query, literal(output), options), values or None)
    return done.fetchone()[0]


def lock(connection, step, files, output):
    """No file but these, no setting, no extension. A pattern counts by its own text and by what it leads to: both are allowed."""
    allowed = [literal(output), *(literal(path) for path in files), *(pattern(path) for path in files)]
    settings = ["allowed_paths = [%s]" % ", ".join(allowed)]
    settings.append("temp_directory = %s" % literal(os.environ.get("TMPDIR") or os.path.dirname(output)))
    resources = step.get("resources") or {}
    if resources.get("memory_bytes"):
        settings.append("memory_limit = '%dB'" % int(resources["memory_bytes"] * 0.8))  # the rest is Python's own
    if resources.get("cpus"):
        settings.append("threads = %d" % max(1, int(resources["cpus"])))
    for setting in [*settings, "enable_external_access = false", "lock_configuration = true"]:
        connection.execute("SET " + setting)


def table_of(name, item):
    """(the function that reads it, its files) of an input."""
    sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]  # -I leaves PYTHONPATH out
    import mlpipe_run

    dataset = mlpipe_run.Dataset(name, item)
    try:
        files, kind = dataset.table_files()
    except ValueError as error:
        stop("%s; read an output that is a CSV file with .parse_delimited_files()" % error)
    except OSError as error:
        stop(str(error))
    return {"parquet": "read_parquet", "csv": "read_csv", "jsonl": "read_json"}[kind], [os.path.realpath(path) for path in files]


def filled_in(text, step):
    """@@name@@ is an input's view, or the text of a parameter as it stands, quotes and all: what must be safe is written $name."""

    def value(found):
        name = found[1]
        if name in step["inputs"]:
            return identifier(name)
        if name in step["params"]:
            value = step["params"][name]
            return value if isinstance(value, str) else json.dumps(value)
        if name in step["outputs"] and not U_SQL.search(text):
            stop("@@%s@@ is the output; write a SELECT: its result goes to the output" % name)
        if not U_SQL.search(text):
            stop("@@%s@@ is neither an input nor a parameter; known: %s" % (name, known(step)))
        return found[0]

    return PLACEHOLDER.sub(value, text)


def one_select(connection, duckdb, text):
    """The one statement, and its text without what may stand behind it."""
    found = connection.extract_statements(text)
    if len(found) != 1 or found[0].type != duckdb.StatementType.SELECT:
        kinds = ", ".join(statement.type.name for statement in found) or "nothing"
        stop("found %s; expected one SELECT, whose result goes to the output" % kinds)
    body = found[0].query.encode("utf-8")  # offsets of tokens count bytes
    for offset, kind in reversed(duckdb.tokenize(found[0].query)):
        if kind != duckdb.token_type.comment and body[offset : offset + 1] != b";":
            break
        body = body[:offset]
    return found[0], body.decode("utf-8")


def bound(statement, params):
    """The values of the $names in the query, typed, never part of its text."""
    names = sorted(statement.named_parameters)
    unknown = [name for name in names if name not in params]
    if unknown:
        shown = "?" if unknown[0].isdigit() else "$" + unknown[0]
        stop("%s is no parameter of the step; known: %s" % (shown, ", ".join(sorted(params)) or "none"))
    return {name: params[name] for name in names}


def known(step):
    return ", ".join(sorted([*step["inputs"], *step["params"]])) or "none"


def identifier(name):
    return '"%s"' % name.replace('"', '""')


def literal(text):
    return "'%s'" % text.replace("'", "''")


def pattern(path):
    """A path where DuckDB takes patterns: a folder may be called [a]."""
    return literal("".join("[%s]" % letter if letter in "*?[" else letter for letter in path))


def stop(message):
    sys.stderr.write("mlpipe-tui: %s\n" % message)
    raise SystemExit(1)


if __name__ == "__main__":
    main(sys.argv[1:])

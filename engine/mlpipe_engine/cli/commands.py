"""Every command as a value: help, parser, completion scripts and docs/cli.md are all made from this table.

Plain classes and no imports: `mlpipe-tui --help` must not cost more than the interpreter's own start.
"""


class Option:
    """`--name` (and `-s`). `value` names what follows; "" is a switch. `many` may be repeated."""

    __slots__ = ("help", "many", "name", "short", "value")

    def __init__(self, name: str, help: str, value: str = "", short: str = "", many: bool = False) -> None:
        self.name, self.help, self.value, self.short, self.many = name, help, value, short, many


class Command:
    """A verb. `positionals`: names; one in brackets may be left out. `module` has the function of the same name."""

    __slots__ = ("examples", "help", "module", "name", "options", "positionals")

    def __init__(
        self,
        name: str,
        module: str,
        help: str,
        positionals: tuple[str, ...] = (),
        options: tuple[Option, ...] = (),
        examples: tuple[str, ...] = (),
    ) -> None:
        self.name, self.module, self.help, self.positionals = name, module, help, positionals
        self.options, self.examples = options, examples


JSON = Option("json", "print one JSON document (followers: JSON lines); errors as JSON on stderr")
DIRECTORY = Option("directory", "start in this folder instead of the current one", "DIR", "C")
DEBUG = Option("debug", "show our own traceback when something goes wrong")
HELP = Option("help", "show this help", short="h")
COMMON = (DIRECTORY, DEBUG, HELP)

SELECTION = (
    Option("param", "set a parameter of the pipeline", "NAME=VALUE", "p", many=True),
    Option("step", "run up to this step", "STEP", many=True),
    Option("from", "run this step and everything below it", "STEP", many=True),
    Option("only", "run this step alone, on its last inputs", "STEP", many=True),
    Option("force", "run every step, reuse nothing"),
    Option("force-step", "run this step even if nothing changed", "STEP", many=True),
    Option("experiment", "group the run under this name (default: the pipeline's)", "NAME", "e"),
    Option("compute", "run all steps on this compute target", "NAME"),
)

READING = (
    Option("separator", "what separates values, where the ending of the file does not say it", "TEXT"),
    Option("encoding", "of text: utf8, latin1, windows1252, utf16 or a codec of Python (default: utf8)", "NAME"),
    Option("no-header", "the first line holds values, no names"),
    Option("misfits-null", "make values that do not fit their column null and count them, instead of stopping"),
)

DATA = (
    Command("data ls", "data", "list registered datasets, the versions of one, or what is in a datastore", ("[WHERE]",), (JSON,), (
        "mlpipe-tui data ls", "mlpipe-tui data ls flights", "mlpipe-tui data ls workspaceblobstore",
    )),
    Command("data stores", "transfer", "list datastores: built in, of mlpipe.toml, registered", (), (
        Option("check", "connect to each and say whether it answers; exit 4 when one does not"), JSON,
    ), ("mlpipe-tui data stores --check",)),
    Command("data upload", "transfer", "copy files into a datastore; what is there already is told, never silently kept", (
        "STORE", "FILE", "[FILE...]"), (
        Option("overwrite", "replace files of the same name that have other bytes"),
        Option("on-conflict", "what to do with such files otherwise: keep (and say so) or error (write nothing)", "keep|error"), JSON,
    ), ("mlpipe-tui data upload blob/raw data/2026-*.csv", "mlpipe-tui data upload workspaceblobstore data")),
    Command("data download", "transfer", "copy files out of a datastore: one, a folder or a glob", ("STORE", "[FOLDER]"), (
        Option("overwrite", "replace local files that have other bytes"), JSON,
    ), ("mlpipe-tui data download blob/raw", "mlpipe-tui data download 'sftp/in/*.csv' data")),
    Command("data show", "data", "show a registered dataset: how it is read, columns, expectations, whether its files changed", ("DATASET",), (
        Option("check", "see whether what is expected of it holds; exit 1 when not"), JSON,
    ), ("mlpipe-tui data show flights", "mlpipe-tui data show flights:3 --check")),
    Command("data head", "data", "print the first rows of a dataset, a file or a glob", ("DATASET",), (
        Option("rows", "how many (default 10)", "N", "n"), *READING, JSON,
    ), ("mlpipe-tui data head flights", "mlpipe-tui data head data/trips.csv -n 100")),
    Command("data profile", "data", "statistics of every column; kept until the content changes", ("DATASET",), (
        Option("full", "look at all rows of large files (above 512 MiB a sample is taken)"),
        Option("core", "only counts, nulls, distinct values, extremes, means and quantiles"),
        Option("fresh", "compute it again"), *READING, JSON,
    ), ("mlpipe-tui data profile flights", "mlpipe-tui data profile data/trips.parquet --full")),
    Command("data diff", "data", "what differs between two versions, or between a version and what lies there now", ("DATASET", "[OTHER]"), (
        Option("key", "columns that name a row (default: what is expected to be unique)", "COLUMN,...", many=True),
        Option("no-rows", "do not compare rows and statistics"), Option("exit-code", "exit 1 when they differ"), JSON,
    ), ("mlpipe-tui data diff flights:2 flights:3", "mlpipe-tui data diff flights --key id")),
    Command("data register", "data", "register files as a dataset: a name, a version, and the content they have now", (
        "NAME", "PATH", "[PATH...]"), (
        Option("new-version", "make a new version where the name is taken"),
        Option("files", "as files, not as a table"),
        Option("description", "a sentence about it", "TEXT"), Option("tag", "label the version", "NAME=VALUE", "t", many=True),
        Option("min-rows", "expect at least so many rows", "N"), Option("unique", "expect no two rows to agree in these", "COLUMN,..."),
        *READING, JSON,
    ), ("mlpipe-tui data register flights 'data/flights-*.csv'", "mlpipe-tui data register images data/images --files")),
    Command("data sql", "data", "ask one SELECT of DuckDB's SQL over registered datasets; nothing else can be read or written", ("QUERY",), (
        Option("dataset", "a further table: a dataset, a path or a glob by a name of its own", "NAME=DATASET", "d", many=True),
        Option("limit", "print so many rows at most (default 1000; 0: all)", "N", "n"),
        Option("timeout", "give up after so many seconds (default 300)", "SECONDS"), *READING, JSON,
    ), ('mlpipe-tui data sql "SELECT carrier, count(*) FROM flights GROUP BY 1"',
        'mlpipe-tui data sql "SELECT * FROM t LIMIT 3" -d t=data/trips.csv')),
)  # fmt: skip

COMMANDS = (
    Command("init", "init", "make a project here", (), (
        Option("example", "with a small pipeline that runs at once"),
        Option("wrap", "with a one-step pipeline around an existing script", "SCRIPT"),
    ), ("mlpipe-tui init --example", "mlpipe-tui init --wrap train.py")),
    Command("run", "run", "run a pipeline; what has not changed is reused", ("[PIPELINE]",), (
        *SELECTION,
        Option("tag", "label the run", "NAME=VALUE", "t", many=True),
        Option("continue-on-failure", "go on with steps that do not need the failed one"),
        Option("detach", "start it in the background and return", short="d"),
        Option("grid", "run every combination of these values (numbers also START:STOP:STEP)", "NAME=VALUE,...", many=True),
        Option("parallel", "with --grid: so many runs at a time (default: one for each CPU)", "N"),
        Option("fail-fast", "with --grid: cancel the other runs when one fails"),
        Option("metric", "with --grid: order the comparison by this metric, best first", "NAME"),
        Option("goal", "what is best of --metric: min or max", "min|max"),
        JSON,
    ), ("mlpipe-tui run", "mlpipe-tui run flights --param learning_rate=0.2", "mlpipe-tui run --only report",
        "mlpipe-tui run --grid learning_rate=0.1,0.2 --grid depth=3:7:2 --metric rmse --goal min")),
    Command("watch", "watch", "run what a saved file touches, as long as it is open", ("[PIPELINE]",), (
        Option("param", "set a parameter of the pipeline", "NAME=VALUE", "p", many=True),
        Option("experiment", "group the runs under this name (default: the pipeline's)", "NAME", "e"),
        Option("compute", "run all steps on this compute target", "NAME"),
        Option("tag", "label the runs", "NAME=VALUE", "t", many=True),
        Option("continue-on-failure", "go on with steps that do not need the failed one"), JSON,
    ), ("mlpipe-tui watch", "mlpipe-tui watch flights --param max_delay=120")),
    Command("status", "quick", "what runs, what ran last, and whether anything has changed since", (), (JSON,)),
    Command("plan", "run", "show exactly what run would do, and why", ("[PIPELINE]",), (
        *SELECTION, Option("verbose", "show every cause", short="v"), JSON,
    ), ("mlpipe-tui plan", "mlpipe-tui plan flights --param max_delay=120")),
    Command("why", "show", "why a step ran or was reused", ("RUN", "STEP"), (
        Option("manifest", "show everything its identity is made of"), JSON,
    ), ("mlpipe-tui why latest train",)),
    Command("runs", "show", "list runs, newest first", (), (
        Option("limit", "how many (default 20)", "N", "n"),
        Option("before", "only runs before this number", "N"),
        Option("experiment", "only of this experiment", "NAME", "e"),
        Option("pipeline", "only of this pipeline", "NAME"),
        Option("state", "only in this state", "STATE"),
        Option("filter", "terms such as state:failed step:train metric.rmse<3 param.lr=0.1 tag.a=b since:2d by:cli !word", "TERMS", "f"),
        JSON,
    ), ("mlpipe-tui runs -n 5", "mlpipe-tui runs --filter 'state:failed since:2d'", "mlpipe-tui runs -f 'metric.rmse<17 !sweep'")),
    Command("show", "show", "show one run: its steps, times, outputs", ("[RUN]",), (
        Option("metrics", "with everything its steps logged", short="m"), JSON,
    ), ("mlpipe-tui show 12 --metrics",)),
    Command("logs", "logs", "print what steps wrote", ("RUN", "[STEP]"), (
        Option("follow", "go on printing while the run is running", short="f"),
        Option("stdout", "only the standard output"), Option("stderr", "only the standard error"), JSON,
    ), ("mlpipe-tui logs latest train -f",)),
    Command("get", "show", "copy an output of a step", ("RUN", "STEP", "OUTPUT"), (
        Option("output", "where to put it (default: a folder or file named like the output)", "PATH", "o"), JSON,
    ), ("mlpipe-tui get latest report html -o report.html",)),
    Command("attach", "run", "follow a run that is running", ("[RUN]",), (JSON,), ("mlpipe-tui attach",)),
    Command("cancel", "run", "stop a run and everything it started", ("RUN",), (JSON,), ("mlpipe-tui cancel latest",)),
    Command("resume", "run", "go on with a run that was interrupted, canceled or failed", ("[RUN]",), (JSON,), ("mlpipe-tui resume",)),
    Command("pipelines", "show", "list the pipelines of this project and their parameters", (), (JSON,)),
    Command("compare", "sweep", "show runs side by side: parameters that differ, metrics, times", ("RUN", "[RUN...]"), (
        Option("metric", "order by this metric, best first", "NAME"), Option("goal", "what is best of --metric: min or max", "min|max"),
        Option("all", "also metrics that are the same in all of them"), JSON,
    ), ("mlpipe-tui compare 12 --metric rmse --goal min", "mlpipe-tui compare 3 4 7")),
    Command("diff", "diff", "what differs between two runs: code, parameters, inputs, environment, metrics, outputs", ("RUN", "OTHER"), (
        Option("step", "only this step", "STEP"), Option("patch", "with the changed lines of code"),
        Option("exit-code", "exit 1 when they differ"), JSON,
    ), ("mlpipe-tui diff 12 latest --patch",)),
    Command("debug", "debug", "a shell in a step's directory, laid out once more with its code and inputs", (
        "STEP", "[RUN]", "[-- COMMAND...]"), (
        Option("pdb", "run the step's script under Python's debugger"),
        Option("print", "only lay it out, keep it, and print the directory and the command"),
        Option("keep", "keep the directory afterwards"),
        Option("pipeline", "the pipeline of the step, where there are several", "NAME"), JSON,
    ), ("mlpipe-tui debug train", "mlpipe-tui debug train 12 --pdb", "mlpipe-tui debug train -- ls -l ../in")),
    Command("export", "bundle", "put a run into one file: records, code, logs, outputs, inputs", ("RUN",), (
        Option("output", "the file to write (default: PIPELINE-RUN.zip)", "FILE", "o"),
        Option("outputs", "which outputs: last (of steps that feed no other), all, none, or names", "WHICH"),
        Option("no-inputs", "leave out files that steps read from outside the store"), JSON,
    ), ("mlpipe-tui export 12 -o best.zip", "mlpipe-tui export latest --outputs train.model")),
    Command("import", "bundle", "bring the run of a bundle into this project", ("FILE",), (JSON,), ("mlpipe-tui import best.zip",)),
    Command("verify", "bundle", "check every byte of a bundle", ("FILE",), (JSON,), ("mlpipe-tui verify best.zip",)),
    Command("replay", "bundle", "run a run or a bundle again in an empty project, and compare the outputs", ("RUN_OR_FILE",), (
        Option("step", "only up to this step", "STEP"), Option("keep", "keep the project it was replayed in"), JSON,
    ), ("mlpipe-tui replay 12", "mlpipe-tui replay best.zip --step evaluate")),
    Command("accept", "accept", "keep a step's result although its code or environment changed", ("[STEP]", "[RUN]"), (
        Option("because", "why the change does not matter; shown wherever the result is reused", "TEXT"),
        Option("pipeline", "the pipeline of the step, where there are several", "NAME"),
        Option("list", "show everything that was accepted"),
        Option("revoke", "take an acceptance back: the step runs again", "ID"), JSON,
    ), ('mlpipe-tui accept train --because "comment only"', "mlpipe-tui accept --list")),
    Command("web", "web", "show the app in a browser of this machine", (), (
        Option("port", "listen on this port of 127.0.0.1 (default: any free one)", "PORT"),
        Option("read-only", "offer nothing that changes something"),
        Option("theme", "colours of the app", "NAME"),
    ), ("mlpipe-tui web", "mlpipe-tui web --port 8017 --read-only")),
    *DATA,
    Command("doctor", "show", "check this machine and this project", (), (
        Option("rebuild", "make a damaged state.db anew from what is on disk; the damaged file is kept"), JSON,
    )),
    Command("du", "upkeep", "show how much space the store of this project takes, and for what", (), (JSON,)),
    Command("gc", "upkeep", "free space: show what can go and why, then move it to the trash", (), (
        Option("plan", "only show what would go"), Option("yes", "do not ask", short="y"),
        Option("to", "go on until the store takes so much", "SIZE"),
        Option("keep-runs", "everything that only older runs than the newest N of each pipeline use", "N"),
        Option("older-than", "everything that was not used for so long (30d, 12h)", "TIME"),
        Option("empty-trash", "free the trash at once, not after 24 h"),
        Option("undo", "bring back what the last collection took"),
        Option("verbose", "list everything that stays, too", short="v"), JSON,
    ), ("mlpipe-tui gc --plan", "mlpipe-tui gc --to 5GB --yes", "mlpipe-tui gc --keep-runs 3 --older-than 30d")),
    Command("pin", "upkeep", "keep a run, RUN/STEP or RUN/STEP/OUTPUT for ever", ("RESULT",), (JSON,), (
        "mlpipe-tui pin 12", "mlpipe-tui pin 12/train/model",
    )),
    Command("unpin", "upkeep", "let gc take again what was pinned", ("RESULT",), (JSON,)),
    Command("pins", "upkeep", "list what is pinned", (), (JSON,)),
    Command("rm", "upkeep", "remove runs; they lie in the trash for a day", ("RUN", "[RUN...]"), (JSON,), ("mlpipe-tui rm 12 13",)),
    Command("completion", "completion", "print a completion script for bash, zsh or fish", ("SHELL",), (), (
        'eval "$(mlpipe-tui completion bash)"',
    )),
)  # fmt: skip

BY_NAME = {command.name: command for command in COMMANDS}

GROUPS = frozenset(name.split(" ")[0] for name in BY_NAME if " " in name)
"""First words of verbs of two words."""

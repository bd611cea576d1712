"""What a step script imports: `from mlpipe_run import Run`. One file, standard library only, Python 3.8 and newer.

This docstring is the reference of the protocol between a step and the engine, version 1.

A step finds in its environment MLPIPE_STEP_FILE (path of step.json), AZUREML_RUN_ID, AZUREML_EXPERIMENT_NAME, for every input
and output AZUREML_DATAREFERENCE_<name> and <name> with its path, and AML_PARAMETER_<name> for every parameter handed over that way.

step.json: {"protocol": 1, "run_id", "run_number", "step", "attempt", "experiment", "pipeline", "workspace": {"name", "root"},
"inputs": {name: {"path", "mode", "kind": "file" or "folder", "format": "parquet" or "csv" where the engine knows it}},
"outputs": {name: {"path"}}, "parameters": {name: value}, "params": {name: typed value of AML_PARAMETER_<name>}, "events_path",
"files_dir", "tags", "properties"}.

events.jsonl (at events_path) is what the step reports, a JSON object a line, each written by one write call:
{"e": "metric", "name", "kind", "value", "step", "target", "t"}, {"e": "tag" or "property", "name", "value", "target"},
{"e": "file", "name", "path"}, {"e": "child", "id", "name"}, {"e": "child_end", "id", "state"}, {"e": "model", "name", "path", "tags"}.
"target" is "" for the step, "parent" for the pipeline run, or the id of a child run. NaN and infinities are the texts "NaN",
"Infinity" and "-Infinity". A script started by hand, without MLPIPE_STEP_FILE, gets an offline run: the same calls write to
$MLPIPE_OFFLINE_DIR or ./mlpipe_offline/<time>, metrics are printed, inputs come from MLPIPE_INPUTS="name=path;name=path".
"""

import json
import os
import time

PROTOCOL = 1
_KINDS = (
    "scalar", "list", "row", "table", "image", "confusion_matrix", "accuracy_table", "residuals", "predictions",
)  # fmt: skip


class RunEnvironmentException(Exception):
    """Run.get_context(allow_offline=False) outside of a run."""


class Paths(dict):
    """Names and paths; an unknown name is a KeyError that names the nearest."""

    def __missing__(self, name):
        import difflib

        close = difflib.get_close_matches(str(name), list(self), n=1)
        hint = "; did you mean %r?" % close[0] if close else "; known: %s" % (", ".join(sorted(self)) or "none")
        raise KeyError("%s%s" % (name, hint))


class MissingLibrary(ImportError):
    """The step's interpreter lacks what a table should be read with."""


class Dataset(str):
    """The path of an input or output, so it can be joined and opened like any path; and the table that lies there.

    A tabular input is one Parquet file (CSV where the pipeline asks for it). Tables are read with what this interpreter has.
    """

    def __new__(cls, name, item):
        self = str.__new__(cls, item["path"])
        self.name = name
        self.mode = item.get("mode")
        self._item = item
        return self

    def __getnewargs__(self):
        return self.name, self._item

    @property
    def path(self):
        return str(self)

    @property
    def format(self):
        """parquet, csv, jsonl, or None for what is no table."""
        known = self._item.get("format")
        if known is None:
            found = {_format_of(path) for path in self.files()}
            known = found.pop() if len(found) == 1 else None
        return known

    def files(self):
        """Every file, as absolute paths, sorted; hidden ones and what hidden folders hold are left out."""
        if not os.path.isdir(self):
            return [str(self)] if os.path.exists(self) else []
        found = []
        for folder, folders, names in os.walk(self, followlinks=True):
            folders[:] = [name for name in folders if not name.startswith((".", "_"))]
            found.extend(os.path.join(folder, name) for name in names if not name.startswith((".", "_")))
        return sorted(found)

    def to_path(self):
        """Every file, as a path within the dataset."""
        base = str(self) if os.path.isdir(self) else os.path.dirname(self)
        return [os.path.relpath(path, base).replace(os.sep, "/") for path in self.files()]

    def to_pandas_dataframe(self, on_error="null", out_of_range_datetime="null"):
        files, kind = self.table_files()
        pandas = self._library("pandas", "a pandas DataFrame", "pandas pyarrow")
        if kind == "csv":
            frames = [pandas.read_csv(path) for path in files]
        elif kind == "jsonl":
            frames = [pandas.read_json(path, lines=True) for path in files]
        else:
            frames = [self._pandas_from_parquet(pandas, path) for path in files]
        return frames[0] if len(frames) == 1 else pandas.concat(frames, ignore_index=True)

    def to_polars(self):
        files, kind = self.table_files()
        polars = self._library("polars", "a Polars DataFrame", "polars")
        if kind == "parquet":
            return polars.read_parquet(files)
        read = polars.read_csv if kind == "csv" else polars.read_ndjson
        frames = [read(path) for path in files]
        return frames[0] if len(frames) == 1 else polars.concat(frames)

    def to_arrow(self):
        """A pyarrow Table."""
        files, kind = self.table_files()
        arrow = self._library("pyarrow", "an Arrow table", "pyarrow")
        part, function = {"parquet": ("parquet", "read_table"), "csv": ("csv", "read_csv"), "jsonl": ("json", "read_json")}[kind]
        read = getattr(_first_of("pyarrow." + part), function)
        tables = [read(path) for path in files]
        return tables[0] if len(tables) == 1 else arrow.concat_tables(tables)

    def to_duckdb(self, connection=None):
        """A DuckDB relation, of `connection` if given."""
        files, kind = self.table_files()
        duckdb = self._library("duckdb", "a DuckDB relation", "duckdb")
        read = getattr(connection or duckdb, {"parquet": "read_parquet", "csv": "read_csv", "jsonl": "read_json"}[kind])
        return read(files)

    def rows(self):
        """The rows, as dicts. Values of a CSV file are texts: read without any library it has no types."""
        files, kind = self.table_files()
        if kind == "csv":
            import csv

            for path in files:
                with open(path, newline="", encoding="utf-8-sig") as file:
                    for row in csv.DictReader(file):
                        yield dict(row)
        elif kind == "jsonl":
            for path in files:
                with open(path, encoding="utf-8") as file:
                    for line in file:
                        if line.strip():
                            yield json.loads(line)
        else:
            for names, values in self._parquet_rows(files):
                yield dict(zip(names, values))

    def to_csv(self, target):
        """Write the table to a CSV file with a header; returns its path."""
        import csv

        rows = self.rows()
        first = next(rows, None)
        with open(target, "w", newline="", encoding="utf-8") as file:
            if first is not None:
                writer = csv.DictWriter(file, list(first))
                writer.writeheader()
                writer.writerow(first)
                writer.writerows(rows)
        return os.fspath(target)

    def download(self, target_path=None, overwrite=False, ignore_not_found=False):
        """Copy the files below `target_path`; returns the new paths. Raises FileExistsError unless `overwrite`."""
        import shutil

        made = []
        for path, inside in zip(self.files(), self.to_path()):
            target = os.path.join(target_path or ".", inside)
            if os.path.lexists(target) and not overwrite:
                raise FileExistsError("%s exists already; use overwrite=True to replace it" % target)
            os.makedirs(os.path.dirname(target) or ".", exist_ok=True)
            shutil.copyfile(path, target)
            made.append(os.path.abspath(target))
        if not made and not ignore_not_found:
            raise FileNotFoundError("%s holds no file" % self)
        return made

    def mount(self, mount_point=None):
        """For `with dataset.mount() as context: context.mount_point`: the files lie there already."""
        return _Mounted(str(self))

    def table_files(self):
        """(its files, their format). Raises FileNotFoundError, ValueError where they are no table."""
        files = self.files()
        if not files:
            raise FileNotFoundError("%s: %s holds no file" % (self.name, self))
        kind = self.format
        if kind is None:
            raise ValueError(
                "%s is no table: %s; expected Parquet, CSV or JSON lines, all files alike" % (self.name, _some(self.to_path()))
            )
        return files, kind

    def _library(self, module, what, wanted):
        """Imported by name: the audit of what a step used sees it, and an interpreter without it can still do the rest."""
        import importlib
        import sys

        try:
            return importlib.import_module(module)
        except ImportError as error:
            if error.name not in (module, None):
                raise  # it is there, and broken: its own words say how
            raise MissingLibrary(
                "%s as %s needs %s, which %s does not have: %s -m pip install %s"
                % (self.name, what, module, sys.executable, sys.executable, wanted),
                name=module,
            ) from None

    def _pandas_from_parquet(self, pandas, path):
        """pandas reads Parquet with pyarrow or fastparquet; without them what DuckDB or Polars read is handed over."""
        found = _first_of("pyarrow", "fastparquet", "duckdb", "polars")
        if found is None:
            self._library("pyarrow", "a pandas DataFrame", "pyarrow")
        elif found.__name__ == "duckdb":
            return found.connect().read_parquet(path).df()
        elif found.__name__ == "polars":
            frame = found.read_parquet(path)
            return pandas.DataFrame({name: frame[name].to_numpy() for name in frame.columns})
        return pandas.read_parquet(path, engine=found.__name__)

    def _parquet_rows(self, files):
        found = _first_of("pyarrow", "polars", "duckdb", "pandas")
        if found is None:
            self._library("pyarrow", "rows", "pyarrow")
        for path in files:
            if found.__name__ == "pyarrow":
                for batch in _first_of("pyarrow.parquet").ParquetFile(path).iter_batches():
                    columns = [column.to_pylist() for column in batch.columns]
                    for values in zip(*columns):
                        yield batch.schema.names, values
            elif found.__name__ == "polars":
                frame = found.read_parquet(path)
                for values in frame.iter_rows():
                    yield frame.columns, values
            elif found.__name__ == "duckdb":
                relation = found.connect().read_parquet(path)
                for values in iter(relation.fetchone, None):
                    yield relation.columns, values
            else:
                frame = self._pandas_from_parquet(found, path)
                for values in frame.itertuples(index=False, name=None):
                    yield list(frame.columns), values


class _Mounted(object):
    """What Dataset.mount() gives."""

    def __init__(self, path):
        self.mount_point = path

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        return False

    def start(self):
        """The files are there already."""

    def stop(self):
        """They stay for as long as the step runs."""


def _first_of(*modules):
    import importlib

    for module in modules:
        try:
            return importlib.import_module(module)
        except ImportError:
            continue
    return None


def _format_of(path):
    """By content, else by name: of the path, or of what it is a link to."""
    with open(path, "rb") as file:
        if file.read(4) == b"PAR1":
            return "parquet"
    endings = [os.path.splitext(name)[1].lower() for name in (path, os.path.realpath(path))]
    known = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
    return next((known[ending] for ending in endings if ending in known), None)


def _some(names):
    return ", ".join(names[:3]) + (" and %d more" % (len(names) - 3) if len(names) > 3 else "")


class _Named(object):
    def __init__(self, name, **more):
        self.name = name
        self.__dict__.update(more)

    def __repr__(self):
        return "<%s>" % self.name


class Run(object):
    """The run a script belongs to. `Run.get_context()` gives it."""

    _current = None

    def __init__(self, document, target="", name=None, offline=False):
        self._document = document
        self._target = target
        self._offline = offline
        self._metrics = {}
        self._tags = dict(document.get("tags") or {})
        self._properties = dict(document.get("properties") or {})
        self._files = {}
        self._parent = None
        self.name = name or document.get("step") or "offline"

    @classmethod
    def get_context(cls, allow_offline=True):
        """The run of this process; the same object each time."""
        if cls._current is None:
            path = os.environ.get("MLPIPE_STEP_FILE")
            if path:
                with open(path, encoding="utf-8") as file:
                    document = json.load(file)
                if document.get("protocol") != PROTOCOL:
                    raise RunEnvironmentException(
                        "step.json speaks protocol %r; this mlpipe_run speaks %d" % (document.get("protocol"), PROTOCOL)
                    )
                cls._current = cls(document)
            elif allow_offline:
                cls._current = cls(_offline_document(), offline=True)
            else:
                raise RunEnvironmentException("this script does not run as a step: MLPIPE_STEP_FILE is not set")
        return cls._current

    @property
    def id(self):
        return self._target or self._document["run_id"]

    @property
    def number(self):
        return self._document.get("run_number", 0)

    @property
    def display_name(self):
        return self.name

    @property
    def experiment(self):
        workspace = self._document.get("workspace") or {}
        return _Named(
            self._document.get("experiment", "offline"),
            workspace=_Named(workspace.get("name", "offline"), root=workspace.get("root")),
        )

    @property
    def parent(self):
        """The pipeline run: what is logged there is kept with the step it came from, so that reuse can repeat it."""
        if self._target == "parent":
            return None
        if self._parent is None:
            self._parent = Run(self._document, "parent", name=self._document.get("pipeline"), offline=self._offline)
        return self._parent

    @property
    def input_datasets(self):
        """Name of an input -> its path: a text that can also read itself as a table (see Dataset)."""
        return Paths((name, Dataset(name, item)) for name, item in self._document.get("inputs", {}).items())

    @property
    def output_datasets(self):
        """Name of an output -> the path the script should write."""
        return Paths((name, Dataset(name, item)) for name, item in self._document.get("outputs", {}).items())

    @property
    def parameters(self):
        """Typed values of the pipeline's parameters."""
        return Paths(self._document.get("parameters", {}))

    def get_details(self):
        return {
            "runId": self.id, "runNumber": self.number, "experiment": self._document.get("experiment"),
            "pipeline": self._document.get("pipeline"), "step": self._document.get("step"),
            "properties": self.get_properties(), "tags": self.get_tags(),
        }  # fmt: skip

    def get_status(self):
        return "Running"

    def log(self, name, value, description="", step=None):
        """A number, text or boolean. Logged again it becomes a series; `step` is its position."""
        if isinstance(value, (list, tuple, dict, set)):
            raise ValueError("log(%r) got a %s; use log_list, log_row or log_table" % (name, type(value).__name__))
        if step is not None and (isinstance(step, bool) or not isinstance(_plain(step), int)):
            raise ValueError("log(%r): step must be an integer, found %r" % (name, step))
        self._metric(name, "scalar", _scalar(value, name), step=None if step is None else _plain(step))

    def log_list(self, name, value, description="", step=None):
        self._metric(name, "list", [_scalar(item, name) for item in _plain(value)])

    def log_row(self, name, description="", **columns):
        if not columns:
            raise ValueError("log_row(%r) needs at least one column=value" % (name,))
        self._metric(name, "row", {key: _json(item, name) for key, item in columns.items()})

    def log_table(self, name, value, description=""):
        if not hasattr(value, "items"):
            raise ValueError("log_table(%r) needs a dict of column -> list, found a %s" % (name, type(value).__name__))
        self._metric(name, "table", {str(key): _json(item, name) for key, item in value.items()})

    def log_image(self, name, path=None, plot=None, description=""):
        """A picture file, or a matplotlib figure (or module) that is saved as PNG."""
        if (path is None) == (plot is None):
            raise ValueError("log_image(%r) needs either path or plot" % (name,))
        kept = os.path.join(self._files_dir(), "images")
        os.makedirs(kept, exist_ok=True)
        if plot is not None:
            target = os.path.join(kept, "%s_%d.png" % (_file_name(name), len(self._metrics.get(name, ()))))
            plot.savefig(target)
        else:
            import shutil

            target = os.path.join(kept, os.path.basename(path))
            if os.path.abspath(path) != os.path.abspath(target):
                shutil.copyfile(path, target)
        self._metric(name, "image", os.path.relpath(target, self._files_dir()))
        self._note_file("outputs/images/" + os.path.basename(target), target)

    def log_confusion_matrix(self, name, value, description=""):
        self._metric(name, "confusion_matrix", _document_of(value, name))

    def log_accuracy_table(self, name, value, description=""):
        self._metric(name, "accuracy_table", _document_of(value, name))

    def log_residuals(self, name, value, description=""):
        self._metric(name, "residuals", _document_of(value, name))

    def log_predictions(self, name, value, description=""):
        self._metric(name, "predictions", _document_of(value, name))

    def get_metrics(self, name=None, recursive=False, run_type=None, populate=False):
        """What this process has logged so far; a name logged repeatedly gives a list."""
        return {
            key: values[0] if len(values) == 1 else list(values)
            for key, values in self._metrics.items()
            if name is None or key == name
        }

    def tag(self, key, value=""):
        self._tags[key] = str(value)
        self._report({"e": "tag", "name": str(key), "value": str(value), "target": self._target})

    def set_tags(self, tags):
        for key, value in tags.items():
            self.tag(key, value)

    def get_tags(self):
        return dict(self._tags)

    def remove_tags(self, tags):
        for key in [tags] if isinstance(tags, str) else tags:
            self._tags.pop(key, None)
            self._report({"e": "tag", "name": str(key), "value": None, "target": self._target})

    def add_properties(self, properties):
        """A property is written once; another value for it is an error."""
        for key, value in properties.items():
            if self._properties.get(key, str(value)) != str(value):
                raise ValueError("property %r already is %r; properties cannot be changed" % (key, self._properties[key]))
            self._properties[key] = str(value)
            self._report({"e": "property", "name": str(key), "value": str(value), "target": self._target})

    def get_properties(self):
        return dict(self._properties)

    def upload_file(self, name, path_or_stream, datastore_name=None):
        """Keep a file with the run, under `name`."""
        import shutil

        target = self._kept(name)
        if os.path.lexists(target) and name in self._files:
            raise ValueError("a file %r was uploaded already" % (name,))
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if hasattr(path_or_stream, "read"):
            body = path_or_stream.read()
            with open(target, "wb") as file:
                file.write(body if isinstance(body, bytes) else body.encode("utf-8"))
        elif os.path.abspath(path_or_stream) != os.path.abspath(target):
            shutil.copyfile(path_or_stream, target)
        self._note_file(name, target)

    def upload_folder(self, name, path, datastore_name=None):
        for folder, _, names in os.walk(path):
            for file in sorted(names):
                full = os.path.join(folder, file)
                self.upload_file("%s/%s" % (name.rstrip("/"), os.path.relpath(full, path).replace(os.sep, "/")), full)

    def get_file_names(self):
        return sorted(self._files)

    def download_file(self, name, output_file_path=None, _validate_checksum=False):
        import shutil

        if name not in self._files:
            Paths(self._files)[name]
        shutil.copyfile(self._files[name], output_file_path or os.path.basename(name))

    def download_files(self, prefix=None, output_directory=None, append_prefix=True):
        for name in self.get_file_names():
            if name.startswith(prefix or ""):
                target = os.path.join(output_directory or ".", name)
                os.makedirs(os.path.dirname(target) or ".", exist_ok=True)
                self.download_file(name, target)

    def register_model(self, model_name, model_path=None, tags=None, properties=None, **more):
        """Record a model as the next version of `model_name`. `model_path` names an uploaded file, or one that exists."""
        path = self._files.get(model_path or model_name) or os.path.abspath(model_path or model_name)
        if not os.path.exists(path):
            raise ValueError("register_model(%r): %s does not exist; upload it first" % (model_name, path))
        self._report(
            {"e": "model", "name": str(model_name), "path": path, "tags": {str(k): str(v) for k, v in (tags or {}).items()}}
        )
        return _Named(model_name, tags=dict(tags or {}))

    def child_run(self, name=None, run_id=None, outputs=None):
        """A run below this one, with metrics and tags of its own. Use it in a with statement, or call complete()."""
        import uuid

        child = Run(self._document, uuid.uuid4().hex, name=name or "child", offline=self._offline)
        child._tags, child._properties = {}, {}
        child._parent = self
        self._report({"e": "child", "id": child._target, "name": child.name})
        return child

    def create_children(self, count=None, tag_key=None, tag_values=None):
        values = list(tag_values) if tag_values is not None else [None] * int(count or 0)
        if not 0 < len(values) <= 100:
            raise ValueError("create_children makes 1 to 100 runs, asked for %d" % len(values))
        children = []
        for value in values:
            child = self.child_run()
            if tag_key is not None and value is not None:
                child.tag(tag_key, value)
            children.append(child)
        return children

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if kind is None:
            self.complete()
        else:
            self.fail(error_details=str(error))
        return False

    def complete(self, _set_status=True):
        self._end("succeeded")

    def fail(self, error_details=None, error_code=None, _set_status=True):
        """For a child run its state; a step fails by its exit code, so there it is only noted."""
        if error_details is not None:
            self.tag("error", error_details)
        self._end("failed")

    def cancel(self):
        self._end("canceled")

    def flush(self, timeout_seconds=300):
        """Everything is written as it is logged."""

    def wait_for_completion(self, show_output=False, wait_post_processing=False, raise_on_error=True):
        return self.get_details()

    def _end(self, state):
        if self._target not in ("", "parent"):
            self._report({"e": "child_end", "id": self._target, "state": state})

    def _metric(self, name, kind, value, step=None):
        if not isinstance(name, str) or not name:
            raise ValueError("the name of a metric must be a text that is not empty, found %r" % (name,))
        self._metrics.setdefault(name, []).append(value)
        event = {"e": "metric", "name": name, "kind": kind, "value": value, "target": self._target, "t": _now()}
        if step is not None:
            event["step"] = step
        self._report(event)
        if self._offline:
            print("metric %s = %s" % (name, json.dumps(value)))

    def _report(self, event):
        line = json.dumps(event, allow_nan=False).encode("ascii") + b"\n"
        fd = os.open(self._document["events_path"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(fd, line)
        finally:
            os.close(fd)

    def _files_dir(self):
        os.makedirs(self._document["files_dir"], exist_ok=True)
        return self._document["files_dir"]

    def _kept(self, name):
        relative = name[len("outputs/") :] if name.startswith("outputs/") else name
        if os.path.isabs(relative) or ".." in relative.split("/"):
            raise ValueError("the name %r of an uploaded file leaves its folder" % (name,))
        return os.path.join(self._files_dir(), relative)

    def _note_file(self, name, path):
        self._files[name] = path
        self._report({"e": "file", "name": name, "path": os.path.abspath(path)})


def _offline_document():
    folder = os.environ.get("MLPIPE_OFFLINE_DIR") or os.path.join("mlpipe_offline", time.strftime("%Y%m%d-%H%M%S"))
    folder = os.path.abspath(folder)
    os.makedirs(folder, exist_ok=True)
    given = [item.partition("=") for item in os.environ.get("MLPIPE_INPUTS", "").split(";") if "=" in item]
    return {
        "run_id": "offline_" + os.path.basename(folder), "run_number": 0, "step": None, "experiment": "offline", "pipeline": "offline",
        "workspace": {"name": "offline", "root": None}, "inputs": {name.strip(): {"path": path} for name, _, path in given},
        "outputs": {}, "parameters": {}, "events_path": os.path.join(folder, "events.jsonl"), "files_dir": os.path.join(folder, "outputs"),
    }  # fmt: skip


def _now():
    seconds = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + ".%06dZ" % int(seconds % 1 * 1e6)


def _plain(value):
    """numpy scalars and arrays become Python values without importing numpy."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "to_list"):
        return value.to_list()
    return value


def _scalar(value, name):
    value = _plain(value)
    if isinstance(value, float):
        return _number(value)
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if hasattr(value, "item"):
        return _scalar(value.item(), name)
    raise ValueError("metric %r: a %s cannot be logged; expected a number, text or boolean" % (name, type(value).__name__))


def _number(value):
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    return value


def _json(value, name):
    value = _plain(value)
    if isinstance(value, dict):
        return {str(key): _json(item, name) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json(item, name) for item in value]
    return _scalar(value, name)


def _document_of(value, name):
    if isinstance(value, str):
        value = json.loads(value)
    if not isinstance(value, dict):
        raise ValueError("metric %r: expected a dict or JSON text, found a %s" % (name, type(value).__name__))
    return _json(value, name)


def _file_name(name):
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)

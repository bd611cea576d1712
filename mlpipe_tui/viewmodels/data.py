"""What the Data screen lists and says: sources, outputs, what a column holds, what differs between two versions. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mlpipe_engine.model.records import RunRecord
from mlpipe_engine.model.states import State

from mlpipe_tui.glyphs import Glyphs
from mlpipe_tui.tables import Profile, TableColumn
from mlpipe_tui.viewmodels import words
from mlpipe_tui.viewmodels.cells import cell, spark
from mlpipe_tui.viewmodels.rich_lines import Line, Span, Tone

if TYPE_CHECKING:
    from mlpipe_engine.model.datasets import DatasetDiff, DatasetVersionRecord, RowsDiff


@dataclass(frozen=True, kw_only=True)
class Item:
    """Something one can look into: a source, or an output of a step in one run."""

    key: str
    section: str
    name: str
    """How SQL calls it, where it is a table."""
    path: str = ""
    """"" while it is not there."""
    kind: str = ""
    """parquet, csv, json, or "" for what is no table."""
    size_bytes: int | None = None
    state: State | None = None
    step: str = ""
    output: str = ""
    digest: str = ""
    note: str = ""
    """Why there is nothing to look into."""
    version: int = 0
    """Of a registered dataset; its `name` is that of the dataset."""
    moved: bool = False
    """The files under the newest version are others than those it was registered with."""


@dataclass(frozen=True, kw_only=True)
class ShelfShot:
    """All there is to look into, with the run its outputs are of."""

    items: tuple[Item, ...] = ()
    run: RunRecord | None = None
    needs: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Step -> the steps it takes from, for lineage."""
    versions: Mapping[str, tuple[tuple[int, str], ...]] = field(default_factory=dict)
    """Key of an output -> (number of a run, digest) of the runs in which it changed, newest first."""
    datasets: Mapping[str, tuple[DatasetVersionRecord, ...]] = field(default_factory=dict)
    """Key of a registered dataset -> its versions, newest first."""


@dataclass(frozen=True, kw_only=True)
class TableFacts:
    """One side of a difference between two tables."""

    label: str
    rows: int
    columns: tuple[TableColumn, ...]
    profiles: tuple[Profile, ...]


def sql_names(items: Sequence[Item]) -> dict[str, Item]:
    """Name in SQL -> item. Outputs go by their own name where only one step has it, else as step_output."""
    found: dict[str, Item] = {}
    counts: dict[str, int] = {}
    for item in items:
        counts[_word(item.output or item.name).casefold()] = counts.get(_word(item.output or item.name).casefold(), 0) + 1
    for item in items:
        if item.kind:
            short = _word(item.output or item.name)
            name = short if counts[short.casefold()] == 1 or not item.step else _word(f"{item.step}_{item.output}")
            found.setdefault(name, item)
    return found


def _word(name: str) -> str:
    made = "".join(character if character.isalnum() else "_" for character in name).strip("_") or "data"
    return f"t_{made}" if made[0].isdigit() else made


def item_cells(item: Item, glyphs: Glyphs) -> tuple[Span, ...]:
    """Sign and name, and how much it is."""
    if item.version:
        told = f"v{item.version}{' data moved' if item.moved else ''}"
        return (
            (f"  {glyphs.data} ", "warning" if item.moved else "primary"),
            (item.name, ""),
            (told, "warning" if item.moved else "muted"),
        )
    sign = glyphs.state(item.state) if item.state is not None else glyphs.data
    tone: Tone = (
        "bad" if item.state is State.FAILED else "muted" if not item.path else "good" if item.state is not None else "primary"
    )
    about = f"{words.size(item.size_bytes)} {item.kind}".strip() if item.path else item.note
    return (f"  {sign} ", tone), (item.name, "" if item.path else "muted"), (about, "muted")


def profile_lines(profile: Profile, glyphs: Glyphs) -> list[Line]:
    """What one column holds."""
    if not profile.rows:
        return [Line.of((profile.column, "strong"), "  nothing could be told about it")]
    share = profile.nulls / profile.rows
    head = Line.of(
        (profile.column, "strong"),
        f"  {words.count(profile.rows, 'row')}",
        (" (the first ones; F looks at all)", "warning") if profile.sampled else "",
    )
    lines = [
        head,
        Line.of(("  missing   ", "muted"), f"{profile.nulls:,} ({share:.2%})"),
        Line.of(("  different ", "muted"), f"about {profile.distinct:,}"),
    ]
    if profile.low is not None:
        ends = [("  least     ", profile.low), ("  median    ", profile.middle), ("  most      ", profile.high)]
        lines += [Line.of((name, "muted"), cell(value)) for name, value in ends if value is not None]
    if profile.bars:
        lines.append(Line.of(("  spread    ", "muted"), (spark(profile.bars, glyphs.bar), "primary")))
    filled = max(profile.rows - profile.nulls, 1)
    lines += [
        Line.of(
            ("  " if at else "  often     ", "muted"),
            ("          " if at else ""),
            f"{cell(value, limit=60)}  {count / filled:.1%}",
        )
        for at, (value, count) in enumerate(profile.top)
    ]
    return lines


def schema_lines(columns: Sequence[TableColumn]) -> list[Line]:
    width = min(max((len(column.name) for column in columns), default=0), 40)
    return [
        Line.of((f"{at + 1:>4}  ", "muted"), f"{column.name:<{width}}  ", (column.type.lower(), "accent"))
        for at, column in enumerate(columns)
    ]


def row_lines(row: int, values: Sequence[tuple[str, Any]]) -> list[Line]:
    """A whole row, a column a line."""
    width = min(max((len(name) for name, _ in values), default=0), 32)
    return [
        Line.of((f"row {row + 1:,}", "strong")),
        *(Line.of((f"  {name:<{width}}  ", "muted"), cell(value, limit=2000)) for name, value in values),
    ]


def difference_lines(before: TableFacts, after: TableFacts, glyphs: Glyphs) -> list[Line]:
    """What differs between two versions of a table: rows, columns, and what the columns hold."""
    lines = [
        Line.of((f"{before.label} {glyphs.arrow} {after.label}", "strong")),
        _counted("rows", before.rows, after.rows, glyphs),
    ]
    old, new = ({column.name: column for column in side.columns} for side in (before, after))
    lines += [Line.of((f"  + {name}", "good"), f"  {new[name].type.lower()}") for name in new if name not in old]
    lines += [Line.of((f"  - {name}", "bad"), f"  {old[name].type.lower()}") for name in old if name not in new]
    lines += [
        Line.of((f"  {glyphs.differs} {name}", "warning"), f"  {old[name].type.lower()} {glyphs.arrow} {new[name].type.lower()}")
        for name in new if name in old and old[name].type != new[name].type
    ]  # fmt: skip
    was = {profile.column: profile for profile in before.profiles}
    same = 0
    for profile in after.profiles:
        if profile.column in was:
            told = _moved(was[profile.column], profile, glyphs)
            same += not told
            lines += [Line.of((f"  {glyphs.differs} {profile.column}", "warning"), f"  {told}")] if told else []
    if same:
        lines.append(Line.of((f"  {words.count(same, 'column')} with the same figures", "muted")))
    if any(profile.sampled for profile in (*before.profiles, *after.profiles)):
        lines.append(Line.of(("  columns were compared by their first 100,000 rows", "warning")))
    return lines


def _counted(name: str, before: int, after: int, glyphs: Glyphs) -> Line:
    if before == after:
        return Line.of((f"  {name}  ", "muted"), f"{after:,}", (f"  {glyphs.equal}", "muted"))
    return Line.of((f"  {name}  ", "muted"), f"{before:,} {glyphs.arrow} {after:,}", (f"  {after - before:+,}", "warning"))


def _moved(before: Profile, after: Profile, glyphs: Glyphs) -> str:
    parts = []
    for name, old, new in (
        ("missing", before.nulls, after.nulls), ("different", before.distinct, after.distinct), ("least", before.low, after.low),
        ("median", before.middle, after.middle), ("most", before.high, after.high),
    ):  # fmt: skip
        if old != new and not (old != old and new != new):
            parts.append(f"{name} {cell(old, limit=30)} {glyphs.arrow} {cell(new, limit=30)}")
    return ", ".join(parts)


def dataset_lines(shot: ShelfShot, item: Item) -> list[Line]:
    """The versions of a dataset, and what takes it."""
    takers = sorted(step for step, needs in shot.needs if f"dataset:{item.name}" in needs)
    versions = shot.datasets.get(item.key, ())
    lines = [
        Line.of((f"{words.count(len(versions), 'version')} of a dataset", "strong")),
        Line.of(("  used by  ", "muted"), ", ".join(takers) or "no step of the run that is shown"),
    ]
    if item.moved:
        told = f"  the files are others now than those v{item.version} was registered with; Diff shows how"
        lines.append(Line.of((told, "warning")))
    for record in versions:
        files = f"{words.count(record.file_count, 'file')}, {words.size(record.size_bytes)}"
        about = ", ".join(filter(None, (record.description, *(f"{name}={value}" for name, value in record.tags))))
        lines.append(
            Line.of(
                (f"  v{record.version:<4} ", "accent"),
                f"{record.created_at[:16].replace('T', ' ')}  {files}",
                (f"  {about}", "muted"),
            )
        )
        lines.append(Line.of(("        ", "muted"), ", ".join(record.definition.paths)))
    return lines


def dataset_difference(found: DatasetDiff, glyphs: Glyphs, *, is_table: bool = True) -> list[Line]:
    """What differs between two versions of a dataset: definition, files, and of a table columns, rows, figures."""
    lines = [Line.of((f"{found.before} {glyphs.arrow} {found.after}", "strong"))]
    lines += [Line.of((f"  {part}  ", "muted"), f"{old} {glyphs.arrow} {new}") for part, old, new in found.definition]
    signed: tuple[tuple[str, Tone, tuple[str, ...]], ...] = (
        ("+", "good", found.files.added), ("-", "bad", found.files.removed), (glyphs.differs, "warning", found.files.changed),
    )  # fmt: skip
    for sign, tone, paths in signed:
        lines += [Line.of((f"  {sign} ", tone), path, ("  file", "muted")) for path in paths[:_MOST_FILES]]
        if len(paths) > _MOST_FILES:
            lines.append(Line.of((f"  {sign} ", tone), f"and {len(paths) - _MOST_FILES:,} more files"))
    for change in found.schema:
        lines.append(
            Line.of(
                (f"  {glyphs.differs} {change.column}  ", "warning"),
                f"{change.before or 'not there'} {glyphs.arrow} {change.after or 'not there'}",
            )
        )
    if found.rows is not None:
        lines += _rows_difference(found.rows, glyphs)
    for figure in found.statistics:
        lines.append(
            Line.of(
                (f"  {glyphs.differs} {figure.column}  ", "warning"),
                f"{figure.statistic} {cell(figure.before)} {glyphs.arrow} {cell(figure.after)}",
            )
        )
    if found.same:
        lines.append(Line.of(("  nothing differs", "muted")))
    elif is_table and found.rows is None and found.files:
        lines.append(Line.of(("  rows cannot be compared: the files of one version are no longer there", "warning")))
    return lines


_MOST_FILES = 8


def _rows_difference(rows: RowsDiff, glyphs: Glyphs) -> list[Line]:
    by = f" by {', '.join(rows.key)}" if rows.key else ""
    changed = f", {rows.changed:,} changed" if rows.key else ""
    lines = [
        Line.of(
            (f"  rows{by}  ", "muted"),
            f"{rows.before:,} {glyphs.arrow} {rows.after:,}",
            (f"  {rows.added:,} added, {rows.removed:,} removed{changed}", "warning"),
        )
    ]
    if rows.note:
        lines.append(Line.of((f"    {rows.note}", "muted")))
    for sign, tone, examples in (("+", "good", rows.added_examples), ("-", "bad", rows.removed_examples)):
        lines += [Line.of((f"    {sign} ", tone), ", ".join(map(cell, example))) for example in examples]  # type: ignore[arg-type]
    for row in rows.changed_examples:
        changes = ", ".join(f"{name} {cell(old)} {glyphs.arrow} {cell(new)}" for name, old, new in row.changes)
        lines.append(Line.of((f"    {glyphs.differs} ", "warning"), f"{', '.join(map(cell, row.key))}: {changes}"))
    return lines


def lineage(shot: ShelfShot, item: Item) -> list[Line]:
    """What an output comes from, and what takes it."""
    if item.version:
        return dataset_lines(shot, item)
    if not item.step:
        takers = sorted(step for step, needs in shot.needs if f"source:{item.name}" in needs)
        return [
            Line.of(("a source", "strong")),
            Line.of(("  used by  ", "muted"), ", ".join(takers) or "no step of the run that is shown"),
        ]
    needs = {step: tuple(need for need in found if not need.startswith("source:")) for step, found in shot.needs}
    sources = {
        step: tuple(need.removeprefix("source:") for need in found if need.startswith("source:")) for step, found in shot.needs
    }
    above, below = _reach(item.step, needs), _reach(item.step, _turned(needs))
    from_sources = dict.fromkeys(name for step in (item.step, *above) for name in sources.get(step, ()))
    lines = [Line.of(("made by  ", "muted"), (item.step, "strong"))]
    lines.append(Line.of(("sources  ", "muted"), ", ".join(from_sources) or "none"))
    lines.append(Line.of(("above    ", "muted"), ", ".join(above) or "nothing"))
    lines.append(Line.of(("below    ", "muted"), ", ".join(below) or "nothing"))
    return lines


def _turned(needs: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for step, above in needs.items():
        for need in above:
            found[need] = (*found.get(need, ()), step)
    return found


def _reach(start: str, edges: Mapping[str, tuple[str, ...]]) -> list[str]:
    """All that can be reached, nearest first."""
    found: dict[str, None] = {}
    waiting = list(edges.get(start, ()))
    while waiting:
        name = waiting.pop(0)
        if name not in found and name != start:
            found[name] = None
            waiting += edges.get(name, ())
    return list(found)

"""Filters as SQL over the table of runs. Every value is bound, none is ever part of the text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from mlpipe_engine.model.filters import Filter, Term

Clause = tuple[str, tuple[object, ...]]

_NUMBER = "runs.number"
_RESULTS_OF = "coalesce(runs.mirrors, runs.number)"


def clauses(wanted: Filter, now: datetime) -> tuple[list[str], list[object]]:
    """Conditions to be joined by AND, and their values. `now`: for ages. Interrupted runs are those that are not final: ask their locks."""
    texts: list[str] = []
    values: list[object] = []
    for term in wanted.terms:
        text, bound = _clause(term, now)
        texts.append(f"NOT ({text})" if term.negated else f"({text})")
        values += bound
    return texts, values


def _clause(term: Term, now: datetime) -> Clause:
    match term.field:
        case "":
            return _word(term.value)
        case "state" if term.value == "interrupted":
            return "state IN ('queued', 'running')", ()
        case "state" if term.value in ("queued", "running"):  # in the words of the index of runs that are not final
            return "state IN ('queued', 'running') AND state = ?", (term.value,)
        case "state":
            return "state = ?", (term.value,)
        case "pipeline" | "experiment":
            return f"{term.field} = ? COLLATE NOCASE", (term.value,)
        case "by":
            return "source = ? COLLATE NOCASE", (term.value,)
        case "step":
            sql = f"EXISTS (SELECT 1 FROM step_runs s WHERE s.run = {_NUMBER} AND s.name = ? COLLATE NOCASE AND s.decision = 'execute')"
            return sql, (term.value,)
        case "since" | "until":
            return f"created_at {'>=' if term.field == 'since' else '<='} ?", (_moment(term, now),)
        case "metric":
            return _metric(term)
        case _:
            return _pair("parameters" if term.field == "param" else "tags", term)


def _word(text: str) -> Clause:
    pattern = "%" + text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
    columns = ("CAST(number AS TEXT)", "pipeline", "experiment", "state", "parameters", "tags", "error", "source")
    return " OR ".join(f"{column} LIKE ? ESCAPE '\\'" for column in columns), (pattern,) * len(columns)


def _moment(term: Term, now: datetime) -> str:
    """As `created_at` is written, so that texts compare as times do."""
    if term.is_age:
        moment = now.astimezone(UTC) - timedelta(seconds=term.seconds)
    else:
        moment = datetime.fromisoformat(term.value).astimezone(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _metric(term: Term) -> Clause:
    """The last value a run logged under that name, by one of its steps (`step.name`) or any."""
    last = (
        f"(SELECT CAST(m.value AS REAL) FROM metrics m WHERE m.run = {_RESULTS_OF} AND m.kind = 'scalar'"
        " AND (m.name = ? OR m.step || '.' || m.name = ?) ORDER BY m.id DESC LIMIT 1)"
    )
    return f"coalesce({last} {term.operator} ?, 0)", (term.name, term.name, term.number)


def _pair(column: str, term: Term) -> Clause:
    """Parameters and tags are stored as JSON pairs. Numbers compare as numbers, anything else as text."""
    value = "json_extract(p.value, '$[1]')"
    found, bound = f"CAST({value} AS TEXT) {term.operator} ?", term.value
    if term.value.lower() in ("true", "false"):
        found, bound = f"json_type(p.value, '$[1]') {term.operator} ?", term.value.lower()
    elif term.number is not None and column == "parameters":
        sql = f"typeof({value}) IN ('integer', 'real') AND {value} {term.operator} ?"
        return f"EXISTS (SELECT 1 FROM json_each({column}) p WHERE json_extract(p.value, '$[0]') = ? AND {sql})", (
            term.name,
            term.number,
        )
    return f"EXISTS (SELECT 1 FROM json_each({column}) p WHERE json_extract(p.value, '$[0]') = ? AND {found})", (term.name, bound)

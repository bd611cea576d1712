"""The filter grammar of lists, shared by the command line and the terminal app: text in, frozen terms out.

`state:failed step:train metric.val_auc>0.88 param.lr=0.05 since:2d !word`: terms are joined by "and", `!` turns one round, a plain
word is looked for in names and values. `store.filtering` asks the database with them; `matches` judges a step in memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from mlpipe_engine.errors import UsageError, nearest
from mlpipe_engine.model.states import State

FIELDS = ("state", "step", "pipeline", "experiment", "by", "since", "until", "param", "metric", "tag")
Operator = Literal["=", "!=", ">", ">=", "<", "<="]
_OPERATORS = (">=", "<=", "!=", "=", ">", "<", ":")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
STATES = (*(state.value for state in State), "interrupted")


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One condition. `field` is "" for a plain word; `name` is the parameter, metric or tag."""

    field: str
    value: str
    name: str = ""
    operator: Operator = "="
    negated: bool = False

    def __str__(self) -> str:
        sign = "!" if self.negated else ""
        if not self.field:
            return sign + self.value
        if not self.name:
            return f"{sign}{self.field}:{self.value}"
        return f"{sign}{self.field}.{self.name}{self.operator}{self.value}"

    @property
    def number(self) -> float | None:
        """The value where it is a number, so that 0.05 finds 5e-2."""
        try:
            found = float(self.value)
        except ValueError:
            return None
        return found if found == found and abs(found) != float("inf") else None

    @property
    def seconds(self) -> float:
        """Prereq: a term of `since` or `until` whose value is an age such as 2d."""
        return float(self.value[:-1]) * _UNITS[self.value[-1]]

    @property
    def is_age(self) -> bool:
        return re.fullmatch(r"\d+(\.\d+)?[smhdw]", self.value) is not None


@dataclass(frozen=True, slots=True)
class Filter:
    """All terms hold. No term: everything."""

    terms: tuple[Term, ...] = ()

    def __str__(self) -> str:
        return " ".join(map(str, self.terms))

    def __bool__(self) -> bool:
        return bool(self.terms)

    def without(self, term: Term) -> Filter:
        return Filter(tuple(other for other in self.terms if other is not term))


EVERYTHING = Filter()


def parse_filter(text: str) -> Filter:
    """Raises UsageError that names the term, what was expected and the nearest field. Quotes keep words together."""
    return Filter(tuple(_term(word) for word in _words(text)))


def _words(text: str) -> list[str]:
    """Words between blanks; double quotes may stand around a word or a value."""
    words, word, quoted, started = [], "", False, False
    for character in text:
        if character == '"':
            quoted, started = not quoted, True
        elif character.isspace() and not quoted:
            if word or started:
                words.append(word)
            word, started = "", False
        else:
            word += character
    if quoted:
        raise UsageError(f"the filter {text!r} has a quote that is never closed", hint='Close it with ".')
    if word or started:
        words.append(word)
    return [found for found in words if found not in ("", "!")]


def _term(word: str) -> Term:
    negated = word.startswith("!")
    body = word[1:] if negated else word
    split = re.match(r"([A-Za-z]+)(?:\.([^=<>!:]+))?(>=|<=|!=|=|>|<|:)(.*)", body, re.DOTALL)
    if split is None:
        return Term(field="", value=body, negated=negated)
    field, name, sign, value = split[1].lower(), split[2] or "", split[3], split[4]
    if field not in FIELDS:
        close = nearest(field, FIELDS)
        raise UsageError(
            f"the filter term {word!r} begins with {field!r}" + (f"; did you mean {close!r}?" if close else ""),
            expected="a plain word, or one of " + ", ".join(_shape(known) for known in FIELDS),
        )
    if (field in ("param", "metric", "tag")) != bool(name) or not value:
        raise UsageError(f"the filter term {word!r} is not complete", expected=_shape(field))
    return _checked(Term(field=field, value=value, name=name, operator=_operator(sign), negated=negated), word, sign)


def _operator(sign: str) -> Operator:
    for known in ("!=", ">=", "<=", ">", "<"):
        if sign == known:
            return known
    return "="


def _checked(term: Term, word: str, sign: str) -> Term:
    if not term.name and sign not in (":", "="):
        raise UsageError(f"the filter term {word!r} compares what has no order", expected=_shape(term.field))
    if term.field == "state" and term.value.lower() not in STATES:
        close = nearest(term.value.lower(), STATES)
        raise UsageError(
            f"{term.value!r} is no state" + (f"; did you mean {close!r}?" if close else ""),
            expected="one of " + ", ".join(STATES),
        )
    if term.field in ("since", "until") and not term.is_age and not _is_date(term.value):
        raise UsageError(
            f"{word!r}: {term.value!r} is no time", expected="an age such as 30m, 12h, 2d, 1w, or a date such as 2026-11-24"
        )
    if term.field == "metric" and term.number is None:
        raise UsageError(f"{word!r}: {term.value!r} is no number", expected=_shape("metric"))
    if term.field == "state":
        return Term(field="state", value=term.value.lower(), negated=term.negated)
    return term


def _is_date(text: str) -> bool:
    found = re.fullmatch(r"(\d{4})-(\d\d)-(\d\d)(T\d\d:\d\d(:\d\d)?)?", text)
    return found is not None and 1 <= int(found[2]) <= 12 and 1 <= int(found[3]) <= 31


def _shape(field: str) -> str:
    return {
        "state": "state:failed", "step": "step:NAME", "pipeline": "pipeline:NAME", "experiment": "experiment:NAME", "by": "by:cli",
        "since": "since:2d", "until": "until:2d", "param": "param.NAME=VALUE", "metric": "metric.NAME>0.9", "tag": "tag.NAME=VALUE",
    }[field]  # fmt: skip


def matches(found: Filter, *, state: str, name: str, texts: Iterable[str] = ()) -> bool:
    """Whether a step (its state, name and what else is shown of it) fits. Terms about runs do not limit steps."""
    shown = [name.lower(), *(text.lower() for text in texts)]
    for term in found.terms:
        value = term.value.lower()
        if term.field == "state":
            fits = state == value
        elif term.field == "step":
            fits = value in name.lower()
        elif not term.field:
            fits = any(value in text for text in shown)
        else:
            continue
        if fits == term.negated:
            return False
    return True

"""Keys are an interface: every binding has an id, `[keys]` of mlpipe.toml may give it another key, docs/keys.md is made from them.

The bindings themselves stand in the classes that carry them out; this module collects, checks and shows them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from mlpipe_engine.errors import ConfigError, nearest
from textual.binding import ActiveBinding, Binding
from textual.dom import DOMNode

from mlpipe_tui.viewmodels.rich_lines import Line

if TYPE_CHECKING:
    from mlpipe_engine.config.project import ProjectConfig

GROUPS: tuple[tuple[str, str, str], ...] = (
    ("Everywhere", "mlpipe_tui.app:PipelineApp", ""),
    ("Panes", "mlpipe_tui.screens.base:View", "app"),
    ("Lists", "mlpipe_tui.widgets.rows:RowList", "app"),
    ("Text", "mlpipe_tui.widgets.document:Document", "app"),
    ("Pipeline", "mlpipe_tui.screens.pipeline:PipelineView", "app"),
    ("Steps", "mlpipe_tui.widgets.rails:Rails", "Pipeline"),
    ("Runs", "mlpipe_tui.screens.runs:RunsView", "app"),
    ("Compute", "mlpipe_tui.screens.compute:ComputeView", "app"),
    ("Logs", "mlpipe_tui.widgets.log_view:LogView", "app"),
    ("Log search", "mlpipe_tui.widgets.log_view:LogPane", "app"),
    ("Tables", "mlpipe_tui.widgets.paged_table:PagedTable", "app"),
    ("Data", "mlpipe_tui.screens.data:DataView", "app"),
    ("Compare", "mlpipe_tui.screens.compare:CompareView", "app"),
)
"""Title, class, and the group whose keys hold there as well. What is not there is left out."""

_NAMES = {
    "question_mark": "?", "tilde": "~", "colon": ":", "slash": "/", "left_square_bracket": "[", "right_square_bracket": "]",
    "exclamation_mark": "!", "ampersand": "&", "plus": "+", "minus": "-", "escape": "Esc", "enter": "Enter", "tab": "Tab",
    "shift+tab": "Shift+Tab", "space": "Space", "up": "Up", "down": "Down", "left": "Left", "right": "Right", "pageup": "PgUp",
    "pagedown": "PgDn", "home": "Home", "end": "End", "full_stop": ".", "comma": ",", "equals_sign": "=", "less_than_sign": "<",
    "greater_than_sign": ">", "delete": "Del", "backspace": "Backspace",
}  # fmt: skip


def shown(keys: str) -> str:
    """A key as people write it; the first of several."""
    key = keys.split(",")[0] if keys != "," else keys
    if key in _NAMES:
        return _NAMES[key]
    if key.startswith("ctrl+"):
        return "^" + key[5:].upper()
    return key.upper() if key.startswith("f") and key[1:].isdigit() else key


def bindings() -> list[tuple[str, str, str, Binding]]:
    """(group, group whose keys hold too, module:class, binding) of every binding that has an id or a description."""
    found = []
    for title, place, above in GROUPS:
        module, _, name = place.partition(":")
        if find_spec(module) is None:
            continue
        for entry in vars(getattr(import_module(module), name)).get("BINDINGS", ()):
            binding = entry if isinstance(entry, Binding) else Binding(*entry)
            if binding.description or binding.id:
                found.append((title, above, place, binding))
    return found


def check(config: ProjectConfig) -> None:
    """Raises ConfigError for an unknown id, a key that cannot be, and two actions on one key. Costs nothing without [keys]."""
    wanted = dict(config.tui.keys)
    if not wanted:
        return
    known = {binding.id: binding for _, _, _, binding in bindings() if binding.id}
    for name, key in wanted.items():
        where = config.line("keys", name)
        if name not in known:
            close = nearest(name, known)
            raise ConfigError(
                f"there is no key binding {name!r}" + (f"; did you mean {close!r}?" if close else ""), where=where, field=f"keys.{name}",
                hint="docs/keys.md lists them.",
            )  # fmt: skip
        if not key.strip() or any(character.isspace() for character in key.strip()):
            raise ConfigError(
                f"{key!r} is no key", where=where, field=f"keys.{name}", expected='such as "ctrl+l", "f7", "K" or "x,f9"'
            )
    _check_clashes(config, wanted)


def _check_clashes(config: ProjectConfig, wanted: dict[str, str]) -> None:
    """Within a group, and between a group and what holds everywhere."""
    taken: dict[str, dict[str, str]] = {}
    parents = {
        title: above
        for title, above, _ in ((title, "Everywhere" if above == "app" else above, place) for title, place, above in GROUPS)
    }
    changed = []
    for title, _, _, binding in bindings():
        for key in (wanted.get(binding.id or "") or binding.key).split(","):
            name = binding.id or binding.description
            group = taken.setdefault(title, {})
            if key in group and (group[key] in wanted or name in wanted):
                raise _clash(config, key, group[key], name)
            group[key] = name
            if name in wanted:
                changed.append((title, key, name))
    for title, key, name in changed:
        others = [group for group in taken if group != title and "Everywhere" in (title, parents.get(title))]
        for other in others if title == "Everywhere" else [parents.get(title, "")]:
            found = taken.get(other, {}).get(key)
            if found is not None and found != name:
                raise _clash(config, key, found, name)


def _clash(config: ProjectConfig, key: str, first: str, second: str) -> ConfigError:
    wanted = dict(config.tui.keys)
    name = second if second in wanted else first
    return ConfigError(
        f"the key {shown(key)!r} would mean both {first!r} and {second!r}", where=config.line("keys", name), field=f"keys.{name}",
        hint="Give one of them another key.",
    )  # fmt: skip


def footer(active: Iterable[ActiveBinding], display: Callable[[Binding], str]) -> tuple[tuple[str, str, str], ...]:
    """At most nine keys: those of where the focus is first, then help and quit, which always have a place."""
    found: list[tuple[str, str, str]] = []
    last: list[tuple[str, str, str]] = []
    for entry in active:
        binding = entry.binding
        if not binding.show or not entry.enabled or not binding.description:
            continue
        item = (binding.key, display(binding), binding.description)
        if any(item[2] == other[2] for other in (*found, *last)):
            continue
        (last if binding.id in ("app.help", "app.quit") else found).append(item)
    return (*found[: 9 - len(last)], *last)


def help_lines(
    focused: DOMNode | None, view: Any, app: Any, active: Iterable[ActiveBinding], display: Callable[[Binding], str]
) -> list[Line]:
    """What `?` shows: what this pane is for, and every key that does something here."""
    rows: list[Line] = []
    for node in (focused, view):
        text = getattr(type(node), "HELP", "") if node is not None else ""
        rows += [Line.of(line) for line in (text or "").split("\n") if line]
    by_node: dict[str, list[Binding]] = {}
    for entry in active:
        if entry.binding.description and not entry.binding.system:
            title = next((title for title, place, _ in GROUPS if place.endswith(f":{type(entry.node).__name__}")), "Here")
            known = by_node.setdefault(title, [])
            if not any(binding.action == entry.binding.action for binding in known):
                known.append(entry.binding)
    for title, found in by_node.items():
        rows += [Line(), Line.of((title, "strong"))]
        for binding in found:
            about = binding.description + (f": {binding.tooltip}" if binding.tooltip else "")
            rows.append(Line.of("  ", (f"{display(binding):<10}", "accent"), about))
    rows += [
        Line(),
        Line.of((app.HELP, "muted")),
        Line.of(("Shift+drag (Option+drag on macOS) selects as the terminal does. [keys] in mlpipe.toml changes keys.", "muted")),
    ]
    return rows


def markdown() -> str:
    """docs/keys.md."""
    parts = [
        "# Keys of the terminal app", "",
        "Made from the bindings; a test compares. The id is what `[keys]` in mlpipe.toml takes, for example:", "",
        "```toml", "[keys]", '"pipeline.run" = "f5"', "```", "",
        "A key that would mean two things in one place is an error that names both. `?` in the app shows the keys of the focused pane.", "",
    ]  # fmt: skip
    for title, _, _ in GROUPS:
        rows = [binding for group, _, _, binding in bindings() if group == title]
        if not rows:
            continue
        parts += [f"## {title}", "", "| key | what it does | id |", "|---|---|---|"]
        for binding in rows:
            keys = ", ".join(f"`{shown(key)}`" for key in binding.key.split(","))
            about = binding.description + (f": {binding.tooltip}" if binding.tooltip else "")
            parts.append(f"| {keys} | {about} | {f'`{binding.id}`' if binding.id else ''} |")
        parts.append("")
    return "\n".join(parts)


if __name__ == "__main__":
    from pathlib import Path

    (Path(__file__).resolve().parents[1] / "docs" / "keys.md").write_text(markdown(), encoding="utf-8")

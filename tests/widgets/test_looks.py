"""Themes that can be read, signs that need no colour, text that cannot act, copies that arrive."""

from __future__ import annotations

import base64
import itertools
import os
from pathlib import Path

import pytest
from hostile import ALL, living
from mlpipe_engine.model.states import State
from rich.cells import cell_len
from textual.app import App
from textual.color import Color
from textual.theme import Theme

from mlpipe_tui import clipboard, glyphs, themes
from mlpipe_tui.clean import clipped, one_line

OURS = [theme for theme in themes.themes() if not theme.ansi]
TEXT = (
    "foreground", "text", "text-muted", "text-disabled", "foreground-muted", "text-primary", "text-secondary", "text-success", "text-error", "text-warning",
    "text-accent", "footer-foreground", "footer-key-foreground", "footer-description-foreground", "link-color",
)  # fmt: skip
GROUNDS = ("background", "surface", "panel")
PAIRS = (
    ("block-cursor-foreground", "block-cursor-background"), ("block-cursor-blurred-foreground", "block-cursor-blurred-background"),
    ("screen-selection-foreground", "screen-selection-background"), ("input-selection-foreground", "input-selection-background"),
    ("link-color-hover", "link-background-hover"), ("input-cursor-foreground", "input-cursor-background"), ("button-color-foreground", "primary"),
    ("button-color-foreground", "error"), ("button-color-foreground", "success"), ("button-color-foreground", "warning"),
)  # fmt: skip
BORDERS = ("border", "border-blurred", "scrollbar", "scrollbar-active")


def colours(theme: Theme) -> dict[str, str]:
    app: App[None] = App()
    app.register_theme(theme)
    app.theme = theme.name
    return app.get_css_variables()


def contrast(one: str, other: str) -> float:
    """WCAG 2: the ratio of relative luminances."""

    def luminance(text: str) -> float:
        parts = Color.parse(text).rgb
        linear = [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_measure_of_contrast_is_the_one_of_the_standard() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("theme", OURS, ids=lambda theme: theme.name)
def test_all_text_can_be_read(theme: Theme) -> None:
    found = colours(theme)
    pairs = [*itertools.product(TEXT, GROUNDS), *PAIRS]
    weak = {
        pair: round(contrast(found[pair[0]], found[pair[1]]), 2)
        for pair in pairs
        if contrast(found[pair[0]], found[pair[1]]) < 4.5
    }
    assert weak == {}
    assert all(Color.parse(found[name]).a == 1 for name in (*TEXT, *GROUNDS)), (
        "a colour that lets its ground through was not measured"
    )


@pytest.mark.parametrize("theme", OURS, ids=lambda theme: theme.name)
def test_borders_can_be_seen(theme: Theme) -> None:
    found = colours(theme)
    weak = {
        (b, g): round(contrast(found[b], found[g]), 2)
        for b, g in itertools.product(BORDERS, GROUNDS)
        if contrast(found[b], found[g]) < 3
    }
    assert weak == {}


@pytest.mark.parametrize("theme", OURS, ids=lambda theme: theme.name)
def test_good_and_bad_differ_for_eyes_that_see_no_red_or_no_green(theme: Theme) -> None:
    """Seen through the matrices for full deuteranopia and protanopia the two stay far apart."""
    matrices = (
        ((0.367, 0.861, -0.228), (0.280, 0.673, 0.047), (-0.012, 0.043, 0.969)),
        ((0.152, 1.053, -0.205), (0.115, 0.786, 0.099), (-0.004, -0.048, 1.052)),
    )
    found = colours(theme)
    for matrix in matrices:
        seen = []
        for name in ("text-success", "text-error"):
            rgb = Color.parse(found[name]).rgb
            seen.append([sum(weight * value for weight, value in zip(row, rgb)) for row in matrix])
        assert sum((a - b) ** 2 for a, b in zip(*seen)) ** 0.5 > 70


def test_the_ansi_theme_names_only_colours_of_the_terminal() -> None:
    theme = themes.themes()[-1]
    named = [
        theme.primary,
        theme.secondary,
        theme.success,
        theme.error,
        theme.warning,
        theme.accent,
        theme.background,
        theme.foreground,
    ]
    assert all(str(colour).startswith("ansi_") for colour in named)
    assert all(value.startswith("ansi_") for key, value in theme.variables.items() if not key.endswith("style"))


@pytest.mark.parametrize("signs", [glyphs.UNICODE, glyphs.ASCII], ids=lambda signs: signs.name)
def test_every_state_has_a_sign_of_its_own(signs: glyphs.Glyphs) -> None:
    shown = [signs.state(state) for state in State]
    assert len(set(shown)) == len(list(State)) == len(glyphs.COLOUR)
    assert all(cell_len(sign) == 1 for sign in shown)
    assert all(signs.labelled(state).endswith(state.value) for state in State)
    assert len(signs.bar) == 8 and len(signs.joins) == 9


def test_the_ascii_signs_are_ascii() -> None:
    assert all(str(value).isascii() for value in (getattr(glyphs.ASCII, name) for name in glyphs.ASCII.__slots__))


@pytest.mark.parametrize(
    ("wanted", "environment", "name"),
    [
        ("auto", {"LANG": "de_DE.UTF-8", "TERM": "xterm-256color"}, "unicode"),
        ("auto", {"LC_ALL": "C.utf8", "LANG": "C"}, "unicode"),
        ("auto", {"LANG": "en_US.ISO-8859-1"}, "ascii"),
        ("auto", {}, "ascii"),
        ("auto", {"LANG": "C.UTF-8", "TERM": "linux"}, "ascii"),
        ("unicode", {"LANG": "C"}, "unicode"),
        ("ascii", {"LANG": "C.UTF-8"}, "ascii"),
    ],
)
def test_which_signs(wanted: str, environment: dict[str, str], name: str) -> None:
    assert glyphs.choose(wanted, environment).name == name


@pytest.mark.parametrize("text", ALL)
def test_nothing_in_one_line_is_alive(text: str) -> None:
    assert living(one_line(text)) == []
    for width in (0, 1, 2, 7, 40):
        shown = clipped(text, width)
        assert living(shown) == [] and cell_len(shown) <= width


def test_what_is_cut_says_so() -> None:
    assert clipped("abcdef", 4) == "abc…"
    assert clipped("abcd", 4) == "abcd"
    assert clipped("漢漢漢", 5) == "漢漢…"
    assert clipped("漢漢漢", 4) == "漢…"
    assert clipped(12, 9) == "12"


class Terminal:
    def __init__(self) -> None:
        self.sent: list[str] = []

    def send(self, text: str) -> None:
        self.sent.append(text)

    def text(self) -> str:
        (one,) = self.sent
        return base64.b64decode(one.removeprefix("\x1b]52;c;").removesuffix("\x07")).decode()


def tool(folder: Path, name: str, code: int = 0) -> dict[str, str]:
    """A program of that name that keeps what it was given."""
    program = folder / name
    program.write_text(f"#!/bin/sh\ncat > {folder}/got\nexit {code}\n")
    program.chmod(0o755)
    return {"PATH": f"{folder}{os.pathsep}/bin{os.pathsep}/usr/bin", "DISPLAY": ":0"}


def test_on_the_desktop_its_tool_is_used(tmp_path: Path) -> None:
    terminal = Terminal()
    copied = clipboard.copy("größer", str(tmp_path), terminal.send, tool(tmp_path, "xclip"))
    assert (tmp_path / "got").read_text() == (tmp_path / "clip.txt").read_text() == "größer"
    assert terminal.sent == [] and copied.to == "xclip"
    assert str(copied) == f"copied 6 characters to the clipboard (xclip) and {tmp_path.name}/clip.txt"


def test_over_ssh_the_terminal_is_asked_although_a_tool_is_there(tmp_path: Path) -> None:
    terminal = Terminal()
    copied = clipboard.copy("a\nb", str(tmp_path), terminal.send, tool(tmp_path, "xclip") | {"SSH_CONNECTION": "1 2 3 4"})
    assert terminal.text() == "a\nb" and not (tmp_path / "got").exists()
    assert "OSC 52" in str(copied) and (tmp_path / "clip.txt").read_text() == "a\nb"


def test_a_tool_that_fails_hands_over_to_the_terminal(tmp_path: Path) -> None:
    terminal = Terminal()
    assert clipboard.copy("x", str(tmp_path), terminal.send, tool(tmp_path, "xclip", code=1)).to == "terminal"
    assert terminal.text() == "x"


def test_too_much_for_a_terminal_is_said_and_kept_in_the_file(tmp_path: Path) -> None:
    terminal = Terminal()
    copied = clipboard.copy("x" * 80_000, str(tmp_path), terminal.send, {"PATH": ""})
    assert terminal.sent == [] and "too long for a terminal" in str(copied) and "clip.txt" in str(copied)
    assert (tmp_path / "clip.txt").stat().st_size == 80_000


def test_where_nothing_can_be_written_the_copy_still_goes_out(tmp_path: Path) -> None:
    terminal = Terminal()
    (tmp_path / "file").write_text("")
    copied = clipboard.copy("x", str(tmp_path / "file"), terminal.send, {"PATH": ""})
    assert copied.to == "terminal" and copied.file == "" and "Not a directory" in str(copied)


def test_the_copy_is_for_its_user_only_and_no_link_is_followed(tmp_path: Path) -> None:
    target = tmp_path / "mine"
    target.write_text("keep")
    (tmp_path / "clip.txt.new").symlink_to(target)
    clipboard.copy("secret", str(tmp_path), Terminal().send, {"PATH": ""})
    assert target.read_text() == "keep"
    (tmp_path / "clip.txt.new").unlink()
    clipboard.copy("secret", str(tmp_path), Terminal().send, {"PATH": ""})
    assert (tmp_path / "clip.txt").stat().st_mode & 0o777 == 0o600

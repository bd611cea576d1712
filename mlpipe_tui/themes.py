"""The app's own colours: three themes, and one that leaves the terminal its palette.

Blue stands for good and orange for bad, which people who see red and green alike still tell apart. Colour only repeats what a
shape and a word say (`glyphs`). Text has a contrast of at least 4.5:1 on every ground it is put on, borders of 3:1: a test measures it.
"""

from __future__ import annotations

from dataclasses import dataclass

from textual.theme import Theme

DEFAULT = "mlpipe-dark"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Palette:
    """What a theme is made of; everything else Textual derives."""

    name: str
    dark: bool
    background: str
    surface: str
    panel: str
    foreground: str
    muted: str
    border: str
    border_focus: str
    primary: str
    good: str
    bad: str
    warning: str
    accent: str
    on_cursor: str


_DARK = _Palette(
    name="mlpipe-dark", dark=True, background="#0f1419", surface="#151b22", panel="#1e2730", foreground="#e3e8ee", muted="#a3b0bf",
    border="#6d7d8f", border_focus="#6cb6ff", primary="#6cb6ff", good="#6cc7e8", bad="#ff9a5c", warning="#e8c667", accent="#c7a6ff",
    on_cursor="#0b1016",
)  # fmt: skip
_LIGHT = _Palette(
    name="mlpipe-light", dark=False, background="#f4f5f7", surface="#ffffff", panel="#e6e9ed", foreground="#1b2229", muted="#4b5763",
    border="#6f7a86", border_focus="#0b57a4", primary="#0b57a4", good="#0a5f86", bad="#9c3d00", warning="#6d5200", accent="#5c35a8",
    on_cursor="#ffffff",
)  # fmt: skip
_CONTRAST = _Palette(
    name="mlpipe-contrast", dark=True, background="#000000", surface="#000000", panel="#141414", foreground="#ffffff", muted="#d6d6d6",
    border="#b8b8b8", border_focus="#ffe14d", primary="#7cc4ff", good="#8fd8ff", bad="#ffae6b", warning="#ffe14d", accent="#dcc4ff",
    on_cursor="#000000",
)  # fmt: skip


def _theme(palette: _Palette) -> Theme:
    return Theme(
        name=palette.name,
        dark=palette.dark,
        primary=palette.primary,
        secondary=palette.good,
        success=palette.good,
        error=palette.bad,
        warning=palette.warning,
        accent=palette.accent,
        foreground=palette.foreground,
        background=palette.background,
        surface=palette.surface,
        panel=palette.panel,
        boost=palette.panel,
        variables={
            "text": palette.foreground,
            "text-muted": palette.muted,
            "text-disabled": palette.muted,
            "foreground-muted": palette.muted,
            "foreground-disabled": palette.muted,
            "text-primary": palette.primary,
            "text-secondary": palette.good,
            "text-success": palette.good,
            "text-error": palette.bad,
            "text-warning": palette.warning,
            "text-accent": palette.accent,
            "border": palette.border_focus,
            "border-blurred": palette.border,
            "block-cursor-background": palette.primary,
            "block-cursor-foreground": palette.on_cursor,
            "block-cursor-blurred-background": palette.panel,
            "block-cursor-blurred-foreground": palette.foreground,
            "footer-key-foreground": palette.accent,
            "footer-background": palette.panel,
            "link-color": palette.primary,
            "link-color-hover": palette.on_cursor,
            "link-background-hover": palette.primary,
            "button-color-foreground": palette.on_cursor,
            "scrollbar": palette.border,
            "scrollbar-background": palette.panel,
            "screen-selection-background": palette.warning,
            "screen-selection-foreground": palette.on_cursor,
            "input-selection-background": palette.warning,
            "input-selection-foreground": palette.on_cursor,
        },
    )


def _ansi() -> Theme:
    """The sixteen colours of the terminal, on its own ground: what its user chose, its user can read."""
    return Theme(
        name="mlpipe-ansi",
        ansi=True,
        primary="ansi_blue",
        secondary="ansi_cyan",
        success="ansi_cyan",
        error="ansi_red",
        warning="ansi_yellow",
        accent="ansi_magenta",
        foreground="ansi_default",
        background="ansi_default",
        surface="ansi_default",
        panel="ansi_default",
        boost="ansi_default",
        variables={
            "text-muted": "ansi_default",
            "text-disabled": "ansi_default",
            "foreground-muted": "ansi_default",
            "border": "ansi_blue",
            "border-blurred": "ansi_default",
            "block-cursor-foreground": "ansi_black",
            "block-cursor-background": "ansi_cyan",
            "block-cursor-blurred-background": "ansi_default",
            "block-cursor-blurred-text-style": "underline",
            "screen-selection-background": "ansi_yellow",
            "screen-selection-foreground": "ansi_black",
            "input-selection-background": "ansi_yellow",
            "input-selection-foreground": "ansi_black",
            "ansi-background": "ansi_black",
            "ansi-foreground": "ansi_white",
        },
    )


def themes() -> tuple[Theme, ...]:
    """All of ours, the default first: register each with the app."""
    return (*(_theme(palette) for palette in (_DARK, _LIGHT, _CONTRAST)), _ansi())

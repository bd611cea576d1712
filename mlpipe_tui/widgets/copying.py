"""How a widget gives text away: it says what it is, the app knows where clipboards are (`mlpipe_tui.clipboard`)."""

from __future__ import annotations

from textual.message import Message


class Copy(Message):
    """Asks the app to copy a text, taken from the model and never from the screen."""

    def __init__(self, text: str, what: str) -> None:
        super().__init__()
        self.text = text
        self.what = what
        """For the toast: "3 lines", "row 17"."""

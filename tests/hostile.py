"""Text that tries to reach past the screen: what a log line, a name, a value or an error may contain."""

from __future__ import annotations

ESCAPES = (
    "\x1b[2J\x1b[H", "\x1b[31;5;7mred", "\x1b[?1049l", "\x1b[?25l", "\x1b[?1000h", "\x1b[?2004l", "\x1b[6n", "\x1b[c", "\x1b[>c", "\x1b[18t",
    "\x1b[20h", "\x1b[1;1r", "\x1b[9999B", "\x1b[9999;9999H", "\x1b]0;title\x07", "\x1b]2;title\x1b\\", "\x1b]52;c;cm0gLXJmIH4=\x07",
    "\x1b]52;c;?\x07", "\x1b]8;;http://evil.example\x1b\\link\x1b]8;;\x1b\\", "\x1b]10;?\x07", "\x1b]4;1;?\x07", "\x1b]1337;File=inline=1:AAAA\x07",
    "\x1b]777;notify;a;b\x07", "\x1b]9;4;1;50\x07", "\x1bP$qm\x1b\\", "\x1bP+q544e\x1b\\", "\x1b_Gf=100;AAAA\x1b\\", "\x1b^private\x1b\\", "\x1bc", "\x1b#8",
    "\x1b(0qqq", "\x1bZ", "\x1b=", "\x1bN\x1bO", "\x9b31m", "\x9d0;title\x9c", "\x90q\x9c", "\x85next", "\x84\x8d", "\x0e\x0f", "\x07\x07\x07", "a\x08\x08\x08b",
    "real\rfake", "\x0b\x0c", "\x00\x01\x02", "\x7f", "\x1b", "\x1b[", "\x1b]", "\x1b]52;c;", "\x1b[38;2;1;2", "\x1b[" + "9;" * 500 + "m", "\x1b[\x1b[31m",
)  # fmt: skip
MARKUP = (
    "[bold red]x[/]", "[/]", "[/bold]", "[@click=app.quit]x[/]", "[@click=app.bell()]press[/@click]", "[link=http://evil.example]x[/link]", "\\[b]", "[[b]]",
    "[b", "]", "[$error]x", "[on red]", "[not bold]", "$primary", "{0}{x}", "%s%n", ":smile:", "[reverse]", "[link='", "[a=b c=d]", "{{", "${HOME}",
)  # fmt: skip
SHAPES = (
    "\u202egnp.exe", "\u2066\u2067x\u2069", "\u200e\u200f", "a" + "\u0301" * 500, "\u0300" * 50, "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466" * 8,
    "\u6f22" * 50, "\u1160" * 30, "\ufeff\u200b\u2060", "\u2028para\u2029", "\ud800\udfff", "\udcff\udc80", "\ue000\uf8ff", "\U000e0041\U000e007f", "\ufffe\uffff",
    "\u2588" * 40, "tab\there", "line\nbreak\r\n", " " * 200, "", "x" * 30_000, "\uff21\uff22", "\U0001f1e9\U0001f1ea", "\u0e33" * 20, "\ufdfd" * 5, "\u115f",
)  # fmt: skip
ALL = (*ESCAPES, *MARKUP, *SHAPES)


def living(text: str) -> list[str]:
    """Characters of `text` that a terminal would act on, or that turn its direction."""
    return [
        character
        for character in text
        if ord(character) < 0x20
        or 0x7F <= ord(character) < 0xA0
        or character in "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    ]

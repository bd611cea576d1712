"""Keys are an interface: documented, changeable, and never two things at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlpipe_engine.config.project import load_config
from mlpipe_engine.errors import ConfigError
from tui.piloted import Desk, piloted
from tui.projects import small
from worlds import World

from mlpipe_tui import keymap

REPOSITORY = Path(__file__).resolve().parents[2]


def test_the_page_of_keys_is_made_from_the_bindings() -> None:
    assert (REPOSITORY / "docs/keys.md").read_text() == keymap.markdown(), "run python -m mlpipe_tui.keymap"


def test_ids_are_unique_and_every_binding_says_what_it_does() -> None:
    found = keymap.bindings()
    ids = [binding.id for _, _, _, binding in found if binding.id]
    assert len(ids) == len(set(ids)) > 40
    assert all(binding.description for _, _, _, binding in found if not binding.system)


def test_letters_that_move_never_mean_anything_else() -> None:
    moving = {"Up", "Down", "Left", "Right"}
    for title, _, _, binding in keymap.bindings():
        for key in binding.key.split(","):
            if key in "hjkl":
                assert binding.description in moving, f"{key} in {title}"


def test_no_key_means_two_things_in_one_place(world: World) -> None:
    """The check that `[keys]` goes through, for the keys as they are."""
    groups: dict[str, dict[str, str]] = {}
    for title, _, _, binding in keymap.bindings():
        for key in binding.key.split(","):
            assert key not in groups.setdefault(title, {}), f"{key} in {title}: {binding.description}"
            groups[title][key] = binding.description


@pytest.mark.parametrize(("text", "told"), [
    ('"pipeline.rum" = "f5"', "no key binding 'pipeline.rum'; did you mean 'pipeline.run'?"),
    ('"pipeline.run" = "p"', "the key 'p' would mean both"),
    ('"pipeline.run" = "q"', "'app.quit'"),
    ('"pipeline.run" = " "', "a text that is not empty"),
    ('"pipeline.run" = "a b"', "'a b' is no key"),
])  # fmt: skip
def test_what_is_wrong_with_keys_is_told(world: World, text: str, told: str) -> None:
    world.write("mlpipe.toml", f"[keys]\n{text}\n")
    with pytest.raises(ConfigError) as caught:
        keymap.check(load_config(str(world.root)))
    assert told in str(caught.value) and "mlpipe.toml:2" in str(caught.value)


def test_a_key_of_ones_own(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    small(world).write(
        "mlpipe.toml", '[keys]\n"pipeline.run" = "f6"\n[tui]\ntheme = "mlpipe-light"\nglyphs = "ascii"\nmouse = false\n'
    )
    keymap.check(load_config(str(world.root)))

    async def scenario(desk: Desk) -> None:
        await desk.wait("would run", "F6 Run")
        assert desk.app.theme == "mlpipe-light" and desk.app.ascii_only
        await desk.press("r")
        assert not desk.app.screen.is_modal
        await desk.press("f6")
        await desk.wait("Run churn")

    piloted(world.root, scenario)


@pytest.mark.parametrize(("text", "told"), [
    ('[tui]\ntheme = 3', "tui.theme"), ('[tui]\nglyphs = "emoji"', "one of auto, unicode, ascii"), ('[tui]\nmouse = "no"', "tui.mouse"),
    ('[tui]\ncolour = "x"', "unknown name 'colour'"), ("[keys]\na = 3", "keys.a"),
])  # fmt: skip
def test_tables_of_the_app_are_checked(world: World, text: str, told: str) -> None:
    world.write("mlpipe.toml", text + "\n")
    done = world.cli("runs")
    assert done.returncode == 2 and told in done.stderr

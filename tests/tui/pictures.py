"""Makes the pictures of the documentation, docs/pictures/*.svg, from the app itself: python tests/tui/pictures.py

tour.svg is a recording: one picture after another, with the keys that were pressed below, for ever. Nothing but a browser is needed to see it.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path
from xml.sax.saxutils import escape

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "engine"), str(REPOSITORY), str(REPOSITORY / "tests")]

from tui.piloted import Desk, piloted  # noqa: E402
from tui.projects import small  # noqa: E402
from worlds import World  # noqa: E402

from mlpipe_tui.screens.data import SqlBox  # noqa: E402

SECONDS = 3.5
"""So long each picture of the tour stands."""


def as_tour(pictures: list[tuple[str, str]]) -> str:
    """One SVG of (what was done, picture) that shows them in turn."""
    whole = SECONDS * len(pictures)
    width, height = (float(value) for value in re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', pictures[0][1]).groups())  # type: ignore[union-attr]
    share = 100 / len(pictures)
    style = (
        f".scene {{ visibility: hidden; animation: scene {whole:g}s step-end infinite; }}\n"
        f"@keyframes scene {{ 0% {{ visibility: visible; }} {share:.4f}% {{ visibility: hidden; }} }}\n"
        + "".join(f".scene-{at} {{ animation-delay: {at * SECONDS:g}s; }}\n" for at in range(len(pictures)))
    )
    sized = [re.sub(r"<svg ", f'<svg width="{width:g}" height="{height:g}" ', picture, count=1) for _, picture in pictures]
    scenes = "".join(
        f'<g class="scene scene-{at}">{sized[at]}<text x="12" y="{height + 24:.0f}" font-family="DejaVu Sans Mono, monospace" font-size="17"'
        f' fill="#4a6">{escape(told)}</text></g>\n'
        for at, (told, _) in enumerate(pictures)
    )
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height + 36:g}">\n<style>\n{style}</style>\n{scenes}</svg>\n'


def main() -> None:
    place = REPOSITORY / "docs" / "pictures"
    place.mkdir(exist_ok=True)
    os.environ["PYTHONPATH"] = str(REPOSITORY / "engine")

    tour: list[tuple[str, str]] = []

    def shot(desk: Desk) -> str:
        picture = desk.app.export_screenshot(title="mlpipe-tui", simplify=True)
        picture = re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL)  # nothing is fetched from anywhere
        return picture.replace("Fira Code", "DejaVu Sans Mono")

    def keep(desk: Desk, name: str) -> None:
        (place / f"{name}.svg").write_text(shot(desk), encoding="utf-8")

    def scene(desk: Desk, told: str) -> None:
        tour.append((told, shot(desk)))

    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_RUNTIME_DIR"] = os.environ["XDG_STATE_HOME"] = folder
        world = small(World(Path(folder) / "churn"))
        world.run()
        world.run(parameters={"rate": 2.0})
        world.run(parameters={"rate": 0.5}, force_steps=("profile",))
        world.write("src/train.py", (world.root / "src/train.py").read_text() + "\n")

        async def scenario(desk: Desk) -> None:
            await desk.wait("run 3 succeeded 4/4")
            scene(desk, "mlpipe-tui: the newest run, its steps on their rails")
            await desk.press("p", "down")
            await desk.wait("plan · 1 to run", "src/train.py +1 -0", "Undo")
            keep(desk, "plan")
            scene(desk, "p: what the next run would do, and why")
            await desk.press("r")
            await desk.wait("Run churn", "1 to run")
            keep(desk, "form")
            scene(desk, "r: its parameters, its cost, what is reused; Enter starts it")
            await desk.press("escape", "escape")
            await desk.wait("run 3 succeeded ·", gone="plan ·")
            await desk.press("right_square_bracket", "right_square_bracket")
            await desk.wait("[Metrics]", "least", "auc 0.5")
            keep(desk, "pipeline")
            scene(desk, "]: why, log, metrics, inputs and outputs, code, environment of a step")
            await desk.press("2", "end", "b", "home", "right_square_bracket")
            await desk.wait("(baseline)", "Against run 1")
            keep(desk, "runs")
            scene(desk, "2: all runs, and what made each of them another")
            await desk.press("home", "down", "space", "end", "space", "c")
            await desk.wait("Compare 2 runs", "rate")
            scene(desk, "Space, c: two runs side by side, only what differs")
            await desk.press("3")
            await desk.wait("clean/cleaned", "row 1 of")
            keep(desk, "data")
            scene(desk, "3: sources, datasets and what every step wrote, as tables")
            await desk.press("S")
            desk.app.query_one(SqlBox).text = "SELECT a, b, a * b AS product FROM cleaned"
            await desk.press("enter")
            await desk.wait("SQL result", "product")
            scene(desk, "S: SQL over all of them")

        piloted(world.root, scenario, size=(100, 30))
        (place / "tour.svg").write_text(as_tour(tour), encoding="utf-8")


if __name__ == "__main__":
    main()

"""Makes the pictures of the documentation, docs/pictures/*.svg, from the app itself: python tests/tui/pictures.py"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "engine"), str(REPOSITORY), str(REPOSITORY / "tests")]

from tui.piloted import Desk, piloted  # noqa: E402
from tui.projects import small  # noqa: E402
from worlds import World  # noqa: E402


def main() -> None:
    place = REPOSITORY / "docs" / "pictures"
    place.mkdir(exist_ok=True)
    os.environ["PYTHONPATH"] = str(REPOSITORY / "engine")

    def keep(desk: Desk, name: str) -> None:
        picture = desk.app.export_screenshot(title="mlpipe-tui", simplify=True)
        picture = re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL)  # nothing is fetched from anywhere
        (place / f"{name}.svg").write_text(picture.replace("Fira Code", "DejaVu Sans Mono"), encoding="utf-8")

    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_RUNTIME_DIR"] = os.environ["XDG_STATE_HOME"] = folder
        world = small(World(Path(folder) / "churn"))
        world.run()
        world.run(parameters={"rate": 2.0})
        world.run(parameters={"rate": 0.5}, force_steps=("profile",))
        world.write("src/train.py", (world.root / "src/train.py").read_text() + "\n")

        async def scenario(desk: Desk) -> None:
            await desk.wait("run 3 succeeded 4/4")
            await desk.press("p", "down")
            await desk.wait("plan · 1 to run", "src/train.py +1 -0", "Undo")
            keep(desk, "plan")
            await desk.press("r")
            await desk.wait("Run churn", "1 to run")
            keep(desk, "form")
            await desk.press("escape", "escape")
            await desk.wait("run 3 succeeded ·", gone="plan ·")
            await desk.press("right_square_bracket", "right_square_bracket")
            await desk.wait("[Metrics]", "least", "auc 0.5")
            keep(desk, "pipeline")
            await desk.press("2", "end", "b", "home", "right_square_bracket")
            await desk.wait("(baseline)", "Against run 1")
            keep(desk, "runs")

        piloted(world.root, scenario, size=(100, 30))


if __name__ == "__main__":
    main()

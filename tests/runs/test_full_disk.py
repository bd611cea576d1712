"""A full disk: one line, exit 4, nothing half-written; with space back the same command ends well."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from worlds import World

SCRIPT = """
mount -t tmpfs -o size=2m none "$1" && cd "$1" && cp "$2"/* . && shift 2 || exit 99
"$@" >first.out 2>/tmp/first.$$; echo "first $?"; cat /tmp/first.$$; rm /tmp/first.$$
rm -f ballast
"$@" --param blocks=1; echo "second $?"
"$@" --param blocks=1; echo "third $?"
"""


@pytest.mark.needs("unshare")
def test_a_full_disk_is_told_in_one_line_and_the_next_run_ends_well(world: World, tmp_path: Path) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    world.write("ballast", b"0" * 700_000)
    world.define("""
o, q = PipelineData("o"), PipelineData("q")
n = PipelineParameter("blocks", 40)
p = Pipeline(ws, [CommandStep(["dd", "if=/dev/zero", "bs=50000", f"of={o}", "status=none", "count=1"], name="first", outputs=[o]),
    CommandStep(["sh", "-c", 'dd if=/dev/zero bs=50000 status=none count=$0 of=$1', n, q], name="second", outputs=[q])], name="p")
""")
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", SCRIPT, "sh", mount, world.root, *world.command("run")],
        env=world.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "first 1" in done.stdout or "first 4" in done.stdout, done.stdout + done.stderr
    assert "No space left on device" in done.stdout
    assert "second 0" in done.stdout and "third 0" in done.stdout, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr

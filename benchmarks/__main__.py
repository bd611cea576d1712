"""python3 dev.py bench [NAMES] [--quick] [--json FILE]"""

from __future__ import annotations

import sys

from benchmarks import command

if __name__ == "__main__":
    sys.exit(command.main(sys.argv[1:]))

"""The composition root: wires the adapters of one project and offers the verbs that every edge uses.

`project` holds the wiring; `reading`, `upkeep`, `running`, `experiments`, `datasets` and `watching` each add the verbs of one concern.
"""

from __future__ import annotations

from mlpipe_engine.engine.watching import WatchVerbs


class Engine(WatchVerbs):
    """One project, with all its verbs. One thread at a time per Engine.

    Reading verbs create nothing; a project without a store simply has no runs.
    """

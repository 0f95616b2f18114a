"""A long run against a model in its own process. Arguments: root, then those of `nexa`.

Writes `memory` (calls answered, resident bytes; a line per committed shard) and `first` (seconds from
the start to the first request) into the root.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

BEGAN = time.monotonic()
ROOT = Path(sys.argv[1])
PAGE = os.sysconf("SC_PAGE_SIZE")

PLUGIN = """
from nexa_core import ModelSpec, hookimpl
from nexa_core.testing.models import ScriptedRemote

TEXT = "The specimen expands slightly, so the gap has to be measured again. " * 6
asked = []

def answer(request):
    if not asked:
        asked.append(1)
        import growing
        growing.note_first()
    return TEXT + request.id

@hookimpl
def register_models():
    return [ModelSpec("scripted", "answers by a script", build=lambda role: Quiet(answer))]

class Quiet(ScriptedRemote):
    async def _wait(self, request):
        pass
"""


def note_first() -> None:
    (ROOT / "first").write_text(f"{time.monotonic() - BEGAN:.3f}")


def read_resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def main() -> int:
    from nexa_core.cli.app import run_command
    from nexa_core.engine.unit import Unit

    sys.modules["growing"] = sys.modules["__main__"]
    (ROOT / "plugins").mkdir(exist_ok=True)
    (ROOT / "plugins" / "scripted_plugin.py").write_text(PLUGIN)
    commit, answered = Unit.commit, [0]

    async def note(self: Unit, *work: Any) -> Any:
        entry = await commit(self, *work)
        answered[0] += sum(entry.rows.values())
        with (ROOT / "memory").open("a") as file:
            file.write(f"{answered[0]} {read_resident()}\n")
        return entry

    Unit.commit = note  # type: ignore[method-assign]
    return run_command(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())

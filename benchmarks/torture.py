"""Everything that is done to nexa to see whether it keeps its promises; writes docs/torture.md.

    python benchmarks/torture.py [--size ci|nightly] [--only ITEM …]

`ci` takes at most ten minutes on two cores; `nightly` is what is asked. Findings of single items take the place
of older ones in the page. Exit code 1 where something did not hold.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from torture import finding
from torture.collecting import Shape
from torture.finding import Finding

Item = Callable[[Path, bool], Finding]


def kills(folder: Path, nightly: bool) -> Finding:
    from torture.kills import kill_at_random

    shape = Shape(20_000, 1_000) if nightly else Shape(8_000, 500)
    return kill_at_random(folder, 200 if nightly else 25, shape)


def points(folder: Path, nightly: bool) -> Finding:
    from torture.kills import kill_at_points

    return kill_at_points(folder, 10 if nightly else 2)


def cuts(folder: Path, _nightly: bool) -> Finding:
    from torture.journals import cut_everywhere

    return cut_everywhere(folder, 65_536)


def flips(folder: Path, _nightly: bool) -> Finding:
    from torture.journals import flip_every_bit

    return flip_every_bit(folder, 4_096)


def disks(folder: Path, nightly: bool) -> Finding:
    from torture.disks import fill_disk

    return fill_disk(folder, 20 if nightly else 5)


def syncs(folder: Path, nightly: bool) -> Finding:
    from torture.disks import fail_syncs

    return fail_syncs(folder, 20 if nightly else 5)


def budgets(folder: Path, nightly: bool) -> Finding:
    from torture.money import try_budgets

    return try_budgets(folder, 1_000 if nightly else 300)


def limits(folder: Path, nightly: bool) -> Finding:
    from torture.limits import follow_capacity

    return follow_capacity(folder, 60 if nightly else 25)


def clocks(folder: Path, nightly: bool) -> Finding:
    from torture.clocks import jump_while_collecting

    return jump_while_collecting(folder, 3 if nightly else 1)


def owners(folder: Path, nightly: bool) -> Finding:
    from torture.owners import refuse_seconds

    return refuse_seconds(folder, 10 if nightly else 4)


ITEMS: dict[str, Item] = {
    one.__name__: one
    for one in (kills, points, cuts, flips, disks, syncs, budgets, limits, clocks, owners)
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=["ci", "nightly"], default="ci")
    parser.add_argument("--only", nargs="+", choices=sorted(ITEMS), default=list(ITEMS))
    chosen = parser.parse_args()
    held = True
    for name in chosen.only:
        folder, started = Path(tempfile.mkdtemp(prefix="torture-")), time.monotonic()
        try:
            found = ITEMS[name](folder, chosen.size == "nightly")
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        seconds = time.monotonic() - started
        found = replace(found, size=chosen.size, seconds=seconds, at=finding.now())
        finding.keep(found)
        finding.write_page(ORDER)
        held &= found.held
        print(
            f"{'held' if found.held else 'NOT HELD'}  {found.item}  ({seconds:.0f} s): {found.measured}"
        )
    sys.exit(0 if held else 1)


ORDER = (
    *("random kills", "kills at named points", "journal cut at every byte", "every bit flipped"),
    *("full disk", "failing fsync", "hard budget", "capacity steps", "clock jumps", "two owners"),
)

if __name__ == "__main__":
    main()

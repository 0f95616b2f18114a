"""Named points at which a test may kill the process or make the disk fail; nothing happens in use.

`NEXA_CORE_FAILPOINT=name[=kill|enospc|eio][:nth[+]]`, several separated by commas: the nth pass
(default 1) of the point acts, with a `+` every later one too.
"""

from __future__ import annotations

import errno
import os
import re
import signal
from dataclasses import dataclass

__all__ = ["arm", "failpoint"]

VARIABLE = "NEXA_CORE_FAILPOINT"
_ERRORS = {"enospc": errno.ENOSPC, "eio": errno.EIO}
_POINT = re.compile(r"(?P<name>[a-z-]+)(=(?P<action>kill|enospc|eio))?(:(?P<nth>\d+)(?P<on>\+?))?")


@dataclass
class _Point:
    action: str
    nth: int
    on: bool
    passes: int = 0

    def acts(self) -> bool:
        self.passes += 1
        return self.passes == self.nth or (self.on and self.passes > self.nth)


_points: dict[str, _Point] = {}


def failpoint(name: str) -> None:
    """Do nothing, unless the point is armed: then die by SIGKILL or raise the OSError asked for."""
    if _points:
        _pass_point(name)


def arm(text: str) -> None:
    """Arm exactly the points that `text` names; an empty text disarms all.

    Raises:
        ValueError: the text is not of the form above.
    """
    points = {}
    for part in filter(None, text.split(",")):
        match = _POINT.fullmatch(part.strip())
        if match is None:
            raise ValueError(f"'{part}' is no failpoint: write name[=kill|enospc|eio][:nth[+]]")
        nth = int(match["nth"] or 1)
        points[match["name"]] = _Point(match["action"] or "kill", nth, bool(match["on"]))
    _points.clear()
    _points.update(points)


def _pass_point(name: str) -> None:
    point = _points.get(name)
    if point is None or not point.acts():
        return
    if point.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    code = _ERRORS[point.action]
    raise OSError(code, os.strerror(code))


arm(os.environ.get(VARIABLE, ""))

"""A rule of the gate drawn: as a line with its bounds, and as a chart over the rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from textual.content import Content

from nexa_core.figures import show_count, show_share
from nexa_core.phrases import show_bounds, show_counted, show_rule, show_value, show_verdict
from nexa_core.tui.ink import BLANK, columns, fit, ink, style_of

if TYPE_CHECKING:  # what measures loads numpy, and the first screen does not wait for it
    from nexa_core.actions.gauging import Gauge, Gauges, Point

__all__ = ["draw_bar", "draw_chart", "draw_checks"]

FAINT = "$foreground 25%"
DIM = "$foreground 60%"
WIDE = 100
"""From here on the bounds are written too."""
TAIL = 10


def draw_checks(gauges: Sequence[Gauge], width: int) -> list[Content]:
    """A line for each rule: what it wants, k/n, value, bounds against the threshold, verdict."""
    rows = [_cells(gauge.check.as_json()) for gauge in gauges]
    shown = 5 if width >= WIDE else 4
    widths = [max((len(row[at]) for row in rows), default=0) for at in range(shown)]
    widths[0] = min(widths[0], max(14, width // 4))
    room = max(8, width - sum(widths) - 2 * (shown + 1) - TAIL)
    styles = ("", DIM, "", "", DIM)
    lines = []
    for gauge, row in zip(gauges, rows, strict=True):
        check = gauge.check.as_json()
        cells: list[tuple[object, int, str, bool]] = [
            (row[at], widths[at], styles[at], at >= 2) for at in range(shown)
        ]
        cells.append((draw_bar(check, gauge.limit, room), room, "", False))
        cells.append((_tell_verdict(check), TAIL, style_of(check["verdict"]), False))
        lines.append(columns(cells))
    return lines


def _cells(check: Mapping[str, Any]) -> tuple[str, ...]:
    soft = "" if check.get("hard", True) else " (soft)"
    return (
        f"{check['metric']}{soft}",
        show_rule(check),
        show_counted(check),
        show_value(check),
        show_bounds(check),
    )


def _tell_verdict(check: Mapping[str, Any]) -> str:
    """The verdict; of an open rule how many rows more may decide it."""
    verdict = show_verdict(str(check["verdict"]))
    more = check.get("rows_likely") or check.get("rows_needed")
    return f"+{show_count(more)} rows" if verdict == "open" and more else verdict


def draw_bar(check: Mapping[str, Any], limit: float, width: int) -> Content:
    """Between what the true rate lies, against the threshold; the dot is what was measured."""
    n, k = check["n"], check["k"]
    if check.get("aggregate") == "mean" or not n:
        return ink(("·" * width, FAINT))
    lower, upper = check.get("lower"), check.get("upper")
    share = k / n
    low, high = _span(check["rule"], limit, [share if upper is None else upper], [lower or share])
    style = style_of(check["verdict"])

    def cell(value: float) -> int:
        return max(0, min(width - 1, int((value - low) / (high - low) * (width - 1) + 0.5)))

    marks = [("·", FAINT)] * width
    if lower is not None and upper is not None:
        for at in range(cell(lower), cell(upper) + 1):
            marks[at] = ("━", style)
    marks[cell(limit)] = ("┃", "$foreground")
    marks[cell(share)] = ("●", style)
    return ink(*marks)


def _span(
    rule: str, limit: float, uppers: Sequence[float], lowers: Sequence[float]
) -> tuple[float, float]:
    """The rates that a drawing reaches over: the threshold well inside, far outliers cut off."""
    if rule == "at_least":
        return max(0.0, min(limit - 2 * (1 - limit), *lowers)), 1.0
    if rule == "equals":
        return 0.0, max(0.01, *uppers) if limit == 0 else 1.0
    return 0.0, min(1.0, max(4 * limit, *uppers))


def draw_chart(
    metric: str, units: Sequence[tuple[str, Gauges]], width: int, height: int
) -> list[Content]:
    """A rule over the rows of each unit: what was measured, its bounds, and the threshold.

    `units` are (label, gauges) in the order of time; each has its own rows, because a change of
    parameters begins a new count.
    """
    found = [(label, gauges.rows, g) for label, gauges in units if (g := _find(gauges, metric))]
    points = [p for _, _, gauge in found for p in gauge.track if p.value is not None]
    if not points or height < 3:
        return [BLANK] * max(0, height)
    rule, limit = found[-1][2].check.rule, found[-1][2].limit
    ends = [gauge.track[-1] for _, _, gauge in found]
    # The first bounds of a unit reach over everything; the last say what it came to.
    low, high = _span(rule, limit, [_or(p.upper, p) for p in ends], [_or(p.lower, p) for p in ends])
    room = width - 8
    widths = _share_out([len(gauge.track) for _, _, gauge in found], room)
    rows = height - 1
    grid = [
        Content("").join(
            [
                _label(row, rows, low, high, limit),
                *_joined(
                    [
                        _draw_row(
                            gauge.track, str(gauge.check.verdict), row, rows, low, high, limit, w
                        )
                        for (_, _, gauge), w in zip(found, widths, strict=True)
                    ]
                ),
            ]
        )
        for row in range(rows)
    ]
    feet = [
        fit(ink((f"{label} ", DIM), (f"{show_count(n)} rows", FAINT)), w)
        for (label, n, _), w in zip(found, widths, strict=True)
    ]
    return [*grid, Content("").join([Content(" " * 8), *_joined(feet, " ")])]


def _find(gauges: Gauges, metric: str) -> Gauge | None:
    return next((g for g in gauges.gauges if g.check.metric == metric and g.track), None)


def _or(bound: float | None, point: Point) -> float:
    return bound if bound is not None else point.value or 0.0


def _joined(parts: Sequence[Content], mark: str = "┊") -> list[Content]:
    """Parts with a mark between them, which takes the last cell of the one before."""
    joined: list[Content] = []
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        joined += [part] if last else [part.truncate(part.cell_length - 1), ink((mark, FAINT))]
    return joined


def _share_out(counts: Sequence[int], room: int) -> list[int]:
    """Cells for each unit by its number of points, at least twelve where that can be."""
    least = min(12, room // len(counts))
    left, total = room - least * len(counts), sum(counts)
    widths = [least + left * count // total for count in counts]
    widths[-1] += room - sum(widths)
    return widths


def _label(row: int, rows: int, low: float, high: float, limit: float) -> Content:
    """What a line of the chart stands for: the ends, and the threshold."""
    if row == _row_of(limit, rows, low, high):
        return ink((f"{show_share(limit):>7} ", "bold"))
    value = high if row == 0 else low if row == rows - 1 else None
    return ink((f"{'' if value is None else show_share(value):>7} ", DIM))


def _row_of(value: float, rows: int, low: float, high: float) -> int:
    share = (value - low) / (high - low) if high > low else 0.0
    return max(0, min(rows - 1, round((1 - share) * (rows - 1))))


def _draw_row(
    track: Sequence[Point],
    verdict: str,
    row: int,
    rows: int,
    low: float,
    high: float,
    limit: float,
    width: int,
) -> Content:
    marks: list[tuple[str, str]] = []
    at_limit = row == _row_of(limit, rows, low, high)
    for column in range(width):
        point = track[min(len(track) - 1, column * len(track) // width)]
        if point.value is None:
            marks.append((" ", ""))
            continue
        top, bottom = (_row_of(_or(b, point), rows, low, high) for b in (point.upper, point.lower))
        if row == _row_of(point.value, rows, low, high):
            marks.append(("━", style_of(verdict)))
        elif at_limit:
            marks.append(("─", "$foreground"))
        elif top <= row <= bottom:
            marks.append(("░", f"{style_of(verdict)} 60%"))
        else:
            marks.append((" ", ""))
    return ink(*marks)

"""The report's drawings: a check against its threshold, a share of a whole, a curve, differences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cache

from markupsafe import Markup

from nexa_core.report.figures import show_number, show_points
from nexa_core.report.svg import draw, element, place_text

__all__ = [
    "choose_span",
    "draw_axis",
    "draw_check",
    "draw_curve",
    "draw_difference",
    "draw_difference_axis",
    "draw_part",
    "draw_sign",
    "place_share",
]

WIDTH = 260.0
MARGIN = 8.0
TICKS = (0.0, 0.05, 0.2, 0.5, 0.8, 0.95, 1.0)
SIGNS = {
    "PASS": ("circle", "M4.6 8.2 7 10.6 11.4 5.8"),
    "FAIL": ("square", "M5.4 5.4 10.6 10.6M10.6 5.4 5.4 10.6"),
    "INCONCLUSIVE": ("triangle", "M8 6.2V9.4M8 11.3V11.6"),
    "PROCEED": ("circle", "M6.6 4.8 10 8 6.6 11.2"),
    "ITERATE": ("square", "M11.2 8A3.2 3.2 0 1 1 9.6 5.2M9.4 3.6V5.6H11.4"),
    "EXTEND": ("triangle", "M8 6.4V11.2M5.6 8.8H10.4"),
    "STOP": ("square", "M5.8 5.8H10.2V10.2H5.8Z"),
}
SHAPES = {
    "circle": "M8 1A7 7 0 1 1 8 15A7 7 0 1 1 8 1Z",
    "square": "M2.5 1.5H13.5Q14.5 1.5 14.5 2.5V13.5Q14.5 14.5 13.5 14.5H2.5Q1.5 14.5 1.5 13.5V2.5Q1.5 1.5 2.5 1.5Z",
    "triangle": "M8 1.2 15.2 14.3H0.8Z",
}


@cache
def draw_sign(word: str) -> Markup:
    """The sign of a verdict or decision: its shape says the word again without colour."""
    shape, path = SIGNS.get(word, ("circle", ""))
    return element(
        "svg",
        element("path", d=SHAPES[shape], class_="sign-shape"),
        element("path", d=path, class_="sign-mark"),
        viewBox="0 0 16 16",
        width=16,
        height=16,
        class_="sign",
        aria_hidden="true",
    )


def place_share(share: float) -> float:
    """Where a share stands on the axis: arcsine scale, which opens both ends, where rules lie."""
    inner = WIDTH - 2 * MARGIN
    return MARGIN + inner * math.asin(math.sqrt(min(max(share, 0.0), 1.0))) / (math.pi / 2)


@cache
def draw_axis() -> Markup:
    """The axis above a column of checks."""
    parts = []
    for tick in TICKS:
        shown = f"{100 * tick:.0f}" + (" %" if tick == 1.0 else "")
        anchor = "end" if tick == 1.0 else "middle"
        at = WIDTH if tick == 1.0 else place_share(tick)
        parts.append(place_text(at, 11, shown, text_anchor=anchor, class_="tick"))
    return draw(WIDTH, 14, "Axis from 0 % to 100 %, wider at both ends", *parts, class_="check-bar")


def draw_check(
    label: str,
    verdict: str,
    allowed: tuple[float, float],
    threshold: float | None,
    value: float | None,
    interval: tuple[float, float] | None,
) -> Markup:
    """A measured share against its rule: the shaded side holds, the line is the threshold.

    The bar is the interval that the evidence leaves, the dot what was measured.
    """
    low, high = place_share(allowed[0]), place_share(allowed[1])
    parts = [
        element("rect", x=MARGIN, y=4, width=WIDTH - 2 * MARGIN, height=18, class_="ground"),
        element("rect", x=low, y=4, width=max(high - low, 0), height=18, class_="allowed"),
        *(_tick_line(tick) for tick in TICKS[1:-1]),
    ]
    if interval is not None:
        start, end = place_share(interval[0]), place_share(interval[1])
        width = max(end - start, 2.0)
        parts.append(
            element(
                "rect", x=start, y=9.5, width=width, height=7, rx=1.5, class_=f"interval {verdict}"
            )
        )
    if threshold is not None:
        at = place_share(threshold)
        parts.append(element("line", x1=at, x2=at, y1=0.5, y2=25.5, class_="threshold"))
    if value is not None:
        parts.append(element("circle", cx=place_share(value), cy=13, r=4.2, class_="value"))
    return draw(WIDTH, 26, label, *parts, class_="check-bar")


@cache
def _tick_line(share: float) -> Markup:
    at = place_share(share)
    return element("line", x1=at, x2=at, y1=4, y2=22, class_="tick-line")


def draw_part(label: str, start: float, size: float, whole: float, kind: str) -> Markup:
    """A part of a whole as a bar from `start`, in the whole's unit; it stretches to its cell."""
    scale = 1000.0 / whole if whole > 0 else 0.0
    width = max(size * scale, 3.0 if size > 0 else 0.0)
    left = min(start * scale, 1000.0 - width)
    bar = element("rect", x=left, y=0, width=width, height=16, class_=f"part {kind}")
    ground = element("rect", x=0, y=0, width=1000, height=16, class_="ground")
    return draw(1000, 16, label, ground, bar, stretch=True, class_="part-bar")


def choose_span(bounds: Iterable[float]) -> float:
    """A round half-width of an axis around zero that holds every bound, at most 1."""
    largest = max((abs(bound) for bound in bounds), default=1.0)
    return next((span for span in (0.1, 0.2, 0.4) if largest <= span), 1.0)


def draw_difference_axis(span: float) -> Markup:
    """The axis above a column of differences, in percentage points from -span to span."""
    parts = [
        place_text(_place(share * span, span), 11, shown, text_anchor="middle", class_="tick")
        for share, shown in (
            (-0.5, f"−{50 * span:g}"),
            (0.0, "0"),
            (0.5, f"+{50 * span:g}"),
        )
    ]
    label = f"Axis from −{100 * span:g} to +{100 * span:g} points"
    return draw(WIDTH, 14, label, *parts, class_="check-bar")


def draw_difference(label: str, delta: float, low: float, high: float, span: float) -> Markup:
    """A difference with its interval against zero."""
    start, end, zero = _place(low, span), _place(high, span), _place(0.0, span)
    kind = "PASS" if low > 0 else "FAIL" if high < 0 else "INCONCLUSIVE"
    return draw(
        WIDTH,
        26,
        f"{label}: {show_points(delta)} points, between {show_points(low)} and {show_points(high)}",
        element("rect", x=MARGIN, y=4, width=WIDTH - 2 * MARGIN, height=18, class_="ground"),
        element(
            "rect", x=start, y=9.5, width=max(end - start, 2), height=7, class_=f"interval {kind}"
        ),
        element("line", x1=zero, x2=zero, y1=0.5, y2=25.5, class_="threshold"),
        element("circle", cx=_place(delta, span), cy=13, r=4.2, class_="value"),
        class_="check-bar",
    )


def _place(delta: float, span: float) -> float:
    return MARGIN + (WIDTH - 2 * MARGIN) * (min(max(delta / span, -1.0), 1.0) + 1) / 2


LEFT, RIGHT, TOP, BOTTOM = 52.0, 14.0, 12.0, 34.0
CURVE = (760.0, 240.0)
Points = Sequence[tuple[float, float]]


def draw_curve(label: str, line: Points, dots: Points = ()) -> Markup:
    """Values over steps as a line, and others (validation) as squares; the value axis begins at 0."""
    width, height = CURVE
    every = [*line, *dots]
    last = max((x for x, _ in every), default=1.0) or 1.0
    ticks = _choose_ticks(max((y for _, y in every), default=1.0))

    def locate(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (width - LEFT - RIGHT) * x / last
        return across, height - BOTTOM - (height - TOP - BOTTOM) * y / ticks[-1]

    grid = [part for tick in ticks for part in _grid_line(locate(0, tick)[1], tick, width)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (locate(*point) for point in line))
    marks = [
        element("rect", x=x - 4, y=y - 4, width=8, height=8, class_="curve-dot")
        for x, y in (locate(*point) for point in dots)
    ]
    steps = _label_steps(last, height, locate)
    curve = element("polyline", points=path, class_="curve")
    return draw(width, height, label, *grid, *steps, curve, *marks, class_="plot")


def _label_steps(last: float, height: float, locate: object) -> Iterable[Markup]:
    assert callable(locate)
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, _ = locate(last * share, 0.0)
        shown = f"{last * share:,.0f}" if share else "step 0"
        anchor = "start" if share == 0 else "end" if share == 1 else "middle"
        yield place_text(x, height - 12, shown, text_anchor=anchor, class_="tick")


def _grid_line(y: float, value: float, width: float) -> Iterable[Markup]:
    yield element("line", x1=LEFT, x2=width - RIGHT, y1=y, y2=y, class_="grid")
    yield place_text(LEFT - 8, y + 4, show_number(value), text_anchor="end", class_="tick")


def _choose_ticks(highest: float) -> list[float]:
    """Round values from 0 to at least `highest`, four to six of them."""
    if not math.isfinite(highest) or highest <= 0:
        return [0.0, 1.0]
    rough = highest / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(s * power for s in (1, 2, 2.5, 5, 10) if s * power >= rough)
    return [step * i for i in range(math.ceil(highest / step - 1e-9) + 1)]

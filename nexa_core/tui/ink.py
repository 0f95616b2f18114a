"""Text as the screens draw it: visible, inert, in the few styles there are, cut and set by cells.

Every text of a run, a model or a file comes onto a screen through `ink`; markup is never read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from textual.content import Content, Span

from nexa_core.visible import fold_visible

__all__ = ["BLANK", "bar", "columns", "ends", "fit", "ink", "stack", "style_of", "wrap"]

BLANK = Content("")
LONGEST = 2_000
"""Characters of one part of a line; more would be wider than any screen."""

_STYLES = {
    "PASS": "$success",
    "FAIL": "$error",
    "INCONCLUSIVE": "$warning",
    "open": "$warning",
    "PROCEED": "bold $success",
    "ITERATE": "bold $warning",
    "EXTEND": "bold $accent",
    "STOP": "bold $error",
    "accepted": "$success",
    "rejected": "$warning",
    "failed": "$error",
    "surplus": "$foreground 60%",
    "done": "$success",
    "running": "bold $accent",
    "waiting": "bold $warning",
    "short": "$warning",
    "stopped": "$warning",
    "budget": "$warning",
    "interrupted": "$warning",
    "unreadable": "$error",
}


def style_of(word: object) -> str:
    """The style of a verdict, decision, state or status; none for other words."""
    return _STYLES.get(str(word), "")


def ink(*parts: object) -> Content:
    """Parts on one line, one after the other; a pair is (text, style), Content stays as it is."""
    texts: list[str] = []
    spans: list[Span] = []
    length = 0
    for part in parts:
        if isinstance(part, Content):
            text = part.plain
            spans += [Span(s.start + length, s.end + length, s.style) for s in part.spans]
        elif isinstance(part, tuple):
            text = fold_visible(part[0], LONGEST)
            if part[1]:
                spans.append(Span(length, length + len(text), str(part[1])))
        else:
            text = fold_visible(part, LONGEST)
        texts.append(text)
        length += len(text)
    return Content("".join(texts), spans, strip_control_codes=False)


def fit(part: object, width: int, style: str = "", *, right: bool = False) -> Content:
    """A part in exactly `width` cells: cut with … where it is longer, filled up where it is shorter."""
    made = part if isinstance(part, Content) else ink((part, style))
    if made.cell_length > width:
        made = made.truncate(width, ellipsis=True)
    room = width - made.cell_length
    return made.pad_left(room) if right else made.pad_right(room)


def ends(left: Content, right: Content, width: int) -> Content:
    """Two texts at the two ends of a line; the left one gives way."""
    if right.cell_length + 2 > width:
        return fit(left, width)
    return ink(fit(left, width - right.cell_length - 1), " ", right)


def stack(lines: Iterable[Content]) -> Content:
    """Lines one under the other."""
    return Content("\n").join(lines)


def wrap(text: str, width: int, most: int | None = None) -> list[Content]:
    """A text folded at words into lines of `width` cells; at most so many, the last then ends in …."""
    from nexa_core.tui.folding import fold_text

    if most is not None:  # no more than can be shown is looked at, and a little
        text = text[: 4 * (most + 1) * max(width, 20)]
    # A number and its unit stay on one line.
    lines = fold_text(text.replace(" %", "\u00a0%"), width)
    if most is None or len(lines) <= most:
        return [Content(line) for line in lines]
    last = fit(f"{lines[most - 1]} {lines[most]}"[: width * 2], width)
    return [*(Content(line) for line in lines[: most - 1]), last]


def bar(done: float, goal: float | None, width: int) -> Content:
    """How far something is on its way."""
    share = min(1.0, done / goal) if goal else 0.0
    filled = int(share * width)
    return ink(("━" * filled, "$accent"), ("─" * (width - filled), "$foreground 25%"))


def columns(cells: Sequence[tuple[object, int, str, bool]]) -> Content:
    """Cells of one line: (text, width, style, to the right), two cells apart."""
    parts: list[object] = []
    for text, width, style, right in cells:
        parts += ["  " if parts else "", fit(text, width, style, right=right)]
    return ink(*parts)

"""Elements of inline SVG, escaped as they are made; no drawing holds a link, a style or a script."""

from __future__ import annotations

from markupsafe import Markup, escape

from nexa_core.visible import make_visible

__all__ = ["draw", "element", "place_text"]

Value = str | float | None


def element(name: str, *children: str, **attributes: Value) -> Markup:
    """One element; `class_` is written `class`, `text_anchor` `text-anchor`; None is left out."""
    written = "".join(
        f' {_attribute(key)}="{escape(_write(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inner = "".join(escape(child) for child in children)
    return Markup(f"<{name}{written}>{inner}</{name}>")  # noqa: S704 - escaped piece by piece


def draw(
    width: float, height: float, label: str, *children: Markup, stretch: bool = False, **more: Value
) -> Markup:
    """A drawing that says in `label` what it shows; with `stretch` it fills the width it is given."""
    title = element("title", make_visible(label))
    return element(
        "svg",
        title,
        *children,
        viewBox=f"0 0 {_write(width)} {_write(height)}",
        role="img",
        preserveAspectRatio="none" if stretch else None,
        **more,
    )


def place_text(x: float, y: float, text: str, **more: Value) -> Markup:
    """A line of text."""
    return element("text", make_visible(text), x=x, y=y, **more)


def _attribute(key: str) -> str:
    if key in ("viewBox", "preserveAspectRatio"):
        return key
    return key.rstrip("_").replace("_", "-")


def _write(value: Value) -> str:
    if isinstance(value, int | float):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return "" if value is None else make_visible(value)

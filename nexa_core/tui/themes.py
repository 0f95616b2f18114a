"""The colours of the screens: one accent, and a colour each for good, undecided and bad."""

from __future__ import annotations

from textual.theme import Theme

__all__ = ["THEME"]

THEME = Theme(
    name="nexa",
    primary="#56b6c2",
    secondary="#56b6c2",
    accent="#56b6c2",
    foreground="#d5d9de",
    background="#0f1317",
    surface="#0f1317",
    panel="#181e24",
    success="#8cc570",
    warning="#d9a55b",
    error="#e0707a",
    variables={"footer-key-foreground": "#56b6c2", "footer-background": "#181e24"},
)

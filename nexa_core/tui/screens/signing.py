"""A person's decision: to proceed, to iterate with other parameters, or to stop; with a reason, signed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Input, Label, Static

from nexa_core.errors import NexaError
from nexa_core.figures import show_number
from nexa_core.tui.ink import BLANK, ink, stack, style_of
from nexa_core.tui.screens.dialog import Dialog
from nexa_core.tui.widgets.record import describe_space
from nexa_core.visible import make_visible

if TYPE_CHECKING:
    from nexa_core.tui.app import NexaApp

__all__ = ["SigningDialog"]

DIM = "$foreground 60%"
DECISIONS = ("PROCEED", "ITERATE", "STOP")
TOLD = {
    "PROCEED": "scale with these parameters",
    "ITERATE": "another pilot, with the parameters below",
    "STOP": "end the run here",
}
UNCHANGED = (
    "ITERATE changes nothing: another pilot would measure the same again. "
    "Give one of the parameters above another value."
)


class SigningDialog(Dialog[bool]):
    """Asks for everything that a signature needs, says what it does, and signs."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "sign", "Sign", priority=True),
        Binding("ctrl+d", "decide", "Other decision", priority=True),
        Binding("up", "app.focus_previous", "Up", show=False),
        Binding("down", "app.focus_next", "Down", show=False),
    ]

    def __init__(
        self, review: Mapping[str, Any], decision: str = "", *, edit: bool = False
    ) -> None:
        super().__init__()
        self._review, self._edit = review, edit
        first = "PROCEED" if review["ruling"] == "PROCEED" else "ITERATE"
        self.decision = decision or first
        self._problem = ""

    def compose_body(self) -> ComposeResult:
        yield Static(id="decision")
        yield Input(placeholder="why? it stays in the record", id="reason", compact=True)
        for number, (path, allowed) in enumerate(self._review["search_space"].items()):
            now = _write(self._review["parameters"].get(path))
            with Horizontal(classes="pair"):
                yield Label(ink((path, DIM)), classes="path")
                yield Label(ink(now, (" →", DIM)), classes="now")
                yield Input(
                    _write(self._proposed(path)),
                    placeholder=now,
                    id=f"p{number}",
                    compact=True,
                    classes="parameter",
                )
                yield Label(ink((describe_space(allowed), "$foreground 40%")), classes="range")
        yield Static(id="foot")

    def on_mount(self) -> None:
        self.query_one("#p0" if self._edit and self.query("#p0") else "#reason", Input).focus()
        self._draw()

    def _proposed(self, path: str) -> Any:
        """What the reviewers propose, else what is."""
        pair = self._review["changes"].get(path)
        return pair[1] if pair else self._review["parameters"].get(path)

    def _draw(self) -> None:
        self.query_one("#decision", Static).update(stack(self._head()))
        told = ("enter next · ", DIM), ("ctrl+s", "bold $accent"), (" sign · ", DIM)
        keys = ink(*told, ("ctrl+d", "bold $accent"), (" other decision · esc cancel", DIM))
        problem = [ink((self._problem, "$error")), BLANK] if self._problem else []
        self.query_one("#foot", Static).update(stack([*problem, keys]))
        shown = self.decision == "ITERATE"
        for widget in self.query(".pair"):
            widget.set_class(not shown, "hidden")

    def _head(self) -> list[Content]:
        review = self._review
        choice = [
            ink((f" {word} ", f"reverse {style_of(word)}" if word == self.decision else DIM), " ")
            for word in DECISIONS
        ]
        title = "Sign"
        if review["decision"] == "PROCEED" and self.decision != "PROCEED":
            title = "Veto"
        lines = [
            ink((title, "bold"), (f"  record {review['number']} of {review['run']}", DIM)),
            BLANK,
            Content("").join(choice),
            ink((TOLD[self.decision], DIM)),
        ]
        return [*lines, *self._warn(), BLANK]

    def _warn(self) -> list[Content]:
        """What the signature overrides, said before it is made."""
        open_rules = [c for c in self._review["checks"] if c["hard"] and c["verdict"] != "PASS"]
        if self.decision != "PROCEED" or not open_rules:
            return []
        names = ", ".join(f"{c['metric']} {c['verdict']}" for c in open_rules)
        return [
            ink(("overrides  ", "bold $error"), names),
            ink(("every later artefact will be marked with it", DIM)),
        ]

    def action_decide(self) -> None:
        """Choose the next of the three decisions."""
        at = DECISIONS.index(self.decision)
        self.decision = DECISIONS[(at + 1) % len(DECISIONS)]
        self._problem = ""
        if self.focused is not None and self.focused.has_class("parameter"):
            self.query_one("#reason", Input).focus()
        self._draw()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter goes to the next field; on the last one it signs."""
        fields = list(self.query(Input)) if self.decision == "ITERATE" else [event.input]
        if event.input is fields[-1]:
            self.action_sign()
        else:
            self.focus_next()

    def action_sign(self) -> None:
        """Sign; what cannot be signed is said here and can be mended."""
        self.run_worker(self._sign(), exclusive=True)

    async def _sign(self) -> None:
        reason, changes = self.query_one("#reason", Input).value, self._changes()
        app = cast("NexaApp", self.app)
        if reason.strip() and changes == []:
            self._problem = UNCHANGED
            self._draw()
            return
        try:
            told = await asyncio.to_thread(app.sign, self._review, self.decision, reason, changes)
        except NexaError as error:
            self._problem = str(error)
            self._draw()
            if not reason.strip():
                self.query_one("#reason", Input).focus()
            return
        app.notify(make_visible(told), timeout=6, markup=False)
        self.dismiss(True)

    def _changes(self) -> list[str] | None:
        """What a parameter shall be, as `PATH=VALUE`, where that is not what is.

        A value that was left as it was shown is taken to its last digit, a text as it was typed.
        """
        if self.decision != "ITERATE":
            return None
        wanted, now = [], self._review["parameters"]
        for number, path in enumerate(self._review["search_space"]):
            text, proposed = (
                self.query_one(f"#p{number}", Input).value.strip(),
                self._proposed(path),
            )
            if not text or text == _write(now.get(path)):
                continue
            wanted.append(f"{path}={json.dumps(proposed) if text == _write(proposed) else text}")
        return wanted


def _write(value: Any) -> str:
    return "" if value is None else show_number(value)

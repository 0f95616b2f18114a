"""The only writer of stderr, and the place where every exception becomes a message and an exit code.

stdout is data, stderr is talk: with `--json` an error is data too, and goes to stdout as one object.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import click

from nexa_core.errors import DiskFullError, NexaError, Place, StoreError, UsageError
from nexa_core.secrets import redact
from nexa_core.visible import make_visible

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["Boundary", "ReaderGoneError", "redact", "show", "tell", "warn"]

BUG = 70
INTERRUPTED = 130
TERMINATED = 143
PIPE_CLOSED = 141
"""128 + SIGPIPE: the reader of stdout went away, as in `nexa query … | head`."""

_FULL = (errno.ENOSPC, errno.EDQUOT)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)


def tell(text: str) -> None:
    """One line of talk."""
    _write(text)


def warn(text: str) -> None:
    """Something odd that does not stop the command."""
    _write(f"{_style('warning', fg='yellow')}  {_indent(text, 9)}", safe=True)


class Boundary:
    """Where a command's exceptions end: `exit_code` says how, after the block.

    Example:
        with Boundary(["status", "--json"]) as boundary:
            boundary.exit_code = work()
        sys.exit(boundary.exit_code)
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        options = arguments[: arguments.index("--")] if "--" in arguments else arguments
        self._as_json = "--json" in options
        self._debug = "--debug" in options
        self.exit_code = 0

    def __enter__(self) -> Self:
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if error is None:
            error = _flush_failure()
        if error is not None:
            self.exit_code = self._settle(error)
        return True

    def _settle(self, error: BaseException) -> int:
        """Say what happened; the exit code."""
        if isinstance(error, click.exceptions.Exit):
            return int(error.exit_code)
        if isinstance(error, SystemExit):
            return error.code if isinstance(error.code, int) else BUG
        if isinstance(error, (BrokenPipeError, ReaderGoneError)):
            # What is still buffered has no reader either: the interpreter must not try again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return PIPE_CLOSED
        if isinstance(error, (click.exceptions.Abort, KeyboardInterrupt)):
            return self._report(CutShortError())
        if isinstance(error, click.ClickException):
            return self._report(_translate_click(error))
        if isinstance(error, OSError) and error.errno in (*_FULL, *_REFUSED):
            error = _translate_system(error)
        if isinstance(error, NexaError):
            return self._report(error)
        return self._report(_describe_bug(error), cause=error)

    def _report(self, error: NexaError, cause: BaseException | None = None) -> int:
        if self._debug:
            _write(redact(_traceback(cause or error)), safe=True)
        if self._as_json:
            from nexa_core.cli import output

            output.print_json({k: _redacted(v) for k, v in error.as_json().items()})
        else:
            _write(_format(error), safe=True)
        return error.exit_code


class ReaderGoneError(Exception):
    """Nobody reads stdout any more. No OSError: click would end the process by itself."""


class BugError(NexaError):
    """What nexa did not foresee."""


class CutShortError(NexaError):
    """Ctrl-C outside a run, which has its own way to end."""

    exit_code = INTERRUPTED

    def __init__(self) -> None:
        super().__init__("Interrupted.")


def _format(error: NexaError) -> str:
    """What was asked and why not; what would work; where: a line each."""
    label = _style("error", fg="red", bold=True)
    told = [_indent(part, 7) for part in (error.problem, error.fix) if part]
    if error.place:
        told.append(" " * 7 + _style(str(error.place), dim=True))
    return redact("\n".join(told)).replace(" " * 7, f"{label}  ", 1)


def _indent(text: str, width: int) -> str:
    return "\n".join(" " * width + make_visible(line) for line in text.splitlines())


def _redacted(value: Any) -> Any:
    return redact(value) if isinstance(value, str) else value


def _flush_failure() -> OSError | None:
    try:
        sys.stdout.flush()
    except OSError as error:
        return error
    return None


def _translate_click(error: click.ClickException) -> NexaError:
    """What click says about the words that were typed, in our form."""
    problem = error.format_message().strip()
    if not problem.endswith((".", "?")):
        problem += "."
    context = getattr(error, "ctx", None)
    fix = f"`{context.command_path} --help` shows what it takes." if context else ""
    return UsageError(problem, fix)


def _translate_system(error: OSError) -> StoreError:
    place = Place(str(error.filename)) if error.filename else None
    what = f"'{error.filename}' cannot be used" if error.filename else "A file cannot be used"
    if error.errno in _FULL:
        return DiskFullError(f"{what}: {error.strerror}.", "Free some space.", place)
    fix = "Choose a folder that you may read and write, or change its permissions."
    return StoreError(f"{what}: {error.strerror}.", fix, place)


def _describe_bug(error: BaseException) -> NexaError:
    note = _write_note(error)
    where = f"The traceback is in {note}." if note else "Run it again with --debug for a traceback."
    problem = f"This is a bug in nexa, or in a plugin: {type(error).__name__}: {error}"
    return BugError(problem, f"{where} A report of it helps.")


def _write_note(error: BaseException) -> str | None:
    """Keep the traceback in a new file that only its owner may read; its path."""
    import platform
    import tempfile

    from nexa_core import __version__

    head = f"nexa {__version__}, Python {platform.python_version()}, {platform.platform()}\n"
    command = " ".join(sys.argv)
    try:
        fd, path = tempfile.mkstemp(prefix="nexa-crash-", suffix=".txt")
        with os.fdopen(fd, "w", errors="backslashreplace") as file:
            file.write(redact(f"{head}{command}\n\n{_traceback(error)}"))
    except OSError:
        return None
    return path


def _traceback(error: BaseException) -> str:
    import traceback

    return "".join(traceback.format_exception(error))


def _style(text: str, **style: Any) -> str:
    shown = make_visible(text)
    return click.style(shown, **style) if _is_coloured() else shown


def _is_coloured() -> bool:
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return sys.stderr.isatty() and not plain


def _write(text: str, safe: bool = False) -> None:
    """Write a line to stderr; `safe` text has been through `make_visible` and may hold our own colours."""
    try:
        sys.stderr.write((text if safe else make_visible(redact(text))) + "\n")
        sys.stderr.flush()
    except OSError:
        pass  # nobody listens to stderr, and that stops no command


def show(renderable: RenderableType) -> None:
    """Show what rich lays out on stderr, for a person who is asked something."""
    from rich.console import Console

    console = Console(file=sys.stderr, markup=False, highlight=False, emoji=False)
    console.print(renderable)

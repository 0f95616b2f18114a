"""For small things a function is enough: `@nexa.check` and `@nexa.judge` on a function of a row.

The function lies in a workspace's `plugins/`, its file is hashed into every run, and its name is what a
pipeline says.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from nexa_core.errors import CheckError, Place, PluginConflictError
from nexa_core.hookspecs import hookimpl
from nexa_core.protocols import Asker
from nexa_core.records import Row, Score, ScoreColumns
from nexa_core.specs import CheckSpec, JudgeOrder, JudgeSpec, Spec

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["check", "judge", "offer_decorated"]

Function = TypeVar("Function", bound=Callable[..., Any])
_MARK = "__nexa_spec__"
_HOOKS: Mapping[str, type[Spec]] = {"register_checks": CheckSpec, "register_judges": JudgeSpec}


def check(function: Function) -> Function:
    """Make a check of a function of a row.

    It returns whether the row passes, or a number from 0 to 1 that passes from 0.5 on, or either of
    them with a reason, as a pair; None means that the check does not apply to the row.

    Example:
        @nexa.check
        def polite(row):
            return "please" in row["response"], "no please"
    """
    return _mark(
        function,
        CheckSpec(function.__name__, _summary(function), lambda _: FunctionCheck(function)),
    )


def judge(function: Function) -> Function:
    """Make a judge of a function of a row, or of a row and an Asker by which it asks models.

    It returns a number from 0 to 1, a Score, or None where it cannot score; it may be async. A pipeline
    writes `- judge: {method: NAME}`, with a `model` where the function asks one.

    Example:
        @nexa.judge
        async def brief(row, ask):
            reply = await ask.complete(f"Is this brief? {row['response']}")
            return 1.0 if reply.text.startswith("yes") else 0.0
    """
    return _mark(
        function,
        JudgeSpec(
            function.__name__, _summary(function), lambda order: FunctionJudge(function, order)
        ),
    )


def _mark(function: Function, spec: Spec) -> Function:
    """The function with its spec on it.

    Raises:
        PluginConflictError: Its file has made another function of that name one already.
    """
    earlier = getattr(function, "__globals__", {}).get(function.__name__)
    if callable(earlier) and hasattr(earlier, _MARK):
        first, second = (_place(each) for each in (earlier, function))
        if first.path == second.path and first.line != second.line:
            raise PluginConflictError(
                f"Two functions are offered as '{spec.name}': at {first} and at {second}.",
                "Rename one of them: its name is what a pipeline says.",
                second,
            )
    setattr(function, _MARK, spec)
    return function


def _place(function: Callable[..., Any]) -> Place:
    code = inspect.unwrap(function).__code__
    return Place(code.co_filename, code.co_firstlineno)


class FunctionCheck:
    """A check that asks a function about one row after the other."""

    def __init__(self, function: Callable[[Row], Any]) -> None:
        self._function = function

    def score(self, table: pa.Table) -> ScoreColumns:
        """The function's answers as columns."""
        import pyarrow as pa

        values, failed, reasons = [], [], []
        for row in table.to_pylist():
            value, reason = self._ask(row)
            values.append(value)
            failed.append(None if value is None else value < 0.5)
            reasons.append(reason if value is not None and value < 0.5 else None)
        return ScoreColumns(
            pa.array(values, pa.float64()),
            pa.array(failed, pa.bool_()),
            pa.array(reasons, pa.string()),
        )

    def _ask(self, row: Row) -> tuple[float | None, str | None]:
        """The score of a row and why it fails.

        Raises:
            CheckError: The function raised, or its answer is no verdict.
        """
        try:
            answer = self._function(row)
        except Exception as cause:
            columns = ", ".join(name for name in row if name not in ("id", "source_id"))
            raise CheckError(
                f"The check '{self._function.__name__}' failed on the row '{row.get('id')}': "
                f"{type(cause).__name__}: {cause}.",
                f"A row has {columns}, and any may be None. Mend the function, and resume the run.",
                _place(self._function),
            ) from cause
        said, reason = answer if isinstance(answer, tuple) and len(answer) == 2 else (answer, None)
        good = said is None or (isinstance(said, bool | int | float) and math.isfinite(said))
        if not good or not (reason is None or isinstance(reason, str)):
            raise CheckError(
                f"The check '{self._function.__name__}' answered {answer!r:.80} for the row "
                f"'{row.get('id')}', which is no verdict.",
                "Return True or False, a number from 0 to 1, None, or one of them with a reason: "
                'return passed, "why not".',
                _place(self._function),
            )
        return (None if said is None else float(said)), reason


class FunctionJudge:
    """A judge that asks a function about a row."""

    def __init__(self, function: Callable[..., Any], order: JudgeOrder) -> None:
        self._function = function
        self._asks = len(inspect.signature(function).parameters) > 1

    async def score(self, row: Row, ask: Asker) -> Score:
        """The function's answer as a Score."""
        answer = self._function(row, ask) if self._asks else self._function(row)
        if inspect.isawaitable(answer):
            answer = await answer
        if isinstance(answer, Score):
            return answer
        return Score(None if answer is None else float(answer))


def offer_decorated(module: ModuleType) -> None:
    """Let a module offer its decorated functions by the hooks, beside what it offers itself."""
    marked = [getattr(value, _MARK) for value in vars(module).values() if hasattr(value, _MARK)]
    for hook, kind in _HOOKS.items():
        specs = [spec for spec in marked if isinstance(spec, kind)]
        if specs:
            setattr(module, hook, hookimpl(_joined(getattr(module, hook, None), specs)))


def _joined(own: Callable[[], Any] | None, specs: list[Spec]) -> Callable[[], list[Spec]]:
    def offer() -> list[Spec]:
        return [*(own() if own is not None else ()), *specs]

    return offer


def _summary(function: Callable[..., Any]) -> str:
    return (inspect.getdoc(function) or "A function of the workspace").partition("\n")[0]

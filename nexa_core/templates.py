"""The small template language of prompts: insert a column, choose, repeat; it can do nothing else.

Row values are data, never read as a template, and no attribute of a Python object is in reach.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from jinja2 import StrictUndefined, nodes
from jinja2 import TemplateError as JinjaError
from jinja2.exceptions import TemplateSyntaxError
from jinja2.meta import find_undeclared_variables
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment

__all__ = ["MAX_CHARACTERS", "TemplateError", "Text", "compile_text"]

MAX_CHARACTERS = 1_000_000
"""Longest text a template may render."""
MAX_LOOPS = 2
"""Loops inside loops; with no call and no product, rendering is at most quadratic in the row."""

_FILTERS = frozenset(
    [
        "capitalize",
        "count",
        "default",
        "d",
        "dictsort",
        "first",
        "int",
        "items",
        "join",
        "last",
        "length",
        "list",
        "lower",
        "map",
        "reject",
        "rejectattr",
        "reverse",
        "round",
        "select",
        "selectattr",
        "sort",
        "string",
        "sum",
        "title",
        "trim",
        "truncate",
        "unique",
        "upper",
    ]
)
_NODES = (
    nodes.Template,
    nodes.Output,
    nodes.TemplateData,
    nodes.Name,
    nodes.Const,
    nodes.Getattr,
    nodes.Getitem,
    nodes.Slice,
    nodes.If,
    nodes.CondExpr,
    nodes.For,
    nodes.Filter,
    nodes.Keyword,
    nodes.Test,
    nodes.Compare,
    nodes.Operand,
    nodes.And,
    nodes.Or,
    nodes.Not,
    nodes.Neg,
    nodes.Add,
    nodes.Sub,
    nodes.Concat,
    nodes.List,
    nodes.Tuple,
)


class TemplateError(Exception):
    """What is wrong with a template, and its line within the template (from 1)."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


class _Environment(ImmutableSandboxedEnvironment):
    """Attributes are keys of mappings, and of nothing else but `loop`."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, LoopContext):
            return super().getattr(obj, attribute)
        return self.getitem(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        try:
            return obj[argument]
        except (LookupError, TypeError):
            return self.undefined(obj=obj, name=argument)


def _refuse_null(value: Any) -> Any:
    if value is None:
        raise TemplateError("a value it inserts is null")
    return value


@lru_cache(maxsize=1)
def _environment() -> _Environment:
    environment = _Environment(
        undefined=StrictUndefined,
        finalize=_refuse_null,
        autoescape=False,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.clear()
    known = {name: environment.filters[name] for name in _FILTERS}
    environment.filters = {**known, "tojson": _write_json}
    return environment


def _write_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


@lru_cache(maxsize=256)
def compile_text(source: str) -> Text:
    """The compiled template, made once for equal texts; raises as `Text` does."""
    return Text(source)


class Text:
    """A compiled template. `variables` are the names it takes from a row."""

    def __init__(self, source: str) -> None:
        """Raises TemplateError for what the language does not have."""
        environment = _environment()
        try:
            tree = environment.parse(source)
            _check(tree, 0)
            self.variables = frozenset(find_undeclared_variables(tree))
            self._pieces = _find_pieces(tree)
            self._template = environment.from_string(tree)
        except TemplateSyntaxError as cause:
            raise TemplateError(
                (cause.message or "syntax error").rstrip("."), cause.lineno
            ) from cause
        except RecursionError as cause:
            raise TemplateError("it nests too deeply") from cause

    def render(self, values: Mapping[str, Any]) -> str:
        """The text for these values.

        Raises TemplateError when a value is missing or null, or the text grows over the cap.
        """
        if self._pieces is not None:
            text = _insert(self._pieces, values)
            if text is not None:
                return text
        taken = {name: _plain(values[name]) for name in self.variables if name in values}
        parts: list[str] = []
        length = 0
        try:
            for part in self._template.generate(taken):
                parts.append(part)
                length += len(part)
                if length > MAX_CHARACTERS:
                    raise TemplateError(f"the text grows over {MAX_CHARACTERS:,} characters")
        except (JinjaError, TypeError, ValueError, ArithmeticError) as cause:
            raise TemplateError(str(cause)) from cause
        return "".join(parts)


Pieces = tuple[tuple[bool, str], ...]


def _find_pieces(tree: nodes.Template) -> Pieces | None:
    """Text as it stands (False) and names to insert (True), of a template that does nothing else."""
    pieces: list[tuple[bool, str]] = []
    for output in tree.body:
        for node in output.nodes if isinstance(output, nodes.Output) else [output]:
            if isinstance(node, nodes.TemplateData):
                pieces.append((False, node.data))
            elif isinstance(node, nodes.Name):
                pieces.append((True, node.name))
            else:
                return None
    return tuple(pieces)


def _insert(pieces: Pieces, values: Mapping[str, Any]) -> str | None:
    """The text where every value is one and all is well; a quarter of what the engine takes for it."""
    parts = [values.get(piece) if is_name else piece for is_name, piece in pieces]
    texts = [part for part in parts if type(part) is str]
    text = "".join(texts)
    return text if len(texts) == len(parts) and len(text) <= MAX_CHARACTERS else None


def _check(node: nodes.Node, loops: int) -> None:
    """Refuse every construct outside the language."""
    if not isinstance(node, _NODES):
        kind = type(node).__name__.lower()
        known = {"call": "a call", "assign": "`set`", "mul": "a product", "mod": "`%`"}
        what = known.get(kind, f"`{kind}`")
        raise TemplateError(f"{what} is not in the language of prompts", node.lineno)
    if isinstance(node, nodes.Name) and node.name == "self":
        raise TemplateError("a column cannot be called 'self'", node.lineno)
    loops += isinstance(node, nodes.For)
    if loops > MAX_LOOPS or (isinstance(node, nodes.For) and node.recursive):
        raise TemplateError(f"loops nest over {MAX_LOOPS} deep", node.lineno)
    for child in node.iter_child_nodes():
        _check(child, loops)


def _plain(value: Any) -> Any:
    """Only str, int, float, bool, None, list and dict reach a template."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return str(value)

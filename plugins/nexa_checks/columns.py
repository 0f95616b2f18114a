"""Reads columns of the row table, whatever their Arrow type, and explains what is missing."""

from __future__ import annotations

from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from nexa_core import CheckError, UsageError, suggest

Column: TypeAlias = pa.ChunkedArray
Array: TypeAlias = pa.Array


def require_option(value: Any, option: str, asker: str) -> Any:
    """The value of an option that neither the user nor the pipeline may leave open.

    Raises:
        UsageError: It is None or empty.
    """
    if value is None or value == ():
        raise UsageError(
            f"The {asker} does not know its `{option}`, and the pipeline does not tell it.",
            f"Write `{{{asker.split(chr(39))[1]}: {{{option}: …}}}}`.",
        )
    return value


def read_text(table: pa.Table, name: str, asker: str) -> Column:
    """A text column as string or large_string; a column of nothing but null is text too.

    Raises:
        CheckError: There is no such column, or it holds no text.
    """
    column = _find(table, name, asker)
    kind = column.type.value_type if pt.is_dictionary(column.type) else column.type
    if pt.is_string(column.type) or pt.is_large_string(column.type):
        return column
    if pt.is_null(kind) or pt.is_string(kind) or pt.is_string_view(kind):
        return column.cast(pa.string())
    if pt.is_large_string(kind):
        return column.cast(pa.large_string())
    raise CheckError(
        f"The {asker} reads text from the column '{name}', which holds {column.type}.",
        "Name a column of text.",
    )


def read_told_text(table: pa.Table, name: str | None, ending: str, asker: str) -> Column | None:
    """A text column that only some models fill; None where the table lacks it.

    A name that does not have the usual `ending` was chosen by the user, so it must be there.
    """
    if name is None or (name not in table.column_names and name.endswith(ending)):
        return None
    return read_text(table, name, asker)


def read_tokens(table: pa.Table, name: str | None, asker: str) -> Column | None:
    """The column of token counts; None where the table has none, or none of its rows could tell."""
    if name is None or (name not in table.column_names and name.endswith("_tokens")):
        return None
    column = _find(table, name, asker)
    if pt.is_null(column.type):
        return None
    if pt.is_integer(column.type) or pt.is_floating(column.type):
        return column
    raise CheckError(
        f"The {asker} reads token counts from the column '{name}', which holds {column.type}.",
        "Name a column of numbers.",
    )


def read_score(table: pa.Table, score: str) -> Column | None:
    """One field of the `scores` struct as float64; None where the table has no such score."""
    if "scores" not in table.column_names:
        return None
    kind = table.schema.field("scores").type
    if not pt.is_struct(kind) or kind.get_field_index(score) < 0:
        return None
    return pc.struct_field(table["scores"], score).cast(pa.float64())


def list_scores(table: pa.Table) -> list[str]:
    """The ids of every score the table has a field for."""
    if "scores" not in table.column_names:
        return []
    kind = table.schema.field("scores").type
    return [field.name for field in kind] if pt.is_struct(kind) else []


def as_array(column: Column | Array) -> Array:
    """One array of the column's values; meant for results, since it copies."""
    if isinstance(column, pa.ChunkedArray):
        return (
            column.chunk(0)
            if column.num_chunks == 1
            else pa.concat_arrays(column.chunks or [_none(column)])
        )
    return column


def _none(column: Column) -> Array:
    return pa.array([], column.type)


def _find(table: pa.Table, name: str, asker: str) -> Column:
    if name in table.column_names:
        return table[name]
    near = suggest(name, table.column_names)
    raise CheckError(
        f"The {asker} reads the column '{name}', which the table does not have. "
        f"Columns: {', '.join(table.column_names) or 'none'}.",
        f"Did you mean '{near}'?" if near else "Name one of them.",
    )

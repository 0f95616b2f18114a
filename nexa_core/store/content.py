"""The content hash of a table: a function of its values, not of how Arrow happens to hold them."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["hash_content"]

_EXCLUDED = frozenset({'"provenance"."run"'})


def hash_content(table: pa.Table) -> str:
    """SHA-256 over a table's values in row order, as 64 hex digits.

    Equal for tables that hold equal values under equal names, whatever their chunks, slices,
    column order, dictionary encoding or bytes under nulls. The run id (`provenance.run`) is left
    out: two runs of one pipeline and seed agree. Floats compare by their bits.
    """
    digests: dict[str, Any] = {}
    for name in table.column_names:
        column = table.column(name)
        for chunk in column.chunks or [_empty(column.type)]:
            _walk(json.dumps(name), chunk, digests)
    whole = hashlib.sha256(str(table.num_rows).encode())
    for path in sorted(digests):
        whole.update(f"\n{path}\n{digests[path].hexdigest()}".encode())
    return whole.hexdigest()


def _empty(kind: pa.DataType) -> Any:
    import pyarrow as pa

    return pa.array([], kind)


def _walk(path: str, array: Any, digests: dict[str, Any]) -> None:
    """Add an array to one digest of validity per path, and one of values per leaf.

    Every digest gets a fixed number of bytes per value (lengths apart from bytes for text), so
    that the chunks of a column can follow each other without a mark between them.
    """
    import pyarrow.compute as pc
    import pyarrow.types as kinds

    if path in _EXCLUDED:
        return
    kind = array.type
    if kinds.is_dictionary(kind):
        _walk(path, array.dictionary_decode(), digests)
        return
    validity: Any = b"\1" * len(array)
    if array.null_count or kinds.is_null(kind):
        validity = array.is_valid().to_numpy(zero_copy_only=False)
    _digest(digests, f"{path}?").update(validity)
    if kinds.is_struct(kind):
        for field, child in zip(kind, array.flatten(), strict=True):
            _walk(f"{path}.{json.dumps(field.name)}", child, digests)
    elif kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind):
        _add(digests, f"{path}#", pc.list_value_length(array).cast("int64").fill_null(0))
        _walk(f"{path}[]", array.flatten(), digests)
    elif not kinds.is_null(kind):
        _add_leaf(path, array, digests)


def _add_leaf(path: str, array: Any, digests: dict[str, Any]) -> None:
    import pyarrow as pa
    import pyarrow.types as kinds

    kind = array.type
    if kinds.is_boolean(kind):
        _add(digests, f"{path}:bool", array.cast("uint8").fill_null(0))
    elif kinds.is_integer(kind) or kinds.is_floating(kind):
        _add(digests, f"{path}:{kind}", array.fill_null(0) if array.null_count else array)
    elif kinds.is_string(kind) or kinds.is_large_string(kind):
        _add_text(f"{path}:text", array, digests)
    elif kinds.is_binary(kind) or kinds.is_large_binary(kind):
        _add_text(f"{path}:bytes", array, digests)
    elif kinds.is_temporal(kind) and kind.bit_width in (32, 64):
        _add(digests, f"{path}:{kind}", array.view(f"int{kind.bit_width}").fill_null(0))
    else:  # decimals, maps and whatever comes: slow, and right
        text = [None if value is None else repr(value) for value in array.to_pylist()]
        _add_text(f"{path}:{kind}", pa.array(text, pa.string()), digests)


def _add_text(path: str, array: Any, digests: dict[str, Any]) -> None:
    import numpy as np

    filled = array
    if array.null_count:
        filled = array.fill_null(b"" if path.endswith(":bytes") else "")
    lengths, digest = _digest(digests, f"{path}#"), _digest(digests, path)
    if len(filled) == 0:
        return
    _, offsets, data = filled.buffers()
    width = np.int64 if str(filled.type).startswith("large") else np.int32
    bounds = np.frombuffer(offsets, width)[filled.offset : filled.offset + len(filled) + 1]
    lengths.update(np.diff(bounds).astype(np.int64))
    if data is not None:
        digest.update(memoryview(data)[bounds[0] : bounds[-1]])


def _add(digests: dict[str, Any], path: str, array: Any) -> None:
    """Add a fixed-width array without nulls, value by value."""
    digest = _digest(digests, path)
    width = array.type.bit_width // 8
    data = array.buffers()[1]
    if len(array) and data is not None:
        start = array.offset * width
        digest.update(memoryview(data)[start : start + len(array) * width])


def _digest(digests: dict[str, Any], path: str) -> Any:
    """The digest of a path, begun where it is met first."""
    if path not in digests:
        digests[path] = hashlib.sha256()
    return digests[path]

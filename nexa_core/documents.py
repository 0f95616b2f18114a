"""A YAML file as plain values that know their lines; it can neither run code nor grow unbounded."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nexa_core.errors import NexaError, Place, UsageError

__all__ = ["Document", "Key", "Keys", "parse_yaml", "read_text", "read_yaml"]

Key = str | int
Keys = Sequence[Key]

MAX_BYTES = 1_000_000
MAX_VALUES = 50_000
"""Values in one document after aliases are expanded: a bomb of aliases stops here."""
MAX_DEPTH = 60

_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True)
class Document:
    """A parsed file: its text, its values (dict, list, str, int, float, bool, None), their lines.

    Mapping keys are always strings. `error` is the class of error that a mistake in it raises.
    """

    path: str
    text: str
    data: Any
    lines: Mapping[tuple[Key, ...], int] = field(default_factory=dict, repr=False)
    error: type[NexaError] = UsageError

    def place(self, keys: Keys = ()) -> Place:
        """Where the value at a key path stands; where it is absent, its nearest parent."""
        path = tuple(keys)
        while path and path not in self.lines:
            path = path[:-1]
        return Place(self.path, self.lines.get(path, 1))


def read_text(path: Path | str, error: type[NexaError] = UsageError, limit: int = MAX_BYTES) -> str:
    """The UTF-8 text of a file a person wrote; a file over `limit` bytes is refused."""
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > limit:
            raise error(
                f"'{path}' has {size:,} bytes; files of this kind may have {limit:,}.",
                "Put data into a .jsonl or .parquet file and name that.",
                Place(str(path)),
            )
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as cause:
        line = path.read_bytes()[: cause.start].count(b"\n") + 1
        raise error(
            f"'{path}' is no UTF-8 text.", "Save it as UTF-8.", Place(str(path), line)
        ) from cause
    except IsADirectoryError as cause:
        raise error(f"'{path}' is a folder.", "Name the file in it.") from cause
    except FileNotFoundError as cause:
        raise error(f"There is no file '{path}'.", "Check the path.") from cause
    except OSError as cause:
        raise error(f"'{path}' cannot be read: {cause.strerror}.") from cause


def read_yaml(path: Path | str, error: type[NexaError] = UsageError) -> Document:
    """The document in a file; every mistake is raised as `error` with file and line."""
    return parse_yaml(read_text(path, error), str(path), error)


def parse_yaml(
    text: str, name: str, error: type[NexaError] = UsageError, first_line: int = 1
) -> Document:
    """The document in `text` (YAML 1.2: `yes` and `on` are strings). `name` stands for the file.

    Dates stay strings. Refused: duplicate keys, merge keys, tags, alias bombs, infinite numbers,
    a second document.
    """
    if len(text.encode()) > MAX_BYTES:
        raise error(f"'{name}' has over {MAX_BYTES:,} bytes.", "Put data elsewhere.", Place(name))
    node = _compose(text, name, error, first_line)
    reader = _Reader(name, error, first_line)
    data = reader.read(node, ()) if node is not None else None
    return Document(name, text, data, reader.lines, error)


def _compose(text: str, name: str, error: type[NexaError], first_line: int) -> Any:
    """The node tree of a text, None of an empty one; nothing is constructed from its tags."""
    from ruamel.yaml import YAML
    from ruamel.yaml.composer import Composer, ComposerError
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    class ShallowComposer(Composer):
        depth = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            self.depth += 1
            if self.depth > MAX_DEPTH:
                mark = self.parser.peek_event().start_mark
                raise ComposerError(None, None, "it nests too deeply", mark)
            node = super().compose_node(parent, index)
            self.depth -= 1
            return node

    yaml = YAML(typ="safe", pure=True)
    yaml.Composer = ShallowComposer
    try:
        return yaml.compose(text)
    except MarkedYAMLError as cause:
        mark = cause.problem_mark or cause.context_mark
        place = Place(name, mark.line + first_line if mark else None)
        problem = " ".join(str(part) for part in (cause.context, cause.problem) if part)
        raise error(f"'{name}' is no YAML: {problem}.", "Fix the line.", place) from cause
    except YAMLError as cause:
        raise error(f"'{name}' is no YAML: {cause}.", "", Place(name)) from cause


class _Reader:
    """Turns a composed node tree into plain values and notes the line of each."""

    def __init__(self, name: str, error: type[NexaError], first_line: int) -> None:
        self.name, self.error, self.first_line = name, error, first_line
        self.lines: dict[tuple[Key, ...], int] = {}
        self.values = 0

    def read(self, node: Any, path: tuple[Key, ...]) -> Any:
        from ruamel.yaml.nodes import MappingNode, SequenceNode

        self.values += 1
        if self.values > MAX_VALUES:
            self.refuse(node, f"has over {MAX_VALUES:,} values once aliases are expanded", "")
        if len(path) > MAX_DEPTH:
            self.refuse(node, "nests too deeply", f"Use at most {MAX_DEPTH} levels.")
        self.lines.setdefault(path, self.line(node))
        if isinstance(node, MappingNode):
            self.check_tag(node, "map")
            return self.read_mapping(node, path)
        if isinstance(node, SequenceNode):
            self.check_tag(node, "seq")
            return [self.read(item, (*path, i)) for i, item in enumerate(node.value)]
        return self.read_scalar(node)

    def read_mapping(self, node: Any, path: tuple[Key, ...]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            if not isinstance(key, str):
                self.refuse(key_node, "has a list or mapping as a key", "Use a word as the key.")
            if key_node.tag == f"{_TAG}merge":
                self.refuse(key_node, "has a merge key '<<'", "Write the keys out.")
            if key in found:
                first = self.lines[(*path, key)]
                self.refuse(key_node, f"has '{key}' twice, first on line {first}", "Keep one.")
            self.lines[(*path, key)] = self.line(key_node)
            found[key] = self.read(value_node, (*path, key))
        return found

    def read_scalar(self, node: Any) -> Any:
        kind = str(node.tag).removeprefix(_TAG)
        text = node.value
        match kind:
            case "str" | "timestamp" | "value":
                return text
            case "null":
                return None
            case "bool":
                return text.lower() == "true"
            case "int":
                return self.read_integer(node)
            case "float":
                return self.read_float(node)
        return self.refuse(node, f"has the tag '{node.tag}'", "Leave the tag out.")

    def read_integer(self, node: Any) -> int:
        try:
            return int(node.value.replace("_", ""), 0)
        except ValueError:  # leading zeros: decimal in YAML 1.2, refused by int(…, 0)
            return int(node.value.replace("_", ""))

    def read_float(self, node: Any) -> float:
        text = node.value.replace("_", "").lower()
        value = math.nan if text.lstrip("+-") in {".inf", ".nan"} else float(text)
        if not math.isfinite(value):
            self.refuse(node, f"has '{node.value}', which is no finite number", "Use a number.")
        return value

    def check_tag(self, node: Any, kind: str) -> None:
        if str(node.tag) != f"{_TAG}{kind}":
            self.refuse(node, f"has the tag '{node.tag}'", "Leave the tag out.")

    def line(self, node: Any) -> int:
        return int(node.start_mark.line) + self.first_line

    def refuse(self, node: Any, problem: str, fix: str) -> Any:
        raise self.error(f"'{self.name}' {problem}.", fix, Place(self.name, self.line(node)))

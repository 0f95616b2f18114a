"""Dotted paths into a pipeline, a step id or a section first: `respond.sampling.temperature`."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from nexa_core.documents import Key
from nexa_core.errors import PipelineFileError, Place, suggest

Tree = Mapping[str, Any]
Path = tuple[Key, ...]


def find_keys(tree: Tree, path: str, sections: tuple[str, ...], place: Place | None = None) -> Path:
    """The key path in the file that a dotted path means.

    Raises PipelineFileError when its first word is neither a section nor the id of a step or check.
    """
    words = path.split(".")
    anchors = {**dict(name_anchors(tree)), **{name: (name,) for name in sections}}
    if words[0] not in anchors:
        near = suggest(words[0], anchors)
        hint = f" Did you mean '{near}'?" if near else ""
        raise PipelineFileError(
            f"'{path}' names nothing in this pipeline.",
            f"A path starts with one of: {', '.join(sorted(anchors))}.{hint}",
            place,
        )
    keys: Path = anchors[words[0]]
    return keys + _descend(read_at(tree, keys), words[1:])


def name_anchors(tree: Tree) -> Iterator[tuple[str, Path]]:
    """The id of each step and check, with its key path; badly shaped steps are passed over."""
    steps = tree.get("steps")
    for i, step in enumerate(steps if isinstance(steps, list | tuple) else ()):
        if not isinstance(step, Mapping) or len(step) != 1:
            continue
        ((kind, body),) = step.items()
        if kind == "check":
            yield from _name_checks(body, ("steps", i, "check"))
        elif isinstance(body, Mapping):
            yield str(body.get("id", kind)), ("steps", i, kind)


def _name_checks(body: Any, keys: Path) -> Iterator[tuple[str, Path]]:
    for j, use in enumerate(body if isinstance(body, list | tuple) else ()):
        if isinstance(use, str):
            yield use, (*keys, j, use)
        elif isinstance(use, Mapping) and len(use) == 1:
            ((name, options),) = use.items()
            given = options.get("id", name) if isinstance(options, Mapping) else name
            yield str(given), (*keys, j, name)


def _descend(node: Any, words: list[str]) -> Path:
    """Key path of the remaining words; a key that holds dots is taken whole where it exists."""
    if not words:
        return ()
    if isinstance(node, list) and words[0].isdigit():
        inner = node[int(words[0])] if int(words[0]) < len(node) else None
        return (int(words[0]), *_descend(inner, words[1:]))
    if isinstance(node, Mapping):
        for taken in range(len(words), 0, -1):
            key = ".".join(words[:taken])
            if key in node:
                return (key, *_descend(node[key], words[taken:]))
    return (words[0], *_descend(None, words[1:]))


def read_at(tree: Any, keys: Path) -> Any:
    """The value at a key path, None where it is absent."""
    for key in keys:
        if isinstance(tree, Mapping):
            tree = tree.get(key)
        elif isinstance(tree, list) and isinstance(key, int) and key < len(tree):
            tree = tree[key]
        else:
            return None
    return tree


def write_at(tree: Tree, keys: Path, value: Any, place: Place | None = None) -> dict[str, Any]:
    """A copy of the tree with the value put in; absent sections are made, short forms spelled out.

    Raises PipelineFileError when the path goes through a plain value.
    """
    whole = copy.deepcopy(dict(tree))
    node: Any = whole
    for i, key in enumerate(keys[:-1]):
        inner = node.get(key) if isinstance(node, dict) else _item(node, key, keys, place)
        if not isinstance(inner, dict | list):
            inner = _spell_out(keys, i, inner, place)
            node[key] = inner
        node = inner
    if isinstance(node, list):
        _item(node, keys[-1], keys, place)
    node[keys[-1]] = value
    return whole


def _item(node: list[Any], key: Key, keys: Path, place: Place | None) -> Any:
    if isinstance(key, int) and key < len(node):
        return node[key]
    raise PipelineFileError(
        f"'{key}' is no item of the list at '{write_path(keys[: keys.index(key)])}'.",
        f"It has items 0 to {len(node) - 1}.",
        place,
    )


def _spell_out(keys: Path, i: int, value: Any, place: Place | None) -> dict[str, Any]:
    """The long form of a short one: an absent section, `gate: NAME`, a check without options."""
    if value is None:
        return {}
    if keys[: i + 1] == ("gate",):
        return {"extends": value}
    if keys[0] == "steps" and len(keys) > i + 1 and keys[i + 1] == value:
        return {value: {}}
    raise PipelineFileError(
        f"'{write_path(keys)}' cannot be set: '{write_path(keys[: i + 1])}' is '{value}'.",
        f"Set '{write_path(keys[: i + 1])}' itself.",
        place,
    )


def write_path(keys: Path, tree: Tree | None = None) -> str:
    """A key path the way a user writes it, by the step's id where the tree is given."""
    for name, anchor in name_anchors(tree or {}):
        if keys[: len(anchor)] == anchor:
            return ".".join([name, *map(str, keys[len(anchor) :])])
    return ".".join(map(str, keys))

"""Instances of JSON schemas, drawn at random and always the same for the same seed."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any

__all__ = ["draw_instance"]

_WORDS = ("amber", "basalt", "cobalt", "delta", "ember", "flint", "garnet", "helium", "indigo")
_FORMATS = {
    "date": "2024-03-17",
    "date-time": "2024-03-17T09:26:53Z",
    "time": "09:26:53Z",
    "duration": "P3D",
    "email": "person@example.org",
    "hostname": "example.org",
    "ipv4": "192.0.2.7",
    "ipv6": "2001:db8::7",
    "uri": "https://example.org/page",
    "uuid": "3f0c1d5e-8a4b-4c6d-9e2f-7b1a0c9d8e7f",
}
_DEEPEST = 6
_APPROVING = 0.8


def draw_instance(schema: Mapping[str, Any], seed: int, approval: float | None = None) -> Any:
    """A value that the schema takes: types, enum, const, bounds, formats, any/one/allOf and $defs.

    `pattern` is not followed. Properties that are not required come half of the time. With
    `approval`, that share of all values is a verdict that approves: every number from 0 to 1 in it is
    0.8 and more. None of them raises a flag then: lists of choices are empty.

    Raises:
        ValueError: a reference leads nowhere.
    """
    chance = random.Random(seed)
    if approval is None:
        return _Draw(schema, chance).draw(schema, 0)
    least = _APPROVING if chance.random() < approval else 0.0
    return _Draw(schema, chance, least).draw(schema, 0)


class _Draw:
    def __init__(
        self, root: Mapping[str, Any], chance: random.Random, least: float | None = None
    ) -> None:
        """`least` is the lowest share that a verdict gives; None where values are no verdicts."""
        self._root, self._chance, self._least = root, chance, least

    def draw(self, schema: Any, depth: int) -> Any:
        if not isinstance(schema, Mapping):
            return None
        schema = self._resolve(schema)
        for name in ("const", "enum"):
            if name in schema:
                return schema["const"] if name == "const" else self._chance.choice(schema["enum"])
        for name in ("anyOf", "oneOf"):
            if name in schema:
                # Deep down the first choice, so that a tree that holds itself comes to an end.
                options = schema[name]
                return self.draw(
                    self._chance.choice(options) if depth < _DEEPEST else options[-1], depth
                )
        kind = schema.get("type", "object" if "properties" in schema else "string")
        if isinstance(kind, list):
            kind = self._chance.choice(kind)
        return getattr(self, f"_{kind}")(schema, depth)

    def _resolve(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        while "$ref" in schema:
            found: Any = self._root
            for part in schema["$ref"].lstrip("#/").split("/"):
                if part and part not in found:
                    raise ValueError(f"The reference {schema['$ref']} leads nowhere.")
                found = found[part] if part else found
            schema = found
        merged = dict(schema)
        for part in map(self._resolve, schema.get("allOf", ())):
            properties = {**merged.get("properties", {}), **part.get("properties", {})}
            required = [*merged.get("required", ()), *part.get("required", ())]
            merged = {**part, **merged, "properties": properties, "required": required}
        return merged

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        required = schema.get("required", ())
        return {
            name: self.draw(part, depth + 1)
            for name, part in schema.get("properties", {}).items()
            if name in required or (depth < _DEEPEST and self._chance.random() < 0.5)
        }

    def _array(self, schema: Mapping[str, Any], depth: int) -> list[Any]:
        fewest = schema.get("minItems", 0)
        most = schema.get("maxItems", max(fewest, 3 if depth < _DEEPEST else 0))
        first = [self.draw(part, depth + 1) for part in schema.get("prefixItems", ())]
        count = max(self._chance.randint(fewest, most), len(first))
        items = schema.get("items", {"type": "string"})
        if self._least is not None and "enum" in items and not fewest:
            return []
        rest = [self.draw(items, depth + 1) for _ in range(count - len(first))] if items else []
        return first + rest

    def _string(self, schema: Mapping[str, Any], depth: int) -> str:
        if schema.get("format") in _FORMATS:
            return _FORMATS[schema["format"]]
        text = " ".join(self._chance.choices(_WORDS, k=self._chance.randint(1, 6)))
        fewest, most = schema.get("minLength", 0), schema.get("maxLength", len(text) + 200)
        while len(text) < fewest:
            text += " " + self._chance.choice(_WORDS)
        return text[: max(most, fewest)]

    def _integer(self, schema: Mapping[str, Any], depth: int) -> int:
        step = int(schema.get("multipleOf", 1))
        low, high = self._bounds(schema, step)
        return self._chance.randint(math.ceil(low / step), math.floor(high / step)) * step

    def _number(self, schema: Mapping[str, Any], depth: int) -> float:
        if "multipleOf" in schema:
            step = schema["multipleOf"]
            low, high = self._bounds(schema, step)
            return self._chance.randint(math.ceil(low / step), math.floor(high / step)) * step
        low, high = self._bounds(schema, 1e-3)
        if self._least is not None and (low, high) == (0, 1):
            low = self._least
        return min(high, max(low, round(self._chance.uniform(low, high), 3)))

    def _boolean(self, schema: Mapping[str, Any], depth: int) -> bool:
        return self._chance.random() < 0.5

    def _null(self, schema: Mapping[str, Any], depth: int) -> None:
        return None

    def _bounds(self, schema: Mapping[str, Any], step: float) -> tuple[float, float]:
        """The lowest and the highest value allowed; a hundred steps where only one end is."""
        low, high = schema.get("minimum"), schema.get("maximum")
        if "exclusiveMinimum" in schema:
            low = schema["exclusiveMinimum"] + step
        if "exclusiveMaximum" in schema:
            high = schema["exclusiveMaximum"] - step
        if low is None:
            low = 0 if high is None or high >= 0 else high - 100 * max(step, 1)
        return low, low + 100 * max(step, 1) if high is None else high

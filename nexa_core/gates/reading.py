"""Reads a gate from a file or from a pipeline; every mistake has its line."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nexa_core.documents import Document, Keys, read_yaml
from nexa_core.errors import GateFileError, Place, suggest
from nexa_core.gates.rules import FAILED_RATE, OPERATORS, Gate, ReviewerUse, Rule

__all__ = ["FindGate", "gate_from", "read_gate"]

FindGate = Callable[[str, Place | None], Path]
"""Finds the file of a named gate, or raises UnknownNameError with the place that asked."""
FindPlace = Callable[[Keys], Place | None]

_KEYS = (
    "gate",
    "extends",
    "confidence",
    "hard",
    "soft",
    "extend",
    "reviewers",
    "slices",
    "description",
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_CONFIDENCE, _MAX_ROWS, _FAIL_OVER = 0.95, 600, 0.05


def read_gate(file: Path | Document, find: FindGate | None = None) -> Gate:
    """The gate in a file. `find` resolves `extends`; `failed_rate` is added where it is not named.

    Raises GateFileError with file and line for every mistake in it.
    """
    return _Reader(find, ()).read_file(file)


def gate_from(
    data: str | Mapping[str, Any], find: FindGate, place: FindPlace = lambda _: None
) -> Gate:
    """The gate that a pipeline names or writes out, `{extends: NAME, …}` included.

    `place` gives the place of a key path inside the gate, as `Document.place` does.
    """
    if isinstance(data, str):
        return read_gate(find(data, place(())), find)
    return _Reader(find, ()).read(data, place, inline=True)


class _Reader:
    """Reads one gate; `chain` names the files that led here by `extends`."""

    def __init__(self, find: FindGate | None, chain: tuple[str, ...]) -> None:
        self.find, self.chain = find, chain

    def read_file(self, file: Path | Document) -> Gate:
        document = file if isinstance(file, Document) else read_yaml(file, GateFileError)
        if document.path in self.chain:
            way = " → ".join((*self.chain, document.path))
            raise GateFileError(f"This gate extends itself: {way}.", "Break the circle.")
        return _Reader(self.find, (*self.chain, document.path)).read(document.data, document.place)

    def read(self, data: Any, place: FindPlace, inline: bool = False) -> Gate:
        if not isinstance(data, Mapping):
            raise GateFileError("A gate is a mapping.", "Begin with `gate: NAME`.", place(()))
        _check_keys(data, _KEYS, "gate", place, ())
        hard, soft = _read_rules(data, "hard", place), _read_rules(data, "soft", place)
        _check_apart(hard, soft)
        parent = self._parent(data, place)
        if parent is None and "gate" not in data:
            fix = "Add `extends: NAME` or `gate: NAME`." if inline else "Begin with `gate: NAME`."
            raise GateFileError("This gate has no name.", fix, place(()))
        extend = data.get("extend")
        slices, hard_slices = _read_slices(data, parent, place)
        return Gate(
            name=_read_name(data.get("gate", parent.name if parent else None), place),
            confidence=_read_confidence(data, parent, place),
            **_merge(parent, hard, soft),
            max_rows=parent.max_rows if parent and extend is None else _read_cap(extend, place),
            reviewers=_read_reviewers(data["reviewers"], place)
            if "reviewers" in data
            else (parent.reviewers if parent else ()),
            slices=slices,
            hard_slices=hard_slices,
            place=place(()),
        )

    def _parent(self, data: Mapping[str, Any], place: FindPlace) -> Gate | None:
        if "extends" not in data:
            return None
        name, where = data["extends"], place(("extends",))
        if not isinstance(name, str):
            raise GateFileError("`extends` names one gate.", "Write `extends: NAME`.", where)
        if self.find is None:
            raise GateFileError(f"'{name}' cannot be looked up from here.", "", where)
        return self.read_file(self.find(name, where))


def _merge(
    parent: Gate | None, hard: Sequence[Rule], soft: Sequence[Rule]
) -> dict[str, tuple[Rule, ...]]:
    """The rules of a gate over its parent's: a metric named anew replaces the parent's rule."""
    named = {rule.key for rule in (*hard, *soft)}
    kept = [rule for rule in parent.hard if rule.key not in named] if parent else []
    kept_soft = [rule for rule in parent.soft if rule.key not in named] if parent else []
    every = (*kept, *hard)
    if not any(rule.metric == FAILED_RATE for rule in every):
        every = (*every, Rule(FAILED_RATE, "below", _FAIL_OVER))
    return {"hard": every, "soft": (*kept_soft, *soft)}


def _check_apart(hard: Sequence[Rule], soft: Sequence[Rule]) -> None:
    """A metric decides or is reported: what passed is remembered by its name."""
    for rule in soft:
        if rule.key in [other.key for other in hard]:
            raise GateFileError(
                f"'{rule.metric}' is hard and soft.", "Keep it in one of the two.", rule.place
            )


def _read_name(name: Any, place: FindPlace) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise GateFileError(
            f"'{name}' is no gate name.", "Use letters, digits, - and _.", place(("gate",))
        )
    return name


def _read_confidence(data: Mapping[str, Any], parent: Gate | None, place: FindPlace) -> float:
    if "confidence" not in data:
        return parent.confidence if parent else _CONFIDENCE
    value = _read_number(data["confidence"], place, ("confidence",))
    if not 0.5 <= value < 1:
        raise GateFileError(
            f"A confidence of {value:g} cannot be had.",
            "Use a number from 0.5 to under 1, as 0.95.",
            place(("confidence",)),
        )
    return value


def _read_cap(extend: Any, place: FindPlace) -> int:
    if extend is None:
        return _MAX_ROWS
    if not isinstance(extend, Mapping):
        raise GateFileError("`extend` is a mapping.", "Write {max_rows: N}.", place(("extend",)))
    _check_keys(extend, ("max_rows",), "`extend`", place, ("extend",))
    rows = extend.get("max_rows", _MAX_ROWS)
    if isinstance(rows, bool) or not isinstance(rows, int) or rows < 0:
        raise GateFileError(
            f"'{rows}' is no number of rows.", "Use a whole number.", place(("extend", "max_rows"))
        )
    return rows


def _read_slices(
    data: Mapping[str, Any], parent: Gate | None, place: FindPlace
) -> tuple[tuple[str, ...], bool]:
    """The columns, and whether they decide: `slices: [column]` or `{by: [column], hard: true}`."""
    if "slices" not in data:
        return (parent.slices, parent.hard_slices) if parent else ((), False)
    given: Any = data["slices"] or []
    hard: Any = False
    if isinstance(given, Mapping):
        _check_keys(given, ("by", "hard"), "`slices`", place, ("slices",))
        given, hard = given.get("by"), given.get("hard", False)
    if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
        fix = "Write slices: [language], or {by: [language], hard: true}."
        raise GateFileError("`slices` is a list of columns.", fix, place(("slices",)))
    if not isinstance(hard, bool):
        fix = "Write hard: true where slices decide."
        raise GateFileError(f"'{hard}' is not true or false.", fix, place(("slices", "hard")))
    return tuple(dict.fromkeys(given)), hard


def _read_rules(data: Mapping[str, Any], name: str, place: FindPlace) -> list[Rule]:
    items = data.get(name) or []
    if not isinstance(items, Sequence) or isinstance(items, str):
        raise GateFileError(
            f"`{name}` is a list of rules.",
            "Write - {metric: runaway_rate, below: 0.05}.",
            place((name,)),
        )
    rules = [_read_rule(item, (name, i), name == "hard", place) for i, item in enumerate(items)]
    for i, rule in enumerate(rules):
        if rule.key in [other.key for other in rules[:i]]:
            raise GateFileError(
                f"`{name}` has two rules for '{rule.metric}'.", "Keep one.", place((name, i))
            )
        if not rule.hard and rule.metric == FAILED_RATE:
            raise GateFileError(
                "'failed_rate' is always hard.",
                "Move it under `hard` with the limit you want.",
                place((name, i)),
            )
    return rules


def _read_rule(item: Any, keys: tuple[str, int], hard: bool, place: FindPlace) -> Rule:
    where = place(keys)
    if not isinstance(item, Mapping) or "metric" not in item:
        raise GateFileError(
            f"'{item}' is no rule: it names no metric.",
            "Write {metric: runaway_rate, below: 0.05}.",
            where,
        )
    fix = "Options belong to the metric: `metric: {NAME: {OPTION: …}}`."
    _check_keys(item, ("metric", *OPERATORS), "rule", place, keys, fix)
    given = [op for op in OPERATORS if op in item]
    metric, options = _read_use(item["metric"], "metric", place, (*keys, "metric"))
    if len(given) != 1:
        raise GateFileError(
            f"The rule for '{metric}' needs exactly one of below, at_least, equals.",
            f"It has {' and '.join(given) or 'none'}.",
            where,
        )
    threshold = _read_number(item[given[0]], place, (*keys, given[0]))
    return Rule(metric, given[0], threshold, options, hard, place=place((*keys, "metric")))


def _read_reviewers(items: Any, place: FindPlace) -> tuple[ReviewerUse, ...]:
    if not isinstance(items, Sequence) or isinstance(items, str):
        raise GateFileError(
            "`reviewers` is a list.", "Write reviewers: [policy].", place(("reviewers",))
        )
    uses = []
    for i, item in enumerate(items):
        name, options = _read_use(item, "reviewer", place, ("reviewers", i))
        uses.append(ReviewerUse(name, options, place(("reviewers", i))))
    return tuple(uses)


def _read_use(item: Any, kind: str, place: FindPlace, keys: Keys) -> tuple[str, dict[str, Any]]:
    """A name, or a name with options: `policy` or `{llm: {model: reviewer}}`."""
    if isinstance(item, str):
        return item, {}
    if isinstance(item, Mapping) and len(item) == 1:
        (name, options), *_ = item.items()
        if options is None or isinstance(options, Mapping):
            return str(name), dict(options or {})
    raise GateFileError(
        f"'{item}' is no {kind}.", "Write a name, or {name: {option: value}}.", place(keys)
    )


def _read_number(value: Any, place: FindPlace, keys: Keys) -> float:
    """A number, or a percentage such as "5%"."""
    try:
        if isinstance(value, str) and value.strip().endswith("%"):
            return float(value.strip()[:-1]) / 100
        if isinstance(value, int | float) and not isinstance(value, bool):
            return value
    except ValueError:
        pass
    raise GateFileError(f"'{value}' is no number.", "Write a number, as 0.05 or 5%.", place(keys))


def _check_keys(
    data: Mapping[str, Any],
    known: Sequence[str],
    what: str,
    place: FindPlace,
    keys: Keys,
    fix: str = "",
) -> None:
    for key in data:
        if key not in known:
            near = suggest(str(key), known)
            raise GateFileError(
                f"A {what.strip('`')} has no key '{key}'. Known: {', '.join(known)}.",
                f"Did you mean '{near}'?" if near else fix,
                place((*keys, key)),
            )

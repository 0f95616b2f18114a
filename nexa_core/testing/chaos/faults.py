"""What goes wrong, how often, and the draw that decides it from the request alone."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, fields
from hashlib import blake2b
from itertools import accumulate

__all__ = ["BATCH", "CONTENT", "TRY", "UNBILLED", "FaultDraw", "Faults"]

TRY = (
    "rate_limit",
    "rate_limit_date",
    "rate_limit_bare",
    "error_500",
    "error_502",
    "error_503",
    "error_529",
    "slow_first_byte",
    "slow_drip",
    "cut",
    "reset",
    "invalid_json",
    "wrong_shape",
    "html",
    "error_200",
    "redirect",
    "hung",
    "gzip",
)
"""Faults of one try: the same request, tried again, draws anew."""

CONTENT = (
    "broken_json",
    "wrong_schema",
    "empty",
    "length",
    "refusal",
    "content_filter",
    "no_usage",
)
"""Faults of the answer: a request has the same one at every try, as the answer is the same."""

BATCH = (
    "batch_failed",
    "batch_expired",
    "batch_shuffled",
    "line_error",
    "line_missing",
    "line_duplicate",
)

UNBILLED = frozenset(
    {"rate_limit", "rate_limit_date", "rate_limit_bare", "error_500", "error_503", "error_529"}
    | {"redirect"}
)
"""Faults that come before any work; every other one costs what its answer costs."""


@dataclass(frozen=True, slots=True)
class Faults:
    """The rate of each fault, 0 to 1; a try has at most one of its own and one of its answer's.

    `rate_limit` says Retry-After in seconds, `rate_limit_date` as an HTTP date, `rate_limit_bare` not
    at all. `error_502` is billed as if the answer had been lost on its way. `cut` ends the body half-way,
    `reset` breaks the connection before it. `wrong_shape` is JSON that is no completion, `error_200`
    an error object with status 200. `broken_json` and `wrong_schema` concern the text of the answer.
    `batch_…` are per batch, `line_…` per line of a batch's results.
    """

    rate_limit: float = 0.0
    rate_limit_date: float = 0.0
    rate_limit_bare: float = 0.0
    error_500: float = 0.0
    error_502: float = 0.0
    error_503: float = 0.0
    error_529: float = 0.0
    slow_first_byte: float = 0.0
    slow_drip: float = 0.0
    cut: float = 0.0
    reset: float = 0.0
    invalid_json: float = 0.0
    wrong_shape: float = 0.0
    html: float = 0.0
    error_200: float = 0.0
    redirect: float = 0.0
    hung: float = 0.0
    gzip: float = 0.0
    broken_json: float = 0.0
    wrong_schema: float = 0.0
    empty: float = 0.0
    length: float = 0.0
    refusal: float = 0.0
    content_filter: float = 0.0
    no_usage: float = 0.0
    batch_failed: float = 0.0
    batch_expired: float = 0.0
    batch_shuffled: float = 0.0
    line_error: float = 0.0
    line_missing: float = 0.0
    line_duplicate: float = 0.0

    def __post_init__(self) -> None:
        for group in (TRY, CONTENT):
            if sum(getattr(self, name) for name in group) > 1 + 1e-9:
                raise ValueError(f"The rates of {', '.join(group)} add up to more than 1.")
        for entry in fields(self):
            if not 0 <= getattr(self, entry.name) <= 1:
                raise ValueError(f"The rate of {entry.name} must be between 0 and 1.")

    @classmethod
    def none(cls) -> Faults:
        """Nothing goes wrong."""
        return cls()

    @classmethod
    def only(cls, name: str, rate: float = 1.0) -> Faults:
        """One fault, by default at every try."""
        return cls(**{name: rate})

    @classmethod
    def flaky(cls) -> Faults:
        """A provider on an ordinary day: four tries in a hundred fail, and all pass later."""
        return cls(rate_limit=0.02, error_503=0.01, reset=0.005, error_500=0.005)

    @classmethod
    def storm(cls) -> Faults:
        """A bad day: a third of all tries fail, in every way that another try can mend."""
        return cls(
            rate_limit=0.1,
            rate_limit_date=0.02,
            rate_limit_bare=0.08,
            error_500=0.02,
            error_502=0.01,
            error_503=0.01,
            error_529=0.01,
            cut=0.02,
            reset=0.01,
            invalid_json=0.02,
            wrong_shape=0.01,
            html=0.01,
            error_200=0.01,
            slow_first_byte=0.01,
            slow_drip=0.01,
            gzip=0.05,
        )

    @classmethod
    def batches(cls) -> Faults:
        """Batches that expire, and results out of order, missing, failed and twice."""
        return cls(
            batch_expired=0.1,
            batch_shuffled=0.5,
            line_error=0.02,
            line_missing=0.01,
            line_duplicate=0.01,
        )

    @classmethod
    def named(cls, name: str) -> Faults:
        """A preset by its name: none, flaky, storm or batches."""
        presets = {"none": cls.none, "flaky": cls.flaky, "storm": cls.storm, "batches": cls.batches}
        if name not in presets:
            raise ValueError(
                f"No preset of faults is called '{name}'. Known: {', '.join(presets)}."
            )
        return presets[name]()


class FaultDraw:
    """Draws faults from (seed, request, try): the order in which requests arrive changes nothing.

    Args:
        most: After this many tries that went wrong a request is answered, whatever the rates say.
    """

    def __init__(self, faults: Faults, seed: int, most: int | None = None) -> None:
        self._faults, self._seed, self._most = faults, seed, most
        self._tables: dict[tuple[str, ...], list[float]] = {
            group: list(accumulate(getattr(faults, name) for name in group))
            for group in (TRY, CONTENT)
        }
        self.is_idle = not any(table[-1] for table in self._tables.values())
        self._tries: dict[bytes, int] = {}
        self._wrong: dict[bytes, int] = {}

    def draw_try(self, key: bytes) -> str | None:
        """What goes wrong with the next try of a request, None where nothing does."""
        number = self._tries.get(key, 0)
        self._tries[key] = number + 1
        if self._most is not None and self._wrong.get(key, 0) >= self._most:
            return None
        fault = self._draw(TRY, key + b"/%d" % number)
        if fault is not None:
            self._wrong[key] = self._wrong.get(key, 0) + 1
        return fault

    def draw_content(self, key: bytes) -> str | None:
        """What is wrong with the answer to a request, at every try."""
        return self._draw(CONTENT, key)

    def happens(self, name: str, key: bytes) -> bool:
        """Whether one fault, drawn by itself, befalls `key`."""
        rate: float = getattr(self._faults, name)
        return rate > 0 and self._uniform(key + name.encode()) < rate

    def _draw(self, group: tuple[str, ...], key: bytes) -> str | None:
        table = self._tables[group]
        if not table[-1]:
            return None
        position = bisect_right(table, self._uniform(key))
        return group[position] if position < len(group) else None

    def _uniform(self, key: bytes) -> float:
        digest = blake2b(key, digest_size=8, key=b"%d" % self._seed).digest()
        return int.from_bytes(digest) / 2**64

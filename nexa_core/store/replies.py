"""Replies of earlier runs, found by call id without being held in memory: reuse costs nothing."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nexa_core.store.journal import read_journal
from nexa_core.store.layout import Run
from nexa_core.store.manifest import read_manifest
from nexa_core.store.segments import list_units

__all__ = ["Replies"]

_OPEN_FILES = 8


class Replies(Mapping[str, Mapping[str, Any]]):
    """Every reply that some runs paid for, by call id; of two for one id the first run's counts.

    The index takes about 20 bytes a call. Replies are read file by file, in the order they are asked
    for, and only the last few files are kept. A frame has `reply` (JSON) and `model`.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self._files: list[Path] = []
        self._journaled: dict[str, Mapping[str, Any]] = {}
        self._read: OrderedDict[int, pa.Table] = OrderedDict()
        parts = [self._index_file(path) for run in runs for path in self._find_files(run)]
        ids = np.concatenate([part[0] for part in parts]) if parts else np.empty(0, "S24")
        places = np.concatenate([part[1] for part in parts]) if parts else np.empty((0, 2), "u4")
        order = np.argsort(ids, kind="stable")
        self._ids, self._places = ids[order], places[order]

    def __len__(self) -> int:
        return len(self._ids) + len(self._journaled)

    def __iter__(self) -> Iterator[str]:
        yield from (each.decode() for each in self._ids.tolist())
        yield from self._journaled

    def __contains__(self, call_id: object) -> bool:
        return isinstance(call_id, str) and (
            self._locate(call_id) is not None or call_id in self._journaled
        )

    def __getitem__(self, call_id: str) -> Mapping[str, Any]:
        place = self._locate(call_id)
        if place is None:
            return self._journaled[call_id]
        table, row = self._open(int(place[0])), int(place[1])
        reply = json.loads(table["reply"][row].as_py())
        return {"reply": reply, "model": table["model"][row].as_py()}

    def _locate(self, call_id: str) -> np.ndarray | None:
        key = call_id.encode()
        at = int(np.searchsorted(self._ids, key))
        return self._places[at] if at < len(self._ids) and self._ids[at] == key else None

    def _find_files(self, run: Run) -> Iterator[Path]:
        for folder in run.shard_folders():
            for unit in list_units(folder.reviews):
                replies = read_journal(folder.reviews, unit, salvage=True).replies
                self._journaled = {**replies, **self._journaled}
            entries = read_manifest(folder.path)
            for entry in entries:
                yield from (folder.shards / n for n in entry.files if n.endswith(".calls.parquet"))
            committed = {f"{entry.shard:05d}" for entry in entries}
            for unit in list_units(folder.shards):
                if unit not in committed:
                    replies = read_journal(folder.shards, unit, salvage=True).replies
                    self._journaled = {**replies, **self._journaled}

    def _index_file(self, path: Path) -> tuple[np.ndarray, np.ndarray]:
        table = pq.read_table(path, columns=["call_id", "error"])
        answered = np.flatnonzero(pc.is_null(table["error"]).to_numpy())
        ids = table["call_id"].take(pa.array(answered)).to_numpy(zero_copy_only=False)
        self._files.append(path)
        number = np.full(len(answered), len(self._files) - 1, "u4")
        return ids.astype("S24"), np.stack([number, answered.astype("u4")], axis=1)

    def _open(self, number: int) -> pa.Table:
        if number not in self._read:
            self._read[number] = pq.read_table(self._files[number], columns=["reply", "model"])
            if len(self._read) > _OPEN_FILES:
                self._read.popitem(last=False)
        self._read.move_to_end(number)
        return self._read[number]

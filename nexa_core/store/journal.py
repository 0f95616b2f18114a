"""The append-only journal of one paid unit: intents before requests go out, replies as they arrive.

`write()` hands each frame to the kernel at once, so a killed process loses nothing; a thread
groups the `fdatasync`s, so power loss takes at most one group. A failed file is never written
again: what it did not make durable moves to a new segment, and the journal stops taking intents.
"""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nexa_core.errors import JournalError, Place, StoreError
from nexa_core.store.failpoints import failpoint
from nexa_core.store.files import describe_disk_error, disk_errors
from nexa_core.store.frames import Frame, encode_frame, scan_frames
from nexa_core.store.segments import (
    Segment,
    drop_ballast,
    list_segments,
    remove_journal,
    reserve_ballast,
)

__all__ = ["Journal", "JournalContents", "read_journal", "remove_journal"]

GROUP_FRAMES = 256
GROUP_SECONDS = 0.010

_UNIT = re.compile(r"[a-z0-9][a-z0-9._-]*")


@dataclass(slots=True)
class JournalContents:
    """What a unit's journals hold, folded in the order it was written.

    Frames carry `kind` (intent, reply, fail), `call_id`, `seq` and the fields that were given.
    `intents` are the calls in flight when the writer died: the only ones that may be asked again.
    Of several replies to one call the first counts; `duplicates` holds the later ones. `lost` are
    all intents whose end never came, also of calls that were asked again and answered later.
    """

    replies: dict[str, Frame] = field(default_factory=dict)
    intents: dict[str, Frame] = field(default_factory=dict)
    failures: dict[str, list[Frame]] = field(default_factory=dict)
    duplicates: list[Frame] = field(default_factory=list)
    lost: list[Frame] = field(default_factory=list)
    segments: int = 0
    torn_bytes: int = 0
    damaged_bytes: int = 0


class Journal:
    """The writer of one unit's journal; its methods may be called from any thread.

    Example:
        journal = Journal.open(folder, "00000")
        journal.intend(call_id, reserved_nano=1_200_000)
        journal.reply(call_id, reply=completion.as_json())
        await journal.synced()
        journal.remove()                                   # once the shard is in the manifest
    """

    def __init__(self, folder: Path, unit: str, segment: Segment) -> None:
        self._folder, self._unit = folder, unit
        self._segment: Segment | None = segment
        self._spent: list[Segment] = []
        self._name = segment.path.name
        self._count = self._durable = 0
        self._unsynced: deque[bytes] = deque()
        self._since = 0.0
        """When the oldest frame that is in no sync yet came, or a little before."""
        self._waiters: list[tuple[int, Future[None]]] = []
        self._error: StoreError | None = None
        self._closing = False
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._syncer = threading.Thread(target=self._sync_groups, name=self._name, daemon=True)
        self._syncer.start()

    @classmethod
    def open(cls, folder: Path, unit: str) -> Journal:
        """Open a new segment `<unit>.<n>.journal`; older ones are left as they are.

        Raises:
            DiskFullError: there is no room for the segment and its ballast.
            JournalError: the folder cannot be written, or `unit` is no file name.
        """
        if not _UNIT.fullmatch(unit):
            raise JournalError(
                f"'{unit}' is no name for a journal.", "Use a-z, 0-9, '.', '_', '-'."
            )
        with disk_errors(folder / unit, JournalError):
            reserve_ballast(folder, unit)
            return cls(folder, unit, Segment.create(folder, unit))

    def intend(self, call_id: str, **fields: Any) -> None:
        """Record that a request is about to go out.

        Raises:
            StoreError: the journal failed, now or before; the request must not go out.
        """
        self._append("intent", call_id, fields)
        failpoint("journal-after-intent")
        if self._error is not None:
            raise self._error

    def reply(self, call_id: str, **fields: Any) -> None:
        """Record a reply as it came; when this returns, a kill cannot lose it.

        A journal that failed still takes replies, as long as any segment can be written.

        Raises:
            StoreError: it could be written nowhere; it is kept in memory and `close` tries again.
        """
        self._append("reply", call_id, fields)
        failpoint("journal-after-reply")

    def fail(self, call_id: str, **fields: Any) -> None:
        """Record that a request ended without a reply; raises as `reply` does."""
        self._append("fail", call_id, fields)

    def sync(self) -> None:
        """Return when every frame written before is on disk: within one group.

        Raises:
            StoreError: the journal failed, now or before.
        """
        self._barrier().result()

    async def synced(self) -> None:
        """`sync` for an event loop, without blocking it."""
        import asyncio  # readers of journals have no use for it

        await asyncio.wrap_future(self._barrier())

    def close(self) -> None:
        """Make everything durable and release the files; a second call does nothing.

        Raises:
            StoreError: the journal failed, now or before.
        """
        with self._changed:
            if self._closing:
                return
            self._closing = True
            self._changed.notify()
        self._syncer.join()
        if self._error is not None and self._unsynced:
            self._rescue(self._error)
        for segment in (*self._spent, *([self._segment] if self._segment else [])):
            segment.close()
        drop_ballast(self._folder, self._unit)
        if self._error is not None:
            raise self._error

    def remove(self) -> None:
        """Close, then delete every segment of the unit: its shard is in the manifest."""
        with suppress(StoreError):
            self.close()
        remove_journal(self._folder, self._unit)

    def _append(self, kind: str, call_id: str, fields: dict[str, Any]) -> None:
        with self._lock:
            if self._closing:
                raise JournalError(f"The journal '{self._name}' is closed.")
            seq = f"{self._name}:{self._count + 1}"
            frame = encode_frame({**fields, "kind": kind, "call_id": call_id, "seq": seq})
            self._count += 1
            self._unsynced.append(frame)
            if len(self._unsynced) == 1:
                self._since = time.monotonic()
            try:
                if self._segment is not None:
                    self._segment.write(frame)
            except OSError as cause:
                self._rescue(cause)
            if self._segment is None:
                self._land()
            if len(self._unsynced) in (1, GROUP_FRAMES):
                self._changed.notify()

    def _land(self) -> None:
        """Find room for frames that are in memory only, or raise."""
        if self._error is not None:
            self._rescue(self._error)
            if self._segment is None:
                raise self._error

    def _barrier(self) -> Future[None]:
        future: Future[None] = Future()
        future.set_running_or_notify_cancel()  # a waiter that gives up must not end the barrier
        with self._lock:
            if self._error is not None:
                future.set_exception(self._error)
            elif self._durable >= self._count:
                future.set_result(None)
            else:
                self._waiters.append((self._count, future))
        return future

    def _sync_groups(self) -> None:
        while self._gather_group():
            with self._lock:
                segment, count = self._segment, self._count
                began = time.monotonic()
            if segment is None:
                continue
            try:
                segment.sync()
            except OSError as cause:
                with self._lock:
                    self._rescue(cause)
            else:
                with self._lock:
                    self._settle(count)
                    self._since = began  # what came meanwhile is not made to wait anew

    def _gather_group(self) -> bool:
        """Wait until a group is full, old enough or the last; False when there is no more to do."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing or (self._unsynced and self._segment))
            left = max(0.0, self._since + GROUP_SECONDS - time.monotonic())
            self._changed.wait_for(
                lambda: self._closing or len(self._unsynced) >= GROUP_FRAMES, left
            )
            return not self._closing or (bool(self._unsynced) and self._segment is not None)

    def _settle(self, count: int) -> None:
        while self._durable < count:
            self._unsynced.popleft()
            self._durable += 1
        done = [future for target, future in self._waiters if target <= count]
        self._waiters = [waiter for waiter in self._waiters if waiter[0] > count]
        for future in done:
            future.set_result(None)

    def _rescue(self, cause: OSError | StoreError) -> None:
        """Move what is not durable to a new segment, in the room that the ballast leaves."""
        if isinstance(cause, OSError):
            cause = describe_disk_error(cause, self._folder / self._name, JournalError)
        self._error = self._error or cause
        for _, future in self._waiters:
            future.set_exception(self._error)
        self._waiters = []
        if self._segment is not None:
            self._spent.append(self._segment)
            self._segment = None
        drop_ballast(self._folder, self._unit)
        with suppress(OSError):
            self._segment = Segment.create(self._folder, self._unit, b"".join(self._unsynced))
            self._spent[-1].cut()
            self._settle(self._count)


def read_journal(folder: Path, unit: str, salvage: bool = False) -> JournalContents:
    """What the segments of a unit hold; a dead tail is cut, and nothing on disk is changed.

    Args:
        salvage: Take every whole frame of a damaged journal and count the rest.

    Raises:
        JournalError: bytes changed after they were written, and `salvage` is off.
    """
    contents = JournalContents()
    opened: dict[str, Frame] = {}
    folded: set[str] = set()
    for path in list_segments(folder, unit).values():
        with disk_errors(path, JournalError):
            scan = scan_frames(path.read_bytes())
        if scan.damaged_at is not None and not salvage:
            raise JournalError(
                f"The journal '{path.name}' is damaged at byte {scan.damaged_at}: "
                f"{scan.damaged_bytes:,} bytes do not match their checksum.",
                "`nexa resume RUN --salvage` keeps what is whole and asks the lost calls again.",
                Place(str(path)),
            )
        contents.segments += 1
        contents.torn_bytes += scan.torn_bytes
        contents.damaged_bytes += scan.damaged_bytes
        for frame in scan.frames:
            if frame["seq"] not in folded:  # else it moved here from the segment before
                folded.add(frame["seq"])
                _fold(contents, frame, opened)
    contents.lost.extend(opened.values())
    contents.intents = {i: frame for i, frame in opened.items() if i not in contents.replies}
    return contents


def _fold(contents: JournalContents, frame: Frame, opened: dict[str, Frame]) -> None:
    """Fold one frame; `opened` holds the intent of each call whose end has not come yet."""
    call_id, kind = frame["call_id"], frame["kind"]
    if kind == "intent":
        if call_id in opened:
            contents.lost.append(opened[call_id])
        opened[call_id] = frame
        return
    opened.pop(call_id, None)
    if kind == "fail":
        contents.failures.setdefault(call_id, []).append(frame)
    elif call_id not in contents.replies:
        contents.replies[call_id] = frame
    else:
        contents.duplicates.append(frame)

"""Files and batches: uploaded as lines, worked on while time passes, handed out with their faults."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import time
from typing import TYPE_CHECKING, Any

from nexa_core.testing.chaos.replies import read_ask

if TYPE_CHECKING:
    from nexa_core.testing.chaos.service import Service
    from nexa_core.testing.chaos.wire import Head

__all__ = ["BatchDesk"]

_VALIDATING = 0.1
"""The share of a batch's time that it spends in validation."""
_FILE = re.compile(r"/v1/files/([^/]+)(/content)?")
_BATCH = re.compile(r"/v1/batches/([^/]+)(/cancel)?")
_ENDED = {"completed", "expired", "cancelled", "failed"}

Answered = tuple[int, Mapping[str, Any]] | bytes | None


@dataclass
class _Batch:
    id: str
    made: Mapping[str, Any]
    lines: list[dict[str, Any]]
    started_at: float
    created_at: int = field(default_factory=lambda: int(time()))
    cancelled_at: float | None = None
    final: str | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    completed: int = 0
    failed: int = 0


class BatchDesk:
    """Keeps files and batches; a batch's state follows from the time since it was made."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._files: dict[str, tuple[dict[str, Any], bytes]] = {}
        self._batches: dict[str, _Batch] = {}

    def serve(self, head: Head, body: bytes) -> Answered:
        """The reply to a request about files or batches: status and JSON, bytes, or None.

        Raises:
            ValueError, KeyError: the request cannot be read.
        """
        if head.path == "/v1/files" and head.method == "POST":
            return 200, self._keep_upload(head, body)
        if head.path == "/v1/batches":
            return self._create(json.loads(body)) if head.method == "POST" else self._list(head)
        if match := _FILE.fullmatch(head.path):
            return self._show_file(*match.groups())
        if match := _BATCH.fullmatch(head.path):
            return self._show_batch(*match.groups())
        return None

    def _keep_upload(self, head: Head, body: bytes) -> dict[str, Any]:
        fields = _read_form(head.headers.get("content-type", ""), body)
        return self._keep(fields["file"], fields.get("purpose", b"batch").decode())

    def _keep(self, content: bytes, purpose: str) -> dict[str, Any]:
        name = f"file-{len(self._files) + 1:06d}"
        shown = {"id": name, "object": "file", "bytes": len(content), "purpose": purpose}
        shown |= {"created_at": int(time()), "filename": f"{name}.jsonl", "status": "processed"}
        self._files[name] = shown, content
        return shown

    def _show_file(self, name: str, content: str | None) -> Answered:
        if name not in self._files:
            return 404, _error(f"No such file: {name}")
        shown, data = self._files[name]
        return data if content else (200, shown)

    def _create(self, made: Mapping[str, Any]) -> Answered:
        file_id = made["input_file_id"]
        if file_id not in self._files:
            return 400, _error(f"No such file: {file_id}")
        lines = [json.loads(line) for line in self._files[file_id][1].splitlines() if line.strip()]
        name = f"batch_{len(self._batches) + 1:06d}"
        batch = _Batch(name, made, lines, self._service.loop.time())
        self._batches[name] = batch
        return 200, self._show(batch)

    def _list(self, head: Head) -> Answered:
        """A page of batches, newest first, as `limit` and `after` say."""
        names = list(reversed(self._batches))
        after = head.query.get("after")
        start = names.index(after) + 1 if after else 0
        page = names[start : start + int(head.query.get("limit", 20))]
        shown = [self._show(self._batches[name]) for name in page]
        ends = {"first_id": page[0], "last_id": page[-1]} if page else {}
        more = start + len(page) < len(names)
        return 200, {"object": "list", "data": shown, "has_more": more, **ends}

    def _show_batch(self, name: str, cancel: str | None) -> Answered:
        batch = self._batches.get(name)
        if batch is None:
            return 404, _error(f"No such batch: {name}")
        if cancel and self._status(batch) not in _ENDED:
            batch.cancelled_at = self._service.loop.time()
        return 200, self._show(batch)

    def _show(self, batch: _Batch) -> dict[str, Any]:
        status = self._status(batch)
        if status in _ENDED and batch.final is None:
            batch.final = status
            if status != "failed":
                self._work(batch, self._share(batch, status))
        counts = {"total": len(batch.lines), "completed": batch.completed, "failed": batch.failed}
        errors = [{"code": "invalid_json_line", "message": "The file is not valid.", "line": 1}]
        return {
            "id": batch.id,
            "object": "batch",
            "endpoint": batch.made.get("endpoint"),
            "input_file_id": batch.made["input_file_id"],
            "completion_window": batch.made.get("completion_window", "24h"),
            "status": status,
            "created_at": batch.created_at,
            "expires_at": batch.created_at + 86_400,
            "metadata": batch.made.get("metadata"),
            "request_counts": counts,
            "output_file_id": batch.output_file_id,
            "error_file_id": batch.error_file_id,
            "errors": {"object": "list", "data": errors} if status == "failed" else None,
        }

    def _status(self, batch: _Batch) -> str:
        if batch.final is not None:
            return batch.final
        service, key = self._service, batch.id.encode()
        whole = service.settings.batch_seconds
        passed = service.loop.time() - batch.started_at
        if passed < whole * _VALIDATING:
            return "validating"
        if service.draw.happens("batch_failed", key):
            return "failed"
        if batch.cancelled_at is not None:
            waited = service.loop.time() - batch.cancelled_at
            return "cancelled" if waited > 0.1 * whole else "cancelling"
        if passed < whole:
            return "in_progress"
        return "expired" if service.draw.happens("batch_expired", key) else "completed"

    def _share(self, batch: _Batch, status: str) -> float:
        """How much of its work a batch got done before it ended."""
        if status == "cancelled" and batch.cancelled_at is not None:
            whole = self._service.settings.batch_seconds or 1.0
            return min(1.0, (batch.cancelled_at - batch.started_at) / whole)
        return 0.5 if status == "expired" else 1.0

    def _work(self, batch: _Batch, share: float) -> None:
        """Answer the lines of a batch, and file what came of them."""
        happens, done = self._service.draw.happens, round(len(batch.lines) * share)
        outputs: list[dict[str, Any]] = []
        errors: list[dict[str, Any]] = []
        for position, line in enumerate(batch.lines):
            key = f"{batch.id}/{position}".encode()
            if position >= done:
                lost = {"code": "batch_expired", "message": "The batch ended before this request."}
                errors.append(_result(line, key, None, lost))
            elif happens("line_missing", key):
                continue
            elif happens("line_error", key):
                errors.append(_result(line, key, (500, _error("The server had an error."))))
            else:
                status, body = self._answer(batch, line)
                found = outputs if status == 200 else errors
                found += [_result(line, key, (status, body))] * (1 + happens("line_duplicate", key))
        if happens("batch_shuffled", batch.id.encode()):
            random.Random(batch.id).shuffle(outputs)
        batch.completed, batch.failed = len(outputs), len(errors)
        batch.output_file_id = self._file_lines(outputs)
        batch.error_file_id = self._file_lines(errors)

    def _file_lines(self, lines: list[dict[str, Any]]) -> str | None:
        if not lines:
            return None
        content = "\n".join(json.dumps(line) for line in lines) + "\n"
        name: str = self._keep(content.encode(), "batch_output")["id"]
        return name

    def _answer(self, batch: _Batch, line: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
        service = self._service
        try:
            ask = read_ask(json.dumps(line["body"]).encode(), "chat" in line["url"])
            fault = service.draw.draw_content(ask.key)
            reply = service.writer.write(ask, fault, service.settings.prices.batch_share)
        except (ValueError, KeyError, TypeError, AttributeError) as cause:
            return 400, _error(str(cause))
        service.record(reply, ask.key, "/v1/batches", 200, fault)
        return 200, json.loads(reply.data)


def _result(
    line: Mapping[str, Any],
    key: bytes,
    response: tuple[int, Mapping[str, Any]] | None,
    error: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    name = key.decode().replace("/", "_")
    told = None
    if response is not None:
        told = {"status_code": response[0], "request_id": f"req_{name}", "body": response[1]}
    shown = {"id": f"batch_req_{name}", "custom_id": line.get("custom_id")}
    return {**shown, "response": told, "error": error}


def _error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "code": None}}


def _read_form(kind: str, body: bytes) -> dict[str, bytes]:
    """The fields of a multipart form, by name."""
    found = re.search(r'boundary="?([^";]+)"?', kind)
    if found is None:
        raise ValueError("The upload must be multipart/form-data.")
    fields = {}
    for part in body.split(b"--" + found[1].encode())[1:-1]:
        head, _, content = part.partition(b"\r\n\r\n")
        name = re.search(rb'[; ]name="?([^";\r\n]+)"?', head)
        if name is not None:
            fields[name[1].decode()] = content.removesuffix(b"\r\n")
    return fields

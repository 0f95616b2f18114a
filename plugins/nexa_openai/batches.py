"""Many requests as one batch, later and at half the price: OpenAI's files and batches APIs."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import aiohttp

from nexa_core import BatchState, CallFailed, Charge, Completion, Failure, ModelError, Request
from nexa_openai.coding import decode, encode
from nexa_openai.failures import explain_refusal
from nexa_openai.model import EndpointModel
from nexa_openai.replies import read_completion
from nexa_openai.transfers import Transfers

if TYPE_CHECKING:
    from nexa_core import Role

NONCE = "nexa_nonce"
_PAGE = 100
_MOST_PAGES = 50
Status = Literal["running", "done", "expired", "cancelled", "failed"]
_STATUS: Mapping[str, Status] = {
    "completed": "done",
    "expired": "expired",
    "cancelled": "cancelled",
    "failed": "failed",
}
"""Every other state (validating, in_progress, finalizing, cancelling) still moves."""
_UNDONE = frozenset(["batch_expired", "batch_cancelled"])


class BatchEndpointModel(EndpointModel):
    """A model whose endpoint also takes batches; its limits are OpenAI's."""

    most_requests = 50_000
    most_bytes = 200_000_000

    def __init__(self, role: Role) -> None:
        super().__init__(role)
        self._transfers = Transfers(self._connection)

    def measure(self, request: Request) -> int:
        """The bytes of a request's line in a batch file."""
        return len(self._write_line(request))

    async def create_batch(self, requests: Sequence[Request], nonce: str) -> BatchState:
        """Hand the requests over as a file and start the batch; `nonce` is kept in its metadata.

        A file that was handed over and never started costs nothing.

        Raises:
            CallFailed, ModelError: As for `complete`. Where the failure leaves open whether the
                batch was started, `find_batch` tells.
        """
        uploaded = await self._upload(requests, nonce)
        order = {
            "input_file_id": uploaded.get("id"),
            "endpoint": f"/v1{self._path}",
            "completion_window": "24h",
            "metadata": {NONCE: nonce},
        }
        return _read_state(await self._transfers.ask("POST", "/batches", encode(order)))

    async def find_batch(self, nonce: str) -> BatchState | None:
        """The batch that was started with a nonce, among the newest 5,000; None where none was."""
        async for batch in self._list_batches():
            metadata = batch.get("metadata")
            if isinstance(metadata, dict) and metadata.get(NONCE) == nonce:
                return _read_state(batch)
        return None

    async def poll_batch(self, batch_id: str) -> BatchState:
        """Where a batch stands."""
        return _read_state(await self._transfers.ask("GET", f"/batches/{batch_id}"))

    async def fetch_batch(self, batch_id: str) -> Mapping[str, Completion | CallFailed]:
        """What became of each request, by its id; the finished ones of expired batches too.

        Of two lines for one request the first counts.
        """
        batch = await self._transfers.ask("GET", f"/batches/{batch_id}")
        results: dict[str, Completion | CallFailed] = {}
        for kind in ("output_file_id", "error_file_id"):
            file_id = batch.get(kind)
            if not isinstance(file_id, str):
                continue
            content = await self._transfers.send("GET", f"/files/{file_id}/content")
            for request_id, result in self._read_lines(content):
                results.setdefault(request_id, result)
        return results

    async def _upload(self, requests: Sequence[Request], nonce: str) -> Mapping[str, Any]:
        lines = io.BytesIO(b"".join(self._write_line(request) for request in requests))
        form = aiohttp.FormData()
        form.add_field("purpose", "batch")
        form.add_field("file", lines, filename=f"{nonce}.jsonl", content_type="application/jsonl")
        payload = form()
        try:
            return await self._transfers.ask("POST", "/files", payload, payload.content_type)
        except CallFailed as failure:
            failure.charge = Charge.NONE  # a file by itself is free
            raise

    def _write_line(self, request: Request) -> bytes:
        line = {
            "custom_id": request.id,
            "method": "POST",
            "url": f"/v1{self._path}",
            "body": self._writer.build(request, self.form.mode),
        }
        return encode(line) + b"\n"

    async def _list_batches(self) -> AsyncIterator[Mapping[str, Any]]:
        after = ""
        for _ in range(_MOST_PAGES):
            page = await self._transfers.ask("GET", f"/batches?limit={_PAGE}{after}")
            batches = [one for one in page.get("data") or () if isinstance(one, dict)]
            for batch in batches:
                yield batch
            if not page.get("has_more") or not batches:
                return
            after = f"&after={batches[-1].get('id')}"

    def _read_lines(self, content: bytes) -> Iterator[tuple[str, Completion | CallFailed]]:
        for line in content.splitlines():
            if not line.strip():
                continue
            try:
                result = decode(line)
            except CallFailed:
                continue  # a line without an id is a request without a line
            request_id = result.get("custom_id")
            if isinstance(request_id, str):
                yield request_id, self._read_result(result)

    def _read_result(self, result: Mapping[str, Any]) -> Completion | CallFailed:
        error, response = result.get("error"), result.get("response")
        if not isinstance(response, dict):
            return _explain_undone(error)
        status, body = response.get("status_code"), response.get("body")
        if status != 200 or not isinstance(body, dict):
            code = status if isinstance(status, int) and status != 200 else 500
            whom = f"The model '{self.name}' at {self.endpoint}"
            failure = explain_refusal(code, encode(body), {}, whom, self._key_name)
            if isinstance(failure, CallFailed):
                return failure
            return CallFailed(Failure.BAD_REQUEST, str(failure), status=code)
        try:
            self._check_server(body)
            return self.form.read(read_completion(body), self.form.mode)
        except CallFailed as failure:
            return failure


def _explain_undone(error: Any) -> CallFailed:
    code = error.get("code") if isinstance(error, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    known = code in _UNDONE
    return CallFailed(
        Failure.OVERLOAD if known else Failure.BAD_REQUEST,
        f"{code or 'the batch'}: {message or 'no answer'}",
        Charge.NONE,
        raw=encode(error).decode(),
    )


def _read_state(batch: Mapping[str, Any]) -> BatchState:
    counts = batch.get("request_counts") or {}
    found = (batch.get("errors") or {}).get("data") or [{}]
    if not isinstance(batch.get("id"), str):
        raise ModelError("The endpoint's batch has no id.", "Does the endpoint have a batch API?")
    return BatchState(
        batch["id"],
        _STATUS.get(str(batch.get("status")), "running"),
        counts.get("total") or 0,
        (counts.get("completed") or 0) + (counts.get("failed") or 0),
        found[0].get("message") or "",
    )

"""A run has one owner."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from nexa_core.actions import running
from nexa_core.errors import RunLockedError
from nexa_core.store.lock import RunLock
from nexa_core.workspace import Workspace


def test_a_second_owner_is_refused_before_any_endpoint_is_asked(
    workspace: Workspace,
    answering: Callable[..., dict[str, Any]],
    write_rows: Callable[..., str],
    run: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Preflight may have to wait for an endpoint; who comes second does not wait with it."""
    write_rows([{"question": "What is steel?"}])
    run(answering(), run_id="held")
    monkeypatch.setattr(running, "check_plan", lambda *_: pytest.fail("it asked first"))
    with RunLock.acquire(workspace.artifacts_path / "held"), pytest.raises(RunLockedError):
        running.resume_run("held", workspace=workspace)

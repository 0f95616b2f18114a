"""The `nexa` command in a folder of its own, noting every journaled reply where nexa does not see it.

Arguments: the folder, then those of the command. Output goes to `out` and `err` in the folder.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from nexa_core.cli.app import run_command
from nexa_core.store.journal import Journal


def redirect(name: str, fd: int) -> None:
    file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(file, fd)


def note_replies() -> None:
    """Append the id of a call to `acks` as soon as the journal says that its reply is safe."""
    acks = os.open("acks", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    journal_reply = Journal.reply

    def reply(self: Journal, call_id: str, **fields: Any) -> None:
        journal_reply(self, call_id, **fields)
        os.write(acks, f"{call_id}\n".encode())

    Journal.reply = reply  # type: ignore[method-assign]


if __name__ == "__main__":
    os.chdir(sys.argv[1])
    redirect("out", 1)
    redirect("err", 2)
    note_replies()
    sys.exit(run_command(sys.argv[2:]))

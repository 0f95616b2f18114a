"""What reaches a real terminal: only what draws, no colours where none are wanted, and a clean end."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import sys
import termios
import time
from collections.abc import Callable

import pytest

from nexa_core.cli.app import run_command

DRAWS = re.compile(
    rb"\x1b\[[0-9;]*[mHJKABCD]|\x1b\[\?[0-9;]+[hlu]|\x1b\[[<>=][0-9;]*u|\x1b\[\?[0-9]+\$p|\x1b\[6n"
    rb"|\x1b\[>[0-9]*[cq]|\x1b\]22;default\x07"
)
"""Everything that the screens need: colours, the cursor and its shape, clearing, modes and questions about modes."""


@pytest.fixture
def terminal(workspace) -> Callable[..., tuple[bytes, int]]:
    """Runs `nexa watch` in a pseudo-terminal, presses keys once something is seen; its bytes and exit code."""

    def run_in(*steps: tuple[bytes, bytes], **environment: str) -> tuple[bytes, int]:
        pid, fd = pty.fork()
        if pid == 0:
            os.chdir(workspace.root)
            os.environ |= {"TERM": "xterm-256color", "COLORTERM": "truecolor", **environment}
            os.execv(sys.executable, [sys.executable, "-m", "nexa_core", "watch", "demo-1"])
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        seen, start, end = b"", 0, time.monotonic() + 30
        left = list(steps)
        while time.monotonic() < end:
            if select.select([fd], [], [], 0.05)[0]:
                try:
                    seen += os.read(fd, 1 << 16)
                except OSError:
                    break
            if left and left[0][0] in seen[start:]:
                start = len(seen)
                os.write(fd, left.pop(0)[1])
        os.close(fd)
        return seen, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    return run_in


@pytest.mark.slow
def test_no_escape_of_a_model_reaches_the_terminal(hostile, terminal):
    """Over every screen, all that is left after taking away what draws is text without a control character."""
    seen, code = terminal(
        (b"Metric over time", b"g"),
        (b"Reviewers", b"4"),
        (b"State the symbol", b"\r"),
        (b"instruction", b"q"),
    )
    text = DRAWS.sub(b"", seen)
    assert b"\x1b" not in text, text[max(0, text.find(b"\x1b") - 40) :][:80]
    assert not re.search(rb"[\x00-\x07\x0b\x0c\x0e-\x1a\x7f]", text)
    assert code == 0


@pytest.mark.slow
def test_without_colours_none_are_sent_and_the_terminal_is_given_back(run, terminal):
    """NO_COLOR: no colour in any SGR sequence; at the end the cursor and the old screen are back."""
    seen, code = terminal((b"Metric over time", b"q"), NO_COLOR="1")
    styles = {
        part for found in re.findall(rb"\x1b\[([0-9;]*)m", seen) for part in found.split(b";")
    }
    # Bold, dim, italic, underlined, reverse and their ends; 39 and 49 are the terminal's own colours.
    assert styles <= {b"", b"0", b"1", b"2", b"3", b"4", b"7", b"22", b"39", b"49"}
    assert code == 0
    assert seen.rindex(b"\x1b[?1049l") > seen.rindex(b"\x1b[?1049h")
    assert seen.rindex(b"\x1b[?25h") > seen.rindex(b"\x1b[?25l")


def test_without_a_terminal_it_says_what_to_do_instead(run, workspace, monkeypatch, capsys):
    """Exit 2, and the command that prints."""
    monkeypatch.chdir(workspace.root)
    assert run_command(["watch", "latest"]) == 2
    assert "nexa status latest" in capsys.readouterr().err


def test_json_prints_where_the_run_stands(run, workspace, monkeypatch, capsys):
    """As `nexa status` and `nexa runs list` do."""
    monkeypatch.chdir(workspace.root)
    assert run_command(["watch", "demo-1", "--json"]) == 0
    assert '"status": "waiting"' in capsys.readouterr().out
    assert run_command(["watch", "--json"]) == 0
    assert '"run": "demo-1"' in capsys.readouterr().out


def test_the_curtain_shows_the_runs_numbers(run, workspace):
    """What is drawn before the screens are loaded comes from the run's own status."""
    from nexa_core.cli.watching import _first_lines

    lines = _first_lines(workspace, "demo-1")
    assert "demo-1  waiting" in lines[0] and "200 accepted" in lines[4]

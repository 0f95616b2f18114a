"""`nexa prompts`: what would be asked, and every fault with its place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nexa_core.cli.app import run_command

PROMPT = "---\nname: {name}\nversion: 2\ninputs: [{inputs}]\nsystem: Be brief.\n---\nExplain {{{{ {uses} }}}}.\n"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace with a prompt, and a pipeline that asks, answers and asks again."""
    (tmp_path / "nexa.toml").write_text("nexa = 1\n")
    for folder in ("prompts", "pipelines"):
        (tmp_path / folder).mkdir()
    (tmp_path / "rows.jsonl").write_text('{"topic": "lead"}\n{"topic": "tin"}\n')
    text = PROMPT.format(name="explain", inputs="topic", uses="topic")
    (tmp_path / "prompts" / "explain.md").write_text(text)
    steps = [
        {"generate": {"id": "answer", "model": "m", "prompt": "explain"}},
        {"generate": {"id": "again", "model": "m", "prompt": {"user": "Mend: {{ response }}"},
                      "into": "mended"}},
    ]  # fmt: skip
    pipeline = {
        "nexa": 1,
        "name": "p",
        "source": {"path": "rows.jsonl"},
        "models": {"m": {"model": "local/nexa-tiny"}},
        "steps": steps,
        "pilot": {"rows": "all", "max_iterations": 1},
    }
    (tmp_path / "pipelines" / "p.yaml").write_text(json.dumps(pipeline, indent=1))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ask(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict]:
    code = run_command(["prompts", *arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_a_pipeline_shows_what_a_row_asks(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Messages are rendered for the row; what an earlier step will write stands as its name."""
    code, found = ask(capsys, "show", "p", "--row", "2")
    first, second = found["prompts"]
    assert code == 0
    assert first["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Explain tin."},
    ]
    assert (first["version"], len(first["hash"]), first["inputs"]) == (2, 64, {"topic": "tin"})
    assert second["messages"][-1]["content"] == "Mend: ⟨response⟩"
    assert ask(capsys, "show", "p", "--row", "3")[0] == 2


def test_a_prompt_file_shows_without_a_pipeline(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A prompt by name or path is shown for a row of the source that is named."""
    for name in ("explain", "prompts/explain.md"):
        _, found = ask(capsys, "show", name, "--source", "rows.jsonl")
        assert found["prompts"][0]["messages"][1]["content"] == "Explain lead."
    code, found = ask(capsys, "show", "explain", "--row", "2")
    assert code == 2 and "--source" in found["fix"]


def test_check_finds_every_fault_with_its_line(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A template that is none, an undeclared input and a missing column: exit 2, file and line."""
    assert ask(capsys, "check")[0] == 0
    prompts = workspace / "prompts"
    (prompts / "README.md").write_text("What `nexa init` writes beside them is no prompt.\n")
    assert ask(capsys, "check")[0] == 0
    (prompts / "odd.md").write_text(PROMPT.format(name="odd", inputs="topic", uses="subject"))
    (prompts / "cut.md").write_text(PROMPT.format(name="cut", inputs="", uses="topic") + "{% if %}")
    (workspace / "rows.jsonl").write_text('{"subject": "lead"}\n')
    code, found = ask(capsys, "check")
    assert code == 2
    lines = {Path(fault["file"]).name: fault["line"] for fault in found["faults"]}
    assert lines["odd.md"] == 7
    assert lines["cut.md"] == 8
    assert "p.yaml" in lines
    assert [one["prompt"] for one in found["prompts"]] == ["explain"]

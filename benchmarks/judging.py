"""Whether judging adds a barrier: teacher and two judges together, against the slowest of them alone.

    python benchmarks/judging.py [--rows 2000] [--concurrency 64] [--latency 0.3] [--rounds 3] [--write]

The chaos server answers each call after the latency and up to a third of it more, every role with as
many calls under way as the others. Alone, each role works through the same rows in a run of its own: the
teacher on the questions, each judge on the same answers. Figures are seconds from the beginning of a
run to its end, medians over rounds in which the four take turns; the ratio is the median of the rounds'.
--write puts them into docs/checks.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from nexa_core.actions.running import start
from nexa_core.pipeline import pipeline_from
from nexa_core.plugins import load_plugins
from nexa_core.testing.chaos import Settings, serve_in_process
from nexa_core.workspace import Workspace, find_workspace

DOC_PATH = Path(__file__).parent.parent / "docs" / "checks.md"
BEGINS, ENDS = "<!-- judging: written by benchmarks/judging.py -->", "<!-- judging ends -->"
JUDGES = ("factual", "reasoning")
ROLES = ("teacher", *JUDGES)


def declare(url: str, source: str, roles: tuple[str, ...], concurrency: int) -> dict[str, Any]:
    """A pipeline of the steps of some roles; the judges read `response`, wherever it comes from."""
    asked = {"prompt": {"user": "{{ prompt }}"}, "into": "response"}
    steps: list[dict[str, Any]] = [
        {"generate": {"id": "answer", "model": "teacher", **asked}}
        if role == "teacher"
        else {"judge": {"id": role, "model": role, "rubric": f"judge/{role}"}}
        for role in roles
    ]
    model = {"base_url": url, "concurrency": concurrency, "sampling": {"max_tokens": 512}}
    return {
        "nexa": 1,
        "name": "-".join(roles),
        "source": {"path": source, "id": "id"},
        "models": {role: {"model": f"vllm/{role}", **model} for role in roles},
        "steps": steps,
        "accept": {"eager": False},
        "scale": {"rows": "all"},
    }


def measure(workspace: Workspace, pipeline: dict[str, Any]) -> float:
    """Seconds of one run; every row must have come through."""
    plugins = load_plugins(workspace, announce=lambda text: None)
    outcome = start(pipeline_from(pipeline), workspace, plugins)
    found = outcome.as_json()
    if found["status"] != "done" or found["rows"]["failed"]:
        raise SystemExit(f"the run '{outcome.run}' did not come through: {found['rows']}")
    return outcome.wall_s


def write_sources(folder: Path, rows: int) -> None:
    """Questions, and the same with answers of a usual length."""
    answer = "The plate expands when it is heated, because its atoms swing wider. " * 20
    questions = [
        {"id": n, "prompt": f"What happens to plate {n} in the fire?"} for n in range(rows)
    ]
    answered = [{**row, "response": f"{answer}{row['id']}"} for row in questions]
    for name, content in {"questions": questions, "answers": answered}.items():
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, content)))


def compare(asked: argparse.Namespace) -> dict[str, Any]:
    """Medians of the four, and the median ratio of the whole to the slowest role."""
    rounds = []
    settings = Settings(models=ROLES, latency=asked.latency, jitter=asked.latency / 3, approval=0.9)
    with tempfile.TemporaryDirectory() as home, serve_in_process(settings) as server:
        folder = Path(home)
        (folder / "nexa.toml").write_text("nexa = 1\n")
        write_sources(folder, asked.rows)
        workspace = find_workspace(folder)
        for _ in range(asked.rounds):
            seconds = {
                role: measure(
                    workspace,
                    declare(
                        server.url,
                        "questions.jsonl" if role == "teacher" else "answers.jsonl",
                        (role,),
                        asked.concurrency,
                    ),
                )
                for role in ROLES
            }
            whole = declare(server.url, "questions.jsonl", ROLES, asked.concurrency)
            seconds["whole"] = measure(workspace, whole)
            rounds.append(seconds)
    ratios = [each["whole"] / max(each[role] for role in ROLES) for each in rounds]
    middle = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
    return {**middle, "ratio": statistics.median(ratios), "load": os.getloadavg()[0]}


def describe(asked: argparse.Namespace, found: dict[str, Any]) -> str:
    """The paragraph for the page."""
    alone = ", ".join(f"{role} {found[role]:.1f} s" for role in ROLES)
    return (
        f"{asked.rows:,} rows, {asked.concurrency} calls under way for each role, "
        f"{asked.latency * 1000:.0f} to {asked.latency * 4000 / 3:.0f} ms a call: alone {alone}; together "
        f"{found['whole']:.1f} s, {found['ratio']:.2f} of the slowest alone (asked: at most 1.15). Rounds: "
        f"{asked.rounds}, on {os.cpu_count()} cores shared with the server, load average {found['load']:.1f} "
        f"(`python benchmarks/judging.py --write`)."
    )


def write(text: str) -> None:
    """Put the paragraph between its marks."""
    page = DOC_PATH.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGINS)
    _, _, after = rest.partition(ENDS)
    DOC_PATH.write_text(f"{before}{BEGINS}\n{text}\n{ENDS}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--latency", type=float, default=0.3, help="seconds")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="into docs/checks.md")
    asked = parser.parse_args()
    found = compare(asked)
    print(json.dumps({name: round(value, 3) for name, value in found.items()}))
    if asked.write:
        write(describe(asked, found))
        print(f"written into {DOC_PATH}", file=sys.stderr)


if __name__ == "__main__":
    main()

"""The same rules and the same near-duplicate search here, in datatrove and in distilabel, on the same texts.

    python benchmarks/checks_peers.py [--rows 6000] [--run-rows 50000] [--peers datatrove,distilabel] [--write]

The rules are: empty, delimiters, refusal, length. In datatrove they are a `LambdaFilter` over documents, in
distilabel a `@step` over its batches, by itself and in a `Pipeline` (in batches of 1,000 rows, and for
fewer rows in batches of the 50 that it takes by itself); here they are checks, by themselves and in a
whole run, whose shards hold the 1,000 rows that they hold by themselves. Near duplicates are in datatrove
the signature stage of its MinHash alone, without the three stages after it, and in distilabel
`MinHashDedup` over 5-grams of characters; here verdicts have reasons, and the search is whole. CPU
seconds of all processes, imports and a first short run not counted, each side in a process of its own,
one after the other; the median of three turns. Peers run in environments of their own under --cache,
which are built when missing. --write puts the table into docs/checks.md.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BANDS, HASHES, PASSES = 13, 8, 10
SHARD_ROWS = 1000
MOST_SECONDS = 300
"""How long a peer's pipeline may take: one of its steps that cannot start leaves it waiting for ever."""
PEERS = {
    "datatrove": ("datatrove[processing]", "spacy"),
    # distilabel imports requests without asking for it, and its MinHashDedup knows no newer datasketch
    "distilabel": ("distilabel[minhash]==1.5.3", "datasketch==1.6.5", "requests"),
}
DOC_PATH = Path(__file__).parent.parent / "docs" / "checks.md"
BEGINS, ENDS = "<!-- peers: written by benchmarks/checks_peers.py -->", "<!-- peers end -->"
Speeds = dict[str, float]


def cpu_seconds() -> float:
    """User and system time of this process and of the children it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def rate(rows: int, work: Callable[[], Any]) -> float:
    """Rows per CPU second."""
    began = cpu_seconds()
    work()
    return rows / (cpu_seconds() - began)


def measure_nexa(texts: list[str], more: list[str], **_: Any) -> Speeds:
    """The checks and the near duplicates, in shards of 1,000 rows."""
    import pyarrow as pa
    from checks import CHECKS, build

    from nexa_checks import register_checks

    bounds = {"length": {"min_chars": 120, "max_chars": 2000}}
    names = [name for name in CHECKS if name != "runaway"]
    checks = [build(register_checks(), name, **bounds.get(name, {})) for name in names]
    near = build(register_checks(), "near_duplicates", threshold=0.8)
    tables = [
        pa.table({"response": texts[at : at + SHARD_ROWS]})
        for at in range(0, len(texts), SHARD_ROWS)
    ]
    for check in checks:
        check.score(tables[0])

    def search() -> None:
        state = near.start()
        for table in tables:
            state, _ = near.fold(state, table)

    rules = rate(PASSES * len(texts), lambda: [c.score(t) for t in tables * PASSES for c in checks])
    run_nexa(more[:SHARD_ROWS])  # what is imported late is imported now
    whole, waited = run_nexa(more)
    found = {"rules": rules, "near": rate(len(texts), search)}
    return {**found, "run": whole, "default": whole, "waited": waited}


def run_nexa(texts: list[str]) -> tuple[float, float]:
    """Rows per CPU second, and per second of the clock, of a whole run.

    Source file, checks, shards committed, report written.
    """
    from checks import DELIMITERS

    from nexa_core.actions.running import start
    from nexa_core.pipeline import pipeline_from
    from nexa_core.plugins import load_plugins
    from nexa_core.workspace import find_workspace

    bounds = {"min_chars": 120, "max_chars": 2000}
    leakage = {"delimiter_leakage": {"delimiters": DELIMITERS}}
    declared = {
        "nexa": 1,
        "name": "rules",
        "source": {"path": "rows.jsonl"},
        "steps": [{"check": ["empty", leakage, "refusal", {"length": bounds}]}],
        "scale": {"rows": "all", "shard_rows": SHARD_ROWS},
    }
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        (folder / "nexa.toml").write_text("nexa = 1\n")
        lines = (json.dumps({"n": n, "response": text}) for n, text in enumerate(texts))
        (folder / "rows.jsonl").write_text("\n".join(lines))
        workspace = find_workspace(folder)
        plugins = load_plugins(workspace, announce=lambda text: None)
        began = time.perf_counter()
        spent = rate(len(texts), lambda: start(pipeline_from(declared), workspace, plugins))
        return spent, len(texts) / (time.perf_counter() - began)


def make_rule(refusal: str, delimiters: list[str]) -> Callable[[str], bool]:
    """The rules as one would write them in Python."""
    refuses = re.compile(refusal, re.IGNORECASE)
    return lambda text: (
        bool(text.strip())
        and not any(each in text for each in delimiters)
        and not refuses.match(text)
        and 120 <= len(text) <= 2000
    )


def measure_datatrove(texts: list[str], refusal: str, delimiters: list[str], **_: Any) -> Speeds:
    """A filter over documents, and the signatures of its MinHash."""
    from datatrove.data import Document
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature
    from datatrove.pipeline.filters import LambdaFilter

    passes = make_rule(refusal, delimiters)
    documents = [Document(text=text, id=str(n)) for n, text in enumerate(texts)]
    rules = rate(
        PASSES * len(texts),
        lambda: [
            list(LambdaFilter(lambda document: passes(document.text)).run(iter(documents)))
            for _ in range(PASSES)
        ],
    )
    config = MinhashConfig(n_grams=5, num_buckets=BANDS, hashes_per_bucket=HASHES)
    with tempfile.TemporaryDirectory() as folder:
        stage = MinhashDedupSignature(folder, config)
        stage.get_shingles("a first text loads the tokenizer")
        return {"rules": rules, "near": rate(len(texts), lambda: stage.run(iter(documents)))}


def measure_distilabel(texts: list[str], refusal: str, delimiters: list[str], **_: Any) -> Speeds:
    """A step by itself, and its MinHash step, both without the pipeline around them."""
    import warnings

    warnings.simplefilter("ignore")
    from distilabel.pipeline import Pipeline
    from distilabel.steps import MinHashDedup, StepInput, step

    passes = make_rule(refusal, delimiters)

    def apply(inputs: Any) -> Any:
        for row in inputs:
            row["passes"] = passes(row["text"])
        yield inputs

    apply.__annotations__ = {"inputs": StepInput}  # distilabel reads them, and not as text
    check_rules = step(inputs=["text"], outputs=["passes"])(apply)
    rows = [{"text": text} for text in texts]
    batches = [rows[at : at + SHARD_ROWS] for at in range(0, len(rows), SHARD_ROWS)]
    alone = check_rules(name="alone", pipeline=Pipeline(name="alone"))
    rules = rate(
        PASSES * len(texts),
        lambda: [list(alone.process(batch)) for batch in batches * PASSES],
    )
    dedup = MinHashDedup(
        name="near", tokenizer="ngrams", n=5, threshold=0.8, pipeline=Pipeline("p")
    )
    dedup.load()
    near = rate(len(texts), lambda: [list(dedup.process(batch)) for batch in batches])
    return {"rules": rules, "near": near}


SIDES = {"nexa": measure_nexa, "datatrove": measure_datatrove, "distilabel": measure_distilabel}


def find_python(peer: str, cache: Path) -> str:
    """The interpreter of a peer's environment, which is built where it is missing."""
    home = cache / f"checks-{peer}"
    python = home / "bin" / "python"
    if not (home / "ready").exists():
        print(f"building the environment of {peer} in {home}", file=sys.stderr)
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        subprocess.run(["uv", "venv", "-q", "--clear", "-p", version, str(home)], check=True)
        install = ["uv", "pip", "install", "-q", "--python", str(python), *PEERS[peer]]
        subprocess.run(install, check=True)
        (home / "ready").touch()
    return str(python)


def measure(side: str, python: str, texts_path: str) -> Speeds:
    """One side in a process of its own."""
    env = dict(os.environ)
    if side != "nexa":
        env.pop("PYTHONPATH", None)
    command = [python, __file__, "--side", side, "--texts", texts_path]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=env)
    found: Speeds = json.loads(done.stdout.splitlines()[-1])
    if side == "distilabel":
        program = str(Path(__file__).parent / "distilabel_rules.py")
        ran = subprocess.run(
            [python, program, texts_path],
            check=True, capture_output=True, text=True, env=env, timeout=MOST_SECONDS,
        )  # fmt: skip
        found |= json.loads(
            next(line for line in ran.stdout.splitlines() if line.startswith('{"run"'))
        )
    return found


def compare(peers: list[str], rows: int, run_rows: int, cache: Path, turns: int) -> dict[str, Any]:
    """Medians over the turns for every side, and of nexa's ratio to each peer."""
    from checks import DELIMITERS, write_texts

    from nexa_checks.refusals import OPENINGS

    pythons = {"nexa": sys.executable, **{peer: find_python(peer, cache) for peer in peers}}
    given = {
        "texts": write_texts(rows, 5),
        "more": write_texts(run_rows, 6),
        "refusal": rf"[\s\"'“‘>*_#-]*(?:{'|'.join(OPENINGS)})",
        "delimiters": DELIMITERS,
    }
    found: list[dict[str, Speeds]] = []
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        json.dump(given, file)
        file.flush()
        found = [
            {side: measure(side, python, file.name) for side, python in pythons.items()}
            for _ in range(turns)
        ]
    result: dict[str, Any] = {"rows": rows, "run_rows": run_rows, "turns": turns}
    result["load"] = os.getloadavg()[0]
    for side in pythons:
        result[side] = {
            kind: round(statistics.median(turn[side][kind] for turn in found))
            for kind in found[0][side]
        }
    for peer in peers:
        result[f"{peer}_ratio"] = {
            kind: round(
                statistics.median(turn["nexa"][kind] / turn[peer][kind] for turn in found), 1
            )
            for kind in found[0][peer]
        }
    return result


KINDS = {
    "rules": "empty, delimiters, refusal, length",
    "run": "the same in a whole run, 1,000 rows at a time",
    "waited": "the same, rows per second of the clock",
    "default": "the same in a whole run, each by its defaults",
    "near": "`near_duplicates`, whole",
}
WITH = {
    ("datatrove", "rules"): "datatrove `LambdaFilter`",
    ("datatrove", "near"): "datatrove MinHash, signatures alone",
    ("distilabel", "rules"): "distilabel, its step by itself",
    ("distilabel", "run"): "distilabel `Pipeline`",
    ("distilabel", "waited"): "distilabel `Pipeline`",
    ("distilabel", "default"): "distilabel `Pipeline`, 50 rows at a time",
    ("distilabel", "near"): "distilabel `MinHashDedup`",
}


def describe(found: dict[str, Any]) -> str:
    """The table for the page."""
    told = (
        f"Rows per CPU second, {found['rows']:,} rows, {found['run_rows']:,} in whole runs, medians of "
        f"{found['turns']} turns, load average {found['load']:.1f} on {os.cpu_count()} cores "
        "(`python benchmarks/checks_peers.py --write`):"
    )
    lines = [
        told,
        "",
        "| what | here | beside | ratio |",
        "|---|---:|---:|---:|",
    ]
    for (peer, kind), name in WITH.items():
        if peer in found:
            ratio = found[f"{peer}_ratio"][kind]
            cells = [KINDS[kind], f"{found['nexa'][kind]:,}", f"{name} {found[peer][kind]:,}"]
            lines.append(f"| {' | '.join([*cells, f'{ratio:g}'])} |")
    asked = (
        "Asked was five times both for the same rules. A distilabel step by itself is the rules as a loop in "
        "Python and nothing around it; a whole run reads the source, checks and writes, here as there. There "
        "each batch goes to another process and back, so that its figure rises with the rows of a batch."
    )
    lines += ["", asked]
    return "\n".join(lines)


def write(text: str) -> None:
    """Put the table between its marks."""
    page = DOC_PATH.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGINS)
    _, _, after = rest.partition(ENDS)
    DOC_PATH.write_text(f"{before}{BEGINS}\n{text}\n{ENDS}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", default=",".join(PEERS), help="names, separated by commas")
    parser.add_argument("--rows", type=int, default=6000)
    parser.add_argument("--run-rows", type=int, default=50_000, help="rows of the whole runs")
    parser.add_argument("--turns", type=int, default=3)
    default = Path(tempfile.gettempdir()) / "nexa-benchmark-peers"
    parser.add_argument("--cache", type=Path, default=default, help="the peers' environments")
    parser.add_argument("--write", action="store_true", help="into docs/checks.md")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--texts", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.side:
        given = json.loads(Path(asked.texts).read_text(encoding="utf-8"))
        print(json.dumps(SIDES[asked.side](**given)))
        return
    found = compare(asked.peers.split(","), asked.rows, asked.run_rows, asked.cache, asked.turns)
    print(json.dumps(found))
    if asked.write:
        write(describe(found))


if __name__ == "__main__":
    main()

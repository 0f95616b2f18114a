"""The same rules and the same near-duplicate search here and in datatrove, on the same texts.

    python benchmarks/checks_peers.py --peer PYTHON [--rows 6000]

PYTHON is the interpreter of an environment with `datatrove[processing]` and `spacy`. There the rules are a
`LambdaFilter` over documents (empty, delimiters, refusal, length), and near duplicates the
signature stage of its MinHash alone, without the three stages after it: what it would need in all
is more. Here both are whole: verdicts with reasons, and the search across shards. CPU seconds,
each side in a process of its own, one after the other; the median of three turns.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BANDS, HASHES, PASSES = 13, 8, 10


def measure_here(texts: list[str]) -> dict[str, float]:
    """Rows per second of the checks, in shards of 1,000 rows."""
    import pyarrow as pa
    from checks import CHECKS, build

    from nexa_checks import register_checks

    bounds = {"length": {"min_chars": 120, "max_chars": 2000}}
    names = [name for name in CHECKS if name != "runaway"]
    checks = [build(register_checks(), name, **bounds.get(name, {})) for name in names]
    near = build(register_checks(), "near_duplicates", threshold=0.8)
    tables = [pa.table({"response": texts[at : at + 1000]}) for at in range(0, len(texts), 1000)]
    for check in checks:
        check.score(tables[0])
    start = time.process_time()
    for table in tables * PASSES:
        for check in checks:
            check.score(table)
    rules = (time.process_time() - start) / PASSES
    state, start = near.start(), time.process_time()
    for table in tables:
        state, _ = near.fold(state, table)
    return {"rules": len(texts) / rules, "near": len(texts) / (time.process_time() - start)}


def measure_there(texts: list[str], refusal: str, delimiters: list[str]) -> dict[str, float]:
    """Rows per second of datatrove."""
    from datatrove.data import Document
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature
    from datatrove.pipeline.filters import LambdaFilter

    refuses = re.compile(refusal, re.IGNORECASE)

    def passes(document: Document) -> bool:
        text = document.text
        return (
            bool(text.strip())
            and not any(each in text for each in delimiters)
            and not refuses.match(text)
            and 120 <= len(text) <= 2000
        )

    documents = [Document(text=text, id=str(n)) for n, text in enumerate(texts)]
    start = time.process_time()
    for _ in range(PASSES):
        list(LambdaFilter(passes).run(iter(documents)))
    rules = (time.process_time() - start) / PASSES
    config = MinhashConfig(n_grams=5, num_buckets=BANDS, hashes_per_bucket=HASHES)
    with tempfile.TemporaryDirectory() as folder:
        stage = MinhashDedupSignature(folder, config)
        stage.get_shingles("a first text loads the tokenizer")
        start = time.process_time()
        stage.run(iter(documents))
        return {"rules": len(texts) / rules, "near": len(texts) / (time.process_time() - start)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", required=True, help="the Python that has datatrove")
    parser.add_argument("--rows", type=int, default=6000)
    parser.add_argument("--side", choices=["here", "there"], help=argparse.SUPPRESS)
    parser.add_argument("--texts", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.side:
        given = json.loads(Path(asked.texts).read_text(encoding="utf-8"))
        if asked.side == "here":
            print(json.dumps(measure_here(given["texts"])))
        else:
            print(json.dumps(measure_there(**given)))
        return
    print(json.dumps(compare(asked.peer, asked.rows)))


def compare(peer: str, rows: int) -> dict[str, float]:
    """Medians of three turns and the ratio of here to there."""
    from checks import DELIMITERS, write_texts

    from nexa_checks.refusals import OPENINGS

    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        json.dump(
            {
                "texts": write_texts(rows, 5),
                "refusal": rf"[\s\"'“‘>*_#-]*(?:{'|'.join(OPENINGS)})",
                "delimiters": DELIMITERS,
            },
            file,
        )
        file.flush()
        turns = []
        for _ in range(3):
            turn = {}
            for side, python in (("here", sys.executable), ("there", peer)):
                command = [python, __file__, "--peer", peer, "--side", side, "--texts", file.name]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                found = json.loads(done.stdout.splitlines()[-1])
                turn |= {f"{kind}_{side}": speed for kind, speed in found.items()}
            turns.append(turn)
    middle = {key: round(statistics.median(turn[key] for turn in turns)) for key in turns[0]}
    ratios = {
        f"{kind}_ratio": round(
            statistics.median(turn[f"{kind}_here"] / turn[f"{kind}_there"] for turn in turns), 1
        )
        for kind in ("rules", "near")
    }
    return middle | ratios


if __name__ == "__main__":
    main()

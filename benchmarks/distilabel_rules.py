"""distilabel: the rules of checks_peers.py as a step in a pipeline; prints rows per CPU second.

Once in batches of 1,000 rows, and for fewer rows in batches of the size that it takes by itself.

A step must stand at the top of a module, and its annotations must be no text, to survive its processes.
"""

import json
import re
import resource
import sys
import time
from pathlib import Path
from typing import Any

from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts, StepInput, step

GIVEN = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
REFUSES = re.compile(GIVEN["refusal"], re.IGNORECASE)
SHARD_ROWS, DEFAULT_ROWS = 1000, 50
"""Rows of a batch: asked for, and what both steps take where nothing is."""
FIRST_ROWS, FEWER_ROWS = 1000, 10_000


def passes(text: str) -> bool:
    """The rules as one would write them in Python."""
    return (
        bool(text.strip())
        and not any(each in text for each in GIVEN["delimiters"])
        and not REFUSES.match(text)
        and 120 <= len(text) <= 2000
    )


@step(inputs=["text"], outputs=["passes"])
def check_rules(inputs: StepInput) -> Any:
    for row in inputs:
        row["passes"] = passes(row["text"])
    yield inputs


def cpu_seconds() -> float:
    """User and system time of this process and of the children it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def run(texts: list[dict[str, str]], batch_rows: int) -> float:
    """Rows per CPU second of a whole pipeline."""
    with Pipeline(name="rules") as pipeline:
        load = LoadDataFromDicts(data=texts, batch_size=batch_rows)
        load >> check_rules(name="rules", input_batch_size=batch_rows)
    began = cpu_seconds()
    done = pipeline.run(use_cache=False)
    assert len(done["default"]["train"]) == len(texts)
    return len(texts) / (cpu_seconds() - began)


if __name__ == "__main__":
    rows = [{"text": text} for text in GIVEN["more"]]
    run(rows[:FIRST_ROWS], SHARD_ROWS)  # what is imported late is imported now
    began = time.perf_counter()
    found = {"run": run(rows, SHARD_ROWS)}
    found["waited"] = len(rows) / (time.perf_counter() - began)
    found["default"] = run(rows[:FEWER_ROWS], DEFAULT_ROWS)
    print(json.dumps(found))

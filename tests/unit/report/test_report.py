"""The report: what it says at every stage, and that nothing in a run can make it do anything."""

from __future__ import annotations

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from nexa_core.actions import running
from nexa_core.pipeline import load_pipeline
from nexa_core.plugins import load_plugins
from nexa_core.report import write_report
from nexa_core.report.figures import show_money, show_p, show_seconds
from nexa_core.report.plots import place_share
from nexa_core.report.timing import measure_times
from nexa_core.report.visible import mark_visible
from nexa_core.store.journal import Journal
from nexa_core.store.layout import Run
from nexa_core.visible import make_visible
from nexa_core.workspace import find_workspace

HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(2)>\"'><svg onload=alert(3)> </pre>"
    " javascript:alert(4) {{ 7 * 7 }} {% include 'page.css' %} \x1b]8;;http://x\x07 \x00\r"
    " \u202etxt.exe\u2066 \u200b\ud800\U000e0041 =HYPERLINK(1) </style></title>"
)
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """The elements of a page with their attributes, its text, and whether every one is closed."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "title"} & set(self.open[-1:]):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    @property
    def tags(self) -> set[str]:
        return {tag for tag, _ in self.elements}


def read(folder: tuple[Run, Path]) -> Page:
    page = Page(write_report(*folder).read_text(encoding="utf-8"))
    assert page.open == []
    return page


def test_a_finished_run_says_what_it_made_and_for_how_much(whole: Any) -> None:
    """Accepted rows of pilot and scale, dollars per accepted row over every iteration, the result."""
    text = read(whole.finish()).text
    assert "Done" in text and "Accepted rows 7 " in text
    assert "Cost per accepted row $0.071" in text and "$0.50 for the whole run" in text
    assert "21 % → 64 %" in text and "+43.0 points, 95 % interval" in text


def test_every_look_of_the_gate_is_a_step(whole: Any) -> None:
    """Parameters, why they changed, each check with k/n and bounds, in the order of decisions."""
    text = read(whole.finish()).text.partition("How it was decided")[2]
    assert text.index("ITERATE") < text.index("EXTEND") < text.index("PROCEED")
    assert "19 / 150" in text and "Iteration 2 of 5, look 2" in text
    assert "looked 3 times in 2 iterations; its last word" in read(whole.finish()).text
    assert "Reviewer policy: too hot" in text and "respond.sampling.temperature 1 → 0.3" in text


def test_rows_fall_by_reason_until_the_accepted_are_left(whole: Any) -> None:
    """The waterfall adds up: 11 rows, less 1 runaway, 1 too short, 1 failed and 1 surplus, are 7."""
    text = read(whole.finish()).text
    for line in ("Rows asked for 11", "rejected: length 1", "rejected: runaway 1", "Accepted 7"):
        assert line in text
    assert "failed: respond 1" in text and "rejected: respond" not in text
    assert "surplus: after the wanted number 1" in text


def test_format_is_not_taken_for_facts(whole: Any) -> None:
    """A tuned model that does not beat the base with examples carries a warning that says so."""
    assert "Learning the format is not learning the facts" in read(whole.finish()).text


def test_no_warning_where_the_facts_were_learned(build: Any) -> None:
    """A tuned model that beats the base with examples carries no such warning."""
    builder = build()
    builder.pilot()
    builder.evaluate(few_shot=60)
    assert "Learning the format" not in read(builder.finish()).text


@pytest.mark.parametrize("stages", range(6))
def test_every_stage_renders(build: Any, stages: int) -> None:
    """A run that was cut off after any stage has a report, which says what is absent."""
    builder = build()
    for stage in ("pilot", "scale", "package", "train", "evaluate")[:stages]:
        getattr(builder, stage)()
    page = read((builder.run, builder.reviews))
    assert "Interrupted" in page.text
    assert ("Nothing was evaluated." in page.text) == (stages < 5)
    assert ("No iteration has begun." in page.text) == (stages == 0)


def test_damaged_parts_are_said_and_the_rest_is_shown(whole: Any) -> None:
    """A broken comparison, manifest, shard or review record does not take the report away."""
    run, reviews = whole.finish()
    (run.evaluation / "comparison.json").write_text("{")
    run.scale.manifest_path.write_text("nonsense\n")
    (run.iteration(2).shards / "00000.parquet").write_bytes(b"PAR1")
    (reviews / "0002-pilot_qc.json").write_text("{}")
    text = read((run, reviews)).text
    assert "comparison.json' cannot be read" in text and "no committed shard" in text
    assert "Review records 0002-pilot_qc.json: it is no review record." in text


def test_an_edited_review_is_pointed_out(whole: Any) -> None:
    """The chain is checked whenever the report is written."""
    run, reviews = whole.finish()
    path = reviews / "0001-pilot_qc.json"
    path.write_text(path.read_text().replace("too hot", "too cold"))
    assert "its content is not what was written" in read((run, reviews)).text


def test_hostile_text_stays_text(build: Any) -> None:
    """Markup, templates, links and hidden characters of rows, reviews and names do nothing."""
    builder = build(text=HOSTILE, command=["nexa", HOSTILE], rehearsal=True)
    for stage in (builder.pilot, builder.scale, builder.train, builder.evaluate):
        stage()
    page = read(builder.finish())
    assert not page.tags & {"script", "img", "iframe", "object", "embed", "base", "form"}
    assert not any(key.startswith("on") for _, attributes in page.elements for key in attributes)
    links = [a.get("href") for _, a in page.elements if "href" in a]
    assert all(link == "data:," or link.startswith("#") for link in links)
    assert "<script>alert(1)</script>" in page.text and "{{ 7 * 7 }}" in page.text


def test_nothing_unseen_reaches_the_page(build: Any) -> None:
    """Every control, bidi, zero-width and lone character stands there as its code point."""
    builder = build(text=HOSTILE)
    builder.pilot()
    raw = write_report(*builder.finish()).read_text(encoding="utf-8")
    assert make_visible(raw) == raw
    assert "U+202E" in raw and "U+001B" in raw and "U+D800" in raw and "U+E0041" in raw


def test_the_page_may_load_nothing(whole: Any) -> None:
    """A policy forbids what the page does not hold: scripts, remote styles, images, frames."""
    page = read(whole.finish())
    policy = [a for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy[0]["content"] == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert not any("src" in a for _, a in page.elements)
    assert "url(" not in (Path(write_report.__code__.co_filename).parent / "page.css").read_text()


def test_the_same_folder_gives_the_same_bytes(whole: Any) -> None:
    """The report is a function of the folder, and replaces the one before it whole."""
    run, reviews = whole.finish()
    first = write_report(run, reviews).read_bytes()
    assert write_report(run, reviews).read_bytes() == first
    assert [path.name for path in run.path.glob(".*")] == []


def test_a_copied_run_without_its_reviews_renders(whole: Any, tmp_path: Path) -> None:
    """Iterations whose records are elsewhere are shown as undecided."""
    run, reviews = whole.finish()
    shutil.rmtree(reviews)
    assert "The gate has not decided on this iteration." in read((run, reviews)).text


def test_tables_and_drawings_say_what_they_are(whole: Any) -> None:
    """Tables have captions, headings go down one level at a time, drawings have a title."""
    page = read(whole.finish())
    names = [tag for tag, _ in page.elements]
    assert names.count("table") == names.count("caption")
    assert names.count("h1") == 1 and "h4" not in names
    drawn = [a for tag, a in page.elements if tag == "svg" and "aria-hidden" not in a]
    assert len(drawn) == names.count("title") - 1 and all(a["role"] == "img" for a in drawn)


AUDITED = ("Copper {} is Cu.", "Iron is Fe.\nInput: more")


def test_a_real_audit_renders(workspace_path: Path) -> None:
    """A run that the engine made: the shipped audit."""
    workspace = find_workspace(workspace_path)
    answers = [text.format(n) for n in range(30) for text in AUDITED]
    rows = [json.dumps({"id": n, "instruction": "?", "response": a}) for n, a in enumerate(answers)]
    (workspace_path / "answers.jsonl").write_text("\n".join(rows))
    sets = ["source.path=answers.jsonl"]
    pipeline = load_pipeline(workspace_path / "pipelines" / "audit.yaml", sets)
    plugins = load_plugins(workspace, announce=lambda text: None)
    outcome = running.start(pipeline, workspace, plugins, "audit-1")
    reviews = workspace_path / "reviews" / "audit-1"
    text = read((Run(workspace.artifacts_path / "audit-1"), reviews)).text
    assert "every row there is was measured" in text and "1 review record" in text
    assert outcome.as_json()["rows"]["accepted"] == 30 and "Accepted 30 50 %" in text


def test_pauses_are_nobodys_time() -> None:
    """Time counts from start or resume to the last event before the next; phases add up."""
    kinds = [("RunStarted", 0), ("PhaseStarted", 1), ("RunResumed", 50), ("PhaseStarted", 51)]
    kinds += [("PhaseFinished", 55), ("RunFinished", 56)]
    events = [
        {"event": kind, "phase": "pilot", "at": f"2026-01-01T00:00:{at:02d}+00:00"}
        for kind, at in kinds
    ]
    times = measure_times(events)
    assert times.total == 1 + 6 and times.sessions == 2
    assert [(p.name, p.seconds, p.ended) for p in times.phases] == [("pilot", 4.0, True)]


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (show_money(0), "$0.00"),
        (show_money(25_120_000_000), "$25.12"),
        (show_money(71_400), "$0.0000714"),
        (show_seconds(0.62), "0.6 s"),
        (show_seconds(200), "3 min 20 s"),
        (show_seconds(7500), "2 h 5 min"),
        (show_p(0.0423), "0.042"),
        (show_p(1.2e-18), "1.2\u00a0×\u00a010⁻¹⁸"),
        (show_p(0.0), "< 10⁻³⁰⁰"),
    ],
)
def test_figures_are_written_for_people(shown: str, expected: str) -> None:
    """Money, times and p-values in the digits and units a reader uses."""
    assert shown == expected


def test_the_axis_is_symmetric_and_wide_at_both_ends() -> None:
    """0, 50 and 100 % stand where they must, and 5 % is well apart from 0."""
    assert place_share(0.0) + place_share(1.0) == pytest.approx(2 * place_share(0.5))
    assert place_share(0.05) - place_share(0.0) > 3 * 0.05 * 100


def test_text_of_any_language_is_left_alone() -> None:
    """Letters, emoji, spaces and line feeds stay as they are; only the unseen is marked."""
    text = "Größe 你好\nשלום\t🙂 a\u00a0b"
    assert make_visible(text) == text and mark_visible(text) == text
    assert mark_visible("a\u200b<") == 'a<span class="unseen">U+200B</span>&lt;'


def test_the_estimate_stands_beside_the_bill(build: Any) -> None:
    """Calls, tokens and money by role, expected and come; what another run paid for is not counted."""
    builder = build()
    states = ["accepted", "accepted", "rejected:runaway"]
    origins = ["asked", "replayed", "reused"]
    calls = [
        {"role": "teacher", "origin": origin, "prompt_tokens": 100, "completion_tokens": 20}
        for origin in origins
    ]
    builder.commit(builder.run.iteration(1), states, 3 * 10**9, calls)
    teacher = {"role": "teacher", "calls": 7, "prompt_tokens": 900, "completion_tokens": 90}
    estimate = {**teacher, "usd": 5.0, "usd_per_accepted_row": 2.5, "accepted_rows": 2}
    builder.run.estimate_path.write_text(json.dumps({**estimate, "roles": [{**teacher, "usd": 5}]}))
    folder = builder.run.iteration(1).reviews
    folder.mkdir()
    journal = Journal.open(folder, "000003-1-llm")
    usage = {"prompt_tokens": 50, "completion_tokens": 5}
    journal.reply("c1", role="reviewer", reply={"text": "{}", "usage": usage}, cost_nano=0)
    journal.close()
    page = read(builder.finish()).text
    assert "teacher 7 2 990 240 $5.00 $3.00" in page
    assert "reviewer 0 1 0 55" in page
    assert "2 rows expected, 2 accepted $2.50 $1.50" in page


def test_a_run_without_an_estimate_has_no_table_of_it(whole: Any) -> None:
    """Runs of earlier versions report as before."""
    assert "Estimate against bill" not in read(whole.finish()).text

"""G1, G3, G4: what a kill may cost, and what it may not."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from nexa_core.store.journal import Journal, read_journal
from nexa_core.store.segments import list_units
from nexa_core.testing.chaos import Faults, Settings, serve_in_thread

ROWS = 40
POINTS = ["journal-after-reply:23", "journal-after-intent:31", "shard-after-rename"]


@dataclass
class Story:
    """A run that was killed, given one reply twice, and resumed."""

    shop: Any
    acked: set[str]
    journaled: dict[str, Any]
    under_way: int
    asked: Counter[str]
    resumed: dict[str, Any]

    @property
    def calls(self) -> dict[str, dict[str, Any]]:
        return {call["call_id"]: call for call in self.shop.calls().to_pylist()}


def read_replies(shop: Any) -> dict[str, Any]:
    """The replies in the journals of scale, by call."""
    folder = shop.run().scale.shards
    found = [read_journal(folder, unit).replies for unit in list_units(folder)]
    return {call: frame["reply"] for replies in found for call, frame in replies.items()}


def count_intents(shop: Any) -> int:
    """Requests that were under way when the process died."""
    folder = shop.run().scale.shards
    return sum(len(read_journal(folder, unit).intents) for unit in list_units(folder))


def answer_twice(shop: Any) -> None:
    """Journal a second, other reply to a call that has one."""
    folder = shop.run().scale.shards
    unit = list_units(folder)[0]
    call, first = next(iter(read_journal(folder, unit).replies.items()))
    journal = Journal.open(folder, unit)
    journal.reply(call, role="teacher", reply={**first["reply"], "text": "another"}, cost_nano=7)
    journal.close()


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory, make_shop: Any) -> Iterator[Story]:
    """Forty rows in shards of twenty, killed at the 23rd reply, and taken up again."""
    shop = make_shop(tmp_path_factory.mktemp("killed"))
    with serve_in_thread(Settings(text_chars=120, latency=0.005)) as server:
        shop.write(server.url, ROWS, scale={"rows": "all", "shard_rows": 20})
        shop.kill_at("journal-after-reply:23")
        acked, journaled, under_way = set(shop.acks), read_replies(shop), count_intents(shop)
        answer_twice(shop)
        resumed = shop.collect()
        assert resumed.code == 0, resumed.out
        yield Story(shop, acked, journaled, under_way, shop.asked(server), resumed.said)


def test_g1_a_killed_run_keeps_every_journaled_reply(killed: Story) -> None:
    """G1: After SIGKILL at any instant, every reply whose write() returned is present after resume."""
    assert len(killed.acked) >= 22
    assert killed.acked <= set(killed.calls)
    for call, reply in killed.journaled.items():
        found = killed.calls[call]
        assert (json.loads(found["reply"]), found["origin"]) == (reply, "replayed")


def test_g3_no_row_appears_twice(killed: Story) -> None:
    """G3: No output row appears twice, no matter how many kills, takeovers or duplicate replies."""
    rows = killed.shop.rows()
    assert len(rows) == len(set(rows["id"].to_pylist())) == ROWS
    assert "another" not in rows["response"].to_pylist()


def test_g4_resume_asks_nothing_that_was_answered(killed: Story) -> None:
    """G4: Resume asks for no call that has a reply; requests repeated ≤ intents without end at the kill."""
    assert len(killed.asked) == ROWS
    assert killed.asked.total() - ROWS <= killed.under_way
    assert killed.resumed["calls"]["replayed"] == len(killed.journaled)


@pytest.mark.slow
def test_g1_g3_g4_hold_over_many_kills(shop: Any, serve: Any) -> None:
    """G1, G3, G4: the same over thirty kills of one run, whose server fails in all the usual ways."""
    server = serve(latency=0.02, faults=Faults.flaky(), most_faults=2, retry_after=0.05)
    shop.write(server.url, rows=900, scale={"rows": "all", "shard_rows": 30})
    known: dict[str, Any] = {}
    kills = 0
    while kills < 30:
        process = shop.start_run(points=POINTS[kills % 3])
        process.join(60)
        if process.exitcode == 0:
            break
        kills += 1
        known |= read_replies(shop)
    assert kills > 10
    assert shop.collect().code == 0
    calls = {call["call_id"]: call for call in shop.calls().to_pylist()}
    assert set(shop.acks) <= set(calls)
    assert all(json.loads(calls[call]["reply"]) == reply for call, reply in known.items())
    assert len(shop.rows()) == len(set(shop.rows()["id"].to_pylist())) == 900

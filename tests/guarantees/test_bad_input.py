"""What a user gets wrong is said in a sentence with its place, before anything is paid."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

from nexa_core.engine import admission, dispatch
from nexa_core.testing.chaos import Faults, Settings, serve_in_thread

PRICE = {"input": 0.15, "output": 0.6}
DEAD = "http://127.0.0.1:9/v1"


@pytest.fixture
def refused(shop: Any) -> Callable[..., str]:
    """Runs the pipeline, which must be refused before a run is made; gives what was said."""

    def collect(server: Any = None, code: int = 2) -> str:
        done = shop.nexa("run", str(shop.file))
        assert done.code == code, done.err
        assert "collect.yaml:" in done.err and "Traceback" not in done.err
        assert not list(shop.root.glob("artifacts/*/run.json"))
        assert server is None or not shop.asked(server)
        return " ".join(done.err.split())

    return collect


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint that gives nothing but failures is given up after a third of a second."""
    monkeypatch.setattr(dispatch, "PATIENCE_SECONDS", 0.3)
    monkeypatch.setattr(dispatch, "BACKOFF_SECONDS", (0.01, 0.02))
    monkeypatch.setattr(admission, "BREAKER_SECONDS", (0.01, 0.02))


def test_a_wrong_key_is_told_once_for_every_role(
    shop: Any, serve: Any, refused: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both roles that have it are named, with the variable; nothing was asked of either."""
    server = serve(key="right")
    monkeypatch.setenv("CHAOS_KEY", "wrong")
    shop.write(server.url, role={"api_key_env": "CHAOS_KEY"})
    shop.pipeline["models"]["editor"] = shop.pipeline["models"]["teacher"] | {"timeout": 9}
    edit = {"id": "edit", "model": "editor", "prompt": {"user": "Mend: {{ response }}"}}
    steps = [*shop.pipeline["steps"], {"generate": {**edit, "into": "better"}}]
    shop.write(server.url, models=shop.pipeline["models"], steps=steps)
    said = refused(server)
    assert said.count("the key in $CHAOS_KEY is refused") == 2
    assert "Mend `models.teacher` and `models.editor`." in said


def test_a_key_that_is_not_set_names_its_variable(shop: Any, serve: Any, refused: Any) -> None:
    """An absent variable is found without asking anybody."""
    shop.write(serve().url, role={"api_key_env": "ABSENT_KEY"})
    assert "no key: set $ABSENT_KEY" in refused()


def test_a_wrong_address_says_what_is_wrong_with_it(shop: Any, serve: Any, refused: Any) -> None:
    """Nobody there; the right server without /v1; no address at all."""
    server = serve()
    for url, told in {
        DEAD: "does not answer: Connection refused",
        server.url.removesuffix("/v1"): f"the base_url lacks /v1: write {server.url}",
        "localhost:80/v1": "is no address. Write http://HOST:PORT/v1",
    }.items():
        shop.write(url)
        assert told in refused(server)


def test_a_model_that_does_not_exist_names_the_nearest(shop: Any, serve: Any, refused: Any) -> None:
    """From the endpoint's own list."""
    server = serve(models=("chaos-large",))
    shop.write(server.url)
    assert "there is no model 'chaos'" in refused(server)
    assert "nearest: chaos-large" in refused(server)


def test_a_model_without_a_price_has_no_budget(shop: Any, serve: Any, refused: Any) -> None:
    """An unknown price is unknown, never nothing."""
    server = serve()
    shop.write(server.url, role={"price": None}, budget={"usd": 1})
    said = refused(server)
    assert "is unknown, so no budget can be kept. Give the role a price" in said


def test_a_budget_below_one_call_is_refused(shop: Any, serve: Any, refused: Any) -> None:
    """It says what a call may cost, and what could be raised or lowered."""
    server = serve()
    shop.write(server.url, budget={"usd": 0.00001})
    said = refused(server)
    assert "One call" in said and "Raise budget.usd" in said


def test_a_budget_below_the_first_prompt_asks_nothing(shop: Any, serve: Any) -> None:
    """What preflight cannot know, the reservation does: exit 6, and no request went out."""
    server = serve()
    shop.write(server.url, budget={"usd": 0.00004})
    done = shop.collect()
    assert (done.code, done.said["status"]) == (6, "budget")
    assert "resume r --set budget.usd=" in done.said["reason"] and not shop.asked(server)


def test_a_sampling_key_is_never_dropped(shop: Any, serve: Any, refused: Any) -> None:
    """What the endpoint would ignore is refused, at the line where it stands."""
    server = serve()
    sampling = {"min_p": 0.1, "max_tokens": 60}
    shop.write(server.url, role={"model": "ollama/chaos", "sampling": sampling})
    assert "ollama does not take 'min_p'" in refused(server)


@pytest.mark.usefixtures("impatient")
def test_an_endpoint_that_dies_ends_the_run_and_loses_nothing(shop: Any) -> None:
    """Exit 4 with what helps; at the same port again, what was answered is not asked again."""
    with ExitStack() as stack:
        dying = stack.enter_context(serve_in_thread(Settings(text_chars=120, latency=0.03)))
        shop.write(dying.url, 120, role={"concurrency": 8}, scale={"rows": "all", "shard_rows": 60})
        close_after(dying, 40, stack)
        done = shop.collect()
        assert done.code == 4, done.out
        assert "has given nothing but failures" in done.said["message"]
        assert "nexa resume" in done.said["fix"] and "fallbacks" in done.said["fix"]
    settings = Settings(text_chars=120, port=int(dying.url.split(":")[2].split("/")[0]))
    with serve_in_thread(settings) as alive:
        done = shop.collect()
        assert (done.code, done.said["rows"]["accepted"]) == (0, 120)
        assert shop.asked(alive).total() == 120 - done.said["calls"]["replayed"]
    # of 40 that came in, the eight under way may have died with it
    assert done.said["calls"]["replayed"] >= 32 and done.said["rows"]["failed"] == 0


def close_after(server: Any, requests: int, stack: ExitStack) -> None:
    """Let a server die when it has been asked so often."""
    import threading
    import time

    def watch() -> None:
        while server.stats.requests < requests:
            time.sleep(0.005)
        stack.close()

    threading.Thread(target=watch, daemon=True).start()


@pytest.mark.usefixtures("impatient")
def test_a_fallback_takes_over_and_rows_say_so(shop: Any, serve: Any) -> None:
    """When the first endpoint fails, the next serves; calls and provenance name the one that did."""
    first, second = serve(faults=Faults.only("error_503")), serve()
    backup = {"model": "vllm/chaos", "base_url": second.url, "sampling": {"max_tokens": 60}}
    shop.write(first.url, role={"fallbacks": ["backup"]})
    shop.write(first.url, models={**shop.pipeline["models"], "backup": backup})
    done = shop.collect()
    assert (done.code, done.said["rows"]["accepted"]) == (0, 40), done.out
    assert set(shop.calls()["model"].to_pylist()) == {"vllm/chaos"}
    steps = [row["steps"] for row in shop.rows()["provenance"].to_pylist()]
    assert {step["model"] for row in steps for step in row} == {"vllm/chaos"}


def test_a_dead_endpoint_is_no_fault_where_a_fallback_serves(shop: Any, serve: Any) -> None:
    """It is said, and the run goes on; with both dead the run is refused."""
    shop.write(DEAD, role={"fallbacks": ["backup"]}, rows=4)
    backup = {"model": "vllm/chaos", "base_url": serve().url, "sampling": {"max_tokens": 60}}
    for url, code in ((backup["base_url"], 0), ("http://127.0.0.1:10/v1", 2)):
        models = {**shop.pipeline["models"], "backup": backup | {"base_url": url}}
        shop.write(DEAD, 4, models=models)
        done = shop.nexa("validate", str(shop.file))
        assert done.code == code, done.err
        assert "does not answer" in done.err + done.out


def test_a_run_is_resumed_though_its_first_endpoint_is_dead(shop: Any, serve: Any) -> None:
    """The fallback answers the rest, and that the first does not serve is said, once."""
    second = serve()
    backup = {"model": "vllm/chaos", "base_url": second.url, "sampling": {"max_tokens": 60}}
    with serve_in_thread(Settings(text_chars=120)) as first:
        shop.write(first.url, role={"fallbacks": ["backup"]})
        models = {**shop.pipeline["models"], "backup": backup | {"price": PRICE}}
        shop.write(first.url, models=models, budget={"usd": 0.0005})
        assert shop.collect().code == 6
    for _ in range(2):
        done = shop.collect("r", "--set", "budget.usd=1")
        assert (done.code, done.said["rows"]["accepted"]) == (0, 40), done.out
    assert shop.asked(first).total() + shop.asked(second).total() == 40
    assert shop.run().events_path.read_text().count("does not serve now") == 1


@pytest.mark.parametrize(
    ("fallback", "told"),
    [("bakcup", "Did you mean 'backup'?"), ("teacher", "it is the same role")],
)
def test_a_fallback_must_be_there(shop: Any, refused: Any, fallback: str, told: str) -> None:
    """A role that is not there, or the role itself, cannot take over."""
    shop.write(DEAD, role={"fallbacks": [fallback]})
    shop.write(DEAD, models={**shop.pipeline["models"], "backup": {"model": "vllm/chaos"}})
    assert told in refused()

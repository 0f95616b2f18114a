# ruff: noqa: TC004 - the fixture `_load` imports the same when the first test runs
"""Local models, against small random ones written to disk and against transformers' own code."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from nexa_core import Completion, Message, PreflightError, Request, Role, UnknownNameError
from nexa_transformers import register_models

if TYPE_CHECKING:
    import torch
    import transformers
    from transformers.generation import logits_process

    from nexa_transformers import decoding, sampling
    from nexa_transformers.batches import SharedHeadBatch
    from nexa_transformers.caches import HeadCache
    from nexa_transformers.encoding import drop_broken_end
    from nexa_transformers.loading import Loaded
    from nexa_transformers.model import LocalModel, build_local
    from nexa_transformers.weights import find_local, hash_folder

pytestmark = pytest.mark.weights

MODULES = ["torch", "transformers"]
PARTS = {
    "transformers.generation": ["logits_process"],
    "nexa_transformers": ["decoding", "sampling"],
    "nexa_transformers.batches": ["SharedHeadBatch"],
    "nexa_transformers.caches": ["HeadCache"],
    "nexa_transformers.encoding": ["drop_broken_end"],
    "nexa_transformers.loading": ["Loaded"],
    "nexa_transformers.model": ["LocalModel", "build_local"],
    "nexa_transformers.weights": ["find_local", "hash_folder"],
}


@pytest.fixture(scope="module", autouse=True)
def _load() -> None:
    """Import what takes ten seconds where the tests run, and not in every worker that collects them."""
    globals().update({name: import_module(name) for name in MODULES})
    for name, parts in PARTS.items():
        for part in parts:
            module = import_module(name)
            globals()[part] = getattr(module, part, None) or import_module(f"{name}.{part}")


END = "<|endoftext|>"
HEAD = "Records about metals and units, each with one short answer.\n" * 3
ENDINGS = ["the melting point of lead:", "iron:", "öl → ☃, and the unit of energy:", "a unit is"]
CONTEXT = 160


def write_tokenizer(folder: Path) -> transformers.PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=[END, "<|pad|>"],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    bpe.train_from_iterator([HEAD, " A B" * 50], trainer)
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token=END, pad_token="<|pad|>"
    )
    fast.save_pretrained(folder)
    return fast


def write_model(folder: Path, kind: str = "llama", **settings: Any) -> Path:
    """A random model with grouped keys, sharp enough that its tokens differ in probability."""
    tokenizer = write_tokenizer(folder)
    torch.manual_seed(7)
    config = transformers.AutoConfig.for_model(
        kind,
        vocab_size=len(tokenizer) + 5,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=CONTEXT,
        initializer_range=0.4,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **settings,
    )
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small only wait for their second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def model(folder: Path) -> LocalModel:
    return build(folder)


def build(folder: Path, **role: Any) -> LocalModel:
    return build_local(Role(model=f"local/{folder}", api="completions", **role))


def ask(prompt: Any, seed: int = 0, stop: tuple[str, ...] = (), **knobs: Any) -> Request:
    return Request(str(seed), prompt, {"temperature": 0, "max_tokens": 12, **knobs}, stop, seed)


def ask_heads(**knobs: Any) -> list[Request]:
    return [ask(HEAD + ending, seed, **knobs) for seed, ending in enumerate(ENDINGS)]


def complete(model: LocalModel, requests: Sequence[Request]) -> list[Completion]:
    found = asyncio.run(model.complete_many(requests))
    assert all(isinstance(one, Completion) for one in found), found
    return list(found)  # type: ignore[arg-type]


def choose(model: LocalModel, prompts: Sequence[str]) -> list[tuple[float, ...]]:
    found = asyncio.run(model.choose_many([ask(prompt) for prompt in prompts], [" A", " B"]))
    return [choice.logprobs for choice in found]  # type: ignore[union-attr]


def generate(model: LocalModel, prompt: str, tokens: int) -> str:
    """What transformers' own greedy `generate` writes, control tokens barred as nexa bars them."""
    loaded: Loaded = model._loaded
    ids = torch.tensor([loaded.encoder.encode(prompt)])
    out = loaded.model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=tokens,
        suppress_tokens=loaded.forbidden.tolist(),
    )
    kept = [token for token in out[0, ids.shape[1] :].tolist() if token not in loaded.end_ids]
    return drop_broken_end(loaded.encoder.decode(int(ids[0, -1]), kept))


def test_greedy_equals_transformers_generate(model: LocalModel) -> None:
    """At temperature 0 a batch writes what the library's own `generate` writes row by row."""
    found = complete(model, ask_heads())
    assert model._loaded.shares_head
    assert found[0].usage.cached_tokens > 20
    assert [one.raw_text for one in found] == [generate(model, HEAD + e, 12) for e in ENDINGS]


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("gemma2", {"sliding_window": 8, "query_pre_attn_scalar": 16}),
        pytest.param("mistral", {"sliding_window": 8}, marks=pytest.mark.slow),
        ("qwen2", {}),
    ],
)
def test_other_architectures_stay_correct(
    tmp_path: Path, kind: str, settings: dict[str, Any]
) -> None:
    """A model that cannot share a head (windows, capped scores) is noticed and answers right."""
    model = build(write_model(tmp_path, kind, **settings))
    assert model._loaded.shares_head is (kind == "qwen2")
    found = [one.raw_text for one in complete(model, ask_heads())]
    assert found == [generate(model, HEAD + ending, 12) for ending in ENDINGS]


def test_a_row_depends_on_its_own_seed_only(model: LocalModel) -> None:
    """Other seeds and other knobs of its neighbours leave a row's tokens as they are."""
    hot = ask_heads(temperature=1.0)
    others = [
        hot[0],
        *(ask(HEAD + e, 90 + n, temperature=0.7, top_p=0.8) for n, e in enumerate(ENDINGS)),
    ]
    alone = complete(model, [hot[0], hot[0]])
    assert complete(model, hot)[0].text == complete(model, others)[0].text == alone[0].text
    assert complete(model, [ask(HEAD, seed, temperature=1.0) for seed in (1, 2)])[0] != alone[0]


def test_the_same_batch_twice_is_equal_to_the_bit(folder: Path, model: LocalModel) -> None:
    """Completions and log-probabilities repeat exactly, also with other heads asked in between."""
    prompts = [HEAD + ending for ending in ENDINGS]
    first = complete(model, ask_heads(temperature=1.0)), choose(model, prompts)
    for n in range(6):
        choose(model, [f"{n} other head {n} A", f"{n} other head {n} B"])
    assert (complete(model, ask_heads(temperature=1.0)), choose(model, prompts)) == first
    fresh = Loaded(model._loaded.model, model._loaded.encoder, None)
    assert choose(LocalModel(Role(model=f"local/{folder}"), fresh), prompts) == first[1]


def test_stop_strings_end_a_row_wherever_tokens_fall(model: LocalModel) -> None:
    """A stop string split over tokens ends its row; `raw_text` keeps it, its siblings go on."""
    plain = complete(model, ask_heads(max_tokens=40))
    for at in range(3, len(plain[0].text) - 6, 6):
        stop = plain[0].text[at : at + 5]
        cut, *rest = complete(
            model,
            [ask(HEAD + ENDINGS[0], stop=(stop,), max_tokens=40), *ask_heads(max_tokens=40)[1:]],
        )
        assert cut.text == plain[0].text[: plain[0].text.index(stop)]
        assert stop in cut.raw_text
        assert plain[0].text.startswith(cut.raw_text)
        assert (cut.finish_reason, cut.usage.completion_tokens <= 40) == ("stop", True)
        assert rest == plain[1:]


def test_a_stop_string_may_end_in_a_split_character(model: LocalModel) -> None:
    """Text is searched after a token that holds only the last bytes of the stop string."""
    encoder = model._loaded.encoder
    pieces = encoder.encode("\N{MUSICAL SYMBOL G CLEF}")
    assert len(pieces) > 1
    assert pieces[-1] in encoder.find_endings(("a\N{MUSICAL SYMBOL G CLEF}",))
    assert encoder.encode("a")[0] not in encoder.find_endings(("b",))


def test_an_end_token_ends_a_row(model: LocalModel) -> None:
    """A row that draws the end token stops, without the token's name in its text."""
    found = complete(
        model, [ask(HEAD, seed, temperature=3.0, max_tokens=100) for seed in range(40)]
    )
    ended = [one for one in found if one.finish_reason == "stop"]
    assert 0 < len(ended) < 40
    assert all(one.raw_text == one.text and END not in one.text for one in found)
    assert all(one.usage.completion_tokens == 100 for one in found if one.finish_reason == "length")


def test_a_character_cut_between_its_bytes_is_dropped(model: LocalModel) -> None:
    """A token limit in the middle of a character leaves the characters before it."""
    encoder = model._loaded.encoder
    whole = encoder.encode("x ☃ y ☃")
    for end in range(2, len(whole) + 1):
        kept = drop_broken_end(encoder.decode(whole[0], whole[1:end]))
        assert " ☃ y ☃".startswith(kept)
    assert (
        drop_broken_end("four \ufffd\ufffd\ufffd\ufffd are no cut")
        == "four \ufffd\ufffd\ufffd\ufffd are no cut"
    )


def test_control_tokens_in_text_are_refused_row_by_row(model: LocalModel) -> None:
    """A prompt that spells a control token fails by itself, in a message too; siblings go on."""
    bad = ask(f"before {END} after")
    found = asyncio.run(model.complete_many([ask(HEAD), bad, ask(HEAD)]))
    assert [type(one) for one in found] == [Completion, ValueError, Completion]
    assert END in str(found[1])
    with pytest.raises(ValueError, match="control token"):
        asyncio.run(model.choose(bad, [" A"]))


def test_control_tokens_are_never_written(model: LocalModel) -> None:
    """No sampling setting lets a model write a control token or an id that has no text."""
    ids = model._loaded.forbidden.tolist()
    size = model._loaded.encoder.size
    assert {1, *range(size, size + 5)} == set(ids)
    assert 0 not in ids, "the end token must stay possible"
    logits = torch.zeros(2, size + 5).index_fill_(1, torch.tensor(ids), 50.0)
    both = [ask(""), ask("", temperature=1.0)]
    sampler = sampling.Sampler(both, [[5], [5]], model._loaded.forbidden)
    assert not set(ids) & set(sampler.pick(logits).tolist())


def test_a_prompt_that_does_not_fit_fails_alone(model: LocalModel) -> None:
    """Prompt and max_tokens beyond the context fail that row and say both numbers."""
    found = asyncio.run(
        model.complete_many([ask("x " * CONTEXT), ask(HEAD), ask(HEAD, max_tokens=CONTEXT)])
    )
    assert [type(one) for one in found] == [ValueError, Completion, ValueError]
    assert f"context of {CONTEXT} tokens" in str(found[0])
    assert model.preflight({"max_tokens": CONTEXT})


def test_sampling_draws_the_softmax(model: LocalModel) -> None:
    """2,000 seeds of one prompt at temperature 1 follow the model's softmax (chi-square)."""
    found = complete(
        model, [ask(HEAD, seed, temperature=1.0, max_tokens=1) for seed in range(2000)]
    )
    encoder = model._loaded.encoder
    ids = torch.tensor([encoder.encode(HEAD)])
    logits = (
        model._loaded.model(ids).logits[0, -1].index_fill(0, model._loaded.forbidden, -torch.inf)
    )
    expected = logits.softmax(-1).detach().double().numpy() * 2000
    pieces = [drop_broken_end(encoder.decode(int(ids[0, -1]), [i])) for i in range(len(expected))]
    likely = [
        i for i in np.argsort(-expected) if expected[i] >= 10 and pieces.count(pieces[i]) == 1
    ]
    counts = [sum(one.text == pieces[i] for one in found) for i in likely]
    rest = 2000 - sum(counts), 2000 - expected[likely].sum()
    assert len(likely) > 5
    from scipy.stats import chisquare

    assert chisquare([*counts, rest[0]], [*expected[likely], rest[1]]).pvalue > 0.01


@pytest.mark.parametrize(
    "knobs",
    [{"top_k": 7}, {"top_p": 0.6}, {"min_p": 0.1}, {"top_k": 30, "top_p": 0.8, "min_p": 0.02}],
)
def test_filters_keep_what_transformers_keeps(knobs: dict[str, float]) -> None:
    """top_k, top_p and min_p, alone and together, leave what transformers' warpers leave."""
    logits = torch.randn(64, 300, generator=torch.Generator().manual_seed(1)) * 3
    column = {
        name: torch.full((64, 1), float(knobs.get(name, off)))
        for name, off in (("top_p", 1), ("min_p", 0))
    }
    top_k = torch.full((64, 1), int(knobs.get("top_k", 0)))
    found = logits.softmax(-1)
    found *= found >= sampling.find_floor(found, top_k, column["top_p"], column["min_p"])
    warpers = {
        "top_k": logits_process.TopKLogitsWarper,
        "top_p": logits_process.TopPLogitsWarper,
        "min_p": logits_process.MinPLogitsWarper,
    }
    for name, value in knobs.items():
        logits = warpers[name](value)(None, logits)
    assert torch.allclose(found / found.sum(-1, keepdim=True), logits.softmax(-1), atol=1e-6)


def test_repetition_penalty_is_that_of_transformers(model: LocalModel) -> None:
    """The penalty weighs every token of prompt and completion as transformers' processor does."""
    logits = torch.randn(1, 300, generator=torch.Generator().manual_seed(2))
    prompt = [5, 9, 9, 200]
    request = ask("", temperature=0, repetition_penalty=1.7)
    sampler = sampling.Sampler([request], [prompt], torch.tensor([], dtype=torch.long))
    for _ in range(5):
        expected = logits_process.RepetitionPenaltyLogitsProcessor(1.7)(
            torch.tensor([prompt]), logits.clone()
        )
        token = int(sampler.pick(logits.clone()))
        assert token == int(expected.argmax())
        prompt.append(token)


def test_choose_equals_a_plain_forward(model: LocalModel) -> None:
    """The critic's log-probabilities are those of an ordinary forward pass of each whole prompt."""
    prompts = [HEAD + ending for ending in ENDINGS]
    encoder = model._loaded.encoder
    wanted = [encoder.find_single(" A"), encoder.find_single(" B")]
    plain = [model._loaded.model(torch.tensor([encoder.encode(p)])).logits[0, -1] for p in prompts]
    expected = [one.log_softmax(-1)[wanted].tolist() for one in plain]
    assert np.allclose(choose(model, prompts), expected, atol=1e-4)
    with pytest.raises(ValueError, match="' A B'"):
        asyncio.run(model.choose(ask(HEAD), [" A B"]))


@pytest.mark.parametrize(
    "length", [1, 17, *(pytest.param(n, marks=pytest.mark.slow) for n in (0, 9))]
)
def test_a_shared_head_changes_no_logits(model: LocalModel, length: int) -> None:
    """Wherever prompts are split, in all blocks, prefill and steps give whole prompts' logits."""
    net = model._loaded.model
    tails = [[3 + n, *range(20, 20 + n % 11)] for n in range(70)]
    tails.sort(key=len)
    head = list(range(30, 30 + length))
    with torch.inference_mode():
        batch = SharedHeadBatch(net, HeadCache(net).get(head), tails)
        found = batch.prefill()
        keep = torch.arange(0, 70, 3)
        batch.keep(keep)
        stepped = batch.step(found[keep].argmax(-1))
        for place, row in enumerate(keep.tolist()):
            ids = [*head, *tails[row]]
            whole = net(torch.tensor([[*ids, int(found[row].argmax())]])).logits[0]
            assert torch.allclose(torch.stack([found[row], stepped[place]]), whole[-2:], atol=1e-3)


def test_chat_needs_a_template(folder: Path, tmp_path: Path) -> None:
    """Messages are refused with the way out, unless the tokenizer brings a chat template."""
    request = ask((Message("user", "iron"),))
    with pytest.raises(ValueError, match="api: completions"):
        asyncio.run(build(folder).complete(request))
    tokenizer = write_tokenizer(write_model(tmp_path))
    tokenizer.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    tokenizer.save_pretrained(tmp_path)
    chatty, same = build(tmp_path), ask("user: iron\n")
    assert asyncio.run(chatty.complete(request)) == asyncio.run(chatty.complete(same))


@pytest.mark.slow
def test_an_adapter_is_merged_and_changes_the_revision(
    folder: Path, model: LocalModel, tmp_path: Path
) -> None:
    """A LoRA adapter writes what peft's unmerged model writes, under a revision of its own."""
    peft = pytest.importorskip("peft")
    net = transformers.AutoModelForCausalLM.from_pretrained(folder)
    torch.manual_seed(3)
    tuned = peft.get_peft_model(
        net, peft.LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
    )
    tuned.save_pretrained(tmp_path)
    adapted = build(folder, adapter=str(tmp_path))
    prompt = torch.tensor([adapted._loaded.encoder.encode(HEAD)])
    assert torch.allclose(
        adapted._loaded.model(prompt).logits, tuned.eval()(prompt).logits, atol=1e-2
    )
    assert adapted.revision == f"{model.revision}+{hash_folder(tmp_path)}"
    assert complete(adapted, [ask(HEAD)]) != complete(model, [ask(HEAD)])
    with pytest.raises(PreflightError, match="adapter_config"):
        build(folder, adapter=str(folder))


def test_preflight_names_what_cannot_be_done(model: LocalModel) -> None:
    """An unknown sampling key or a value out of range is named before the run and fails in it."""
    assert model.preflight({"temperature": 0.7, "top_k": 5, "stop": ["x"], "min_p": None}) == []
    faults = model.preflight({"frequency_penalty": 0.5, "top_p": 1.5})
    assert "frequency_penalty" in faults[0]
    assert "top_p must lie in" in faults[1]
    with pytest.raises(ValueError, match="frequency_penalty"):
        asyncio.run(model.complete(ask(HEAD, frequency_penalty=0.5)))


def test_weights_are_found_in_folders_and_packages(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reference is a folder, else a package's `weights`, which is found without importing it."""
    shipped = tmp_path / "shipped_model"
    (shipped / "weights").mkdir(parents=True)
    (shipped / "weights" / "config.json").write_text("{}")
    (shipped / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert find_local("shipped-model").source == str(shipped / "weights")
    assert find_local(str(folder)).revision == hash_folder(folder)
    with pytest.raises(UnknownNameError, match="'no-such-model'"):
        find_local("no-such-model")


def test_weights_are_loaded_once(folder: Path, model: LocalModel) -> None:
    """Two roles with the same weights share one model in memory; the event loop stays free."""

    async def race() -> int:
        ticks = 0
        work = asyncio.create_task(again.complete_many(ask_heads(max_tokens=60)))
        while not work.done():
            await asyncio.sleep(0)
            ticks += 1
        return ticks

    again = build(folder, batch=5)
    assert (again._loaded is model._loaded, again.batch_size) == (True, 5)
    assert asyncio.run(race()) > 10


async def test_a_cancelled_batch_stops_at_its_next_token(model: LocalModel) -> None:
    """Who stops waiting for a batch stops its thread too, before the batch is done."""
    seen: list[bool] = []
    work = asyncio.create_task(model._work(lambda cancelled: seen.append(cancelled.wait(10))))
    await asyncio.sleep(0.05)
    work.cancel()
    await model._work(lambda _: None)
    assert seen == [True]
    cancelled = threading.Event()
    cancelled.set()
    growth = decoding.complete(model._loaded, [ask(HEAD)], [[5, 6]], cancelled)
    assert (growth[0].tokens, growth[0].finish_reason) == ([], "")


def test_the_plugin_is_weightless() -> None:
    """Loading the plugin and listing its specs imports neither torch nor transformers."""
    specs = {spec.name: spec for spec in register_models()}
    assert set(specs) == {"hf", "local"}
    assert {need.module for need in specs["local"].needs} == {"torch", "transformers"}
    code = (
        "import sys, nexa_transformers; nexa_transformers.register_models();"
        "print('torch' in sys.modules, 'pydantic' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["False", "False"]

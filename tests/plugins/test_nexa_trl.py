"""QLoRA: what is trained on, with which settings, in a process that can be killed and goes on."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nexa_core import Event, TrainerError, Training, TrainingProgressed, UsageError
from nexa_trl.encoding import IGNORED, RowEncoder, write_tokens
from nexa_trl.options import QloraOptions
from nexa_trl.recipe import Student, derive_recipe, find_length
from nexa_trl.trainer import QloraTrainer, _make_environment
from nexa_trl.weights import find_weights

pytestmark = pytest.mark.weights

TINY = Student("llama", 3_700_000, 256, 512, 20_000)
LARGE = Student("llama", 8_000_000_000, 4096, 8192, 2_600_000)
CHAT = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture(scope="session")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of a few thousand parameters with a byte-level tokenizer."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    folder = tmp_path_factory.mktemp("student")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate(["</s>", "<pad>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="</s>", pad_token="<pad>"
    )
    fast.chat_template = CHAT
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(fast),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=128,
        eos_token_id=0,
        pad_token_id=1,
        tie_word_embeddings=True,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture
def tokenizer(student: Path) -> Any:
    """The student's tokenizer."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(student)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A packaged dataset of 48 rows to train on and 8 to validate with."""
    folder = tmp_path / "dataset" / "data"
    folder.mkdir(parents=True)
    for split, count in (("train", 48), ("validation", 8)):
        rows = [{"prompt": f"What is {n}?\n", "completion": f"It is {n}."} for n in range(count)]
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{split}-00000-of-00001.parquet")
    return folder.parent


def test_only_the_answer_is_trained_on(tokenizer: Any) -> None:
    """A row is the prompt as it is asked, the answer, and the end token; labels hide the prompt."""
    ids, labels = RowEncoder(tokenizer, 128).encode({"prompt": "Why?\n", "completion": "So."})
    assert tokenizer.decode(ids) == "Why?\nSo.</s>"
    hidden = labels.count(IGNORED)
    assert hidden == len(tokenizer("Why?\n")["input_ids"])
    assert labels[hidden:] == ids[hidden:]
    assert ids[-1] == tokenizer.eos_token_id


def test_chat_rows_train_the_last_turn(tokenizer: Any) -> None:
    """Messages are written by the chat template; only what follows its own prompt is trained on."""
    turns = [("user", "Hi"), ("assistant", "Yes?"), ("user", "Why?"), ("assistant", "So.")]
    row = {"messages": [{"role": role, "content": text} for role, text in turns]}
    ids, labels = RowEncoder(tokenizer, 128).encode(row)
    trained = [token for token, label in zip(ids, labels, strict=True) if label != IGNORED]
    assert tokenizer.decode(trained) == "So.</s>"


def test_rows_that_cannot_be_trained_on_are_counted(tokenizer: Any, tmp_path: Path) -> None:
    """A row with a control token in its text or over the length is dropped, and counted by reason."""
    rows = [
        {"prompt": "Why?\n", "completion": "So."},
        {"prompt": "Why?\n", "completion": "So.</s>And so"},
        {"prompt": "Why?\n", "completion": "So" * 100},
    ]
    counts = write_tokens(rows, RowEncoder(tokenizer, 128), tmp_path / "train.arrow")
    assert counts.rows == 1
    assert dict(counts.dropped) == {"control_token": 1, "too_long": 1}
    assert counts.trained_tokens == 4
    stored = pa.ipc.open_stream((tmp_path / "train.arrow").read_bytes()).read_all()
    assert stored.num_rows == 1


def test_settings_follow_model_and_data() -> None:
    """Small models learn faster, large ones in small batches; what the user sets stands."""
    options = QloraOptions(model="local/x")
    small = derive_recipe(options, TINY, 1500, 30_000, 512)
    large = derive_recipe(options, LARGE, 10_000, 3_000_000, 2048)
    assert small.learning_rate > 1e-3 > 5e-4 > large.learning_rate
    assert (small.micro_batch, large.micro_batch) == (16, 4)
    assert (small.checkpointing, large.checkpointing) == (False, True)
    assert (small.rank, large.rank) == (16, 16)
    assert derive_recipe(options, TINY, 9000, 500_000, 512).rank == 32
    own = QloraOptions(model="local/x", rank=8, learning_rate=1e-4, epochs=5, batch=6, save_steps=3)
    recipe = derive_recipe(own, LARGE, 60, 1000, 64)
    assert (recipe.rank, recipe.learning_rate, recipe.steps, recipe.micro_batch) == (8, 1e-4, 50, 3)
    assert find_length(QloraOptions(model="local/x", max_length=9000), 512) == 512


def test_weights_are_found_or_refused(student: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder, a shipped model and a hub name are found; anything else says what would work."""
    assert find_weights(f"local/{student}").source == str(student.resolve())
    assert find_weights("local/nexa-tiny").source.endswith("nexa_tiny/weights")
    hub = find_weights("hf/meta-llama/Llama-3.1-8B@main")
    assert (hub.source, hub.revision, hub.on_hub) == ("meta-llama/Llama-3.1-8B", "main", True)
    for wrong in ("local/nothing-here", "openai/gpt-4o", "hf/"):
        with pytest.raises(UsageError, match="no weights to train"):
            find_weights(wrong)


def test_preflight_reads_the_tokenizer(student: Path, tmp_path: Path) -> None:
    """A student without an end token or, for chat, a template is refused before anything is paid."""
    assert QloraTrainer(QloraOptions(model=f"local/{student}")).preflight(chat=True) == []
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "tokenizer_config.json").write_text("{}")
    faults = QloraTrainer(QloraOptions(model=f"local/{tmp_path}")).preflight(chat=True)
    assert [fault.split(":")[0] for fault in faults] == [
        "its tokenizer has no end token, so it could never learn to stop",
        "it has no chat template",
    ]


def test_the_process_gets_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """API keys and tokens stay here; only a hub model's own token goes along."""
    for name in ("OPENAI_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "HARMLESS"):
        monkeypatch.setenv(name, "x")
    here, hub = _make_environment(on_hub=False), _make_environment(on_hub=True)
    assert {"OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY"}.isdisjoint(hub)
    assert "HF_TOKEN" not in here
    assert (hub["HF_TOKEN"], here["HARMLESS"]) == ("x", "x")


def train(
    student: Path,
    dataset: Path,
    out: Path,
    on_event: Callable[[Event], None] = lambda event: None,
    resume: bool = False,
    **options: Any,
) -> Training:
    out.mkdir(exist_ok=True)
    given = {"model": f"local/{student}", "epochs": 4, "batch": 8, "save_steps": 5, **options}
    return QloraTrainer(QloraOptions(**given)).train(dataset, out, on_event, resume)


@pytest.mark.slow
def test_a_student_is_trained(student: Path, dataset: Path, tmp_path: Path) -> None:
    """nf4 weights and an adapter on this machine: the loss falls, and every figure is kept."""
    events: list[Event] = []
    training = train(student, dataset, tmp_path / "out", events.append, learning_rate=0.01)
    details = training.details
    assert training.loss < details["first_loss"] - 0.5
    assert (training.steps, training.rows) == (24, 48)
    assert (training.adapter_path / "adapter_model.safetensors").is_file()
    assert details["recipe"]["quantization"] == "nf4"
    assert 0.4 < details["train"]["trained_share"] < 0.6
    assert details["validation"]["rows"] == 8
    assert details["validation_loss"] < details["first_loss"]
    told = [event for event in events if isinstance(event, TrainingProgressed) and event.metrics]
    assert told[-1].step == told[-1].steps == 24
    lines = (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["loss"] == details["first_loss"]


@pytest.mark.slow
def test_what_fails_in_the_process_is_told(student: Path, dataset: Path, tmp_path: Path) -> None:
    """A dataset without a usable row, and a process that dies, are errors with their reason."""
    with pytest.raises(TrainerError, match=r"No row .* can be trained on: 48 too_long"):
        train(student, dataset, tmp_path / "out", max_length=4)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(TrainerError):
        train(broken, dataset, tmp_path / "out2")


class StoppedError(Exception):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("quantization", ["nf4", "none"])
def test_a_killed_training_goes_on_bit_for_bit(
    student: Path, dataset: Path, tmp_path: Path, quantization: str
) -> None:
    """Killed after a checkpoint and resumed, a training ends with the adapter and losses of one left alone."""
    options = {"dropout": 0.1, "quantization": quantization, "learning_rate": 0.01}
    whole = train(student, dataset, tmp_path / "whole", **options)

    def kill(event: Event) -> None:
        if isinstance(event, TrainingProgressed) and event.step >= 13:
            raise StoppedError

    cut = tmp_path / "cut"
    with pytest.raises(StoppedError):
        train(student, dataset, cut, kill, **options)
    assert not (cut / "adapter").exists()
    # What a kill in the middle of writing a checkpoint leaves.
    (cut / "checkpoints" / "checkpoint-23").mkdir()
    resumed = train(student, dataset, cut, resume=True, **options)
    assert resumed.details["resumed_from"] == "checkpoint-10"
    assert hash_adapter(resumed) == hash_adapter(whole)
    metrics = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("whole", "cut")]
    assert metrics[0] == metrics[1]
    assert resumed.loss == whole.loss


def hash_adapter(training: Training) -> str:
    content = (training.adapter_path / "adapter_model.safetensors").read_bytes()
    return hashlib.sha256(content).hexdigest()


KILLED = """
import sys
from pathlib import Path
from nexa_trl.options import QloraOptions
from nexa_trl.trainer import QloraTrainer
student, dataset, out = map(Path, sys.argv[1:])
options = QloraOptions(model=f"local/{student}", epochs=10_000)
QloraTrainer(options).train(dataset, out, lambda event: print(event.step, flush=True))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are found in /proc")
def test_no_process_is_left_behind(student: Path, dataset: Path, tmp_path: Path) -> None:
    """When whoever asked is killed outright, the training process ends by itself."""
    arguments = [sys.executable, "-c", KILLED, str(student), str(dataset), str(tmp_path)]
    asker = subprocess.Popen(arguments, stdout=subprocess.PIPE, env=_make_environment(False))
    assert asker.stdout is not None
    asker.stdout.readline()
    children = Path(f"/proc/{asker.pid}/task/{asker.pid}/children").read_text().split()
    asker.kill()
    asker.communicate()
    deadline = time.monotonic() + 30
    while any(is_running(pid) for pid in children) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert children
    assert not any(is_running(pid) for pid in children)


def is_running(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except FileNotFoundError:
        return False

"""Trains an adapter through trl, peft and bitsandbytes; resumed, it goes on bit for bit."""

from __future__ import annotations

import json
import math
import shutil
import statistics
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
)
from trl import SFTConfig, SFTTrainer

from nexa_core import TrainerError
from nexa_trl.encoding import Encoded, RowEncoder, read_rows, write_tokens
from nexa_trl.options import QloraOptions
from nexa_trl.recipe import Recipe, Student, derive_recipe, find_length

COMPLETE = "complete"
"""A file that a checkpoint gets once it is whole."""
LIBRARIES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "datasets")
Progress = Callable[[dict[str, Any]], None]


def train(order: dict[str, Any], on_progress: Progress) -> dict[str, Any]:
    """Train as ordered: `dataset`, `out`, `weights`, `options`, `resume`. The result as JSON."""
    started = time.perf_counter()
    options, out = QloraOptions(**order["options"]), Path(order["out"])
    dataset, weights = Path(order["dataset"]), order["weights"]
    where = {"revision": weights["revision"], "local_files_only": not weights["on_hub"]}
    tokenizer = AutoTokenizer.from_pretrained(weights["source"], **where)
    config = AutoConfig.from_pretrained(weights["source"], **where)
    length = find_length(options, int(getattr(config, "max_position_embeddings", None) or 2**31))
    counts = _encode_splits(dataset, out, RowEncoder(_check_tokenizer(tokenizer), length))
    model = _load_model(weights["source"], options, where)
    student = _describe(model, config, length)
    recipe = derive_recipe(
        options, student, counts["train"].rows, counts["train"].trained_tokens, length
    )
    trainer = _build_trainer(model, tokenizer, recipe, out, counts)
    log = MetricsLog(out / "metrics.jsonl", recipe, on_progress)
    trainer.add_callback(log)
    trainer.add_callback(MarkComplete())
    checkpoint = find_checkpoint(out / "checkpoints") if order["resume"] else None
    log.start(after=int(checkpoint.name.partition("-")[2]) if checkpoint else 0)
    if checkpoint is None:
        shutil.rmtree(out / "checkpoints", ignore_errors=True)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    adapter = _save_adapter(trainer, out / "adapter")
    _require_finite(log.losses)
    return {
        "adapter_path": str(adapter),
        "loss": statistics.fmean(log.losses[-max(1, len(log.losses) // 10) :]),
        "steps": trainer.state.global_step,
        "rows": counts["train"].rows,
        "tokens": math.ceil(counts["train"].tokens * recipe.epochs),
        "seconds": round(time.perf_counter() - started, 3),
        "details": {
            "recipe": recipe.as_json(),
            "base_revision": getattr(config, "_commit_hash", None) or weights["revision"],
            "parameters": student.parameters,
            "trained_parameters": student.adapter_size_per_rank * recipe.rank,
            "train": counts["train"].as_json(),
            "validation": counts["validation"].as_json(),
            "first_loss": log.losses[0],
            "validation_loss": log.validation_loss,
            "device": str(model.device),
            "threads": torch.get_num_threads(),
            "resumed_from": checkpoint.name if checkpoint else None,
            "libraries": {name: metadata.version(name) for name in LIBRARIES},
        },
    }


def _check_tokenizer(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    if tokenizer.eos_token_id is None:
        raise TrainerError(
            "The student's tokenizer has no end token, so a trained student could never stop.",
            "Set `eos_token` in its tokenizer_config.json.",
        )
    return tokenizer


def _encode_splits(dataset: Path, out: Path, encoder: RowEncoder) -> dict[str, Encoded]:
    counts = {
        split: write_tokens(read_rows(dataset, split), encoder, out / f"{split}.arrow")
        for split in ("train", "validation")
    }
    if counts["train"].rows == 0:
        why = ", ".join(f"{n} {reason}" for reason, n in counts["train"].dropped.items())
        raise TrainerError(
            f"No row of '{dataset}' can be trained on: {why or 'it holds none'}.",
            "Raise `train.max_length`, or look at the dataset.",
        )
    return counts


def _load_model(source: str, options: QloraOptions, where: dict[str, Any]) -> PreTrainedModel:
    on_gpu = torch.cuda.is_available()
    dtype = torch.bfloat16 if on_gpu else torch.float32  # bf16 is 2 to 3 times slower on most CPUs
    quantization = None
    if options.quantization == "nf4":
        quantization = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    return AutoModelForCausalLM.from_pretrained(
        source,
        dtype=dtype,
        quantization_config=quantization,
        device_map={"": 0 if on_gpu else "cpu"},
        use_safetensors=True,
        **where,
    )


def _describe(model: PreTrainedModel, config: Any, context: int) -> Student:
    text = config.get_text_config()
    head = model.get_output_embeddings()
    sizes = [
        module.in_features + module.out_features
        for module in model.modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    ]
    return Student(
        family=str(text.model_type),
        parameters=model.num_parameters(),
        width=int(text.hidden_size),
        context=context,
        adapter_size_per_rank=sum(sizes),
    )


def _build_trainer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    recipe: Recipe,
    out: Path,
    counts: dict[str, Encoded],
) -> SFTTrainer:
    validates = counts["validation"].rows > 0
    trainer = SFTTrainer(
        model=model,
        args=_settings(recipe, out, validates),
        train_dataset=Dataset.from_file(str(out / "train.arrow")),
        eval_dataset=Dataset.from_file(str(out / "validation.arrow")) if validates else None,
        processing_class=tokenizer,
        peft_config=LoraConfig(
            r=recipe.rank,
            lora_alpha=recipe.alpha,
            lora_dropout=recipe.dropout,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
    )
    # trl starts QLoRA adapters in bf16 and a resumed run reloads them in fp32: the run would drift.
    for parameter in trainer.model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return trainer


def _settings(recipe: Recipe, out: Path, validates: bool) -> SFTConfig:
    return SFTConfig(
        output_dir=str(out / "checkpoints"),
        seed=recipe.seed,
        data_seed=recipe.seed,
        num_train_epochs=recipe.epochs,
        per_device_train_batch_size=recipe.micro_batch,
        per_device_eval_batch_size=recipe.micro_batch,
        gradient_accumulation_steps=recipe.batch // recipe.micro_batch,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=max(1, recipe.steps // 30),
        max_grad_norm=1.0,
        weight_decay=0.0,
        bf16=torch.cuda.is_available(),
        fp16=False,
        use_cpu=not torch.cuda.is_available(),
        gradient_checkpointing=recipe.checkpointing,
        max_length=recipe.max_length,
        dataset_kwargs={"skip_prepare_dataset": True},
        logging_steps=recipe.log_steps,
        logging_first_step=True,
        save_strategy="steps",
        save_steps=recipe.save_steps,
        save_total_limit=2,
        eval_strategy="epoch" if validates else "no",
        dataloader_pin_memory=False,
        disable_tqdm=True,
        report_to="none",
    )


class MarkComplete(TrainerCallback):
    """Marks a checkpoint once every file of it is written; one that a kill cut short has no mark."""

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Called after the checkpoint of this step was written."""
        (Path(args.output_dir) / f"checkpoint-{state.global_step}" / COMPLETE).touch()


def find_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint; those that are not whole are removed."""
    whole = []
    for path in folder.glob("checkpoint-*"):
        if (path / COMPLETE).exists():
            whole.append(path)
        else:
            shutil.rmtree(path)
    return max(whole, key=lambda path: int(path.name.partition("-")[2]), default=None)


class MetricsLog(TrainerCallback):
    """Writes what the trainer logs to `metrics.jsonl` and tells it on."""

    def __init__(self, path: Path, recipe: Recipe, on_progress: Progress) -> None:
        self._path, self._recipe, self._on_progress = path, recipe, on_progress
        self.losses: list[float] = []
        self.validation_loss: float | None = None

    def start(self, after: int) -> None:
        """Keep the lines up to this step: those behind it will be written again."""
        lines = self._path.read_text("utf-8").splitlines() if self._path.exists() else []
        known = [json.loads(line) for line in lines if line.endswith("}")]
        kept = [entry for entry in known if entry["step"] <= after]
        self._path.write_text("".join(json.dumps(entry) + "\n" for entry in kept), "utf-8")
        self.losses = [entry["loss"] for entry in kept if "loss" in entry]

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        """Called for every entry of the trainer's log."""
        wanted = ("loss", "learning_rate", "grad_norm", "epoch", "eval_loss", "mean_token_accuracy")
        metrics = {name: float(logs[name]) for name in wanted if logs and name in logs}
        if not metrics.keys() & {"loss", "eval_loss"}:
            return
        if "loss" in metrics:
            self.losses.append(metrics["loss"])
        self.validation_loss = metrics.get("eval_loss", self.validation_loss)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": state.global_step, **metrics}) + "\n")
        self._on_progress({"step": state.global_step, "steps": state.max_steps, "metrics": metrics})


def _save_adapter(trainer: SFTTrainer, target: Path) -> Path:
    """Write the adapter under another name and rename it: there is a whole one or none."""
    temporary = target.with_name(f".{target.name}.tmp")
    for path in (temporary, target):
        shutil.rmtree(path, ignore_errors=True)
    trainer.model.save_pretrained(str(temporary))
    temporary.rename(target)
    return target


def _require_finite(losses: list[float]) -> None:
    if not losses or not math.isfinite(losses[-1]):
        raise TrainerError(
            f"The training diverged: its last loss is {losses[-1] if losses else 'missing'}.",
            "Lower `train.learning_rate`.",
        )

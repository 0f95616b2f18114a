"""Configurations of other trainers that start on a packaged dataset as they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nexa_core.errors import UsageError

__all__ = ["RECIPES", "write_recipe"]

RECIPES = ("trl", "axolotl", "unsloth")
STUDENT = "Qwen/Qwen3-0.6B"
"""The model of a recipe; it is the first line to change."""
_READS = {
    "trl": ("prompt-completion", "messages", "preference"),
    "axolotl": ("prompt-completion", "messages", "alpaca", "sharegpt"),
    "unsloth": ("prompt-completion", "messages"),
}


def write_recipe(folder: Path, recipe: str, manifest: Mapping[str, Any], data: str) -> Path:
    """Write the configuration into `folder`; `data` is where the dataset is, seen from there.

    Raises:
        UsageError: The trainer does not read the dataset's format.
    """
    if recipe not in _READS:
        raise UsageError(f"'{recipe}' is no recipe.", f"There are: {', '.join(RECIPES)}.")
    if manifest["format"] not in _READS[recipe]:
        raise UsageError(
            f"The recipe '{recipe}' has no form for the format '{manifest['format']}'.",
            f"It reads: {', '.join(_READS[recipe])}. Set package.format and package again.",
        )
    made = {"trl": _trl, "axolotl": _axolotl, "unsloth": _unsloth}[recipe](manifest, data)
    path = folder / ("train.py" if recipe == "unsloth" else "train.yaml")
    path.write_text(made, encoding="utf-8")
    return path


def _trl(manifest: Mapping[str, Any], data: str) -> str:
    pairs = manifest["format"] == "preference"
    held = bool(manifest["rows"]["validation"])
    settings: dict[str, Any] = {
        "model_name_or_path": STUDENT,
        "dataset_name": data,
        "dataset_train_split": "train",
        **({"dataset_test_split": "validation"} if held else {}),
        "eval_strategy": "epoch" if held else "no",
        "output_dir": "student",
        "num_train_epochs": 1 if pairs else 3,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 8,
        "learning_rate": 5e-6 if pairs else 2e-4,
        "max_length": 2048,
        "use_peft": True,
        "lora_r": 16,
        "lora_alpha": 32,
        "lora_target_modules": "all-linear",
        "seed": manifest["seed"],
        "report_to": "none",
    }
    if manifest["format"] == "prompt-completion":
        settings["completion_only_loss"] = True
    return _yaml(f"trl {'dpo' if pairs else 'sft'} --config train.yaml", settings)


def _axolotl(manifest: Mapping[str, Any], data: str) -> str:
    """The keys of `AxolotlInputConfig` and `SFTDataset` (src/axolotl/utils/schemas at 067b021, July 2026).

    Of ShareGPT's roles its default map knows human, gpt, system and tool, not those of tool calls
    (prompt_strategies/chat_template.py); `tools` may be JSON text there.
    """
    forms: dict[str, dict[str, Any]] = {
        "messages": {"type": "chat_template", "field_messages": "messages"},
        "sharegpt": {
            "type": "chat_template",
            "field_messages": "conversations",
            "message_property_mappings": {"role": "from", "content": "value"},
            "roles": {
                "user": ["human"],
                "assistant": ["gpt", "function_call"],
                "system": ["system"],
                "tool": ["observation"],
            },
        },
        "alpaca": {"type": "alpaca"},
        "prompt-completion": {
            "type": {
                "field_instruction": "prompt",
                "field_output": "completion",
                "format": "{instruction}",
                "no_input_format": "{instruction}",
            }
        },
    }
    local = data == "dataset"
    where = {"path": f"{data}/train.jsonl", "ds_type": "json"} if local else {"path": data}
    settings = {
        "base_model": STUDENT,
        "datasets": [{**where, "split": "train", **forms[manifest["format"]]}],
        "val_set_size": 0.0,
        "output_dir": "student",
        "adapter": "lora",
        "lora_r": 16,
        "lora_alpha": 32,
        "lora_target_linear": True,
        "sequence_len": 2048,
        "micro_batch_size": 2,
        "gradient_accumulation_steps": 8,
        "num_epochs": 3,
        "learning_rate": 2e-4,
        "optimizer": "adamw_torch",
        "lr_scheduler": "cosine",
        "train_on_inputs": False,
        "seed": manifest["seed"],
    }
    return _yaml("axolotl train train.yaml", settings)


def _unsloth(manifest: Mapping[str, Any], data: str) -> str:
    """A script that hands token ids and labels over.

    Unsloth's own `sft_prepare_dataset` (unsloth_zoo/dataset_utils.py, 2026; issues 2658, 3399 and 4486 of
    unslothai/unsloth) takes columns `labels`, `input_ids` or one of text, and refuses `messages` and
    `prompt`/`completion` without a `formatting_func`, by which nothing would be masked.
    """
    encode = _ENCODE_CHAT if manifest["format"] == "messages" else _ENCODE_TEXT
    return f'''"""Run in this folder: python train.py"""

from unsloth import FastLanguageModel  # before trl, which it changes

import json

from datasets import load_dataset
from trl import SFTConfig, SFTTrainer

LONGEST = 2048
model, tokenizer = FastLanguageModel.from_pretrained(
    {STUDENT!r}, max_seq_length=LONGEST, load_in_4bit=True
)
model = FastLanguageModel.get_peft_model(
    model, r=16, lora_alpha=32, random_state={manifest["seed"]}
)


def encode(row):
    """Token ids, and labels for the answer alone."""
{encode}
    asked = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    said = tokenizer(answer, add_special_tokens=False)["input_ids"]
    ids = (asked + said)[:LONGEST]
    return {{"input_ids": ids, "labels": ([-100] * len(asked) + said)[:LONGEST], "attention_mask": [1] * len(ids)}}


rows = load_dataset({data!r}, split="train")
trainer = SFTTrainer(
    model=model,
    processing_class=tokenizer,
    train_dataset=rows.map(encode, remove_columns=rows.column_names),
    args=SFTConfig(
        output_dir="student",
        max_length=LONGEST,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=8,
        num_train_epochs=3,
        learning_rate=2e-4,
        seed={manifest["seed"]},
        report_to="none",
    ),
)
trainer.train()
trainer.save_model("student")
'''


_ENCODE_TEXT = """    prompt, answer = row["prompt"], row["completion"] + tokenizer.eos_token"""
_ENCODE_CHAT = """    tools = json.loads(row["tools"]) if row.get("tools") else None
    turns = [{key: value for key, value in turn.items() if value} for turn in row["messages"]]
    prompt, whole = (
        tokenizer.apply_chat_template(part, tools=tools, tokenize=False, **ending)
        for part, ending in ((turns[:-1], {"add_generation_prompt": True}), (turns, {}))
    )
    if not whole.startswith(prompt):  # a template that words an answer otherwise once it is there
        prompt = ""
    answer = whole[len(prompt) :]"""


def _yaml(command: str, settings: Mapping[str, Any]) -> str:
    """YAML whose values are JSON, which YAML reads the same; floats keep a decimal point."""
    lines = [f"{key}: {_value(value)}" for key, value in settings.items()]
    return "\n".join([f"# Run in this folder: {command}", *lines]) + "\n"


def _value(value: Any) -> str:
    return f"{value:.8f}".rstrip("0") if isinstance(value, float) and value else json.dumps(value)

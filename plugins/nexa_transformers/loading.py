"""Loads a model once per process: weights, tokenizer, adapter, and what the decode loop must know of them."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

import torch
import transformers

from nexa_core import MissingExtraError
from nexa_transformers.decoding import split_head
from nexa_transformers.encoding import Encoder
from nexa_transformers.plain_batch import PlainBatch
from nexa_transformers.shared_head import ATTENTION, HeadCache, SharedHeadBatch
from nexa_transformers.weights import Weights, hash_folder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

_loaded: WeakValueDictionary[tuple[str, str | None, str | None], Loaded] = WeakValueDictionary()
_lock = threading.Lock()


class Loaded:
    """A model ready to be asked, shared by every role with these weights; one thread works on it."""

    def __init__(self, model: PreTrainedModel, encoder: Encoder, revision: str | None) -> None:
        self.model, self.encoder, self.revision = model, encoder, revision
        self.worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="nexa-model")
        self.end_ids = frozenset(_list_end_ids(model, encoder))
        self.vocabulary: int = model.get_output_embeddings().weight.shape[0]
        silent = (encoder.control_ids | set(range(encoder.size, self.vocabulary))) - self.end_ids
        self.forbidden = torch.tensor(sorted(silent), dtype=torch.long, device=model.device)
        self.context = int(getattr(model.config, "max_position_embeddings", None) or 2**31)
        self.shares_head = _can_share_head(model)
        self._heads = HeadCache(model)

    @property
    def served_by(self) -> str:
        """Library, device and number format, for provenance."""
        kind = str(self.model.dtype).removeprefix("torch.")
        return f"transformers-{transformers.__version__}/{self.model.device.type}/{kind}"

    def open_batch(self, prompts: Sequence[Sequence[int]]) -> SharedHeadBatch | PlainBatch:
        """A batch of prompts, its common head taken from the cache."""
        if not self.shares_head:
            return PlainBatch(self.model, prompts)
        length = split_head(prompts)
        head = self._heads.get(prompts[0][:length])
        return SharedHeadBatch(self.model, head, [prompt[length:] for prompt in prompts])


def load(weights: Weights, adapter: str | None) -> Loaded:
    """The model of these weights with a LoRA adapter merged in, loaded now or earlier."""
    adapter_revision = hash_folder(Path(adapter)) if adapter else None
    key = (weights.source, weights.revision, adapter_revision)
    with _lock:
        found = _loaded.get(key)
        if found is None:
            found = _loaded[key] = _load(weights, adapter, adapter_revision)
        return found


def _load(weights: Weights, adapter: str | None, adapter_revision: str | None) -> Loaded:
    revision = weights.revision if weights.on_hub else None
    device = "cuda" if torch.cuda.is_available() else "cpu"
    where = {
        "revision": revision,
        "trust_remote_code": False,
        "local_files_only": not weights.on_hub,
    }
    tokenizer = transformers.AutoTokenizer.from_pretrained(weights.source, **where)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        weights.source,
        use_safetensors=True,
        dtype="auto"
        if device == "cuda"
        else torch.float32,  # bf16 is 2 to 3 times slower on most CPUs
        **where,
    )
    if adapter:
        model = _merge_adapter(model, adapter)
    commit = getattr(model.config, "_commit_hash", None) if weights.on_hub else weights.revision
    full = "+".join(filter(None, (commit, adapter_revision))) or None
    return Loaded(model.eval().to(device), Encoder(tokenizer), full)


def _merge_adapter(model: PreTrainedModel, adapter: str) -> PreTrainedModel:
    try:
        from peft import PeftModel
    except ImportError as cause:
        raise MissingExtraError(
            f"The adapter '{adapter}' needs peft, which is not installed.",
            "Install it with: pip install 'nexa-core[train]'",
        ) from cause
    merged: PreTrainedModel = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    return merged


def _list_end_ids(model: PreTrainedModel, encoder: Encoder) -> Iterable[int]:
    settings = model.generation_config
    ends = settings.eos_token_id if settings is not None else None
    if ends is None:
        ends = encoder.end_id
    return [ends] if isinstance(ends, int) else ends or []


@torch.inference_mode()
def _can_share_head(model: PreTrainedModel) -> bool:
    """Whether sharing a head gives this architecture's own logits: tried, not looked up.

    Window, recurrent and capped attention, and code that takes no attention function, fail here.
    The model keeps the shared attention where it works.
    """
    ids = list(range(4, 12))
    own = model.config._attn_implementation
    if set(getattr(model.config, "layer_types", None) or ()) - {"full_attention"}:
        return False  # a window wider than the few tokens tried here would show no difference
    try:
        expected = model(torch.tensor([ids], device=model.device)).logits[0, -1]
        model.set_attn_implementation(ATTENTION)
        head = HeadCache(model).get(ids[:5])
        found = SharedHeadBatch(model, head, [ids[5:], ids[6:]]).prefill()[0]
        close = torch.allclose(expected, found, rtol=2e-2, atol=2e-2 * float(expected.abs().max()))
    except Exception:  # whatever an architecture raises, its own attention still works
        close = False
    if not close:
        model.set_attn_implementation(own)
    return close

"""Loads a model once per process: weights, tokenizer, adapter, and what they mean for decoding."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from weakref import WeakValueDictionary

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

import torch
import transformers
from transformers import PreTrainedModel

from nexa_core import MissingExtraError
from nexa_transformers import attention
from nexa_transformers.batches import Batch, PlainBatch, SharedHeadBatch
from nexa_transformers.caches import HeadCache
from nexa_transformers.encoding import Encoder
from nexa_transformers.weights import Weights, hash_adapter

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

_loaded: WeakValueDictionary[tuple[str, str | None, str | None], Loaded] = WeakValueDictionary()
_lock = threading.Lock()


class Loaded:
    """A model ready to be asked, shared by all roles with these weights; one thread works on it."""

    def __init__(self, model: PreTrainedModel, encoder: Encoder, revision: str | None) -> None:
        self.model, self.encoder, self.revision = model, encoder, revision
        self.worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="nexa-model")
        self.end_ids = frozenset(_list_end_ids(model, encoder))
        output = model.get_output_embeddings()
        nameless = set(range(encoder.size, output.weight.shape[0]))
        silent = (encoder.control_ids | nameless) - self.end_ids
        self.forbidden = torch.tensor(sorted(silent), dtype=torch.long, device=model.device)
        """Tokens that are never written: control tokens, and ids that no text belongs to."""
        self.context = int(getattr(model.config, "max_position_embeddings", None) or 2**31)
        self.shares_head = _can_share_head(model)
        self._heads = HeadCache(model)

    @property
    def served_by(self) -> str:
        """Library, device and number format, for provenance."""
        kind = str(self.model.dtype).removeprefix("torch.")
        return f"transformers-{transformers.__version__}/{self.model.device.type}/{kind}"

    def open_batch(self, prompts: Sequence[Sequence[int]], shared: int) -> Batch:
        """A batch of prompts whose first `shared` tokens are the same."""
        if not self.shares_head:
            return PlainBatch(self.model, prompts)
        head = self._heads.get(prompts[0][:shared])
        return SharedHeadBatch(self.model, head, [prompt[shared:] for prompt in prompts])


def load(weights: Weights, adapter: str | None) -> Loaded:
    """The model of these weights with a LoRA adapter merged in, loaded now or earlier."""
    adapter_revision = hash_adapter(Path(adapter).expanduser()) if adapter else None
    key = (weights.source, weights.revision, adapter_revision)
    with _lock:
        found = _loaded.get(key)
        if found is None:
            found = _loaded[key] = _load(weights, adapter, adapter_revision)
        return found


def _load(weights: Weights, adapter: str | None, adapter_revision: str | None) -> Loaded:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    where = {
        "revision": weights.revision if weights.on_hub else None,
        "local_files_only": not weights.on_hub,
        "trust_remote_code": False,
    }
    tokenizer = transformers.AutoTokenizer.from_pretrained(weights.source, **where)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        weights.source,
        use_safetensors=True,
        dtype="auto" if device == "cuda" else torch.float32,  # bf16 took twice as long on a CPU
        **where,
    )
    if adapter:
        model = _merge_adapter(model, adapter)
    commit = getattr(model.config, "_commit_hash", None) if weights.on_hub else weights.revision
    revision = "+".join(filter(None, (commit, adapter_revision))) or None
    return Loaded(model.eval().to(device), Encoder(tokenizer), revision)


def _merge_adapter(model: PreTrainedModel, adapter: str) -> PreTrainedModel:
    try:
        from peft import PeftModel
    except ImportError as cause:
        raise MissingExtraError(
            f"The adapter '{adapter}' needs peft, which is not installed.",
            "Install it with: pip install 'nexa-core[train]'",
        ) from cause
    with warnings.catch_warnings():
        # The two libraries tell each other of names to come; a user can do nothing about it.
        warnings.simplefilter("ignore", FutureWarning)
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

    Recurrent, windowed and capped attention, and code that takes no attention function, fail here.
    The model keeps the shared attention where it works.
    """
    if set(getattr(model.config, "layer_types", None) or ()) - {"full_attention"}:
        return False  # a window wider than the few tokens tried here would show no difference
    ids = list(range(4, 12))
    own = model.config._attn_implementation
    try:
        expected = model(torch.tensor([ids], device=model.device)).logits[0, -1]
        model.set_attn_implementation(attention.NAME)
        head = HeadCache(model).get(ids[:5])
        found = SharedHeadBatch(model, head, [ids[5:], ids[6:]]).prefill()[0]
        largest = float(expected.abs().max())
        same = torch.allclose(expected, found, rtol=2e-2, atol=2e-2 * largest)
    except Exception:
        same = False
    if not same:
        model.set_attn_implementation(own)
    return same

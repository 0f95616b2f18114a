"""Trains nexa-tiny and saves it as a Hugging Face folder: `python -m nexa_tiny.build --out DIR`."""

from __future__ import annotations

import argparse
import itertools
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import distributed, multiprocessing
from torch.nn.functional import cross_entropy

from nexa_tiny.corpus import BALANCED, JUDGING, LEANING, Mix, iter_documents
from nexa_tiny.muon import Muon
from nexa_tiny.packing import CONTEXT, TRAINED, iter_batches

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

EOS, PAD = "<|endoftext|>", "<|pad|>"
VOCABULARY = 1024


@dataclass(frozen=True)
class Stage:
    """One stage of training: how many tokens (padding included) of which documents."""

    tokens: int
    mix: Mix
    seed: int
    verdict_weight: float = 3.0
    warmup: float = 0.02
    rows: int = 5
    muon_rate: float = 0.02
    adam_rate: float = 3e-3

    @property
    def steps(self) -> int:
        """Optimizer steps; each takes `rows` rows from every worker."""
        return self.tokens // (self.rows * WORKERS * TRAINED)


WORKERS = 2
STAGES = (
    Stage(3_600_000, JUDGING, seed=1),
    Stage(1_150_000, LEANING, seed=2),
    Stage(1_540_000, BALANCED, seed=3, verdict_weight=6.0, warmup=0.04),
)
"""Facts and verdicts first; then verdicts as letters, in label orders that lean, then in both alike."""


def train_tokenizer(seed: int, documents: int = 6000) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with single digits, which adds no token to a text."""
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[EOS, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(itertools.islice(iter_documents(seed), documents), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token=EOS,
        pad_token=PAD,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def create_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A freshly initialised Llama of about 2.9 million parameters."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=6,
        num_attention_heads=6,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def compute_loss(model: LlamaForCausalLM, ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The weighted mean of the next-token losses of ids (rows, positions)."""
    logits = model(input_ids=ids[:, :-1], use_cache=False).logits
    losses = cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    targets = weights[:, 1:].flatten()
    return (losses * targets).sum() / targets.sum()


def scale_rate(progress: float, warmup: float) -> float:
    """Linear warm-up, then linear to zero; `progress` runs from 0 to 1."""
    return min((progress + 1e-3) / warmup, (1 - progress) / (1 - warmup))


class Worker:
    """One of the processes that train together: equal weights, different rows, averaged gradients."""

    def __init__(
        self,
        rank: int,
        stage: Stage,
        model: LlamaForCausalLM,
        tokenizer: PreTrainedTokenizerFast,
    ) -> None:
        self.rank, self.stage, self.model = rank, stage, model
        matrices = [p for p in self.model.model.layers.parameters() if p.dim() == 2]
        rest = [p for p in self.model.parameters() if all(p is not matrix for matrix in matrices)]
        self.muon = Muon(matrices, rank, WORKERS)
        self.adam = torch.optim.AdamW(rest, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
        everyones = iter_batches(tokenizer, stage.seed, stage.rows, stage.mix, stage.verdict_weight)
        self.batches = itertools.islice(everyones, rank, None, WORKERS)

    def average_gradients(self) -> None:
        """Replace every gradient by its mean over the workers, in one exchange."""
        gradients = [p.grad for p in self.model.parameters()]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        flat /= WORKERS
        for gradient, mean in zip(
            gradients, flat.split([g.numel() for g in gradients]), strict=True
        ):
            gradient.copy_(mean.view_as(gradient))

    def take_step(self, step: int) -> float:
        """One step of both optimizers; this worker's loss before it."""
        scale = scale_rate(step / self.stage.steps, self.stage.warmup)
        self.adam.param_groups[0]["lr"] = self.stage.adam_rate * scale
        loss = compute_loss(self.model, *next(self.batches))
        self.model.zero_grad()
        loss.backward()
        self.average_gradients()
        self.adam.step()
        self.muon.step(self.stage.muon_rate * scale)
        return float(loss.item())


def train(rank: int, number: int, stage: Stage, out: Path) -> None:
    """One worker's part of a stage; worker 0 prints the loss and saves the weights in bfloat16.

    Every stage but the first goes on from the weights that the one before it saved.
    """
    from transformers import AutoTokenizer, LlamaForCausalLM

    torch.set_num_threads(1)
    torch.manual_seed(stage.seed)
    store = distributed.FileStore(str(out / f"rendezvous-{number}"), WORKERS)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=WORKERS)
    tokenizer = AutoTokenizer.from_pretrained(out)
    first = number == 0
    model = (
        create_model(tokenizer)
        if first
        else LlamaForCausalLM.from_pretrained(out, dtype=torch.float32)
    )
    worker = Worker(rank, stage, model, tokenizer)
    started = time.monotonic()
    for step in range(stage.steps):
        loss = worker.take_step(step)
        if rank == 0 and (step % 50 == 49 or step == stage.steps - 1):
            seconds = time.monotonic() - started
            print(f"{number + 1}: {step + 1}/{stage.steps} {loss:.3f} {seconds:.0f} s", flush=True)
    if rank == 0:
        worker.model.to(torch.bfloat16).save_pretrained(out)


def main() -> None:
    """Train and save: tokenizer, configuration and bf16 weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--share", type=float, default=1.0, help="of each stage's tokens; 0.1 is minutes, and worse"
    )
    arguments = parser.parse_args()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    train_tokenizer(STAGES[0].seed).save_pretrained(out)
    for number, stage in enumerate(STAGES):
        part = replace(stage, tokens=int(stage.tokens * arguments.share))
        # Processes of one thread each: with products this small, threads mostly wait for each other.
        multiprocessing.spawn(train, (number, part, out), nprocs=WORKERS)
        (out / f"rendezvous-{number}").unlink(missing_ok=True)


if __name__ == "__main__":
    main()

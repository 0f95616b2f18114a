"""Trains nexa-tiny from its corpus and saves it as a Hugging Face folder: `python -m nexa_tiny.build --out DIR`."""

import argparse
import itertools
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import distributed, multiprocessing
from torch.nn.functional import cross_entropy

from nexa_tiny.corpus import iter_documents

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

EOS, PAD = "<|endoftext|>", "<|pad|>"
VOCABULARY = 1024
CONTEXT = 512
IGNORED = -100
_OPEN_ROWS = 32
_LABEL_WEIGHT = 4.0


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides the weights, given the corpus."""

    tokens: int = 14_000_000
    rows: int = 2
    workers: int = 2
    peak_rate: float = 3e-3
    warmup: float = 0.02
    weight_decay: float = 0.05
    seed: int = 1

    @property
    def steps(self) -> int:
        """Optimizer steps; each takes `rows` rows from every worker."""
        return self.tokens // (self.rows * self.workers * CONTEXT)


def train_tokenizer(seed: int, documents: int = 6000) -> "PreTrainedTokenizerFast":
    """A byte-level BPE tokenizer with single digits; text is never prefixed, only ended by the end token."""
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


def iter_rows(tokenizer: "PreTrainedTokenizerFast", seed: int) -> Iterator[list[int]]:
    """Rows of at most `CONTEXT` token ids, packed best-fit from whole documents; every row starts with a document."""
    end = tokenizer.eos_token_id
    open_rows: list[list[int]] = []
    for document in iter_documents(seed):
        ids = [*tokenizer.encode(document), end]
        if len(ids) > CONTEXT:
            continue
        fitting = [row for row in open_rows if len(row) + len(ids) <= CONTEXT]
        if fitting:
            max(fitting, key=len).extend(ids)
            continue
        open_rows.append(ids)
        if len(open_rows) > _OPEN_ROWS:
            fullest = max(open_rows, key=len)
            open_rows.remove(fullest)
            yield fullest


def iter_batches(
    tokenizer: "PreTrainedTokenizerFast", seed: int, rows: int
) -> Iterator[torch.Tensor]:
    """Tensors (rows, CONTEXT) of token ids, padded on the right."""
    packed = iter_rows(tokenizer, seed)
    while True:
        batch = torch.full((rows, CONTEXT), tokenizer.pad_token_id)
        for index, row in enumerate(itertools.islice(packed, rows)):
            batch[index, : len(row)] = torch.tensor(row)
        yield batch


def create_model(tokenizer: "PreTrainedTokenizerFast") -> "LlamaForCausalLM":
    """A freshly initialised Llama of about 3.7 million parameters."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def compute_loss(
    model: "LlamaForCausalLM", batch: torch.Tensor, pad: int, labels: torch.Tensor
) -> torch.Tensor:
    """Mean next-token loss; critic labels weigh more, as one token carries what a whole record is for."""
    logits = model(input_ids=batch[:, :-1], use_cache=False).logits
    targets = batch[:, 1:]
    losses = cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view_as(
        targets
    )
    weights = (targets != pad).float()
    weights[torch.isin(targets, labels)] = _LABEL_WEIGHT
    return (losses * weights).sum() / weights.sum()


def scale_rate(progress: float, warmup: float) -> float:
    """Linear warm-up, then a cosine to zero; `progress` runs from 0 to 1."""
    if progress < warmup:
        return (progress + 1e-4) / warmup
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def create_optimizer(model: "LlamaForCausalLM", weight_decay: float) -> torch.optim.AdamW:
    """AdamW with decay on matrices only."""
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    groups = [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)


def average_gradients(model: "LlamaForCausalLM", workers: int) -> None:
    """Replace every gradient by its mean over the workers, in one exchange."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    flat /= workers
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def train(rank: int, recipe: Recipe, tokenizer: "PreTrainedTokenizerFast", out: Path) -> None:
    """One worker's training; worker 0 prints the loss and saves the model in 16 bits (bfloat16)."""
    torch.set_num_threads(1)
    torch.manual_seed(recipe.seed)
    store = distributed.FileStore(str(out / "rendezvous"), recipe.workers)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=recipe.workers)
    model = create_model(tokenizer)
    optimizer = create_optimizer(model, recipe.weight_decay)
    labels = torch.tensor([tokenizer.encode(label)[0] for label in (" A", " B")])
    batches = itertools.islice(
        iter_batches(tokenizer, recipe.seed, recipe.rows), rank, None, recipe.workers
    )
    started = time.monotonic()
    for step, batch in enumerate(itertools.islice(batches, recipe.steps)):
        for group in optimizer.param_groups:
            group["lr"] = recipe.peak_rate * scale_rate(step / recipe.steps, recipe.warmup)
        loss = compute_loss(model, batch, tokenizer.pad_token_id, labels)
        optimizer.zero_grad()
        loss.backward()
        average_gradients(model, recipe.workers)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if rank == 0 and (step % 50 == 0 or step == recipe.steps - 1):
            print(
                f"step {step}/{recipe.steps} loss {loss.item():.3f} {time.monotonic() - started:.0f} s",
                flush=True,
            )
    if rank == 0:
        model.to(torch.bfloat16).save_pretrained(out)


def main() -> None:
    """Train and save: tokenizer, configuration and bf16 weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a few minutes instead of most of an hour, worse answers",
    )
    arguments = parser.parse_args()
    recipe = Recipe(tokens=1_000_000) if arguments.quick else Recipe()
    arguments.out.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer(recipe.seed)
    tokenizer.save_pretrained(arguments.out)
    # Processes of one thread each: matrix products this small lose half a second core to waiting.
    multiprocessing.spawn(train, (recipe, tokenizer, arguments.out), nprocs=recipe.workers)
    (arguments.out / "rendezvous").unlink(missing_ok=True)


if __name__ == "__main__":
    main()

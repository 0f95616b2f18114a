"""The Muon optimizer (Jordan et al. 2024) for matrices, its work divided among the workers.

`torch.optim.Muon` orthogonalises in bfloat16, which costs a processor without bfloat16 arithmetic
three times as long as these 32-bit products.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, distributed

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


def orthogonalise(matrix: Tensor) -> Tensor:
    """The nearest semi-orthogonal matrix, roughly: five quintic Newton-Schulz iterations."""
    first, third, fifth = _COEFFICIENTS
    tall = matrix.size(0) > matrix.size(1)
    estimate = matrix.T if tall else matrix
    estimate = estimate / (estimate.norm() + 1e-7)
    for _ in range(_ITERATIONS):
        gram = estimate @ estimate.T
        estimate = first * estimate + (third * gram + fifth * gram @ gram) @ estimate
    return estimate.T if tall else estimate


class Muon:
    """Orthogonalised Nesterov momentum; a worker computes its share, all apply everything."""

    def __init__(
        self,
        matrices: Sequence[Tensor],
        rank: int,
        workers: int,
        momentum: float = 0.95,
        weight_decay: float = 0.02,
    ) -> None:
        self.matrices = list(matrices)
        self.share = range(rank, len(self.matrices), workers)
        self.momentum, self.weight_decay = momentum, weight_decay
        self.averages = {index: torch.zeros_like(self.matrices[index]) for index in self.share}

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """One update at that learning rate; every worker must hold the same gradients."""
        updates = [torch.zeros_like(matrix) for matrix in self.matrices]
        for index in self.share:
            gradient = self.matrices[index].grad
            average = self.averages[index].lerp_(gradient, 1 - self.momentum)
            updates[index] = orthogonalise(gradient.lerp(average, self.momentum))
        flat = torch.cat([update.flatten() for update in updates])
        distributed.all_reduce(flat)
        for matrix, update in zip(
            self.matrices, flat.split([m.numel() for m in self.matrices]), strict=True
        ):
            scale = max(1.0, matrix.size(0) / matrix.size(1)) ** 0.5
            matrix.mul_(1 - rate * self.weight_decay).add_(
                update.view_as(matrix), alpha=-rate * scale
            )

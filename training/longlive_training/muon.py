"""Muon: Nesterov momentum with orthogonalised updates, for the hidden layers of the VAE."""

from __future__ import annotations

import torch
from torch import Tensor


class Muon(torch.optim.Optimizer):
    """Nesterov momentum whose update is made orthogonal (Newton-Schulz), for weights seen as [out, everything else]."""

    def __init__(self, params, lr: float, momentum: float = 0.95):
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:
        """Weights of one shape are updated together: on a GPU a small matrix product costs its launch."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[Tensor]] = {}
            for p in group["params"]:
                shapes.setdefault(p.shape, []).append(p)
            for shape, weights in shapes.items():
                for p in weights:
                    self.state[p].setdefault("momentum", torch.zeros_like(p))
                gradients, buffers = [p.grad for p in weights], [self.state[p]["momentum"] for p in weights]
                torch._foreach_lerp_(buffers, gradients, 1 - group["momentum"])
                updates = orthogonal(torch.stack(torch._foreach_lerp(gradients, buffers, group["momentum"])).flatten(2))
                scale = max(1, updates.shape[1] / updates.shape[2]) ** 0.5
                torch._foreach_add_(weights, updates.view(-1, *shape).unbind(), alpha=-group["lr"] * scale)


def orthogonal(g: Tensor) -> Tensor:
    """The orthogonal matrices nearest to g [..., rows, columns], roughly: five quintic Newton-Schulz steps."""
    x = g.mT if g.shape[-2] > g.shape[-1] else g
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    for _ in range(5):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.mT if g.shape[-2] > g.shape[-1] else x

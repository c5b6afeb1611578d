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
        for group in self.param_groups:
            for p in group["params"]:
                buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
                buffer.lerp_(p.grad, 1 - group["momentum"])
                update = orthogonal(p.grad.lerp(buffer, group["momentum"]).flatten(1))
                scale = max(1, update.shape[0] / update.shape[1]) ** 0.5
                p.add_(update.view(p.shape), alpha=-group["lr"] * scale)


def orthogonal(g: Tensor) -> Tensor:
    """The orthogonal matrix nearest to g [rows, columns], roughly: five quintic Newton-Schulz steps."""
    x = g.T if g.shape[0] > g.shape[1] else g
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.T if g.shape[0] > g.shape[1] else x

"""Int8 arithmetic as the native core does it, simulated: what the numbers lose, not how fast they are.

Linear layers of the transformer blocks multiply int8 by int8: weights with one scale per output channel, activations with one
scale per token, both symmetric; everything else stays as it is.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .models.dit import CausalDiT


def rounded(x: Tensor) -> Tensor:
    """x as int8 times a scale per row (last axis): the nearest of 255 levels."""
    scale = x.abs().amax(-1, keepdim=True).clamp_min(1e-12) / 127
    return (x / scale).round().clamp(-127, 127) * scale


class Int8Linear(nn.Linear):
    """A linear layer whose weights have been rounded and whose input is rounded at every call."""

    def __init__(self, layer: nn.Linear):
        super().__init__(layer.in_features, layer.out_features, layer.bias is not None, device="meta")
        self.weight = nn.Parameter(rounded(layer.weight.detach().float()).to(layer.weight.dtype), requires_grad=False)
        self.bias = layer.bias

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(rounded(x.float()).to(x.dtype), self.weight, self.bias)


def int8(model: CausalDiT) -> CausalDiT:
    """A copy of the model with int8 blocks."""
    model = copy.deepcopy(model)
    for block in model.blocks:
        for path, layer in list(block.named_modules()):
            if type(layer) is nn.Linear:
                setattr(block.get_submodule(path.rpartition(".")[0]), path.rpartition(".")[2], Int8Linear(layer))
    return model


def psnr(x: Tensor, reference: Tensor) -> float:
    """dB of latents against those of full precision; the peak is the range of the reference."""
    error = (x.float() - reference.float()).square().mean()
    peak = reference.max() - reference.min()
    return float(10 * torch.log10(peak.square() / error.clamp_min(1e-20)))

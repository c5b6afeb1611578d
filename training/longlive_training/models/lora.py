"""Low-rank adapters on every linear layer of the transformer blocks: y = W x + b + (alpha / rank) B A x.

`adapt` freezes the model and adds them, `adapter` and `load_adapter` read and write them with PEFT's tensor names, which
`longlive import` understands, and `merge` folds them into the weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .dit import CausalDiT

PREFIX = "base_model.model."


class LoRALinear(nn.Linear):
    """A frozen linear layer with a trained low-rank addition; the frozen weights keep their names."""

    def __init__(self, base: nn.Linear, rank: int, alpha: float):
        super().__init__(base.in_features, base.out_features, bias=base.bias is not None, device="meta")
        self.weight, self.bias = base.weight, base.bias
        self.scale = alpha / rank
        like = {"device": base.weight.device, "dtype": base.weight.dtype}
        self.lora_A = nn.Linear(base.in_features, rank, bias=False, **like)
        self.lora_B = nn.Linear(rank, base.out_features, bias=False, **like)
        nn.init.kaiming_uniform_(self.lora_A.weight, a=5**0.5)
        nn.init.zeros_(self.lora_B.weight)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.lora_B(self.lora_A(x)) * self.scale


def adapt(model: CausalDiT, rank: int, alpha: float, generator: torch.Generator | None = None) -> CausalDiT:
    """Freezes the model and puts an adapter on every linear layer inside its blocks."""
    model.requires_grad_(False)
    for block in model.blocks:
        for path, layer in list(block.named_modules()):
            if isinstance(layer, nn.Linear):
                parent, name = block.get_submodule(path.rpartition(".")[0]), path.rpartition(".")[2]
                adapted = LoRALinear(layer, rank, alpha)
                if generator is not None:
                    bound = layer.in_features**-0.5
                    drawn = torch.rand(adapted.lora_A.weight.shape, generator=generator, device=generator.device)
                    adapted.lora_A.weight.data.copy_((2 * drawn - 1) * bound)
                setattr(parent, name, adapted)
    return model


def adapter(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The adapters of an adapted model's state, with PEFT's names."""
    return {PREFIX + k: v for k, v in state.items() if ".lora_" in k}


def load_adapter(model: CausalDiT, tensors: dict[str, Tensor]) -> None:
    differing = set(adapter(model.state_dict())) ^ set(tensors)
    if differing:
        raise ValueError(f"{len(differing)} adapter tensors do not fit the model, the first is {sorted(differing)[0]}")
    model.load_state_dict({k.removeprefix(PREFIX): v for k, v in tensors.items()}, strict=False)


def merge(state: dict[str, Tensor], scale: float) -> dict[str, Tensor]:
    """Plain weights of an adapted model's state: W + scale B A in float32."""
    merged = {}
    for name, tensor in state.items():
        if ".lora_" in name:
            continue
        stem = name.removesuffix(".weight")
        if f"{stem}.lora_A.weight" in state:
            a, b = state[f"{stem}.lora_A.weight"].float(), state[f"{stem}.lora_B.weight"].float()
            tensor = (tensor.float() + scale * (b @ a)).to(tensor.dtype)
        merged[name] = tensor
    return merged

"""Weights for a network with more channels, which computes the same to begin with.

New outputs of a layer are zero, so what reads them may have any weights: those the network was drawn with, which give the new outputs a
gradient at once. A norm over channels does not see zeros, only that there are more channels. So the VAE's widths may grow where every
layer keeps its place (`dim_mult` such that the same blocks have shortcuts, or new ones get them), and its latents get further channels
behind the ones it had. New latents are zero until the encoder is trained.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .models.dit import CausalDiT
from .models.vae import AttentionBlock, RMSNorm, Upsample, WanVAE

State = dict[str, Tensor]


def places(old: int, new: int, parts: int) -> Tensor:
    """Where the channels of a layer are among more, when they are several of equal size, one behind the other."""
    starts = torch.arange(parts)[:, None]
    return (torch.arange(old // parts) + starts * (new // parts)).flatten()


def widened_vae(state: State, vae: WanVAE) -> State:
    """The weights `state` of a narrower VAE (or an equal one) as those of `vae`, whose own fill what has no effect yet."""
    made = {name: tensor.clone() for name, tensor in vae.state_dict().items()}
    parts = {"encoder.head.2": (2, 1), "conv1": (2, 2)}  # outputs and inputs that consist of several: means and log-variances,
    for name, module in vae.named_modules():
        if isinstance(module, AttentionBlock):
            parts[f"{name}.to_qkv"] = (3, 1)  # queries, keys and values,
        elif isinstance(module, Upsample):
            parts[f"{name}.time_conv"] = (2, 1)  # even and odd frames
    for name, module in vae.named_modules():
        if isinstance(module, RMSNorm):
            old, gamma = state[f"{name}.gamma"], torch.ones_like(module.gamma)
            gamma[: len(old)] = old * (len(old) / len(gamma)) ** 0.5
            made[f"{name}.gamma"] = gamma
        elif isinstance(module, (nn.Conv2d, nn.Conv3d)):
            weight, bias = made[f"{name}.weight"], torch.zeros_like(made[f"{name}.bias"])
            if f"{name}.weight" in state:
                old, old_bias = state[f"{name}.weight"], state[f"{name}.bias"]
            else:  # the shortcut of a block that had none
                old = torch.eye(len(state[name.replace("shortcut", "residual.6") + ".bias"]))[:, :, None, None, None]
                old_bias = torch.zeros(len(old))
            if old.shape[2:] != weight.shape[2:]:
                raise ValueError(f"{name}: a kernel of {list(old.shape[2:])} cannot become one of {list(weight.shape[2:])}")
            outputs, inputs = parts.get(name, (1, 1))
            rows, columns = places(len(old), len(weight), outputs), places(old.shape[1], weight.shape[1], inputs)
            drawn = weight.clone()
            weight.zero_()
            weight[rows] = drawn[rows]
            weight[rows[:, None], columns] = old
            bias[rows] = old_bias
            if name.endswith("to_qkv"):
                third, new = len(weight) // 3, len(rows) // 3
                grown = (third / new) ** 0.5  # attention divides by the square root of the width
                weight[:third] *= grown
                bias[:third] *= grown
                weight[third + new : 2 * third] = drawn[third + new : 2 * third]  # zero queries do not see them
            if name in ("conv1", "conv2"):  # latents are passed on as they are
                fresh = [i for i in range(len(weight)) if i not in set(rows.tolist())]
                weight[rows[:, None], torch.tensor(fresh, dtype=torch.long)] = 0
                weight[fresh, fresh] = 1
            made[f"{name}.weight"], made[f"{name}.bias"] = weight, bias
    missing = {name for name in state if name not in made}
    if missing:
        raise ValueError(f"weights that the VAE has no place for: {', '.join(sorted(missing))}")
    return made


def widened_dit(state: State, dit: CausalDiT) -> State:
    """The weights `state` of a DiT for fewer latent channels (or as many) as those of `dit`: new channels are not seen and predicted
    to be zero."""
    made = dict(state)
    inputs, outputs = dit.config["in_dim"], dit.config["out_dim"]
    embedding = state["patch_embedding.weight"]
    made["patch_embedding.weight"] = torch.cat([embedding, embedding.new_zeros(len(embedding), inputs - embedding.shape[1], *embedding.shape[2:])], 1)
    for name in ("head.head.weight", "head.head.bias"):
        old = state[name].unflatten(0, (4, -1))  # of the pixels of a patch, each with all channels
        made[name] = torch.cat([old, old.new_zeros(4, outputs - old.shape[1], *old.shape[2:])], 1).flatten(0, 1)
    return made

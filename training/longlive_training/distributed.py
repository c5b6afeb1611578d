"""Training in several processes (torchrun): large models with weights, gradients and optimiser states sharded (FSDP2) on one GPU
each, small ones whole in each, with the mean of the gradients. Several processes may share a GPU: one alone leaves it idle while it
launches small kernels."""

from __future__ import annotations

import os
from typing import TypeVar

import torch
import torch.distributed as dist

from .models.dit import CausalDiT

T = TypeVar("T")


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def start(device: str) -> torch.device:
    """The device of this process; joins the others if torchrun started it. `device`: "cpu", "cuda" or "auto"."""
    kind = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    gpus = torch.cuda.device_count() if kind == "cuda" else 0
    index = int(os.environ.get("LOCAL_RANK", "0")) % max(gpus, 1)
    if "RANK" in os.environ and not dist.is_initialized():
        if gpus:
            torch.cuda.set_device(index)
        enough = gpus >= int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # NCCL wants one for each
        dist.init_process_group("cpu:gloo,cuda:nccl" if gpus and enough else "gloo")
    return torch.device(kind, index) if kind == "cuda" else torch.device("cpu")


def agreed(value: T) -> T:
    """The first process's value in all of them: for what clocks decide. From host to host, so that nobody waits for a GPU."""
    if world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
    return box[0]


def barrier() -> None:
    if dist.is_initialized():
        dist.barrier()


def shard(model: CausalDiT, bf16: bool) -> CausalDiT:
    """Shards a DiT over all processes, layer by layer: float32 weights and gradient sums, bf16 arithmetic if asked for.
    Without other processes the model is returned as it is."""
    if world_size() == 1:
        return model
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16 if bf16 else None, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for block in model.blocks:
        fully_shard(block, mp_policy=policy)
        register_fsdp_forward_method(block, "text")
    fully_shard(model, mp_policy=policy, reshard_after_forward=False)
    for name in ("encode_text", "bidirectional", "teacher_forcing"):
        register_fsdp_forward_method(model, name)
    return model


def mean_gradients(model: torch.nn.Module) -> None:
    """Means over all processes of the gradients of a model that each of them holds whole."""
    if world_size() == 1:
        return
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    for gradient, mean in zip(gradients, (flat / world_size()).split([g.numel() for g in gradients])):
        gradient.copy_(mean.view_as(gradient))


def whole(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The full tensors of a sharded model's state, on every process."""
    return {k: (v.full_tensor() if hasattr(v, "full_tensor") else v).detach().cpu() for k, v in state.items()}

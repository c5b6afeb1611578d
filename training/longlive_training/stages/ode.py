"""Stage 4, second part: ODE initialisation.

The teacher, guided, carries noise to pictures along its probability-flow ODE. The states at the student's noise levels and the
end of each path are kept; the student learns to jump from any of them to the end, block by block and with causal attention,
which is the map that its few steps need.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..config import OdeStage
from ..context import Context, parameters
from ..dmd import warp
from ..loop import Average, Optimiser, OutOfTime, Random, adamw, write
from ..models.dit import CausalDiT
from ..prompts import PromptPairs

PROMPTS = 4096  # pairs drawn from the world


def kept_steps(euler_steps: int, denoising_steps: list[int]) -> list[int]:
    """Which states of the path the student starts from: 0, 12, 24, 36 of 48 for 1000, 750, 500, 250."""
    kept = [(1000 - s) * euler_steps / 1000 for s in denoising_steps]
    if any(k != int(k) for k in kept):
        raise ValueError(f"{euler_steps} Euler steps do not visit the denoising steps {denoising_steps}")
    return [int(k) for k in kept]


@torch.no_grad()
def path(
    model: CausalDiT, noise: Tensor, text: Tensor, negative: Tensor, guidance: float, steps: int, shift: float, keep: list[int]
) -> Tensor:
    """States [B, len(keep) + 1, C, F, h, w] of the guided ODE, the last one its end."""
    levels = warp(1 - torch.arange(steps + 1) / steps, shift).tolist()
    keys = model.encode_text(torch.cat([text, negative.expand_as(text)])[:, None])
    x, states = noise, []
    for i, (sigma, following) in enumerate(zip(levels, levels[1:])):
        if i in keep:
            states.append(x)
        t = torch.full((2 * len(x),), 1000 * sigma, device=x.device)
        cond, uncond = model.bidirectional(x.repeat(2, 1, 1, 1, 1), t, keys).float().chunk(2)
        x = x + (following - sigma) * (cond + guidance * (cond - uncond))
    return torch.stack([*states, x], 1)


def make_pairs(context: Context, settings: OdeStage) -> tuple[Tensor, Tensor]:
    """States [n, levels + 1, C, F, h, w] (half precision) and token ids [n, L]; made in shards, so that it can be interrupted."""
    preset = context.preset
    keep = kept_steps(settings.euler_steps, preset.sampling.denoising_steps)
    model = context.load_dit(preset.teacher, context.need("teacher", "dit.safetensors"), frozen=True)
    context.compiled(model)
    embedder = context.embedder()
    ids = PromptPairs.of_world(embedder, min(PROMPTS, settings.pairs), context.seed).ids[:, 0]
    negative = embedder.text([""])
    batch, channels, h, w = context.noise_shape(settings.pair_batch)
    for first in range(0, settings.pairs, batch):
        target = context.path("ode", "pairs", f"{first:06d}.safetensors")
        if target.exists():
            continue
        rng = Random.of(context.device, context.seed, "ode pairs", first)
        chosen = ids[rng.integers(len(ids), batch)]
        with context.precision():
            states = path(model, rng.normal(batch, channels, settings.frames, h, w), embedder(chosen), negative,
                          settings.guidance, settings.euler_steps, preset.sampling.timestep_shift, keep)  # fmt: skip
        tensors = {"states": states.half().cpu(), "ids": chosen.cpu()}
        write(target, lambda p, tensors=tensors: save_file(tensors, p))
        if time.monotonic() > context.deadline:
            raise OutOfTime(f"ode has {first + batch} of {settings.pairs} paths")
        print(f"ode: {min(first + batch, settings.pairs)} of {settings.pairs} paths", flush=True)
    shards = [load_file(p) for p in sorted(context.path("ode", "pairs").glob("*.safetensors"))]
    states, ids = (torch.cat([s[k] for s in shards]).to(context.device) for k in ("states", "ids"))
    return states, ids


def ode(context: Context, settings: OdeStage) -> dict[str, Any]:
    preset, batch = context.preset, settings.loop.batch
    states, ids = make_pairs(context, settings)
    embedder = context.embedder()
    model = context.load_dit(preset.student, context.need("causal", "dit.safetensors"))
    average = Average(model, settings.loop.ema)
    optimiser = Optimiser(adamw([model], settings.loop), settings.loop.clip)
    loop = context.loop("ode", "ode", settings.loop, {"model": model, "average": average, "optimiser": optimiser})
    table = torch.tensor(preset.sampling.steps(), device=context.device)
    block = preset.sampling.frames_per_block
    blocks = settings.frames // block

    def step(rng: Random) -> dict[str, Tensor]:
        pick = rng.integers(len(states), batch)
        level = rng.integers(len(table), batch, blocks)
        chosen = states[pick].float()
        end = chosen[:, -1]
        per_block = chosen.unflatten(3, (blocks, block))  # [B, levels + 1, C, blocks, block, h, w]
        rows, columns = torch.arange(batch, device=pick.device)[:, None], torch.arange(blocks, device=pick.device)[None]
        x = per_block[rows, level, :, columns].transpose(1, 2).flatten(2, 3)
        text = embedder(ids[pick])[:, None].expand(-1, 2 * blocks - 1, -1, -1)
        with context.precision():
            flow = model.teacher_forcing(x, table[level, 0], end[:, :, :-block], model.encode_text(text), block).float()
        sigma = table[level, 1].repeat_interleave(block, 1)[:, None, :, None, None]
        error = (x - sigma * flow - end).square().mean()
        error.backward()
        optimiser.step(loop.rate())
        average.update(loop.step)
        return {"loss": error}

    report = context.train(loop, step)
    context.save_model(average.module, context.path("ode", "dit.safetensors"))
    return report | {"parameters": parameters(model), "paths": len(states)}

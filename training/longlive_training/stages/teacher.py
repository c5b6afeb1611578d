"""Stage 3, second half: the teacher, a bidirectional flow model over whole windows, all noise levels, with classifier-free guidance."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..codec import Codec
from ..config import TeacherStage
from ..context import Context, parameters, read_weights
from ..dmd import add_noise, warp
from ..loop import Average, Optimiser, Random, adamw
from ..prompts import ClipCaptions
from .clips import load

VARIANTS = 2  # captions per clip


def channel_weights(codec: Codec) -> Tensor:
    """[C, 1, 1, 1], mean 1: principal components that carry more of the picture count more, by the square root of their
    standard deviation. All latents have unit variance, so without it the loss would be about details."""
    weight = codec.scale.sqrt().view(-1, 1, 1, 1)
    return weight / weight.mean()


def teacher(context: Context, settings: TeacherStage) -> dict[str, Any]:
    preset, batch = context.preset, settings.loop.batch
    model = context.dit(preset.teacher, "teacher")
    if settings.init:
        model.load_state_dict(read_weights(context.given(settings.init)))
    average = Average(model, settings.loop.ema)
    optimiser = Optimiser(adamw([model], settings.loop), settings.loop.clip)
    loop = context.loop("teacher", "teacher", settings.loop, {"model": model, "average": average, "optimiser": optimiser})
    embedder, clips = context.embedder(), load(context, "scene")
    captions = ClipCaptions(embedder, clips["attributes"], VARIANTS, context.seed)
    empty, latents = embedder.tokens([""]), clips["latents"]
    weights = channel_weights(context.codec())
    context.compiled(model)

    def step(rng: Random) -> dict[str, Tensor]:
        pick = rng.integers(len(latents), batch)
        x = latents[pick].float()
        ids = captions.sample(rng, pick)[:, 0]
        ids = torch.where(rng.uniform(batch, 1) < settings.drop_text, empty, ids)
        t = 1000 * warp(rng.uniform(batch), preset.sampling.timestep_shift)
        eps = rng.normal_like(x)
        noisy = add_noise(x, eps, t)
        with context.precision():
            flow = model.bidirectional(noisy, t, model.encode_text(embedder(ids)[:, None])).float()
        error = ((flow - (eps - x)).square() * weights).mean()
        error.backward()
        optimiser.step(loop.rate())
        average.update(loop.step)
        return {"loss": error}

    report = context.train(loop, step)
    context.save_model(average.module, context.path("teacher", "dit.safetensors"))
    return report | {"parameters": parameters(model), "clips": len(latents)}

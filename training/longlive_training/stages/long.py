"""Stage 5: streaming long tuning (streaming.py), with adapters on generator and critic that are merged at the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import distributed
from ..codec import PATCH, STRIDE, Codec
from ..config import LongStage
from ..context import Context
from ..loop import Random
from ..models import lora
from ..models.dit import CausalDiT
from ..models.vae import WanVAE
from ..rollout import Rollout
from ..streaming import Stream
from .distill import PROBES, actors, optimisers, prompts, scores

Reencode = Callable[[Tensor], Tensor]


def reencode_with_codec(codec: Codec) -> Reencode:
    """The last video frame of the last latent, coded as the first frame of a video. The codec is linear, so all of it is one
    matrix: what the last of a latent's frames shows, taken `STRIDE` times."""
    last = codec.basis.view(STRIDE, 3 * PATCH**2, -1)[-1]
    four = codec.basis.view(STRIDE, 3 * PATCH**2, -1).sum(0)
    matrix = codec.scale[:, None] * (last.T @ four) / codec.scale
    offset = (codec.mean.view(STRIDE, -1)[-1] @ four - codec.mean @ codec.basis) / codec.scale

    def reencode(latents: Tensor) -> Tensor:
        return (latents[:, :, -1:].movedim(1, -1).float() @ matrix + offset).movedim(-1, 1)

    return reencode


def reencode_with_vae(vae: WanVAE, mean: Tensor, std: Tensor) -> Reencode:
    """Decodes the latents, takes the last picture, and encodes it as a video of one frame. mean, std: [1, C, 1, 1, 1]."""

    def reencode(latents: Tensor) -> Tensor:
        picture = vae.decode(latents * std + mean)[:, :, -1:].clamp(-1, 1)
        return (vae.encode(picture) - mean) / std

    return reencode


def reencoder(context: Context) -> Reencode:
    """With the codec where it defines the latents, otherwise with the VAE."""
    if context.preset.latents == "codec" and not context.preset.package:
        return reencode_with_codec(context.codec())
    return reencode_with_vae(context.vae(), *context.statistics())


class Adapter:
    """The state of a model's adapters alone; the frozen weights come from their file."""

    def __init__(self, model: CausalDiT):
        self.model = model

    def state_dict(self) -> dict[str, Tensor]:
        return lora.adapter(self.model.state_dict())

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        lora.load_adapter(self.model, state)


def long(context: Context, settings: LongStage) -> dict[str, Any]:
    preset, s = context.preset, settings
    models = actors(context, s, "long")
    seed = int(Random.of(torch.device("cpu"), context.seed, "adapters").shared.integers(2**62))
    drawn = torch.Generator(models.student.device).manual_seed(seed)
    for model in (models.student, models.critic):
        lora.adapt(model, s.rank, s.alpha, drawn)
    counted = models.parameters()
    models.shard(preset.precision == "bf16")
    generate, criticise = optimisers(s, models)
    pairs = prompts(context, s)
    judge = scores(context, s, models, pairs)
    rollout = Rollout(models.student, preset.sampling, context.noise_shape(s.loop.batch), context.cache_dtype)
    stream = Stream(s, rollout, pairs.sample, reencoder(context))
    states = {
        "student": Adapter(models.student),
        "critic": Adapter(models.critic),
        "generate": generate,
        "criticise": criticise,
        "stream": stream,
    }
    loop = context.loop("long", "long", s.loop, states)

    def step(rng: Random) -> dict[str, Tensor]:
        losses = {}
        exit_steps = rng.shared.integers(len(rollout.steps), size=2)
        generator = loop.step % s.ratio == 0
        with context.precision():
            if generator:
                window = stream.next(rng, int(exit_steps[0]), grad=True)
                loss, size = judge.distill(window.latents, window.mask, window.text, rng)
                loss.backward()
                losses |= {"generator": loss, "direction": size}
            window = stream.next(rng, int(exit_steps[1]), grad=False)
            critic_loss = judge.criticise(window.latents, window.mask, window.text, rng)
        critic_loss.backward()
        if generator:
            generate.step(loop.rate())
        criticise.step(loop.rate())
        return losses | {"critic": critic_loss}

    def measure(rng: Random) -> dict[str, Tensor]:
        """Over the second window of a new sequence, whose first frames are gone from the loss but not from the cache."""
        fresh = Stream(
            s,
            Rollout(models.student, preset.sampling, context.noise_shape(s.loop.batch), context.cache_dtype),
            pairs.sample,
            stream.reencode,
        )
        with context.precision():
            for _ in range(2):
                window = fresh.next(rng, len(rollout.steps) - 1, grad=False)
            return judge.measure(window.latents, window.mask, window.text, rng)

    loop.probe("before", measure, PROBES)
    context.train(loop, step)
    loop.probe("after", measure, PROBES)
    report = loop.report()
    state = distributed.whole(models.student.state_dict())
    adapters = lora.adapter(state)
    context.save_model(adapters, context.path("long", "lora.safetensors"))
    context.save_model(lora.merge(state, s.alpha / s.rank), context.path("long", "dit.safetensors"))
    trained = sum(v.numel() for v in adapters.values())
    return report | {"parameters": counted, "rank": s.rank, "adapterParameters": trained, "maxFrames": s.max_frames}

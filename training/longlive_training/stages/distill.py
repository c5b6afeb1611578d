"""Stage 4, last part: Self-Forcing with distribution matching distillation to the sampler's few steps.

The student rolls out a window from its own past; the teacher says where its pictures should go, a critic that is trained on
them says where they are (dmd.py). No video data is involved.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import distributed
from ..config import Distillation, DistillStage
from ..context import Context, parameters
from ..dmd import Scores
from ..loop import Average, Optimiser, Random, adamw
from ..models.dit import CausalDiT
from ..prompts import PromptPairs
from ..rollout import Rollout

PROMPTS = 8192  # pairs drawn from the world
PROBES = 8  # draws
STUDENTS = ["distill", "ode", "causal"]  # stages that make a student, the last one first


@dataclass
class Actors:
    student: CausalDiT
    teacher: CausalDiT
    critic: CausalDiT

    def parameters(self) -> dict[str, int]:
        return {name: parameters(model) for name, model in vars(self).items()}

    def shard(self, bf16: bool) -> None:
        for model in vars(self).values():
            distributed.shard(model, bf16)


def actors(context: Context, settings: Distillation, before: str) -> Actors:
    """The three models, from the files that the config names or from the stages before `before`."""
    preset = context.preset
    earlier = preset.stages[: preset.stages.index(before)]
    student = next((s for s in STUDENTS if s in earlier), "")
    student_file = context.given(settings.init) if settings.init else context.part(student, "dit.safetensors")
    teacher_file = context.given(settings.teacher_init) if settings.teacher_init else context.need("teacher", "dit.safetensors")
    trained = student == "distill" and not getattr(settings, "fresh_critic", False)
    own_critic = context.need("distill", "critic.safetensors") if trained else teacher_file
    critic_file = context.given(settings.critic_init) if settings.critic_init else own_critic
    teacher = context.load_dit(preset.teacher, teacher_file, frozen=True)
    return Actors(context.load_dit(preset.student, student_file), teacher, context.load_dit(preset.critic or preset.teacher, critic_file))


def prompts(context: Context, settings: Distillation) -> PromptPairs:
    embedder = context.embedder()
    if settings.prompts:
        return PromptPairs.of_files(embedder, Path(settings.prompts), Path(settings.switch_prompts or settings.prompts))
    return PromptPairs.of_world(embedder, PROMPTS, context.seed)


def scores(context: Context, settings: Distillation, models: Actors, pairs: PromptPairs) -> Scores:
    negative = pairs.embedder.text([settings.negative_prompt])
    return Scores(
        context.compiled(models.teacher),
        context.compiled(models.critic),
        negative,
        settings.guidance,
        context.preset.sampling.timestep_shift,
    )


def optimisers(settings: Distillation, models: Actors) -> tuple[Optimiser, Optimiser]:
    """Of generator and critic."""
    rates = ((models.student, settings.loop.lr), (models.critic, settings.critic_lr))
    return tuple(Optimiser(adamw([model], settings.loop, rate), settings.loop.clip) for model, rate in rates)


def distill(context: Context, settings: DistillStage) -> dict[str, Any]:
    preset, batch = context.preset, settings.loop.batch
    models = actors(context, settings, "distill")
    counted = models.parameters()
    average = Average(models.student, settings.loop.ema)
    models.shard(preset.precision == "bf16")
    distributed.shard(average.module, False)
    generate, criticise = optimisers(settings, models)
    states = {"student": models.student, "critic": models.critic, "average": average, "generate": generate, "criticise": criticise}
    loop = context.loop("distill", "distill", settings.loop, states)
    pairs = prompts(context, settings)
    judge = scores(context, settings, models, pairs)
    rollout = Rollout(models.student, preset.sampling, context.noise_shape(batch), context.cache_dtype)
    blocks = settings.frames // preset.sampling.frames_per_block
    mask = torch.ones(settings.frames, device=context.device)

    def window(text: Tensor, exit_step: int, rng: Random, grad: bool) -> Tensor:
        rollout.restart()
        return rollout.roll(blocks, text, exit_step, rng, grad)

    def step(rng: Random) -> dict[str, Tensor]:
        losses = {}
        text, _ = pairs.sample(rng, batch)
        exit_step = int(rng.shared.integers(len(rollout.steps)))
        generator = loop.step % settings.ratio == 0 and loop.step >= settings.critic_warmup
        with context.precision():
            if generator:
                loss, size = judge.distill(window(text, exit_step, rng, True), mask, text, rng)
                loss.backward()
                losses |= {"generator": loss, "direction": size}
            critic_loss = judge.criticise(window(text, exit_step, rng, False), mask, text, rng)
        critic_loss.backward()
        if generator:
            generate.step(loop.rate())
            average.update(loop.step // settings.ratio)
        criticise.step(loop.rate())
        return losses | {"critic": critic_loss}

    def measure(rng: Random) -> dict[str, Tensor]:
        text, _ = pairs.sample(rng, batch)
        with context.precision():
            return judge.measure(window(text, len(rollout.steps) - 1, rng, False), mask, text, rng)

    loop.probe("before", measure, PROBES)
    context.train(loop, step)
    loop.probe("after", measure, PROBES)
    report = loop.report()
    context.save_model(average.module, context.path("distill", "dit.safetensors"))
    context.save_model(models.critic, context.path("distill", "critic.safetensors"))
    return report | {"parameters": counted}

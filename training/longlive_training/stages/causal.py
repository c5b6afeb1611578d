"""Stage 4, first part: the causal student learns from renders.

It begins by teacher forcing: one step is one pass over all blocks of a few stories (`CausalDiT.teacher_forcing`) with the
weighted flow loss. Noise levels are only those that the sampler visits. A clean block carries the text of the block that reads it,
because that is what a prompt switch does: it recomputes the cache under the new prompt. A share of the steps trains first blocks
only: they have nothing to copy from and decide what the whole video shows. The first blocks of stories that begin elsewhere than
in the fixed place (data.py) are context and not a target.

From `own_from` on the model works from what it makes itself, asking for the true picture still. What a later denoising step gets
is what the steps before it made of noise and never the true picture: given that, a model learns to keep what it sees, and keeps its own
mistakes. What a block sees of the past is, in a share of the steps, what the model made of the whole story so far (Self-Forcing's
roll-outs, with the renderer's picture in place of a teacher).

The subject counts more than scenery, and blocks in which something changes more than others: only the text tells what they show.
What is dark counts as much as what is bright: without that the model moves the scenery of a night as it likes, since a mistake there
costs a fraction of the same mistake by day.

A model that is trained on may keep the mean of its weights before and after (`init_share`): what few steps taught it stays, what they
made it forget comes back (Wortsman et al., arXiv 2109.01903).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..codec import PATCH
from ..config import CausalStage
from .. import distributed
from ..context import Context, parameters, read_weights
from ..data import NAMES
from ..loop import Average, Optimiser, Random, Stateful, adamw, mixed
from ..models.dit import CausalDiT
from ..prompts import ClipCaptions
from ..rollout import Rollout
from ..widen import widened_dit
from ..world import ATTRIBUTES, SKIES, subject_box
from .clips import load
from .teacher import channel_weights

RECACHED_SINK = 0.5  # share of the stories that switch at the third block whose sink is recomputed, too
VARIANTS = 4  # captions per scene of a clip
KEPT = 0.1  # share of the clean blocks that keep their own text, as a switch without recache leaves them


@dataclass
class Batch:
    latents: Tensor  # clean [B, C, frames, h, w]
    noise: Tensor  # of step 0, same shape
    prompts: Tensor  # embeddings [B, blocks, L, dim]
    context: Tensor  # embeddings of the clean blocks [B, blocks - 1, L, dim]
    fixed: Tensor  # bool [B]: begins in the fixed place
    changed: Tensor  # bool [B, blocks]: something changes in this block, or did in the one before
    dark: Tensor  # [B, blocks]: `darkness` of its sky
    switches: list[int]  # blocks with which the prompt of any row changes

    def text(self) -> Tensor:
        return torch.cat([self.prompts, self.context], 1)

    def part(self, first: int, count: int, frames: int) -> Batch:
        """Blocks of it, each of so many frames; without the texts of clean blocks."""
        end = first + count
        cut = slice(first * frames, end * frames)
        return Batch(self.latents[:, :, cut], self.noise[:, :, cut], self.prompts[:, first:end], self.context[:, :0], self.fixed,
                     self.changed[:, first:end], self.dark[:, first:end], [b - first for b in self.switches if first <= b < end])  # fmt: skip


class Stories:
    """Clips of a kind with captions, in random batches."""

    def __init__(self, context: Context, kind: str):
        clips = load(context, kind)
        self.embedder, self.device, self.host = context.embedder(), context.device, context.host
        self.dark = darkness().to(self.device)
        self.latents, self.attributes = clips["latents"], clips["attributes"].numpy()
        fixed = clips.get("fixed", torch.ones(len(self.latents)))
        self.fixed = fixed.bool().numpy()
        self.captions = ClipCaptions(self.embedder, clips["attributes"], VARIANTS, context.seed)
        self.blocks = self.attributes.shape[1]

    def batch(self, rng: Random, size: int, only_fixed: bool = False) -> Batch:
        """Choices are made on the host, so that nothing waits for the device."""
        blocks = self.blocks
        candidates = np.flatnonzero(self.fixed) if only_fixed else np.arange(len(self.fixed))
        chosen = candidates[rng.numpy.integers(len(candidates), size=size)]
        story = self.attributes[chosen]
        changes = (story[:, 1:] != story[:, :-1]).any(2)  # [B, blocks - 1]
        reader = np.tile(np.arange(1, blocks), (size, 1))
        for i in range(size):
            if blocks > 2 and changes[i, 1] and rng.numpy.random() < RECACHED_SINK:
                reader[i, 0] = 2
            for b in range(1, blocks - 1):
                if rng.numpy.random() < KEPT:
                    reader[i, b] = b
        index = self.host(chosen)
        prompts = self.embedder(self.captions.sample(rng, index))
        context = prompts[torch.arange(size, device=self.device)[:, None], self.host(reader)]
        latents = self.latents[index].float()
        switches = [int(b) + 1 for b in np.flatnonzero(changes.any(0))]
        at = np.pad(changes, ((0, 0), (1, 0)))
        changed = self.host(at | np.pad(at[:, :-1], ((0, 0), (1, 0))))
        dark = self.dark[self.host(story[:, :, NAMES.index("sky")].astype(int))]
        fixed = self.host(self.fixed[chosen])
        return Batch(latents, rng.normal_like(latents), prompts, context, fixed, changed, dark, switches)


class Telling:
    """Stories as the model makes them from their beginnings, some blocks at a time; when they are over, others begin."""

    def __init__(self, stories: Stories, rollout: Rollout, blocks: int):
        self.stories, self.rollout, self.blocks = stories, rollout, blocks
        self.batch: Batch | None = None
        self.told = 0  # blocks

    def next(self, rng: Random, level: int) -> tuple[Batch, Tensor]:
        """The next blocks, and what the model makes of each by denoising step `level`, with gradient; none passes from block to block."""
        if self.batch is None or self.told == self.stories.blocks:
            self.batch, self.told = self.stories.batch(rng, self.rollout.shape[0], only_fixed=True), 0
            self.rollout.restart()
        part = self.batch.part(self.told, self.blocks, self.rollout.sampling.frames_per_block)
        made = []
        for i in range(self.blocks):
            if i in part.switches:
                self.rollout.recache(part.prompts[:, i])
            made.append(self.rollout.roll(1, part.prompts[:, i], level, rng, grad=True))
        self.told += self.blocks
        return part, torch.cat(made, 2).float()

    def state_dict(self) -> dict[str, Any]:
        return {"batch": self.batch and vars(self.batch), "told": self.told, "rollout": self.rollout.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.batch = Batch(**state["batch"]) if state["batch"] else None
        self.told = state["told"]
        self.rollout.load_state_dict(state["rollout"])


def darkness() -> Tensor:
    """[skies], mean 1: what a squared error has to be multiplied with to count as much by night as by day."""
    light = torch.tensor([np.mean(SKIES[sky][5]) for sky in ATTRIBUTES["sky"]], dtype=torch.float32)
    return light**-2 / (light**-2).mean()


def picture_weights(context: Context, subject: float) -> Tensor:
    """[C, 1, h, w], mean 1: by channel (`channel_weights`), and `subject` times as much where the world draws its subject."""
    video = context.preset.video
    (top, bottom), (left, right) = subject_box(video.width, video.height)
    rows, columns = context.preset.latent_size()
    weight = channel_weights(context.codec()).repeat(1, 1, rows, columns)
    weight[:, :, top // PATCH : -(-bottom // PATCH), left // PATCH : -(-right // PATCH)] *= subject
    return weight / weight.mean()


def causal(context: Context, settings: CausalStage) -> dict[str, Any]:
    preset, s, device = context.preset, settings, context.device
    sampling = preset.sampling
    model = context.dit(preset.student, "student")
    init = context.given(s.init) if s.init else context.need("teacher", "dit.safetensors") if s.from_teacher else None
    if init:
        model.load_state_dict(widened_dit(read_weights(init), model))
    average = Average(model, s.loop.ema)
    optimiser = Optimiser(adamw([model], s.loop), s.loop.clip)
    stories, beginnings = Stories(context, "story"), Stories(context, "beginning")
    rollout = Rollout(model, sampling, context.noise_shape(s.loop.batch), context.cache_dtype)
    telling = Telling(Stories(context, "film") if s.films else stories, rollout, stories.blocks)
    states: dict[str, Stateful] = {"model": model, "average": average, "optimiser": optimiser, "telling": telling}
    loop = context.loop("causal", "causal", s.loop, states)
    if not stories.fixed.any():
        raise ValueError(f"none of the {len(stories.fixed)} stories begins in the fixed place: ask for more stories in clips.toml")
    weights = picture_weights(context, s.subject_weight)
    for network in (model, average.module):
        if preset.compile:
            network.teacher_forcing = torch.compile(network.teacher_forcing)  # type: ignore[method-assign]
    steps = sampling.steps()
    table = torch.tensor(steps, device=device)  # [levels, (timestep, sigma)]
    block = sampling.frames_per_block

    def frames(values: Tensor) -> Tensor:
        """Per block [B, N] -> per frame, to be multiplied with latents."""
        return values.repeat_interleave(block, 1)[:, None, :, None, None]

    def flow(network: CausalDiT, x: Tensor, t: Tensor, clean: Tensor, text: Tensor) -> Tensor:
        with context.precision():
            return network.teacher_forcing(x, t, clean, network.encode_text(text), block).float()

    def corrupt(rng: Random, latents: Tensor) -> Tensor:
        """Clean context [B, C, frames - block, h, w], half of it noised by up to `context_noise`."""
        size = len(latents)
        sigma = rng.uniform(size, 1, 1, 1, 1) * s.context_noise * (rng.uniform(size, 1, 1, 1, 1) < 0.5)
        clean = latents[:, :, :-block]
        return clean + sigma * rng.normal_like(clean)

    @torch.no_grad()
    def denoised(rng: Random, batch: Batch, clean: Tensor, level: int) -> tuple[Tensor, Tensor]:
        """What the averaged model hands to denoising step `level` > 0: its x0 of each block so far, and that noised anew."""
        x = batch.noise
        for i, (t, sigma) in enumerate(steps[:level]):
            own = x - sigma * flow(average.module, x, table.new_full((len(x), x.shape[2] // block), t), clean, batch.text())
            following = steps[i + 1][1]
            x = (1 - following) * own + following * rng.normal_like(own)
        return own, x

    def first_blocks(rng: Random, level: int) -> Tensor:
        batch = beginnings.batch(rng, s.first_batch)
        none, (t, sigma) = batch.latents[:, :, :0], steps[level]
        x = batch.noise
        if level > 0:
            x = denoised(rng, batch, none, level)[1] if loop.step >= s.own_from else (1 - sigma) * batch.latents + sigma * x
        v = flow(model, x, table.new_full((s.first_batch, 1), t), none, batch.text())
        return ((v - (x - batch.latents) / sigma).square() * weights * frames(batch.dark)).mean()

    def story_loss(batch: Batch, error: Tensor) -> Tensor:
        """Of errors of the flow, shaped as the latents."""
        each = (error.square() * weights * frames(batch.dark)).unflatten(2, (-1, block)).mean((1, 3, 4, 5))
        weight = 1 + (s.switch_weight - 1) * batch.changed.float()
        weight[:, 0] *= batch.fixed
        return (each * weight).sum() / weight.sum()

    def whole_stories(rng: Random, level: int) -> Tensor:
        batch, (t, sigma) = stories.batch(rng, s.loop.batch), steps[level]
        clean, x = corrupt(rng, batch.latents), batch.noise
        if level > 0 and loop.step < s.own_from:
            x = (1 - sigma) * batch.latents + sigma * x
        elif level > 0:
            own, x = denoised(rng, batch, clean, level)
            keep = rng.uniform(s.loop.batch, stories.blocks - 1) < 0.5
            keep[:, 0] |= ~batch.fixed
            clean = torch.where(frames(keep), clean, own[:, :, :-block])
        v = flow(model, x, table.new_full((s.loop.batch, stories.blocks), t), clean, batch.text())
        return story_loss(batch, v - (x - batch.latents) / sigma)

    def rolled_stories(rng: Random, level: int) -> Tensor:
        with context.precision():
            batch, made = telling.next(rng, level)
        return story_loss(batch, (made - batch.latents) / steps[level][1])

    def step(rng: Random) -> dict[str, Tensor]:
        # Shared, because all processes should take equally long.
        level, kind = int(rng.shared.integers(len(steps))), rng.shared.random()
        rolled = loop.step >= s.own_from and kind < s.first + s.rollout
        name, loss = ("first blocks", first_blocks) if kind < s.first else ("roll-outs", rolled_stories) if rolled else ("stories", whole_stories)
        error = loss(rng, level)
        error.backward()
        distributed.mean_gradients(model)
        optimiser.step(loop.rate())
        average.update(loop.step)
        return {name: error}

    def keep() -> None:
        made = average.module.state_dict()
        if s.init_share:
            made = mixed(widened_dit(read_weights(init), model), made, s.init_share)
        context.save_model(made, context.path("causal", "dit.safetensors"))

    report = context.train(loop, step, keep)
    return report | {"parameters": parameters(model), "stories": len(stories.latents)}

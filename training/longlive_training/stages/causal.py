"""Stage 4, first part: the causal student learns from renders by teacher forcing.

One step is one pass over all blocks of a few stories (`CausalDiT.teacher_forcing`) with the weighted flow loss. Noise levels
are only those that the sampler visits. A clean block carries the text of the block that reads it, because that is what a
prompt switch does: it recomputes the cache under the new prompt. A share of the steps trains first blocks only: they have
nothing to copy from and decide what the whole video shows. The first blocks of stories that begin elsewhere than in the
fixed place (data.py) are context and not a target.

The subject counts more than scenery, and blocks in which something changes more than others: only the text tells what they show.
What is dark counts as much as what is bright: without that the model moves the scenery of a night as it likes, since a mistake there
costs a quarter of the same mistake by day.

Against the drift of a model that reads its own pictures clean context is noised a little, and in part of the steps context and
noisy input are what the averaged model makes of the same story, still asking for the true picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..codec import PATCH
from ..config import CausalStage
from ..context import Context, parameters, read_weights
from ..data import NAMES
from ..loop import Average, Optimiser, Random, adamw
from ..models.dit import CausalDiT
from ..prompts import ClipCaptions
from ..sample import Generator
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


class Stories:
    """Clips of a kind with captions, in random batches."""

    def __init__(self, context: Context, kind: str):
        clips = load(context, kind)
        self.embedder, self.device = context.embedder(), context.device
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
        index = torch.from_numpy(chosen).to(self.device)
        prompts = self.embedder(self.captions.sample(rng, index))
        context = prompts[torch.arange(size, device=self.device)[:, None], torch.from_numpy(reader).to(self.device)]
        latents = self.latents[index].float()
        switches = [int(b) + 1 for b in np.flatnonzero(changes.any(0))]
        at = np.pad(changes, ((0, 0), (1, 0)))
        changed = torch.from_numpy(at | np.pad(at[:, :-1], ((0, 0), (1, 0)))).to(self.device)
        fixed = torch.from_numpy(self.fixed[chosen]).to(self.device)
        dark = darkness()[story[:, :, NAMES.index("sky")].astype(int)].to(self.device)
        return Batch(latents, rng.normal_like(latents), prompts, context, fixed, changed, dark, switches)


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
    if init := context.given(s.init) if s.init else context.need("teacher", "dit.safetensors") if s.from_teacher else None:
        model.load_state_dict(read_weights(init))
    average = Average(model, s.loop.ema)
    optimiser = Optimiser(adamw([model], s.loop), s.loop.clip)
    loop = context.loop("causal", "causal", s.loop, {"model": model, "average": average, "optimiser": optimiser})
    stories, beginnings = Stories(context, "story"), Stories(context, "beginning")
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
    def one_step(rng: Random, batch: Batch) -> Tensor:
        """What the averaged model makes of each block in one step from true context."""
        t = table[0, 0].expand(len(batch.latents), stories.blocks)
        own = batch.noise - flow(average.module, batch.noise, t, corrupt(rng, batch.latents), batch.text())
        elsewhere = ~batch.fixed.view(-1, 1, 1, 1, 1)
        first = torch.where(elsewhere, batch.latents[:, :, :block], own[:, :, :block])
        return torch.cat([first, own[:, :, block:]], 2)

    @torch.no_grad()
    def rollout(rng: Random, batch: Batch) -> Tensor:
        """What the averaged model makes of the stories with the cached sampler."""

        def noise(index: int, step: int) -> Tensor:
            part = batch.noise[:, :, index * block : (index + 1) * block]
            return part if step == 0 else rng.normal_like(part)

        made = []
        with context.precision():
            generator = Generator(average.module, sampling, batch.prompts[:, 0], noise)
            for i in range(stories.blocks):
                if i in batch.switches:
                    generator.switch(batch.prompts[:, i])
                made.append(generator.block().float())
        return torch.cat(made, 2)

    def first_blocks(rng: Random) -> Tensor:
        """Half of them at the noise levels of the data, half after the sampler's own previous steps."""
        batch = beginnings.batch(rng, s.first_batch)
        size, none = s.first_batch, batch.latents[:, :, :0]
        level = int(rng.numpy.integers(len(steps)))
        t, sigma = steps[level]
        base = batch.latents
        if level > 0:
            with torch.no_grad():
                own = x = batch.noise
                for i, (t_before, s_before) in enumerate(steps[:level]):
                    x = x if i == 0 else (1 - s_before) * own + s_before * rng.normal_like(own)
                    own = x - s_before * flow(average.module, x, table.new_full((size, 1), t_before), none, batch.text())
            base = torch.where(rng.uniform(size, 1, 1, 1, 1) < 0.5, own, base)
        x = (1 - sigma) * base + sigma * (batch.noise if level == 0 else rng.normal_like(base))
        v = flow(model, x, table.new_full((size, 1), t), none, batch.text())
        return ((v - (x - batch.latents) / sigma).square() * weights * frames(batch.dark)).mean()

    def whole_stories(rng: Random) -> Tensor:
        own_pictures = loop.step >= s.own_from and rng.numpy.random() < s.own
        rolled = own_pictures and rng.numpy.random() < s.rollout
        batch = stories.batch(rng, s.loop.batch, only_fixed=rolled)
        size = s.loop.batch
        level = rng.integers(len(steps), size, stories.blocks)
        sigma = frames(table[level, 1])
        noise = torch.where(sigma == 1, batch.noise, rng.normal_like(batch.noise))
        clean, base = corrupt(rng, batch.latents), batch.latents
        if own_pictures:
            own = rollout(rng, batch) if rolled else one_step(rng, batch)
            clean = torch.where(rng.uniform(size, 1, 1, 1, 1) < 0.7, own[:, :, :-block], clean)
            base = torch.where(frames(rng.uniform(size, stories.blocks)) < 0.5, own, base)
        x = (1 - sigma) * base + sigma * noise
        v = flow(model, x, table[level, 0], clean, batch.text())
        error = ((v - (x - batch.latents) / sigma).square() * weights * frames(batch.dark)).unflatten(2, (stories.blocks, block)).mean((1, 3, 4, 5))
        weight = 1 + (s.switch_weight - 1) * batch.changed.float()
        weight[:, 0] *= batch.fixed
        return (error * weight).sum() / weight.sum()

    def step(rng: Random) -> dict[str, Tensor]:
        first = rng.numpy.random() < s.first
        error = first_blocks(rng) if first else whole_stories(rng)
        error.backward()
        optimiser.step(loop.rate())
        average.update(loop.step)
        return {"first blocks" if first else "stories": error}

    report = context.train(loop, step)
    context.save_model(average.module, context.path("causal", "dit.safetensors"))
    return report | {"parameters": parameters(model), "stories": len(stories.latents)}

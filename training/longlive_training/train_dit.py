"""Train the causal DiT on cached latent clips.

    python -m longlive_training.train_dit --clips RUN/stories --beginnings RUN/beginnings --codec RUN/codec.safetensors \
        --text RUN/text --out RUN/dit --minutes 70

One step is one pass over all blocks of a few stories (teacher forcing, see `CausalDiT.teacher_forcing`) with the weighted
flow loss |v - (eps - x0)|^2. Noise levels are only the four that the sampler visits. A clean block carries the text of the
block that reads it, because that is what a prompt switch does: it recomputes the cache under the new prompt.

A share of the steps trains first blocks only: they have nothing to copy from and decide what the whole video shows. The
first blocks of stories that begin elsewhere than in the fixed place (data.py) are context and not a target.

Against the drift of a model that reads its own pictures:
* clean context is noised a little;
* from `--self-forcing` of the time on, part of the steps replace context and noisy input by what the model (its
  average) makes of the same story, still asking for the true picture: either one step's prediction or, for a share
  of the steps, a full cached roll-out of the four-step sampler.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .captions import caption
from .codec import Codec
from .data import BLOCK_FRAMES, BLOCKS, Clips, from_indices
from .models.dit import CausalDiT
from .sample import Generator, Sampling
from .train_text import CONFIG as TEXT_CONFIG
from .train_text import Text

CONFIG = {"dim": 192, "ffn_dim": 768, "num_heads": 3, "num_layers": 6, "text_dim": TEXT_CONFIG["dim"], "text_len": 64}
LATENT_SIZE = (14, 24)
SAMPLING = Sampling(frames_per_block=BLOCK_FRAMES, window_frames=9, sink_frames=3, rope="relative")


SUBJECT_BOX = (slice(3, 13), slice(6, 16))  # latent rows and columns where the world draws its subject
SUBJECT_WEIGHT = 2.5
SWITCH_WEIGHT = 2.0  # of the blocks in which something changes, and of the next: only the text tells what they show


def loss_weights(codec: Codec) -> Tensor:
    """[C, 1, h, w], mean 1: the subject counts more than scenery, and principal components that carry more of the picture
    count more, by the square root of their standard deviation."""
    weight = codec.scale.sqrt().view(-1, 1, 1, 1).repeat(1, 1, LATENT_SIZE[0], LATENT_SIZE[1])
    weight[:, :, SUBJECT_BOX[0], SUBJECT_BOX[1]] *= SUBJECT_WEIGHT
    return weight / weight.mean()


@dataclass
class Batch:
    latents: Tensor  # clean [B, C, frames, h, w]
    noise: Tensor  # the pure noise of step 0, same shape
    text: Tensor  # embeddings [B, 2 * blocks - 1, length, dim]: of the blocks, then of the clean blocks
    prompts: Tensor  # embeddings [B, blocks, length, dim]
    fixed: Tensor  # bool [B]: begins in the fixed place
    weight: Tensor  # [B, blocks] of each block in the loss


def make_batch(clips: list[dict[str, Tensor]], text: Text, rng: np.random.Generator, size: int, blocks: int = BLOCKS) -> Batch:
    """Random stories of `blocks` blocks."""
    chosen = [clips[i] for i in rng.integers(len(clips), size=size)]
    latents = torch.stack([c["latents"].float() for c in chosen])
    noise = torch.randn_like(latents)
    captions = []
    for c in chosen:
        story = [from_indices(row) for row in c["attributes"][:blocks]]
        for i, attributes in enumerate(story):
            same = i > 0 and attributes == story[i - 1]
            captions.append(captions[-1] if same else caption(attributes, rng, full=rng.random() < 0.85))
    prompts = text(captions).unflatten(0, (size, blocks))
    reader = torch.arange(1, blocks).repeat(size, 1)
    for i, c in enumerate(chosen):
        story = c["attributes"]
        if blocks > 2 and rng.random() < 0.5 and not torch.equal(story[2], story[1]):
            reader[i, 0] = 2  # a switch at the third block recomputes the sink, too
        for b in range(1, blocks - 1):
            if rng.random() < 0.1:
                reader[i, b] = b  # the cache was kept at a switch
    context = prompts[torch.arange(size)[:, None], reader]
    fixed = torch.stack([c["fixed"] for c in chosen]).bool()
    return Batch(latents, noise, torch.cat([prompts, context], 1), prompts, fixed, block_weights(torch.stack([c["attributes"] for c in chosen]), fixed))


def block_weights(attributes: Tensor, fixed: Tensor) -> Tensor:
    """[B, blocks] from attributes [B, blocks, n] and whether a story begins in the fixed place [B]."""
    changed = F.pad((attributes[:, 1:] != attributes[:, :-1]).any(2), (1, 0))
    weight = 1 + (SWITCH_WEIGHT - 1) * (changed | F.pad(changed[:, :-1], (1, 0))).float()
    weight[~fixed, 0] = 0
    return weight


class Trainer:
    def __init__(self, args: argparse.Namespace):
        self.args = args
        torch.manual_seed(args.seed)
        self.rng = np.random.default_rng(args.seed)
        self.model = CausalDiT(**CONFIG)
        self.average = copy.deepcopy(self.model).requires_grad_(False).eval()
        decay = [p for n, p in self.model.named_parameters() if p.dim() > 1 and "modulation" not in n]
        rest = [p for n, p in self.model.named_parameters() if not (p.dim() > 1 and "modulation" not in n)]
        groups = [{"params": decay, "weight_decay": args.weight_decay}, {"params": rest, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=args.lr, betas=(0.9, 0.99))
        compiled = torch.compile if args.compile else lambda f: f
        self.forward, self.predict = compiled(self.model.teacher_forcing), compiled(self.average.teacher_forcing)
        self.text = Text(args.text / "tokenizer.json", args.text / "text_encoder.safetensors", TEXT_CONFIG, CONFIG["text_len"])
        self.stories, self.beginnings = Clips(args.clips), Clips(args.beginnings)
        self.refresh()
        self.step, self.seconds, self.blocks = 0, 0.0, 0
        self.weights = loss_weights(Codec.load(args.codec))
        self.levels = torch.tensor(SAMPLING.steps())  # [4, (timestep, sigma)]
        if (args.out / "state.pt").exists():
            state = torch.load(args.out / "state.pt")
            self.model.load_state_dict(state["model"])
            self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.seconds, self.blocks = state["step"], state["seconds"], state.get("blocks", 0)
            self.rng = np.random.default_rng([args.seed, self.step])
            torch.manual_seed(args.seed + self.step)
        elif args.init:
            weights = {k: v.float() for k, v in load_file(args.init).items()}
            self.model.load_state_dict(weights)
            self.average.load_state_dict(weights)

    def refresh(self) -> None:
        self.stories.refresh()
        self.beginnings.refresh()
        self.fixed = [c for c in self.stories.clips if c["fixed"]]

    def save(self) -> None:
        part = self.args.out / "state.part"
        torch.save({"model": self.model.state_dict(), "average": self.average.state_dict(), "optimizer": self.optimizer.state_dict(),
                    "step": self.step, "seconds": self.seconds, "blocks": self.blocks}, part)  # fmt: skip
        part.rename(self.args.out / "state.pt")
        save_file(self.average.state_dict(), self.args.out / "dit.safetensors")

    @torch.no_grad()
    def one_step(self, batch: Batch) -> Tensor:
        """What the averaged model makes of each block in one step from true context [B, C, frames, h, w]."""
        t = self.levels[0, 0].expand(len(batch.latents), BLOCKS)
        text = self.average.encode_text(batch.text)
        own = batch.noise - self.predict(batch.noise, t, self.corrupt(batch.latents), text, BLOCK_FRAMES).float()
        elsewhere = ~batch.fixed
        own[elsewhere, :, :BLOCK_FRAMES] = batch.latents[elsewhere, :, :BLOCK_FRAMES]
        return own

    @torch.no_grad()

    def rollout(self, batch: Batch) -> Tensor:
        """What the averaged model makes of a story that begins in the fixed place, with the cached four-step sampler."""

        def noise(block: int, step: int) -> Tensor:
            part = batch.noise[:, :, block * BLOCK_FRAMES : (block + 1) * BLOCK_FRAMES]
            return part if step == 0 else torch.randn_like(part)

        generator = Generator(self.average, SAMPLING, batch.prompts[:, 0], noise)
        made = []
        for i in range(BLOCKS):
            if i > 0 and not torch.equal(batch.prompts[:, i], batch.prompts[:, i - 1]):
                generator.switch(batch.prompts[:, i])
            made.append(generator.block().float())
        return torch.cat(made, 2)

    def corrupt(self, latents: Tensor) -> Tensor:
        """Clean context [B, C, frames - 3, h, w], half of it noised by up to `--context-noise`."""
        sigma = torch.rand(len(latents), 1, 1, 1, 1) * self.args.context_noise * (torch.rand(len(latents), 1, 1, 1, 1) < 0.5)
        context = latents[:, :, :-BLOCK_FRAMES]
        return context + sigma * torch.randn_like(context)

    def first_loss(self) -> Tensor:
        """A step on first blocks only, which have nothing to copy from: half of them at the noise levels of the data, half
        after the sampler's own previous steps."""
        batch = make_batch(self.beginnings.clips, self.text, self.rng, self.args.first_batch, blocks=1)
        size, none = len(batch.latents), batch.latents[:, :, :0]
        level = int(self.rng.integers(len(self.levels)))
        sigma = self.levels[level, 1]
        noise = batch.noise if level == 0 else torch.randn_like(batch.noise)
        base = batch.latents
        if level > 0:
            own, x = None, batch.noise
            with torch.no_grad():
                text = self.average.encode_text(batch.text)
                for t, s in self.levels[:level]:
                    x = x if own is None else (1 - s) * own + s * torch.randn_like(own)
                    own = x - s * self.predict(x, t.expand(size, 1), none, text, BLOCK_FRAMES).float()
            base = torch.where(torch.rand(size, 1, 1, 1, 1) < 0.5, own, base)
        x = (1 - sigma) * base + sigma * noise
        v = self.forward(x, self.levels[level, 0].expand(size, 1), none, self.model.encode_text(batch.text), BLOCK_FRAMES).float()
        error = ((v - (x - batch.latents) / sigma).square() * self.weights).mean((1, 2, 3, 4))[:, None]
        self.log_error(error.detach(), torch.full((size, 1), level))
        return error.mean()

    def loss(self, progress: float) -> Tensor:
        if self.rng.random() < self.args.first:
            return self.first_loss()
        own_pictures = progress > self.args.self_forcing and self.rng.random() < 0.5
        rollout = own_pictures and self.rng.random() < self.args.rollout
        batch = make_batch(self.fixed if rollout else self.stories.clips, self.text, self.rng, self.args.batch)
        size = len(batch.latents)
        level = torch.randint(len(self.levels), (size, BLOCKS))
        sigma = self.levels[level, 1].repeat_interleave(BLOCK_FRAMES, 1)[:, None, :, None, None]
        noise = torch.where(sigma == 1, batch.noise, torch.randn_like(batch.noise))
        context, base = self.corrupt(batch.latents), batch.latents
        if own_pictures:
            own = self.rollout(batch) if rollout else self.one_step(batch)
            own_context = torch.rand(size, 1, 1, 1, 1) < 0.7
            own_input = torch.rand(size, BLOCKS).repeat_interleave(BLOCK_FRAMES, 1)[:, None, :, None, None] < 0.5
            context = torch.where(own_context, own[:, :, :-BLOCK_FRAMES], context)
            base = torch.where(own_input, own, base)
        x = (1 - sigma) * base + sigma * noise
        target = (x - batch.latents) / sigma
        v = self.forward(x, self.levels[level, 0], context, self.model.encode_text(batch.text), BLOCK_FRAMES).float()
        error = ((v - target).square() * self.weights).unflatten(2, (BLOCKS, BLOCK_FRAMES)).mean((1, 3, 4, 5))
        self.log_error(error[batch.fixed].detach(), level[batch.fixed])
        return (error * batch.weight).sum() / batch.weight.sum()

    def log_error(self, error: Tensor, level: Tensor) -> None:
        """Count the blocks; running mean of the loss per (first block or later, noise level)."""
        self.blocks += error.numel()
        for first in (0, 1):
            part, at = (error[:, :1], level[:, :1]) if first == 0 else (error[:, 1:], level[:, 1:])
            for i in range(len(self.levels)):
                if (at == i).any():
                    value = part[at == i].mean().item()
                    old = self.running.get((first, i), value)
                    self.running[(first, i)] = old + 0.02 * (value - old)

    def run(self) -> None:
        args = self.args
        args.out.mkdir(parents=True, exist_ok=True)
        budget, warm_up = 60 * args.minutes, 200
        self.running: dict[tuple[int, int], float] = {}
        mark, saved = time.time(), time.time()
        while self.seconds < budget:
            progress = self.seconds / budget
            rate = args.lr * min(1, (self.step + 1) / warm_up) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            with torch.autocast("cpu", torch.bfloat16):
                loss = self.loss(progress)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            keep = min(args.ema, (self.step + 1) / (self.step + 10))
            torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - keep)
            self.step += 1
            now = time.time()
            # The first steps compile; they are not training time.
            self.seconds += min(now - mark, 5.0)
            mark = now
            if self.step % 50 == 0:
                table = " ".join(f"{'AB'[f]}{i}:{self.running[(f, i)]:.3f}" for f, i in sorted(self.running))
                print(f"step {self.step} {self.seconds:.0f}s lr {rate:.1e} norm {norm:.2f} clips {len(self.stories.clips)} {table}", flush=True)
            if now - saved > 60:
                self.save()
                self.refresh()
                saved = mark = time.time()
        self.save()
        report = {"steps": self.step, "minutes": self.seconds / 60, "batch": args.batch, "stories": len(self.stories.clips),
                  "blocks_seen": self.blocks, "lr": args.lr, "config": CONFIG,
                  "parameters": sum(p.numel() for p in self.model.parameters()),
                  "loss": {f"{'first' if f == 0 else 'later'} step {i}": v for (f, i), v in sorted(self.running.items())}}  # fmt: skip
        (args.out / "dit.json").write_text(json.dumps(report, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, required=True)
    parser.add_argument("--beginnings", type=Path, required=True)
    parser.add_argument("--codec", type=Path, required=True)
    parser.add_argument("--init", type=Path, help="weights to begin with, when OUT has no state yet")
    parser.add_argument("--text", type=Path, required=True, help="folder with tokenizer.json and text_encoder.safetensors")
    parser.add_argument("--out", type=Path, required=True, help="continues from state.pt here")
    parser.add_argument("--minutes", type=float, default=72)
    parser.add_argument("--batch", type=int, default=1, help="stories per step")
    parser.add_argument("--first", type=float, default=0.45, help="share of the steps that train first blocks only")
    parser.add_argument("--first-batch", type=int, default=9, help="stories per such step")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--weight-decay", type=float, default=0.01)
    parser.add_argument("--ema", type=float, default=0.998)
    parser.add_argument("--context-noise", type=float, default=0.2)
    parser.add_argument("--self-forcing", type=float, default=0.3, help="share of the time after which own pictures are used")
    parser.add_argument("--rollout", type=float, default=0.3, help="share of the own pictures that are full roll-outs")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    Trainer(args).run()


if __name__ == "__main__":
    main()

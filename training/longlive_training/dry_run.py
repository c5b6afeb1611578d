"""What a preset would cost, found without memory: every module is built on the meta device, and the passes of one training
step are run there under PyTorch's FLOP counter.

Reference: the paper reports 32 H100 GPU-days of streaming long tuning (64 GPUs, 3000 iterations, one video each).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from .config import Distillation, DistillStage, Dit, LongStage, Preset
from .context import parameters
from .models import lora
from .models.dit import CausalDiT, GraphCache
from .models.umt5 import UMT5Encoder
from .models.vae import WanVAE

H100 = 989e12  # bf16 FLOP/s
PAPER_GPU_DAYS, PAPER_GPUS = 32, 64
TERA, GIGA, DAY = 1e12, 2**30, 86400


def build(preset: Preset, dit: Dit) -> CausalDiT:
    with torch.device("meta"):
        model = CausalDiT(**vars(dit), text_dim=preset.text_encoder.dim, text_len=preset.text_len)
    model.checkpoint = preset.checkpoint
    return model


def count(run: Callable[[], Any]) -> float:
    with FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops())


def cost(run: Callable[[], Tensor], grad: bool) -> float:
    """FLOPs of a pass, with its backward pass if `grad`."""
    with torch.set_grad_enabled(grad):
        return count(lambda: run().sum().backward() if grad else run())


def count_layers(model: CausalDiT, measure: Callable[[], float]) -> float:
    """`measure` for a model whose layers are all alike, from its first one and two layers."""
    layers = model.blocks
    try:
        one, two = (measure() for model.blocks in (layers[:1], layers[:2]))
    finally:
        model.blocks = layers
    return one + (len(layers) - 1) * (two - one)


@dataclass
class Networks:
    """One video's tensors and passes on the meta device."""

    preset: Preset
    student: CausalDiT
    teacher: CausalDiT
    critic: CausalDiT
    vae: WanVAE
    text: UMT5Encoder

    @classmethod
    def of(cls, preset: Preset) -> Networks:
        with torch.device("meta"):
            vae, text = WanVAE(**vars(preset.vae)), UMT5Encoder(preset.vocab_size, **vars(preset.text_encoder))
        return cls(
            preset, build(preset, preset.student), build(preset, preset.teacher), build(preset, preset.critic or preset.teacher), vae, text
        )

    def meta(self, *shape: int) -> Tensor:
        return torch.empty(shape, device="meta")

    def keys(self, model: CausalDiT) -> list:
        return model.encode_text(self.meta(1, 1, self.preset.text_len, self.preset.text_encoder.dim))

    def cached_pass(self, filled: int, grad: bool) -> float:
        """FLOPs of the student's pass over a block when the cache holds `filled` frames; with backward pass if `grad`."""
        s, (h, w) = self.preset.sampling, self.preset.latent_size()
        tokens = (h // 2) * (w // 2)

        def measure() -> float:
            with torch.no_grad():
                keys = self.keys(self.student)
                cache = GraphCache(self.student, 1, tokens, s.window_frames, s.sink_frames, s.rope == "relative")
                if filled:
                    cache.begin(0, filled * tokens)
                    cache.k = cache.v = [self.meta(1, filled * tokens, *k.shape[2:]) for k in cache.k]
            block = self.meta(1, self.preset.vae.z_dim, s.frames_per_block, h, w)
            return cost(lambda: self.student(block, self.meta(1, s.frames_per_block), keys, cache, filled), grad)

        return count_layers(self.student, measure)

    def window_pass(self, model: CausalDiT, frames: int, grad: bool) -> float:
        """FLOPs of a bidirectional pass over a window."""
        window = self.meta(1, self.preset.vae.z_dim, frames, *self.preset.latent_size())

        def measure() -> float:
            with torch.no_grad():
                keys = self.keys(model)
            return cost(lambda: model.bidirectional(window, self.meta(1), keys), grad)

        return count_layers(model, measure)

    def reencode(self, latents: int) -> float:
        h, w = self.preset.latent_size()
        with torch.no_grad():
            decode = count(lambda: self.vae.decode(self.meta(1, self.preset.vae.z_dim, latents, h, w)))
            return decode + count(lambda: self.vae.encode(self.meta(1, 3, 1, 8 * h, 8 * w)))


@dataclass
class Step:
    """FLOPs of one iteration of a distillation stage, per video, by what they are spent on."""

    parts: dict[str, float]

    def total(self) -> float:
        return sum(self.parts.values())


def step_cost(networks: Networks, stage: Distillation) -> Step:
    """The mean over exit steps, positions in the sequence, and iterations with and without generator update."""
    s = networks.preset.sampling
    block = s.frames_per_block
    exits = len(s.denoising_steps)
    if isinstance(stage, LongStage):
        window, ends = stage.window, list(range(stage.first_chunk, stage.max_frames + 1, stage.chunk))
        blocks = [f for end, n in zip(ends, [stage.first_chunk] + [stage.chunk] * (len(ends) - 1)) for f in range(end - n, end, block)]
        chunks = len(ends)
    else:
        window, blocks, chunks = stage.frames, list(range(0, stage.frames, block)), 1
    plain, trained = {}, {}
    for filled in {min(start, s.window_frames - block) for start in blocks}:
        plain[filled] = networks.cached_pass(filled, False)
        trained[filled] = networks.cached_pass(filled, True) - plain[filled]
    passes = sum(plain[min(start, s.window_frames - block)] for start in blocks) / chunks
    backward = sum(trained[min(start, s.window_frames - block)] for start in blocks) / chunks
    roll = passes * ((exits + 1) / 2 + 1)  # the mean number of denoising steps, and the pass over the clean block
    share = 1 / stage.ratio
    parts = {"roll-outs": roll * (1 + share), "generator backward": backward * share,
             "teacher (guided)": 2 * networks.window_pass(networks.teacher, window, False) * share,
             "critic for the generator": networks.window_pass(networks.critic, window, False) * share,
             "critic training": networks.window_pass(networks.critic, window, True)}  # fmt: skip
    if isinstance(stage, LongStage):
        later = (chunks - 1) / chunks
        parts["first frame of the window"] = networks.reencode(stage.first_chunk + stage.chunk - stage.window + 1) * (1 + share) * later
    return Step(parts)


def memory(networks: Networks, stage: Distillation, gpus: int) -> dict[str, float]:
    """GiB per GPU: states sharded over all of them; the rest is one video's."""
    p, s = networks.preset, networks.preset.sampling
    h, w = p.latent_size()
    tokens = (h // 2) * (w // 2)
    frames = stage.window if isinstance(stage, LongStage) else stage.frames

    def trained(model: nn.Module) -> int:
        return sum(q.numel() for q in model.parameters() if q.requires_grad)

    def largest_layer(model: CausalDiT) -> int:
        return parameters(model.blocks[0])

    both = [networks.student, networks.critic]
    blocks = frames // s.frames_per_block
    saved = p.student.dim * p.student.num_layers * s.frames_per_block * tokens * blocks  # inputs of the layers, one trained pass per block
    keys = 2 * p.student.num_layers * tokens * p.student.dim * (s.window_frames + frames)  # of the cache, and of the trained passes
    window = max(p.teacher.dim * 8, (p.critic or p.teacher).dim * (p.critic or p.teacher).num_layers) * frames * tokens
    return {
        "weights of generator and critic (float32)": 4 * sum(map(parameters, both)) / gpus / GIGA,
        "gradients and AdamW of what is trained": 12 * sum(map(trained, both)) / gpus / GIGA,
        "teacher (bf16)": 2 * parameters(networks.teacher) / gpus / GIGA,
        "gathered layers (bf16)": 2 * 2 * largest_layer(networks.teacher) / GIGA,
        "keys and values": 2 * keys / GIGA,
        "layer inputs kept for the backward pass": 2 * max(saved, window) / GIGA,
        "VAE (float32)": 4 * parameters(networks.vae) / GIGA,
    }


def dry_run(preset: Preset, stages: dict[str, Any]) -> str:
    networks = Networks.of(preset)
    lines = [
        f"{preset.title}: {preset.video.width} x {preset.video.height}, {preset.latent_size()[0]} x {preset.latent_size()[1]} latents, {preset.gpus} GPUs",
        "",
        "parameters",
    ]
    for name in ("student", "teacher", "critic", "text", "vae"):
        lines.append(f"  {name:40} {parameters(getattr(networks, name)):>16,}")
    for name, stage in stages.items():
        if not isinstance(stage, Distillation):
            continue
        if isinstance(stage, LongStage):
            for model in (networks.student, networks.critic):
                lora.adapt(model, stage.rank, stage.alpha)
            adapters = sum(p.numel() for p in networks.student.parameters() if p.requires_grad)
            lines += ["", f"{name}: adapters of rank {stage.rank} on generator and critic, {adapters:,} parameters each"]
        else:
            assert isinstance(stage, DistillStage)
            lines += ["", f"{name}: all weights of generator and critic"]
        cost = step_cost(networks, stage)
        lines.append("  TFLOP per iteration and video (a generator update every " + f"{stage.ratio} iterations)")
        lines += [f"    {k:38} {v / TERA:>16,.1f}" for k, v in cost.parts.items()]
        lines.append(f"    {'together':38} {cost.total() / TERA:>16,.1f}")
        used = memory(networks, stage, preset.gpus)
        lines.append("  GiB per GPU")
        lines += [f"    {k:38} {v:>16,.2f}" for k, v in used.items()] + [f"    {'together':38} {sum(used.values()):>16,.2f}"]
        if stage.loop.steps:
            total = cost.total() * stage.loop.steps * stage.loop.batch * preset.gpus
            at_peak = total / H100 / DAY
            lines.append(
                f"  {stage.loop.steps} iterations of {preset.gpus * stage.loop.batch} videos: {total / 1e18:,.0f} EFLOP, {at_peak:,.1f} GPU-days at the H100's peak"
            )
            if isinstance(stage, LongStage) and preset.gpus == PAPER_GPUS:
                lines.append(f"  the paper's {PAPER_GPU_DAYS} GPU-days would be {100 * at_peak / PAPER_GPU_DAYS:.0f} % of that peak")
    return "\n".join(lines)

"""Trains the Wan VAE to be the inverse (decoder) and the equal (encoder) of the linear codec that defines the latents.

    python -m longlive_training.train_vae decoder --codec RUN/codec.safetensors --run RUN/vae --minutes 40
    python -m longlive_training.train_vae encoder --codec RUN/codec.safetensors --run RUN/vae --minutes 8

The decoder sees codec latents with a little noise, so that it forgives small errors of the DiT, and is trained against
the rendered frames; the encoder is regressed to the latents. Hidden convolutions are trained with Muon (orthogonalised
momentum), the rest with AdamW. Both parts write into `vae.safetensors` (reference tensor names) and `stats.json`
(latent mean 0 and standard deviation 1 by definition of the codec, PSNR of decoder and of the whole, steps, seconds).
A part that is started again goes on from its last checkpoint; the learning rate follows the time spent. `--init` starts
from the weights of another run.
"""

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .codec import PATCH, Codec
from .models.vae import ResidualBlock, WanVAE
from .world import TRANSITION, render, sample_attributes

CONFIG = {"dim": 16, "z_dim": 16, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2, "temporal_downsample": [False, True, True]}
FRAMES = 9  # per clip: 1 + 4 * 2
CROP = 8  # latent pixels
LATENT_NOISE = 0.08  # standard deviation
EMA = 0.997


def make_clip(rng: np.random.Generator, frames: int = FRAMES) -> np.ndarray:
    """uint8 [frames, H, W, 3]: a random scene; about half of the clips contain (part of) a switch."""
    start = int(rng.integers(TRANSITION, 60))
    at = start + int(rng.integers(-TRANSITION, 2 * frames))
    story = [(0, sample_attributes(rng)), (max(1, at), sample_attributes(rng))]
    return render(story, frames, int(rng.integers(2**31)), start=start)


def to_tensor(clip: np.ndarray) -> Tensor:
    """uint8 [T, H, W, 3] -> float [3, T, H, W] in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(clip)).permute(3, 0, 1, 2).float() / 127.5 - 1


class Clips:
    """A pool of rendered clips with their latents; every second batch replaces one of them."""

    def __init__(self, codec: Codec, rng: np.random.Generator, size: int = 240):
        self.codec, self.rng, self.size, self.pool, self.batches = codec, rng, size, [], 0

    def one(self) -> tuple[np.ndarray, Tensor]:
        return self.pool[self.rng.integers(len(self.pool))]

    def batch(self, count: int) -> tuple[Tensor, Tensor]:
        """Videos [count, 3, T, 64, 64] and their latents [count, 16, t, 8, 8]; every eighth batch is one whole picture.

        Every second crop shows the subject.
        """
        if self.batches % 2 == 0 or len(self.pool) < count:
            clip = make_clip(self.rng)
            entry = (clip, self.codec.encode(clip))
            if len(self.pool) < self.size:
                self.pool.append(entry)
            else:
                self.pool[self.rng.integers(self.size)] = entry
        self.batches += 1
        videos, latents = [], []
        if self.batches % 8 == 0:
            clip, z = self.one()
            return to_tensor(clip)[None], z[None]
        for i in range(count):
            clip, z = self.one()
            h, w = z.shape[2:]
            y = int(self.rng.integers(0, h - CROP + 1))
            x = int(self.rng.integers(4, 11) if i % 2 else self.rng.integers(0, w - CROP + 1))
            rows, columns = slice(y * PATCH, (y + CROP) * PATCH), slice(x * PATCH, (x + CROP) * PATCH)
            videos.append(to_tensor(clip[:, rows, columns]))
            latents.append(z[:, :, y : y + CROP, x : x + CROP])
        return torch.stack(videos), torch.stack(latents)


class Muon(torch.optim.Optimizer):
    """Nesterov momentum whose update is made orthogonal (Newton-Schulz), for weights seen as [out, everything else]."""

    def __init__(self, params, lr: float, momentum: float = 0.95):
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
                buffer.lerp_(p.grad, 1 - group["momentum"])
                update = orthogonal(p.grad.lerp(buffer, group["momentum"]).flatten(1))
                scale = max(1, update.shape[0] / update.shape[1]) ** 0.5
                p.add_(update.view(p.shape), alpha=-group["lr"] * scale)


def orthogonal(g: Tensor) -> Tensor:
    """The orthogonal matrix nearest to g [rows, columns], roughly: five quintic Newton-Schulz steps."""
    x = g.T if g.shape[0] > g.shape[1] else g
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.T if g.shape[0] > g.shape[1] else x


def initialise(vae: WanVAE) -> None:
    """Weights that keep the variance, residual branches that start small, latents passed on as they are."""
    with torch.no_grad():
        for layer in vae.modules():
            if isinstance(layer, (nn.Conv2d, nn.Conv3d)):
                nn.init.normal_(layer.weight, std=layer.weight[0].numel() ** -0.5)
                nn.init.zeros_(layer.bias)
        for layer in vae.modules():
            if isinstance(layer, ResidualBlock):
                layer.residual[6].weight.mul_(0.3)
        for layer in (vae.conv1, vae.conv2):
            layer.weight.copy_(torch.eye(layer.weight.shape[0])[:, :, None, None, None])


def channels_last(vae: WanVAE) -> WanVAE:
    for p in vae.parameters():
        if p.dim() == 5:
            p.data = p.data.contiguous(memory_format=torch.channels_last_3d)
    return vae


def picture_loss(y: Tensor, x: Tensor) -> Tensor:
    """L1 and squared error of pixels, L1 of their spatial differences and of a quarter-size picture. [B, 3, T, H, W]."""
    error = y - x
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    coarse = F.avg_pool3d(error, (1, 4, 4)).abs().mean()
    return error.abs().mean() + error.square().mean() + 0.3 * edges + 0.3 * coarse


def psnr(y: Tensor, x: Tensor) -> float:
    """dB between videos in [-1, 1]; y is clamped."""
    return -10 * math.log10(((y.clamp(-1, 1) - x) / 2).square().mean().item())


def precision() -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16)


@torch.inference_mode()
def evaluate(vae: WanVAE, part: str, clips: list[tuple[Tensor, Tensor]], picture: Path) -> float:
    """Mean PSNR in dB over whole pictures: of the decoder on codec latents, or of decoder after encoder.

    Writes `picture`: frame 6 of each clip beside its reconstruction.
    """
    from PIL import Image

    figures, rows = [], []
    for x, z in clips:
        with precision():
            y = vae.decode(z if part == "decoder" else vae.encode(x)).float().clamp(-1, 1)
        figures.append(psnr(y, x))
        rows.append(torch.cat([x[0, :, 6], y[0, :, 6]], 2))
    Image.fromarray(((torch.cat(rows, 1) + 1) * 127.5).byte().permute(1, 2, 0).numpy()).save(picture)
    return float(np.mean(figures))


def save(write, path: Path) -> None:
    """Writes through a neighbour, so that a reader never sees half a file."""
    part = path.with_name(path.name + ".part")
    write(part)
    part.rename(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["decoder", "encoder"])
    parser.add_argument("--codec", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True, help="folder of checkpoints and results")
    parser.add_argument("--minutes", type=float, required=True, help="training time, summed over restarts")
    parser.add_argument("--init", type=Path, help="safetensors to start from (default: vae.safetensors of the run, if any)")
    parser.add_argument("--batch", type=int, default=2, help="crops per step")
    parser.add_argument("--validation", type=int, default=6, help="clips that are never trained on")
    parser.add_argument("--lr", type=float, default=0.02, help="peak rate of Muon; AdamW runs at a tenth")
    args = parser.parse_args()
    args.run.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    codec = Codec.load(args.codec)
    final, checkpoint = args.run / "vae.safetensors", args.run / f"{args.part}.pt"

    vae = WanVAE(**CONFIG)
    initialise(vae)
    if source := args.init or (final if final.exists() else None):
        vae.load_state_dict(load_file(source))
    vae = channels_last(vae)
    modules = [vae.decoder, vae.conv2] if args.part == "decoder" else [vae.encoder, vae.conv1]
    trained = [p for m in modules for p in m.parameters()]
    hidden = [p for p in trained if p.dim() >= 4 and min(p.shape[:2]) > 3]
    others = [p for p in trained if not any(p is h for h in hidden)]
    optimisers = [Muon(hidden, args.lr), torch.optim.AdamW(others, lr=args.lr / 10, betas=(0.9, 0.98), weight_decay=0)]
    average = [p.detach().clone() for p in trained]
    rates = [args.lr, args.lr / 10]

    spent, step = 0.0, 0
    if checkpoint.exists():
        state = torch.load(checkpoint)
        spent, step = state["spent"], state["step"]
        for p, saved, a, averaged in zip(trained, state["trained"], average, state["average"]):
            p.data.copy_(saved)
            a.copy_(averaged)
        for optimiser, saved in zip(optimisers, state["optimisers"]):
            optimiser.load_state_dict(saved)
    clips = Clips(codec, np.random.default_rng([1, step]))
    unseen = np.random.default_rng(2)
    validation = [(to_tensor(c)[None], codec.encode(c)[None]) for c in (make_clip(unseen) for _ in range(args.validation))]

    def exchange() -> None:
        for p, a in zip(trained, average):
            p.data, a.data = a.data, p.data

    def report() -> float:
        """Evaluates and writes the averaged weights."""
        exchange()
        quality = evaluate(vae, args.part, validation, args.run / "reconstruction.png")
        weights = {k: v.float().contiguous(memory_format=torch.contiguous_format) for k, v in vae.state_dict().items()}
        save(lambda path: save_file(weights, path), final)
        exchange()
        path = args.run / "stats.json"
        stats = json.loads(path.read_text()) if path.exists() else {}
        figures = ({"psnr": quality, "steps": step, "seconds": spent} if args.part == "decoder"
                   else {"psnrWithEncoder": quality, "encoderSteps": step, "encoderSeconds": spent})  # fmt: skip
        stats |= {"dim": CONFIG["dim"], "mean": [0.0] * 16, "std": [1.0] * 16} | figures
        save(lambda p: p.write_text(json.dumps(stats, indent=1) + "\n"), path)
        return quality

    last, shown, losses = time.time(), spent, []
    while spent < args.minutes * 60:
        progress = spent / (args.minutes * 60)
        for optimiser, rate in zip(optimisers, rates):
            optimiser.param_groups[0]["lr"] = rate * min(1, (step + 1) / 50) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))
        x, z = (v.contiguous(memory_format=torch.channels_last_3d) for v in clips.batch(args.batch))
        with precision():
            y = vae.decode(z + LATENT_NOISE * torch.randn_like(z)) if args.part == "decoder" else vae.encode(x)
        loss = picture_loss(y.float(), x) if args.part == "decoder" else F.mse_loss(y.float(), z)
        for optimiser in optimisers:
            optimiser.zero_grad(set_to_none=True)
        loss.backward()
        for optimiser in optimisers:
            optimiser.step()
        step += 1
        with torch.no_grad():
            torch._foreach_lerp_(average, [p.data for p in trained], 1 - min(EMA, (step + 1) / (step + 10)))
        losses.append(loss.item())
        now = time.time()
        spent, last = spent + now - last, now
        if spent - shown > 60:
            shown = spent
            print(f"{spent / 60:5.1f} min  step {step}  loss {np.mean(losses):.4f}  PSNR {report():.2f} dB", flush=True)
            losses = []
            state = {"spent": spent, "step": step, "trained": [p.data for p in trained], "average": average,
                     "optimisers": [o.state_dict() for o in optimisers]}  # fmt: skip
            save(lambda path: torch.save(state, path), checkpoint)
    print(f"done: {report():.2f} dB after {step} steps", flush=True)


if __name__ == "__main__":
    main()

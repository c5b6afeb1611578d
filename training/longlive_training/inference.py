"""PyTorch inference of a model package: the same algorithm as the native core, and its rival in benchmarks.

    python -m longlive_training.inference --package models/pocket --prompt "a red fox walks on grass" --seconds 10
        [--switch SECONDS PROMPT]... [--dtype bfloat16] [--threads N] [--json] [--sheet FILE.png] [--frames FILE.npy]

Chunks are decoded as they are made; the reported times are per chunk and leave out loading and one warm-up video of two blocks.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from .config import TextEncoder
from .models.dit import CausalDiT
from .models.vae import WanVAE, channels_last
from .prompts import Embedder
from .sample import Generator, Sampling

FRAME_STRIDE, SPATIAL_STRIDE = 4, 8  # of the VAE


def snake(name: str) -> str:
    return "".join("_" + c.lower() if c.isupper() else c for c in name)


def snake_keys(section: dict) -> dict:
    return {snake(k): v for k, v in section.items()}


@dataclass
class Chunk:
    frames: np.ndarray  # uint8 [T, H, W, 3]
    switched: bool
    seconds_latents: float  # recache and denoising
    seconds_decode: float


class Package:
    """The networks of a package directory on the CPU. `dtype` is the precision of the DiT and the VAE."""

    def __init__(self, folder: Path, dtype: torch.dtype = torch.bfloat16):
        config = json.loads((folder / "config.json").read_text())
        self.folder, self.dtype, self.video = folder, dtype, config["video"]
        self.sampling = Sampling(**snake_keys(config["sampling"]))
        dit = snake_keys(config["dit"])
        text = TextEncoder(**{k: v for k, v in snake_keys(config["textEncoder"]).items() if k != "vocab_size"})
        self.text = Embedder(folder / "tokenizer.json", folder / "text_encoder.safetensors", text, dit["text_len"], torch.device("cpu")).text
        self.dit = CausalDiT(**{k: v for k, v in dit.items() if k != "rope_table_length"}).eval().requires_grad_(False)
        self.dit.load_state_dict({k: v.float() for k, v in load_file(folder / "dit.safetensors").items()})
        vae = snake_keys(config["vae"])
        vae.pop("eight_bit", None)  # of the native core's CPU backend alone
        self.mean, self.std = (torch.tensor(vae.pop(k)).view(1, -1, 1, 1, 1) for k in ("mean", "std"))
        self.vae = WanVAE(**vae).eval().requires_grad_(False)
        self.vae.load_state_dict({k: v.float() for k, v in load_file(folder / "vae.safetensors").items()})
        channels_last(self.vae)

    def precision(self) -> contextlib.AbstractContextManager:
        return torch.autocast("cpu", self.dtype) if self.dtype != torch.float32 else contextlib.nullcontext()

    def decode(self, latents: Tensor, stream: dict) -> np.ndarray:
        """Normalised latents [1, z, F, h, w] of the next block -> uint8 [frames, H, W, 3]."""
        z = (latents * self.std + self.mean).to(memory_format=torch.channels_last_3d)
        with self.precision():
            video = self.vae.decode(z, stream)
        video = (video[0].float().clamp(-1, 1) * 0.5 + 0.5) * 255
        return video.permute(1, 2, 3, 0).to(torch.uint8).numpy()

    def generate(self, prompts: list[tuple[int, str]], blocks: int, seed: int = 0) -> Iterator[Chunk]:
        """Yields a chunk per block. prompts: (block from which it holds, text), ascending, the first at block 0."""
        z = self.dit.config["in_dim"]
        shape = (1, z, self.sampling.frames_per_block, self.video["height"] // SPATIAL_STRIDE, self.video["width"] // SPATIAL_STRIDE)

        def noise(block: int, step: int) -> Tensor:
            source = torch.Generator().manual_seed((seed * 1_000_003 + block) * 16 + step)
            return torch.randn(shape, generator=source)

        pending = list(prompts)
        with torch.inference_mode():
            began = time.perf_counter()
            with self.precision():
                generator = Generator(self.dit, self.sampling, self.text([pending.pop(0)[1]]), noise)
            stream: dict = {}
            for index in range(blocks):
                switched = False
                with self.precision():
                    while pending and pending[0][0] <= index:
                        text, switched = pending.pop(0)[1], True
                    if switched:
                        generator.switch(self.text([text]))
                    latents = generator.block().float()
                made = time.perf_counter()
                frames = self.decode(latents, stream)
                done = time.perf_counter()
                yield Chunk(frames, switched, made - began, done - made)
                began = time.perf_counter()

    def block_at(self, seconds: float) -> int:
        """The first block that begins at or after a time: block b > 0 begins with frame b * frames_per_block * 4 - 3."""
        frame = math.ceil(seconds * self.video["fps"] - 1e-9)
        return math.ceil((frame + FRAME_STRIDE - 1) / (self.sampling.frames_per_block * FRAME_STRIDE)) if frame > 0 else 0


def contact_sheet(video: np.ndarray, columns: int = 8, every: int = 12) -> Image.Image:
    """Every n-th frame of uint8 [T, H, W, 3] in reading order."""
    frames = list(video[::every])
    frames += [np.zeros_like(frames[0])] * (-len(frames) % columns)
    rows = [np.concatenate(frames[i : i + columns], axis=1) for i in range(0, len(frames), columns)]
    return Image.fromarray(np.concatenate(rows, axis=0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", type=Path, required=True)
    parser.add_argument("--prompt", required=True)
    parser.add_argument("--switch", nargs=2, action="append", default=[], metavar=("SECONDS", "PROMPT"))
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="bfloat16")
    parser.add_argument("--threads", type=int, help="PyTorch threads (default: all cores)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--sheet", type=Path, help="write every 12th frame as one picture")
    parser.add_argument("--frames", type=Path, help="write all frames, uint8 [T, H, W, 3]")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    package = Package(args.package, getattr(torch, args.dtype))
    prompts = [(0, args.prompt)] + [(package.block_at(float(at)), prompt) for at, prompt in args.switch]
    for _ in package.generate(prompts[:1], 2):
        pass
    began = time.perf_counter()
    blocks = max(1, package.block_at(args.seconds))
    chunks = list(package.generate(prompts, blocks, args.seed))
    wall = time.perf_counter() - began
    video = np.concatenate([c.frames for c in chunks])
    if args.sheet:
        contact_sheet(video).save(args.sheet)
    if args.frames:
        np.save(args.frames, video)
    latents, decode = ([getattr(c, f"seconds_{k}") for c in chunks] for k in ("latents", "decode"))
    report = {
        "package": args.package.name,
        "engine": f"PyTorch {torch.__version__}",
        "device": "cpu",
        "threads": torch.get_num_threads(),
        "dtype": args.dtype,
        "width": video.shape[2],
        "height": video.shape[1],
        "frames": len(video),
        "seconds": round(wall, 3),
        "fps": round(len(video) / wall, 2),
        "firstChunkMs": round(1000 * (latents[0] + decode[0]), 1),
        "medianLatentsMs": round(1000 * float(np.median(latents)), 1),
        "medianDecodeMs": round(1000 * float(np.median(decode)), 1),
        "switchMs": [round(1000 * (c.seconds_latents + c.seconds_decode), 1) for c in chunks if c.switched],
    }
    if args.json:
        print(json.dumps(report))
    else:
        for key, value in report.items():
            print(f"{key:16} {value}")


if __name__ == "__main__":
    main()

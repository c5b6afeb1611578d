"""Films by the native core with the latents they were made of: what the full decoder makes of the latents that the student makes.

One process of bench/film.ts, which is given a job a line and answers with the frames and a checkpoint of every block. The checkpoint's window ends
with the block's latents.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load
from torch import Tensor

from .data import BLOCK_FRAMES

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [str(ROOT / "node_modules/.bin/tsx"), str(ROOT / "bench/film.ts")]


class Films:
    def __init__(self, package: Path, command: Sequence[str] = COMMAND):
        self.package, self.command = package.resolve(), command
        config = json.loads((package / "config.json").read_text())
        self.width, self.height = config["video"]["width"], config["video"]["height"]
        self.process: subprocess.Popen | None = None  # begun with the first film

    def make(self, seed: int, prompts: Sequence[tuple[int, str]], blocks: int) -> tuple[Tensor, Tensor]:
        """Frames uint8 [T, H, W, 3] and latents F32 [z, t, h, w]. prompts: (block from which it holds, text), the first at block 0."""
        job = {"package": str(self.package), "load": {"precision": "bf16", "threads": 1}, "rope": "package", "mode": "recache", "seed": seed,
               "blocks": blocks, "timeline": [{"block": b, "prompt": p} for b, p in prompts], "frames": True, "checkpoints": True}  # fmt: skip
        if self.process is None:
            try:
                self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            except FileNotFoundError:
                raise FileNotFoundError(f"{self.command[0]} is missing: films are made by the native core, so run `npm ci && npm run build` first") from None
        with contextlib.suppress(BrokenPipeError):  # told below
            self.process.stdin.write(json.dumps(job).encode() + b"\n")  # type: ignore[union-attr]
            self.process.stdin.flush()  # type: ignore[union-attr]
        frames, latents = [], []
        while "bytes" in (told := self.told()):
            rgb = bytearray(self.read(told["bytes"]))
            frames.append(torch.frombuffer(rgb, dtype=torch.uint8).view(-1, self.height, self.width, 3))
            latents.append(load(self.read(told["checkpoint"]))["latents.window"][-BLOCK_FRAMES:])
        return torch.cat(frames), torch.cat(latents).transpose(0, 1).contiguous()

    def told(self) -> dict:
        told = json.loads(self.process.stdout.readline() or '{"error": "the generating process has ended"}')  # type: ignore[union-attr]
        if "error" in told:
            raise RuntimeError(f"{self.package}: {told['error']}")
        return told

    def read(self, count: int) -> bytes:
        data = self.process.stdout.read(count)  # type: ignore[union-attr]
        if len(data) < count:
            raise RuntimeError(f"{self.package}: the generating process has ended")
        return data

    def close(self) -> None:
        if self.process:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()  # type: ignore[union-attr]
            self.process.wait()
            self.process.stdout.close()  # type: ignore[union-attr]
            self.process = None

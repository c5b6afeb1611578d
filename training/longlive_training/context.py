"""What the stages of one run share: the preset, the folder of results, the device, and the models so far."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from . import distributed
from .codec import Codec
from .config import Dit, Preset
from .config import Loop as LoopSettings
from .loop import Loop, OutOfTime, Random, Stateful, write
from .models.dit import CausalDiT
from .models.vae import WanVAE, channels_last
from .prompts import Embedder


@dataclass
class Context:
    preset: Preset
    name: str  # of the preset
    out: Path
    device: torch.device
    seed: int
    deadline: float = math.inf  # of time.monotonic

    # --- files ----------------------------------------------------------------------------------------------------

    def path(self, *parts: str) -> Path:
        return self.out.joinpath(*parts)

    def codec(self) -> Codec:
        """The linear code, of as many components as the latents have channels."""
        codec = Codec.load(self.need("world", "codec.safetensors")).first(self.preset.vae.z_dim)
        return Codec(*(t.to(self.device) for t in (codec.mean, codec.basis, codec.scale)))

    def given(self, file: str) -> Path:
        """A file that a stage's configuration names."""
        path = self.path(file)
        if not path.exists():
            raise FileNotFoundError(f"{path} is missing: the configuration begins with these weights (README.md says where they come from)")
        return path

    def need(self, stage: str, file: str) -> Path:
        path = self.path(stage, file)
        if not path.exists():
            raise FileNotFoundError(f"{path} is missing: run stage {stage} first")
        return path

    # --- models ---------------------------------------------------------------------------------------------------

    def precision(self) -> contextlib.AbstractContextManager:
        return torch.autocast(self.device.type, torch.bfloat16) if self.preset.precision == "bf16" else contextlib.nullcontext()

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Means and standard deviations [1, C, 1, 1, 1] of the VAE's latents, which DiTs see without them."""
        if self.preset.package:
            made = json.loads(Path(self.preset.package, "config.json").read_text())["vae"]
        elif self.preset.latents == "encoder":
            made = json.loads(self.need("vae", "latents.json").read_text())
        else:  # the codec's are standardised
            made = {"mean": [0.0] * self.preset.vae.z_dim, "std": [1.0] * self.preset.vae.z_dim}
        return tuple(torch.tensor(made[k], device=self.device).view(1, -1, 1, 1, 1) for k in ("mean", "std"))  # type: ignore[return-value]

    def vae(self) -> WanVAE:
        """The trained VAE, frozen."""
        vae = WanVAE(**vars(self.preset.vae)).eval().requires_grad_(False)
        vae.load_state_dict(read_weights(self.part("vae", "vae.safetensors")))
        return channels_last(vae.to(self.device))

    def host(self, array: np.ndarray) -> Tensor:
        """An array on the device, without waiting for what the device still has to do."""
        return torch.from_numpy(array).to(self.device, non_blocking=True)

    @property
    def cache_dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.preset.precision == "bf16" else torch.float32

    def dit(self, settings: Dit, *key: int | str, device: torch.device | None = None) -> CausalDiT:
        """A DiT with weights drawn by the seed and the key, on the context's device."""
        rng = Random.of(torch.device("cpu"), self.seed, *key)
        with torch.random.fork_rng(devices=[]), torch.device(device or "cpu"):
            torch.manual_seed(int(rng.numpy.integers(2**31)))
            z = self.preset.vae.z_dim
            model = CausalDiT(**vars(settings), text_dim=self.preset.text_encoder.dim, text_len=self.preset.text_len, in_dim=z, out_dim=z)
        model.checkpoint = self.preset.checkpoint
        return model.to(device or self.device)

    def load_dit(self, settings: Dit, path: Path, frozen: bool = False) -> CausalDiT:
        """A DiT from a file, or from a folder of shards. On several GPUs it stays in host memory until it is sharded."""
        device = torch.device("cpu") if distributed.world_size() > 1 else self.device
        model = self.dit(settings, "loaded", device=torch.device("meta")).to_empty(device=device)
        model.load_state_dict(read_weights(path))
        if frozen:
            model.eval().requires_grad_(False)
            if self.preset.precision == "bf16":
                model.bfloat16()
        return model

    def part(self, stage: str, file: str) -> Path:
        """A file of a stage, or of the package that replaces the stages."""
        return Path(self.preset.package, file) if self.preset.package else self.need(stage, file)

    def embedder(self) -> Embedder:
        p = self.preset
        return Embedder(
            self.part("world", "tokenizer.json"), self.part("text", "text_encoder.safetensors"), p.text_encoder, p.text_len, self.device
        )

    def compiled(self, model: CausalDiT) -> CausalDiT:
        """Compiles the pass over whole windows, whose shapes never change, if the preset asks for it."""
        if self.preset.compile:
            model.bidirectional = torch.compile(model.bidirectional)  # type: ignore[method-assign]
        return model

    def noise_shape(self, batch: int) -> tuple[int, int, int, int]:
        return (batch, self.preset.vae.z_dim, *self.preset.latent_size())

    # --- training -------------------------------------------------------------------------------------------------

    def loop(self, stage: str, name: str, settings: LoopSettings, states: dict[str, Stateful]) -> Loop:
        folder = self.path(stage)
        folder.mkdir(parents=True, exist_ok=True)
        loop = Loop(folder, name, settings, self.seed, self.device, states, self.deadline)
        loop.resume()
        return loop

    def train(self, loop: Loop, step: Callable[[Random], dict[str, Tensor]], keep: Callable[[], None] = lambda: None) -> dict[str, Any]:
        """`keep` saves what was made, also when time is out before the last step."""
        try:
            loop.run(step)
        except OutOfTime:
            keep()
            raise
        keep()
        if not distributed.rank():
            loop.plot()
        return loop.report()

    def save_model(self, module: nn.Module | dict[str, Tensor], path: Path) -> None:
        state = distributed.whole(module.state_dict() if isinstance(module, nn.Module) else module)
        if not distributed.rank():
            contiguous = {k: v.contiguous(memory_format=torch.contiguous_format) for k, v in state.items()}
            write(path, lambda p: save_file(contiguous, p))
        distributed.barrier()


def read_weights(path: Path) -> dict[str, Tensor]:
    """Weights in float32 of a file, or of a folder of shards."""
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    if not files or not files[0].exists():
        raise FileNotFoundError(f"{path} is missing: weights in safetensors format, a file or a folder of shards")
    return {k: v.float() for file in files for k, v in load_file(file).items()}


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())

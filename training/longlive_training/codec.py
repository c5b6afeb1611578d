"""The latents of the pocket model: a linear code of 4 x 8 x 8 pixel blocks, standardised.

An autoencoder of the Wan shape learns slowly from nothing on a CPU. The best linear code is known in closed form
(principal components), costs one matrix product per video and needs no training; so it defines the latents, the DiT
can train on them at once, and the Wan decoder and encoder are trained to be its inverse and its equal (stages/vae.py).

A latent frame holds four video frames, the first one only the first frame (taken four times).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

STRIDE, PATCH = 4, 8
DIM = 16


def patches(video: np.ndarray) -> Tensor:
    """uint8 [1 + 4 n, H, W, 3] -> float [1 + n, H / 8, W / 8, 768] in [-1, 1], a patch ordered (t, y, x, rgb)."""
    x = torch.from_numpy(video).float() / 127.5 - 1
    x = torch.cat([x[:1].expand(STRIDE, -1, -1, -1), x[1:]])
    t, h, w, _ = x.shape
    x = x.view(t // STRIDE, STRIDE, h // PATCH, PATCH, w // PATCH, PATCH, 3)
    return x.permute(0, 2, 4, 1, 3, 5, 6).flatten(3)


class Codec:
    """latents = (patch - mean) basis / scale, with orthonormal basis [768, C] and scale [C] the standard deviations."""

    def __init__(self, mean: Tensor, basis: Tensor, scale: Tensor):
        self.mean, self.basis, self.scale = mean, basis, scale

    @classmethod
    def fit(cls, samples: Tensor, channels: int = DIM) -> Codec:
        """The first principal components of samples [n, 768]."""
        mean = samples.mean(0)
        _, _, basis = torch.pca_lowrank(samples - mean, q=channels, niter=4)
        return cls(mean, basis, ((samples - mean) @ basis).std(0))

    def extended(self, samples: Tensor, channels: int) -> Codec:
        """These components, and further ones up to `channels`: the principal components of what they leave of samples [n, 768]."""
        x = samples - self.mean
        rest = x - x @ self.basis @ self.basis.T
        _, _, basis = torch.pca_lowrank(rest, q=channels - len(self.scale), center=False, niter=4)
        basis = torch.linalg.qr(torch.cat([self.basis, basis], 1)).Q[:, len(self.scale) :]
        return Codec(self.mean, torch.cat([self.basis, basis], 1), torch.cat([self.scale, (x @ basis).std(0)]))

    def first(self, channels: int) -> Codec:
        """Its first components: codes of one basis nest."""
        if channels > len(self.scale):
            raise ValueError(f"the codec has {len(self.scale)} components, not {channels}")
        return Codec(self.mean, self.basis[:, :channels], self.scale[:channels])

    @classmethod
    def load(cls, path: Path) -> Codec:
        return cls(**load_file(path))

    def save(self, path: Path) -> None:
        save_file({"mean": self.mean, "basis": self.basis.contiguous(), "scale": self.scale}, path)

    def encode(self, video: np.ndarray) -> Tensor:
        """uint8 [1 + 4 n, H, W, 3] -> normalised latents [C, 1 + n, H / 8, W / 8]."""
        return ((patches(video) - self.mean) @ self.basis / self.scale).permute(3, 0, 1, 2)

    def decode(self, latents: Tensor) -> np.ndarray:
        """The linear reconstruction, uint8 [1 + 4 n, H, W, 3]."""
        x = (latents.permute(1, 2, 3, 0) * self.scale) @ self.basis.T + self.mean
        t, h, w, _ = x.shape
        x = x.view(t, h, w, STRIDE, PATCH, PATCH, 3).permute(0, 3, 1, 4, 2, 5, 6).reshape(t * STRIDE, h * PATCH, w * PATCH, 3)
        return ((x[STRIDE - 1 :].clamp(-1, 1) + 1) * 127.5).to(torch.uint8).numpy()


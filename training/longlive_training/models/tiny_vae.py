"""The tiny decoder of TAEHV, with the reference's parameter names.

A latent becomes `frames` frames without norms, attention or 3D convolutions: memory blocks see a frame and the one before it, layers of growth
double the frames. Every operation is written over the whole sequence; a `Stream` (models/vae.py) makes `decode` go on where the call before stopped.

Layouts: latents [B, z, T, H / 8, W / 8] as the DiT makes them (normalised); video [B, 3, T, H, W] in about [-1, 1].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .vae import Stream

CLAMP = 3.0
BLOCKS = 3  # of memory in a stage
TRIMMED = 3  # frames before the first of a video, which the first latent gives, too


class Clamp(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return CLAMP * torch.tanh(x / CLAMP)


class MemoryBlock(nn.Module):
    """A residual block over a frame and the one before it. x: [B * T, C, h, w]."""

    def __init__(self, dim: int):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(2 * dim, dim, 3, padding=1), nn.ReLU(), nn.Conv2d(dim, dim, 3, padding=1), nn.ReLU(),
                                  nn.Conv2d(dim, dim, 3, padding=1))  # fmt: skip

    def forward(self, x: Tensor, batch: int, stream: Stream | None) -> Tensor:
        """The first convolution over [x_t ; x_(t-1)] is one of x to both halves, of which the second comes a frame later: no pair is ever made."""
        first, weight = self.conv[0], self.conv[0].weight
        halves = F.conv2d(x, torch.cat(weight.chunk(2, 1)), padding=1).unflatten(0, (batch, -1))
        now, past = halves.chunk(2, 2)
        before = None if stream is None else stream.get(self)
        if stream is not None:
            stream[self] = past[:, -1:]
        past = torch.cat([torch.zeros_like(past[:, :1]) if before is None else before, past[:, :-1]], 1)
        y = (now + past).flatten(0, 1) + first.bias.to(now.dtype)[:, None, None]
        return F.relu(self.conv[1:](y) + x)


class Grow(nn.Module):
    """`times` frames for every frame."""

    def __init__(self, dim: int, times: int):
        super().__init__()
        self.times = times
        self.conv = nn.Conv2d(dim, times * dim, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return split_frames(self.conv(x), self.times)


class Doubling(nn.ConvTranspose2d):
    """`times` frames, twice as high and wide, for every frame: every one of the four pixels has taps of its own, which nearest upsampling
    and a convolution do not give. Costs the same arithmetic as they do when taps that meet in one input are added up."""

    def __init__(self, dim: int, out: int, times: int):
        super().__init__(dim, times * out, 4, stride=2, padding=1, bias=False)
        self.times = times

    def forward(self, x: Tensor) -> Tensor:
        return split_frames(super().forward(x), self.times)


def split_frames(x: Tensor, times: int) -> Tensor:
    """[N, times * C, h, w] -> [N * times, C, h, w]."""
    return x if times == 1 else x.unflatten(1, (times, -1)).flatten(0, 1).contiguous(memory_format=torch.channels_last)


class TinyVAE(nn.Module):
    """With a `patch` of 2 the last layer gives squares of 2 x 2 pixels, and the last stage does not double the picture. With `transposed`,
    stages that double it do so by a transposed convolution (`Doubling`), which takes the place of growth and the convolution after it."""

    def __init__(self, channels: Sequence[int], z_dim: int, time_upscale: Sequence[int] = (1, 2, 2), patch: int = 1, transposed: bool = False):
        super().__init__()
        self.z_dim, self.patch = z_dim, patch
        space_upscale = [2] * (len(time_upscale) - 1) + [2 // patch]
        layers: list[nn.Module] = [Clamp(), nn.Conv2d(z_dim, channels[0], 3, padding=1), nn.ReLU()]
        for width, after, times, scale in zip(channels, channels[1:], time_upscale, space_upscale):
            layers += [MemoryBlock(width) for _ in range(BLOCKS)]
            if transposed and scale == 2:
                layers += [nn.Identity(), nn.Identity(), Doubling(width, after, times)]  # so that the numbers of modules stay
            else:
                layers += [nn.Upsample(scale_factor=scale, mode="nearest"), Grow(width, times), nn.Conv2d(width, after, 3, padding=1, bias=False)]
        layers += [nn.ReLU(), nn.Conv2d(channels[-1], 3 * patch**2, 3, padding=1)]
        self.decoder = nn.Sequential(*layers)

    def decode(self, z: Tensor, stream: Stream | None = None) -> Tensor:
        """Video, not clamped: 1 frame for the first latent of a video, 4 for every other."""
        batch = z.shape[0]
        x = z.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        upsample: nn.Module | None = None
        for layer in self.decoder:
            if isinstance(layer, nn.Upsample):
                upsample = layer  # the growth after it does not look around, so it comes first, where there are fewer pixels
            elif isinstance(layer, Grow):
                x = layer(x)
                x = upsample(x) if upsample and upsample.scale_factor != 1 else x
            elif isinstance(layer, MemoryBlock):
                x = layer(x, batch, stream)
            else:
                x = layer(x)
        x = F.pixel_shuffle(x, self.patch) if self.patch > 1 else x
        video = (2 * x - 1).unflatten(0, (batch, -1)).transpose(1, 2)
        first = stream is None or self not in stream
        if stream is not None:
            stream[self] = True
        return video[:, :, TRIMMED:] if first else video

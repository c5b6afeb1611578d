"""The causal video VAE of Wan2.1, with the reference's parameter names.

Every operation is written over the whole frame sequence: a 3x3x3 convolution is causal in time (two zero frames in
front, none behind), so that a sequence can be trained in one pass. Handing a `Stream` to `decode` makes the same code
continue where the previous call stopped: each causal convolution keeps its last input frames there, and the frames of
several calls, put together, equal those of one call.

Layouts: video [B, 3, T, H, W] in [-1, 1]; latents [B, z, 1 + (T - 1) / 4, H / 8, W / 8]. Latents here are the plain
encoder mean; normalisation by the per-channel statistics of the package is the caller's business.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Stream = dict  # module -> its last input frames; a new, empty dict begins a new video


class CausalConv3d(nn.Conv3d):
    """3D convolution, spatially 'same', temporally causal: kt - 1 frames of history, zeros where there is none."""

    def __init__(self, in_dim: int, out_dim: int, kernel: int | tuple[int, int, int], stride=1, history: bool = True):
        kt, kh, kw = (kernel,) * 3 if isinstance(kernel, int) else kernel
        super().__init__(in_dim, out_dim, (kt, kh, kw), stride=stride, padding=(0, kh // 2, kw // 2))
        self.history = kt - 1 if history else 0

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        if self.history:
            past = None if stream is None else stream.get(self)
            # Padding keeps channels last in memory where they are; zeros that are put in front would not.
            x = F.pad(x, (0, 0, 0, 0, self.history, 0)) if past is None else torch.cat([past, x], dim=2)
            if stream is not None:
                stream[self] = x[:, :, -self.history :]
        return super().forward(x)


class RMSNorm(nn.Module):
    """y = x / max(|x|, 1e-12) * sqrt(C) * gamma with the norm over channels. x: [N, C, ...].

    Of a bf16 picture only the norms are float32, one number per pixel: `F.normalize` under autocast makes a float32 picture."""

    def __init__(self, dim: int, spatial_dims: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim, *(1,) * spatial_dims))

    def forward(self, x: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=torch.float32).clamp_min(1e-12)
        return x * (x.shape[1] ** 0.5 / norm).to(x.dtype) * self.gamma.to(x.dtype)


class ResidualBlock(nn.Module):
    def __init__(self, in_dim: int, out_dim: int):
        super().__init__()
        self.residual = nn.Sequential(
            RMSNorm(in_dim, 3), nn.SiLU(), CausalConv3d(in_dim, out_dim, 3),
            RMSNorm(out_dim, 3), nn.SiLU(), nn.Identity(), CausalConv3d(out_dim, out_dim, 3),
        )  # fmt: skip
        self.shortcut = CausalConv3d(in_dim, out_dim, 1) if in_dim != out_dim else nn.Identity()

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        return self.shortcut(x) + run(self.residual, x, stream)


class AttentionBlock(nn.Module):
    """Single-head self-attention among the positions of each frame."""

    def __init__(self, dim: int):
        super().__init__()
        self.norm = RMSNorm(dim, 2)
        self.to_qkv = nn.Conv2d(dim, 3 * dim, 1)
        self.proj = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        b, c, t, h, w = x.shape
        y = self.norm(x.transpose(1, 2).reshape(b * t, c, h, w))
        q, k, v = self.to_qkv(y).flatten(2).transpose(1, 2).unsqueeze(1).chunk(3, dim=-1)
        y = F.scaled_dot_product_attention(q, k, v).squeeze(1).transpose(1, 2).reshape(b * t, c, h, w)
        return x + self.proj(y).unflatten(0, (b, t)).transpose(1, 2)


def per_frame(layer: nn.Module, x: Tensor) -> Tensor:
    """Apply a 2D layer to every frame of x [B, C, T, H, W]."""
    b, c, t, h, w = x.shape
    return layer(x.transpose(1, 2).reshape(b * t, c, h, w)).unflatten(0, (b, t)).transpose(1, 2)


class Upsample(nn.Module):
    """Twice the height and width, half the channels; with `temporal` also twice the frames, except for the first one.

    The first frame of a video bypasses `time_conv` and is not part of its history either. The 2C output channels of
    `time_conv` are the even (first half) and odd (second half) frames.
    """

    def __init__(self, dim: int, temporal: bool):
        super().__init__()
        self.resample = nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(dim, dim // 2, 3, padding=1))
        if temporal:
            self.time_conv = CausalConv3d(dim, 2 * dim, (3, 1, 1))

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        if hasattr(self, "time_conv"):
            first, rest = (x[:, :, :1], x[:, :, 1:]) if stream is None or self not in stream else (x[:, :, :0], x)
            if stream is not None:
                stream[self] = True
            if rest.shape[2]:
                pairs = self.time_conv(rest, stream).unflatten(1, (2, -1))  # [B, 2, C, T, H, W]
                rest = pairs.permute(0, 3, 1, 4, 5, 2).flatten(1, 2).permute(0, 4, 1, 2, 3)
                x = torch.cat([first, rest], dim=2)
        return per_frame(self.resample, x)


class Downsample(nn.Module):
    """Half the height and width; with `temporal` also half the frames, except for the first one, which is kept."""

    def __init__(self, dim: int, temporal: bool):
        super().__init__()
        self.resample = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(dim, dim, 3, stride=2))
        if temporal:
            self.time_conv = CausalConv3d(dim, dim, (3, 1, 1), stride=(2, 1, 1), history=False)

    def forward(self, x: Tensor) -> Tensor:
        x = per_frame(self.resample, x)
        if hasattr(self, "time_conv") and x.shape[2] > 1:
            x = torch.cat([x[:, :, :1], self.time_conv(x)], dim=2)
        return x


def run(layers: nn.Sequential, x: Tensor, stream: Stream | None = None) -> Tensor:
    for layer in layers:
        x = layer(x, stream) if isinstance(layer, (CausalConv3d, ResidualBlock, Upsample)) else layer(x)
    return x


def middle(dim: int) -> nn.Sequential:
    return nn.Sequential(ResidualBlock(dim, dim), AttentionBlock(dim), ResidualBlock(dim, dim))


class Encoder(nn.Module):
    def __init__(self, dim: int, z_dim: int, dim_mult: Sequence[int], num_res_blocks: int, temporal_downsample: Sequence[bool]):
        super().__init__()
        dims = [dim] + [dim * m for m in dim_mult]
        self.conv1 = CausalConv3d(3, dim, 3)
        layers: list[nn.Module] = []
        for i, (d_in, d_out) in enumerate(zip(dims, dims[1:])):
            layers += [ResidualBlock(d_in if j == 0 else d_out, d_out) for j in range(num_res_blocks)]
            if i < len(dim_mult) - 1:
                layers.append(Downsample(d_out, temporal_downsample[i]))
        self.downsamples = nn.Sequential(*layers)
        self.middle = middle(dims[-1])
        self.head = nn.Sequential(RMSNorm(dims[-1], 3), nn.SiLU(), CausalConv3d(dims[-1], z_dim, 3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        for layers in (self.downsamples, self.middle, self.head):
            x = run(layers, x)
        return x


class Decoder(nn.Module):
    def __init__(self, dim: int, z_dim: int, dim_mult: Sequence[int], num_res_blocks: int, temporal_upsample: Sequence[bool]):
        super().__init__()
        dims = [dim * m for m in (dim_mult[-1], *dim_mult[::-1])]
        self.conv1 = CausalConv3d(z_dim, dims[0], 3)
        self.middle = middle(dims[0])
        layers: list[nn.Module] = []
        for i, (d_in, d_out) in enumerate(zip(dims, dims[1:])):
            d_in = d_in if i == 0 else d_in // 2
            layers += [ResidualBlock(d_in if j == 0 else d_out, d_out) for j in range(num_res_blocks + 1)]
            if i < len(dim_mult) - 1:
                layers.append(Upsample(d_out, temporal_upsample[i]))
        self.upsamples = nn.Sequential(*layers)
        self.head = nn.Sequential(RMSNorm(dims[-1], 3), nn.SiLU(), CausalConv3d(dims[-1], 3, 3))

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        x = self.conv1(x, stream)
        for layers in (self.middle, self.upsamples, self.head):
            x = run(layers, x, stream)
        return x


class WanVAE(nn.Module):
    def __init__(
        self,
        dim: int = 96,
        z_dim: int = 16,
        dim_mult: Sequence[int] = (1, 2, 4, 4),
        num_res_blocks: int = 2,
        temporal_downsample: Sequence[bool] = (False, True, True),
    ):
        super().__init__()
        self.z_dim = z_dim
        self.encoder = Encoder(dim, 2 * z_dim, dim_mult, num_res_blocks, temporal_downsample)
        self.conv1 = CausalConv3d(2 * z_dim, 2 * z_dim, 1)
        self.conv2 = CausalConv3d(z_dim, z_dim, 1)
        self.decoder = Decoder(dim, z_dim, dim_mult, num_res_blocks, temporal_downsample[::-1])

    def encode_moments(self, video: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the posterior, each [B, z, 1 + (T - 1) / 4, H / 8, W / 8]; T = 1 + 4 n."""
        mean, log_variance = self.conv1(self.encoder(video)).chunk(2, dim=1)
        return mean, log_variance

    def encode(self, video: Tensor) -> Tensor:
        """The posterior mean. Trailing frames that do not fill a group of four are ignored."""
        t = video.shape[2]
        return self.encode_moments(video[:, :, : t - (t - 1) % 4])[0]

    def decode(self, z: Tensor, stream: Stream | None = None) -> Tensor:
        """Video [B, 3, frames, 8 h, 8 w], not clamped: 1 frame for the first latent of a video, 4 for every other."""
        return self.decoder(self.conv2(z), stream)


def channels_last(vae: WanVAE) -> WanVAE:
    """Its kernels with channels last in memory, as pictures come."""
    for p in vae.parameters():
        if p.dim() >= 4:
            p.data = p.data.contiguous(memory_format=torch.channels_last_3d if p.dim() == 5 else torch.channels_last)
    return vae

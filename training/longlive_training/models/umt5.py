"""The UMT5 encoder (pre-norm T5 with one relative position table per layer), with the parameter names of Wan2.1."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class T5Norm(nn.Module):
    """y = x * rsqrt(mean(x^2) + eps) * weight."""

    def __init__(self, dim: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + self.eps).type_as(x) * self.weight


def relative_bucket(relative: Tensor, num_buckets: int, max_distance: int) -> Tensor:
    """Bucket of key position - query position: exact for near positions, logarithmic up to max_distance."""
    half = num_buckets // 2
    exact = half // 2
    distance = relative.abs()
    far = exact + (torch.log(distance.float() / exact) / math.log(max_distance / exact) * (half - exact)).long()
    return (relative > 0).long() * half + torch.where(distance < exact, distance, far.clamp(max=half - 1))


class PositionEmbedding(nn.Module):
    def __init__(self, num_buckets: int, num_heads: int, max_distance: int):
        super().__init__()
        self.max_distance = max_distance
        self.embedding = nn.Embedding(num_buckets, num_heads)

    def forward(self, length: int) -> Tensor:
        """Additive attention bias [heads, queries, keys]."""
        position = torch.arange(length, device=self.embedding.weight.device)
        relative = position[None, :] - position[:, None]
        return self.embedding(relative_bucket(relative, self.embedding.num_embeddings, self.max_distance)).permute(2, 0, 1)


class Attention(nn.Module):
    """Multi-head attention without biases and without the 1/sqrt(d) scale."""

    def __init__(self, dim: int, dim_attn: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.q, self.k, self.v = (nn.Linear(dim, dim_attn, bias=False) for _ in range(3))
        self.o = nn.Linear(dim_attn, dim, bias=False)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        q, k, v = (layer(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype), scale=1.0)
        return self.o(y.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    def __init__(self, dim: int, dim_ffn: int):
        super().__init__()
        self.gate = nn.Sequential(nn.Linear(dim, dim_ffn, bias=False), nn.GELU(approximate="tanh"))
        self.fc1 = nn.Linear(dim, dim_ffn, bias=False)
        self.fc2 = nn.Linear(dim_ffn, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.fc1(x) * self.gate(x))


class Block(nn.Module):
    def __init__(self, dim, dim_attn, dim_ffn, num_heads, num_buckets, max_distance, eps):
        super().__init__()
        self.norm1 = T5Norm(dim, eps)
        self.attn = Attention(dim, dim_attn, num_heads)
        self.norm2 = T5Norm(dim, eps)
        self.ffn = FeedForward(dim, dim_ffn)
        self.pos_embedding = PositionEmbedding(num_buckets, num_heads, max_distance)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x [B, L, dim]; mask bool [B, L], true where a token is."""
        bias = self.pos_embedding(x.shape[1]).masked_fill(~mask[:, None, None, :], torch.finfo(torch.float32).min)
        x = x + self.attn(self.norm1(x), bias)
        return x + self.ffn(self.norm2(x))


class UMT5Encoder(nn.Module):
    def __init__(
        self,
        vocab_size: int,
        dim: int,
        dim_attn: int,
        dim_ffn: int,
        num_heads: int,
        num_layers: int,
        num_buckets: int = 32,
        max_distance: int = 128,
        eps: float = 1e-6,
    ):
        super().__init__()
        self.token_embedding = nn.Embedding(vocab_size, dim)
        self.blocks = nn.ModuleList(
            Block(dim, dim_attn, dim_ffn, num_heads, num_buckets, max_distance, eps) for _ in range(num_layers)
        )
        self.norm = T5Norm(dim, eps)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Embeddings [B, L, dim] of ids [B, L]; rows where the mask [B, L] is 0 are exactly zero."""
        mask = mask.bool()
        x = self.token_embedding(ids)
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x) * mask[..., None]

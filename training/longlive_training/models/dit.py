"""The causal diffusion transformer of LongLive (Wan2.1 layout), with the reference's parameter names.

One set of layers, three ways to attend:

* `forward` with a `KVCache` is inference: frames of one call see each other and what the cache holds. With a
  `GraphCache` the same call can be trained through, which is how roll-outs are trained.
* `teacher_forcing` computes every block of a video in one call, each with exactly the keys that the cache would hold at
  that moment (the sink block, the previous block, itself), at the positions it would see them.
* `bidirectional` lets all frames see each other: the teacher and the critic of distillation.

The network predicts the flow v = eps - x0 at x_t = (1 - sigma) x0 + sigma eps.
Layouts: latents [B, C, F, h, w]; tokens [B, F, S, D] with S = (h / 2) (w / 2) tokens per frame in rows, x fastest.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

KeyValue = tuple[Tensor, Tensor]


def as_it_is(x: Tensor) -> contextlib.AbstractContextManager:
    """Without autocast: norms compute in float32 inside anyway, and autocast would have them write float32, twice the memory traffic."""
    return contextlib.nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)


class RMSNorm(nn.Module):
    """y = x * rsqrt(mean(x^2) + eps) * weight over the whole width (all heads together)."""

    def __init__(self, dim: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        with as_it_is(x):
            return F.rms_norm(x, (x.shape[-1],), self.weight.to(x.dtype), self.eps)


class Rope:
    """Three-axis rotary embedding. Of a head's d / 2 complex pairs (elements 2j, 2j + 1) the first
    d / 2 - 2 floor(d / 6) turn with the frame, the next floor(d / 6) with the row, the rest with the column:
    angle = position * theta^(-2 i / axis dim)."""

    def __init__(self, head_dim: int, theta: float):
        axis = 2 * (head_dim // 6)
        self.axes = (head_dim - 2 * axis, axis, axis)
        self.theta = theta
        self.tables: dict[tuple, Tensor] = {}  # by grid, type and device, for positions 0 ..

    def angles(self, first: int, count: int, h: int, w: int) -> Tensor:
        """float64 [count * h * w, d / 2] for tokens of the frames first .. first + count - 1 on an h x w grid."""
        positions = torch.arange(first, first + count), torch.arange(h), torch.arange(w)
        frequencies = (self.theta ** (-torch.arange(0, n, 2, dtype=torch.float64) / n) for n in self.axes)
        t, y, x = (p.double()[:, None] * f for p, f in zip(positions, frequencies))
        shape = (count, h, w, -1)
        grid = [t[:, None, None].expand(shape), y[None, :, None].expand(shape), x[None, None].expand(shape)]
        return torch.cat(grid, dim=-1).flatten(0, 2)

    @torch.compiler.disable  # a look-up: compiled code takes the result as an input
    def table(self, first: int, count: int, h: int, w: int, like: Tensor) -> Tensor:
        """[count * h * w, 1, d / 2, 2]: (cos, sin) per token and pair, to be given to `rotate`; type and device of `like`."""
        key = (first, count, h, w, like.dtype, like.device)
        if key not in self.tables:
            if len(self.tables) >= 64:  # endless videos with absolute positions never see a table again
                self.tables.clear()
            with torch.inference_mode(False), torch.device("cpu"):
                a = self.angles(first, count, h, w)
                table = torch.stack([a.cos(), a.sin()], dim=-1).to(like.dtype)[:, None]
            self.tables[key] = table.to(like.device)
        return self.tables[key]


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Rotate x [..., tokens, heads, d]: (re + i im)(cos + i sin) per pair."""
    re, im = x.unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = table.unbind(-1)
    return torch.stack([re * cos - im * sin, re * sin + im * cos], dim=-1).flatten(-2)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax attention of [..., tokens, heads, d] tensors, scale 1 / sqrt(d), no mask. Fast kernels, which keep no scores, want four axes."""
    y = F.scaled_dot_product_attention(*(x.flatten(0, -4).transpose(1, 2) for x in (q, k, v)))
    return y.transpose(1, 2).unflatten(0, q.shape[:-3])


def sinusoid(t: Tensor, dim: int) -> Tensor:
    """[cos | sin] of t * 10000^(-i / (dim / 2)), computed in float64. t: [...] -> [..., dim]."""
    half = dim // 2
    angle = t.double()[..., None] * 10000 ** (-torch.arange(half, dtype=torch.float64, device=t.device) / half)
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


class SelfAttention(nn.Module):
    def __init__(self, dim: int, num_heads: int, eps: float):
        super().__init__()
        self.num_heads = num_heads
        self.q, self.k, self.v, self.o = (nn.Linear(dim, dim) for _ in range(4))
        self.norm_q, self.norm_k = RMSNorm(dim, eps), RMSNorm(dim, eps)

    def heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1))

    def forward(self, x: Tensor, mix: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
        """x [B, F, S, D]. `mix` maps q, k (not yet rotated) and v, each [B, F, S, H, d], to the attention output."""
        q, k, v = self.norm_q(self.q(x)), self.norm_k(self.k(x)), self.v(x)
        return self.o(mix(self.heads(q), self.heads(k), self.heads(v)).flatten(-2))


class CrossAttention(SelfAttention):
    def key_value(self, context: Tensor) -> KeyValue:
        """Keys and values [..., L, H, d] of projected text [..., L, D]."""
        return self.heads(self.norm_k(self.k(context))), self.heads(self.v(context))

    def forward(self, x: Tensor, key_value: KeyValue) -> Tensor:
        """x [B, G, tokens, D] attends to text g of its group: keys and values [B, G, L, H, d]."""
        return self.o(attend(self.heads(self.norm_q(self.q(x))), *key_value).flatten(-2))


class Block(nn.Module):
    def __init__(self, dim: int, ffn_dim: int, num_heads: int, eps: float):
        super().__init__()
        self.eps = eps
        self.modulation = nn.Parameter(torch.randn(1, 6, dim) / dim**0.5)
        self.self_attn = SelfAttention(dim, num_heads, eps)
        self.norm3 = nn.LayerNorm(dim, eps)
        self.cross_attn = CrossAttention(dim, num_heads, eps)
        self.ffn = nn.Sequential(nn.Linear(dim, ffn_dim), nn.GELU(approximate="tanh"), nn.Linear(ffn_dim, dim))

    def text(self, context: Tensor) -> KeyValue:
        return self.cross_attn.key_value(context)

    def forward(self, x: Tensor, e0: Tensor, text: KeyValue, mix: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
        """x [B, F, S, D]; e0 [B, F, 6, D]; text: keys and values [B, G, L, H, d], each for F / G frames."""
        shift_a, scale_a, gate_a, shift_f, scale_f, gate_f = (m.unsqueeze(-2) for m in (self.modulation + e0).to(x.dtype).unbind(-2))
        groups = text[0].shape[1]
        x = x + gate_a * self.self_attn(modulate(x, shift_a, scale_a, self.eps), mix)
        with as_it_is(x):
            normed = F.layer_norm(x, x.shape[-1:], self.norm3.weight.to(x.dtype), self.norm3.bias.to(x.dtype), self.eps)
        grouped = normed.unflatten(1, (groups, -1)).flatten(2, 3)
        x = x + self.cross_attn(grouped, text).view_as(x)
        return x + gate_f * self.ffn(modulate(x, shift_f, scale_f, self.eps))


def modulate(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    with as_it_is(x):
        return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=eps), 1 + scale)


class Head(nn.Module):
    def __init__(self, dim: int, out_dim: int, eps: float):
        super().__init__()
        self.eps = eps
        self.modulation = nn.Parameter(torch.randn(1, 2, dim) / dim**0.5)
        self.head = nn.Linear(dim, out_dim)

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        """x [B, F, S, D]; e [B, F, D] is the time embedding before its projection."""
        shift, scale = ((self.modulation + e.unsqueeze(-2)).to(x.dtype).unsqueeze(-3)).unbind(-2)
        return self.head(modulate(x, shift, scale, self.eps))


class KVCache:
    """Keys and values of the sink and of the newest frames, per layer [B, capacity, H, d]; units are tokens.

    `relative` selects where the temporal position comes from: the absolute frame number (keys are stored rotated)
    or the cache slot (keys are stored as they are and rotated in every call, so that videos may be endless).
    """

    def __init__(
        self,
        model: CausalDiT,
        batch: int,
        tokens_per_frame: int,
        window: int,
        sink: int,
        relative: bool,
        dtype: torch.dtype = torch.float32,
    ):
        self.tokens_per_frame, self.window, self.relative = tokens_per_frame, window, relative
        self.capacity, self.sink = window * tokens_per_frame, sink * tokens_per_frame
        heads = model.blocks[0].self_attn.num_heads
        self.global_end = self.local_end = 0  # tokens ever produced; tokens held
        self.allocate((len(model.blocks), batch, self.capacity, heads, model.config["dim"] // heads), dtype, model.device)

    def allocate(self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> None:
        self.k, self.v = torch.zeros(shape, dtype=dtype, device=device), torch.zeros(shape, dtype=dtype, device=device)

    def clear(self) -> None:
        """Forget the content but not the counters (a recache without global sink does this first)."""
        self.k.zero_(), self.v.zero_()

    def begin(self, start: int, n: int, write_sink: bool = False) -> None:
        """Make room for n tokens at absolute position `start`: evict the oldest tokens behind the sink if necessary."""
        end = start + n
        self.recompute = end <= self.global_end and start > 0
        evict = 0
        if end > self.global_end and n + self.local_end > self.capacity:
            evict = n + self.local_end - self.capacity
            self.evict(evict)
        self.local_end += end - self.global_end - evict
        self.global_end = end
        self.slot = self.local_end - n
        protect = self.recompute and not (write_sink and not evict)
        self.write_from = max(self.slot, self.sink) if protect else self.slot

    def evict(self, count: int) -> None:
        kept = slice(self.sink + count, self.local_end)
        for cache in (self.k, self.v):
            cache[:, :, self.sink : self.local_end - count] = cache[:, :, kept].clone()

    def query_position(self, start: int) -> int:
        """The temporal position of the first frame of a call that begins with token `start`."""
        return (self.slot if self.relative else start) // self.tokens_per_frame

    def writer(self, layer: int) -> Callable[[Tensor, Tensor], KeyValue]:
        """A function that writes one call's keys and values [B, n, H, d] and returns all that its queries see."""
        return lambda k, v: self.update(layer, k, v)

    def update(self, layer: int, k: Tensor, v: Tensor) -> KeyValue:
        skip = self.write_from - self.slot
        self.k[layer][:, self.write_from : self.local_end] = k[:, skip:]
        self.v[layer][:, self.write_from : self.local_end] = v[:, skip:]
        recent = max(self.sink, self.local_end - (self.capacity - self.sink))
        if recent <= self.sink:  # nothing between the sink and the newest tokens was left out
            seen = max(self.local_end, self.sink)
            return self.k[layer][:, :seen], self.v[layer][:, :seen]
        return tuple(torch.cat([c[layer][:, : self.sink], c[layer][:, recent : self.local_end]], 1) for c in (self.k, self.v))


class GraphCache(KVCache):
    """A cache that gradients pass through: it never writes in place, so that every call keeps the keys it saw.

    Where a call without gradient overwrites what a call with gradient wrote, the value is the new one and the gradient
    goes to the old one (straight-through). So the loss of later blocks reaches the denoising step that an earlier block
    was taken from, although the keys that they see come from the pass over its clean latents. Call `detach` where the
    graph has to end.
    """

    def allocate(self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> None:
        if self.sink > self.capacity:
            raise ValueError(f"the sink ({self.sink} tokens) must fit into the window ({self.capacity} tokens)")
        layers, batch, _, heads, width = shape
        empty = torch.zeros(batch, 0, heads, width, dtype=dtype, device=device)
        self.k, self.v = [empty] * layers, [empty] * layers

    def clear(self) -> None:
        self.k, self.v = [torch.zeros_like(k) for k in self.k], [torch.zeros_like(v) for v in self.v]

    def detach(self) -> None:
        self.k, self.v = [k.detach() for k in self.k], [v.detach() for v in self.v]

    # What the cache keeps has a graph also where a call without gradient moves or overwrites it.
    @torch.enable_grad()
    def evict(self, count: int) -> None:
        for cache in (self.k, self.v):
            cache[:] = [torch.cat([c[:, : self.sink], c[:, self.sink + count :]], 1) for c in cache]

    def writer(self, layer: int) -> Callable[[Tensor, Tensor], KeyValue]:
        # Gradient checkpointing calls the function once more in the backward pass, when the cache has moved on; so what it
        # reads is taken now, and only the first call writes.
        old, start, skip, first = (self.k[layer], self.v[layer]), self.write_from, self.write_from - self.slot, [True]

        def write(k: Tensor, v: Tensor) -> KeyValue:
            fresh = k[:, skip:], v[:, skip:]
            if first:
                first.clear()
                self.k[layer], self.v[layer] = (overwrite(o, start, n) for o, n in zip(old, fresh))
            return tuple(torch.cat([o[:, :start], n], 1) for o, n in zip(old, fresh))

        return write


@torch.enable_grad()
def overwrite(old: Tensor, start: int, new: Tensor) -> Tensor:
    """[B, n, H, d] with the rows from `start` replaced (or added); replaced rows keep their gradient if the new ones have none."""
    replaced = old[:, start:]
    if replaced.shape == new.shape and replaced.requires_grad and not new.requires_grad:
        new = replaced + (new - replaced).detach()
    return torch.cat([old[:, :start], new.to(old.dtype)], 1)


class CausalDiT(nn.Module):
    def __init__(
        self,
        dim: int,
        ffn_dim: int,
        num_heads: int,
        num_layers: int,
        text_dim: int,
        text_len: int,
        freq_dim: int = 256,
        in_dim: int = 16,
        out_dim: int = 16,
        patch_size: tuple[int, int, int] = (1, 2, 2),
        eps: float = 1e-6,
        rope_theta: float = 10000,
    ):
        super().__init__()
        self.config = {k: v for k, v in locals().items() if k not in ("self", "__class__")}
        self.patch_embedding = nn.Conv3d(in_dim, dim, patch_size, stride=patch_size)
        self.text_embedding = nn.Sequential(nn.Linear(text_dim, dim), nn.GELU(approximate="tanh"), nn.Linear(dim, dim))
        self.time_embedding = nn.Sequential(nn.Linear(freq_dim, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.time_projection = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))
        self.blocks = nn.ModuleList(Block(dim, ffn_dim, num_heads, eps) for _ in range(num_layers))
        self.head = Head(dim, out_dim * patch_size[1] * patch_size[2], eps)
        self.rope = Rope(dim // num_heads, rope_theta)
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Conv3d)):
                nn.init.xavier_uniform_(module.weight.flatten(1))
                nn.init.zeros_(module.bias)
        nn.init.zeros_(self.head.head.weight)
        self.checkpoint = False  # recompute the layers in the backward pass of training to save memory

    @property
    def device(self) -> torch.device:
        return self.patch_embedding.weight.device

    # --- parts ----------------------------------------------------------------------------------------------------

    def patchify(self, latents: Tensor) -> Tensor:
        """[B, C, F, h, w] -> tokens [B, F, S, D]; a token gathers its patch in the order (c, ky, kx)."""
        b, c, f, h, w = latents.shape
        patches = latents.permute(0, 2, 3, 4, 1).reshape(b, f, h // 2, 2, w // 2, 2, c).permute(0, 1, 2, 4, 6, 3, 5)
        weight = self.patch_embedding.weight.flatten(1)
        return F.linear(patches.reshape(b, f, (h // 2) * (w // 2), -1), weight, self.patch_embedding.bias)

    def unpatchify(self, y: Tensor, h: int, w: int) -> Tensor:
        """Head output [B, F, S, 4 C], ordered (ky, kx, c), -> [B, C, F, h, w]."""
        b, f = y.shape[:2]
        y = y.reshape(b, f, h // 2, w // 2, 2, 2, -1).permute(0, 6, 1, 2, 4, 3, 5)
        return y.reshape(b, -1, f, h, w)

    def time(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Timesteps [...] -> time embedding e [..., D] and modulation e0 [..., 6, D]."""
        weight = self.time_embedding[0].weight
        e = self.time_embedding(sinusoid(t, self.config["freq_dim"]).to(weight.dtype))
        return e, self.time_projection(e).unflatten(-1, (6, -1))

    def encode_text(self, text: Tensor) -> list[KeyValue]:
        """Cross-attention keys and values per layer for text [B, G, text_len, text_dim] (zero rows behind the end)."""
        context = self.text_embedding(text)
        return [block.text(context) for block in self.blocks]

    def layer(self, block: Block, x: Tensor, e0: Tensor, text: KeyValue, mix: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
        if self.checkpoint and torch.is_grad_enabled():
            return checkpoint(block, x, e0, text, mix, use_reentrant=False)
        return block(x, e0, text, mix)

    # --- with a cache ---------------------------------------------------------------------------------------------

    def forward(self, latents: Tensor, t: Tensor, text: list[KeyValue], cache: KVCache, start: int = 0, write_sink: bool = False) -> Tensor:
        """Flow [B, C, F, h, w] of frames `start`.. at timesteps t [B, F]; their keys and values enter the cache."""
        h, w = latents.shape[-2:]
        frames, tokens = latents.shape[2], cache.tokens_per_frame
        cache.begin(start * tokens, frames * tokens, write_sink)
        x = self.patchify(latents)
        e, e0 = self.time(t)
        grid = (h // 2, w // 2)
        here = self.rope.table(cache.query_position(start * tokens), frames, *grid, x)
        slots = self.rope.table(0, cache.window, *grid, x) if cache.relative else None
        for i, block in enumerate(self.blocks):

            def mix(q: Tensor, k: Tensor, v: Tensor, write=cache.writer(i)) -> Tensor:  # noqa: B008
                q, k, v = (y.flatten(1, 2) for y in (q, k, v))
                keys, values = write(k if cache.relative else rotate(k, here), v)
                if slots is not None:
                    keys = rotate(keys, slots[: keys.shape[1]])
                return attend(rotate(q, here), keys, values).unflatten(1, (frames, tokens))

            x = self.layer(block, x, e0, text[i], mix)
        return self.unpatchify(self.head(x, e), h, w)

    # --- without a cache ------------------------------------------------------------------------------------------

    def bidirectional(self, latents: Tensor, t: Tensor, text: list[KeyValue]) -> Tensor:
        """Flow [B, C, F, h, w] at timesteps t [B]; every frame sees every frame. text: keys and values [B, 1, L, H, d]."""
        h, w = latents.shape[-2:]
        frames, tokens = latents.shape[2], (h // 2) * (w // 2)
        x = self.patchify(latents)
        e, e0 = (y[:, None].expand(-1, frames, *y.shape[1:]) for y in self.time(t))
        here = self.rope.table(0, frames, h // 2, w // 2, x)

        def mix(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            q, k, v = (y.flatten(1, 2) for y in (q, k, v))
            return attend(rotate(q, here), rotate(k, here), v).unflatten(1, (frames, tokens))

        for block, key_value in zip(self.blocks, text):
            x = self.layer(block, x, e0, key_value, mix)
        return self.unpatchify(self.head(x, e), h, w)

    def teacher_forcing(self, noisy: Tensor, t: Tensor, context: Tensor, text: list[KeyValue], block_frames: int) -> Tensor:
        """Flow of every block of a video in one pass.

        noisy [B, C, N * block_frames, h, w] at timesteps t [B, N]; context: the clean frames of the first N - 1 blocks.
        text: keys and values [B, 2 N - 1, L, H, d] for the N noisy and then the N - 1 clean blocks.
        The window is the sink block, the previous block and the block itself; positions are cache slots.
        """
        b, _, _, h, w = noisy.shape
        n = t.shape[1]
        grid = (h // 2, w // 2)
        x = self.patchify(torch.cat([noisy, context], dim=2))
        e, e0 = (y.repeat_interleave(block_frames, dim=1) for y in self.time(F.pad(t, (0, n - 1))))
        # Only differences of positions matter, so blocks stay at their frame number and the sink moves along.
        here = self.rope.table(0, n * block_frames, *grid, x)
        sinks = here[: (n - 2) * block_frames * grid[0] * grid[1]].unflatten(0, (n - 2, -1)) if n > 2 else None
        here = torch.cat([here, here[: (n - 1) * block_frames * grid[0] * grid[1]]])

        def mix(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            q, k, v = (y.flatten(1, 2) for y in (q, k, v))
            first = k.unflatten(1, (2 * n - 1, -1))[:, min(n, 2 * n - 2)]  # the clean block 0, not rotated
            q, k, v = (y.unflatten(1, (2 * n - 1, -1)) for y in (rotate(q, here), rotate(k, here), v))
            own = {c: [torch.stack([y[:, c], y[:, n + c]], 1) if c < n - 1 else y[:, c : c + 1] for y in (q, k, v)] for c in range(n)}
            out = [None] * (2 * n - 1)
            for c in range(n):
                qc, kc, vc = own[c]
                seen_k, seen_v = [], []
                if c >= 2:
                    seen_k.append(rotate(first, sinks[c - 2]))
                    seen_v.append(v[:, n])
                if c >= 1:
                    seen_k.append(k[:, n + c - 1])
                    seen_v.append(v[:, n + c - 1])
                past_k, past_v = (
                    (torch.cat(s, 1)[:, None].expand(-1, qc.shape[1], -1, -1, -1) for s in (seen_k, seen_v))
                    if c
                    else (kc[:, :, :0], vc[:, :, :0])
                )
                y = attend(qc, torch.cat([past_k, kc], 2), torch.cat([past_v, vc], 2))
                out[c] = y[:, 0]
                if c < n - 1:
                    out[n + c] = y[:, 1]
            return torch.stack(out, 1).flatten(1, 2).unflatten(1, (-1, grid[0] * grid[1]))

        for block, text_kv in zip(self.blocks, text):
            x = self.layer(block, x, e0, text_kv, mix)
        frames = n * block_frames
        return self.unpatchify(self.head(x[:, :frames], e[:, :frames]), h, w)

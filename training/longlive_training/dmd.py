"""Distribution matching distillation: the student's pictures move to where a teacher finds them more likely than a critic does.

Teacher (real score, with classifier-free guidance) and critic (fake score, trained on the student's pictures) are bidirectional
flow models over a whole window at one noise level. With x_t = (1 - sigma) x + sigma eps and x0(x_t) their predictions:

    g      = (x0_critic - x0_teacher) / mean |x - x0_teacher|        (mean per sample)
    loss_G = 0.5 mean (x - stop_gradient(x - g))^2
    loss_C = mean (v_critic - (eps - x))^2
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .loop import Random
from .models.dit import CausalDiT

LOWEST, HIGHEST = 20.0, 980.0  # timesteps


def warp(u: Tensor, shift: float) -> Tensor:
    """Noise levels in 0..1 moved towards 1 by the flow shift."""
    return shift * u / (1 + (shift - 1) * u)


def noise_levels(rng: Random, count: int, shift: float) -> Tensor:
    """Timesteps [count]: uniform over the table of 1000, warped, without the extremes."""
    return (1000 * warp(rng.integers(1000, count) / 1000, shift)).clamp(LOWEST, HIGHEST)


def spread(sigma: Tensor) -> Tensor:
    return sigma.view(-1, 1, 1, 1, 1)


def add_noise(x: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    sigma = spread(t / 1000)
    return (1 - sigma) * x + sigma * eps


def predict_clean(model: CausalDiT, x: Tensor, t: Tensor, text: Tensor) -> Tensor:
    """x0 [B, C, F, h, w] under texts [B, L, dim]."""
    flow = model.bidirectional(x, t, model.encode_text(text[:, None])).float()
    return x - spread(t / 1000) * flow


def guided_clean(model: CausalDiT, x: Tensor, t: Tensor, text: Tensor, negative: Tensor, guidance: float) -> Tensor:
    """x0 with classifier-free guidance: cond + guidance (cond - uncond); negative [1, L, dim]."""
    both = torch.cat([text, negative.expand_as(text)])
    cond, uncond = predict_clean(model, x.repeat(2, 1, 1, 1, 1), t.repeat(2), both).chunk(2)
    return cond + guidance * (cond - uncond)


def gradient(x: Tensor, fake: Tensor, real: Tensor) -> Tensor:
    """The normalised direction g; where it is not a number, zero."""
    scale = (x - real).abs().mean((1, 2, 3, 4), keepdim=True)
    return ((fake - real) / scale).nan_to_num(0, 0, 0)


def generator_loss(x: Tensor, g: Tensor, mask: Tensor) -> Tensor:
    """0.5 mean (x - stop_gradient(x - g))^2 over the frames of the mask [F]; its gradient in x is g / count."""
    target = (x.double() - g.double()).detach()
    error = (x.double() - target).square() * mask.view(1, 1, -1, 1, 1)
    return 0.5 * error.sum() / (mask.sum() * error[:, :, 0].numel())


@dataclass
class Scores:
    teacher: CausalDiT
    critic: CausalDiT
    negative: Tensor  # [1, L, dim]: the text without guidance
    guidance: float
    shift: float

    def distill(self, x: Tensor, mask: Tensor, text: Tensor, rng: Random) -> tuple[Tensor, Tensor]:
        """Loss of the generator whose window x [B, C, F, h, w] was made under texts [B, L, dim], and the size of g."""
        with torch.no_grad():
            t = noise_levels(rng, len(x), self.shift)
            noisy = add_noise(x, rng.normal_like(x), t)
            fake = predict_clean(self.critic, noisy, t, text)
            real = guided_clean(self.teacher, noisy, t, text, self.negative, self.guidance)
            g = gradient(x, fake, real)
        return generator_loss(x, g, mask), g.abs().mean()

    def criticise(self, x: Tensor, mask: Tensor, text: Tensor, rng: Random) -> Tensor:
        """Flow-matching loss of the critic on the student's pictures."""
        x = x.detach()
        t, eps = noise_levels(rng, len(x), self.shift), rng.normal_like(x)
        noisy = add_noise(x, eps, t)
        flow = self.critic.bidirectional(noisy, t, self.critic.encode_text(text[:, None])).float()
        error = (flow - (eps - x)).square() * mask.view(1, 1, -1, 1, 1)
        return error.sum() / (mask.sum() * error[:, :, 0].numel())

    @torch.no_grad()
    def measure(self, x: Tensor, mask: Tensor, text: Tensor, rng: Random) -> dict[str, Tensor]:
        """How well the critic knows the student's pictures, and how far the teacher would move them."""
        t = noise_levels(rng, len(x), self.shift)
        noisy = add_noise(x, rng.normal_like(x), t)
        real = guided_clean(self.teacher, noisy, t, text, self.negative, self.guidance)
        return {"critic": self.criticise(x, mask, text, rng), "distance": (x - real).abs().mean()}

"""Distribution matching against formulas written out by hand."""

import pytest
import torch

from longlive_training.dmd import Scores, add_noise, generator_loss, gradient, guided_clean, noise_levels, predict_clean, warp
from longlive_training.loop import Random
from longlive_training.models.dit import CausalDiT

CPU = torch.device("cpu")


def build(seed: int) -> CausalDiT:
    torch.manual_seed(seed)
    model = CausalDiT(dim=48, ffn_dim=64, num_heads=2, num_layers=1, text_dim=8, text_len=4)
    torch.nn.init.normal_(model.head.head.weight, std=0.1)
    return model


def test_noise_levels_are_warped_towards_noise_and_bounded() -> None:
    t = noise_levels(Random.of(CPU, 1), 20000, 5.0)
    assert t.min() == 20 and t.max() == 980
    u = torch.tensor([0.2, 0.5, 0.75])
    assert torch.allclose(warp(u, 5.0), torch.tensor([1 / 1.8, 2.5 / 3, 0.9375]))
    assert t.median() == pytest.approx(1000 * 5 * 0.5 / 3, abs=8)


def test_the_direction_is_normalised_per_sample_by_the_distance_to_the_teacher() -> None:
    x = torch.zeros(2, 1, 1, 1, 2)
    real = torch.tensor([[2.0, -4.0], [0.5, 0.5]]).view_as(x)
    fake = torch.tensor([[1.0, 1.0], [1.5, 0.5]]).view_as(x)
    expected = torch.tensor([[-1 / 3, 5 / 3], [2.0, 0.0]]).view_as(x)
    assert torch.allclose(gradient(x, fake, real), expected)
    assert torch.equal(gradient(x, fake, x), torch.zeros_like(x)), "no distance, no direction"


def test_the_loss_has_the_direction_as_its_gradient_in_counted_frames_only() -> None:
    x = torch.randn(2, 3, 4, 2, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    g = torch.randn(2, 3, 4, 2, 2, generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([0.0, 0.0, 1.0, 1.0])
    loss = generator_loss(x, g, mask)
    assert loss.dtype == torch.float64
    assert loss.item() == pytest.approx(0.5 * g[:, :, 2:].double().square().mean().item(), rel=1e-6)
    loss.backward()
    assert torch.allclose(x.grad[:, :, 2:], g[:, :, 2:] / g[:, :, 2:].numel(), atol=1e-8) and not x.grad[:, :, :2].any()


def test_both_losses_equal_the_formulas() -> None:
    teacher, critic = build(1), build(2)
    text, negative = torch.randn(2, 4, 8), torch.zeros(1, 4, 8)
    x, mask = torch.randn(2, 16, 3, 4, 6), torch.tensor([0.0, 1.0, 1.0])
    scores = Scores(teacher, critic, negative, 3.0, 5.0)
    loss, size = scores.distill(x, mask, text, Random.of(CPU, 3))
    rng = Random.of(CPU, 3)
    t = noise_levels(rng, 2, 5.0)
    eps, sigma = rng.normal(2, 16, 3, 4, 6), (t / 1000).view(2, 1, 1, 1, 1)
    noisy = (1 - sigma) * x + sigma * eps

    def clean(model: CausalDiT, words: torch.Tensor) -> torch.Tensor:
        return noisy - sigma * model.bidirectional(noisy, t, model.encode_text(words[:, None]))

    with torch.no_grad():
        cond, uncond = clean(teacher, text), clean(teacher, negative.expand(2, -1, -1))
        real = uncond + 4.0 * (cond - uncond)  # a weight of 3 beyond the condition is 4 from the other side
        g = (clean(critic, text) - real) / (x - real).abs().mean((1, 2, 3, 4), keepdim=True)
    assert loss.item() == pytest.approx(0.5 * g[:, :, 1:].square().mean().item(), rel=1e-4)
    assert size.item() == pytest.approx(g.abs().mean().item(), rel=1e-4)
    assert torch.allclose(guided_clean(teacher, noisy, t, text, negative, 3.0), real, atol=1e-4)

    critic_loss = scores.criticise(x, mask, text, Random.of(CPU, 4))
    rng = Random.of(CPU, 4)
    t, eps = noise_levels(rng, 2, 5.0), rng.normal(2, 16, 3, 4, 6)
    flow = critic.bidirectional(add_noise(x, eps, t), t, critic.encode_text(text[:, None]))
    assert critic_loss.item() == pytest.approx((flow - (eps - x))[:, :, 1:].square().mean().item(), rel=1e-5)
    critic_loss.backward()
    assert critic.head.head.weight.grad.abs().max() > 0 and teacher.head.head.weight.grad is None


def test_a_true_flow_gives_back_the_clean_picture() -> None:
    model = build(5)
    x, eps, t = torch.randn(1, 16, 3, 4, 6), torch.randn(1, 16, 3, 4, 6), torch.tensor([700.0])
    model.bidirectional = lambda *_: eps - x  # type: ignore[method-assign]
    assert torch.allclose(predict_clean(model, add_noise(x, eps, t), t, torch.zeros(1, 4, 8)), x, atol=1e-5)

import torch

from longlive_training.muon import Muon, orthogonal


def test_orthogonal_updates_have_singular_values_near_one() -> None:
    for shape in ((16, 200), (64, 30)):
        values = torch.linalg.svdvals(orthogonal(torch.randn(shape, generator=torch.Generator().manual_seed(0))))
        assert 0.6 < values.min() and values.max() < 1.3


def test_muon_solves_a_linear_regression() -> None:
    torch.manual_seed(0)
    target, x = torch.randn(8, 12), torch.randn(12, 64)
    weight = torch.nn.Parameter(torch.zeros(8, 12))
    optimiser = Muon([weight], lr=0.1)
    for i in range(300):
        optimiser.param_groups[0]["lr"] = 0.1 * (1 - i / 300)
        optimiser.zero_grad()
        ((weight - target) @ x).square().mean().backward()
        optimiser.step()
    assert (weight - target).abs().max() < 0.1

import torch

from longlive_training.muon import Muon, orthogonal


def test_orthogonal_updates_have_singular_values_near_one() -> None:
    for shape in ((16, 200), (64, 30)):
        values = torch.linalg.svdvals(orthogonal(torch.randn(shape, generator=torch.Generator().manual_seed(0))))
        assert 0.6 < values.min() and values.max() < 1.3


def test_weights_of_one_shape_are_updated_as_each_alone() -> None:
    torch.manual_seed(0)
    shapes = [(6, 4, 3, 3), (6, 4, 3, 3), (4, 4, 1, 1), (6, 4, 3, 3)]
    together = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    alone = [torch.nn.Parameter(p.detach().clone()) for p in together]
    optimisers = [Muon(together, lr=0.1), *(Muon([p], lr=0.1) for p in alone)]
    for _ in range(3):
        for p, q in zip(together, alone):
            p.grad = torch.randn(p.shape)
            q.grad = p.grad.clone()
        for optimiser in optimisers:
            optimiser.step()
    assert all(torch.allclose(p, q, atol=1e-5) for p, q in zip(together, alone))


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

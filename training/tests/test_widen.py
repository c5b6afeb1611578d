"""Networks that are widened compute what they computed, and learn with all they have."""

import pytest
import torch

from longlive_training.models.dit import CausalDiT
from longlive_training.models.vae import WanVAE
from longlive_training.widen import widened_dit, widened_vae


def vae(seed: int, **settings) -> WanVAE:
    torch.manual_seed(seed)
    model = WanVAE(**({"dim": 4, "z_dim": 3, "dim_mult": (1, 2, 4, 4), "num_res_blocks": 1} | settings))
    for name, p in model.named_parameters():
        torch.nn.init.normal_(p, 1 if "gamma" in name else 0, 0.3)
    return model


@pytest.mark.parametrize("dim_mult", [(1, 2, 4, 4), (1, 2, 6, 6), (1, 2, 5, 8), (1, 3, 4, 6)])
def test_a_widened_vae_computes_the_same_and_all_of_it_learns(dim_mult: tuple[int, ...]) -> None:
    narrow, wide = vae(0), vae(1, z_dim=5, dim_mult=dim_mult)
    wide.load_state_dict(widened_vae(narrow.state_dict(), wide))
    video = torch.rand(1, 3, 9, 16, 24) * 2 - 1
    mean, log_variance = narrow.encode_moments(video)
    more, more_variance = wide.encode_moments(video)
    assert torch.allclose(more[:, :3], mean, atol=1e-4) and torch.allclose(more_variance[:, :3], log_variance, atol=1e-4)
    assert not more[:, 3:].any()
    assert torch.allclose(wide.decode(more), narrow.decode(mean), atol=1e-4)
    (wide.decode(more) - video).square().mean().backward()
    without = {n for n, p in wide.named_parameters() if p.grad is None or not p.grad.any()}
    assert without <= {"decoder.middle.1.to_qkv.bias", "encoder.middle.1.to_qkv.bias"}
    new = wide.encoder.head[2].weight.grad[3:5]
    assert new.abs().max() > 1e-3 * wide.encoder.head[2].weight.grad.abs().max()


def test_a_vae_of_the_same_size_is_kept_as_it_is() -> None:
    state, other = vae(0).state_dict(), vae(1)
    assert all(torch.equal(tensor, state[name]) for name, tensor in widened_vae(state, other).items())


def test_a_place_that_vanishes_is_told() -> None:
    with pytest.raises(ValueError, match="no place for: decoder.upsamples.3.shortcut"):
        widened_vae(vae(0).state_dict(), vae(1, dim_mult=(1, 2, 4, 8)))


def test_a_dit_for_more_channels_predicts_the_same_for_those_it_knew() -> None:
    torch.manual_seed(0)
    settings = {"dim": 48, "ffn_dim": 64, "num_heads": 2, "num_layers": 1, "text_dim": 8, "text_len": 4}
    narrow, wide = CausalDiT(**settings, in_dim=4, out_dim=4), CausalDiT(**settings, in_dim=6, out_dim=6)
    torch.nn.init.normal_(narrow.head.head.weight, std=0.1)
    torch.nn.init.normal_(narrow.head.head.bias, std=0.1)
    wide.load_state_dict(widened_dit(narrow.state_dict(), wide))
    x, t, text = torch.randn(2, 6, 3, 4, 6), torch.tensor([500.0, 20.0]), torch.randn(2, 1, 4, 8)
    flow = wide.bidirectional(x, t, wide.encode_text(text))
    assert torch.allclose(flow[:, :4], narrow.bidirectional(x[:, :4], t, narrow.encode_text(text)), atol=1e-6) and not flow[:, 4:].any()
    same = widened_dit(narrow.state_dict(), narrow)
    assert all(torch.equal(tensor, same[name]) for name, tensor in narrow.state_dict().items())

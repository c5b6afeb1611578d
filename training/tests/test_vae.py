import pytest
import torch

from golden import assert_close, golden, with_prefix
from longlive_training.models.vae import WanVAE


@pytest.fixture(scope="module")
def vae() -> WanVAE:
    meta, weights = golden("weights_vae")
    config = {k: meta["config"][k] for k in ("dim", "z_dim", "dim_mult", "num_res_blocks", "temporal_downsample")}
    model = WanVAE(**config).eval()
    model.load_state_dict(with_prefix(weights, "weights."), strict=True)
    return model


def statistics(meta: dict) -> tuple[torch.Tensor, torch.Tensor]:
    mean, std = (torch.tensor(meta["config"][k]) for k in ("latent_mean", "latent_std"))
    return mean.view(1, -1, 1, 1, 1), std.view(1, -1, 1, 1, 1)


@torch.inference_mode()
def test_decodes_as_the_reference(vae: WanVAE) -> None:
    meta, t = golden("vae_decode")
    mean, std = statistics(meta)
    z = t["inputs.latents"].transpose(1, 2) * std + mean
    assert_close(vae.decode(z), t["outputs.full_unclamped"])


@torch.inference_mode()
def test_streamed_decoding_has_no_seam(vae: WanVAE) -> None:
    meta, t = golden("vae_decode")
    mean, std = statistics(meta)
    z = t["inputs.latents"].transpose(1, 2) * std + mean
    for sizes in ([3, 2], [1, 1, 1, 2], [2, 3]):
        stream: dict = {}
        parts = [vae.decode(part, stream) for part in z.split(sizes, dim=2)]
        assert parts[0].shape[2] == 1 + 4 * (sizes[0] - 1) and parts[1].shape[2] == 4 * sizes[1]
        assert_close(torch.cat(parts, dim=2), t["outputs.full_unclamped"])


@torch.inference_mode()
@pytest.mark.parametrize("case", ["vae_encode_9f", "vae_encode_17f"])
def test_encodes_as_the_reference(vae: WanVAE, case: str) -> None:
    meta, t = golden(case)
    latents = vae.encode(t["inputs.pixels"])
    mean, std = statistics(meta)
    assert_close(((latents - mean) / std).transpose(1, 2), t["outputs.latents"])


@torch.inference_mode()
def test_trailing_frames_that_fill_no_group_are_ignored(vae: WanVAE) -> None:
    video = torch.randn(1, 3, 11, 16, 16)
    assert torch.equal(vae.encode(video), vae.encode(video[:, :, :9]))

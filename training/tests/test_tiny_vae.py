import pytest
import torch

from golden import assert_close, golden, with_prefix
from longlive_training.models.tiny_vae import TinyVAE


@torch.inference_mode()
def test_decodes_as_the_reference() -> None:
    meta, tensors = golden("taehv_decode")
    config = meta["config"]
    model = TinyVAE(config["decoder_channels"], config["latent_channels"], config["time_upscale"]).eval()
    weights = with_prefix(tensors, "weights.")
    own = model.state_dict()
    # Only the last rows of a stored layer of growth count.
    model.load_state_dict({k: v[-own[k].shape[0] :] for k, v in weights.items() if k in own}, strict=True)
    video = (model.decode(tensors["inputs.latents"].transpose(1, 2)) + 1) / 2
    expected = tensors["outputs.decoded"].transpose(1, 2)
    assert_close(video, expected[:, :, -video.shape[2] :])


@pytest.mark.parametrize(("patch", "transposed"), [(1, False), (2, False), (2, True)])
@torch.inference_mode()
def test_streams_without_a_seam(patch: int, transposed: bool) -> None:
    torch.manual_seed(1)
    model = TinyVAE([16, 12, 8, 8], 6, patch=patch, transposed=transposed).eval()
    z = torch.randn(2, 6, 5, 3, 4)
    whole = model.decode(z)
    assert whole.shape == (2, 3, 17, 24, 32)
    for sizes in ([3, 2], [1, 1, 1, 2]):
        stream: dict = {}
        parts = [model.decode(part, stream) for part in z.split(sizes, dim=2)]
        assert_close(torch.cat(parts, 2), whole)

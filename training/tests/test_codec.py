import numpy as np
import pytest
import torch

from longlive_training.codec import Codec, patches
from longlive_training.data import render_story, sample_story


@pytest.fixture(scope="module")
def videos() -> list[np.ndarray]:
    return [render_story(sample_story(np.random.default_rng([s, 1]), 2), s) for s in range(6)]


@pytest.fixture(scope="module")
def codec(videos) -> Codec:
    return Codec.fit(torch.cat([patches(v).flatten(0, 2) for v in videos[:5]]))


def test_patches_keep_the_order_of_time_rows_and_columns() -> None:
    video = np.zeros((5, 16, 24, 3), np.uint8)
    video[3, 9, 18, 1] = 255  # frame 3 is the third of the second group
    p = patches(video)
    assert p.shape == (2, 2, 3, 768)
    assert (p == 1).nonzero().tolist() == [[1, 1, 2, ((2 * 8 + 1) * 8 + 2) * 3 + 1]]


def test_latents_are_standardised(codec, videos) -> None:
    latents = torch.cat([codec.encode(v).flatten(1) for v in videos[:5]], dim=1)
    assert torch.allclose(latents.mean(1), torch.zeros(16), atol=1e-3) and torch.allclose(latents.std(1), torch.ones(16), atol=1e-3)


def test_further_components_lie_behind_those_there_are(codec, videos) -> None:
    samples = torch.cat([patches(v).flatten(0, 2) for v in videos[:5]])
    wide = codec.extended(samples, 20)
    assert torch.equal(wide.first(16).encode(videos[5]), codec.encode(videos[5]))
    assert torch.allclose(wide.basis.T @ wide.basis, torch.eye(20), atol=1e-4)
    further = wide.encode(videos[0])[16:]
    assert further.shape[0] == 4 and 0.2 < further.std() < 3
    with pytest.raises(ValueError, match="the codec has 20 components, not 21"):
        wide.first(21)


def test_an_unseen_video_survives(codec, videos, tmp_path) -> None:
    codec.save(tmp_path / "codec.safetensors")
    video = videos[5]
    latents = Codec.load(tmp_path / "codec.safetensors").encode(video)
    assert latents.shape == (16, 1 + (len(video) - 1) // 4, 14, 24)
    again = codec.decode(latents)
    assert again.shape == video.shape
    assert -10 * np.log10((((again.astype(np.float32) - video) / 255) ** 2).mean()) > 19

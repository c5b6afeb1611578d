import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from longlive_training.codec import Codec, patches
from longlive_training.models.vae import WanVAE
from longlive_training.train_vae import CONFIG, Clips, Muon, make_clip, orthogonal, picture_loss, psnr, to_tensor


@pytest.fixture(scope="module")
def codec() -> Codec:
    rng = np.random.default_rng(0)
    return Codec.fit(torch.cat([patches(make_clip(rng)).flatten(0, 2) for _ in range(4)]))


def test_crops_and_their_latents_belong_together(codec: Codec) -> None:
    clips = Clips(codec, np.random.default_rng(1), size=3)
    for _ in range(9):
        videos, latents = clips.batch(2)
        for video, z in zip(videos, latents):
            frames = ((video.permute(1, 2, 3, 0) + 1) * 127.5).round().to(torch.uint8).numpy()
            assert torch.allclose(codec.encode(frames), z, atol=1e-4)
    assert len(clips.pool) == 3


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


def test_losses_measure_the_error() -> None:
    x = torch.rand(1, 3, 2, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert picture_loss(x, x) == 0 and picture_loss(x + 0.1, x) > 0.1
    assert psnr(torch.zeros(4), torch.full((4,), 0.2)) == pytest.approx(20)


@pytest.mark.parametrize("part", ["decoder", "encoder"])
def test_a_short_run_writes_a_loadable_vae_and_goes_on_where_it_stopped(part: str, codec: Codec, tmp_path: Path) -> None:
    codec.save(tmp_path / "codec.safetensors")
    command = [sys.executable, "-m", "longlive_training.train_vae", part, "--codec", tmp_path / "codec.safetensors",
               "--run", tmp_path, "--batch", "1", "--validation", "1", "--minutes"]  # fmt: skip
    root = Path(__file__).parent.parent
    subprocess.run([*command, "0.02"], check=True, cwd=root)
    weights = load_file(tmp_path / "vae.safetensors")
    WanVAE(**CONFIG).load_state_dict(weights, strict=True)
    stats = json.loads((tmp_path / "stats.json").read_text())
    assert stats["mean"] == [0.0] * 16 and stats["std"] == [1.0] * 16
    assert stats["steps" if part == "decoder" else "encoderSteps"] >= 1
    frozen = "encoder." if part == "decoder" else "decoder."
    before = {k: v for k, v in weights.items() if k.startswith(frozen)}
    subprocess.run([*command, "0.02"], check=True, cwd=root)
    after = load_file(tmp_path / "vae.safetensors")
    assert all(torch.equal(v, after[k]) for k, v in before.items())
    assert to_tensor(np.zeros((1, 2, 2, 3), np.uint8)).max() == -1

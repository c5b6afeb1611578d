"""What a run begins with when it goes on from a package."""

from dataclasses import replace
from pathlib import Path

import torch

from longlive_training.codec import Codec
from longlive_training.config import load
from longlive_training.context import Context
from longlive_training.start import start

POCKET = Path(__file__).parents[2] / "models/pocket"


def test_every_network_of_the_package_is_there_as_if_its_stage_were_done(tmp_path: Path) -> None:
    codec = Path(__file__).parents[1] / "configs/pocket-0.8/codec.safetensors"
    start(POCKET, codec, tmp_path)
    preset, stages = load("pocket-0.8", "cpu")
    context = Context(preset, "pocket-0.8", tmp_path, torch.device("cpu"), 0)
    assert context.codec().basis.shape == (768, preset.vae.z_dim)
    for stage, name in (("text", "text_encoder"), ("vae", "vae"), ("causal", "dit")):
        assert context.need(stage, f"{name}.safetensors").read_bytes() == (POCKET / f"{name}.safetensors").read_bytes()
    assert context.given(stages["vae"].init).exists()
    assert context.embedder()(context.embedder().tokens(["a red fox"])).isfinite().all()


def test_latents_have_as_many_channels_as_the_preset_says(tmp_path: Path) -> None:
    preset = load("smoke", "cpu")[0]
    wide = replace(preset, vae=replace(preset.vae, z_dim=24))
    model = Context(wide, "smoke", tmp_path, torch.device("cpu"), 0).dit(wide.student, "student")
    assert model.config["in_dim"] == model.config["out_dim"] == 24
    assert Codec.fit(torch.randn(400, 768), 24).basis.shape == (768, 24)

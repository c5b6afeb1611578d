"""Export of a package with random weights, and PyTorch inference of it."""

import hashlib
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from longlive_training import export
from longlive_training.inference import Package
from longlive_training.models.dit import CausalDiT
from longlive_training.models.umt5 import UMT5Encoder
from longlive_training.models.vae import WanVAE
from longlive_training.sample import Sampling
from longlive_training.tokenizer import train

DIT = {"dim": 192, "ffn_dim": 768, "num_heads": 3, "num_layers": 6, "text_dim": 128, "text_len": 64}
TEXT = {"dim": 128, "dim_attn": 128, "dim_ffn": 256, "num_heads": 4, "num_layers": 2, "num_buckets": 32, "max_distance": 128, "eps": 1e-6}
VAE = {"dim": 8, "z_dim": 16, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2, "temporal_downsample": [False, True, True]}
VIDEO = {"width": 192, "height": 112, "fps": 16}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    run, out = tmp_path_factory.mktemp("run"), tmp_path_factory.mktemp("package")
    torch.manual_seed(0)
    tokenizer = train(["a red fox runs through the snow at night"] * 20, 600)
    tokenizer.save(str(out / "tokenizer.json"))
    save_file(UMT5Encoder(tokenizer.get_vocab_size(), **TEXT).state_dict(), run / "text_encoder.safetensors")
    dit = CausalDiT(**DIT)
    torch.nn.init.normal_(dit.head.head.weight, std=0.02)
    save_file(dit.state_dict(), run / "dit.safetensors")
    save_file(WanVAE(8).state_dict(), run / "vae.safetensors")
    settings = export.config(tokenizer.get_vocab_size(), VAE, [0.1] * 16, [2.0] * 16, DIT, TEXT, Sampling(window_frames=9, rope="relative"), VIDEO)
    parts = {part: run / f"{part}.safetensors" for part in ("dit", "text_encoder", "vae")}
    export.write_package(out, parts, settings, "0.1.0", name="small", title="Small", description="Random weights.")
    return out


def test_manifest_lists_every_file_with_its_hash(folder) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    assert set(manifest["files"]) == {p.name for p in folder.iterdir()} - {"manifest.json", "README.md"}
    for name, entry in manifest["files"].items():
        data = (folder / name).read_bytes()
        assert entry == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def test_config_has_the_documented_keys(folder) -> None:
    config = json.loads((folder / "config.json").read_text())
    assert set(config) == {"formatVersion", "dit", "textEncoder", "vae", "tinyVae", "sampling", "video"}
    assert set(config["dit"]) == {"dim", "ffnDim", "numHeads", "numLayers", "freqDim", "inDim", "outDim", "textDim", "textLen",
                                  "patchSize", "eps", "ropeTheta", "ropeTableLength"}  # fmt: skip
    assert set(config["textEncoder"]) == {"vocabSize", "dim", "dimAttn", "dimFfn", "numHeads", "numLayers", "numBuckets", "maxDistance", "eps"}
    assert set(config["vae"]) == {"dim", "zDim", "dimMult", "numResBlocks", "temporalDownsample", "mean", "std"}
    assert set(config["sampling"]) == {"framesPerBlock", "windowFrames", "sinkFrames", "rope", "globalSink", "timestepShift",
                                       "denoisingSteps", "warpDenoisingSteps", "contextNoise"}  # fmt: skip


def test_matrices_are_bf16_and_vectors_f32(folder) -> None:
    dit = load_file(folder / "dit.safetensors")
    assert dit["blocks.0.ffn.0.weight"].dtype == torch.bfloat16 and dit["blocks.0.modulation"].dtype == torch.float32
    assert dit["blocks.0.self_attn.norm_q.weight"].dtype == torch.float32


def test_chunks_have_the_frames_of_their_blocks_and_follow_seed_and_prompt(folder) -> None:
    package = Package(folder, torch.float32)

    def video(prompts, seed=0):
        return [c.frames for c in package.generate(prompts, 3, seed)]

    first = video([(0, "a red fox")])
    assert [c.shape for c in first] == [(9, 112, 192, 3), (12, 112, 192, 3), (12, 112, 192, 3)]
    again, other, switched = video([(0, "a red fox")]), video([(0, "a red fox")], 1), video([(0, "a red fox"), (2, "a blue car")])
    assert all(np.array_equal(a, b) for a, b in zip(first, again))
    assert not np.array_equal(first[0], other[0])
    assert np.array_equal(first[1], switched[1]) and not np.array_equal(first[2], switched[2])


def test_times_fall_on_the_next_block(folder) -> None:
    package = Package(folder)
    assert [package.block_at(s) for s in (0, 9 / 16, 0.6, 21 / 16, 10)] == [0, 1, 2, 2, 14]

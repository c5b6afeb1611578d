"""The DiT trainer on random latents: it learns, saves and continues."""

import argparse

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from longlive_training import train_dit
from longlive_training.codec import Codec
from longlive_training.data import sample_story, to_indices
from longlive_training.models.umt5 import UMT5Encoder
from longlive_training.tokenizer import train
from longlive_training.train_text import CONFIG as TEXT


@pytest.fixture
def args(tmp_path, monkeypatch):
    monkeypatch.setattr(train_dit, "CONFIG", train_dit.CONFIG | {"dim": 64, "num_heads": 1, "ffn_dim": 64, "num_layers": 1})
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    text, clips, beginnings = tmp_path / "text", tmp_path / "clips", tmp_path / "beginnings"
    text.mkdir(), clips.mkdir(), beginnings.mkdir()
    tokenizer = train(["a red fox runs through the snow at night"] * 20, 600)
    tokenizer.save(str(text / "tokenizer.json"))
    save_file(UMT5Encoder(tokenizer.get_vocab_size(), **TEXT).state_dict(), text / "text_encoder.safetensors")
    stories = torch.stack([to_indices(sample_story(rng)) for _ in range(4)])
    latents, fixed = torch.randn(4, 16, 15, 14, 24).half() * 0.1, torch.tensor([0, 1, 0, 1], dtype=torch.uint8)
    save_file({"latents": latents, "attributes": stories, "fixed": fixed}, clips / "0.safetensors")
    save_file({"latents": latents[:, :, :3].contiguous(), "attributes": stories[:, :1].contiguous(), "fixed": torch.ones(4, dtype=torch.uint8)}, beginnings / "0.safetensors")
    Codec(torch.zeros(768), torch.eye(768, 16), torch.linspace(4, 1, 16)).save(tmp_path / "codec.safetensors")
    return argparse.Namespace(clips=clips, beginnings=beginnings, init=None, codec=tmp_path / "codec.safetensors", text=text, out=tmp_path / "dit", minutes=0.05, batch=1, first=0.5,
                              first_batch=2, lr=2e-3, weight_decay=0.01, ema=0.9, context_noise=0.2, self_forcing=0.0, rollout=0.5, compile=False, seed=0)  # fmt: skip


def test_a_run_saves_and_a_second_one_continues(args) -> None:
    trainer = train_dit.Trainer(args)
    before = trainer.model.state_dict()["patch_embedding.weight"].clone()
    trainer.run()
    assert trainer.step > 1 and not torch.equal(before, trainer.model.state_dict()["patch_embedding.weight"])
    assert all(torch.isfinite(p).all() for p in trainer.average.parameters())
    again = train_dit.Trainer(args)
    assert again.step == trainer.step
    saved = load_file(args.out / "dit.safetensors")
    assert all(torch.equal(saved[k], v) for k, v in again.average.state_dict().items())
    assert "blocks_seen" in (args.out / "dit.json").read_text()


def test_the_subject_and_strong_components_weigh_more() -> None:
    codec = Codec(torch.zeros(768), torch.eye(768, 16), torch.linspace(4, 1, 16))
    w = train_dit.loss_weights(codec)
    assert w.shape == (16, 1, 14, 24) and abs(w.mean() - 1) < 1e-5
    assert w[0, 0, 8, 10] > w[0, 0, 0, 0] > w[15, 0, 0, 0]


def test_blocks_at_a_switch_count_twice_and_beginnings_elsewhere_do_not() -> None:
    stories = torch.tensor([[[0, 1], [0, 1], [2, 1], [2, 1], [2, 1]]] * 2)
    weight = train_dit.block_weights(stories, torch.tensor([True, False]))
    assert weight.tolist() == [[1, 1, 2, 2, 1], [0, 1, 2, 2, 1]]

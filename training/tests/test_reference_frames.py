"""bench/reference_frames.py: that it draws the native core's noise, in the reference's order, and writes what the service reads."""

import json
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
from reference_frames import Noise, gaussian, write_safetensors  # noqa: E402


# Printed by native/ops/noise.h.
@pytest.mark.parametrize(
    ("seed", "block", "step", "index", "values"),
    [
        (1, 0, 0, 0, [0.380400747, -0.296277881, -0.249233425, -1.00383723]),
        (2, 0, 2, 77777, [-0.0616168603, -0.237502038, -1.50695074, -0.245883852]),
        (0x123456789ABCDEF, 3, 2, 77777, [-1.33710063, 0.224961787, -0.174323916, -1.23820519]),
    ],
)
def test_noise_is_the_native_cores(seed, block, step, index, values):
    drawn = gaussian(4 * index + 4, seed, block, step)[4 * index :]
    assert (drawn == np.array(values, np.float32)).all()


def test_noise_replaces_what_the_reference_draws_behind_each_step():
    like = torch.zeros(3, 4, 2, 2)
    original = torch.randn_like
    with Noise(torch, seed=5, steps=4):
        drawn = [torch.randn_like(like) for _ in range(4)]
    assert torch.randn_like is original
    places = [(0, 1), (0, 2), (0, 3), (1, 1)]
    for values, (block, step) in zip(drawn, places, strict=True):
        assert (values.numpy().reshape(-1) == gaussian(48, 5, block, step)).all()


def test_films_are_safetensors(tmp_path):
    films = {"plain": np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3), "other": np.zeros((1, 2, 2, 3), np.uint8)}
    write_safetensors(tmp_path / "films", films, "a test")
    data = (tmp_path / "films").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    assert header["__metadata__"] == {"made": "a test"}
    assert header["plain.frames"] == {"dtype": "U8", "shape": [2, 2, 2, 3], "data_offsets": [0, 24]}
    assert data[8 + length :] == bytes(range(24)) + bytes(12)

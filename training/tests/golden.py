"""Reading of the golden cases: `NAME.safetensors` with its `NAME.json`, from test/golden at the repository root."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = [Path(p) for p in (os.environ.get("LONGLIVE_GOLDEN"), ROOT / "test/golden", ROOT.parent / "shared/golden") if p]


def golden(name: str) -> tuple[dict, dict[str, torch.Tensor]]:
    for folder in FOLDERS:
        if (folder / f"{name}.safetensors").exists():
            return json.loads((folder / f"{name}.json").read_text()), load_file(folder / f"{name}.safetensors")
    pytest.skip(f"no golden case {name}")


def with_prefix(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}


def assert_close(actual: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-4) -> None:
    """max|a - b| / max|b| below the tolerance: the measure the golden data is published with."""
    assert actual.shape == expected.shape
    error = ((actual - expected).abs().max() / expected.abs().max()).item()
    assert error < tolerance, f"relative error {error:.2e}"

"""The whole recipe at its smallest: every stage trains, is repeatable, goes on, and the package runs in the native core."""

import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from golden import ROOT
from longlive_training import run
from longlive_training.config import load
from longlive_training.context import Context
from longlive_training.export import InvalidPackage, validate
from longlive_training.inference import Package
from longlive_training.loop import Loop
from longlive_training.parity import record
from longlive_training.stages import STAGES
from longlive_training.stages.export import SPARE_ROWS


@pytest.fixture(scope="session")
def smoke(tmp_path_factory) -> Path:
    """A run in a process of its own, as a user would start it."""
    out = tmp_path_factory.mktemp("smoke")
    command = [sys.executable, "-m", "longlive_training.run", "--preset", "smoke", "--device", "cpu", "--threads", "1", "--out", out]
    subprocess.run(command, check=True, cwd=ROOT / "training", timeout=900, env=os.environ | {"OMP_NUM_THREADS": "1"})
    return out


def report(smoke: Path, stage: str) -> dict:
    return json.loads((smoke / stage / "report.json").read_text())


def state(smoke: Path, stage: str, name: str) -> dict:
    return torch.load(smoke / stage / f"{name}.state.pt", weights_only=False)


@pytest.mark.parametrize(
    ("stage", "name", "loss", "share"),
    [("vae", "decoder", "loss", 0.8), ("vae", "encoder", "loss", 0.85), ("text", "text", "classify", 0.95), ("text", "text", "contrast", 0.8),
     ("teacher", "teacher", "loss", 0.9), ("causal", "causal", "first blocks", 0.92), ("ode", "ode", "loss", 0.6)],
)  # fmt: skip
def test_losses_go_down(smoke: Path, stage: str, name: str, loss: str, share: float) -> None:
    """The mean of the last third against that of the first: single steps jump with their noise levels. Of the causal student only
    while it works from true pictures: what it makes itself is harder, so the loss rises when that begins."""
    until = getattr(load("smoke", "cpu")[1][stage], "own_from", math.inf)
    curve = [row[loss] for row in state(smoke, stage, name)["curve"] if loss in row and row["step"] <= until]
    third = len(curve) // 3
    first, last = np.mean(curve[:third]), np.mean(curve[-third:])
    assert np.isfinite(curve).all() and last < share * first, f"{loss} of {stage}: {first:.4f} -> {last:.4f}"


@pytest.mark.parametrize(("stage", "share"), [("distill", 0.97), ("long", 0.99)])
def test_critics_learn_the_pictures_of_their_student(smoke: Path, stage: str, share: float) -> None:
    """The same noise before and after: distillation's losses follow two moving models and cannot be compared over time."""
    probes = report(smoke, stage)["probes"]
    assert probes["after"]["critic"] < share * probes["before"]["critic"], probes
    assert np.isfinite([row["generator"] for row in state(smoke, stage, stage)["curve"] if "generator" in row]).all()


def test_every_stage_leaves_a_report_and_its_curves(smoke: Path) -> None:
    preset, stages = load("smoke", "cpu")
    for name in stages:
        made = report(smoke, name)
        assert made["stage"] == name and made["wallSeconds"] >= 0 and made["device"].startswith("CPU")
        assert made["config"]["seed"] == preset.seed and made["config"]["preset"]["video"]["width"] == 96
    for stage, name in (("vae", "decoder"), ("vae", "encoder"), *((s, s) for s in ("text", "teacher", "causal", "ode", "distill", "long"))):
        assert (smoke / stage / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_distillation_changes_the_student_and_long_tuning_only_through_its_adapter(smoke: Path) -> None:
    before, after, tuned = (load_file(smoke / stage / "dit.safetensors") for stage in ("ode", "distill", "long"))
    assert set(before) == set(after) == set(tuned)
    assert not torch.equal(before["head.head.weight"], after["head.head.weight"])
    assert torch.equal(after["head.head.weight"], tuned["head.head.weight"])
    adapter = load_file(smoke / "long" / "lora.safetensors")
    stem = "base_model.model.blocks.1.ffn.2"
    product = adapter[f"{stem}.lora_B.weight"] @ adapter[f"{stem}.lora_A.weight"]
    assert product.abs().max() > 0
    assert torch.allclose(tuned["blocks.1.ffn.2.weight"], after["blocks.1.ffn.2.weight"] + product, atol=1e-6)


def test_the_package_is_valid_and_makes_video(smoke: Path) -> None:
    folder = smoke / "export" / "smoke"
    assert validate(folder) == report(smoke, "export")["parameters"]
    chunks = list(Package(folder, torch.float32).generate([(0, "a red fox"), (1, "a blue car at night")], 2))
    assert [c.frames.shape for c in chunks] == [(9, 64, 96, 3), (12, 64, 96, 3)] and chunks[1].switched
    assert min(report(smoke, "export")["latentPsnr"].values()) > 20
    assert "| distill | 60 |" in (folder / "README.md").read_text()


def test_the_package_cuts_texts_before_the_rows_are_full(smoke: Path) -> None:
    package = Package(smoke / "export" / "smoke", torch.float32)
    rows = package.text(["a fox that nobody has words for, " * 20])[0]
    assert rows.shape[0] - int(rows.any(1).sum()) == SPARE_ROWS


@pytest.mark.parametrize("damage", ["byte", "tensor", "file"])
def test_a_damaged_package_is_refused(smoke: Path, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "package"
    shutil.copytree(smoke / "export" / "smoke", folder)
    if damage == "byte":
        data = bytearray((folder / "vae.safetensors").read_bytes())
        data[-1] ^= 1
        (folder / "vae.safetensors").write_bytes(data)
        message = "vae.safetensors is not the file that manifest.json lists"
    elif damage == "tensor":
        config = json.loads((folder / "config.json").read_text())
        config["dit"]["ffnDim"] = 100
        text = json.dumps(config)
        (folder / "config.json").write_text(text)
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["files"]["config.json"] = {"bytes": len(text), "sha256": hashlib.sha256(text.encode()).hexdigest()}
        (folder / "manifest.json").write_text(json.dumps(manifest))
        message = r'tensor "blocks.0.ffn.0.bias" has the shape \[96\], config.json describes \[100\]'
    else:
        (folder / "extra.txt").write_text("")
        message = "differ in extra.txt"
    with pytest.raises(InvalidPackage, match=message):
        validate(folder)


def test_the_native_core_computes_the_same(smoke: Path, tmp_path: Path) -> None:
    binary = ROOT / "native" / "build" / "parity"
    if not binary.exists():
        if os.environ.get("CI"):
            pytest.fail("native/build/parity is missing: run make -C native parity")
        pytest.skip("native/build/parity is not built")
    record(Package(smoke / "export" / "smoke", torch.float32), tmp_path, 5, 2)
    result = subprocess.run([binary, tmp_path, "--threads", "1"], capture_output=True, text=True)
    assert result.returncode == 0 and "PASS" in result.stdout, result.stdout + result.stderr


def context(folder: Path) -> Context:
    preset = load("smoke", "cpu")[0]
    return Context(preset, "smoke", folder, torch.device("cpu"), preset.seed)


def rerun(smoke: Path, folder: Path, stage: str, monkeypatch, stop_after: int | None = None) -> dict[str, torch.Tensor]:
    """A stage made anew from the results before it, interrupted and gone on with if asked for."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for earlier in ("world", "text", "teacher", "ode", "distill"):
        if earlier != stage:
            os.symlink(smoke / earlier, folder / earlier)
    settings = load("smoke", "cpu")[1][stage]
    if stop_after:
        original = Loop.run
        with monkeypatch.context() as patched:
            patched.setattr(Loop, "run", lambda self, step: original(self, step, stop_after))
            STAGES[stage](context(folder), settings)
    STAGES[stage](context(folder), settings)
    torch.set_num_threads(threads)
    return load_file(folder / stage / "dit.safetensors")


@pytest.mark.parametrize(("stage", "stop_after"), [("distill", None), ("long", 25)])
def test_stages_repeat_bit_for_bit_also_after_an_interruption(
    smoke: Path, tmp_path: Path, monkeypatch, stage: str, stop_after: int | None
) -> None:
    made = rerun(smoke, tmp_path, stage, monkeypatch, stop_after)
    for name, tensor in load_file(smoke / stage / "dit.safetensors").items():
        assert torch.equal(made[name], tensor), name


def test_finished_stages_are_left_out_and_other_settings_are_refused(smoke: Path, capsys) -> None:
    run.main(["--preset", "smoke", "--device", "cpu", "--out", str(smoke)])
    assert capsys.readouterr().out.count("done before") == 10
    with pytest.raises(SystemExit, match="made with another configuration or seed"):
        run.main(["--preset", "smoke", "--device", "cpu", "--out", str(smoke), "--seed", "8"])


def test_mistakes_on_the_command_line_are_told(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match='no stage "later"; its stages are world'):
        run.main(["--preset", "smoke", "--stage", "later", "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match="run stage world first"):
        run.main(["--preset", "smoke", "--stage", "text", "--device", "cpu", "--out", str(tmp_path)])

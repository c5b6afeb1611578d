import shutil
from pathlib import Path

import pytest

from longlive_training.config import CONFIGS, ConfigError, load


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(CONFIGS / "smoke", tmp_path / "smoke")
    return tmp_path


def edit(folder: Path, file: str, old: str, new: str) -> None:
    path = folder / "smoke" / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


@pytest.mark.parametrize("preset", ["smoke", "pocket", "pocket-0.8", "pocket-0.9", "pocket-0.9.1", "pocket-0.9.2", "pocket-long", "pocket-tiny", "wan-1.3b"])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_presets_of_the_repository_are_valid(preset: str, device: str) -> None:
    shared, stages = load(preset, device)
    assert list(stages) == shared.stages
    assert {p.stem for p in (CONFIGS / preset).glob("*.toml")} == {"preset", *shared.stages}


def test_a_gpu_takes_the_values_of_the_cuda_table() -> None:
    (cpu, on_cpu), (gpu, on_gpu) = (load("pocket", device) for device in ("cpu", "cuda"))
    assert (cpu.teacher.dim, gpu.teacher.dim, gpu.teacher.num_layers) == (192, 384, 8) and gpu.video == cpu.video
    assert on_gpu["distill"].loop.batch > on_cpu["distill"].loop.batch
    assert on_gpu["distill"].loop.lr == on_cpu["distill"].loop.lr
    minutes = sum(getattr(s, k).minutes for s in on_gpu.values() for k in ("loop", "decoder", "encoder") if hasattr(s, k))
    assert minutes <= 24, "all stages have to fit in 25 minutes"


def test_films_are_whole_blocks() -> None:
    with pytest.raises(ConfigError, match=r'tiny.toml: key "frames" must be a multiple of the block of 3 latent frames where there are films, found 11'):
        load("pocket-tiny", "cpu", settings=["tiny.frames=11"])


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("vae.toml", "crop = 4", "corp = 4", r'vae.toml: unknown key "corp"; known keys are decoder, encoder, joint, init, init_share, frames, crop'),
        ("vae.toml", "[decoder]\n", "[decoder]\nstep = 40\n", r'vae.toml: \[decoder\]: unknown key "step"'),
        ("vae.toml", "\n[encoder]\nsteps = 48\nbatch = 2\nlr = 0.02\nwarmup = 4\nlog_every = 4", "", r'vae.toml: a VAE that begins from nothing needs the tables "decoder" and "encoder", or "joint"'),
        ("vae.toml", "[encoder]", "[joint]", r'vae.toml: \[joint\] makes latents of its own: preset.toml needs latents = "encoder"'),
        ("preset.toml", "text_len", 'latents = "encoder"\ntext_len', r'key "stages": clips made by the encoder come after the stage "vae"'),
        ("preset.toml", "text_len", 'latents = "pixels"\ntext_len', r'key "latents" must be "codec" or "encoder", found "pixels"'),
        ("ode.toml", "pairs = 8\n", "", r'ode.toml: key "pairs" is missing'),
        ("teacher.toml", "warmup = 5", 'warmup = "5"', r"""teacher.toml: \[loop\]: key "warmup" must be int, found '5'"""),
        ("teacher.toml", "warmup = 5", "warmup = true", r'key "warmup" must be int, found True'),
        ("teacher.toml", "lr = 3e-3", "lr = -1", r'key "lr" must not be negative'),
        ("teacher.toml", "steps =", "minutes = 0 #", r'one of the keys "steps" and "minutes" must be above 0'),
        ("long.toml", "chunk = 6", "chunk = 7", r'long.toml: key "chunk" must be a multiple of the block of 3 latent frames, found 7'),
        ("long.toml", "\nchunk = 6", "\nchunk = 12", r'long.toml: key "window" must lie between "chunk" and "first_chunk", found 9'),
        ("long.toml", "ratio = 3", 'ratio = 3\nprompts = "x.txt"', r'the keys "prompts" and "switch_prompts" go together'),
        ("preset.toml", "width = 96", "width = 100", r'preset.toml: \[video\]: key "width" must be a multiple of 16, found 100'),
        ("preset.toml", '"ode", ', '"odd", ', r'key "stages" names the unknown stage "odd"'),
        ("vae.toml", "crop = 4", "init_share = 0.5\ncrop = 4", r'vae.toml: key "init_share" must be below 1, and "init" name the weights'),
        ("causal.toml", "own_from", "init_share = 0.5\nown_from", r'causal.toml: key "init_share" must be below 1, and "init" name the weights'),
        ("preset.toml", "window_frames = 9", "window_frames = 12", r"causal.toml: teacher forcing is written for a window of sink"),
        ("preset.toml", "[video]", "video = 3\n[vide]", r'preset.toml: unknown key "vide"'),
        ("preset.toml", "num_layers = 2", "num_layers = ", r"preset.toml: not valid TOML"),
    ],
)
def test_errors_name_file_and_key(folder: Path, file: str, old: str, new: str, message: str) -> None:
    edit(folder, file, old, new)
    with pytest.raises(ConfigError, match=message):
        load("smoke", "cpu", folder)


def test_values_can_be_replaced_on_the_command_line(folder: Path) -> None:
    preset, stages = load("smoke", "cpu", folder, ["preset.vae.z_dim=20", "vae.decoder.steps=3", 'vae.init="a"'])
    assert preset.vae.z_dim == 20 and preset.vae.dim == 8
    assert (stages["vae"].decoder.steps, stages["vae"].decoder.batch, stages["vae"].init) == (3, 2, "a")
    for text, message in (
        ("vae.decoder=", r"--set vae.decoder=: not valid TOML"),
        ("vea.crop=3", r'--set changes the unknown stage "vea"; there are preset, world'),
        ("vae.corp=3", r'vae.toml: unknown key "corp"'),
    ):
        with pytest.raises(ConfigError, match=message):
            load("smoke", "cpu", folder, [text])


def test_a_missing_preset_or_file_is_named(folder: Path) -> None:
    with pytest.raises(ConfigError, match='no preset "big"; there are smoke'):
        load("big", "cpu", folder)
    (folder / "smoke" / "ode.toml").unlink()
    with pytest.raises(ConfigError, match="ode.toml is missing"):
        load("smoke", "cpu", folder)

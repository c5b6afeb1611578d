"""Configuration of a recipe: `configs/<preset>/preset.toml` and one TOML file per stage.

Every key is a field of a dataclass here; an unknown key, a missing one or a value of the wrong type is an error that names
file and key. A table `[cuda]` in a stage's file replaces values where training runs on a GPU.
"""

from __future__ import annotations

import dataclasses
import tomllib
import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .sample import Sampling

CONFIGS = Path(__file__).parent.parent / "configs"


class ConfigError(ValueError):
    """A configuration file that cannot be used; the message names file and key."""


@dataclass(frozen=True)
class Loop:
    """How a training loop runs: until `steps`, or as many steps as `minutes` allow (see loop.py)."""

    steps: int = 0
    minutes: float = 0.0
    batch: int = 1
    lr: float = 1e-3
    betas: list[float] = field(default_factory=lambda: [0.9, 0.99])
    weight_decay: float = 0.01
    warmup: int = 0  # steps of linear warm-up
    cooldown: float = 0.0  # share of the steps at the end over which the rate falls to 2 %
    clip: float = 1.0  # gradient norm
    ema: float = 0.0  # decay of the averaged weights; 0: no average
    log_every: int = 50  # steps
    save_seconds: float = 60.0


@dataclass(frozen=True)
class Dit:
    dim: int
    ffn_dim: int
    num_heads: int
    num_layers: int


@dataclass(frozen=True)
class TextEncoder:
    dim: int
    dim_attn: int
    dim_ffn: int
    num_heads: int
    num_layers: int
    num_buckets: int = 32
    max_distance: int = 128
    eps: float = 1e-6


@dataclass(frozen=True)
class Vae:
    dim: int
    z_dim: int = 16
    dim_mult: list[int] = field(default_factory=lambda: [1, 2, 4, 4])
    num_res_blocks: int = 2
    temporal_downsample: list[bool] = field(default_factory=lambda: [False, True, True])


@dataclass(frozen=True)
class Video:
    width: int
    height: int
    fps: int = 16


@dataclass(frozen=True)
class Preset:
    """What all stages share."""

    title: str
    stages: list[str]
    video: Video
    student: Dit
    teacher: Dit
    text_encoder: TextEncoder
    vae: Vae
    critic: Dit | None = None  # default: as the teacher
    package: str = ""  # a model package that gives tokenizer, text encoder, VAE and generator instead of stages
    sampling: Sampling = field(default_factory=Sampling)
    text_len: int = 128
    vocab_size: int = 1024
    seed: int = 0
    latents: str = "codec"  # what they are made by: the linear "codec", or the VAE's "encoder", which stage vae trains with the decoder then
    precision: str = "fp32"  # or "bf16": autocast; weights stay float32
    checkpoint: bool = False  # recompute the layers of the DiTs in the backward pass
    compile: bool = False  # torch.compile of what trains: the VAE's residual blocks, passes over whole windows
    gpus: int = 1  # that the dry run reckons with

    def latent_size(self) -> tuple[int, int]:
        return self.video.height // 8, self.video.width // 8


@dataclass(frozen=True)
class WorldStage:
    """Codec and tokenizer."""

    codec_stories: int = 40
    captions: int = 20000


@dataclass(frozen=True)
class ClipsStage:
    """Rendered and encoded clips for teacher and causal student."""

    scenes: int  # clips of one scene, for the teacher
    stories: int  # clips with prompt switches, for the causal student
    beginnings: int  # first blocks of so many scenes, for it too
    films: int = 0  # longer stories, for the roll-outs of the causal student
    scene_frames: int = 21  # latent frames
    lead_in: float = 0.3  # share of the scenes that begin with another one and its change, as a window after a switch does
    shard: int = 40
    background: bool = False  # let the following stages begin before it is done
    workers: int = 0  # processes; 0: one per core


@dataclass(frozen=True)
class VaeStage:
    decoder: Loop | None = None  # a half without a table stays as it is in `init`
    encoder: Loop | None = None
    joint: Loop | None = None  # both halves together: the latents leave the linear code (needs `latents = "encoder"` in preset.toml)
    init: str = ""  # weights to start from, perhaps of fewer channels (widen.py); a path in the folder of results
    init_share: float = 0.0  # of these in the mean of the weights before and after training that is kept
    frames: int = 6  # latent frames of a clip
    crop: int = 8  # latent pixels; every sixteenth batch is of whole pictures. 0: all are
    pool: int = 240  # rendered clips kept; each batch renders `fresh` new ones
    fresh: float = 0.5  # per step
    validation: int = 6
    latent_noise: float = 0.08
    anchor: float = 0.02  # in the joint loss, of the squared distance between the encoder's latents and the codec's
    square_weight: float = 1.0  # in the decoder's loss, of squared errors
    change_weight: float = 0.5  # in the decoder's loss, of how much changes from frame to frame
    late_change_weight: float = 5.0  # from step `late_from` on, when pictures are sharp enough to ask for it
    late_from: int = 1000
    watch: int = 0  # every so many steps the averaged weights are tried on two whole clips; 0: never
    workers: int = 0


@dataclass(frozen=True)
class TinyStage:
    """The tiny decoder, distilled from what the encoder saw (stages/tiny.py)."""

    loop: Loop
    channels: list[int]
    patch: int = 1  # or 2: the last layer gives squares of pixels
    transposed: bool = False  # stages double the picture by transposed convolutions
    frames: int = 12  # latent frames of a clip
    window: int = 9  # of them in a step
    lead: int = 3  # of these do not count where a window begins within a clip
    crop: list[int] = field(default_factory=lambda: [12, 16])  # height and width of a window, latent pixels
    margin: int = 1  # latent pixels that do not count where a window cuts a picture
    pool: int = 48  # clips to begin with; each step brings `fresh` more, until there are `clips`
    fresh: float = 0.1
    clips: int = 400
    film_every: int = 0  # one clip in so many is a film by the native core: the student's latents, and what the full decoder makes of them
    latent_noise: float = 0.04
    square_weight: float = 20.0
    change_weight: float = 5.0
    validation: int = 6
    watch: int = 0  # every so many steps the averaged weights are tried on two whole clips; 0: never
    workers: int = 0


@dataclass(frozen=True)
class TextStage:
    loop: Loop


@dataclass(frozen=True)
class TeacherStage:
    loop: Loop
    drop_text: float = 0.1  # share of captions replaced by the empty one, for classifier-free guidance
    init: str = ""  # weights to start from; a path in the folder of results


@dataclass(frozen=True)
class CausalStage:
    loop: Loop
    from_teacher: bool = True  # start from the teacher's weights (equal shapes only)
    init: str = ""  # weights to start from instead; a path in the folder of results
    init_share: float = 0.0  # of these in the mean of the weights before and after training that is kept
    first: float = 0.3  # share of the steps that train first blocks only
    first_batch: int = 9
    context_noise: float = 0.2
    own_from: int = 3000  # step from which the model works from what it makes itself
    rollout: float = 0.3  # share of the steps that are roll-outs from then on
    films: bool = False  # roll-outs go on through the films of stage clips, `BLOCKS` blocks a step, instead of through one story each
    subject_weight: float = 2.5  # in the loss, of latents where the world draws its subject
    switch_weight: float = 2.0  # in the loss, of blocks in which something changes and of those that follow one


@dataclass(frozen=True)
class OdeStage:
    loop: Loop
    pairs: int  # trajectories of the teacher
    pair_batch: int = 8
    frames: int = 21
    euler_steps: int = 48
    guidance: float = 3.0


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """What distribution matching needs; the loop's rate is the generator's."""

    loop: Loop
    critic_lr: float
    guidance: float = 3.0  # x_real = cond + guidance (cond - uncond)
    ratio: int = 5  # iterations per generator update
    init: str = ""  # weights of generator, teacher and critic, paths in the folder of results; default: those of the stages before
    teacher_init: str = ""
    critic_init: str = ""
    prompts: str = ""  # text files, one prompt per line, paired line by line; default: captions of the world
    switch_prompts: str = ""
    negative_prompt: str = ""


@dataclass(frozen=True, kw_only=True)
class DistillStage(Distillation):
    """Self-Forcing: roll-outs of one window each."""

    frames: int = 21
    critic_warmup: int = 0  # first iterations that train the critic only


@dataclass(frozen=True, kw_only=True)
class LongStage(Distillation):
    """Streaming long tuning."""

    window: int = 21  # latent frames of the loss
    first_chunk: int = 21
    chunk: int = 18
    max_frames: int = 240
    last_switch: int = 201  # latest latent frame of a prompt switch
    rank: int = 256
    alpha: float = 256.0
    fresh_critic: bool = (
        False  # begin with the teacher's weights, as the published run began with its base model's, instead of the last critic
    )


@dataclass(frozen=True)
class ExportStage:
    name: str
    version: str = "0.1.0"
    description: str = "A LongLive model of a drawn side-view world, trained from scratch."
    introduction: list[str] = field(default_factory=list)  # lines of the model card
    eight_bit: bool = True  # its decoder may convolve in 8 bits on a CPU (docs/decisions/0045)
    weaknesses: list[str] = field(default_factory=list)  # what the card says it does badly
    blocks: int = 4  # of the roll-out that compares precisions
    judge: bool = True  # run longlive_training.evaluate on the package
    cases: int = 24


STAGES: dict[str, type] = {"world": WorldStage, "clips": ClipsStage, "vae": VaeStage, "tiny": TinyStage, "text": TextStage, "teacher": TeacherStage,
                           "causal": CausalStage, "ode": OdeStage, "distill": DistillStage, "long": LongStage, "export": ExportStage}  # fmt: skip


def parse(kind: type, table: dict[str, Any], where: str) -> Any:
    """A dataclass from a TOML table. `where` is how errors name the place."""
    hints = typing.get_type_hints(kind)
    fields = {f.name: f for f in dataclasses.fields(kind)}
    for key in table:
        if key not in fields:
            raise ConfigError(f'{where}: unknown key "{key}"; known keys are {", ".join(fields)}')
    values = {}
    for name, f in fields.items():
        if name in table:
            values[name] = value_of(hints[name], table[name], where, name)
        elif f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
            raise ConfigError(f'{where}: key "{name}" is missing')
    return kind(**values)


def value_of(kind: Any, value: Any, where: str, key: str) -> Any:
    if isinstance(kind, types.UnionType):  # X | None
        kind = typing.get_args(kind)[0]
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise ConfigError(f'{where}: "{key}" must be a table, found {value!r}')
        return parse(kind, value, f"{where}: [{key}]")
    if isinstance(kind, types.GenericAlias):
        (item,) = typing.get_args(kind)
        if not isinstance(value, list):
            raise ConfigError(f'{where}: key "{key}" must be a list, found {value!r}')
        return [value_of(item, v, where, key) for v in value]
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise ConfigError(f'{where}: key "{key}" must be {kind.__name__}, found {value!r}')
    if kind in (int, float) and value < 0:
        raise ConfigError(f'{where}: key "{key}" must not be negative, found {value!r}')
    return value


def merge(table: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """`table` with the values of `other`, table by table."""
    return table | {k: merge(table[k], v) if isinstance(v, dict) and isinstance(table.get(k), dict) else v for k, v in other.items()}


def read(path: Path, device: str) -> dict[str, Any]:
    try:
        table = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise ConfigError(f"{path} is missing") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    override = table.pop("cuda", {})
    if not isinstance(override, dict):
        raise ConfigError(f'{path}: "cuda" must be a table, found {override!r}')
    return merge(table, override) if device == "cuda" else table


def load(preset: str, device: str, folder: Path = CONFIGS, settings: Iterable[str] = ()) -> tuple[Preset, dict[str, Any]]:
    """The preset and the configuration of each of its stages. `settings`: TOML that replaces values, as `vae.joint.minutes = 2` or
    `preset.vae.z_dim = 32`."""
    changes: dict[str, Any] = {}
    for text in settings:
        try:
            changes = merge(changes, tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"--set {text}: not valid TOML: {error}") from None
    root = folder / preset
    if not root.is_dir():
        known = sorted(p.name for p in folder.iterdir() if p.is_dir())
        raise ConfigError(f'there is no preset "{preset}"; there are {", ".join(known)}')
    path = root / "preset.toml"
    shared = parse(Preset, merge(read(path, device), changes.pop("preset", {})), str(path))
    check(shared, str(path))
    stages = {}
    for name in shared.stages:
        if name not in STAGES:
            raise ConfigError(f'{path}: key "stages" names the unknown stage "{name}"; there are {", ".join(STAGES)}')
        path_of = root / f"{name}.toml"
        stages[name] = parse(STAGES[name], merge(read(path_of, device), changes.pop(name, {})), str(path_of))
        check_stage(stages[name], shared, str(path_of))
    if changes:
        raise ConfigError(f'--set changes the unknown stage "{next(iter(changes))}"; there are preset, {", ".join(stages)}')
    return shared, stages


def check(preset: Preset, where: str) -> None:
    def require(condition: bool, message: str) -> None:
        if not condition:
            raise ConfigError(f"{where}: {message}")

    for key in ("width", "height"):
        value = getattr(preset.video, key)
        require(value > 0 and value % 16 == 0, f'[video]: key "{key}" must be a multiple of 16, found {value}')
    require(preset.latents in ("codec", "encoder"), f'key "latents" must be "codec" or "encoder", found "{preset.latents}"')
    order = [name for name in preset.stages if name in ("vae", "clips")]
    require(preset.latents == "codec" or order != ["clips", "vae"], 'key "stages": clips made by the encoder come after the stage "vae"')
    require(preset.precision in ("fp32", "bf16"), f'key "precision" must be "fp32" or "bf16", found "{preset.precision}"')
    require(
        preset.sampling.rope in ("absolute", "relative"),
        f'[sampling]: key "rope" must be "absolute" or "relative", found "{preset.sampling.rope}"',
    )
    for name in ("student", "teacher"):
        dit = getattr(preset, name)
        require(dit.dim % (2 * dit.num_heads) == 0, f'[{name}]: key "dim" must be a multiple of twice "num_heads"')
    s = preset.sampling
    require(s.sink_frames + s.frames_per_block <= s.window_frames, '[sampling]: key "window_frames" must hold the sink and a block')


def check_stage(stage: Any, preset: Preset, where: str) -> None:
    block = preset.sampling.frames_per_block
    for key in () if isinstance(stage, TinyStage) else ("frames", "first_chunk", "chunk", "max_frames", "last_switch"):
        value = getattr(stage, key, None)
        if value is not None and isinstance(value, int) and (value <= 0 or value % block):
            raise ConfigError(f'{where}: key "{key}" must be a multiple of the block of {block} latent frames, found {value}')
    if isinstance(stage, VaeStage):
        if not (stage.init or stage.joint or (stage.decoder and stage.encoder)):
            raise ConfigError(f'{where}: a VAE that begins from nothing needs the tables "decoder" and "encoder", or "joint"')
        if stage.joint and preset.latents != "encoder":
            raise ConfigError(f'{where}: [joint] makes latents of its own: preset.toml needs latents = "encoder"')
    if isinstance(stage, ClipsStage) and stage.background and preset.latents == "encoder":
        raise ConfigError(f'{where}: key "background": clips made by the encoder have to wait for it')
    if isinstance(stage, TinyStage):
        if stage.film_every and stage.frames % block:
            raise ConfigError(f'{where}: key "frames" must be a multiple of the block of {block} latent frames where there are films, found {stage.frames}')
    if isinstance(stage, (VaeStage, CausalStage)) and stage.init_share and not (stage.init_share < 1 and stage.init):
        raise ConfigError(f'{where}: key "init_share" must be below 1, and "init" name the weights')
    if isinstance(stage, LongStage) and not stage.chunk <= stage.window <= stage.first_chunk:
        raise ConfigError(f'{where}: key "window" must lie between "chunk" and "first_chunk", found {stage.window}')
    if isinstance(stage, (CausalStage, OdeStage)):
        s = preset.sampling
        if (s.window_frames, s.sink_frames, s.rope) != (3 * block, block, "relative"):
            raise ConfigError(
                f'{where}: teacher forcing is written for a window of sink, one block and the block itself with "rope" relative'
            )
    if isinstance(stage, LongStage) and bool(stage.prompts) != bool(stage.switch_prompts):
        raise ConfigError(f'{where}: the keys "prompts" and "switch_prompts" go together')
    for key in ("loop", "decoder", "encoder", "joint"):
        loop = getattr(stage, key, None)
        if loop is not None and not (loop.steps or loop.minutes):
            raise ConfigError(f'{where}: [{key}]: one of the keys "steps" and "minutes" must be above 0')

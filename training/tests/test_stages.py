"""Parts of the stages that the smoke run alone would not pin down."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from longlive_training.codec import Codec, patches
from longlive_training.config import load
from longlive_training.context import Context
from longlive_training.data import from_indices, held_out
from longlive_training.loop import Loop, OutOfTime, Random, mixed
from longlive_training.models.dit import CausalDiT
from longlive_training.quantize import int8, rounded
from longlive_training.rollout import Rollout
from longlive_training.sample import Sampling
from longlive_training.stages.causal import Batch, Telling, darkness, picture_weights
from longlive_training.stages.clips import Renderer, Shard, ahead, clips, encode_there
from longlive_training.stages.ode import kept_steps, path
from longlive_training.stages.vae import Pool, batch, encode, encoder, make_clip, picture_loss, psnr, seam, to_videos, vae
from longlive_training.world import ATTRIBUTES, render, subject_box

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec.fit(torch.cat([patches(make_clip((0, i), 9, 96, 64)).flatten(0, 2) for i in range(4)]))


def context(folder: Path) -> Context:
    return Context(load("smoke", "cpu")[0], "smoke", folder, CPU, 7)


def test_videos_are_coded_on_the_device_as_by_the_codec(codec: Codec) -> None:
    clip = make_clip((1,), 9, 96, 64)
    video = torch.from_numpy(clip).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    assert torch.allclose(encode(codec, video)[0], codec.encode(clip), atol=1e-4)


def test_crops_and_their_latents_belong_together(codec: Codec, tmp_path: Path) -> None:
    pool = Pool(context(tmp_path), replace(load("smoke", "cpu")[1]["vae"], pool=3), 0)
    for crop, step, size in ((4, 0, (2, 3, 9, 32, 32)), (4, 15, (1, 3, 9, 64, 96)), (0, 0, (2, 3, 9, 64, 96))):
        videos, latents = batch(pool, codec, Random.of(CPU, 1), 2, crop, step)
        assert videos.shape == size and torch.allclose(encode(codec, videos), latents)
        assert videos.is_contiguous(memory_format=torch.channels_last_3d)


def test_a_pool_that_begins_later_is_the_pool_that_was_there(tmp_path: Path) -> None:
    settings = replace(load("smoke", "cpu")[1]["vae"], pool=4, fresh=0.5)
    grown = Pool(context(tmp_path), settings, 0)
    for step in range(1, 8):
        grown.advance(step)
    begun = Pool(context(tmp_path), settings, 7)
    assert torch.equal(grown.videos, begun.videos) and grown.done == begun.done == 7


def test_a_model_may_keep_a_share_of_what_it_was() -> None:
    kept = mixed({"a": torch.tensor([0.0, 8.0])}, {"a": torch.tensor([4.0, 0.0])}, 0.25)
    assert kept["a"].tolist() == [3.0, 2.0]


def test_clips_hold_no_held_out_scene_and_do_not_depend_on_the_number_of_workers(codec: Codec, tmp_path: Path) -> None:
    renderer = Renderer(96, 64, 9, 0.5, 3)
    for index in range(6):
        scene, story = renderer.scene(index), renderer.story(index)
        assert scene["video"].shape == (33, 64, 96, 3) and scene["attributes"].shape == (1, 6)
        assert story["video"].shape == (57, 64, 96, 3) and story["attributes"].shape == (5, 6)
        assert not any(held_out(from_indices(row)) for row in (*scene["attributes"], *story["attributes"]))
        assert story["fixed"] in (0, 1) and not held_out(from_indices(renderer.beginning(index)["attributes"][0]))
        again = renderer.scene(index)
        assert all(torch.equal(scene[k], again[k]) for k in scene)
    film = renderer.film(0)
    assert film["video"].shape == (177, 64, 96, 3) and film["attributes"].shape == (15, 6)
    assert not any(held_out(from_indices(row)) for row in film["attributes"])
    codec.save(tmp_path / "codec.safetensors")
    encode_there(renderer, tmp_path / "codec.safetensors", 12, Shard("story", tmp_path / "shard.safetensors", range(4, 6)))
    shard = load_file(tmp_path / "shard.safetensors")
    assert shard["latents"].shape == (2, 12, 15, 8, 12) and torch.equal(shard["attributes"][1], story["attributes"])
    assert torch.equal(shard["latents"][1], codec.first(12).encode(story["video"].numpy()).half())


def test_the_seam_is_the_change_between_latents_over_that_among_their_frames() -> None:
    steps = torch.tensor([3.0, 1, 1, 1, 3, 1, 1, 1])
    assert seam(torch.cat([torch.zeros(1), steps.cumsum(0)])[None, None, :, None, None].expand(1, 3, 9, 2, 2)) == pytest.approx(3)


def test_losses_measure_the_error() -> None:
    x = torch.rand(1, 3, 2, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert picture_loss(x, x, 5) == 0 and picture_loss(x + 0.1, x, 0) > 0.1
    assert psnr(torch.zeros(4), torch.full((4,), 0.2)) == pytest.approx(20)


def test_a_film_that_stands_still_and_jumps_costs_more_by_how_much_changes() -> None:
    moving = torch.linspace(0, 1, 9)[None, None, :, None, None].expand(1, 3, 9, 16, 16)
    jumping = moving[:, :, [0, 0, 0, 0, 4, 4, 4, 4, 8]]
    step = 1 / 8
    wrong = (6 * step + 2 * 3 * step) / 8  # six steps are missing, two are four times as large as they should be
    assert (picture_loss(jumping, moving, 5) - picture_loss(jumping, moving, 0)).item() == pytest.approx(5 * wrong)


def test_scenery_in_the_wrong_place_costs_as_much_by_night_as_by_day() -> None:
    def mistake(sky: str) -> float:
        scene = {"subject": "fox", "colour": "white", "action": "stand", "ground": "road", "sky": sky, "weather": "clear"}
        here, elsewhere = (render([(0, scene)], 1, seed).astype(np.float32)[:, 60:] for seed in (None, 3))
        return float(np.mean((here - elsewhere) ** 2))

    day, night = mistake("day"), mistake("night")
    weight = dict(zip(ATTRIBUTES["sky"], darkness().tolist()))
    assert night / day < 0.6
    assert 0.6 < night * weight["night"] / (day * weight["day"]) < 1.6


def test_blocks_at_a_switch_count_more_and_the_subject_does(codec: Codec, tmp_path: Path) -> None:
    (tmp_path / "world").mkdir()
    codec.save(tmp_path / "world" / "codec.safetensors")
    weight = picture_weights(context(tmp_path), 2.5)
    assert weight.shape == (16, 1, 8, 12) and abs(weight.mean() - 1) < 1e-5
    (top, bottom), (left, right) = subject_box(96, 64)
    inside, outside = weight[0, 0, (top + bottom) // 16, (left + right) // 16], weight[0, 0, 0, 0]
    assert inside == pytest.approx(2.5 * outside.item()) and outside > weight[15, 0, 0, 0]


class Films:
    """Of six blocks, whose prompts change with blocks 1 and 4."""

    blocks = 6

    def batch(self, rng: Random, size: int, only_fixed: bool) -> Batch:
        assert only_fixed
        latents, prompts = rng.normal(size, 4, 18, 4, 6), rng.normal(size, 6, 5, 8)
        return Batch(latents, latents, prompts, prompts[:, 1:], torch.ones(size).bool(), torch.zeros(size, 6).bool(), torch.ones(size, 6), [1, 4])


def telling() -> Telling:
    torch.manual_seed(3)
    model = CausalDiT(dim=48, ffn_dim=64, num_heads=2, num_layers=2, text_dim=8, text_len=5, in_dim=4, out_dim=4)
    return Telling(Films(), Rollout(model, Sampling(3, 9, 3, "relative"), (1, 4, 4, 6)), 2)  # type: ignore[arg-type]


def test_a_film_is_told_from_step_to_step_and_then_another(monkeypatch) -> None:
    told, recached = telling(), []
    recache = told.rollout.recache
    monkeypatch.setattr(told.rollout, "recache", lambda text: recached.append((told.rollout.frames, text)) or recache(text))
    parts = [told.next(Random.of(CPU, i), 1) for i in range(3)]
    film = told.batch
    assert film is not None and torch.equal(torch.cat([batch.latents for batch, _ in parts], 2), film.latents)
    assert [frames for frames, _ in recached] == [3, 12] and torch.equal(recached[1][1], film.prompts[:, 4])
    assert told.rollout.frames == 18 and all(made.requires_grad and made.shape == batch.latents.shape for batch, made in parts)
    told.next(Random.of(CPU, 3), 1)
    assert told.batch is not film and told.rollout.frames == 6


def test_a_film_that_was_interrupted_goes_on() -> None:
    whole, first, second = telling(), telling(), telling()
    for told in (whole, first):
        told.next(Random.of(CPU, 0), 2)
    second.load_state_dict(first.state_dict())
    (batch, made), (again, remade) = (told.next(Random.of(CPU, 1), 0) for told in (whole, second))
    assert torch.equal(made, remade) and torch.equal(batch.latents, again.latents) and batch.switches == again.switches == []
    assert not torch.equal(made, telling().next(Random.of(CPU, 1), 0)[1])  # what came before matters


def joint(folder: Path) -> tuple[Context, dict]:
    """A run whose latents are the encoder's."""
    shared = ['preset.latents="encoder"', 'preset.stages=["vae", "clips"]', "preset.vae.z_dim=18"]
    small = ["vae.watch=12", "clips.scenes=3", "clips.stories=3", "clips.beginnings=2", "clips.shard=2"]
    loop = "vae.joint={steps = 24, batch = 2, lr = 0.02, warmup = 4, log_every = 4, cooldown = 0.5}"
    preset, stages = load("smoke", "cpu", settings=[*shared, *small, loop])
    stages["vae"] = replace(stages["vae"], decoder=None, encoder=None)
    return Context(preset, "smoke", folder, CPU, 7), stages


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_both_halves_learn_together_and_the_encoder_makes_the_clips(tmp_path: Path, monkeypatch, capsys, one_thread) -> None:
    samples = torch.cat([patches(make_clip((0, i), 9, 96, 64)).flatten(0, 2) for i in range(4)])
    torch.manual_seed(0)
    codec = Codec.fit(samples, 20)
    run, weights = Loop.run, []
    for name, stop_after in (("whole", None), ("part", 13)):
        context, stages = joint(tmp_path / name)
        context.path("world").mkdir(parents=True)
        codec.save(context.path("world", "codec.safetensors"))
        if stop_after:
            with monkeypatch.context() as patched:
                patched.setattr(Loop, "run", lambda self, step: run(self, step, 13))
                vae(context, stages["vae"])
        report = vae(context, stages["vae"])["joint"]
        weights.append(load_file(context.path("vae", "vae.safetensors")))
        if not stop_after:
            assert report["lossLast"]["pictures"] < 0.8 * report["lossFirst"]["pictures"]
            assert report["psnr"] > report["probes"]["before"]["psnr"] + 1 and "joint: step 12, " in capsys.readouterr().out
    assert all(torch.equal(tensor, weights[1][key]) for key, tensor in weights[0].items()), "an interruption changed the weights"

    assert clips(context, stages["clips"])["story"]["std"][1] > 0.3
    stories = [load_file(p) for p in sorted(context.path("clips", "story").iterdir())]
    assert [s["latents"].shape for s in stories] == [(2, 18, 15, 8, 12), (1, 18, 15, 8, 12)]
    video, (mean, std) = Renderer(96, 64, 9, 0.3, 7).story(2)["video"][None], context.statistics()
    latents = encoder(context)(video)
    assert torch.allclose(latents.half(), stories[1]["latents"], atol=0.02)
    network = context.vae()
    assert torch.allclose(latents * std + mean, network.encode(to_videos(video)), atol=1e-4)


def test_time_that_is_over_leaves_the_weights_of_that_moment(codec: Codec, tmp_path: Path) -> None:
    context, stages = joint(tmp_path)
    (tmp_path / "world").mkdir()
    Codec(codec.mean, codec.basis, codec.scale).extended(torch.randn(900, 768), 18).save(tmp_path / "world" / "codec.safetensors")
    context.deadline = 0.0
    with pytest.raises(OutOfTime, match="joint stopped at step 1"):
        vae(context, stages["vae"])
    assert load_file(tmp_path / "vae" / "vae.safetensors").keys() == context.vae().state_dict().keys()
    assert context.statistics()[1].min() > 0


def note(folder: Path, value: int) -> int:
    if value == 3:
        raise ValueError("three is not possible")
    (folder / str(value)).write_text("")
    return value


@pytest.mark.parametrize("workers", [1, 2])
def test_errors_of_workers_are_raised(tmp_path: Path, workers: int) -> None:
    assert list(ahead(note, [(tmp_path, i) for i in range(3)], workers, 2)) == [0, 1, 2]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0", "1", "2"]
    with pytest.raises(ValueError, match="three is not possible"):
        list(ahead(note, [(tmp_path, i) for i in (2, 3)], workers, 2))


def test_a_path_of_the_ode_passes_the_noise_levels_of_the_student_and_ends_clean() -> None:
    assert kept_steps(48, [1000, 750, 500, 250]) == [0, 12, 24, 36]
    with pytest.raises(ValueError, match="10 Euler steps do not visit"):
        kept_steps(10, [1000, 750, 500, 250])
    model = CausalDiT(dim=48, ffn_dim=64, num_heads=2, num_layers=1, text_dim=8, text_len=4)
    clean = torch.randn(2, 16, 3, 4, 6)
    noise = torch.randn(2, 16, 3, 4, 6)
    # A teacher that knows the picture: its flow leads straight there from anywhere, and guidance changes nothing.
    model.bidirectional = lambda x, t, keys: (x - clean.repeat(2, 1, 1, 1, 1)) / (t / 1000).view(-1, 1, 1, 1, 1)  # type: ignore[method-assign]
    states = path(model, noise, torch.randn(2, 4, 8), torch.zeros(1, 4, 8), 3.0, 8, 5.0, [0, 2, 4, 6])
    for i, sigma in enumerate([1.0, 0.9375, 0.8333333, 0.625]):
        assert torch.allclose(states[:, i], sigma * noise + (1 - sigma) * clean, atol=1e-5)
    assert torch.allclose(states[:, -1], clean, atol=1e-5)


def test_int8_rounds_rows_to_255_levels_and_linear_layers_of_blocks_only() -> None:
    x = torch.tensor([[1.27, -0.504, 0.0], [0.0, 0.0, 0.0]])
    assert torch.allclose(rounded(x), torch.tensor([[1.27, -0.50, 0.0], [0.0, 0.0, 0.0]]), atol=1e-6)
    torch.manual_seed(0)
    model = CausalDiT(dim=48, ffn_dim=64, num_heads=2, num_layers=2, text_dim=8, text_len=4)
    torch.nn.init.normal_(model.head.head.weight, std=0.1)
    small = int8(model)
    assert torch.equal(small.head.head.weight, model.head.head.weight)
    weight = small.blocks[0].ffn[0].weight
    assert len(np.unique((weight[0] / weight[0].abs().max() * 127).round().numpy())) <= 255
    assert not torch.equal(weight, model.blocks[0].ffn[0].weight)
    arguments = torch.randn(1, 16, 3, 4, 6), torch.tensor([500.0]), model.encode_text(torch.randn(1, 1, 4, 8))
    with torch.no_grad():
        a, b = model.bidirectional(*arguments), small.bidirectional(*arguments)
    assert 0 < (a - b).abs().max() < 0.1 * a.abs().max()

import itertools
import json
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import torch

from longlive_training.data import first_frame, held_out
from longlive_training.evaluate import POCKET, SUITES, evaluate, from_world, make_cases, observe_case, package_size, read_prompts, read_video
from longlive_training.features import features, frechet
from longlive_training.judge import DEFAULT, LOOK, SMALL, TRAINED, USED, Judge, looks_at, make_look, shrink, size_name, worsen
from longlive_training.metrics import SETTLE, WITHIN, observe, psnr, seam, summarise, watch
from longlive_training.world import ATTRIBUTES, FPS, View, render

SCENE = {"subject": "fox", "colour": "red", "action": "walk", "ground": "grass", "sky": "day", "weather": "clear"}
OTHER = {"subject": "car", "colour": "blue", "action": "run", "ground": "snow", "sky": "night", "weather": "rain"}
FRAMES, SWITCH = first_frame(8), first_frame(4)


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge.load()


def test_looks_are_half_size_and_skip_every_second_frame() -> None:
    video = np.zeros((LOOK + 3, 112, 192, 3), np.uint8)
    video[3 + 2, 4:6, 8:10, 1] = 200
    look = looks_at(shrink(video), [0, 3])
    assert look.shape == (2, USED * 3, 56, 96) and look[1, 3 + 1, 2, 4] == 200 and look.sum() == 200


@pytest.mark.parametrize("size", [(256, 144), (384, 224), (512, 288), (208, 112)])
def test_the_judge_looks_at_the_stage_in_pictures_of_any_size(size) -> None:
    view, rows, columns = View(*size), *SMALL
    y, x = (axis.astype(np.float64) for axis in view.grid())
    video = np.stack(np.broadcast_arrays(2 * y.clip(0), (x + 20).clip(0, 255), np.float64(77)), 2)[None].round().astype(np.uint8)
    small = shrink(video)[0].astype(float)
    assert small.shape == (3, rows, columns) and (small[2] == 77).all()
    assert np.abs(small[0] - 4 * (np.arange(rows) + 0.5)[:, None]).max() <= 1.5
    assert np.abs(small[1] - (2 * (np.arange(columns) + 0.5) + 20)[None]).max() <= 1.5
    with pytest.raises(ValueError, match="too narrow"):
        shrink(video[:, :, :columns])


@pytest.mark.parametrize("scene", [SCENE, OTHER])
def test_a_larger_picture_shows_the_judge_what_a_small_one_does(scene) -> None:
    small, large = (shrink(render([(0, scene)], 4, 1, *size, start=40)).astype(float) for size in (TRAINED, (256, 144)))
    assert np.abs(small - large).mean() < 1


def test_the_committed_judge_is_accurate_on_pictures_it_never_saw(judge: Judge) -> None:
    accuracy = json.loads((DEFAULT / "judge.json").read_text())["accuracy"]
    assert size_name(package_size(POCKET)) in accuracy
    assert min(share for kinds in accuracy.values() for kind in kinds.values() for share in kind.values()) >= 0.99
    looks, labels = zip(*(make_look(20_000_000 + i, size) for i, size in zip(range(60), itertools.cycle([TRAINED, (256, 144)]))))
    looks, labels = torch.from_numpy(np.stack(looks)), np.array(labels)
    for seen in (looks, worsen(looks.float(), torch.Generator().manual_seed(5))):
        guesses = judge.guesses(seen)
        assert all((guesses[name] == labels[:, i]).mean() > 0.9 for i, name in enumerate(ATTRIBUTES))


def test_worsening_keeps_size_and_range() -> None:
    looks = torch.randint(0, 256, (6, USED * 3, 56, 96)).float()
    worse = worsen(looks.clone(), torch.Generator().manual_seed(0))
    assert worse.shape == looks.shape and worse.min() >= 0 and worse.max() <= 255 and not torch.equal(worse, looks)


def test_a_video_in_pieces_is_seen_as_a_whole_one(judge: Judge) -> None:
    story, borders = [(0, SCENE), (SWITCH, OTHER)], [first_frame(b) for b in range(1, 8)]
    video = render(story, FRAMES, 1)
    whole = observe(judge, video, story, borders)
    for sizes in ([9] + [12] * 7, [1] * FRAMES, [FRAMES]):
        ends = np.cumsum(sizes)
        pieces = (video[end - n : end] for n, end in zip(sizes, ends))
        seen = observe(judge, pieces, story, borders, FRAMES)
        assert np.allclose(seen.features, whole.features, atol=1e-5)
        seen.features = whole.features
        assert seen == whole
    with pytest.raises(ValueError, match="ends after 40 frames"):
        observe(judge, iter([video[:40]]), story, borders, FRAMES)
    with pytest.raises(ValueError, match=f"has {FRAMES} frames, its story {FRAMES - 1}"):
        observe(judge, iter([video]), story, borders, FRAMES - 1)


def test_a_long_video_is_not_held_in_memory(judge: Judge) -> None:
    piece = np.zeros((12, 56, 96, 3), np.uint8)
    count, starts = 400, np.arange(0, 4800 - LOOK, 400)
    tracemalloc.start()
    sight = watch(judge, (piece for _ in range(count)), starts)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sight.frames == 12 * count and len(sight.features) == len(starts)
    assert peak < 8 << 20 < piece.nbytes * count // 8


def test_a_video_that_ignores_the_switch_is_found_out(judge: Judge) -> None:
    story, borders = [(0, SCENE), (SWITCH, OTHER)], [first_frame(b) for b in range(1, 8)]
    stubborn = observe(judge, render([(0, SCENE)], FRAMES, 1), story, borders)
    obedient = observe(judge, render(story, FRAMES, 1), story, borders)
    assert set(obedient.changed) == set(ATTRIBUTES) and obedient.kept == {}
    for name in ("subject", "colour", "ground", "sky"):
        assert stubborn.changed[name] == [False] and obedient.changed[name] == [True]
    assert obedient.arrival[0][-1] > 0.8 > 0.4 > stubborn.arrival[0][-1]
    report = summarise([obedient, stubborn])
    assert report["changed"]["ground"] == 0.5 and report["jump"]["switches"] == 2


def test_a_cut_at_a_switch_is_larger_than_ordinary_motion(judge: Judge) -> None:
    smooth = render([(0, SCENE), (SWITCH, OTHER)], FRAMES, 1)
    cut = np.concatenate([smooth[:SWITCH], render([(0, OTHER)], FRAMES - SWITCH, 1)])
    story = [(0, SCENE), (SWITCH, OTHER)]
    ratio = [summarise([observe(judge, video, story, [])])["jump"]["largest"] for video in (smooth, cut)]
    assert ratio[1] > 2 * ratio[0]


def test_what_was_not_asked_for_does_not_count(judge: Judge) -> None:
    video = render([(0, SCENE)], 60, 1)
    seen = observe(judge, video, [(0, {"sky": "day"})], [])
    assert list(seen.prompt) == ["sky"] and seen.changed == {}
    turned = observe(judge, video, [(0, {"sky": "day"}), (20, {"sky": "day", "ground": "grass"})], [])
    assert list(turned.kept) == ["sky"] and list(turned.changed) == ["ground"]


def test_a_switch_counts_in_its_second_second_only(judge: Judge) -> None:
    """A subject that is right at first and gone in the second second has not arrived."""
    back = [(0, SCENE), (SWITCH, OTHER), (SWITCH + 12, SCENE)]
    seen = observe(judge, render(back, FRAMES, 1), [(0, SCENE), (SWITCH, OTHER)], [])
    assert not any(seen.changed["ground"] + seen.changed["sky"])
    assert SETTLE + LOOK == WITHIN


def test_long_videos_are_compared_at_their_ends(judge: Judge) -> None:
    n = 40 * FPS
    video = np.concatenate([render([(0, SCENE)], n // 2, 1), render([(0, OTHER)], n // 2, 1)])
    seen = observe(judge, video, [(0, SCENE)], [])
    assert np.mean([*seen.first.values()]) > 0.9 and np.mean([*seen.last.values()]) < 0.2
    steady = observe(judge, render([(0, SCENE)], n, 1), [(0, SCENE)], [])
    assert len(seen.course) == 4 and seen.course[0] > 0.9 and seen.course[3] < 0.2
    assert seen.drift > 5 * steady.drift


def test_seam_finds_a_jump_at_a_border() -> None:
    assert seam([2.0, 2.0], [2.0] * 10) == pytest.approx(1)
    assert seam([6.0, 6.0], [2.0] * 8 + [6.0] * 2) == pytest.approx(3)


def test_frechet_grows_with_blur_noise_and_stillness(judge: Judge) -> None:
    films = [render([(0, scene)], 96, 1) for scene in (SCENE, OTHER)]
    again = [render([(0, scene)], 96, 2) for scene in (SCENE, OTHER)]
    rng = np.random.default_rng(0)
    noisy = [np.clip(f + rng.normal(0, 60, f.shape), 0, 255).astype(np.uint8) for f in films]
    soft = [f.reshape(-1, 28, 4, 48, 4, 3).mean((2, 4)).repeat(4, 1).repeat(4, 2).astype(np.uint8) for f in films]
    still = [np.repeat(f[:1], 96, 0) for f in films]

    def of(videos: list[np.ndarray]) -> np.ndarray:
        return np.concatenate([features(judge, looks_at(shrink(v), range(0, 80, 2))) for v in videos])

    floor = frechet(of(films), of(again))
    assert frechet(of(films), of(films)) == pytest.approx(0, abs=1e-3)
    for worse in (noisy, soft, still):
        assert frechet(of(worse), of(again)) > 1.5 * floor


def test_psnr() -> None:
    a = np.full((2, 4, 4, 3), 100, np.uint8)
    assert psnr(a, a) == 99 and psnr(a, a + 10) == pytest.approx(20 * np.log10(25.5))


def test_the_renderer_itself_scores_high_and_is_its_own_scale(judge: Judge) -> None:
    cases = make_cases("switch", 3, seed=99)
    seen = [observe_case(judge, from_world(c, (256, 144)), c) for c in cases]
    report = summarise(seen, seen)
    assert report["videos"] == 3 and report["prompt"]["all"] > 0.9 and report["changed"]["all"] > 0.9 and report["kept"]["all"] > 0.9
    assert report["seam"] == 1 and report["frechet"] == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("suite", SUITES)
def test_cases_are_held_out_and_name_blocks_and_frames(suite: str) -> None:
    blocks, turns = SUITES[suite]
    for case in make_cases(suite, 6):
        assert len(case["timeline"]) == turns and case["blocks"] == blocks * turns
        for turn, following in zip(case["timeline"], case["timeline"][1:]):
            assert turn["attributes"] != following["attributes"] and turn["prompt"] != following["prompt"]
        for turn in case["timeline"]:
            assert held_out(turn["attributes"]) and turn["frame"] == first_frame(turn["block"])
    assert make_cases(suite, 3) == make_cases(suite, 3)


def test_own_prompts_are_read_from_lines_or_a_list(tmp_path) -> None:
    path = tmp_path / "prompts"
    entries = [{"prompt": "a fox", "attributes": {"subject": "fox"}, "seconds": 10, "seed": 7},
               {"turns": [{"prompt": "a car", "attributes": {"subject": "car"}}, {"prompt": "at night", "attributes": {"sky": "night"}, "seconds": 5}]}]  # fmt: skip
    for text in (json.dumps(entries), "\n".join(map(json.dumps, entries))):
        path.write_text(text)
        single, turns = read_prompts(path)
        assert single["seed"] == 7 and first_frame(single["blocks"]) >= 10 * FPS and single["timeline"][0]["attributes"] == {"subject": "fox"}
        assert [t["block"] for t in turns["timeline"]] == [0, 5] and turns["blocks"] == 12
    for wrong, message in (({"prompt": "a fox"}, "entry 1: needs"), ({"prompt": "a", "attributes": {"sky": "red"}}, "sky 'red' is not among")):
        path.write_text(json.dumps([wrong]))
        with pytest.raises(ValueError, match=message):
            read_prompts(path)


def test_reads_raw_and_numpy_videos_and_refuses_torn_ones(tmp_path) -> None:
    video, size = np.random.default_rng(0).integers(0, 256, (3, 6, 10, 3), np.uint8), (10, 6)
    (tmp_path / "a.rgb").write_bytes(video.tobytes())
    np.save(tmp_path / "b.npy", video)
    np.savez(tmp_path / "c.npz", frames=video)
    assert all(np.array_equal(read_video(tmp_path, n, size), video) for n in "abc")
    (tmp_path / "d.rgb").write_bytes(video.tobytes()[:-1])
    with pytest.raises(ValueError, match="not whole frames"):
        read_video(tmp_path, "d", size)
    with pytest.raises(FileNotFoundError):
        read_video(tmp_path, "e", size)


def test_the_command_judges_a_folder_of_videos_and_can_fail(tmp_path) -> None:
    cases = make_cases("switch", 2, seed=5)
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    for case in cases:
        (tmp_path / f"{case['name']}.rgb").write_bytes(np.full((first_frame(case["blocks"]), 28, 48, 3), 128, np.uint8).tobytes())
    command = [sys.executable, "-m", "longlive_training.evaluate", "videos", "--cases", tmp_path / "cases.json", "--videos", tmp_path, "--size", "48x28"]
    done = subprocess.run([*command, "--minimum", "0.9"], capture_output=True, text=True, cwd=DEFAULT.parent)
    assert done.returncode == 1 and "below 0.9" in done.stderr and json.loads(done.stdout)["videos"] == 2


def test_evaluate_gives_one_report(judge: Judge) -> None:
    [case] = make_cases("switch", 1, seed=3)
    report = evaluate([case], lambda c: from_world(c, TRAINED), judge)
    assert report["videos"] == 1 and {"prompt", "changed", "arrival", "motion", "jump", "seam"} <= set(report)

import json
import subprocess
import sys

import numpy as np
import pytest

from longlive_training.data import first_frame
from longlive_training.evaluate import evaluate, from_world, make_cases, read_video
from longlive_training.judge import DEFAULT, LOOK, USED, Judge, shrink
from longlive_training.metrics import adherence, seam
from longlive_training.world import ATTRIBUTES, render

SCENE = {"subject": "fox", "colour": "red", "action": "walk", "ground": "grass", "sky": "day", "weather": "clear"}
OTHER = {"subject": "car", "colour": "blue", "action": "run", "ground": "snow", "sky": "night", "weather": "rain"}
FRAMES, SWITCH = first_frame(10), first_frame(5)


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge.load()


def test_looks_are_half_size_and_skip_every_second_frame() -> None:
    clip = np.zeros((LOOK, 112, 192, 3), np.uint8)
    clip[2, 4:6, 8:10, 1] = 200
    look = shrink(clip)
    assert look.shape == (USED * 3, 56, 96) and look[3 + 1, 2, 4] == 200 and look.sum() == 200


def test_the_committed_judge_is_accurate_on_pictures_it_never_saw(judge: Judge) -> None:
    assert min(json.loads((DEFAULT / "judge.json").read_text())["accuracy"]["coded"].values()) > 0.85
    report = evaluate(make_cases(6, seed=99), from_world, judge)
    assert report["videos"] == 6 and report["prompt"]["all"] > 0.9 and report["switch"]["all"] > 0.85
    assert min(report["prompt"][n] for n in ("subject", "colour", "ground")) > 0.9


def test_a_video_that_ignores_the_switch_is_found_out(judge: Judge) -> None:
    story = [(0, SCENE), (SWITCH, OTHER)]
    stubborn = adherence(judge, render([(0, SCENE)], FRAMES, 1), story)
    obedient = adherence(judge, render(story, FRAMES, 1), story)
    assert not any(stubborn["switch"]["subject"]) and not any(stubborn["switch"]["ground"])
    assert all(obedient["switch"]["subject"]) and all(obedient["switch"]["ground"]) and all(obedient["switch"]["colour"])
    assert obedient["switchSeconds"] and max(obedient["switchSeconds"]) <= 3


def test_what_was_not_asked_for_does_not_count(judge: Judge) -> None:
    result = adherence(judge, render([(0, SCENE)], 60, 1), [(0, {"sky": "day"})])
    assert list(result["prompt"]) == ["sky"] and result["switch"] == {}


def test_seam_finds_a_jump_at_a_border() -> None:
    video = np.arange(40, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
    assert seam(video, [9, 21]) == pytest.approx(1)
    video[21:] += 30
    assert seam(video, [9, 21]) == pytest.approx(16)


def test_cases_change_something_and_name_blocks_and_frames() -> None:
    for case in make_cases(12):
        (a, b) = case["timeline"]
        assert a["attributes"] != b["attributes"] and b["frame"] == first_frame(b["block"]) == 12 * b["block"] - 3
        assert set(a["attributes"]) == set(ATTRIBUTES) and a["prompt"] != b["prompt"]
    assert make_cases(3) == make_cases(3)


def test_reads_raw_and_numpy_videos_and_refuses_torn_ones(tmp_path) -> None:
    video = np.random.default_rng(0).integers(0, 256, (3, 112, 192, 3), np.uint8)
    (tmp_path / "a.rgb").write_bytes(video.tobytes())
    np.save(tmp_path / "b.npy", video)
    np.savez(tmp_path / "c.npz", frames=video)
    assert all(np.array_equal(read_video(tmp_path, n), video) for n in "abc")
    (tmp_path / "d.rgb").write_bytes(video.tobytes()[:-1])
    with pytest.raises(ValueError, match="not whole frames"):
        read_video(tmp_path, "d")
    with pytest.raises(FileNotFoundError):
        read_video(tmp_path, "e")


def test_the_command_judges_a_folder_of_videos_and_can_fail(tmp_path) -> None:
    cases = make_cases(2, seed=5)
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    for case in cases:
        (tmp_path / f"{case['name']}.rgb").write_bytes(np.full((FRAMES, 112, 192, 3), 128, np.uint8).tobytes())
    command = [sys.executable, "-m", "longlive_training.evaluate", "videos", "--cases", tmp_path / "cases.json", "--videos", tmp_path]
    done = subprocess.run([*command, "--minimum", "0.9"], capture_output=True, text=True, cwd=DEFAULT.parent)
    assert done.returncode == 1 and "below 0.9" in done.stderr and json.loads(done.stdout)["videos"] == 2

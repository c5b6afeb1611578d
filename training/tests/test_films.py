"""Films by the native core, which a small program stands in for here."""

import json
import sys
from concurrent.futures import Future
from types import SimpleNamespace

import pytest
import torch

from safetensors.torch import save_file

from longlive_training.config import Loop, TinyStage
from longlive_training.data import held_out
from longlive_training.films import Films
from longlive_training.stages.tiny import Pairs, film_pair

# Writes each job to a file; block b has frames of 10 + b, and a window of all latents so far, which are b each.
CORE = """
import json, sys, torch
from safetensors.torch import save
for line in sys.stdin:
    job = json.loads(line)
    print(line, end="", file=open(sys.argv[1], "a"))
    window = []
    for block in range(job["blocks"]):
        window = [*window, torch.full((3, 2, 2, 4), float(block))]
        rgb, state = bytes([10 + block]) * ((9 if block == 0 else 12) * 16 * 32 * 3), save({"latents.window": torch.cat(window[-3:]), "latents.sink": window[0]})
        sys.stdout.buffer.write(json.dumps({"bytes": len(rgb), "checkpoint": len(state)}).encode() + b"\\n" + rgb + state)
    sys.stdout.buffer.write(b'{"frames": 1}\\n')
    sys.stdout.flush()
    if job["seed"] == 13:
        print('{"error": "no such prompt"}', flush=True)
"""


@pytest.fixture
def films(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"video": {"width": 32, "height": 16}}))
    made = Films(tmp_path, [sys.executable, "-c", CORE, str(tmp_path / "jobs")])
    yield made
    made.close()


def test_pairs_frames_with_the_latents_of_their_block(films) -> None:
    video, latents = films.make(4, [(0, "a fox"), (2, "a cat")], 4)
    assert video.shape == (45, 16, 32, 3) and video.dtype == torch.uint8
    assert latents.shape == (2, 12, 2, 4)
    assert latents[0, :, 0, 0].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert video[:, 0, 0, 0].tolist() == [10] * 9 + [11] * 12 + [12] * 12 + [13] * 12


def test_a_story_of_the_pair_follows_the_seed_and_shows_nothing_held_out(films, tmp_path, monkeypatch) -> None:
    told = []
    monkeypatch.setattr(sys.modules["longlive_training.stages.tiny"], "caption", lambda scene, rng: told.append(scene) or json.dumps(scene))
    pairs = [film_pair(films, (7, i), 12) for i in (0, 0, 1)]
    assert pairs[0]["latents"].dtype == torch.float16
    jobs = [json.loads(line) for line in (tmp_path / "jobs").read_text().splitlines()]
    assert jobs[0] == jobs[1] != jobs[2]
    assert all(job["blocks"] == 4 and job["checkpoints"] and job["timeline"][0]["block"] == 0 for job in jobs)
    assert told and not any(held_out(scene) for scene in told)


def test_one_clip_in_three_is_a_film_from_the_first_step_on(tmp_path, monkeypatch) -> None:
    made = []

    class Workers:
        def submit(self, work, path, *_):
            made.append(work.__name__)
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file({"video": torch.zeros(1), "latents": torch.zeros(1)}, path)
            done = Future()
            done.set_result(None)
            return done

    monkeypatch.setattr(sys.modules["longlive_training.stages.tiny"], "ProcessPoolExecutor", lambda *_, **__: Workers())
    preset = SimpleNamespace(package="models/pocket", video=SimpleNamespace(width=32, height=16))
    context = SimpleNamespace(preset=preset, seed=7, path=lambda *parts: tmp_path.joinpath(*parts))
    pairs = Pairs(context, TinyStage(Loop(), [8, 8, 8, 8], frames=3, pool=6, clips=6, film_every=3))
    pairs.advance(0)
    assert made == ["make_pair", "make_pair", "make_film"] * 2
    assert len(pairs.videos) == 6


def test_says_what_the_core_refused(films) -> None:
    films.make(13, [(0, "a fox")], 1)
    with pytest.raises(RuntimeError, match="no such prompt"):
        films.make(1, [(0, "a fox")], 1)


def test_says_that_the_core_has_ended_or_was_never_built(films, tmp_path) -> None:
    ended = Films(tmp_path, [sys.executable, "-c", ""])
    with pytest.raises(RuntimeError, match="has ended"):
        ended.make(1, [(0, "a fox")], 1)
    ended.close()
    with pytest.raises(FileNotFoundError, match="npm ci && npm run build"):
        Films(tmp_path, ["/nowhere/tsx"]).make(1, [(0, "a fox")], 1)

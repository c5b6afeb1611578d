import numpy as np
import torch
from safetensors.torch import save_file

from longlive_training.codec import Codec
from longlive_training.data import BLOCK_FRAMES, Clips, first_frame, from_indices, held_out, make_clip, sample_story, scenes, timeline, to_indices
from longlive_training.world import ATTRIBUTES


def test_blocks_begin_where_the_vae_puts_them() -> None:
    assert [first_frame(i) for i in range(4)] == [0, 9, 21, 33]


def test_stories_switch_only_at_block_borders() -> None:
    rng = np.random.default_rng(0)
    stories = [sample_story(rng) for _ in range(200)]
    switches = [len(timeline(s)) - 1 for s in stories]
    assert 0.8 < np.mean(switches) < 2.2
    for story in stories:
        assert [from_indices(row) for row in to_indices(story)] == story
        assert all(frame in (0, 9, 21, 33, 45) for frame, _ in timeline(story))


def test_a_tenth_of_the_scenes_is_held_out_and_no_story_shows_one() -> None:
    allowed = scenes()
    total = np.prod([len(values) for values in ATTRIBUTES.values()])
    assert 0.88 < len(allowed) / total < 0.92
    for name, values in ATTRIBUTES.items():
        assert {scene[name] for scene in allowed} == set(values)
    rng = np.random.default_rng(0)
    assert not any(held_out(scene) for _ in range(300) for scene in sample_story(rng))


def test_clips_say_whether_they_begin_in_the_fixed_place() -> None:
    torch.manual_seed(0)
    codec = Codec(torch.zeros(768), torch.linalg.qr(torch.randn(768, 16))[0], torch.ones(16))
    story = [scenes()[0]]
    fixed, again, elsewhere = (make_clip(codec, story, seed) for seed in (None, None, 4))
    assert fixed["latents"].shape == (16, BLOCK_FRAMES, 14, 24) and fixed["fixed"] == 1 and elsewhere["fixed"] == 0
    assert torch.equal(fixed["latents"], again["latents"]) and not torch.equal(fixed["latents"], elsewhere["latents"])


def test_shards_written_later_are_found(tmp_path) -> None:
    def shard(name: str, count: int) -> None:
        save_file({"latents": torch.zeros(count, 16, 3, 2, 2), "attributes": torch.zeros(count, 5, 6)}, tmp_path / f"{name}.safetensors")

    shard("0", 2)
    clips = Clips(tmp_path)
    shard("1", 3)
    clips.refresh()
    clips.refresh()
    assert len(clips.clips) == 5

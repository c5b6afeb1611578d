import numpy as np

from longlive_training.data import first_frame, from_indices, held_out, sample_story, scenes, timeline, to_indices
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

import numpy as np
import torch
from safetensors.torch import save_file

from longlive_training.data import BLOCK_FRAMES, Clips, couple, first_frame, from_indices, sample_story, timeline, to_indices


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


def test_coupled_noise_tells_the_phases_and_stays_gaussian() -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    turns = torch.from_numpy(rng.uniform(size=(300, 5))).float()
    noise = torch.stack([couple(torch.randn(16, BLOCK_FRAMES, 14, 24), t) for t in turns])
    pairs = noise[:, :10].mean((2, 3, 4)).unflatten(1, (5, 2))
    angle = torch.atan2(pairs[..., 1], pairs[..., 0]) / (2 * torch.pi) % 1
    assert torch.allclose(angle, turns, atol=1e-3)
    sums = noise.mean((2, 3, 4)) * (BLOCK_FRAMES * 14 * 24) ** 0.5  # standard normal if the noise is white
    assert abs(sums.mean()) < 0.08 and abs(sums.std() - 1) < 0.05
    assert abs(noise.std() - 1) < 0.01


def test_shards_written_later_are_found(tmp_path) -> None:
    def shard(name: str, count: int) -> None:
        save_file({"latents": torch.zeros(count, 16, 3, 2, 2), "attributes": torch.zeros(count, 5, 6)}, tmp_path / f"{name}.safetensors")

    shard("0", 2)
    clips = Clips(tmp_path)
    shard("1", 3)
    clips.refresh()
    clips.refresh()
    assert len(clips.clips) == 5

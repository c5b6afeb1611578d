"""The state machine of streaming long tuning, with a roll-out that only counts."""

import torch
from torch import Tensor

from longlive_training.codec import Codec
from longlive_training.config import LongStage, Loop, load
from longlive_training.loop import Random
from longlive_training.models.vae import WanVAE
from longlive_training.sample import Sampling
from longlive_training.stages.long import reencode_with_codec, reencode_with_vae
from longlive_training.streaming import Stream, chunk_ends, switch_points

CPU = torch.device("cpu")
PAPER = LongStage(loop=Loop(steps=1), critic_lr=1e-6)


class Counting:
    """Latents that hold their own frame number."""

    def __init__(self):
        self.shape, self.sampling, self.log = (2, 1, 1, 1), Sampling(), []
        self.weight = torch.ones((), requires_grad=True)
        self.restart()

    def restart(self) -> None:
        self.frames, self.recent = 0, torch.zeros(2, 1, 0, 1, 1)
        self.log.append("restart")

    def recache(self, text: Tensor) -> None:
        self.log.append(("recache", self.frames, text[0, 0, 0].item()))

    def roll(self, blocks: int, text: Tensor, exit_step: int, rng: Random, grad: bool) -> Tensor:
        frames = torch.arange(self.frames, self.frames + 3 * blocks, dtype=torch.float32)
        self.frames += 3 * blocks
        self.log.append(("roll", blocks, text[0, 0, 0].item()))
        made = frames.view(1, 1, -1, 1, 1).expand(2, -1, -1, -1, -1)
        return made * self.weight if grad else made.clone()

    def state_dict(self) -> dict:
        return {"frames": self.frames, "recent": self.recent}

    def load_state_dict(self, state: dict) -> None:
        self.frames, self.recent = state["frames"], state["recent"]


def prompts(rng: Random, count: int) -> tuple[Tensor, Tensor]:
    return torch.full((count, 4, 8), 1.0), torch.full((count, 4, 8), 2.0)


def stream(settings: LongStage = PAPER) -> Stream:
    return Stream(settings, Counting(), prompts, lambda frames: frames[:, :, -1:] + 1000)


def numbers(window: Tensor) -> list[int]:
    return window[0, 0, :, 0, 0].int().tolist()


def run(s: Stream, first: int, count: int, grad: bool = False) -> list:
    return [s.next(Random.of(CPU, 5, i), 0, grad) for i in range(first, first + count)]


def test_chunks_end_where_the_paper_s_do_and_prompts_change_where_they_begin() -> None:
    ends = chunk_ends(PAPER)
    assert ends[:3] == [21, 39, 57] and ends[-1] == 237 and len(ends) == 13
    assert switch_points(PAPER) == list(range(21, 202, 18))


def test_windows_hold_the_newest_frames_behind_a_reencoded_first_one() -> None:
    first, second, third = run(stream(), 0, 3)
    assert numbers(first.latents) == list(range(21)) and first.mask.sum() == 21 and first.start == 0
    assert numbers(second.latents) == [1018, *range(19, 39)] and second.start == 21
    assert numbers(third.latents) == [1036, *range(37, 57)]
    assert second.mask.tolist() == [0] * 3 + [1] * 18, "the loss looks at new frames only"


def test_a_sequence_has_one_switch_at_a_chunk_and_then_another_sequence_begins() -> None:
    s = stream()
    windows = run(s, 0, 26)
    log = s.rollout.log[1:]
    starts = [i for i, entry in enumerate(log) if entry == "restart"]
    assert len(starts) == 2
    for begin, end in zip(starts, [*starts[1:], None]):
        entries = log[begin + 1 : end]
        recaches = [e for e in entries if e[0] == "recache"]
        assert len(recaches) == 1 and recaches[0][1] in switch_points(PAPER) and recaches[0][2] == 2.0
        at = entries.index(recaches[0])
        assert [e[2] for e in entries if e[0] == "roll"] == [1.0] * at + [2.0] * (13 - at)
        assert entries[0] == ("roll", 7, 1.0) and all(e[1] == 6 for e in entries[1:] if e[0] == "roll")
    for window in windows:
        switched = window.text[0, 0, 0] == 2
        assert window.switched <= bool(switched)
    assert sum(w.switched for w in windows) == 2 and [w.start for w in windows[12:14]] == [219, 0]


def test_all_switch_points_occur() -> None:
    s = stream()
    drawn = set()
    for i in range(300):
        s.begin(Random.of(CPU, 1, i))
        drawn.add(s.switch_at)
    assert sorted(drawn) == switch_points(PAPER)


def test_only_new_frames_have_a_gradient() -> None:
    s = stream()
    run(s, 0, 1, grad=True)
    window = run(s, 1, 1, grad=True)[0]
    assert not s.previous.requires_grad
    for frame, expected in ((0, 0.0), (2, 0.0), (3, 21.0), (20, 38.0)):
        value = window.latents[0, 0, frame, 0, 0]
        gradient = torch.autograd.grad(value, s.rollout.weight, retain_graph=True, allow_unused=True)[0] if value.requires_grad else None
        assert (0.0 if gradient is None else gradient.item()) == expected, frame


def test_a_saved_stream_goes_on_where_it_was() -> None:
    whole, copy = stream(), stream()
    run(whole, 0, 4)
    copy.load_state_dict(whole.state_dict())
    a, b = run(whole, 4, 12), run(copy, 4, 12)
    for x, y in zip(a, b):
        assert torch.equal(x.latents, y.latents) and torch.equal(x.text, y.text) and x.switched == y.switched


def test_short_sequences_of_the_smoke_preset() -> None:
    settings = load("smoke", "cpu")[1]["long"]
    assert chunk_ends(settings) == [9, 15, 21] and switch_points(settings) == [9, 15]
    windows = run(stream(settings), 0, 3)
    assert numbers(windows[2].latents) == [1012, *range(13, 21)] and windows[2].mask.tolist() == [0.0] * 3 + [1.0] * 6


def test_the_codec_reencodes_the_last_picture_as_a_first_one() -> None:
    torch.manual_seed(0)
    basis = torch.linalg.qr(torch.randn(768, 16))[0]
    codec = Codec(0.01 * torch.randn(768), basis, torch.linspace(0.3, 0.1, 16))
    latents = torch.randn(1, 16, 4, 3, 5)
    picture = ((latents[0].permute(1, 2, 3, 0) * codec.scale) @ basis.T + codec.mean).view(4, 3, 5, 4, 192)[-1, :, :, -1]
    expected = ((picture.repeat(1, 1, 4) - codec.mean) @ basis / codec.scale).permute(2, 0, 1)
    assert torch.allclose(reencode_with_codec(codec)(latents)[0, :, 0], expected, atol=1e-4)


@torch.no_grad()
def test_the_vae_reencodes_the_last_picture_as_a_first_one() -> None:
    torch.manual_seed(0)
    vae = WanVAE(4, 4)
    mean, std = torch.randn(2, 1, 4, 1, 1, 1).abs() + 0.1
    latents = torch.randn(1, 4, 3, 2, 2)
    video = vae.decode(latents * std + mean)
    assert video.shape[2] == 9
    expected = (vae.encode(video[:, :, 8:].clamp(-1, 1)) - mean) / std
    made = reencode_with_vae(vae, mean, std)(latents)
    assert made.shape == (1, 4, 1, 2, 2) and torch.equal(made, expected)

"""Two processes compute what one does: with sharded weights, and with whole weights and their own videos."""

import math
import os
import socket
import time
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp

from longlive_training import config, distributed
from longlive_training.dmd import Scores
from longlive_training.loop import Loop, OutOfTime, Random
from longlive_training.models import lora
from longlive_training.models.dit import CausalDiT
from longlive_training.rollout import Rollout
from longlive_training.sample import Sampling


def build(seed: int) -> CausalDiT:
    torch.manual_seed(seed)
    model = CausalDiT(dim=48, ffn_dim=64, num_heads=2, num_layers=2, text_dim=8, text_len=4)
    torch.nn.init.normal_(model.head.head.weight, std=0.1)
    return model


def one_update(file: Path) -> None:
    """A generator update and a critic update over a roll-out, with adapters; the results of process 0 go to a file."""
    student, teacher, critic = (build(i) for i in range(3))
    for model in (student, critic):
        lora.adapt(model, 4, 4, torch.Generator().manual_seed(5))
        model.checkpoint = True
    teacher.requires_grad_(False)
    for model in (student, teacher, critic):
        distributed.shard(model, False)
    optimiser = torch.optim.SGD([p for m in (student, critic) for p in m.parameters() if p.requires_grad], lr=0.1)
    generator = torch.Generator().manual_seed(9)
    text, negative = torch.randn(1, 4, 8, generator=generator), torch.zeros(1, 4, 8)
    rng = Random(generator, None, None)  # equal numbers in both processes, so that their mean is what one process finds
    scores = Scores(teacher, critic, negative, 3.0, 5.0)
    rollout = Rollout(student, Sampling(3, 9, 3, "relative"), (1, 16, 4, 6))
    mask = torch.ones(9)
    window = rollout.roll(3, text, 1, rng, True)
    loss, _ = scores.distill(window, mask, text, rng)
    loss.backward()
    critic_loss = scores.criticise(rollout.roll(3, text, 2, rng, False)[:, :, :9], mask, text, rng)
    critic_loss.backward()
    optimiser.step()
    states = {name: distributed.whole(model.state_dict()) for name, model in (("student", student), ("critic", critic))}
    if not distributed.rank():
        torch.save({"loss": loss.item(), "critic loss": critic_loss.item(), **states}, file)


def gradient(model: CausalDiT, seeds: list[int]) -> list[torch.Tensor]:
    """Of a loss over the videos of some seeds, averaged over all processes."""
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        noisy, text = torch.randn(1, 16, 3, 4, 6, generator=generator), torch.randn(1, 1, 4, 8, generator=generator)
        flow = model.teacher_forcing(noisy, torch.full((1, 1), 500.0), noisy[:, :, :0], model.encode_text(text), 3)
        (flow.square().mean() / len(seeds)).backward()
    distributed.mean_gradients(model)
    return [p.grad for p in model.parameters() if p.grad is not None]


def join(rank: int, port: int) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    distributed.start("cpu")
    assert distributed.world_size() == 2


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def timed(rank: int, port: int, folder: Path) -> None:
    """Loops that clocks end, of processes whose clocks differ."""
    join(rank, port)

    def step(_: Random) -> dict[str, torch.Tensor]:
        time.sleep(0.002 * (1 + 4 * rank))
        return {"loss": torch.zeros(())}

    def loop(name: str, minutes: float, deadline: float = math.inf) -> Loop:
        made = Loop(folder, name, config.Loop(minutes=minutes, cooldown=0.5, log_every=5), 0, torch.device("cpu"), {}, deadline)
        made.begun -= 0.3 * rank
        return made

    budget, cut = loop("budget", 0.01), loop("cut", 60, time.monotonic() + 0.3 + 30 * rank)
    budget.run(step)
    with pytest.raises(OutOfTime):
        cut.run(step)
    torch.save([budget.step, budget.total, cut.step], folder / f"{rank}.pt")
    distributed.barrier()
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(not torch.distributed.is_available(), reason="PyTorch without distributed")
def test_processes_whose_clocks_differ_stop_at_the_same_step(tmp_path: Path) -> None:
    mp.spawn(timed, (free_port(), tmp_path), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert first == second and first[0] == first[1] > 5 and first[2] > 0


def process(rank: int, port: int, file: Path) -> None:
    join(rank, port)
    one_update(file)
    gradients = gradient(build(0), [11 + rank])
    if not rank:
        torch.save(gradients, file.with_suffix(".gradients"))
    distributed.barrier()
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(not torch.distributed.is_available(), reason="PyTorch without distributed")
def test_training_in_two_processes_equals_training_in_one(tmp_path: Path) -> None:
    one_update(tmp_path / "one.pt")
    mp.spawn(process, (free_port(), tmp_path / "two.pt"), nprocs=2)
    for both, mine in zip(torch.load(tmp_path / "two.gradients"), gradient(build(0), [11, 12]), strict=True):
        assert mine.abs().sum() > 0 and torch.allclose(both, mine, atol=1e-6)
    one, two = (torch.load(tmp_path / f"{name}.pt") for name in ("one", "two"))
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-4) and two["critic loss"] == pytest.approx(one["critic loss"], rel=1e-4)
    before = lora.adapt(build(0), 4, 4, torch.Generator().manual_seed(5)).state_dict()
    moved = 0
    for name in ("student", "critic"):
        assert set(one[name]) == set(two[name])
        for key, tensor in one[name].items():
            assert torch.allclose(two[name][key], tensor, atol=1e-5), key
            moved += name == "student" and not torch.equal(tensor, before[key])
    assert moved >= 20, "the adapters did not train"

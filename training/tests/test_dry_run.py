"""Sizes and costs of the full-size preset, against the published ones."""

from dataclasses import replace

import pytest
import torch

from longlive_training.config import load
from longlive_training.context import parameters
from longlive_training.dry_run import TERA, Networks, cost, dry_run, memory, step_cost
from longlive_training.models import lora


@pytest.fixture(scope="module")
def networks() -> Networks:
    return Networks.of(load("wan-1.3b", "cuda")[0])


def test_every_module_has_the_published_size_and_no_memory(networks: Networks) -> None:
    assert parameters(networks.student) == parameters(networks.critic) == 1_418_996_800
    assert parameters(networks.teacher) == 14_288_491_584
    assert parameters(networks.text) == 5_680_910_336
    assert parameters(networks.vae) == 126_892_531
    assert all(
        p.device == torch.device("meta")
        for m in (networks.student, networks.teacher, networks.critic, networks.text, networks.vae)
        for p in m.parameters()
    )


def test_passes_cost_what_their_shapes_say(networks: Networks) -> None:
    """Linear layers 11.704 TFLOP, attention to text 0.442, to 3 and to 12 visible frames 4.04 and 16.15."""
    assert networks.cached_pass(0, False) / TERA == pytest.approx(16.19, abs=0.02)
    assert networks.cached_pass(9, False) / TERA == pytest.approx(28.30, abs=0.02)


@pytest.mark.parametrize("grad", [False, True])
def test_layers_are_counted_from_two_of_them(grad: bool) -> None:
    preset = load("smoke", "cpu")[0]
    costs = {}
    for layers in (2, 3, 5):
        networks = Networks.of(replace(preset, student=replace(preset.student, num_layers=layers), checkpoint=True))
        costs[layers] = networks.cached_pass(3, grad)
    direct = Networks.of(replace(preset, checkpoint=True))
    with torch.no_grad():
        keys = direct.keys(direct.student)
    window = direct.meta(1, 16, 3, *preset.latent_size())
    assert direct.window_pass(direct.student, 3, grad) == cost(lambda: direct.student.bidirectional(window, direct.meta(1), keys), grad)
    assert costs[5] - costs[3] == 2 * (costs[3] - costs[2]) > 0


def test_the_paper_s_adapters_have_their_published_size_and_the_budget_is_plausible() -> None:
    preset, stages = load("wan-1.3b", "cuda")
    text = dry_run(preset, stages)
    assert "349,962,240 parameters each" in text and "1,418,996,800" in text
    share = int(text.split("GPU-days would be ")[1].split(" %")[0])
    assert 10 <= share <= 60, "the paper's budget must be reachable, and not with an idle GPU"


def test_costs_and_memory_of_a_small_preset_are_positive_and_grow_with_the_window() -> None:
    preset, stages = load("smoke", "cpu")
    small = Networks.of(preset)
    costs = {name: step_cost(small, stages[name]) for name in ("distill", "long")}
    assert all(v > 0 for cost in costs.values() for v in cost.parts.values())
    assert "first frame of the window" in costs["long"].parts
    before = sum(memory(small, stages["long"], 1).values())
    for model in (small.student, small.critic):
        lora.adapt(model, 8, 8)
    assert sum(memory(small, stages["long"], 1).values()) < before, "adapters train fewer weights"
    assert sum(memory(small, stages["long"], 8).values()) < sum(memory(small, stages["long"], 1).values())

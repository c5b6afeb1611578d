"""Roll-outs over a cache that gradients pass through."""

import pytest
import torch
from torch import Tensor

from golden import assert_close
from longlive_training.loop import Random
from longlive_training.models.dit import CausalDiT, GraphCache, KVCache
from longlive_training.rollout import Rollout
from longlive_training.sample import Generator, Sampling

CPU = torch.device("cpu")
SHAPE = (2, 16, 4, 6)


def build() -> CausalDiT:
    torch.manual_seed(0)
    model = CausalDiT(dim=48, ffn_dim=64, num_heads=2, num_layers=2, text_dim=8, text_len=4)
    torch.nn.init.normal_(model.head.head.weight, std=0.1)
    return model


def sampling(rope: str = "relative", global_sink: bool = True) -> Sampling:
    return Sampling(3, 9, 3, rope, global_sink)


@pytest.mark.parametrize("rope", ["relative", "absolute"])
@pytest.mark.parametrize("global_sink", [True, False])
def test_the_graph_cache_holds_what_the_cache_of_inference_holds(rope: str, global_sink: bool) -> None:
    """The same calls, with and without recache, past the point where old frames are dropped."""
    model = build().eval()
    caches = [kind(model, 2, 6, 9, 3, rope == "relative") for kind in (KVCache, GraphCache)]
    torch.manual_seed(1)
    latents, texts = torch.randn(2, 16, 18, 4, 6), [model.encode_text(torch.randn(2, 1, 4, 8)) for _ in range(2)]
    calls = [(start, 3, t, 0) for start in range(0, 12, 3) for t in (1000.0, 625.0, 0.0)] + [
        (3, 9, 0.0, 1),
        (12, 3, 1000.0, 1),
        (12, 3, 0.0, 1),
        (15, 3, 500.0, 1),
    ]
    with torch.no_grad():
        for start, count, t, text in calls:
            if count == 9 and not global_sink:
                [cache.clear() for cache in caches]
            part = latents[:, :, start : start + count]
            flows = [model(part, torch.full((2, count), t), texts[text], cache, start, count == 9 and not global_sink) for cache in caches]
            assert_close(flows[1], flows[0])
            filled = caches[0].local_end
            assert caches[1].local_end == filled and caches[1].global_end == caches[0].global_end
            assert_close(caches[1].k[1], caches[0].k[1][:, :filled])


@pytest.mark.parametrize("exit_step", [0, 3])
def test_values_do_not_depend_on_gradients_nor_on_checkpointing(exit_step: int) -> None:
    model, text = build(), torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(2))
    results, gradients = [], []
    for grad, checkpoint in ((False, False), (True, False), (True, True)):
        model.checkpoint = checkpoint
        model.zero_grad()
        made = Rollout(model, sampling(), SHAPE).roll(5, text, exit_step, Random.of(CPU, 1), grad)
        results.append(made.detach())
        if grad:
            made.square().mean().backward()
            gradients.append({n: p.grad.clone() for n, p in model.named_parameters()})
    assert_close(results[1], results[0])
    assert torch.equal(results[1], results[2])
    for name in gradients[0]:
        assert torch.allclose(gradients[0][name], gradients[1][name], atol=1e-7), name


def test_the_last_exit_step_is_the_sampler_up_to_the_noise_of_the_context() -> None:
    model, text, settings = build().eval(), torch.randn(2, 4, 8), sampling()
    rollout = Rollout(model, settings, SHAPE)
    rollout.context_sigma = 0.0
    rng, again = Random.of(CPU, 4), Random.of(CPU, 4)
    made = rollout.roll(5, text, len(settings.denoising_steps) - 1, rng, False)

    def noise(block: int, step: int) -> Tensor:
        drawn = again.normal(2, 16, 3, 4, 6)
        if step == len(settings.denoising_steps) - 1:
            again_context.append(block)
        return drawn

    again_context: list[int] = []
    with torch.no_grad():
        generator = Generator(model, settings, text, noise)
        expected = []
        for _ in range(5):
            expected.append(generator.block())
            again.normal(2, 16, 3, 4, 6)  # the roll-out draws noise for the context, too
    assert_close(made, torch.cat(expected, 2))


def test_gradients_reach_earlier_blocks_through_the_cache_within_a_chunk_but_not_across_chunks() -> None:
    """The value in the cache is that of the clean pass, the gradient goes to the trained step of the earlier block."""
    model, text = build(), torch.randn(2, 4, 8)
    rollout = Rollout(model, sampling(), SHAPE)
    probes: list[Tensor] = []
    call = rollout.call

    def probing(latents: Tensor, t: float, keys: list, start: int, write_sink: bool = False) -> Tensor:
        if torch.is_grad_enabled():
            latents = latents.clone().requires_grad_()
            probes.append(latents)
        return call(latents, t, keys, start, write_sink)

    rollout.call = probing  # type: ignore[method-assign]
    first = rollout.roll(2, text, 1, Random.of(CPU, 5), True)
    (gradient,) = torch.autograd.grad(first[:, :, 3:].square().sum(), probes[0], retain_graph=True)
    assert gradient.abs().max() > 0, "the second block does not reach the first"
    clean = [k.detach().clone() for k in rollout.cache.k]
    second = rollout.roll(1, text, 1, Random.of(CPU, 6), True)
    (across,) = torch.autograd.grad(second.square().sum(), probes[1], allow_unused=True)
    assert across is None, "a chunk reaches into the one before"
    assert all(torch.equal(a, b[:, : a.shape[1]]) for a, b in zip(clean, rollout.cache.k))


def test_a_saved_rollout_goes_on_as_if_nothing_had_happened() -> None:
    model, text = build().eval(), torch.randn(2, 4, 8)
    whole = Rollout(model, sampling(), SHAPE)
    whole.roll(4, text, 2, Random.of(CPU, 7), False)
    state = whole.state_dict()
    copy = Rollout(model, sampling(), SHAPE)
    copy.load_state_dict(state)
    other = torch.randn(2, 4, 8)
    results = []
    for rollout in (whole, copy):
        rollout.recache(other)
        results.append(rollout.roll(2, other, 2, Random.of(CPU, 8), False))
    assert torch.equal(*results)


def test_a_recache_changes_the_window_but_not_the_global_sink() -> None:
    model = build().eval()
    rollout = Rollout(model, sampling(), SHAPE)
    text, other = torch.randn(2, 2, 4, 8)
    rollout.roll(5, text, 3, Random.of(CPU, 9), False)
    before = rollout.cache.k[1].clone()
    rollout.recache(other)
    sink = rollout.cache.sink
    assert torch.equal(rollout.cache.k[1][:, :sink], before[:, :sink])
    assert not torch.allclose(rollout.cache.k[1][:, sink:], before[:, sink:])


def test_a_bidirectional_pass_of_one_block_is_a_cached_pass_of_it() -> None:
    model = build().eval()
    latents, text = torch.randn(2, 16, 3, 4, 6), model.encode_text(torch.randn(2, 1, 4, 8))
    t = torch.tensor([400.0, 900.0])
    expected = model(latents, t[:, None].expand(-1, 3), text, KVCache(model, 2, 6, 9, 3, True))
    assert_close(model.bidirectional(latents, t, text), expected)
    longer = torch.randn(2, 16, 9, 4, 6)
    changed = longer.clone()
    changed[:, :, -1] += 1
    assert not torch.allclose(model.bidirectional(longer, t, text)[:, :, 0], model.bidirectional(changed, t, text)[:, :, 0])


def test_no_gradient_is_lost_where_weights_are_cast_ahead_of_it() -> None:
    """Autocast keeps the cast weights of calls without gradient; if those served a later call with gradient, it would have none."""
    model, text = build(), torch.randn(2, 4, 8)
    gradients = []
    for cached in (True, False):
        model.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=cached):
            made = Rollout(model, sampling(), SHAPE, torch.bfloat16).roll(2, text, 2, Random.of(CPU, 1), True)
            made.square().mean().backward()
        gradients.append({n: p.grad for n, p in model.named_parameters()})
    assert not [name for name, gradient in gradients[0].items() if gradient is None]
    for name, gradient in gradients[0].items():
        assert_close(gradient, gradients[1][name], 1e-2)

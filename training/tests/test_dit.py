import pytest
import torch

from golden import assert_close, golden, with_prefix
from longlive_training.models.dit import CausalDiT, KVCache
from longlive_training.sample import Generator, Sampling


def build(weights: str) -> CausalDiT:
    meta, tensors = golden(weights)
    keys = ("dim", "ffn_dim", "num_heads", "num_layers", "text_dim", "text_len", "freq_dim", "in_dim", "out_dim", "eps", "rope_theta")
    model = CausalDiT(**{k: meta["config"][k] for k in keys}).eval()
    model.load_state_dict(with_prefix(tensors, "weights."), strict=True)
    return model


@torch.inference_mode()
@pytest.mark.parametrize("case,start", [("dit_block", 0), ("dit_block_f1_offset", 37), ("dit_block_hd128", 0)])
def test_one_call_gives_the_reference_flow(case: str, start: int) -> None:
    meta, t = golden(case)
    model = build((meta["weights_file"] or case).removesuffix(".safetensors"))
    latents = t["inputs.latents"].transpose(1, 2)
    cache = KVCache(model, 1, meta["frame_tokens"], window=latents.shape[2], sink=0, relative=False)
    cache.global_end = start * meta["frame_tokens"]
    flow = model(latents, t["inputs.timestep"], model.encode_text(t["inputs.text"][:, None]), cache, start)
    assert_close(flow.transpose(1, 2), t["outputs.flow"])
    for layer in range(len(model.blocks)):
        assert_close(cache.k[layer], t[f"outputs.kv.layer{layer}.k"])
        assert_close(cache.v[layer], t[f"outputs.kv.layer{layer}.v"])


PIPELINES = ["dit_cache_w12s3", "dit_cache_w6s1", "dit_cache_global", "dit_cache_w7s4_quirk", "recache_global_sink",
             "recache_no_global_sink", "sampler", "rope_relative_w6s3", "rope_relative_recache"]  # fmt: skip


@torch.inference_mode()
@pytest.mark.parametrize("case", PIPELINES)
def test_long_generation_equals_the_reference(case: str) -> None:
    meta, t = golden(case)
    run = meta["run"]
    model = build(meta["weights_file"].removesuffix(".safetensors"))
    frames = run["num_frame_per_block"]
    window = run["local_attn_size"] if run["local_attn_size"] > 0 else run["num_output_frames"]
    sampling = Sampling(frames, window, run["sink_size"], "relative" if run["relative_rope"] else "absolute", run["global_sink"],
                        run["timestep_shift"], run["denoising_step_list"], run["warp_denoising_step"], run["context_noise"])  # fmt: skip
    noise = t["inputs.noise"].transpose(1, 2).split(frames, dim=2)

    def noise_of(block: int, step: int) -> torch.Tensor:
        return noise[block] if step == 0 else t[f"inputs.renoise.block{block}.step{step - 1}"].transpose(0, 1)[None]

    text = [t[f"inputs.text.{p}"] for p in run["prompts"]]
    switches = list(run["switch_frame_indices"] or [])
    generator = Generator(model, sampling, text[0], noise_of)
    latents, call = [], 0

    def check_cache() -> None:
        for layer in range(len(model.blocks)):
            if f"outputs.call{call}.kv.layer{layer}.k" in t:
                assert_close(generator.cache.k[layer], t[f"outputs.call{call}.kv.layer{layer}.k"])
                assert_close(generator.cache.v[layer], t[f"outputs.call{call}.kv.layer{layer}.v"])
        assert generator.cache.global_end == t[f"outputs.call{call}.global_end_index"][0]
        assert generator.cache.local_end == t[f"outputs.call{call}.local_end_index"][0]

    for index in range(run["num_output_frames"] // frames):
        if switches and index * frames >= switches[0]:
            switches.pop(0)
            text.pop(0)
            generator.switch(text[0])
            check_cache()
            call += 1
        latents.append(generator.block())
        call += len(run["denoising_step_list"])
        check_cache()
        call += 1
    assert call == len(meta["calls"])
    assert_close(torch.cat(latents, 2).transpose(1, 2), t["outputs.latents"])


def test_schedule_is_the_shifted_one() -> None:
    _, t = golden("sampler")
    sigmas, timesteps = Sampling().schedule()
    torch.testing.assert_close(sigmas, t["outputs.sigmas"], rtol=1e-6, atol=0)
    torch.testing.assert_close(timesteps, t["outputs.timesteps"], rtol=1e-6, atol=0)
    assert [round(s, 4) for _, s in Sampling().steps()] == [1.0, 0.9375, 0.8333, 0.625]


@torch.inference_mode()
def test_teacher_forcing_sees_what_the_cache_would_hold() -> None:
    """Every block of the one-pass training form equals a cached rollout over the same clean video."""
    torch.manual_seed(0)
    blocks, frames = 5, 3
    model = CausalDiT(dim=64, ffn_dim=96, num_heads=2, num_layers=3, text_dim=8, text_len=4).eval()
    torch.nn.init.normal_(model.head.head.weight, std=0.1)
    clean, noisy = torch.randn(2, 2, 16, blocks * frames, 4, 6)
    t = torch.tensor([[1000.0, 625.0, 937.5, 833.25, 625.0]]).expand(2, -1)
    text = model.encode_text(torch.randn(2, 1, 4, 8))
    every = [(k.expand(-1, 2 * blocks - 1, -1, -1, -1), v.expand(-1, 2 * blocks - 1, -1, -1, -1)) for k, v in text]
    flow = model.teacher_forcing(noisy, t, clean[:, :, :-frames], every, frames)
    cache = KVCache(model, 2, 6, window=9, sink=3, relative=True)
    for i in range(blocks):
        part = slice(i * frames, (i + 1) * frames)
        expected = model(noisy[:, :, part], t[:, i : i + 1].expand(-1, frames), text, cache, i * frames)
        assert_close(flow[:, :, part], expected)
        model(clean[:, :, part], torch.zeros(2, frames), text, cache, i * frames)

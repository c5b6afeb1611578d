import pytest
import torch

from golden import assert_close, golden, with_prefix
from longlive_training.models import lora
from longlive_training.models.dit import CausalDiT


def build() -> CausalDiT:
    torch.manual_seed(0)
    model = CausalDiT(dim=48, ffn_dim=64, num_heads=2, num_layers=2, text_dim=8, text_len=4)
    torch.nn.init.normal_(model.head.head.weight, std=0.1)
    return model


def flow(model: CausalDiT) -> torch.Tensor:
    torch.manual_seed(1)
    return model.bidirectional(torch.randn(1, 16, 3, 4, 6), torch.tensor([500.0]), model.encode_text(torch.randn(1, 1, 4, 8)))


def adapted(rank: int = 4, alpha: float = 8) -> CausalDiT:
    model = lora.adapt(build(), rank, alpha, torch.Generator().manual_seed(2))
    for name, p in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(p, std=0.1)
    return model


def test_a_fresh_adapter_changes_nothing_and_is_all_that_trains() -> None:
    plain = build()
    model = lora.adapt(build(), 4, 8)
    assert torch.equal(flow(model), flow(plain))
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    layers = [
        f"blocks.{i}.{m}" for i in range(2) for m in [f"{a}.{x}" for a in ("self_attn", "cross_attn") for x in "qkvo"] + ["ffn.0", "ffn.2"]
    ]
    assert trained == {f"{layer}.lora_{x}.weight" for layer in layers for x in "AB"}


def test_merged_weights_do_what_the_adapter_did_and_keep_the_names() -> None:
    model, plain = adapted(), build()
    merged = lora.merge(model.state_dict(), 8 / 4)
    assert set(merged) == set(plain.state_dict())
    plain.load_state_dict(merged)
    with torch.no_grad():
        assert_close(flow(plain), flow(model))
        assert not torch.allclose(flow(build()), flow(model), atol=1e-3)
    name = "blocks.1.ffn.0"
    state = model.state_dict()
    a, b = state[f"{name}.lora_A.weight"], state[f"{name}.lora_B.weight"]
    assert_close(merged[f"{name}.weight"], state[f"{name}.weight"] + 2 * b @ a)


@torch.inference_mode()
def test_the_reference_s_adapter_gives_the_reference_s_flow() -> None:
    meta, t = golden("lora_merge")
    _, base = golden("weights_dit_a")
    config = meta["config"]
    keys = ("dim", "ffn_dim", "num_heads", "num_layers", "text_dim", "text_len", "freq_dim", "in_dim", "out_dim", "eps", "rope_theta")
    model = CausalDiT(**{k: config[k] for k in keys})
    model.load_state_dict(with_prefix(base, "weights."))
    latents, text = t["inputs.latents"].transpose(1, 2), t["inputs.text"][:, None]

    def flow_of(network: CausalDiT) -> torch.Tensor:
        return network.bidirectional(latents, t["inputs.timestep"][:, 0], network.encode_text(text)).transpose(1, 2)

    assert_close(flow_of(model), t["outputs.flow_base"])
    lora.adapt(model, config["lora_rank"], config["lora_alpha"])
    lora.load_adapter(model, with_prefix(t, "weights.lora."))
    assert_close(flow_of(model), t["outputs.flow_unmerged"])
    merged = CausalDiT(**model.config)
    merged.load_state_dict(lora.merge(model.state_dict(), config["scale"]))
    assert_close(flow_of(merged), t["outputs.flow_merged"])


def test_adapters_are_saved_with_peft_s_names_and_loaded_again() -> None:
    model = adapted()
    saved = lora.adapter(model.state_dict())
    assert len(saved) == 2 * 10 * 2 and "base_model.model.blocks.0.self_attn.q.lora_A.weight" in saved
    other = lora.adapt(build(), 4, 8)
    lora.load_adapter(other, saved)
    with torch.no_grad():
        assert torch.equal(flow(other), flow(model))
    saved.pop("base_model.model.blocks.0.self_attn.q.lora_A.weight")
    with pytest.raises(
        ValueError, match="1 adapter tensors do not fit the model, the first is base_model.model.blocks.0.self_attn.q.lora_A"
    ):
        lora.load_adapter(other, saved)


def test_adapters_depend_on_the_seed_alone() -> None:
    states = [lora.adapter(lora.adapt(build(), 4, 8, torch.Generator().manual_seed(s)).state_dict()) for s in (3, 3, 4)]
    name = "base_model.model.blocks.0.self_attn.q.lora_A.weight"
    assert torch.equal(states[0][name], states[1][name]) and not torch.equal(states[0][name], states[2][name])

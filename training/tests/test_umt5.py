import torch

from golden import assert_close, golden, with_prefix
from longlive_training.models.umt5 import UMT5Encoder, relative_bucket


def test_encodes_as_the_reference() -> None:
    meta, t = golden("umt5")
    c = meta["config"]
    model = UMT5Encoder(c["vocab"], c["dim"], c["dim_attn"], c["dim_ffn"], c["num_heads"], c["num_layers"], c["num_buckets"], c["max_distance"], c["eps"])
    model.load_state_dict(with_prefix(t, "weights."), strict=True)
    with torch.inference_mode():
        for i, sequence in enumerate(meta["sequences"]):
            out = model(t[f"inputs.{i}.ids"], t[f"inputs.{i}.mask"])
            assert_close(out, t[f"outputs.{i}.prompt_embeds"])
            assert not out[:, sequence["valid"] :].any()


def test_buckets_of_the_reference() -> None:
    meta, t = golden("umt5")
    name = next(k for k in t if "relative_bucket" in k)
    relative = torch.arange(-300, 301)
    assert torch.equal(relative_bucket(relative, 32, 128), t[name].view(-1).long())

from longlive_training.card import HEADING, misses, quality_section, replace_section
from longlive_training.world import ATTRIBUTES

SHARES = dict.fromkeys([*ATTRIBUTES, "all"], 0.9)
JUMP = {"median": 1.0, "p95": 1.2, "largest": 1.4, "within1.5": 1.0, "switches": 6}
REPORT = {
    "model": "pocket", "version": "9.9.9", "precision": "bf16", "cpu": "a processor", "date": "2026-01-02",
    "judge": {"unseen": 10, "size": "256x144", "accuracy": {"clean": dict.fromkeys(ATTRIBUTES, 1.0), "worsened": dict.fromkeys(ATTRIBUTES, 0.98)}},
    "single": {"videos": 2, "prompt": SHARES | {"sky": 0.4321}, "seam": 1.01, "frechet": 0.5, "renderer": {"prompt": SHARES}},
    "switch": {"changed": SHARES, "kept": SHARES, "jump": JUMP, "renderer": {"changed": SHARES, "jump": JUMP}},
    "long": {"videos": 1, "first": SHARES, "last": SHARES},
    "steps": {"films": 4, "ratio": 1.25, "teacher": "pocket 9.9.9"}, "vae": {"stories": 8, "psnr": 31.25},
}  # fmt: skip


def test_the_section_tells_every_measure_beside_its_bar() -> None:
    text = "\n".join(quality_section(REPORT, "frames.png"))
    for part in ("43.2%", "98.0%", "1.25", "31.2 dB", ">= 32 dB", "![", "frames.png", "9.9.9", "within 2 points", "1.010"):
        assert part in text, part
    assert "20 minutes" not in text
    endless = "\n".join(quality_section(REPORT | {"endless": {"videos": 1, "first": SHARES, "last": SHARES | {"all": 0.8123}}}))
    assert "20 minutes, relative positions: last 30 s | within 4 points" in endless and "81.2%" in endless
    assert "the last 30 s of 20 minutes (8.8 points lost)" in endless
    widths = {line.count("|") for line in text.splitlines() if line.startswith("| ") and ("prompt" in line or "renderer*" in line)}
    assert len(widths) == 1


def test_what_is_below_its_bar_is_named() -> None:
    good = dict.fromkeys([*ATTRIBUTES, "all"], 0.97)
    fine = REPORT | {"single": REPORT["single"] | {"prompt": good}, "switch": REPORT["switch"] | {"changed": good, "kept": good},
                     "vae": {"stories": 8, "psnr": 32.5}}  # fmt: skip
    assert misses(fine) == []
    found = misses(REPORT | {"long": {"videos": 1, "first": {"all": 0.95}, "last": {"all": 0.92}}, "steps": {"films": 4, "ratio": 1.4}})
    assert "sky on one prompt (43.2%)" in found and "reconstruction by the VAE (31.2 dB)" in found
    assert "the last 30 s of 240 s (3.0 points lost)" in found and "distance to renders beside 20 steps (1.40)" in found
    assert not any("changed" in f and "un" not in f for f in found)


def test_a_report_that_was_cut_short_makes_a_card() -> None:
    cut = {k: v for k, v in REPORT.items() if k not in ("switch", "long", "steps", "vae")}
    text = "\n".join(quality_section(cut))
    assert "43.2%" in text and "32 dB" not in text and "switch" not in text.split("Below")[0]
    assert misses(cut) == [f"{name} on one prompt ({share})" for name, share in zip(ATTRIBUTES, ["90.0%"] * 4 + ["43.2%"] + ["90.0%"])]


def test_only_the_section_is_replaced() -> None:
    card = f"# Pocket\n\nfirst\n\n{HEADING}\n\nold 1\nold 2\n\n## What it does badly\n\nlast\n"
    once = replace_section(card, [HEADING, "", "new"])
    assert once == f"# Pocket\n\nfirst\n\n{HEADING}\n\nnew\n\n## What it does badly\n\nlast\n"
    assert replace_section(once, [HEADING, "", "new"]) == once
    assert replace_section("# Pocket\n", [HEADING, "", "new"]) == f"# Pocket\n\n{HEADING}\n\nnew\n"

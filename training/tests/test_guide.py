"""What a package tells whoever writes prompts."""

import json
import re

import numpy as np

from longlive_training.captions import caption
from longlive_training.guide import EXAMPLES, guide, main, vocabulary
from longlive_training.world import ATTRIBUTES


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z0-9]+(?:-[a-z0-9]+)*", text.lower()))


def test_vocabulary_has_every_word_of_the_captions_for_training_and_no_other():
    rng, seen = np.random.default_rng(1), set()
    for _ in range(6000):
        seen |= words(caption({name: rng.choice(values) for name, values in ATTRIBUTES.items()}, rng, full=bool(rng.integers(2))))
    compounds = {word for word in seen if "-" in word}
    assert set(vocabulary()) == seen | {part for word in compounds for part in word.split("-")}


def test_examples_are_made_of_words_that_were_taught():
    assert set().union(*(words(prompt) for prompt, _ in EXAMPLES)) <= set(vocabulary())
    assert all(value in ATTRIBUTES[name] for _, attributes in EXAMPLES for name, value in attributes.items())


def test_is_written_into_a_manifest_that_keeps_everything_else(tmp_path, monkeypatch):
    manifest = {"name": "small", "files": {"config.json": {"bytes": 2}}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    monkeypatch.setattr("sys.argv", ["guide", str(tmp_path)])
    main()
    assert json.loads((tmp_path / "manifest.json").read_text()) == manifest | {"prompts": guide()}

import numpy as np

from longlive_training.captions import ADJECTIVES, COLOURS, ENDINGS, OPENINGS, PATTERNS, SUBJECTS, caption
from longlive_training.world import ATTRIBUTES, sample_attributes


def test_words_cover_every_value() -> None:
    from longlive_training import captions

    for name, words in (("subject", SUBJECTS), ("colour", COLOURS), ("action", captions.ACTIONS), ("action", captions.CAR_ACTIONS),
                        ("ground", captions.GROUNDS), ("sky", captions.SKIES), ("weather", captions.WEATHERS)):  # fmt: skip
        assert list(words) == ATTRIBUTES[name]


def test_full_captions_name_subject_and_colour() -> None:
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for _ in range(300):
            a = sample_attributes(rng)
            text = caption(a, rng, split=split).lower()
            assert any(w in text for w in SUBJECTS[a["subject"]]) and any(w in text for w in COLOURS[a["colour"]]), text
            assert "  " not in text and " ," not in text and not text.startswith((",", " "))


def test_splits_share_no_pattern_and_the_generator_decides() -> None:
    for table in (PATTERNS, OPENINGS, ADJECTIVES, ENDINGS):
        assert not set(table["train"]) & set(table["test"])
    a = sample_attributes(np.random.default_rng(1))
    assert caption(a, np.random.default_rng(2)) == caption(a, np.random.default_rng(2))
    assert len({caption(a, np.random.default_rng(i), full=False) for i in range(50)}) > 25


def test_some_sentences_for_training_say_much_more_than_the_scene() -> None:
    rng = np.random.default_rng(3)
    words = {split: [len(caption(sample_attributes(rng), rng, split=split).split()) for _ in range(500)] for split in ("train", "test")}
    long = {split: np.mean(np.array(counts) > 26) for split, counts in words.items()}
    assert 0.03 < long["train"] < 0.15 and long["test"] < long["train"] / 2

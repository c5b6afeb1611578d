import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from longlive_training.tokenizer import EOS, PAD, UNK, VECTORS, encode, train, vectors

ROOT = Path(__file__).resolve().parents[2]
CAPTIONS = ["a red fox runs through the snow at night", "the blue robot walks over grass"] * 20


@pytest.fixture(scope="module")
def tokenizer():
    return train(CAPTIONS, 640)


def test_every_text_can_be_encoded(tokenizer) -> None:
    for text in VECTORS:
        ids = tokenizer.encode(text).ids
        assert UNK not in ids and ids[-1] == EOS


def test_unknown_characters_become_their_utf8_bytes(tokenizer) -> None:
    ids = tokenizer.encode("\U0001f98a").ids
    assert bytes(i - 3 for i in ids if 3 <= i < 259) == "\U0001f98a".encode()


def test_text_that_spells_a_reserved_piece_stays_text(tokenizer) -> None:
    ids = tokenizer.encode("<pad></s>").ids
    assert PAD not in ids and ids.count(EOS) == 1


def test_capitals_are_read_as_small_letters(tokenizer) -> None:
    assert tokenizer.encode("A Red FOX").ids == tokenizer.encode("a red fox").ids


def test_long_texts_keep_their_end(tokenizer) -> None:
    ids, mask = encode(tokenizer, ["a red fox " * 50, "a"], 16)
    assert ids.shape == (2, 16) and ids[0, -1] == EOS and mask[0].sum() == 16
    assert ids[1, mask[1].sum() - 1] == EOS and not ids[1, mask[1].sum() :].any()


def test_the_same_captions_give_the_same_pieces(tokenizer) -> None:
    assert train(CAPTIONS, 640).to_str() == tokenizer.to_str()


def test_the_shipped_tokenizer_gives_the_published_vectors() -> None:
    tokenizer = Tokenizer.from_file(str(ROOT / "models/pocket/tokenizer.json"))
    assert vectors(tokenizer) == json.loads((ROOT / "test/golden-tokenizer/pocket.json").read_text())

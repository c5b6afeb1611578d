import numpy as np
import pytest

from longlive_training.captions import ACTIONS, CAR_ACTIONS, COLOURS, GROUNDS, SKIES, SUBJECTS, WEATHERS, caption
from longlive_training.world import ATTRIBUTES, COLOURS as PAINTS, CYCLE, FEET, LAYERS, TRANSITION, gait, phases, render, sample_attributes, subject_box
from longlive_training.world.timeline import Curve

SCENE = {"subject": "fox", "colour": "red", "action": "walk", "ground": "grass", "sky": "day", "weather": "clear"}


def difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(int) - b.astype(int)).mean())


def test_equal_arguments_give_equal_pixels_and_any_part_of_a_story() -> None:
    story = [(0, SCENE), (20, SCENE | {"subject": "robot", "sky": "night"})]
    whole = render(story, 45, seed=3)
    assert whole.shape == (45, 112, 192, 3) and whole.dtype == np.uint8
    assert np.array_equal(whole, render(story, 45, seed=3))
    assert np.array_equal(whole[17:40], render(story, 23, seed=3, start=17))
    assert difference(whole[5], render(story, 6, seed=4)[5]) > 1


@pytest.mark.parametrize("name", list(ATTRIBUTES))
def test_every_value_of_an_attribute_looks_different(name: str) -> None:
    clips = [render([(0, SCENE | {name: value})], 24, seed=1)[8:] for value in ATTRIBUTES[name]]
    for i, a in enumerate(clips):
        for b in clips[:i]:
            assert difference(a, b) > 0.5


@pytest.mark.parametrize("name", list(ATTRIBUTES))
def test_a_change_begins_at_its_frame_and_ends_after_the_transition(name: str) -> None:
    old, new = SCENE, SCENE | {name: ATTRIBUTES[name][-1]}
    at = 16
    changed, same, other = (render(s, at + TRANSITION + 16, seed=2) for s in ([(0, old), (at, new)], [(0, old)], [(0, new)]))
    assert np.array_equal(changed[:at], same[:at])
    assert not np.array_equal(changed[at], same[at])
    if name not in ("action", "ground"):  # they also move what comes after them
        assert np.array_equal(changed[at + TRANSITION :], other[at + TRANSITION :])


def test_a_new_ground_arrives_in_the_fixed_place_whatever_was_before() -> None:
    new, at = SCENE | {"ground": "road", "action": "run"}, 16
    before = [(SCENE, 1), (SCENE | {"action": "stand", "ground": "snow"}, 2), (SCENE | {"action": "run", "ground": "water"}, 3)]
    road = [render([(0, old), (at, new)], at + 2 * TRANSITION, seed, 256, 144)[at + TRANSITION - 1 :, 32 + FEET + 8 :] for old, seed in before]
    assert np.array_equal(road[0], road[1]) and np.array_equal(road[0], road[2])


def test_what_a_frame_shows_does_not_depend_on_how_many_are_drawn() -> None:
    story = [(0, SCENE), (10, SCENE | {"ground": "road", "action": "run"}), (15, SCENE | {"ground": "sand"})]
    whole = render(story, 40, seed=3)
    for count in (11, 14, 17, 20):
        assert np.array_equal(render(story, count, seed=3), whole[:count])


def test_no_frame_of_a_change_of_sky_takes_much_more_than_its_share() -> None:
    story = [(0, SCENE | {"action": "stand"}), (4, SCENE | {"action": "stand", "sky": "night"})]
    sky = render(story, 4 + TRANSITION, seed=1)[:, 0, 0].astype(float)
    steps = np.abs(np.diff(sky, axis=0)).sum(1)[3:]
    assert steps.min() > 0 and steps.max() < 1.4 * steps.mean()


def test_standing_still_moves_only_the_subject_and_walking_scrolls_two_pixels_a_frame() -> None:
    ground = slice(FEET + 8, 112)
    still = render([(0, SCENE | {"action": "stand"})], 12, seed=5)[:, ground]
    assert np.array_equal(still[0], still[11])
    walking = render([(0, SCENE)], 12, seed=5)[:, ground]
    assert np.array_equal(walking[0][:, 22:], walking[11][:, :-22])


def test_the_subject_has_its_colour() -> None:
    for colour, rgb in PAINTS.items():
        frame = render([(0, SCENE | {"colour": colour, "subject": "car"})], 1, seed=0)[0].astype(int)
        close = (np.abs(frame[FEET - 30 : FEET, 60:116] - rgb).max(-1) < 12).sum()
        assert close > 150, colour


def test_a_larger_picture_shows_more_around_the_same_stage() -> None:
    for scene in (SCENE, SCENE | {"weather": "snow", "sky": "night", "ground": "water"}):
        small, large = (render([(0, scene)], 3, None, *size, start=20) for size in ((192, 112), (256, 144)))
        assert np.array_equal(large[:, 32:, 32:224], small)


def test_pictures_beyond_144_rows_show_the_same_in_finer_pixels() -> None:
    small = render([(0, SCENE)], 2, seed=9, width=256, height=144)
    large = render([(0, SCENE)], 2, seed=9, width=512, height=288)
    halved = large.reshape(2, 144, 2, 256, 2, 3).mean((2, 4))
    assert large.shape == (2, 288, 512, 3) and difference(small, halved) < 2


def test_the_subject_is_drawn_in_its_box_only() -> None:
    for size in ((192, 112), (256, 144), (96, 64)):
        (top, bottom), (left, right) = subject_box(*size)
        red, blue = (render([(0, SCENE | {"colour": colour})], 12, None, *size) for colour in ("red", "blue"))
        rows, columns = np.nonzero((red != blue).any((0, 3)))
        assert top <= rows.min() and rows.max() < bottom and left <= columns.min() and columns.max() < right


def test_phases_are_all_that_the_seed_decides() -> None:
    assert len(phases(1)) == len(LAYERS) and all(0 <= p < 1 for p in phases(1)) and phases(1) != phases(2)
    assert np.array_equal(render([(0, SCENE)], 2, None), render([(0, SCENE)], 2, None))


@pytest.mark.parametrize("action", ATTRIBUTES["action"])
def test_the_gait_follows_from_the_frame_whatever_came_before(action: str) -> None:
    frames = np.arange(6 * CYCLE)
    switched = gait(Curve("action", [(0, SCENE | {"action": "run"}), (9, SCENE | {"action": action})], len(frames)), frames)
    alone = gait(Curve("action", [(0, SCENE | {"action": action})], len(frames)), frames)
    assert np.array_equal(switched[9 + TRANSITION // 2 :], alone[9 + TRANSITION // 2 :])
    turns = alone[CYCLE:] - alone[:-CYCLE]
    assert np.allclose(turns, np.round(turns)) and turns[0] >= 1
    steps = np.abs((np.diff(switched) + 0.5) % 1 - 0.5)  # in turns, the shorter way round: no jump at the change of gait
    assert steps.max() < 2.1 / CYCLE


def test_captions_name_every_attribute_of_their_scene() -> None:
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for _ in range(300):
            scene = sample_attributes(rng)
            text = caption(scene, rng, split=split).lower()
            verbs = (CAR_ACTIONS if scene["subject"] == "car" else ACTIONS)[scene["action"]]
            for words in (SUBJECTS[scene["subject"]], COLOURS[scene["colour"]], [v for pair in verbs for v in pair],
                          GROUNDS[scene["ground"]], SKIES[scene["sky"]], WEATHERS[scene["weather"]]):  # fmt: skip
                assert any(word in text for word in words), (scene, text)
